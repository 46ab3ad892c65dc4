"""Updates of many runs' parameters at once, each run at its own rate: Adam, AdamW and SGD as torch makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from replication.run import Run
from replication.training.optimizers import MOMENTUM, check
from replication.training.schedules import schedule


@dataclass(frozen=True)
class Part:
    """A parameter of all runs, (S, R, ...), with its gradient."""

    values: torch.Tensor
    gradient: torch.Tensor
    decays: bool
    """whether weight decay applies: to weights alone"""
    shift: bool
    """whether `Run.shift_rate` applies: to the final norm's shift"""


@dataclass(frozen=True)
class _Slice:
    """Neighbouring runs of one seed with the same rates and decay."""

    values: torch.Tensor
    gradient: torch.Tensor
    moments: torch.Tensor
    variances: torch.Tensor


class Updates:
    """One update after the other, of S x R runs with the same schedule and kind of optimizer.

    Runs of one seed that share rates are best neighbours: each such stretch is one call of torch's fused kernel.
    """

    def __init__(self, runs: Sequence[Sequence[Run]], parts: Sequence[Part], updates: int):
        for run in (run for of_seed in runs for run in of_seed):
            check(run)
        self.sgd = runs[0][0].optimizer == "sgd"
        self.count = torch.zeros((), device=parts[0].values.device)
        self.groups: dict[tuple[float, float, float], list[_Slice]] = {}
        """(learning rate, multiple of it, weight decay) -> what trains so"""
        self.rates: dict[float, tuple[tuple[float, float], ...]] = {}
        for part in parts:
            moments = torch.zeros_like(part.values)
            variances = moments if self.sgd else torch.zeros_like(part.values)
            whole = _Slice(part.values, part.gradient, moments, variances)
            for s, of_seed in enumerate(runs):
                start = 0
                for key, stretch in groupby(self._key(run, part) for run in of_seed):
                    end = start + len(list(stretch))
                    slices = (getattr(whole, name)[s, start:end] for name in _Slice.__dataclass_fields__)
                    self.groups.setdefault(key, []).append(_Slice(*slices))
                    self.rates[key[0]] = schedule(of_seed[0].schedule, key[0], updates)
                    start = end

    @staticmethod
    def _key(run: Run, part: Part) -> tuple[float, float, float]:
        return run.learning_rate, run.shift_rate if part.shift else 1.0, run.weight_decay if part.decays else 0.0

    @torch.no_grad()
    def step(self, number: int) -> None:
        """The update of that number, with the gradients as they stand."""
        self.count += 1
        for (learning_rate, multiple, decay), slices in self.groups.items():
            rate, beta1 = self.rates[learning_rate][number]
            if self.sgd:
                self._sgd(slices, rate * multiple, decay)
                continue
            # private: torch.optim's classes keep moments of their own, and step one network at a time, not slices of a
            # stack; with decay 0, AdamW is Adam to the bit
            torch._fused_adamw_(
                [s.values for s in slices],
                [s.gradient for s in slices],
                [s.moments for s in slices],
                [s.variances for s in slices],
                [],
                [self.count] * len(slices),
                lr=rate * multiple,
                beta1=beta1,
                beta2=0.999,
                weight_decay=decay,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )

    @staticmethod
    def _sgd(slices: list[_Slice], rate: float, decay: float) -> None:
        for s in slices:
            gradient = s.gradient.add(s.values, alpha=decay) if decay else s.gradient
            s.moments.mul_(MOMENTUM).add_(gradient)
            s.values.sub_(s.moments, alpha=rate)
