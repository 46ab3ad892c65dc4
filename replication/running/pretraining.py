"""Pretraining: a body learns to tell many classes apart, and its weights are kept as a checkpoint for `Run.init`."""

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from replication.data.augmentation import Augmented, draws
from replication.data.loading import load
from replication.files import check_output, replaced
from replication.limits import SIDES, check_known, check_within
from replication.results.provenance import record
from replication.run import Run, entropy
from replication.training.heads import build
from replication.training.loop import scaled

PRECISIONS = ("float32", "bfloat16")
"""those of `training.loop` that a body is pretrained in"""
DEFAULT_PIXELS = 64
"""what is asked for where nothing is: images that have one size only are then taken as they are"""
LIMITS = {"pixels": SIDES, "epochs": (1, 10_000), "batch_size": (2, 65_536), "seed": (0, 2**32 - 1)}
"""least and most that may be asked for"""


def pooled(
    sources: Sequence[str], without: Sequence[str], pixels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Images (N, C, P, P), labels (N,), groups (N,) and class names, `source/class`, of several data sets together.

    Classes whose name begins with one of `without` are left out. ValueError where such a beginning fits no class (what
    was meant to be left out would be learned), for fewer than two classes, and for images of different shapes.
    """
    found = [load(name, pixels) for name in sources]
    everything = [c for source in found for c in source.classes]
    for prefix in without:
        if not any(c.startswith(prefix) for c in everything):
            raise ValueError(f"no class begins with {prefix!r}: there are {', '.join(everything)}")
    shapes = {source.name: source.images.shape[1:] for source in found}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{shape} in {name!r}" for name, shape in shapes.items())
        raise ValueError(f"images of one shape are needed: found {told}")
    images, labels, groups, names, n_groups = [], [], [], [], 0
    for source in found:
        kept = [label for label, c in enumerate(source.classes) if not c.startswith(tuple(without))]
        numbers = np.flatnonzero(np.isin(source.labels, kept))
        images.append(source.images[numbers])
        labels.append(len(names) + np.searchsorted(kept, source.labels[numbers]))
        groups.append(n_groups + source.groups[numbers])
        n_groups += source.groups.max() + 1
        names += [f"{source.name}/{source.classes[label]}" for label in kept]
    if len(names) < 2:
        raise ValueError(f"pretraining needs at least two classes: found {', '.join(names) or 'none'}")
    return np.concatenate(images), np.concatenate(labels), np.concatenate(groups), names


def tenth(groups: np.ndarray, seed: int) -> np.ndarray:
    """Which images (N,) are held out: whole groups in random order, up to a tenth of all images, at least one group."""
    _, which, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(entropy(seed, "pretraining, held out")).permutation(len(sizes))
    n = max(1, np.searchsorted(sizes[order].cumsum(), len(groups) / 10, side="right"))
    return np.isin(which, order[:n])


def accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray, autocast, device: torch.device) -> float:
    """Share of images (N, C, P, P) whose largest logit is that of their label."""
    model.eval()
    right = 0
    with torch.no_grad(), autocast:
        for i in range(0, len(labels), 512):
            logits = model(scaled(images[i : i + 512], torch.float32, device))
            right += int((logits.argmax(1).cpu() == torch.from_numpy(labels[i : i + 512])).sum())
    return right / len(labels)


def save(out: Path, network: str, body: nn.Module, provenance: dict) -> None:
    """Write a checkpoint: it is there whole or not at all. ValueError where no file can be."""
    check_output(out)
    state = {key: value.detach().cpu().contiguous().clone() for key, value in body.state_dict().items()}
    with replaced(out) as temporary, temporary.open("xb") as file:  # no path: torch would write its name into the file
        torch.save({"network": network, "body": state, "provenance": provenance}, file)


def pretrain(
    network: str,
    sources: Iterable[str],
    without: Iterable[str],
    pixels: int,
    epochs: int,
    out: Path,
    device: str = "cpu",
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    precision: str = "float32",
    seed: int = 0,
) -> dict:
    """Train a body and a linear head on all classes of `sources` but those left out, see `pooled`; write the body.

    AdamW (weight decay 0.01) with one cycle, flips and shifts as everywhere, cross-entropy, a tenth of the images held
    out. Everything random follows from (seed, purpose). Returns the provenance that the checkpoint carries. ValueError
    in one sentence for data that does not fit, numbers that are not allowed and a training that diverges.
    """
    sources, without, out, where = list(sources), list(without), Path(out), torch.device(device)
    if not sources:
        raise ValueError("no data set to pretrain on: at least one is needed, such as plantvillage or cifar10")
    for name, value in {"pixels": pixels, "epochs": epochs, "batch_size": batch_size, "seed": seed}.items():
        check_within(*LIMITS[name], **{name: value})
    if not 0 < learning_rate < np.inf:
        raise ValueError(f"learning rate {learning_rate:g} is not allowed: above 0")
    check_known("precision", precision, PRECISIONS)
    check_output(out)  # not after hours
    out.parent.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    images, labels, groups, classes = pooled(sources, without, pixels)
    if pixels != (side := images.shape[-1]) and pixels != DEFAULT_PIXELS:
        raise ValueError(
            f"pixels = {pixels} is not allowed: images of {', '.join(sources)} have {side} pixels and no other size"
        )
    held = tenth(groups, seed)
    train, validation = np.flatnonzero(~held), np.flatnonzero(held)
    batch_size = min(batch_size, len(train))
    updates = len(train) // batch_size
    model = build(Run(network=network, seed=seed), *images.shape[1:3], len(classes))
    model = model.to(where, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], learning_rate, fused=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * updates + 1)
    autocast = torch.autocast(where.type, torch.bfloat16, enabled=precision == "bfloat16")
    order = np.random.default_rng(entropy(seed, "pretraining, order"))
    moves = draws(seed, len(images), images.shape[-1], epochs)

    every = 0.5 if sys.stderr.isatty() else 30
    with tqdm(total=epochs * updates * batch_size, unit="image", desc=network, mininterval=every) as bar:
        for epoch in range(epochs):
            model.train()
            total = torch.zeros((), device=where)
            for batch in order.permutation(train)[: updates * batch_size].reshape(updates, batch_size):
                moved = Augmented(images[batch])(np.arange(batch_size), moves[epoch, batch])
                with autocast:
                    logits = model(scaled(moved, torch.float32, where))
                loss = nn.functional.cross_entropy(logits.float(), torch.from_numpy(labels[batch]).to(where))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                cycle.step()
                total += loss.detach()
                bar.update(batch_size)
            if not total.isfinite():
                raise ValueError(
                    f"pretraining diverged in epoch {epoch + 1}: learning rates below {learning_rate:g} are allowed"
                )
            found = accuracy(model, images[validation], labels[validation], autocast, where)
            bar.set_postfix(loss=f"{float(total) / updates:.3f}", validation=f"{found:.3f}")

    provenance = record(device) | {
        "network": network,
        "sources": {name: load(name, pixels).digest for name in sources},
        "without": without,
        "classes": classes,
        "images": [len(train), len(validation)],
        "pixels": pixels,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "precision": precision,
        "seed": seed,
        "validation_accuracy": found,
        "seconds": round(time.perf_counter() - start, 1),
    }
    save(out, network, model.body, provenance)
    return provenance
