"""What a practitioner can choose between, the choice made on validation images, and what it is worth on test images."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from replication.analysis import statistics as st

LEAST_SEEDS = 10
"""fewest seeds with which intervals are given"""
HELD = "validation_f1_macro"


@dataclass(frozen=True)
class Choice:
    """A way to train and to read a network: an arm, and what is done with its output."""

    name: str
    arm: str
    label: str
    """what readers see"""
    use: str
    """what to do, after "use" """
    readout: str = "as_trained"
    suffix: str = ""
    """of the test metrics' names: `_tuned` at the tuned threshold"""
    held: str = HELD
    """the fact by which it is chosen"""


CHOICES = (
    Choice("plain", "plain", "plain", "plain training, as it is"),
    Choice(
        "plain · tuned",
        "plain",
        "plain, tuned threshold",
        "plain training with a threshold tuned on validation images",
        suffix="_tuned",
        held=f"{HELD}_tuned",
    ),
    Choice(
        "plain · logit_adjusted",
        "plain",
        "plain, adjusted logits",
        "plain training with the logits adjusted by the classes' shares in training",
        "logit_adjusted",
        held=f"{HELD}_adjusted",
    ),
    Choice(
        "plain_class_weighted", "plain_class_weighted", "class weights", "plain training with class weights in the loss"
    ),
    Choice("final_bn", "final_bn", "final BN", "a final BatchNorm layer"),
    Choice(
        "bn_shift_0.4", "bn_shift_0.4", "final BN, shift fixed", "a final BatchNorm layer with its shift fixed at −0.4"
    ),
)
"""in the order of what they change: of choices that do as well the first is recommended"""
ARMS = tuple(dict.fromkeys(choice.arm for choice in CHOICES))
"""the arms that must be trained"""
CHOICE_OF = {choice.name: choice for choice in CHOICES}
MEASURES = ("f1_minority", "f1_macro", "roc_auc")


@dataclass(frozen=True)
class Gain:
    """A mean difference in a measure over paired seeds (n,), with an interval simultaneous over all pairs of choices."""

    mean: float
    low: float
    high: float
    d: np.ndarray


def confusion(f1_minority: float, f1_macro: float, minority: int, majority: int) -> tuple[int, int]:
    """Minority images found and majority images called minority, from the two F1 scores of a test set.

    F1 = 2 found / (minority + said) of the one class and 2 (majority - false) / (2 majority + minority - said) of the
    other, said = found + false, are two linear equations in two unknowns; both perfect leaves found = minority.
    """
    other = 2 * f1_macro - f1_minority
    if f1_macro >= 1 - st.TINY:
        return minority, 0
    # `found` and `false` as linear functions of `said`, put into said = found + false
    said = (majority + f1_minority * minority / 2 - other * (2 * majority + minority) / 2) / (
        1 - (f1_minority + other) / 2
    )
    found = f1_minority * (minority + said) / 2
    return round(found), round(said - found)


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a (choice, seed) from a table of results with a column `arm`; seeds that lack an arm are left out.

    Columns: `choice`, `seed`, `MEASURES` on test images, `validation_f1_macro`, and of the balanced test images `n` a
    class, `found` (minority called so) and `false` (majority called minority).
    """
    parts = []
    for choice in CHOICES:
        of = rows[(rows["arm"] == choice.arm) & (rows["readout"] == choice.readout)]
        n = of["n_test"].to_numpy() // 2
        minority, macro = (of[name + choice.suffix].to_numpy(float) for name in ("f1_minority", "f1_macro"))
        cells = [confusion(a, b, int(k), int(k)) for a, b, k in zip(minority, macro, n)]
        parts.append(
            pd.DataFrame(
                {
                    "choice": choice.name,
                    "seed": of["seed"].to_numpy(),
                    "f1_minority": minority,
                    "f1_macro": macro,
                    "roc_auc": of["roc_auc"].fillna(0.5).to_numpy(float),
                    HELD: of[choice.held].to_numpy(float),
                    "n": n,
                    "found": [found for found, _ in cells],
                    "false": [false for _, false in cells],
                }
            )
        )
    whole = pd.concat(parts, ignore_index=True)
    seeds = whole.groupby("seed")["choice"].nunique()
    return whole[whole["seed"].isin(seeds[seeds == len(CHOICES)].index)].sort_values(
        ["seed"], kind="stable", ignore_index=True
    )


@dataclass(frozen=True)
class Comparison:
    """All choices on the same seeds, see `scores`."""

    rows: pd.DataFrame

    @property
    def n(self) -> int:
        """Number of seeds."""
        return self.rows["seed"].nunique()

    def values(self, metric: str) -> np.ndarray:
        """(n, 6) values by seed and choice, in the order of `CHOICES`."""
        wide = self.rows.pivot(index="seed", columns="choice", values=metric)
        return wide[[choice.name for choice in CHOICES]].to_numpy(float)

    def mean(self, choice: str, metric: str) -> float:
        """A choice's mean over seeds."""
        return float(self.rows.loc[self.rows["choice"] == choice, metric].mean())

    @cached_property
    def _pairs(self) -> dict[str, st.Pairwise]:
        return {metric: st.pairwise(self.values(metric)) for metric in MEASURES}

    def gain(self, choice: str, reference: str = "plain", metric: str = "f1_minority") -> Gain:
        """A choice minus another on test images; infinite limits where there are fewer than `LEAST_SEEDS` seeds."""
        order = [c.name for c in CHOICES]
        i, j = order.index(choice), order.index(reference)
        V = self.values(metric)
        d = V[:, i] - V[:, j]
        if i == j or self.n < LEAST_SEEDS:
            limit = 0.0 if i == j else np.inf
            return Gain(float(d.mean()), -limit, limit, d)
        found = self._pairs[metric]
        at = int(np.flatnonzero((found.pairs == (min(i, j), max(i, j))).all(axis=1))[0])
        low, high = float(found.low[at]), float(found.high[at])
        return Gain(float(d.mean()), *((low, high) if i < j else (-high, -low)), d)

    @cached_property
    def best(self) -> str:
        """The choice with the greatest mean macro F1 on validation images."""
        means = self.values(HELD).mean(axis=0)
        return CHOICES[int(means.argmax())].name

    @cached_property
    def recommended(self) -> str:
        """The first choice whose macro F1 on validation images is within one standard error of the best's.

        The error is that of the paired difference over seeds (the one-standard-error rule of Breiman et al. 1984,
        section 3.4.3): what changes less goes before what does no better. With one seed it is the best.
        """
        V = self.values(HELD)
        best = int(V.mean(axis=0).argmax())
        for k, choice in enumerate(CHOICES):
            d = V[:, best] - V[:, k]
            if d.mean() <= st.TINY + (d.std(ddof=1) / np.sqrt(len(d)) if len(d) > 1 else 0.0):
                return choice.name
        return CHOICES[best].name

    @cached_property
    def next_best(self) -> str:
        """The best on validation images of the choices that are not recommended."""
        means = self.values(HELD).mean(axis=0)
        return next(CHOICES[k].name for k in np.argsort(-means, kind="stable") if CHOICES[k].name != self.recommended)
