"""Runs trained at the same time on one device. On a GPU an update of all of them is one CUDA graph."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import torch

from replication.data.splits import Split
from replication.run import Run
from replication.training.engines.member import Member
from replication.training.engines.stacked import Stacked
from replication.training.engines.streams import Streams
from replication.training.loop import Outcome, settle

WAYS = {way.name: way for way in (Streams, Stacked)}
WARM_UP = 3
"""updates before a capture, undone afterwards: libraries set themselves up at their first calls"""


class Lockstep:
    """Members that make their updates and tests at the same time; on a GPU both are captured once and replayed."""

    def __init__(self, together: Streams | Stacked, capture: bool):
        self.together, self.members = together, together.members
        if len({tuple(member.lengths) for member in self.members}) > 1:
            raise ValueError("runs trained together must make the same number of updates in every epoch")
        device, precisions = self.members[0].device, sorted({member.run.precision for member in self.members})
        if len(precisions) > 1 and "tf32" in precisions:  # one switch for all that a process trains
            raise ValueError(f"runs in {', '.join(precisions)} cannot be trained together: tf32 goes with itself alone")
        settle(device, precisions[0])
        self.clock, self.epoch = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(2))
        self.steps = self._captured() if capture else (self.update, self.test)

    def update(self) -> None:
        """One training step of all."""
        self.together.update(self.clock)
        self.clock += 1

    def test(self) -> None:
        """One test of all."""
        self.together.test(self.epoch)
        self.epoch += 1

    def _captured(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """Replays of `update` and `test` as CUDA graphs, which take next to no time of the host."""
        state = [*self.together.state(), self.clock, self.epoch]
        before = [tensor.clone() for tensor in state]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self.together.mode(True)
            for _ in range(min(WARM_UP, sum(self.members[0].lengths))):
                self.update()
            self.together.mode(False)
            self.test()
        torch.cuda.current_stream().wait_stream(side)
        graphs = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        for dropout in (layer for member in self.members for layer in member.dropouts()):
            graphs[0].register_generator_state(dropout.start(dropout.generator.device))
        for graph, step, training in zip(graphs, (self.update, self.test), (True, False)):
            self.together.mode(training)
            # one pool: the two never run at the same time, and nothing in it outlives a replay
            # thread_local: what other threads do meanwhile, such as scoring, spoils nothing
            pool = graphs[0].pool() if not training else None
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                step()
        for tensor, value in zip(state, before):
            tensor.copy_(value)
        return graphs[0].replay, graphs[1].replay

    def train(self, tell: Callable[[int], None] = lambda images: None) -> None:
        """Train to the end without once waiting for the device. `tell` hears of the images trained on, by epoch."""
        update, test = self.steps
        images = sum(member.plan.shape[1] for member in self.members)
        for updates in self.members[0].lengths:
            self.together.mode(True)
            for _ in range(updates):
                update()
            self.together.mode(False)
            test()
            tell(updates * images)
        self.together.finish()
        self.steps = ()  # frees the graphs' memory, which reading may need


def train_together(
    runs: Sequence[Run],
    splits: Sequence[Split],
    device: str,
    way: str = "streams",
    tell: Callable[[int], None] = lambda images: None,
) -> list[Outcome]:
    """Train runs at the same time and read them, as `replication.training.loop.train` does one by one.

    `way` is a name in `WAYS`. ValueError for runs that do not go together, and as in the loop.
    """
    start = time.perf_counter()
    where = torch.device(device)
    if where.type == "cuda" and where.index is None:
        where = torch.device("cuda", torch.cuda.current_device())
    members = [Member(run, split, where) for run, split in zip(runs, splits, strict=True)]
    Lockstep(WAYS[way](members), capture=where.type == "cuda").train(tell)
    read = [member.outcome() for member in members]
    seconds = (time.perf_counter() - start) / len(members)
    return [dataclasses.replace(outcome, seconds=seconds) for outcome in read]
