"""Outputs and losses: from logits (N, C) and labels (N,) to a scalar; each with its formula and source."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

from replication.limits import check_known

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(counts: torch.Tensor, smoothing: float = 0.0) -> Loss:
    """-log softmax(z)_y, the mean over the batch; with smoothing, y is that share of every class (Szegedy et al. 2016)."""
    return partial(F.cross_entropy, label_smoothing=smoothing)


def class_weighted(counts: torch.Tensor, smoothing: float = 0.0) -> Loss:
    """Cross-entropy with each class weighted by 1 / its training share, divided by the batch's sum of weights."""
    weight = counts.sum() / (len(counts) * counts)
    return partial(F.cross_entropy, weight=weight, label_smoothing=smoothing)


def focal(counts: torch.Tensor, gamma: float = 2.0) -> Loss:
    """-(1 - p_y)^gamma log p_y, mean over the batch (Lin et al. 2017, eq. 4)."""

    def loss(logits, labels):
        log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
        return -((1 - log_p.exp()) ** gamma * log_p).mean()

    return loss


def logit_adjusted(counts: torch.Tensor, smoothing: float = 0.0, tau: float = 1.0) -> Loss:
    """Cross-entropy of z + tau log(training share) (Menon et al. 2021, eq. 10); tau = 1 is balanced softmax."""
    offset = tau * (counts / counts.sum()).log()
    return lambda logits, labels: F.cross_entropy(logits + offset, labels, label_smoothing=smoothing)


def binary(counts: torch.Tensor) -> Loss:
    """Binary cross-entropy of sigmoid outputs, summed over the C logits: one logit a class, or one for class 1."""

    def loss(logits, labels):
        classes = torch.arange(logits.shape[1], device=logits.device)  # one_hot would ask the host about the labels
        positive = labels[:, None] if len(classes) == 1 else labels[:, None] == classes
        return F.binary_cross_entropy_with_logits(logits, positive.to(logits), reduction="sum") / len(labels)

    return loss


LOSSES = {f.__name__: f for f in (cross_entropy, class_weighted, focal, logit_adjusted)}
SMOOTHED = ("cross_entropy", "class_weighted", "logit_adjusted")
"""losses that can have smoothed labels"""
OUTPUTS = ("softmax", "sigmoid", "sigmoids")


def loss_of(run, counts: torch.Tensor) -> Loss:
    """The loss of a run, given the training images of each class (C,); ValueError for unknown names and what does not fit."""
    check_known("output", run.output, OUTPUTS)
    check_known("loss", run.loss, LOSSES)
    if not 0 <= run.label_smoothing < 1:
        raise ValueError(f"label_smoothing = {run.label_smoothing:g} is no share: allowed are 0 to below 1")
    if run.label_smoothing and (run.output != "softmax" or run.loss not in SMOOTHED):
        raise ValueError(
            f"label_smoothing = {run.label_smoothing:g} needs output 'softmax' and a loss of {', '.join(SMOOTHED)}: found "
            f"{run.output!r} and {run.loss!r}"
        )
    if run.output == "softmax":
        return LOSSES[run.loss](counts, run.label_smoothing) if run.label_smoothing else LOSSES[run.loss](counts)
    if run.loss != "cross_entropy":
        raise ValueError(f"loss {run.loss!r} needs output 'softmax', found {run.output!r}")
    return binary(counts)


def as_softmax(logits: np.ndarray, output: str) -> np.ndarray:
    """Logits whose softmax gives the class probabilities of any output, (..., C) -> (..., K).

    One sigmoid logit z becomes (0, z), which is exact; K sigmoids become their log-probabilities, whose softmax
    shares them out to a sum of one and keeps their order.
    """
    if output == "sigmoid":
        return np.concatenate([np.zeros_like(logits), logits], axis=-1)
    return -np.logaddexp(0, -logits) if output == "sigmoids" else logits
