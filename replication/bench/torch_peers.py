"""Loops as PyTorch's own documentation has them: over a DataLoader, over tensors in memory, compiled, in N processes."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from replication.bench.workloads import Finished
from replication.data.augmentation import reach
from replication.data.splits import Split, split
from replication.run import Run
from replication.running.processes import cores
from replication.training.heads import build

Batches = Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]


class Images(Dataset):
    """Images (N, C, P, P) and labels one by one; training images flipped and shifted by torchvision's transforms."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, augment: bool):
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)
        pixels, channels = images.shape[-1], images.shape[1]
        moves = [v2.RandomHorizontalFlip(), v2.RandomCrop(pixels, reach(pixels), padding_mode="reflect")]
        self.transform = v2.Compose(
            [
                *(moves if augment else []),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5] * channels, [0.5] * channels),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.transform(self.images[i]), self.labels[i]


def train_set(parts: Split) -> Images:
    """The training images."""
    return Images(parts.train.images, parts.train.labels, parts.augment)


def held_set(parts: Split) -> Images:
    """Validation and test images."""
    images, labels = (
        np.concatenate([getattr(part, kind) for part in (parts.validation, parts.test)])
        for kind in ("images", "labels")
    )
    return Images(images, labels, augment=False)


def network(run: Run, parts: Split, device: str) -> nn.Module:
    """The network of a run where it is trained."""
    return build(run, *parts.train.images.shape[1:3], parts.n_classes).to(device)


def fit(model: nn.Module, run: Run, updates: int, train: Batches, test: Batches, device: str) -> nn.Module:
    """Adam, OneCycleLR, cross-entropy; a test after every epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=run.learning_rate)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, run.learning_rate, total_steps=updates * run.epochs + 1)
    autocast = torch.autocast(device, torch.bfloat16, enabled=run.precision == "bfloat16")
    for _ in range(run.epochs):
        model.train()
        for images, labels in train():
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            optimizer.zero_grad()
            with autocast:
                loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
        model.eval()
        with torch.no_grad(), autocast:
            # a copy each: a compiled network on a GPU overwrites its last output
            torch.cat([model(images.to(device)).clone() for images, _ in test()]).cpu()
    return model


def dataloader(runs: Sequence[Run], device: str, finished: Finished, workers: int = 2) -> None:
    """A DataLoader over a data set, with two workers that stay."""
    for run in runs:
        parts = split(run)
        options = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": device == "cuda"}
        train = DataLoader(train_set(parts), run.batch_size, shuffle=True, drop_last=True, **options)
        test = DataLoader(held_set(parts), run.batch_size, **options)
        fit(network(run, parts, device), run, len(train), lambda train=train: train, lambda test=test: test, device)
        finished(1)


def _one_process(run: Run, device: str) -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # as in the process that asks, see replication.bench.measure
    dataloader([run], device, lambda _: None, workers=0)


def dataloader_processes(runs: Sequence[Run], device: str, finished: Finished) -> None:
    """The same loop in as many processes as there are cores, one thread each."""
    with multiprocessing.get_context("spawn").Pool(cores()) as pool:
        for _ in pool.imap_unordered(_Job(device), runs):
            finished(1)


class _Job:
    """A run on a device, as processes can be sent it."""

    def __init__(self, device: str):
        self.device = device

    def __call__(self, run: Run) -> None:
        _one_process(run, self.device)


def _in_memory(parts: Split, run: Run, device: str) -> tuple[Batches, Batches]:
    """All images on the device as floats; a batch is an index. Flips and shifts are the images' own here too."""
    everything = [
        (
            Images(part.images, part.labels, False).transform(torch.from_numpy(part.images)).to(device),
            torch.from_numpy(part.labels).to(device),
        )
        for part in (parts.train, parts.validation, parts.test)
    ]
    (x, y), *held = everything
    pixels, r = x.shape[-1], reach(x.shape[-1])
    padded = nn.functional.pad(x, (r, r, r, r), mode="reflect") if parts.augment and r else x
    windows = padded.unfold(2, pixels, 1).unfold(3, pixels, 1)  # (N, C, 2r + 1, 2r + 1, P, P)

    def train() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(x), device=device)
        for batch in order[: len(x) // run.batch_size * run.batch_size].view(-1, run.batch_size):
            if not parts.augment:
                yield x[batch], y[batch]
                continue
            rows, columns = torch.randint(windows.shape[2], (2, len(batch)), device=device)
            images = windows[batch, :, rows, columns]
            flipped = torch.rand(len(batch), device=device) < 0.5
            yield torch.where(flipped[:, None, None, None], images.flip(3), images), y[batch]

    def test() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for part in held:
            yield from zip(*(tensor.split(run.batch_size) for tensor in part))

    return train, test


def in_memory(runs: Sequence[Run], device: str, finished: Finished, compiled: bool = False) -> None:
    """Tensors that lie on the device."""
    for run in runs:
        parts = split(run)
        model = network(run, parts, device)
        if compiled:
            model = torch.compile(model, mode="reduce-overhead" if device == "cuda" else "default")
        train, test = _in_memory(parts, run, device)
        fit(model, run, len(parts.train.labels) // run.batch_size, train, test, device)
        finished(1)


def compiled(runs: Sequence[Run], device: str, finished: Finished) -> None:
    """The same with a compiled network."""
    in_memory(runs, device, finished, compiled=True)
