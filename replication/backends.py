"""Where runs are carried out: local processes with one thread each. Scores what they return and stores it."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

import numpy as np
from tqdm import tqdm

from replication.data.splits import data_digest, split
from replication.evidence import metrics
from replication.evidence.provenance import record
from replication.evidence.store import Result, Store
from replication.runs import Run, checkpoint_digest

DEVICES = ("auto", "cpu", "cuda")


def device_of(name: str) -> str:
    """`cpu` or `cuda`, as asked for; ValueError for another name and for cuda where there is none."""
    if name not in DEVICES:
        raise ValueError(f"unknown device {name!r}: allowed are {', '.join(DEVICES)}")
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
    outcome = train(run, parts, device)
    counts, labels = parts.train_counts, parts.test.labels
    n = len(parts.validation.labels)
    of = {"minorities": parts.minorities, "train_counts": counts}

    def score(logits: np.ndarray) -> dict[str, float]:
        return metrics.score(logits[n:], labels, validation=(logits[:n], parts.validation.labels), **of)

    scores = {name: score(logits) for name, logits in outcome.readouts.items()}
    if run.output == "softmax":
        scores["logit_adjusted"] = score(metrics.adjust(outcome.readouts["as_trained"], counts))
    on_validation = metrics.score(outcome.validation[-1], parts.validation.labels, **of)
    histories = {
        f"{name}_{metric}": values.astype(np.float32)
        for name, logits, part in (
            ("validation", outcome.validation, parts.validation),
            ("test", outcome.test, parts.test),
        )
        for metric, values in metrics.history(logits, part.labels, **of).items()
    }
    facts = {
        "diverged": outcome.diverged,
        "epochs_trained": outcome.epochs,
        "updates_made": outcome.updates,
        "seconds": round(outcome.seconds, 4),
        "validation_f1_macro": on_validation["f1_macro"],
    }
    if checkpoint := checkpoint_digest(run.init):
        facts["checkpoint"] = checkpoint
    logits = {"labels": labels.astype(np.int8), "logits": outcome.test[-1].astype(np.float16)}
    return Result(run, parts.digest, provenance, facts, scores, histories | logits)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    # a worker whose parent was killed would wait for ever: its siblings and itself hold its queue open
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, in the main thread.

    A KeyboardInterrupt can be raised inside a destructor or a callback of the pool, where Python ignores it.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _failed(future: Future) -> bool:
    return future.cancelled() or future.exception() is not None


def at_hand(setting: str) -> bool:
    """Whether the data of a setting is on this machine."""
    try:
        return bool(data_digest(setting))
    except ValueError:
        return False


def key_of(run: Run) -> str:
    """The key of a run on the data and the checkpoint of this machine."""
    return run.key(data_digest(run.setting), checkpoint_digest(run.init))


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
) -> int:
    """Carry out the runs that the store lacks, in order, and return how many were finished.

    `workers` processes (default: one a core) with one thread each; a result does not depend on their number. Stops
    starting runs when `time_budget` seconds are over. On Ctrl-C and on a ValueError of a run, which is raised, every
    finished run is kept. ValueError for fewer than one worker and for a negative time.
    """
    where = device_of(device)
    if workers is not None and workers < 1:
        raise ValueError(f"workers = {workers} is not allowed: at least 1")
    if time_budget is not None and not time_budget >= 0:  # nan too
        raise ValueError(f"time budget {time_budget:g} s is not allowed: at least 0")
    todo = missing(runs, store)  # after all checks: it may have to decode images
    if not todo:
        return 0
    provenance = store.add_provenance(record(where))
    deadline = float("inf") if time_budget is None else time.monotonic() + time_budget
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # not on macOS
    n = min(workers or cores, len(todo))
    pool = ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), initializer=_start_worker)
    terminal = sys.stderr.isatty()
    progress = tqdm(
        total=len(todo), unit="run", desc="training", smoothing=0.05, mininterval=0.5 if terminal else 30
    )
    waiting, running, done = iter(todo), set(), 0
    try:
        with progress, _interruptible() as interrupted:
            while True:
                if interrupted.is_set():
                    raise KeyboardInterrupt
                # A short queue keeps every worker busy and lets the time budget end what has not begun.
                if time.monotonic() < deadline:
                    ahead = itertools.islice(waiting, 2 * n - len(running))
                    running |= {pool.submit(carry_out, run, where, provenance) for run in ahead}
                if not running:
                    return done
                finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    store.add(future.result())
                    running.remove(future)
                    done += 1
                    progress.update()
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        for future in running:  # none but after an error
            if not _failed(future):
                store.add(future.result())
