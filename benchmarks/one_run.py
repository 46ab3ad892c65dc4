"""Seconds of CPU time of one run (1000:10, 10 epochs, batch 64), beside the loops people write, in one process.

Run: python benchmarks/one_run.py [--setting plantvillage/apple] [--rounds 7] [--json FILE]. Variants take turns; quote
the ratios. Same network, images, updates, schedule, kind of augmentation and per-epoch evaluation everywhere; one thread.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import v2

from replication.data.augmentation import reach
from replication.data.splits import Split, split
from replication.evidence.provenance import record
from replication.runs import Run
from replication.training.heads import build
from replication.training.loop import scaled, train

RUN = Run(final_norm="bn", learning_rate=3e-3, seed=0)


class Transformed(Dataset):
    """Images one by one through torchvision's transforms, as its tutorials have it."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        pixels = images.shape[-1]
        self.images, self.labels = images, labels
        self.transform = v2.Compose([
            v2.RandomHorizontalFlip(),
            v2.RandomCrop(pixels, padding=reach(pixels), padding_mode="reflect"),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.transform(self.images[i]), self.labels[i]


def _float(images) -> torch.Tensor:
    return scaled(images, torch.float32, torch.device("cpu")).contiguous()


def _loop(batches: Callable, steps: int, parts: Split) -> None:
    """Adam and OneCycleLR as their documentation has it."""
    model = build(RUN, *parts.train.images.shape[1:3], 2)
    held = torch.cat([_float(p.images) for p in (parts.validation, parts.test)])
    optimizer = torch.optim.Adam(model.parameters(), lr=RUN.learning_rate)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RUN.learning_rate, total_steps=steps * RUN.epochs + 1)
    for _ in range(RUN.epochs):
        model.train()
        for images, labels in batches():
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            scheduler.step()
        model.eval()
        with torch.no_grad():
            model(held)


def dataloader(parts: Split) -> None:
    """A DataLoader over a data set: of tensors, or where images are augmented, of transformed images."""
    y = torch.from_numpy(parts.train.labels)
    images = parts.train.images
    data = Transformed(torch.from_numpy(images), y) if parts.augment else TensorDataset(_float(images), y)
    loader = DataLoader(data, RUN.batch_size, shuffle=True, drop_last=True)
    _loop(lambda: loader, len(loader), parts)


def in_memory(parts: Split) -> None:
    """A permutation of tensors in memory, without augmentation."""
    x, y = _float(parts.train.images), torch.from_numpy(parts.train.labels)
    steps = len(x) // RUN.batch_size

    def batches():
        for batch in torch.randperm(len(x))[: steps * RUN.batch_size].view(steps, -1):
            yield x[batch], y[batch]

    _loop(batches, steps, parts)


def ours(parts: Split) -> None:
    """`replication.training.loop.train`, its readouts included."""
    train(RUN, parts)


def ours_bfloat16(parts: Split) -> None:
    """The same under bfloat16 autocast."""
    train(dataclasses.replace(RUN, precision="bfloat16"), parts)


def main() -> None:
    """Take turns, print medians and ratios to ours."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--setting", default="digits")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--json", help="write the measurements here")
    a = arguments.parse_args()
    torch.set_num_threads(1)
    parts = split(dataclasses.replace(RUN, setting=a.setting))
    variants = (dataloader, in_memory, ours, ours_bfloat16)
    seconds: dict[str, list[float]] = {f.__name__: [] for f in variants}
    for round_ in range(a.rounds + 1):
        for f in variants:
            start = time.process_time()
            f(parts)
            if round_:  # the first warms up
                seconds[f.__name__].append(time.process_time() - start)
    for name, values in seconds.items():
        ratios = [v / o for v, o in zip(values, seconds["ours"])]
        print(f"{name:<14} median {statistics.median(values):.3f} s, {statistics.median(ratios):.2f} x ours "
              f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip
    if a.json:
        with open(a.json, "w") as file:
            json.dump({"setting": a.setting, "seconds": seconds, "provenance": record("cpu")}, file, indent=1)


if __name__ == "__main__":
    main()
