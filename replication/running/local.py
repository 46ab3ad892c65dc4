"""Where runs are carried out: in local processes one by one, or many at a time on one device. Results go to the store."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from math import inf

from replication.data.splits import data_digest, split
from replication.limits import WORKERS, check_known, check_within
from replication.limits import deadline as deadline_in
from replication.results.provenance import record
from replication.results.store import Result, Store
from replication.run import Run
from replication.running.initial import make
from replication.running.processes import cores, explained, interruptible, pool
from replication.running.progress import Progress
from replication.running.scoring import Labels, scored
from replication.study.recipes import weights_digest

DEVICES = ("auto", "cpu", "cuda")
ENGINES = ("auto", "loop", "streams", "stacked")
ON_ONE_GPU = 8
"""processes of the loop that share a GPU where their number is not given"""


def device_of(name: str) -> str:
    """`cpu` or `cuda`, as asked for; ValueError for another name and for cuda where there is none."""
    check_known("device", name, DEVICES)
    if name == "cpu":
        return name
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise ValueError("device 'cuda' was asked for but torch sees no GPU: use cpu or auto")
    return "cpu"


def carry_out(run: Run, device: str, provenance: str) -> Result:
    """Train, read and score one run."""
    from replication.training.loop import train

    parts = split(run)
    return scored(run, Labels.of(parts), train(run, parts, device), provenance)


def at_hand(setting: str) -> bool:
    """Whether the data of a setting is on this machine."""
    try:
        return bool(data_digest(setting))
    except ValueError:
        return False


def key_of(run: Run) -> str:
    """The key of a run on the data and the checkpoint of this machine."""
    return run.key(data_digest(run.setting), weights_digest(run))


def missing(runs: Iterable[Run], store: Store) -> list[Run]:
    """The runs whose results the store lacks, in the order given."""
    done = store.keys()
    return [run for run in runs if key_of(run) not in done]


def carry_out_all(
    runs: Sequence[Run],
    store: Store,
    device: str = "auto",
    workers: int | None = None,
    time_budget: float | None = None,
    engine: str = "auto",
) -> int:
    """Carry out the runs that the store lacks, in order, and return how many were finished.

    `engine`: with `loop` one run per process, in `workers` processes (default: one per core; `ON_ONE_GPU` on a GPU) with one
    thread each; with `streams` or `stacked` many runs at a time on one device, scored in so many processes if they are
    many; `auto` is the loop on a CPU and on a GPU what proves fastest there (`replication.training.engines.choice`), or
    what `REPLICATION_ENGINE` names. Runs that fail many at a time are trained one by one. A result does not depend on the
    engine beyond rounding, nor on their number at all. Stops starting runs when `time_budget` seconds are over, those of a
    recipe for initial weights (see `replication.study.recipes`) included. Runs that train the head alone go together on
    features of their frozen body, unless the loop is asked for (`replication.running.frozen`). On Ctrl-C and on a
    ValueError of a run, which is raised, every finished run is kept.
    ValueError for an unknown engine, fewer than one worker and a negative time; RuntimeError where a worker was killed.
    """
    where = device_of(device)
    if engine == "auto":
        engine = os.environ.get("REPLICATION_ENGINE") or engine
    check_known("engine", engine, ENGINES)
    check_within(*WORKERS, workers=workers)
    deadline_in(time_budget)
    todo = missing(runs, store)  # after all checks: it may have to decode images
    if not todo:
        return 0
    deadline = deadline_in(time_budget)  # training has all of it
    if time.monotonic() < deadline:
        make(todo)  # before the workers start: it uses more than one thread
    with Progress(len(todo)) as progress, interruptible() as interrupted, explained():
        processes, done = workers or (cores() if where == "cpu" else ON_ONE_GPU), 0
        if engine != "loop" and (heads := [run for run in todo if run.trained == "head"]):
            from replication.running.frozen import carry_out_frozen

            done = carry_out_frozen(heads, store, where, progress, interrupted, deadline, workers)
            todo = [run for run in todo if run.trained != "head"]
        if todo and engine != "loop" and (engine != "auto" or where != "cpu"):
            from replication.running.device import Chunks

            chunks = Chunks(todo, store, where, engine, progress, interrupted)
            done, todo = done + chunks.carry_out(processes, deadline), chunks.by_loop
        if not todo:
            return done
        return done + _one_by_one(todo, store, where, min(processes, len(todo)), deadline, progress, interrupted)


def within(
    time_budget: float | None, store: Store, device: str = "auto", workers: int | None = None, engine: str = "auto"
) -> Callable[[Sequence[Run]], int]:
    """`carry_out_all` into a store as a function of the runs; all its calls together have `time_budget` seconds."""
    end = deadline_in(time_budget)

    def train(runs: Sequence[Run]) -> int:
        left = None if time_budget is None else max(0.0, end - time.monotonic())
        return carry_out_all(runs, store, device, workers, left, engine)

    return train


def _one_by_one(
    todo: Sequence[Run],
    store: Store,
    device: str,
    workers: int,
    deadline: float,
    progress: Progress,
    interrupted: threading.Event,
) -> int:
    hardware = ""
    if device != "cpu":
        from replication.running.device import accelerator

        hardware = accelerator(device)
    provenance = store.add_provenance(record(device, "loop", hardware))
    waiting, running, done = iter(todo), dict[Future, Run](), 0
    try:
        with pool(workers) as processes:
            while True:
                if interrupted.is_set():
                    raise KeyboardInterrupt
                # A short queue keeps every worker busy. With a time budget there is none, as a worker takes no run back:
                # at the end of the budget nothing is left but the runs that have begun.
                if time.monotonic() < deadline:
                    ahead = itertools.islice(waiting, (2 if deadline == inf else 1) * workers - len(running))
                    running |= {processes.submit(carry_out, run, device, provenance): run for run in ahead}
                if not running:
                    return done
                finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    result = future.result()
                    store.add(result)
                    progress.trained(result.facts["updates_made"] * running.pop(future).batch_size)
                    progress.done()
                    done += 1
    finally:
        keep(running, store)


def keep(futures: Iterable[Future], store: Store) -> None:
    """Store what was finished before something went wrong."""
    for future in futures:
        if future.done() and not future.cancelled() and not future.exception():
            store.add(future.result())
