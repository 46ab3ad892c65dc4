"""What follows the body: pooling, the last linear layer and the final norm, the layer under study."""

from collections import OrderedDict

import torch
from torch import nn

from replication.training.networks import body


class MeanOnly(nn.Module):
    """BatchNorm without the division: `x - mean + bias`, (N, C) -> (N, C).

    As for BatchNorm1d the mean is the batch's in training and a running one (momentum 0.1) in evaluation.
    """

    def __init__(self, features: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C) -> (N, C)."""
        mean = self.running_mean
        if self.training:
            mean = x.mean(0)
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean), 0.1)
        return x - mean + self.bias


class Affine(nn.Module):
    """BatchNorm's trained scale and shift alone: `weight * x + bias`, (N, C) -> (N, C)."""

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C) -> (N, C)."""
        return self.weight * x + self.bias


FINAL_NORMS = {
    "none": None,
    "bn": nn.BatchNorm1d,  # momentum 0.1, the primary form
    "bn_slow": lambda features: nn.BatchNorm1d(features, momentum=0.01),  # fastai's momentum
    "bn_before": nn.BatchNorm1d,  # between the features and the last linear layer
    "bn_no_affine": lambda features: nn.BatchNorm1d(features, affine=False),
    "affine": Affine,
    "mean_only": MeanOnly,
    "layer_norm": nn.LayerNorm,
}
CENTRING = ("bn", "bn_slow", "bn_no_affine", "mean_only")
"""norms that subtract a batch mean from the logits, and so cancel the linear layer's bias"""


def head(name: str, final_norm: str, features: int, outputs: int) -> nn.Sequential:
    """Pooled features -> logits: modules `pool`, `linear` and, unless `none`, `final_norm`.

    The bias of `linear` is left at its initial value where the final norm cancels it: its gradient is zero but for
    rounding noise, which Adam would blow up to steps of full size.
    """
    if name != "linear":
        raise ValueError(f"unknown head {name!r}: allowed are linear")
    if final_norm not in FINAL_NORMS:
        raise ValueError(f"unknown final norm {final_norm!r}: allowed are {', '.join(FINAL_NORMS)}")
    linear = nn.Linear(features, outputs)
    linear.bias.requires_grad_(final_norm not in CENTRING)
    layers = OrderedDict(pool=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), linear=linear)
    if final_norm != "none":
        layers["final_norm"] = FINAL_NORMS[final_norm](features if final_norm == "bn_before" else outputs)
    if final_norm == "bn_before":
        layers.move_to_end("linear")
    return nn.Sequential(layers)


def build(run, channels: int, pixels: int, n_classes: int) -> nn.Sequential:
    """The network of a run: modules `body` and `head`, images (N, C, H, W) -> logits (N, outputs).

    Body and head draw their initial weights from separate streams of the seed, so that every layer two arms share
    starts from the same weights. ValueError for unknown parts and for one sigmoid logit over more than two classes.
    """
    if run.output == "sigmoid" and n_classes != 2:
        raise ValueError(f"output 'sigmoid' has one logit for two classes: found {n_classes} classes, use 'sigmoids'")
    if run.init != "random":
        raise ValueError(f"unknown init {run.init!r}: allowed are random")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2 * run.seed)
        features_of, features = body(run.network, channels, pixels)
        torch.manual_seed(2 * run.seed + 1)
        logits_of = head(run.head, run.final_norm, features, 1 if run.output == "sigmoid" else n_classes)
    return nn.Sequential(OrderedDict(body=features_of, head=logits_of))
