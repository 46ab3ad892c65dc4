"""Seconds of CPU time of one digits run (1000:10, 10 epochs, batch 64), beside the loops people write, in one process.

Run: python benchmarks/digits_run.py [--rounds 7] [--json FILE]. Variants take turns; quote the ratios.
Same network, images, batches, updates, schedule and per-epoch evaluation everywhere; one thread.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from replication.data.splits import Split, split
from replication.evidence.provenance import record
from replication.runs import Run
from replication.training.heads import build
from replication.training.loop import scaled, train

RUN = Run(final_norm="bn", learning_rate=1e-2, seed=0)


def _parts(parts: Split):
    held = torch.cat([scaled(p.images, torch.float32, torch.device("cpu")) for p in (parts.validation, parts.test)])
    x = scaled(parts.train.images, torch.float32, torch.device("cpu")).contiguous()
    return x, torch.from_numpy(parts.train.labels), held.contiguous()


def _loop(batches, steps: int, held: torch.Tensor, model: nn.Module) -> None:
    """Adam and OneCycleLR as their documentation has it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RUN.learning_rate)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RUN.learning_rate, total_steps=steps + 1)
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
    """A DataLoader over a TensorDataset."""
    x, y, held = _parts(parts)
    loader = DataLoader(TensorDataset(x, y), RUN.batch_size, shuffle=True, drop_last=True)
    _loop(lambda: loader, len(loader) * RUN.epochs, held, build(RUN, 1, 8, 2))


def in_memory(parts: Split) -> None:
    """A permutation of tensors in memory."""
    x, y, held = _parts(parts)
    steps = len(x) // RUN.batch_size

    def batches():
        for batch in torch.randperm(len(x))[: steps * RUN.batch_size].view(steps, -1):
            yield x[batch], y[batch]

    _loop(batches, steps * RUN.epochs, held, build(RUN, 1, 8, 2))


def ours(parts: Split) -> None:
    """`replication.training.loop.train`, its five readouts included."""
    train(RUN, parts)


def main() -> None:
    """Take turns, print medians and ratios to ours."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--json", help="write the measurements here")
    a = arguments.parse_args()
    torch.set_num_threads(1)
    parts = split(RUN)
    variants = (dataloader, in_memory, ours)
    seconds: dict[str, list[float]] = {f.__name__: [] for f in variants}
    for round_ in range(a.rounds + 1):
        for f in variants:
            start = time.process_time()
            f(parts)
            if round_:  # the first warms up
                seconds[f.__name__].append(time.process_time() - start)
    for name, values in seconds.items():
        ratios = [v / o for v, o in zip(values, seconds["ours"])]
        print(f"{name:<12} median {statistics.median(values):.3f} s, {statistics.median(ratios):.2f} x ours "
              f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip
    if a.json:
        with open(a.json, "w") as file:
            json.dump({"seconds": seconds, "provenance": record("cpu")}, file, indent=1)


if __name__ == "__main__":
    main()
