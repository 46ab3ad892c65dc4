"""The plain training loop: one run, one device, epoch by epoch. The CPU's path and every faster engine's oracle."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from replication.data.augmentation import Augmented, draws, reach
from replication.data.splits import Split
from replication.limits import check_known
from replication.run import FINE_TUNE, SAMPLINGS, Run, entropy
from replication.training.heads import build
from replication.training.losses import as_softmax, loss_of
from replication.training.optimizers import check, updates_of
from replication.training.readouts import in_parts, learned, readouts

PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass
class Outcome:
    """What a run leaves behind. Logits are such that their softmax gives the class probabilities."""

    validation: np.ndarray
    """(E, M, K) logits on the validation images after every epoch"""
    test: np.ndarray
    """(E, N, K) logits on the test images after every epoch"""
    readouts: dict[str, np.ndarray]
    """(M + N, K) logits on validation and test images at the end, by readout"""
    diverged: bool
    """whether a loss or a logit stopped being finite; training ended there and later logits are NaN"""
    epochs: int
    """epochs trained (fewer than asked for after an early stop or a divergence)"""
    updates: int
    seconds: float
    facts: dict[str, float] = field(default_factory=dict)
    """what the final norm has learned, see `replication.training.readouts.learned`"""


def outcome(
    run: Run,
    n_validation: int,
    history: np.ndarray,
    read: dict[str, np.ndarray],
    diverged: bool,
    updates: int,
    seconds: float,
    norm: nn.Module | None = None,
) -> Outcome:
    """What is recorded about the network's outputs after every epoch trained (E, M + N, C) and at the end (M + N, C)."""
    logits = as_softmax(history, run.output)
    if diverged:
        logits[-1] = np.nan
    read = {
        name: np.full_like(logits[-1], np.nan) if diverged else as_softmax(z, run.output) for name, z in read.items()
    }
    return Outcome(
        validation=logits[:, :n_validation],
        test=logits[:, n_validation:],
        readouts=read,
        diverged=diverged,
        epochs=len(history),
        updates=updates,
        seconds=seconds,
        facts={} if diverged else learned(norm),
    )


def batches(run: Run, labels: np.ndarray) -> list[np.ndarray]:
    """Image numbers of every update: one array (updates, batch) an epoch, drawn from (seed, "order").

    ValueError for a batch larger than the training set and for a batch of one before a BatchNorm.
    """
    n = len(labels)
    if run.batch_size > n:
        raise ValueError(f"batch_size = {run.batch_size} is larger than the training set: allowed are 2 to {n}")
    if run.batch_size < 2:
        raise ValueError(f"batch_size = {run.batch_size} leaves BatchNorm no variance: allowed are 2 to {n}")
    per_epoch = n // run.batch_size
    epochs = -(-run.updates // per_epoch) if run.updates else run.epochs + (run.schedule == FINE_TUNE)
    rng = np.random.default_rng(entropy(run.seed, "order"))

    check_known("sampling", run.sampling, SAMPLINGS)

    def order() -> np.ndarray:
        if run.sampling == "shuffle":
            return rng.permutation(n)
        members = [np.flatnonzero(labels == c) for c in range(labels.max() + 1)]
        drawn = rng.integers(len(members), size=n)
        return np.array([rng.choice(members[c]) for c in drawn])

    plan = [order()[: per_epoch * run.batch_size].reshape(per_epoch, -1) for _ in range(epochs)]
    if run.updates:
        plan[-1] = plan[-1][: run.updates - (epochs - 1) * per_epoch]
    return plan


def settle(device: torch.device, precision: str = "float32") -> None:
    """Let a GPU take single precision at its word (TF32 for runs of that precision alone) and the same algorithm every time."""
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def memory_format(device: torch.device, precision: str) -> torch.memory_format:
    """How images and feature maps lie in memory: by `REPLICATION_MEMORY_FORMAT`, else by what suits the device.

    A GPU's tensor cores (bfloat16, TF32) want channels last, its algorithms for full precision do not; a CPU's do.
    Results do not depend on it beyond rounding. ValueError for an unknown name in the environment.
    """
    wanted = os.environ.get("REPLICATION_MEMORY_FORMAT") or (
        "contiguous" if device.type == "cuda" and precision in ("float32", "float64") else "channels_last"
    )
    check_known("REPLICATION_MEMORY_FORMAT", wanted, LAYOUTS)
    return LAYOUTS[wanted]


def scaled(
    images: np.ndarray | torch.Tensor,
    dtype: torch.dtype,
    device: torch.device,
    layout: torch.memory_format = torch.channels_last,
) -> torch.Tensor:
    """uint8 images (N, C, H, W) as the network sees them: scaled from 0..255 to -1..1."""
    x = torch.as_tensor(images).to(device, dtype) / 127.5 - 1
    return x.contiguous(memory_format=layout)


def moves_of(run: Run, split: Split, epochs: int) -> np.ndarray:
    """(epochs, n, 3) moves of the training images, see `replication.data.augmentation.draws`.

    Before a frozen body images are mirrored and not shifted: it has two views of each, and their features can be kept.
    """
    pixels = split.train.images.shape[-1]
    moves = draws(run.seed, len(split.train.labels), pixels, epochs)
    if run.trained == "head":
        moves[..., 1:] = reach(pixels)
    return moves


def inputs(
    run: Run,
    split: Split,
    dtype: torch.dtype,
    device: torch.device,
    epochs: int,
    layout: torch.memory_format = torch.channels_last,
) -> Callable:
    """A function from an epoch and image numbers (B,) to the training images (B, C, H, W) of one update."""
    if not split.augment:
        x = scaled(split.train.images, dtype, device, layout)
        return lambda epoch, numbers: x[numbers]
    augmented = Augmented(split.train.images)
    moves = moves_of(run, split, epochs)

    def moved(epoch: int, numbers: torch.Tensor) -> torch.Tensor:
        which = numbers.cpu().numpy()
        return scaled(augmented(which, moves[epoch][which]), dtype, device, layout)

    return moved


def final_norm(model: nn.Module) -> nn.Module | None:
    """The norm behind the last linear layer, or nothing where there is none."""
    name, last = list(model.head.named_children())[-1]
    return last if name == "final_norm" else None


def refuse(run: Run) -> None:
    """ValueError for factors that do not go together, and for what only heads on frozen bodies are trained with."""
    check(run)
    if run.shift_rate != 1:
        raise ValueError(
            f"shift_rate = {run.shift_rate!r} is for frozen bodies only (NAME:INIT:head): 1.0 is needed here"
        )
    if run.schedule == FINE_TUNE and run.optimizer != "adam":
        raise ValueError(f"schedule {FINE_TUNE!r} brings its own optimizer: found {run.optimizer!r}, 'adam' is needed")
    if run.schedule == FINE_TUNE and (run.updates or run.trained != "all"):
        raise ValueError(
            f"schedule {FINE_TUNE!r} trains all layers over whole epochs: found trained = {run.trained!r} and "
            f"updates = {run.updates}, 'all' and 0 are needed"
        )


def minority_f1(logits: torch.Tensor, labels: torch.Tensor, minorities: tuple[int, ...]) -> float:
    """Unweighted mean of the minority classes' F1 of argmax predictions; the early stop's criterion."""
    predicted = logits.argmax(1)
    scores = [
        2 * ((predicted == c) & (labels == c)).sum() / max(((predicted == c).sum() + (labels == c).sum()), 1)
        for c in minorities
    ]
    return float(sum(scores) / len(scores))


def train(run: Run, split: Split, device: str = "cpu") -> Outcome:
    """Train one run and read it. ValueError in one sentence for every factor that is unknown or does not fit."""
    start = time.perf_counter()
    check_known("precision", run.precision, PRECISIONS)
    refuse(run)
    dtype, where = PRECISIONS[run.precision], torch.device(device)
    settle(where, run.precision)
    layout = memory_format(where, run.precision)
    plan = batches(run, split.train.labels)
    model = build(run, *split.train.images.shape[1:3], split.n_classes)
    model = model.to(where, dtype, memory_format=layout)
    loss_function = loss_of(run, torch.from_numpy(split.train_counts).to(where, dtype))

    images, y = inputs(run, split, dtype, where, len(plan), layout), torch.from_numpy(split.train.labels).to(where)
    held = torch.cat([scaled(part.images, dtype, where, layout) for part in (split.validation, split.test)])
    n_validation = len(split.validation.labels)
    validation_labels = torch.from_numpy(split.validation.labels).to(where)

    update = updates_of(model, run, sum(map(len, plan)), layout)
    autocast = torch.autocast(where.type, torch.bfloat16, enabled=run.precision == "bfloat16", cache_enabled=False)
    history, updates, reached, diverged = [], 0, 0, False
    for number, epoch in enumerate(plan):
        model.train()
        total = torch.zeros((), dtype=dtype, device=where)
        for batch in torch.from_numpy(epoch).to(where):
            with autocast:
                logits = model(images(number, batch))
            loss = loss_function(logits.to(dtype), y[batch])
            loss.backward()
            update()
            total += loss.detach()
        updates += len(epoch)
        model.eval()
        with torch.no_grad(), autocast:
            logits = in_parts(model, held).to(dtype)
        history.append(logits.cpu().numpy())
        diverged = not bool(torch.isfinite(total) & torch.isfinite(logits).all())
        if diverged:
            break
        if run.stop_f1:
            seen = torch.from_numpy(as_softmax(history[-1][:n_validation], run.output)).to(where)
            reached = reached + 1 if minority_f1(seen, validation_labels, split.minorities) >= run.stop_f1 else 0
            if reached == 2:
                break

    x = scaled(split.train.images, dtype, where, layout)  # readouts see the training images as they are
    with torch.no_grad(), autocast:
        read = {name: logits.to(dtype).cpu().numpy() for name, logits in readouts(model, held, n_validation, x, y)}
    seconds, norm = time.perf_counter() - start, final_norm(model)
    return outcome(run, n_validation, np.stack(history), read, diverged, updates, seconds, norm)
