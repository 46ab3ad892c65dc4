"""Notebooks in, executed notebooks out: papermill over the book, several at a time, promoting only successes."""

import base64
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from replication.files import check_folder, write
from replication.pages.opening import put_first
from replication.pages.picture import smaller
from replication.paths import root
from replication.running.children import Children

TIMEOUT = 3600
LOCAL = ("status",)
"""pages that look at this machine's own runs too"""
MADE_FROM = (
    "replication/**/*",
    "benchmarks/**/*.json",
    "benchmarks/**/*.csv",
    "results/*.json",
    "registration.json",
    "_config.yml",
)
"""what pages are made from beside their own source; the manifest of the results holds the sums of all other files there"""


def origin(notebook: Path) -> str:
    """SHA-256 of all that an executed page is made from: its own source, the package, results and measurements."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(notebook.read_text())["cells"]]
    found = hashlib.sha256(json.dumps(cells).encode())
    for path in sorted({path for pattern in MADE_FROM for path in root().glob(pattern) if path.is_file()}):
        if path.suffix != ".pyc":
            found.update(f"\n{path.relative_to(root()).as_posix()}\n".encode() + path.read_bytes())
    return found.hexdigest()


def up_to_date(notebook: Path) -> bool:
    """Whether executing a page once more would change nothing: its outputs were made from what is here now."""
    told = json.loads(notebook.read_text())["metadata"].get("made_from")
    return notebook.stem not in LOCAL and told == origin(notebook)


def _captioned(cell: dict) -> None:
    """Copy the caption and the alternative text that a figure came with to where the book reads them."""
    figure = next((o["metadata"] for o in cell.get("outputs", ()) if "caption" in o.get("metadata", {})), None)
    drawn_plainly = any("image/png" in o.get("data", {}) for o in cell.get("outputs", ()))
    if figure:
        cell["metadata"]["mystnb"] = {"figure": {"caption": figure["caption"]}, "image": {"alt": figure["alt"]}}
    elif not drawn_plainly:
        cell["metadata"].pop("mystnb", None)  # the figure of an earlier execution


def _without_traces(notebook: Path, made_from: str) -> None:
    """Note what an executed notebook was made from, and take out papermill's paths and times, which tell of the machine.

    Figures get smaller, so that a notebook stays small enough for git, and their computed captions are put in place.
    """
    content = json.loads(notebook.read_text())
    for cell in content["cells"]:
        for data in (o["data"] for o in cell.get("outputs", ()) if "data" in o):
            if "image/png" in data:
                data["image/png"] = base64.b64encode(smaller(base64.b64decode(data["image/png"]))).decode()
        _captioned(cell)
    for part in (content, *content["cells"]):
        for name in ("papermill", "execution"):
            part["metadata"].pop(name, None)
    content["metadata"]["made_from"] = made_from
    write(notebook, json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def _execute(
    notebook: Path, target: Path, parameters: Sequence[str], environment: dict[str, str], children: Children
) -> str:
    """Execute one notebook; the last line of its error, or an empty string."""
    with tempfile.TemporaryDirectory(prefix="replication-") as folder:
        return _executed(notebook, Path(folder, notebook.name), target, parameters, environment, children)


def _executed(
    notebook: Path,
    temporary: Path,
    target: Path,
    parameters: Sequence[str],
    environment: dict[str, str],
    children: Children,
) -> str:
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(notebook),
        str(temporary),
        "-k",
        "python3",
        "--cwd",
        str(notebook.parent),
        "--no-progress-bar",
        "--execution-timeout",
        str(TIMEOUT),
        *parameters,
    ]
    made_from = "" if parameters else origin(notebook)
    done = children.run(command, environment)
    # papermill marks every cell of a dead kernel as completed: only its exit status can be trusted
    if done.returncode:
        return next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
    _without_traces(temporary, made_from)
    write(target, temporary.read_bytes())
    return ""


def execute(
    names: Sequence[str] = (),
    out: Path | None = None,
    in_place: bool = False,
    workers: int | None = None,
    parameters: Sequence[str] = (),
    changed: bool = False,
) -> Path:
    """Execute the book's notebooks (or those named) and return the folder that holds the result.

    With `changed` pages whose outputs are up to date (see `up_to_date`) are taken as they are.

    By default the whole book is copied to `book/_build/executed` and its notebooks are replaced there, ready for
    `jupyter-book build`; `in_place` rewrites `book/` itself, without a look at
    this machine's own runs. A notebook that fails leaves its target as it was:
    RuntimeError names every such notebook and its last line of error. ValueError for an unknown name.
    """
    book = root() / "book"
    notebooks = sorted(book.glob("*.ipynb"))
    known = [path.stem for path in notebooks]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown notebook {unknown[0]!r}: allowed are {', '.join(known)}")
    target = book if in_place else Path(out or book / "_build" / "executed")
    check_folder(target)
    if not in_place:
        if not names and out is None:
            shutil.rmtree(target, ignore_errors=True)  # else pages deleted from the book would stay
        shutil.copytree(
            book, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("_build", ".ipynb_checkpoints", "*.ipynb")
        )
    chosen = [path for path in notebooks if not names or path.stem in names]
    if changed and not (in_place or parameters):
        for path in (current := list(filter(up_to_date, chosen))):
            shutil.copyfile(path, target / path.name)
        chosen = [path for path in chosen if path not in current]
    if in_place:
        for path in chosen:
            put_first(path)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}
    if in_place:
        environment["REPLICATION_STORE"] = str(book / "_build" / "no-store")
    children = Children()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        running = {
            pool.submit(_execute, path, target / path.name, parameters, environment, children): path.stem
            for path in chosen
        }
        failed = {}
        try:
            for future in tqdm(as_completed(running), total=len(running), unit="notebook", desc="executing"):
                if error := future.result():
                    failed[running[future]] = error
        finally:  # after Ctrl-C; else all have ended
            children.end()
    if failed:
        raise RuntimeError("; ".join(f"notebook {name} failed: {error}" for name, error in sorted(failed.items())))
    return target
