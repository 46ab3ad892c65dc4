"""The first cell of every notebook: it gets the code and the published results where a notebook is opened alone."""

import json
from pathlib import Path

from replication.files import write
from replication.pages.repository import address

TAG = "get-the-code"
_SOURCE = """# In a clone this does nothing. Opened alone, as on Colab, it gets the code and the published results.
import importlib.util, os, subprocess, sys

if importlib.util.find_spec("replication") is None:
    source = os.environ.get("REPLICATION_SOURCE") or "{address}"
    if not source:
        raise SystemExit("set REPLICATION_SOURCE to the address of the replication's repository, or open this in a clone")
    subprocess.check_call(["git", "clone", "--quiet", "--depth", "1", source, "replication-book"])
    subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", "-e", "./replication-book"])
    sys.path.insert(0, "replication-book")"""


def cell() -> dict:
    """The cell, as a notebook holds it."""
    lines = _SOURCE.format(address=address()).splitlines(keepends=True)
    tags = ["hide-input", TAG]
    about = {"cell_type": "code", "execution_count": None, "id": TAG, "outputs": []}
    return about | {"metadata": {"tags": tags}, "source": lines}


def put_first(notebook: Path) -> None:
    """Put the cell before the first code cell of a notebook, or renew it; nothing is written where it is there already."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    rest = [c for c in content["cells"] if TAG not in c["metadata"].get("tags", [])]
    old = next((c for c in content["cells"] if TAG in c["metadata"].get("tags", [])), None)
    new = cell()
    if old and "".join(old["source"]) == "".join(new["source"]):
        return
    first = next(n for n, c in enumerate(rest) if c["cell_type"] == "code")
    content["cells"] = [*rest[:first], new, *rest[first:]]
    write(notebook, json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
