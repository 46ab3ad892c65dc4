"""The fixed shift without tuning against every remedy that is tuned: the plan, its rule, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from replication.analysis import statistics as st
from replication.claims import cells
from replication.claims.claim import Plan
from replication.claims.law.runs import FIXED, REMEDIES, REMEDY_SCORES, at
from replication.results.frame import complete, values
from replication.study.design import EXPLORATORY, Cell, Comparison, compare

if TYPE_CHECKING:
    import pandas as pd  # runs are planned and trained where it may be lacking

RATES = (1e-3, 1e-2)
"""learning rates that were not tuned"""
CANDIDATE = FIXED[-0.4]
"""the arm that is to need no tuning; the other fixed shifts stand beside it"""
RULE = (
    "in every cell, the layer with its shift fixed at -0.4 and trained at 1e-3 and at 1e-2 is shown to be no more than 0.05 "
    "macro F1 below the best tuned remedy, which is that with the highest mean over the same seeds (paired one-sided t, 0.05)"
)
TUNED = (("plain", "as_trained", "f1_macro"), *REMEDY_SCORES)
"""(arm, readout, measure) of everything that is tuned: each arm at its own rate, which its readouts share"""
FIXED_SHIFTS = (
    *((arm, "as_trained", "f1_macro") for arm in FIXED.values()),
    (FIXED[0.0], "shifted_by_images", "f1_macro"),
)
"""the fixed shifts, and the threshold that the training images set"""
Remedy = tuple[str, str, str]


def design(cell: Cell) -> Iterator[Comparison]:
    """Every remedy and every fixed shift, at two untuned rates and at its own."""
    arms = (*REMEDIES, *FIXED.values())
    for rate in RATES:
        yield at(cell, arms, rate, "untuned", rate)
    yield compare(cell, arms, kinds=("own",), variant="tuned")


PLAN = Plan(
    "untuned",
    "The fixed shift, untuned, against every remedy",
    design,
    tuple(
        Cell(setting, network, EXPLORATORY, 20, ("own", "default"), 2)
        for setting, network in (
            *((setting, cells.LITE) for setting in (*cells.LEAVES, *cells.OTHERS)),
            (cells.LEAVES[0], cells.RESNET),
            ("digits", "simple_cnn"),
            ("plantvillage/tomato", "simple_cnn"),
        )
    )
    + (Cell("plantvillage/tomato@128", cells.FINE_TUNED, EXPLORATORY, 10, ("own", "default"), 6),)
    + tuple(
        Cell(setting, cells.RESNET, EXPLORATORY, 20, ("own", "default"), 7)
        for setting in (*cells.LEAVES[1:], *cells.OTHERS)
    ),
    order=5,
)


@dataclass(frozen=True)
class Contest:
    """One cell at one untuned rate: the fixed shift against the best tuned remedy."""

    setting: str
    network: str
    rate: float
    best: Remedy
    d: np.ndarray
    """(n,) macro F1 of the fixed shift minus that of the best tuned remedy, by seed"""

    @property
    def noninferior(self) -> bool:
        """Whether the mean is shown to lie above -0.05."""
        return st.p_above(self.d, -st.MARGIN) < st.ALPHA


def scores(part: pd.DataFrame, remedies: tuple[Remedy, ...] = TUNED, **where: object) -> dict[Remedy, np.ndarray]:
    """(n,) of every remedy in the rows of one cell that `where` leaves; without those that lack the readout."""
    found = {}
    for arm, readout, metric in remedies:
        try:
            found[arm, readout, metric] = values(part, arm, metric, readout, **where)
        except KeyError:  # runs published before the readout was
            continue
    return found


def contests(frame: pd.DataFrame) -> list[Contest]:
    """Every cell whose runs have results (rows as `results.frame.frame` gives them), at every rate."""
    found = []
    for (setting, network), part in frame.groupby(["cell_setting", "cell_network"], sort=False):
        if not complete(part):
            continue
        tuned = scores(part, variant="tuned")
        best = max(tuned, key=lambda remedy: tuned[remedy].mean())
        for rate in RATES:
            untuned = values(part, CANDIDATE, "f1_macro", variant="untuned", level=rate)
            found.append(Contest(setting, network, rate, best, untuned - tuned[best]))
    return found
