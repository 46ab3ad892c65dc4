"""The store at scale: made-up rows are written, read and compared, in processes of their own; writes `scale.json`.

python benchmarks/scale.py [ROWS ...]     (default: 20000 200000)
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
from replication.results.provenance import processor

HERE = Path(__file__).parent
PART = 5000
"""rows a transaction"""


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
    start = time.perf_counter()
    with Store(path) as store:
        STEPS[step](store, rows)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"seconds": round(seconds, 3), "peak_mb": round(peak / 1e6), "began_with_mb": round(before / 1e6)}


def main(rows: list[int]) -> None:
    """Measure every step at every number of rows."""
    found = []
    for n in rows:
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
    write(
        HERE / "scale.json",
        json.dumps({"hardware": processor(), "load": os.getloadavg()[1], "steps": found}, indent=1) + "\n",
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(_measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        main([int(text) for text in sys.argv[1:]] or [20_000, 200_000])
