"""How many operations a run takes, a multiplication and an addition being two; counted by torch."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from replication.data.splits import Split
from replication.run import Run
from replication.training.heads import build


def forward_flops(run: Run, split: Split) -> int:
    """Operations of one image's forward pass."""
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
