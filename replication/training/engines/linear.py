"""Many linear heads on the same kind of features, trained together: products explicit, the rest worked out by hand.

Axes: S seeds, each with its own images and order; R runs a seed; C logits; B images a batch; H held-out images; F features.
"""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from replication.run import Run
from replication.training.engines.examples import Examples
from replication.training.engines.gradients import LossGradient
from replication.training.engines.updates import Part, Updates
from replication.training.heads import BEFORE, head_of
from replication.training.loop import PRECISIONS, Outcome, minority_f1, outcome
from replication.training.losses import as_softmax
from replication.training.readouts import shifted


def normalised(x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, eps: float) -> torch.Tensor:
    """`(x - mean) / sqrt(variance + eps)`."""
    return (x - mean) * torch.rsqrt(variance + eps)


class LinearHeads:
    """S x R linear heads that make their updates at the same time.

    All norms after the linear layer are one formula, `(z - a mean) s w + b`: a and s = 1 / sqrt(variance + eps) are
    switched off (0 and 1) where a norm lacks them, and what is not trained has a gradient of 0. A head with features
    centred before the layer trains as one whose logits are centred; it differs in evaluation alone.
    """

    EPS = 1e-5

    def __init__(self, runs: Sequence[Sequence[Run]], examples: Sequence[Examples], device: torch.device):
        self.runs, self.examples, self.device = runs, examples, device
        first = runs[0][0]
        self.dtype, self.lengths = PRECISIONS[first.precision], [len(epoch) for epoch in examples[0].plan]
        self.before = first.final_norm == "bn_before"
        self.layer = first.final_norm == "layer_norm"
        self.parts = first.batch_size // (first.ghost_batch or first.batch_size)
        self._lay_out_images()
        self._lay_out_heads()
        self.losses = LossGradient(runs, [e.counts for e in examples], self.dtype, device)
        self.totals: list[torch.Tensor] = []
        """sums of logits (S, R) by epoch: finite where all logits of the epoch were"""

    # --- What is laid out once --------------------------------------------------------------------

    def _there(self, array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, dtype)

    def _lay_out_images(self) -> None:
        starts = np.cumsum([0] + [len(e.train) * len(e.labels) for e in self.examples])
        self.train = torch.cat([self._there(e.train, self.dtype).flatten(0, 1) for e in self.examples])
        self.plain = [start + np.arange(len(e.labels)) for start, e in zip(starts, self.examples)]
        self.held = torch.stack([self._there(e.held, self.dtype) for e in self.examples])  # (S, H, F)
        numbers = [start + e.rows() for start, e in zip(starts, self.examples)]  # (U, B) each
        self.numbers = self._there(np.stack(numbers, 1))  # (U, S, B)
        self.batch = self.train.new_empty(self.numbers[0].numel(), self.train.shape[1])
        self.labels = self._there(np.stack([e.labels[np.concatenate(e.plan)] for e in self.examples], 1))

    def _stacked(self, value) -> torch.Tensor:
        """(S, R, ...) of a function of a head module and its run."""
        rows = [
            [torch.as_tensor(value(h, run), dtype=self.dtype) for h, run in zip(heads, runs)]
            for heads, runs in zip(self.heads, self.runs)
        ]
        return torch.stack([torch.stack(row) for row in rows]).to(self.device)

    def _lay_out_heads(self) -> None:
        features, classes = self.train.shape[1], len(self.examples[0].counts)
        self.heads = [[head_of(run, features, classes) for run in runs] for runs in self.runs]
        outputs = self.heads[0][0].linear.out_features
        centred = self.centred = self._stacked(lambda h, run: run.final_norm == "centred")[..., None].bool()
        self.any_centred = bool(centred.any())

        def norm(name: str, missing: float, width: int):
            def value(h: nn.Module, run: Run) -> torch.Tensor:
                found = None if run.final_norm == "centred" else getattr(getattr(h, "final_norm", None), name, None)
                return torch.full((width,), missing) if found is None else found.detach()

            return value

        def trained(name: str):
            def value(h: nn.Module, run: Run) -> bool:
                found = getattr(getattr(h, "final_norm", None), name, None)
                return found is not None and found.requires_grad

            return value

        width = features if self.before else outputs
        self.weight = self._stacked(lambda h, run: h.linear.weight.detach())  # (S, R, C, F)
        bias, bias_trains = (
            self._stacked(lambda h, run: h.linear.bias.detach()),
            self._stacked(lambda h, run: h.linear.bias.requires_grad)[..., None],
        )
        self.scale, self.shift = (self._stacked(norm(name, x, width)) for name, x in (("weight", 1.0), ("bias", 0.0)))
        self.scale_trains, self.shift_trains = (self._stacked(trained(n))[..., None] for n in ("weight", "bias"))
        # its bias comes behind the centring: it trains as a shift does
        self.shift = torch.where(centred, bias, self.shift) if self.any_centred else self.shift
        self.shift_trains = torch.where(centred, bias_trains, self.shift_trains)
        self.bias, self.bias_trains = bias.masked_fill(centred, 0), bias_trains.masked_fill(centred, 0)
        has = self._stacked(lambda h, run: hasattr(getattr(h, "final_norm", None), "running_mean"))[..., None, None]
        self.has_mean, self.has_variance = (
            has,
            self._stacked(lambda h, run: hasattr(getattr(h, "final_norm", None), "running_var"))[
                ..., None, None
            ].bool(),
        )
        self.momentum = self._stacked(lambda h, run: getattr(getattr(h, "final_norm", None), "momentum", 0.1))[
            ..., None
        ]
        self.mean, self.variance = torch.zeros_like(bias), torch.ones_like(bias)
        self.feature_mean, self.feature_variance = torch.zeros_like(self.held[:, 0]), torch.ones_like(self.held[:, 0])
        self.named = [[_trained_names(h) for h in heads] for heads in self.heads]
        self.heads = ()  # only their values were wanted
        self.gradients = [torch.zeros_like(p) for p in (self.weight, self.bias, self.scale, self.shift)]
        parameters = [self.weight, self.bias, self.scale, self.shift]
        shifts, decays = (False, False, False, True), (True, False, False, False)
        self.updates = Updates(
            self.runs, [Part(*part) for part in zip(parameters, self.gradients, decays, shifts)], sum(self.lengths)
        )

    # --- One update -------------------------------------------------------------------------------

    def update(self, number: int) -> None:
        """One training step of all, on the batches of that number."""
        seeds, batch = self.numbers.shape[1:]
        torch.index_select(self.train, 0, self.numbers[number].flatten(), out=self.batch)
        x = self.batch.view(seeds, batch, -1)
        step = self._step_before if self.before else self._step_layer if self.layer else self._step_after
        step(x, self.labels[number])
        self.updates.step(number)

    def _product(self, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Logits (S, R, C, N) of weights (S, R, C, F) and features (S, N, F)."""
        return torch.bmm(weight.flatten(1, 2), x.transpose(1, 2)).unflatten(1, weight.shape[1:3])

    def _weight_gradient(self, dz: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        torch.bmm(dz.flatten(1, 2), x, out=out.view(len(out), -1, out.shape[-1]))
        return out

    def _note(self, logits: torch.Tensor) -> None:
        self.total += logits.sum((2, 3))

    def _step_after(self, x: torch.Tensor, labels: torch.Tensor) -> None:
        dweight, dbias, dscale, dshift = self.gradients
        z = self._product(self.weight, x) + self.bias[..., None]
        z = z.unflatten(3, (self.parts, -1))  # (S, R, C, parts, B / parts)
        mean, a, d = z.mean(4, keepdim=True), self.has_mean[..., None], self.has_variance[..., None]
        centred = z - a * mean
        variance = (centred * centred).mean(4, keepdim=True)
        rsqrt = torch.where(d, torch.rsqrt(variance + self.EPS), 1.0)
        unit = centred * rsqrt
        scale, size = self.scale[..., None, None], z.shape[4]
        logits = (unit * scale + self.shift[..., None, None]).flatten(3)
        self._note(logits)
        dlogits = self.losses(logits, labels)
        torch.mul(dlogits.sum(3), self.shift_trains, out=dshift)
        dlogits = dlogits.unflatten(3, (self.parts, -1))
        torch.mul((dlogits * unit).sum((3, 4)), self.scale_trains, out=dscale)
        dunit = dlogits * scale
        dz = dunit - a * dunit.mean(4, keepdim=True)
        dz = torch.where(d, rsqrt * (dz - unit * (dunit * unit).mean(4, keepdim=True)), dz).flatten(3)
        torch.mul(dz.sum(3), self.bias_trains, out=dbias)
        self._weight_gradient(dz, x, dweight)
        self.mean.lerp_(mean.mean((3, 4)), self.momentum)
        self.variance.lerp_(variance.mean((3, 4)) * (size / (size - 1)), self.momentum)
        if self.any_centred:
            self.feature_mean.lerp_(x.mean(1), 0.1)

    def _step_layer(self, x: torch.Tensor, labels: torch.Tensor) -> None:
        dweight, dbias, dscale, dshift = self.gradients
        z = self._product(self.weight, x) + self.bias[..., None]
        centred = z - z.mean(2, keepdim=True)
        rsqrt = torch.rsqrt((centred * centred).mean(2, keepdim=True) + self.EPS)
        unit = centred * rsqrt
        logits = unit * self.scale[..., None] + self.shift[..., None]
        self._note(logits)
        dlogits = self.losses(logits, labels)
        torch.sum(dlogits, 3, out=dshift)
        torch.sum(dlogits * unit, 3, out=dscale)
        dunit = dlogits * self.scale[..., None]
        dz = rsqrt * (dunit - dunit.mean(2, keepdim=True) - unit * (dunit * unit).mean(2, keepdim=True))
        torch.sum(dz, 3, out=dbias)
        self._weight_gradient(dz, x, dweight)

    def _step_before(self, x: torch.Tensor, labels: torch.Tensor) -> None:
        dweight, dbias, dscale, dshift = self.gradients
        parts = x.unflatten(1, (self.parts, -1))
        mean = parts.mean(2, keepdim=True)
        centred = parts - mean
        variance = (centred * centred).mean(2, keepdim=True)  # several times as fast as torch.var over this axis
        unit = centred.mul_(torch.rsqrt(variance + self.EPS)).flatten(1, 2)
        logits = self._scaled_product(unit)
        self._note(logits)
        dz = self.losses(logits, labels)
        total = dz.sum(3)
        effective = self._weight_gradient(dz, unit, dweight)
        torch.sum(effective * self.weight, 2, out=dscale)
        torch.sum(total[..., None] * self.weight, 2, out=dshift)
        dbias.copy_(total)
        dweight.mul_(self.scale[:, :, None]).add_(total[..., None] * self.shift[:, :, None])
        size = parts.shape[2]
        self.feature_mean.lerp_(mean.mean((1, 2)), 0.1)
        self.feature_variance.lerp_(variance.mean((1, 2)) * (size / (size - 1)), 0.1)

    def _scaled_product(self, unit: torch.Tensor) -> torch.Tensor:
        """Logits (S, R, C, N) of normalised features (S, N, F), which each run scales and shifts before its layer."""
        constant = (self.weight @ self.shift[..., None]).squeeze(3) + self.bias
        return self._product(self.weight * self.scale[:, :, None], unit) + constant[..., None]

    # --- Evaluation -------------------------------------------------------------------------------

    def evaluate(self) -> torch.Tensor:
        """Logits (S, R, C, H) on the held-out images."""
        if self.before:
            return self._evaluate_before(self.held, self.feature_mean, self.feature_variance)
        return self._after(self._raw(self.held), *self._statistics())

    def _raw(self, x: torch.Tensor) -> torch.Tensor:
        return self._product(self.weight, x) + self.bias[..., None]

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Running mean and variance (S, R, C) of the logits."""
        if not self.any_centred:
            return self.mean, self.variance
        moved = torch.einsum("srcf,sf->src", self.weight, self.feature_mean)
        return torch.where(self.centred, moved, self.mean), self.variance

    def _after(self, z: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        scale, shift = self.scale[..., None], self.shift[..., None]
        if self.layer:
            variance, mean = torch.var_mean(z, 2, correction=0, keepdim=True)
            return normalised(z, mean, variance, self.EPS) * scale + shift
        rsqrt = torch.where(self.has_variance, torch.rsqrt(variance[..., None] + self.EPS), 1.0)
        return (z - self.has_mean * mean[..., None]) * rsqrt * scale + shift

    def _evaluate_before(self, x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        return self._scaled_product(normalised(x, mean[:, None], variance[:, None], self.EPS))

    def _halves(self) -> tuple[int, int]:
        n = self.examples[0].n_validation
        return n, self.held.shape[1] - n

    def read(self) -> dict[str, torch.Tensor]:
        """Every readout (S, R, C, H), see `replication.training.readouts`; what a run's norm does not allow is nonsense."""
        train = torch.stack([self.train[self._there(rows)] for rows in self.plain])
        if self.before:
            moments = [(x.mean(1), x.var(1)) for x in self.held.split(self._halves(), 1)]
            own = [self._evaluate_before(x, *m) for x, m in zip(self.held.split(self._halves(), 1), moments)]
            return {
                "as_trained": self.evaluate(),
                "bn_removed": self._raw(self.held),
                "bn_recalibrated": self._evaluate_before(self.held, train.mean(1), train.var(1)),
                "batch_statistics": torch.cat(own, 3),
            }
        z, seen = self._raw(self.held), self._raw(train)
        removed = torch.where(self.centred[..., None], z + self.shift[..., None], z) if self.any_centred else z
        own = [self._after(part, part.mean(3), part.var(3)) for part in z.split(self._halves(), 3)]
        mean, variance = self._statistics()
        folded = torch.rsqrt(variance + self.EPS) * self.scale
        constant = (self.bias - mean) * folded + self.shift
        weight = folded[..., None] * self.weight
        trained, of_train = self._after(z, mean, variance), self._after(seen, mean, variance)
        cut = {}
        if self.weight.shape[2] == 2:
            labels = torch.stack([self._there(e.labels) for e in self.examples])[:, None]
            cut = {"shifted_by_images": shifted(trained, of_train, labels)}
        return cut | {
            "as_trained": trained,
            "bn_removed": removed,
            "bn_recalibrated": self._after(z, seen.mean(3), seen.var(3)),
            "batch_statistics": torch.cat(own, 3),
            "bn_folded": self._product(weight, self.held) + constant[..., None],
        }

    # --- A whole training -------------------------------------------------------------------------

    def train_all(self) -> list[list[Outcome]]:
        """Train to the end, or until every run has stopped, and read: outcomes by seed and run, without their time."""
        history, made = [], 0
        reached = np.zeros((len(self.runs), len(self.runs[0])), int)
        stopped: dict[tuple[int, int], tuple[int, dict[str, torch.Tensor], SimpleNamespace]] = {}
        stopping = [(s, r) for s, runs in enumerate(self.runs) for r, run in enumerate(runs) if run.stop_f1]
        for length in self.lengths:
            self.total = torch.zeros(self.weight.shape[:2], dtype=self.dtype, device=self.device)
            for number in range(made, made + length):
                self.update(number)
            made += length
            self.totals.append(self.total)
            history.append(self.evaluate())
            if stopping:
                self._stop(stopping, history, reached, stopped)
                if len(stopped) == reached.size:
                    break
        logits = torch.stack(history)  # (E, S, R, C, H)
        finite = torch.isfinite(torch.stack(self.totals)) & torch.isfinite(logits).flatten(3).all(3)
        logits, finite = logits.permute(1, 2, 0, 4, 3).cpu().numpy(), finite.permute(1, 2, 0).cpu().numpy()
        read = {name: values.transpose(2, 3).cpu().numpy() for name, values in self.read().items()}
        return [
            [self._outcome(s, r, logits[s, r], finite[s, r], read, stopped.get((s, r))) for r in range(len(runs))]
            for s, runs in enumerate(self.runs)
        ]

    def _stop(self, stopping: list[tuple[int, int]], history: list, reached: np.ndarray, stopped: dict) -> None:
        """Note which runs would end here, and how they read at this moment."""
        now = history[-1].cpu()
        read = None
        for s, r in stopping:
            e = self.examples[s]
            z = now[s, r, :, : e.n_validation].T
            if (s, r) in stopped or not torch.isfinite(now[s, r]).all():
                continue
            seen = torch.from_numpy(as_softmax(z.numpy(), self.runs[s][r].output))
            f1 = minority_f1(seen, torch.from_numpy(e.validation_labels), e.minorities)
            reached[s, r] = reached[s, r] + 1 if f1 >= self.runs[s][r].stop_f1 else 0
            if reached[s, r] == 2:
                read = read or {name: values.transpose(2, 3).cpu().numpy() for name, values in self.read().items()}
                own = {name: values[s, r].copy() for name, values in read.items()}
                stopped[s, r] = len(history), own, self._norm(s, r)

    def _outcome(
        self, s: int, r: int, logits: np.ndarray, finite: np.ndarray, read: dict[str, np.ndarray], stopped: tuple | None
    ) -> Outcome:
        run, epochs = self.runs[s][r], stopped[0] if stopped else len(logits)
        diverged = not finite[:epochs].all()
        if diverged:
            epochs = int(finite.argmin()) + 1
        names = readouts_of(run.final_norm, self.weight.shape[2])
        own = {name: stopped[1][name] if stopped else read[name][s, r] for name in names}
        n, updates = self.examples[s].n_validation, sum(self.lengths[:epochs])
        norm = stopped[2] if stopped else self._norm(s, r)
        return outcome(run, n, logits[:epochs], own, diverged, updates, 0.0, norm)

    def _norm(self, s: int, r: int) -> SimpleNamespace:
        """The trained values (C,) of a run's final norm as they stand, by the names that a module gives them."""
        now = {"weight": self.scale, "bias": self.shift}
        return SimpleNamespace(**{name: now[name][s, r].cpu().clone() for name in self.named[s][r]})


def _trained_names(head: nn.Module) -> tuple[str, ...]:
    """Which of `weight` and `bias` the norm behind a head's linear layer has."""
    norm = head.final_norm if list(dict(head.named_children()))[-1] == "final_norm" else None
    return tuple(name for name in ("weight", "bias") if getattr(norm, name, None) is not None)


def readouts_of(final_norm: str, outputs: int) -> tuple[str, ...]:
    """Names of the readouts that a linear head with that norm and so many logits allows, see `replication.training.readouts`."""
    if final_norm == "none":
        return ("as_trained",)
    if final_norm in ("affine", "mean_only", "layer_norm", "centred"):
        return "as_trained", "bn_removed"
    names = "as_trained", "bn_removed", "bn_recalibrated", "batch_statistics"
    if final_norm in BEFORE:
        return names
    return (*names, "bn_folded", *(["shifted_by_images"] if final_norm == "bn_fixed_shift" and outputs == 2 else []))
