"""Derivatives of every loss of `replication.training.losses` with respect to the logits, of many runs at once."""

from collections.abc import Sequence

import numpy as np
import torch

from replication.run import Run
from replication.training.losses import loss_of


class LossGradient:
    """A function from logits (S, R, C, B) and labels (S, B) to the derivative of each run's own loss, alike in shape.

    S seeds with training images `counts` (K,) of each class, R runs of each seed. ValueError: see `losses.loss_of`.
    """

    def __init__(
        self, runs: Sequence[Sequence[Run]], counts: Sequence[np.ndarray], dtype: torch.dtype, device: torch.device
    ):
        self.dtype, self.device = dtype, device

        def per_class(value) -> torch.Tensor:
            rows = [[value(run, torch.from_numpy(n).to(dtype)) for run in of_seed] for of_seed, n in zip(runs, counts)]
            return torch.stack([torch.stack(row) for row in rows]).to(device)[..., None]  # (S, R, C, 1)

        for of_seed, n in zip(runs, counts):
            for run in of_seed:
                loss_of(run, torch.from_numpy(n))  # refuses unknown names and pairs
        flat = [run for of_seed in runs for run in of_seed]
        losses, outputs = {run.loss for run in flat}, {run.output for run in flat}
        self.weights = self.offset = self.focal = self.sigmoids = None
        if "class_weighted" in losses:
            self.weights = per_class(
                lambda run, n: n.sum() / (len(n) * n) if run.loss == "class_weighted" else torch.ones_like(n)
            )
        if "logit_adjusted" in losses:
            self.offset = per_class(
                lambda run, n: (n / n.sum()).log() if run.loss == "logit_adjusted" else torch.zeros_like(n)
            )
        self.smoothing = None
        if any(run.label_smoothing for run in flat):
            self.smoothing = per_class(lambda run, n: torch.tensor([run.label_smoothing], dtype=dtype))
        if "focal" in losses:
            self.focal = per_class(lambda run, n: torch.tensor([run.loss == "focal"]))
        self.all_sigmoids = "softmax" not in outputs  # asked here once: a GPU would have to be waited for
        if outputs != {"softmax"}:
            self.sigmoids = per_class(lambda run, n: torch.tensor([run.output != "softmax"]))

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Derivative of every run's loss with respect to its logits (S, R, C, B), given labels (S, B)."""
        outputs, batch = logits.shape[2:]
        classes = torch.arange(1 if outputs == 1 else 0, 2 if outputs == 1 else outputs, device=self.device)
        truth = (labels[:, None, None, :] == classes[:, None]).to(self.dtype)  # (S, 1, C, B); one logit is class 1's
        if self.all_sigmoids:
            return (torch.sigmoid(logits) - truth) / batch
        seen = logits if self.offset is None else logits + self.offset
        wanted = truth
        if self.smoothing is not None:
            wanted = torch.lerp(truth, torch.full_like(truth, 1 / outputs), self.smoothing)
        gradient = torch.softmax(seen, 2) - wanted
        if self.weights is not None:
            weights = (self.weights * truth).sum(2, keepdim=True)
            share = batch / weights.sum(3, keepdim=True)
            if self.smoothing is None:
                gradient *= weights * share
            else:  # every class counts with its own weight
                parts = self.weights * wanted
                total = parts.sum(2, keepdim=True)
                gradient = (gradient * total + wanted * total - parts) * share
        if self.focal is not None:
            log_p = (torch.log_softmax(seen, 2) * truth).sum(2, keepdim=True)
            p = log_p.exp()
            gradient = torch.where(self.focal, gradient * ((1 - p) ** 2 - 2 * (1 - p) * p * log_p), gradient)
        if self.sigmoids is not None:
            gradient = torch.where(self.sigmoids, torch.sigmoid(logits) - truth, gradient)
        return gradient / batch
