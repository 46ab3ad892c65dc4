"""This package as its users run it: `carry_out_all` into a store, scoring included; and its loop and engines alone."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from replication.bench.workloads import Finished
from replication.data.splits import split
from replication.results.store import Result, Store
from replication.run import Run
from replication.running.local import carry_out_all
from replication.training.engines.lockstep import train_together
from replication.training.loop import train


class _Watched(Store):
    """A store that tells of every result."""

    finished: Finished

    def add(self, result: Result) -> None:
        super().add(result)
        self.finished(1)


def ours(runs: Sequence[Run], device: str, finished: Finished) -> None:
    """`replication run`, on the whole machine.

    On a GPU half of the runs first: the first call captures, and on a machine without a choice of engine yet it chooses.
    """
    halves = [runs] if device == "cpu" else [runs[: len(runs) // 2], runs[len(runs) // 2 :]]
    with tempfile.TemporaryDirectory() as folder, _Watched(Path(folder) / "store.sqlite") as store:
        store.finished = finished
        for part in halves:
            carry_out_all(part, store, device)


def ours_loop(runs: Sequence[Run], device: str, finished: Finished) -> None:
    """The plain loop alone, in one process with one thread."""
    torch.set_num_threads(1)
    for run in runs:
        train(run, split(run), device)
        finished(1)


def together(runs: Sequence[Run], device: str, finished: Finished, way: str) -> None:
    """One engine alone, half of the runs at a time, in one process with one thread; nothing is scored or stored."""
    torch.set_num_threads(1)
    half = -(-len(runs) // 2)
    for part in (runs[:half], runs[half:]):
        train_together(part, [split(run) for run in part], device, way)
        finished(len(part))
