"""What is timed: runs of the base cell, tiny, small and with the papers' networks."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from replication.run import Run

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
        # what all layers cost from ImageNet's weights; initial values are drawn, which takes no weights file and no other time
        Workload("resnet_cntk", _run("plantvillage/tomato@128", "resnet_cntk"), cpu_epochs=1),
    )
}
