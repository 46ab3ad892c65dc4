"""What follows the body: pooling, the last linear layer and the final norm, the layer under study."""

from collections import OrderedDict
from functools import partial

import numpy as np
import torch
from torch import nn

from replication.data.settings import setting
from replication.limits import check_known
from replication.run import Run, entropy
from replication.study.networks import TRAINED
from replication.training.bodies import Frozen, body


def _parts(x: torch.Tensor, part: int) -> torch.Tensor:
    """(N, C) -> (parts, images a part, C); one part of all images where `part` is 0."""
    return x.unflatten(0, (-1, part or len(x)))


class GhostBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d whose batch statistics are those of parts of a batch, `part` images each, (N, C) -> (N, C).

    Running statistics move by the mean over the parts (Hoffer et al. 2017, arXiv:1705.08741, move them part by part).
    """

    def __init__(self, features: int, part: int, **options):
        super().__init__(features, **options)
        self.part = part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C) -> (N, C)."""
        if not self.training:
            return super().forward(x)
        parts = _parts(x, self.part)
        mean, variance = parts.mean(1), parts.var(1, unbiased=False)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.mean(0).to(self.running_mean), self.momentum)
            unbiased = variance.mean(0) * (self.part / (self.part - 1))
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        y = ((parts - mean[:, None]) * torch.rsqrt(variance[:, None] + self.eps)).flatten(0, 1)
        return y * self.weight + self.bias if self.affine else y


class Centred(nn.Module):
    """`x - mean`, (N, C) -> (N, C), over a batch or over parts of it, `part` images each.

    As for BatchNorm1d the mean is the batch's in training and a running one (momentum 0.1) in evaluation.
    """

    def __init__(self, features: int, part: int = 0):
        super().__init__()
        self.part = part
        self.register_buffer("running_mean", torch.zeros(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C) -> (N, C)."""
        if not self.training:
            return x - self.running_mean
        if not self.part:
            mean = x.mean(0)
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean), 0.1)
            return x - mean
        parts = _parts(x, self.part)
        mean = parts.mean(1)
        with torch.no_grad():
            self.running_mean.lerp_(mean.mean(0).to(self.running_mean), 0.1)
        return (parts - mean[:, None]).flatten(0, 1)


class MeanOnly(Centred):
    """BatchNorm without the division: `x - mean + bias`, (N, C) -> (N, C)."""

    def __init__(self, features: int, part: int = 0):
        super().__init__(features, part)
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C) -> (N, C)."""
        return super().forward(x) + self.bias


class Affine(nn.Module):
    """BatchNorm's trained scale and shift alone: `weight * x + bias`, (N, C) -> (N, C)."""

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C) -> (N, C)."""
        return self.weight * x + self.bias


def _batch_norm(features: int, run: Run, **options) -> nn.BatchNorm1d:
    if run.ghost_batch:
        return GhostBatchNorm(features, run.ghost_batch, **options)
    return nn.BatchNorm1d(features, **options)


def _fixed_shift(features: int, run: Run) -> nn.BatchNorm1d:
    """The minority's shift is half of `Run.shift`, the majority's minus that; one logit, the minority's, has all of it."""
    norm, majorities = _batch_norm(features, run), setting(run.setting).majorities
    with torch.no_grad():
        norm.bias.fill_(run.shift / 2 if features > 1 else run.shift)
        if features > 1:
            norm.bias[:majorities] *= -1
    norm.bias.requires_grad_(False)
    return norm


def _log_prior_scale(features: int, run: Run) -> nn.BatchNorm1d:
    """The scale is the log of how many times as many training images a majority class has as a minority class."""
    if run.n_majority <= run.n_minority:
        raise ValueError(
            f"final norm 'bn_log_prior_scale' needs n_majority above n_minority: found {run.n_majority} and "
            f"{run.n_minority}"
        )
    norm = _batch_norm(features, run)
    nn.init.constant_(norm.weight, np.log(run.n_majority / run.n_minority))
    norm.weight.requires_grad_(False)
    return norm


FINAL_NORMS = {
    "none": None,
    "bn": _batch_norm,  # momentum 0.1, the primary form
    "bn_slow": lambda features, run: _batch_norm(features, run, momentum=0.01),  # fastai's momentum
    "bn_before": _batch_norm,  # between the features and the last linear layer
    "bn_no_affine": lambda features, run: _batch_norm(features, run, affine=False),
    "affine": lambda features, run: Affine(features),
    "mean_only": lambda features, run: MeanOnly(features, run.ghost_batch),
    "layer_norm": lambda features, run: nn.LayerNorm(features),
    "bn_fixed_shift": _fixed_shift,
    "bn_log_prior_scale": _log_prior_scale,
    "centred": lambda features, run: Centred(features, run.ghost_batch),  # of the features, before the linear layer
}
"""name -> function from a number of features and a run to the module"""
BEFORE = ("bn_before", "centred")
"""norms of the features, before the last linear layer"""
CENTRING = ("bn", "bn_slow", "bn_no_affine", "mean_only", "bn_fixed_shift", "bn_log_prior_scale")
"""norms that subtract a batch mean from the logits, and so cancel the linear layer's bias"""
SHIFTED = ("bn", "bn_slow", "affine", "mean_only", "layer_norm", "bn_log_prior_scale")
"""norms after the last linear layer whose shift is trained"""


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


def _fastai(
    features: int, outputs: int, seed: int, *, dropout: bool = True, kaiming_normal: bool = True
) -> tuple[nn.Sequential, nn.Linear]:
    """What fastai's `create_head` builds by default: two linear layers without bias behind BatchNorm and dropout.

    Initial values as fastai 2.8 gives them: Kaiming normal weights (`add_head` in its vision/learner.py) and biases
    of 0.001 in these norms (`_get_norm` in its layers.py). Without `dropout`, or with PyTorch's own initial weights
    instead of `kaiming_normal` ones, it shows what these do.
    """
    rates = (0.25, 0.5) if dropout else (0.0, 0.0)

    def kaiming(inputs: int, outputs: int) -> nn.Linear:  # one layer after the other: the first draws alike in all arms
        layer = nn.Linear(inputs, outputs, bias=False)
        if kaiming_normal:
            nn.init.kaiming_normal_(layer.weight)
        return layer

    hidden, linear = kaiming(2 * features, 512), kaiming(512, outputs)
    norms = nn.BatchNorm1d(2 * features), nn.BatchNorm1d(512)
    for norm in norms:
        nn.init.constant_(norm.bias, 1e-3)
    pool = nn.Sequential(
        MaxAvgPool(),
        norms[0],
        Dropout(rates[0], seed, 0),
        hidden,
        nn.ReLU(inplace=True),
        norms[1],
        Dropout(rates[1], seed, 1),
    )
    return pool, linear


HEADS = {
    "linear": _linear,
    "fastai": _fastai,
    "fastai_no_dropout": partial(_fastai, dropout=False),
    "fastai_torch_init": partial(_fastai, kaiming_normal=False),
}


def head(name: str, final_norm: str, features: int, outputs: int, seed: int = 0, run: Run = Run()) -> nn.Sequential:
    """Feature maps (N, F, h, w) -> logits: modules `pool`, `linear` and, unless `none`, `final_norm`.

    `pool` is all that comes before the last linear layer, and dropout's masks there follow from `seed`. The bias of
    `linear`, if it has one, is left at its initial value where the final norm cancels it: its gradient is zero but for
    rounding noise, which Adam would blow up to steps of full size. `run` tells of what a norm has of its own: class
    sizes, `shift`, `ghost_batch`. ValueError for unknown names and for numbers that do not fit.
    """
    check_known("head", name, HEADS)
    check_known("final norm", final_norm, FINAL_NORMS)
    _check_ghost(final_norm, run)
    pool, linear = HEADS[name](features, outputs, seed)
    if linear.bias is not None:
        linear.bias.requires_grad_(final_norm not in CENTRING)
    layers = OrderedDict(pool=pool, linear=linear)
    if final_norm != "none":
        width = linear.in_features if final_norm in BEFORE else outputs
        layers["final_norm"] = FINAL_NORMS[final_norm](width, run)
    if final_norm in BEFORE:
        layers.move_to_end("linear")
    return nn.Sequential(layers)


def _check_ghost(final_norm: str, run: Run) -> None:
    part = run.ghost_batch
    if not part:
        return
    if final_norm not in CENTRING + BEFORE:
        raise ValueError(f"ghost_batch = {part} needs a final norm with batch statistics: found {final_norm!r}")
    if part < 2 or run.batch_size % part:
        raise ValueError(
            f"ghost_batch = {part} does not divide a batch of {run.batch_size}: allowed are its divisors from 2"
        )


def head_of(run: Run, features: int, n_classes: int) -> nn.Sequential:
    """The head of a run with its initial weights, on a body of that many features: see `head`.

    ValueError for unknown parts, and for one sigmoid logit over more than two classes.
    """
    if run.output == "sigmoid" and n_classes != 2:
        raise ValueError(f"output 'sigmoid' has one logit for two classes: found {n_classes} classes, use 'sigmoids'")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(2 * run.seed + 1)  # the CPU's alone: torch.manual_seed takes milliseconds
        return head(run.head, run.final_norm, features, 1 if run.output == "sigmoid" else n_classes, run.seed, run)


def build(run: Run, channels: int, pixels: int, n_classes: int) -> nn.Sequential:
    """The network of a run: modules `body` and `head`, images (N, C, H, W) -> logits (N, outputs).

    Body and head draw their initial weights from separate streams of the seed, so that every layer two arms share
    starts from the same weights. Where only the head is trained the body is `Frozen`. ValueError for unknown parts, for
    initial weights that are not there or do not fit, for one sigmoid logit over more than two classes, and for a shift
    with a rate of its own, which the heads of `replication.training.engines.heads` alone can have.
    """
    check_known("trained", run.trained, TRAINED)
    if run.shift_rate != 1:
        raise ValueError(
            f"shift_rate = {run.shift_rate:g} needs trained = 'head', and not the plain loop, which has one rate for all"
        )
    if run.output == "sigmoid" and n_classes != 2:  # before any weights are looked for
        raise ValueError(f"output 'sigmoid' has one logit for two classes: found {n_classes} classes, use 'sigmoids'")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2 * run.seed)
        features_of, features = body(run.network, channels, pixels, run.init, run.input_side)
    if run.trained == "head":
        features_of = Frozen(features_of)
    return nn.Sequential(OrderedDict(body=features_of, head=head_of(run, features, n_classes)))
