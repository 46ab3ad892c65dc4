"""Cost against the number of runs and against the size of images."""

import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COUNTS = (1, 10, 100, 1000)
"""runs on digits, from the start of the process to the last result in the store"""
SIDES = (16, 32, 64, 128)
"""pixels; one epoch on apple leaves, after a first one"""

_RUNS = """
import sys
from replication.running.local import carry_out_all
from replication.bench.workloads import WORKLOADS
from replication.results.store import Store
if __name__ == "__main__":
    n, device, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    with Store(path) as store:
        carry_out_all(WORKLOADS["digits"].runs(n, device), store, device)
"""


def by_runs(n: int, device: str) -> float:
    """Seconds of n runs on digits, in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "runs.py"
        script.write_text(_RUNS)
        start = time.perf_counter()
        command = [sys.executable, "-W", "ignore", script, str(n), device, str(Path(folder) / "store.sqlite")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"{n} runs could not be timed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        return time.perf_counter() - start


def by_side(pixels: int, device: str) -> float:
    """Seconds of one epoch of the base cell on apple leaves of a size, by the loop with one thread."""
    import torch

    from replication.bench.workloads import WORKLOADS
    from replication.data.splits import split
    from replication.training.loop import train

    run = dataclasses.replace(WORKLOADS["apple32"].run, setting=f"plantvillage/apple@{pixels}", epochs=1)
    parts, threads = split(run), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(dataclasses.replace(run, n_majority=100), split(dataclasses.replace(run, n_majority=100)), device)
        return train(run, parts, device).seconds
    finally:
        torch.set_num_threads(threads)


CURVES = {"runs": (COUNTS, by_runs), "side": (SIDES, by_side)}
