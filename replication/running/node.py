"""What a cluster's node does: one chunk of runs, or one block of features, streamed back to the driver."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

from replication.data.settings import setting as setting_of
from replication.results.provenance import record
from replication.results.rows import Result
from replication.run import Run
from replication.running import local
from replication.running.parcels import Luggage


class _Stream:
    """Stands in for the store on a node: what is added to it is yielded to the driver."""

    def __init__(self):
        self.waiting: queue.SimpleQueue = queue.SimpleQueue()

    def add(self, result: Result) -> None:
        self.waiting.put(result)

    def add_provenance(self, facts: dict) -> str:
        self.waiting.put(facts)
        return facts["id"]


class _Silent:
    """Stands in for the progress on a node, which is told by the driver."""

    def trained(self, images: int) -> None: ...

    def done(self) -> None: ...


def _carry_out(stream: _Stream, runs: Sequence[Run], device: str, engine: str, end: float) -> None:
    """Carry out the runs of one chunk with what the local backend uses; stops between runs at `end` (Unix time)."""
    if runs[0].trained == "head" and engine != "loop":
        from replication.running import frozen

        s = setting_of(runs[0].setting)
        source = frozen.load(s.source, s.pixels)
        features = frozen.Features.of(runs[0], frozen.body_of(runs[0], *source.images.shape[1:3]))
        provenance = stream.add_provenance(record(device, "heads on features", _accelerator(device)))
        for result in frozen.score_jobs(frozen.train_chunk(runs, features, device), provenance):
            stream.add(result)
    elif device == "cuda" and engine != "loop":
        from replication.running.device import Chunks

        deadline = time.monotonic() + end - time.time()
        chunks = Chunks(list(runs), stream, device, engine, _Silent(), threading.Event())
        chunks.carry_out(1, deadline)
        _one_by_one(stream, chunks.by_loop, device, end)
    else:
        _one_by_one(stream, runs, device, end)


def _one_by_one(stream: _Stream, runs: Sequence[Run], device: str, end: float) -> None:
    provenance = stream.add_provenance(record(device, "loop", _accelerator(device))) if runs else ""
    for run in runs:
        if time.time() >= end:
            return
        stream.add(local.carry_out(run, device, provenance))


def _accelerator(device: str) -> str:
    if device == "cpu":
        return ""
    from replication.running.device import accelerator

    return accelerator(device)


def task(luggage: Luggage, runs: Sequence[Run], device: str, engine: str, end: float) -> Iterator[object]:
    """The id of the node, then provenance records (dicts) and results as they come."""
    import ray

    yield ray.get_runtime_context().get_node_id()
    luggage.settle()
    stream, ended, failed = _Stream(), object(), []

    def work() -> None:
        import torch

        torch.set_num_threads(1)  # it holds for the thread that calls it
        try:
            _carry_out(stream, runs, device, engine, end)
        except Exception as error:  # raised below, after what was finished before it
            failed.append(error)
        finally:
            stream.waiting.put(ended)

    threading.Thread(target=work, daemon=True).start()
    while (found := stream.waiting.get()) is not ended:
        yield found
    if failed:
        raise failed[0]


def block_task(luggage: Luggage, run: Run, label: int, block: int, device: str) -> np.ndarray:
    """One block of a frozen body's features, see `training.features`."""
    from replication.running import frozen

    luggage.settle()
    s = setting_of(run.setting)
    body = frozen.body_of(run, *frozen.load(s.source, s.pixels).images.shape[1:3])
    features = frozen.Features.of(run, body)
    features.compute(body, label, block, device)
    return np.load(features.folder / f"{label}-{block}" / "features.npy")
