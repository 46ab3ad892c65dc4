"""What a frozen body costs: features, heads, scores and storing, side by side with timm's plain loop and with fastai.

Run on a quiet machine: python benchmarks/frozen.py [--out benchmarks/frozen.json] [--rounds 3]
Needs tomato leaves and the weights of both bodies; fastai is timed where it is installed, on one run an arm and multiplied.
fastai's frozen body still trains its BatchNorms, as its users run it: it does more than a body in evaluation.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from replication.bench.ceilings import ceilings
from replication.bench.operations import forward_flops, operations
from replication.data.splits import split
from replication.files import write
from replication.paths import home
from replication.results.provenance import record
from replication.results.store import Store
from replication.run import Run
from replication.running.frozen import head_examples
from replication.running.scoring import scored
from replication.training.engines.heads import train_heads
from replication.training.features import Features, body_of, pooled
from replication.training.loop import scaled

SETTING = "plantvillage/tomato@160"
BODIES = ("efficientnet_lite0", "resnet_cntk")
IMAGES = 256
"""images whose features are timed"""
HEADS = 96
"""heads trained at a time: 24 seeds with four arms and rates each"""
SEEDS = 60
"""of the pair that is timed from packed images to stored results"""


def seconds(work: Callable[[], object], rounds: int) -> list[float]:
    """Wall-clock seconds of every round, after one that is not counted."""
    found = []
    for k in range(rounds + 1):
        start = time.perf_counter()
        work()
        if k:
            found.append(time.perf_counter() - start)
    return found


def run_of(network: str, **factors) -> Run:
    """The base run of a linear head on a frozen body."""
    return Run(setting=SETTING, network=network, init="imagenet", trained="head", **factors)


def features(network: str, rounds: int) -> dict:
    """Images a second of features by `pooled`, and by the plain evaluation loop over batches of 64, same threads."""
    run = run_of(network)
    images = split(run).train.images[:IMAGES]
    body = body_of(run, *images.shape[1:3])
    where = torch.device("cpu")
    last = body.to(memory_format=torch.channels_last)

    def plain() -> None:
        with torch.no_grad():
            for part in np.split(images, range(64, len(images), 64)):
                x = torch.from_numpy(np.ascontiguousarray(part)).float() / 127.5 - 1
                body(x).mean((2, 3))

    ours = seconds(partial(pooled, last, images, where), rounds)
    theirs = seconds(plain, rounds)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        body(scaled(images[:1], torch.float32, where))
    return {
        "ours": [IMAGES / s for s in ours],
        "plain loop": [IMAGES / s for s in theirs],
        "flops an image": counter.get_total_flops(),
    }


def head_flops(run: Run) -> int:
    """Operations of one head's training with its tests and readouts: of the whole network, less those of the body."""
    parts = split(run)
    whole = forward_flops(run, parts)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        body_of(run, 3, 160)(scaled(parts.train.images[:1], torch.float32, torch.device("cpu")))
    counted = operations(run, parts)
    return round((10 * counted["epoch"] + counted["readouts"]) * (1 - counter.get_total_flops() / whole))


def heads(network: str, head: str, count: int, rounds: int) -> dict:
    """Heads a second in training alone, and seconds a head of scoring and storing."""
    norms = [{"final_norm": norm, "learning_rate": rate} for norm in ("none", "bn") for rate in (1e-3, 1e-2)]
    runs = [run_of(network, head=head, seed=100 + k // 4, **norms[k % 4]) for k in range(count)]
    body = body_of(runs[0], 3, 160)
    kept = Features.of(runs[0], body)
    of_seed = {
        run.seed: head_examples(run, kept) for run in runs
    }  # runs of a seed share its batches, as in `replication run`
    examples, labels = zip(*(of_seed[run.seed] for run in runs))
    outcomes: list = []

    def train() -> None:
        outcomes[:] = train_heads(runs, list(examples), torch.device("cpu"), lambda images: None)

    training = seconds(train, rounds)
    start = time.perf_counter()
    results = [scored(run, told, outcome, "bench") for run, told, outcome in zip(runs, labels, outcomes)]
    scoring = (time.perf_counter() - start) / count
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.sqlite") as store:
        start = time.perf_counter()
        store.add_all(results)
        storing = (time.perf_counter() - start) / count
    return {
        "heads a second, one core": [count / s for s in training],
        "flops a head": head_flops(runs[0]),
        "scoring, s": scoring,
        "storing, s": storing,
    }


def pair(network: str, place: str) -> float:
    """Seconds of the pair of arms on 60 seeds by the command that users type, on all cores, from packed images to a store.

    The features stay in `place`.
    """
    (Path(place) / "packs").symlink_to(home() / "packs")
    named = ("--settings", SETTING, "--networks", f"{network}:imagenet:head", "--rates", "default")
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "replication", "run", "removal", *named, "--seeds", str(SEEDS)],
        env=os.environ | {"REPLICATION_HOME": place},
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


@contextlib.contextmanager
def using(place: str) -> Iterator[None]:
    """Keep features in another place meanwhile."""
    before = os.environ.get("REPLICATION_HOME")
    os.environ["REPLICATION_HOME"] = place
    try:
        yield
    finally:
        os.environ.pop("REPLICATION_HOME")
        if before is not None:
            os.environ["REPLICATION_HOME"] = before


def fastai_pair(network: str) -> float:
    """Seconds of one frozen `fit_one_cycle` (10 epochs) of fastai on the same images and body."""
    import fastai.callback.progress
    import fastai.callback.schedule  # noqa: F401, they give Learner no_bar and fit_one_cycle
    from fastai.data.block import CategoryBlock, DataBlock
    from fastai.data.transforms import IndexSplitter, Normalize
    from fastai.layers import params
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat
    from fastai.vision.augment import FlipItem
    from fastai.vision.core import PILImage
    from fastai.vision.data import ImageBlock
    from fastai.vision.learner import add_head

    run = run_of(network)
    parts = split(run)
    images = np.concatenate([p.images for p in (parts.train, parts.validation, parts.test)]).transpose(0, 2, 3, 1)
    labels = np.concatenate([p.labels for p in (parts.train, parts.validation, parts.test)])
    block = DataBlock(
        blocks=(ImageBlock(PILImage), CategoryBlock([0, 1])),
        get_x=images.__getitem__,
        get_y=labels.__getitem__,
        splitter=IndexSplitter(range(len(parts.train.labels), len(labels))),
        item_tfms=[FlipItem()],
        batch_tfms=Normalize.from_stats([0.5] * 3, [0.5] * 3, cuda=False),
    )
    loaders = block.dataloaders(range(len(labels)), bs=64, device=torch.device("cpu"))
    torch.set_num_threads(os.cpu_count())
    body = body_of(run, 3, 160)
    body.requires_grad_(True)
    inner = torch.nn.Sequential(
        *body.children()
    )  # without the wrapper that keeps it in evaluation, as fastai's users have it
    width = {"efficientnet_lite0": 1280, "resnet_cntk": 512}[network]
    model = add_head(inner, width, 2, bn_final=True)
    learn = Learner(loaders, model, loss_func=CrossEntropyLossFlat(), splitter=lambda m: [params(m[0]), params(m[1])])
    learn.freeze()
    start = time.perf_counter()
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(10, 1e-3)
    return time.perf_counter() - start


def main() -> None:
    """Measure what is asked for and write the file anew after every part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("frozen.json"))
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()
    torch.set_num_threads(1)
    told: dict = {
        "provenance": record("cpu"),
        "setting": SETTING,
        "ceilings, one core": ceilings("cpu"),
        "networks": {network: {} for network in BODIES},
    }
    if (
        a.out.exists()
        and (before := json.loads(a.out.read_text()))["provenance"]["hardware"] == told["provenance"]["hardware"]
    ):
        told["networks"] |= before["networks"]  # parts that an earlier call measured here are kept

    def keep() -> None:
        write(a.out, json.dumps(told, indent=1) + "\n")

    def measure(network: str, part: str, work: Callable[[], object], again: bool = False) -> None:
        if again or part not in told["networks"][network]:
            told["networks"][network][part] = work()
            keep()

    for network in BODIES:
        measure(network, "features, one core", partial(features, network, a.rounds))
        if (
            "fastai's head" not in told["networks"][network]
        ):  # the last of three on the features that the first computes
            with tempfile.TemporaryDirectory() as place:
                measure(network, f"pair of {SEEDS} seeds with features, s", partial(pair, network, place), again=True)
                with using(place):
                    measure(network, "linear head", partial(heads, network, "linear", HEADS, a.rounds), again=True)
                    measure(network, "fastai's head", partial(heads, network, "fastai", 4, 1))
    try:
        for network in BODIES:
            measure(network, "fastai, s a run", partial(fastai_pair, network))
    except ImportError as error:
        print(f"fastai is not timed: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
