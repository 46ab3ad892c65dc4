"""Runs on frozen bodies carried out: features once, then heads many at a time, scored where they were trained."""

import contextlib
import functools
import itertools
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import torch
from torch import nn

from replication.analysis.law import predicted_zero
from replication.data.loading import load
from replication.data.settings import setting as setting_of
from replication.data.sizes import fitted
from replication.data.splits import augmented, data_digest, indices
from replication.results.provenance import record
from replication.results.store import Result, Store
from replication.run import Run
from replication.running.processes import cores, pool
from replication.running.progress import Progress, bar
from replication.running.scoring import Labels, scored
from replication.training.engines.examples import Examples, examples
from replication.training.engines.heads import refuse, train_heads
from replication.training.features import Features, body_of, labels_of
from replication.training.loop import Outcome

AT_ONCE = {("cpu", "linear"): 96, ("cpu", "fastai"): 2, ("cuda", "linear"): 1024, ("cuda", "fastai"): 16}
"""runs trained at a time, by device and head: seconds of work, of which a kill takes no more"""
FEW = 96
"""linear heads that are trained in this process where no worker has been started: that would take longer"""
SCORED = 16
"""runs scored at a time by a worker while a GPU trains the next"""
BODY = ("network", "init", "input_side")
SHARED = (
    *("setting", *BODY, "head", "n_majority", "n_minority"),
    *("batch_size", "epochs", "updates", "sampling", "augmentation", "precision"),
)
"""factors that runs trained at the same time share"""

Job = tuple[Run, Labels, Outcome]


def group_key(run: Run) -> tuple:
    """Runs with the same key share features."""
    s = setting_of(run.setting)
    return s.source, s.pixels, s.border, s.augment, *(getattr(run, name) for name in BODY)


def chunks(runs: Sequence[Run], device: str) -> Iterator[list[Run]]:
    """Runs that share batches together, seeds side by side, as many as are trained at a time."""
    groups: dict[tuple, dict[tuple, list[Run]]] = {}
    for run in runs:
        groups.setdefault(tuple(getattr(run, name) for name in SHARED), {}).setdefault(
            (run.seed, run.split_seed), []
        ).append(run)
    for of_seed in groups.values():
        chunk: list[Run] = []
        for alike in of_seed.values():
            at_once = AT_ONCE[device, alike[0].head.partition("_")[0]]
            if chunk and len(chunk) + len(alike) > at_once:
                yield chunk
                chunk = []
            while len(chunk) + len(alike) > at_once:
                yield alike[:at_once]
                alike = alike[at_once:]
            chunk = chunk + alike
        if chunk:
            yield chunk


def head_examples(run: Run, features: Features) -> tuple[Examples, Labels]:
    """What the head of a run sees, and what scoring needs."""
    s = fitted(features.data, setting_of(run.setting))
    drawn = indices(features.data, s, run.n_majority, run.n_minority, run.drawn_by)
    parts = {name: np.concatenate(classes) for name, classes in drawn.items()}
    labels = {name: np.repeat(np.arange(len(classes)), list(map(len, classes))) for name, classes in drawn.items()}
    pixels = features.data.images.shape[-1]
    rows = functools.partial(features.rows, head=run.head)
    made = examples(run, rows, parts, labels, s.minority_classes, pixels, augmented(run))
    digest = data_digest(run.setting)
    return made, Labels(labels["validation"], labels["test"], s.minority_classes, made.counts, digest)


def train_chunk(runs: Sequence[Run], features: Features, device: str) -> list[Job]:
    """Train runs of one chunk; what is needed for scoring them."""
    of_seed = {(run.seed, run.split_seed): run for run in runs}
    prepared = {seeds: head_examples(run, features) for seeds, run in of_seed.items()}
    seen_by = [prepared[run.seed, run.split_seed] for run in runs]
    outcomes = train_heads(runs, [made for made, _ in seen_by], device)
    zero = functools.cache(lambda seeds: predicted_zero(prepared[seeds][0].train[0], prepared[seeds][0].labels == 1))
    for run, outcome in zip(runs, outcomes):
        if removable(run) and len(prepared[run.seed, run.split_seed][0].counts) == 2 and not outcome.diverged:
            outcome.facts["predicted_zero"] = zero((run.seed, run.split_seed))
    return [(run, labels, outcome) for run, (_, labels), outcome in zip(runs, seen_by, outcomes)]


def removable(run: Run) -> bool:
    """Whether `analysis.law.predicted_zero` is about a run: a softmax over a linear layer and the layer under study."""
    return (run.head, run.final_norm, run.output) == ("linear", "bn", "softmax")


def score_jobs(jobs: Sequence[Job], provenance: str) -> list[Result]:
    """The results of trained runs."""
    return [scored(run, labels, outcome, provenance) for run, labels, outcome in jobs]


def _train_and_score(runs: Sequence[Run], features: Features, provenance: str) -> list[Result]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker, where it is one already
    try:
        return score_jobs(train_chunk(runs, features, "cpu"), provenance)
    finally:
        torch.set_num_threads(threads)


@functools.lru_cache(1)
def _pickled(path: Path) -> nn.Module:
    return torch.load(path, weights_only=False)  # written by this very process's parent


def _block(features: Features, body: Path, label: int, block: int) -> int:
    return features.compute(_pickled(body), label, block)


def ensure(
    runs: Sequence[Run],
    device: str,
    processes: Executor,
    interrupted: threading.Event,
    deadline: float = float("inf"),
    ahead: int = 4,
) -> Features | None:
    """Features of all images that runs with one body and one data set draw; nothing if the deadline comes first.

    What was there stays; blocks finished before Ctrl-C, a kill or the deadline are kept.
    ValueError: see `replication.training.features.body_of`.
    """
    source = load(setting_of(runs[0].setting).source, setting_of(runs[0].setting).pixels)
    body = body_of(runs[0], *source.images.shape[1:3])
    features = Features.of(runs[0], body)
    todo = list(features.missing(labels_of(runs)))
    if not todo:
        return features
    images = sum(len(features.members(*block)) for block in todo)
    with bar(images, "image", f"features {features.folder.name}") as progress, tempfile.TemporaryDirectory() as folder:
        pickled = Path(folder, "body.pt")
        torch.save(body, pickled)
        waiting, running = iter(todo), set[Future]()
        while True:
            if interrupted.is_set():
                raise KeyboardInterrupt
            if device == "cuda":
                block = next(waiting, None)
                if block is None or time.monotonic() >= deadline:
                    break
                progress.update(features.compute(body, *block, device))
                continue
            if time.monotonic() < deadline:
                some = itertools.islice(waiting, ahead - len(running))
                running |= {processes.submit(_block, features, pickled, *block) for block in some}
            if not running:
                break
            finished, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in finished:
                progress.update(future.result())
    return None if any(features.missing(labels_of(runs))) else features


def carry_out_frozen(
    runs: Sequence[Run],
    store: Store,
    device: str,
    progress: Progress,
    interrupted: threading.Event,
    deadline: float = float("inf"),
    workers: int | None = None,
) -> int:
    """Carry out runs with `trained` = `head`, and return how many were finished; each is stored as soon as it is.

    On a CPU in `workers` processes (default: one per core), which train and score; a GPU trains in this process while
    they score. A result does not depend on who is trained beside it beyond rounding. Stops starting work at the
    deadline (`time.monotonic`). KeyboardInterrupt where `interrupted` is
    set, and ValueError of a run: what was finished before is kept.
    """
    for run in runs:
        refuse(run)
    workers = workers or cores()
    hardware = torch.cuda.get_device_name() if device == "cuda" else ""
    provenance = store.add_provenance(record(device, "heads on features", hardware))
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault(group_key(run), []).append(run)
    done, running = 0, dict[Future, int]()

    def keep(finished: set[Future]) -> int:
        n = 0
        for future in finished:
            images = running.pop(future)
            for result in future.result():
                store.add(result)
                progress.done()
                n += 1
            progress.trained(images)
        return n

    few = len(runs) <= FEW and all(run.head == "linear" for run in runs)
    with pool(workers) as processes, ThreadPoolExecutor(1) as here:
        try:
            for group in groups.values():
                features = ensure(group, device, processes, interrupted, deadline, 2 * workers)
                if features is None:
                    break
                for chunk in chunks(group, device):
                    while len(running) >= 2 * workers and not interrupted.is_set():
                        done += keep(wait(running, timeout=0.5, return_when=FIRST_COMPLETED)[0])
                    if interrupted.is_set():
                        raise KeyboardInterrupt
                    if time.monotonic() >= deadline:
                        break
                    if device == "cuda":
                        jobs = train_chunk(chunk, features, device)
                        for i in range(0, len(jobs), SCORED):
                            part = jobs[i : i + SCORED]
                            images = sum(outcome.updates * run.batch_size for run, _, outcome in part)
                            running[processes.submit(score_jobs, part, provenance)] = images
                    else:
                        run = chunk[0]
                        updates = run.updates or run.epochs * ((run.n_majority + run.n_minority) // run.batch_size)
                        images = updates * run.batch_size * len(chunk)
                        # private: whether a process has been started yet, which nothing public tells
                        where = here if few and not processes._processes else processes
                        running[where.submit(_train_and_score, chunk, features, provenance)] = images
            while running:
                done += keep(wait(running, timeout=0.5, return_when=FIRST_COMPLETED)[0])
                if interrupted.is_set():
                    raise KeyboardInterrupt
            return done
        finally:
            for future in [f for f in running if f.done() and not f.cancelled() and not f.exception()]:
                with contextlib.suppress(KeyError):
                    keep({future})
