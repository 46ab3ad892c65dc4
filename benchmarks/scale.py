"""The work at scale: stores of made-up rows, what a backend adds to a run, and how long pages take; writes `scale.json`.

python benchmarks/scale.py [rows] [backends] [pages]     (default: all three; what is not named stays as it was measured)

Every step is a process of its own. `cpu` is the seconds of processors that it used: on a busy machine it waits as well.
"""

import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from replication.files import write
from replication.paths import root
from replication.results.provenance import processor

HERE = Path(__file__).parent
ROWS = (20_000, 200_000, 1_000_000)
"""sizes of the stores"""
PART = 5000
"""rows a transaction"""
SEEDS = (1, 21)
"""a backend's few and many seeds: what is added to every run tells itself apart from what is added once"""


def _run(i: int):
    """The i-th run: eight arms and rates to a seed."""
    from replication.run import Run

    return Run(learning_rate=(3e-4, 1e-3, 3e-3, 1e-2)[i % 4], final_norm=("none", "bn")[i // 4 % 2], seed=100 + i // 8)


def _made_up(i: int, rng):
    """A result of the shape that a run on digits stores: scores of four readouts, histories of ten epochs, orders."""
    import numpy as np

    from replication.analysis.metrics import METRICS
    from replication.results.frame import HISTORIES
    from replication.results.store import Result

    readouts = ("as_trained", "bn_removed", "bn_recalibrated", "logit_adjusted")
    scores = {name: dict(zip(METRICS, rng.random(len(METRICS)).tolist())) for name in readouts}
    arrays = {name: rng.random(10).astype(np.float32) for name in HISTORIES}
    arrays |= {f"order_{name}": np.packbits(rng.random(150) < 0.5) for name in readouts}
    facts = {
        "diverged": False,
        "epochs_trained": 10,
        "updates_made": 150,
        "seconds": 0.5,
        "validation_f1_macro": 0.5,
        "n_test": 150,
    }
    return Result(_run(i), "0123456789abcdef", "made up", facts, scores, arrays)


def _write(store, rows: int) -> None:
    import numpy as np

    from replication.results.rows import Arrays, pack

    rng = np.random.default_rng(0)
    some = [_made_up(i, rng) for i in range(256)]  # their arrays are packed once: what is measured is the store
    packed = [Arrays(pack(result.arrays)) for result in some]
    for start in range(0, rows, PART):
        store.add_all(
            dataclasses.replace(some[i % 256], run=_run(i), arrays=packed[i % 256])
            for i in range(start, min(rows, start + PART))
        )


def _one_by_one(store, rows: int) -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    for i in range(rows):
        store.add(_made_up(i, rng))


def _compare(store, rows: int) -> None:
    from replication.results import reproduction

    fresh = store.scores()
    assert len(fresh) == rows
    cells = reproduction.compare(fresh, fresh)
    assert cells["seeds"].sum() == rows and cells["identical"].all()


def _read(store, rows: int) -> None:
    assert len(store.scores()) == rows


def _keys(store, rows: int) -> None:
    assert len(store.keys()) == rows


STEPS = {"write": _write, "add": _one_by_one, "keys": _keys, "scores": _read, "reproduced": _compare}


def _measure(step: str, path: str, rows: int) -> dict:
    """Seconds of one step and this process's peak memory, with what it began with."""
    from replication.results import reproduction  # noqa: F401  pandas is no part of the step
    from replication.results.store import Store

    unit = 1024 if sys.platform == "linux" else 1  # of ru_maxrss
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    start, used = time.perf_counter(), time.process_time()
    with Store(path) as store:
        STEPS[step](store, rows)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {
        "seconds": round(seconds, 3),
        "cpu": round(cpu, 3),
        "peak_mb": round(peak / 1e6),
        "began_with_mb": round(before / 1e6),
    }


def rows() -> list[dict]:
    """Every step at every size of the store."""
    found = []
    for n in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "store.sqlite"))
            for step in STEPS:
                to, count = (path + ".one", 2000) if step == "add" else (path, n)
                done = subprocess.run([sys.executable, __file__, "--step", step, to, str(count)],
                                      capture_output=True, text=True, check=True)  # fmt: skip
                found.append({"step": step, "rows": count, **json.loads(done.stdout)})
                print(found[-1], flush=True)
            size = Path(path).stat().st_size
            found.append({"step": "size", "rows": n, "bytes_per_row": round(size / n)})
            print(found[-1], flush=True)
    return found


def _trained(backend: str, seeds: int, folder: str) -> dict:
    """One call of the command line that trains on digits in one process: runs, wall seconds, and those of training."""
    from replication.results.store import Store

    out = Path(folder, f"{backend}-{seeds}.sqlite")
    command = [sys.executable, "-m", "replication", "run", "base", "--settings", "digits", "--networks", "logistic",
               "--seeds", str(seeds), "--workers", "1", "--device", "cpu", "--out", str(out)]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(
        [*command, *(["--on", "ray"] if backend == "ray" else [])],
        capture_output=True,
        check=True,
        env=os.environ
        | {"REPLICATION_HOME": folder, "REPLICATION_NODE_HOME": folder, "RAY_raylet_start_wait_time_s": "300"},
    )
    seconds = time.perf_counter() - start
    with Store(out) as store:
        training = [result.facts["seconds"] for result in store.results()]
    return {
        "backend": backend,
        "runs": len(training),
        "seconds": round(seconds, 3),
        "training": round(sum(training), 3),
    }


def backends() -> list[dict]:
    """This machine's processes, as a shard uses them too, and Ray: a few and many of the same runs.

    Left out is what did not start, such as Ray on a machine that is too busy for it.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for backend in ("local", "ray"):
            try:
                both = [_trained(backend, seeds, folder) for seeds in SEEDS]
            except subprocess.CalledProcessError as error:
                print(f"{backend} was not measured: {error.stderr.decode().strip().splitlines()[-1]}", file=sys.stderr)
                continue
            found += both
            print(*both, sep="\n", flush=True)
    return found


def _page(name: str) -> dict:
    """A notebook's cells, executed from the published results in this process, imports included."""
    from IPython.core.interactiveshell import InteractiveShell

    start = time.perf_counter()
    cells = json.loads((root() / "book" / f"{name}.ipynb").read_text())["cells"]
    shell = InteractiveShell.instance()
    for cell in cells:
        if cell["cell_type"] == "code":
            shell.run_cell("".join(cell["source"])).raise_error()
    return {"seconds": round(time.perf_counter() - start, 3), "cpu": round(time.process_time(), 3)}


def pages() -> list[dict]:
    """Every page of a claim, and the scoreboard."""
    from replication.claims.registry import CLAIMS

    found = []
    for name in (*CLAIMS, "scoreboard"):
        done = subprocess.run([sys.executable, __file__, "--page", name], capture_output=True, text=True, check=True)
        found.append({"page": name, **json.loads(done.stdout.splitlines()[-1])})
        print(found[-1], flush=True)
    return found


PARTS = {"rows": rows, "backends": backends, "pages": pages}


def main(wanted: list[str]) -> None:
    """Measure some parts and write them beside the others."""
    path = HERE / "scale.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for name in wanted or PARTS:
        measured = PARTS[name]()
        found[name] = {"hardware": processor(), "load": round(os.getloadavg()[1], 1), "measured": measured}
        write(path, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(_measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    elif sys.argv[1:2] == ["--page"]:
        print("\n" + json.dumps(_page(sys.argv[2])))
    else:
        main(sys.argv[1:])
