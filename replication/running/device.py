"""Runs carried out many at a time on one device: who goes with whom, what is prepared ahead, and what if it is too much."""

import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import torch

from replication.data.splits import Split, split
from replication.results.provenance import record
from replication.results.store import Store
from replication.running.processes import pool
from replication.running.progress import Progress
from replication.run import Run
from replication.running.scoring import Labels, scored
from replication.training.engines.choice import Choice, choose
from replication.training.engines.lockstep import train_together
from replication.training.loop import Outcome, train
from replication.training.engines.memory import out_of_memory
from replication.training.engines.stacked import FORM

TOGETHER = (
    "setting", "network", "init", "head", "n_majority", "n_minority", "epochs", "updates", "stop_f1", "batch_size",
    "precision",
)  # fmt: skip
"""factors that runs trained at the same time share: they make the same updates and take the same memory"""
SIZE = 8
"""runs at a time where the way is asked for and nothing is measured"""


class Chunks:
    """Runs waiting for one device. Results are scored in other processes while the next runs train."""

    def __init__(
        self,
        todo: list[Run],
        store: Store,
        device: str,
        engine: str,
        progress: Progress,
        interrupted: threading.Event,
    ):
        self.waiting, self.store, self.device, self.engine = list(todo), store, torch.device(device), engine
        self.progress, self.interrupted = progress, interrupted
        self.splits: dict[Run, Future[Split]] = {}
        self.choices: dict[tuple, Choice] = {}
        self.at_most: dict[tuple, int] = {}
        """runs of a form that have proved to fit"""

    def carry_out(self, workers: int, deadline: float) -> int:
        """Train what waits until the deadline and return how many runs were finished."""
        scoring: list[Future] = []
        done = 0
        with pool(workers) as scorers, ThreadPoolExecutor(1) as ahead:
            try:
                while self.waiting and time.monotonic() < deadline:
                    if self.interrupted.is_set():
                        raise KeyboardInterrupt
                    scoring += self._chunk(scorers, ahead)
                    done += self._keep(scoring, wait=False)
                return done + self._keep(scoring, wait=True)
            finally:
                self._keep(scoring, wait=True)  # after Ctrl-C, and after an error of a later chunk
                ahead.shutdown(cancel_futures=True)

    def _keep(self, scoring: list[Future], wait: bool) -> int:
        finished = [future for future in scoring if wait or future.done()]
        for future in finished:
            scoring.remove(future)
            self.store.add(future.result())
            self.progress.done()
        return len(finished)

    def _split(self, run: Run) -> Split:
        prepared = self.splits.pop(run, None)
        return prepared.result() if prepared else split(run)

    def _choice(self, run: Run) -> Choice:
        if run.stop_f1:
            return Choice("loop", 1)  # alone: on others' account it would train on long after it may stop
        if self.engine != "auto":
            return Choice(self.engine, SIZE)
        form = self._form(run, "")
        if form not in self.choices:
            self.choices[form] = choose(run, split(run), self.device)
        return self.choices[form]

    def _form(self, run: Run, way: str) -> tuple:
        return tuple(getattr(run, factor) for factor in TOGETHER + (FORM if way == "stacked" else ()))

    def _chunk(self, scorers: Executor, ahead: Executor) -> list[Future]:
        """Train the first run that waits with those that go with it, as many as fit, and have them scored."""
        first = self.waiting[0]
        choice = self._choice(first)
        form = self._form(first, choice.way)
        size = min(choice.size, self.at_most.get(form, choice.size))
        alike = [run for run in self.waiting if self._form(run, choice.way) == form]
        chunk, trained = alike[:size], set(alike[:size])
        others = [run for run in self.waiting if run not in trained]
        for run in alike[size : 2 * size] or others[:size]:
            if run not in self.splits:
                self.splits[run] = ahead.submit(split, run)
        parts = [self._split(run) for run in chunk]
        outcomes = self._train(chunk, parts, choice.way)
        if outcomes is None:
            if len(chunk) == 1:
                raise ValueError(f"one run of {first.network} does not fit into the memory of the device")
            self.at_most[form] = len(chunk) // 2
            torch.cuda.empty_cache()
            return []
        self.waiting = others
        engine = "loop" if choice.way == "loop" else f"{choice.way}, {len(chunk)} runs at a time"
        hardware = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        provenance = self.store.add_provenance(record(self.device.type, engine, hardware))
        return [
            scorers.submit(scored, run, Labels.of(part), outcome, provenance)
            for run, part, outcome in zip(chunk, parts, outcomes)
        ]

    def _train(self, chunk: list[Run], parts: list[Split], way: str) -> list[Outcome] | None:
        """The outcomes, or nothing where memory did not suffice; all of the attempt's tensors are gone by then."""
        try:
            if way != "loop":
                return train_together(chunk, parts, str(self.device), way, self._tell)
            outcomes = [train(run, part, str(self.device)) for run, part in zip(chunk, parts)]
            self._tell(sum(o.updates * run.batch_size for run, o in zip(chunk, outcomes)))
            return outcomes
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None

    def _tell(self, images: int) -> None:
        self.progress.trained(images)
        if self.interrupted.is_set():
            raise KeyboardInterrupt
