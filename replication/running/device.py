"""Runs carried out many at a time on one device: who goes with whom, what is prepared ahead, and what if it is too much."""

import atexit
import contextlib
import sys
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import torch

from replication.data.splits import Split, split
from replication.results.provenance import record
from replication.results.store import Store
from replication.run import Run
from replication.running.processes import pool
from replication.running.progress import Progress
from replication.running.scoring import Labels, scored
from replication.training.engines.choice import SHARE, Choice, choose, fastest, fits, reason, recover, remembered
from replication.training.engines.lockstep import WAYS, train_together
from replication.training.engines.memory import out_of_memory
from replication.training.engines.stacked import FORM
from replication.training.loop import Outcome, train

TOGETHER = (
    "setting",
    "network",
    "init",
    "head",
    "trained",
    "input_side",
    "optimizer",
    "n_majority",
    "n_minority",
    "epochs",
    "updates",
    "stop_f1",
    "batch_size",
    "precision",
)
"""factors that runs trained at the same time share: they make the same updates and take the same memory"""
SIZE = 8
"""runs at a time where nothing is measured: the way is asked for, or the first runs of a form, or there are no more"""
MANY = 200
"""runs from which on results are scored in processes, whose start takes seconds"""

_kept = contextlib.ExitStack()
_scorers: dict[int, Executor] = {}


def scorers(runs: int, workers: int) -> Executor:
    """Where so many runs are scored: beside the training, or if they are many in processes, the same for all calls."""
    if runs < MANY:
        return ThreadPoolExecutor(1)
    if not _scorers:
        atexit.register(_kept.close)
    if workers not in _scorers or getattr(_scorers[workers], "_broken", False):
        _scorers[workers] = _kept.enter_context(pool(workers))
    return _scorers[workers]


def accelerator(device: str) -> str:
    """Name of the GPU that runs are trained on, empty for none."""
    return torch.cuda.get_device_name() if torch.device(device).type == "cuda" else ""


class Chunks:
    """Runs waiting for one device. Results are scored while the next runs train.

    With engine `auto` the first runs of a form train on streams, `SIZE` at a time. What these took tells how long the
    rest will; a tenth of that may be spent on measuring what is faster. A way that fails is passed over; runs that no
    way is left for are put into `by_loop`.
    """

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
        self.seconds: dict[tuple, float] = {}
        """a run, of the forms that have been trained"""
        self.failed: dict[tuple, dict[str, str]] = {}
        """ways that failed, and why, by form"""
        self.at_most: dict[tuple, int] = {}
        """runs of a form that have proved to fit"""
        self.by_loop: list[Run] = []
        """runs that can only be trained one by one, as far as is known now"""

    def carry_out(self, workers: int, deadline: float) -> int:
        """Train what waits until the deadline and return how many runs were finished."""
        scoring: list[Future] = []
        done, executor = 0, scorers(len(self.waiting), workers)
        with ThreadPoolExecutor(1) as ahead:
            try:
                while self.waiting and time.monotonic() < deadline:
                    if self.interrupted.is_set():
                        raise KeyboardInterrupt
                    scoring += self._chunk(executor, ahead)
                    done += self._keep(scoring, wait=False)
                return done + self._keep(scoring, wait=True)
            finally:
                self._keep(scoring, wait=True)  # after Ctrl-C, and after an error of a later chunk
                ahead.shutdown(cancel_futures=True)
                if isinstance(executor, ThreadPoolExecutor):
                    executor.shutdown()

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

    def _choice(self, run: Run) -> Choice | None:
        """How to train a run and those like it; nothing where no way is left."""
        if run.stop_f1:
            return Choice("loop", 1)  # alone: in a group it would continue past its stopping point
        if self.engine != "auto":
            return Choice(self.engine, SIZE)
        form = self._form(run, "")
        failed = self.failed.get(form, {})
        left = [way for way in WAYS if way not in failed]
        if not left:
            return None
        chosen = self.choices.get(form)
        if chosen is None or chosen.way in failed:
            chosen = self._fastest(run, form, left)
        return chosen

    def _fastest(self, run: Run, form: tuple, left: list[str]) -> Choice:
        """The fastest way known; measured once the training that is left is long enough for it."""
        alike = sum(self._form(other, "") == form for other in self.waiting)
        parts = split(run)
        found = [c for c in remembered(run, parts, self.device) if c["way"] in left]
        if chosen := fastest(found, alike):
            self.choices[form] = chosen
            return chosen
        if form in self.seconds and len(left) == len(WAYS) and alike > SIZE:
            try:
                chosen = choose(run, parts, self.device, alike, SHARE * alike * self.seconds[form])
            except Exception as error:  # what has just trained goes on training
                self._say(f"no engine could be measured: {reason(error)}")
                recover(self.device)
            self.choices[form] = chosen or Choice(left[0], min(SIZE, fits(run, parts, self.device)))
            return self.choices[form]
        if form in self.seconds:
            self.choices[form] = Choice(left[0], SIZE)
        return Choice(left[0], min(SIZE, fits(run, parts, self.device)))

    def _form(self, run: Run, way: str) -> tuple:
        return tuple(getattr(run, factor) for factor in TOGETHER + (FORM if way == "stacked" else ()))

    def _chunk(self, executor: Executor, ahead: Executor) -> list[Future]:
        """Train the first run that waits with those that go with it, as many as fit, and have them scored."""
        first = self.waiting[0]
        choice = self._choice(first)
        if choice is None:
            alone = [run for run in self.waiting if self._form(run, "") == self._form(first, "")]
            self.by_loop += alone
            self.waiting = [run for run in self.waiting if run not in set(alone)]
            return []
        form = self._form(first, choice.way)
        size = min(choice.size, self.at_most.get(form, choice.size))
        alike = [run for run in self.waiting if self._form(run, choice.way) == form]
        chunk, trained = alike[:size], set(alike[:size])
        others = [run for run in self.waiting if run not in trained]
        for run in alike[size : 2 * size] or others[:size]:
            if run not in self.splits:
                self.splits[run] = ahead.submit(split, run)
        parts = [self._split(run) for run in chunk]
        try:
            outcomes = self._train(chunk, parts, choice.way)
        except Exception as error:
            if self.engine != "auto" or choice.way == "loop":
                if isinstance(error, ValueError):
                    raise
                raise ValueError(
                    f"engine {choice.way!r} failed on {first.network} ({reason(error)}): use engine auto or loop"
                ) from error
            self._pass_over(first, choice.way, error)
            return []
        if outcomes is None:
            if len(chunk) == 1:
                raise ValueError(f"one run of {first.network} does not fit into the memory of the device")
            self.at_most[form] = len(chunk) // 2
            torch.cuda.empty_cache()
            return []
        self.waiting = others
        self.seconds[self._form(first, "")] = outcomes[0].seconds
        engine = "loop" if choice.way == "loop" else f"{choice.way}, {len(chunk)} runs at a time"
        provenance = self.store.add_provenance(record(self.device.type, engine, accelerator(self.device.type)))
        return [
            executor.submit(scored, run, Labels.of(part), outcome, provenance)
            for run, part, outcome in zip(chunk, parts, outcomes)
        ]

    def _pass_over(self, run: Run, way: str, error: Exception) -> None:
        failed = self.failed.setdefault(self._form(run, ""), {})
        failed[way] = reason(error)
        left = [name for name in WAYS if name not in failed]
        self._say(
            f"{run.network} on {run.setting} is not trained by {way} ({failed[way]}): {(left or ['loop'])[0]} is next"
        )
        recover(self.device)

    @staticmethod
    def _say(text: str) -> None:
        print(f"replication: {text}", file=sys.stderr, flush=True)

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
