"""What is timed: runs of the base cell, tiny, small and with the papers' networks."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from replication.data.splits import Split
from replication.runs import Run
from replication.training.heads import build


Finished = Callable[[int], None]
"""what a peer calls when so many more runs are finished"""


@dataclass(frozen=True)
class Workload:
    """A run of the base cell; on a CPU only the first epochs of it are timed where it takes long."""

    name: str
    run: Run
    cpu_epochs: int = 10
    """epochs timed on a CPU; the time of a whole run is extrapolated from them"""

    def runs(self, n: int, device: str, precision: str = "float32") -> list[Run]:
        """The first n seeds, as they are timed on a device."""
        epochs = self.run.epochs if device == "cuda" else min(self.cpu_epochs, self.run.epochs)
        run = dataclasses.replace(self.run, epochs=epochs, precision=precision)
        return [dataclasses.replace(run, seed=seed) for seed in range(n)]


def _run(setting: str, network: str = "simple_cnn") -> Run:
    return Run(setting=setting, network=network, final_norm="bn", learning_rate=3e-3)


WORKLOADS = {
    w.name: w
    for w in (
        Workload("digits", _run("digits")),
        Workload("apple32", _run("plantvillage/apple")),
        Workload("apple64", _run("plantvillage/apple@64"), cpu_epochs=5),
        Workload("resnet34", _run("plantvillage/apple@128", "resnet34"), cpu_epochs=1),
        Workload("vgg19_bn", _run("plantvillage/apple@128", "vgg19_bn"), cpu_epochs=1),
    )
}


def forward_flops(run: Run, split: Split) -> int:
    """Operations of one image's forward pass, a multiplication and an addition being two; counted by torch."""
    channels, pixels = split.train.images.shape[1:3]
    with torch.device("meta"):
        model = build(run, channels, pixels, split.n_classes).eval()
        images = torch.empty(1, channels, pixels, pixels)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(images)
    return counted.get_total_flops()


def operations(run: Run, split: Split) -> dict[str, int]:
    """Operations of an `epoch` (three forward passes a training image, one a held-out image) and of the `readouts`.

    The readouts, one forward pass of all held-out and training images at the end, are made by this package alone.
    """
    forward = forward_flops(run, split)
    n, held = len(split.train.labels), len(split.validation.labels) + len(split.test.labels)
    epoch = forward * (3 * (n // run.batch_size * run.batch_size) + held)
    return {"forward": forward, "epoch": epoch, "readouts": forward * (held + n)}
