"""What follows the body: pooling, the last linear layer and the final norm, the layer under study."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from replication.run import entropy
from replication.training.bodies import Frozen, body


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


class Dropout(nn.Dropout):
    """nn.Dropout whose masks are a run's own draws, from (seed, "dropout") and the layer's number.

    torch's generator is shared by all that a process trains: a run's masks would depend on who trains beside it.
    Masks are the same at every precision, but a CPU's differ from a GPU's.
    """

    def __init__(self, p: float, seed: int, number: int):
        super().__init__(p)
        material = np.random.SeedSequence([*entropy(seed, "dropout"), number])
        self.seed = int(material.generate_state(1, np.uint64)[0] >> 1)  # torch takes signed ones
        self.generator: torch.Generator | None = None

    def start(self, device: torch.device) -> torch.Generator:
        """Begin the masks anew, on that device, and return the generator that they come from."""
        self.generator = torch.Generator(device).manual_seed(self.seed)
        return self.generator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, F) -> (N, F): in training each value is 0 with probability p, else divided by 1 - p."""
        if not self.training:
            return x
        if self.generator is None or self.generator.device != x.device:
            self.start(x.device)
        kept = torch.rand(x.shape, generator=self.generator, device=x.device) >= self.p
        return x * kept * (1 / (1 - self.p))


class MaxAvgPool(nn.Module):
    """Largest and mean value of every feature map, (N, F, h, w) -> (N, 2F), in fastai's order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, F, h, w) -> (N, 2F)."""
        largest, mean = nn.functional.adaptive_max_pool2d(x, 1), nn.functional.adaptive_avg_pool2d(x, 1)
        return torch.cat([largest, mean], 1).flatten(1)


def _linear(features: int, outputs: int, seed: int) -> tuple[nn.Sequential, nn.Linear]:
    """Average pooling, then one linear layer with bias."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(features, outputs)


def _fastai(features: int, outputs: int, seed: int) -> tuple[nn.Sequential, nn.Linear]:
    """What fastai's `create_head` builds by default: two linear layers without bias behind BatchNorm and dropout.

    Initial values as fastai 2.8 gives them: Kaiming normal weights (`add_head` in its vision/learner.py) and biases
    of 0.001 in these norms (`_get_norm` in its layers.py).
    """

    def kaiming(inputs: int, outputs: int) -> nn.Linear:  # one layer after the other: the first draws alike in all arms
        layer = nn.Linear(inputs, outputs, bias=False)
        nn.init.kaiming_normal_(layer.weight)
        return layer

    hidden, linear = kaiming(2 * features, 512), kaiming(512, outputs)
    norms = nn.BatchNorm1d(2 * features), nn.BatchNorm1d(512)
    for norm in norms:
        nn.init.constant_(norm.bias, 1e-3)
    pool = nn.Sequential(
        MaxAvgPool(), norms[0], Dropout(0.25, seed, 0), hidden, nn.ReLU(inplace=True), norms[1], Dropout(0.5, seed, 1)
    )
    return pool, linear


HEADS = {"linear": _linear, "fastai": _fastai}


def head(name: str, final_norm: str, features: int, outputs: int, seed: int = 0) -> nn.Sequential:
    """Feature maps (N, F, h, w) -> logits: modules `pool`, `linear` and, unless `none`, `final_norm`.

    `pool` is all that comes before the last linear layer, and dropout's masks there follow from `seed`. The bias of
    `linear`, if it has one, is left at its initial value where the final norm cancels it: its gradient is zero but for
    rounding noise, which Adam would blow up to steps of full size. ValueError for unknown names.
    """
    if name not in HEADS:
        raise ValueError(f"unknown head {name!r}: allowed are {', '.join(HEADS)}")
    if final_norm not in FINAL_NORMS:
        raise ValueError(f"unknown final norm {final_norm!r}: allowed are {', '.join(FINAL_NORMS)}")
    pool, linear = HEADS[name](features, outputs, seed)
    if linear.bias is not None:
        linear.bias.requires_grad_(final_norm not in CENTRING)
    layers = OrderedDict(pool=pool, linear=linear)
    if final_norm != "none":
        layers["final_norm"] = FINAL_NORMS[final_norm](linear.in_features if final_norm == "bn_before" else outputs)
    if final_norm == "bn_before":
        layers.move_to_end("linear")
    return nn.Sequential(layers)


def build(run, channels: int, pixels: int, n_classes: int) -> nn.Sequential:
    """The network of a run: modules `body` and `head`, images (N, C, H, W) -> logits (N, outputs).

    Body and head draw their initial weights from separate streams of the seed, so that every layer two arms share
    starts from the same weights. Where only the head is trained the body is `Frozen`. ValueError for unknown parts, for
    initial weights that are not there or do not fit, and for one sigmoid logit over more than two classes.
    """
    if run.trained not in ("all", "head"):
        raise ValueError(f"unknown trained {run.trained!r}: allowed are all, head")
    if run.output == "sigmoid" and n_classes != 2:
        raise ValueError(f"output 'sigmoid' has one logit for two classes: found {n_classes} classes, use 'sigmoids'")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2 * run.seed)
        features_of, features = body(run.network, channels, pixels, run.init, run.input_side)
        torch.manual_seed(2 * run.seed + 1)
        outputs = 1 if run.output == "sigmoid" else n_classes
        logits_of = head(run.head, run.final_norm, features, outputs, run.seed)
    if run.trained == "head":
        features_of = Frozen(features_of)
    return nn.Sequential(OrderedDict(body=features_of, head=logits_of))
