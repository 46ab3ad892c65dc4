"""How a trained network is read at test time. All readouts of a run share one training."""

import copy
from collections.abc import Iterator

import torch
from torch import nn

AT_ONCE, LEAST = 2**16, 32
"""pixels, and images, that a network is tested on at a time: so few that feature maps stay in a processor's cache"""


def in_parts(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The outputs (N, ...) of a network in evaluation on images (N, C, H, W), `AT_ONCE` pixels at a time or `LEAST` images."""
    return torch.cat([network(part) for part in images.split(max(LEAST, AT_ONCE // images[0, 0].numel()))])


def folded(linear: nn.Linear, norm: nn.BatchNorm1d) -> nn.Linear:
    """One linear layer that equals `norm(linear(x))` in evaluation, exactly but for rounding.

    With s = weight / sqrt(running variance + eps): W' = s W, b' = s (b - running mean) + bias; b = 0 without one.
    """
    scale = torch.rsqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    merged = nn.Linear(linear.in_features, linear.out_features, device=scale.device, dtype=scale.dtype)
    merged.weight.copy_(scale[:, None] * linear.weight)
    merged.bias.copy_(shift if linear.bias is None else scale * linear.bias + shift)
    return merged


def recalibrated(norm: nn.BatchNorm1d, x: torch.Tensor) -> nn.BatchNorm1d:
    """A copy of `norm` whose running statistics are those of its inputs x (N, C), as one batch would give them."""
    fresh = copy.deepcopy(norm)
    fresh.running_mean.copy_(x.mean(0))
    fresh.running_var.copy_(x.var(0))
    return fresh


def learned(norm: nn.Module | None) -> dict[str, float]:
    """What the final norm has learned: `shift`, the last class's minus the first's, and the `scale` of each.

    Of two classes the first is the majority; one sigmoid logit's shift is its own. Empty without a trained shift or scale.
    """
    facts: dict[str, float] = {}
    if (bias := getattr(norm, "bias", None)) is not None and bias.dim() == 1:
        facts["shift"] = (bias[-1] - bias[0] if len(bias) > 1 else bias[0]).item()
    if (weight := getattr(norm, "weight", None)) is not None and weight.dim() == 1:
        facts |= {"scale_majority": weight[0].item(), "scale_minority": weight[-1].item()}
    return facts


DEVIATIONS = 2.0
"""how far above the mean of the majority's training scores `shifted_by_images` puts the threshold"""


def shifted(logits: torch.Tensor, seen: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logits (..., 2, N) cut where the training images say: two standard deviations above the majority's mean log-odds.

    `seen` (..., 2, n) are the logits of the training images with labels (..., n), 0 for the majority. No image of the
    minority is needed for it. The threshold is taken off the minority's logit.
    """
    odds, majority = seen[..., 1, :] - seen[..., 0, :], (labels == 0).to(seen)
    mean = (odds * majority).sum(-1) / majority.sum(-1)
    variance = ((odds - mean[..., None]) ** 2 * majority).sum(-1) / (majority.sum(-1) - 1)
    cut = mean + DEVIATIONS * variance.sqrt()
    return torch.stack([logits[..., 0, :], logits[..., 1, :] - cut[..., None]], -2)


def readouts(
    model: nn.Sequential, held: torch.Tensor, n_validation: int, train: torch.Tensor, labels: torch.Tensor | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and logits (N, C) of every readout that the network allows, on the held-out images (N, C, H, W).

    `as_trained`; with a final norm `bn_removed`; with a BatchNorm there `bn_recalibrated` (statistics of the
    training images) and `batch_statistics` (those of the validation and of the test set, each as one batch: the only
    readout in which one image's score depends on the others); with a BatchNorm after the linear layer `bn_folded`; where
    its shift is fixed, of two classes and with the training images' `labels` (n,), `shifted_by_images`, see `shifted`.
    """
    model.eval()
    head = model.head
    pooled = head.pool(in_parts(model.body, held))
    layers = dict(head.named_children())
    del layers["pool"]

    def apply(x: torch.Tensor, **replaced: nn.Module) -> torch.Tensor:
        for name, layer in layers.items():
            x = replaced.get(name, layer)(x)
        return x

    yield "as_trained", apply(pooled)
    norm = layers.get("final_norm")
    if norm is None:
        return
    yield "bn_removed", apply(pooled, final_norm=nn.Identity())
    if not isinstance(norm, nn.BatchNorm1d):
        return
    before = list(layers) == ["final_norm", "linear"]
    seen = head.pool(in_parts(model.body, train))
    yield "bn_recalibrated", apply(pooled, final_norm=recalibrated(norm, seen if before else layers["linear"](seen)))
    parts = pooled.split([n_validation, len(pooled) - n_validation])
    own = [recalibrated(norm, part if before else layers["linear"](part)) for part in parts]
    yield "batch_statistics", torch.cat([apply(part, final_norm=n) for part, n in zip(parts, own)])
    if not before:
        yield "bn_folded", apply(pooled, linear=folded(layers["linear"], norm), final_norm=nn.Identity())
    if labels is not None and norm.affine and not norm.bias.requires_grad and norm.num_features == 2:
        yield "shifted_by_images", shifted(apply(pooled).T, apply(seen).T, labels).T
