"""What a claim is: its statement, its cells, and the functions that measure and decide one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from replication.analysis import statistics as st
from replication.analysis.effects import Curve, Effect
from replication.results.frame import values
from replication.study.design import Cell, Design, Entry

if TYPE_CHECKING:
    import pandas as pd  # runs are planned and trained where it may be lacking

K20, K21 = "Kocaman, Shir and Bäck 2020", "Kocaman, Shir and Bäck 2021"
REPLICATED, CONTRADICTED, UNDECIDED = "replicated", "contradicted", "undecided"
NOT_ASSESSABLE, NOT_RUN = "not assessable", "not run"
WORDS = (REPLICATED, CONTRADICTED, UNDECIDED, NOT_ASSESSABLE, NOT_RUN)
"""the words of a verdict"""
NOT_JUDGED = "not judged"
"""said instead of a word where arms have no learning rates of their own"""
OPPOSITE = {REPLICATED: CONTRADICTED, CONTRADICTED: REPLICATED}
"""the decided words"""

MANY_SEEDS = 1000
"""beyond which a number of seeds is not given: nobody would train them"""
Measures = dict[str, Any]
"""effects and curves by name; which is which is for the claim to know that measures and decides"""


@dataclass(frozen=True)
class Decision:
    """A word with its reason, and the effects or curves above their margin that it rests on."""

    word: str
    reason: str
    rests_on: tuple[str, ...] = ()


Measure = Callable[["pd.DataFrame", str, int], Measures]
"""(one cell's rows at one kind of rate, metric of the F1 measures, number of tests in the family) -> effects and curves"""


@dataclass(frozen=True)
class Plan:
    """A question of the book with the runs that it needs."""

    id: str
    title: str
    design: Design
    cells: tuple[Cell, ...]
    order: int = field(default=0, kw_only=True)
    """place in the book and in the registration, among the plans of its folder"""
    curves: tuple[str, ...] = field(default=(), kw_only=True)
    """arms of which the scores by epoch are kept, as a rule or a page needs them"""
    predictions: tuple[str, ...] = field(default=(), kw_only=True)
    """arms of which the test predictions at own rates are kept, as a page draws them"""

    def entries(self, cell: Cell) -> list[Entry]:
        """The runs of one cell. ValueError where a learning rate has not been chosen."""
        return [entry for comparison in self.design(cell) for entry in comparison.entries()]


@dataclass(frozen=True)
class Claim(Plan):
    """What the papers state, where it is tested, and how it is judged."""

    statement: str
    source: str
    replicated_when: str
    contradicted_when: str
    measure: Measure
    decide: Callable[[Measures], Decision]
    headline: tuple[str, str]
    """the effect or curve that the criterion turns on, and what readers call it"""
    gated: bool = True
    """whether there must be a gain before the claim can be assessed"""
    variants: tuple[str, ...] = ("",)
    """the variants of the design that are judged, each as a cell of its own; the first may set the headline"""
    qualify: Callable[[Decision, Measures], Iterable[str]] = lambda own, measures: ()
    """what only this claim says beside its verdict: (decision at own rates, effects and curves) -> qualifiers"""
    groups: tuple[tuple[str, Callable[[Cell], bool]], ...] = ()
    """parts of the claim that have a word each, over their cells, instead of tiers: name and which cells"""


def gain(
    part: pd.DataFrame, metric: str = "f1_minority", arm: str = "final_bn", plain: str = "plain", **where
) -> Effect:
    """The gain of an arm over its reference, paired by seed."""
    return Effect(values(part, arm, metric, **where) - values(part, plain, metric, **where))


def curve(part: pd.DataFrame, variant: str, metric: str, tests: int) -> Curve:
    """Gains of `final_bn` over the levels of a variant, with intervals simultaneous over pairs and `tests` cells."""
    levels = sorted(part.loc[part["variant"] == variant, "level"].unique())
    D = np.stack([gain(part, metric, variant=variant, level=n).d for n in levels], axis=1)
    return Curve(levels, D, st.pairwise(D, 1 - st.ALPHA / tests), tests)


def at_levels(of: Curve) -> Measures:
    """`gain`, that of the level where it is shown most clearly, its p-values adjusted over the levels (Bonferroni)."""
    return {"gain": Effect(min(of.D.T, key=st.p_above), tests=len(of.levels))}


def fresh_seeds(effect: Effect, mean: str = "the observed mean") -> str:
    """What would decide an open effect, in words; `mean` names its mean."""
    n = st.seeds_needed(effect.d, effect.margin) if np.isfinite(effect.d).all() else None
    if n is None:
        return f"no number of seeds would decide at {mean}"
    if n > MANY_SEEDS:
        return f"{mean} lies so near {effect.margin:g} that a fresh study would need more than {MANY_SEEDS:,} seeds"
    return f"a fresh study would need about {n} seeds to decide at the observed spread"


def assessable(m: Measures) -> Decision | None:
    """Not assessable, or undecided, where the softmax gain itself is not shown to exceed the margin; else nothing.

    In a curve the gain must be shown to lie below the margin at every level before there is nothing to assess.
    """
    if m["gain"].above:
        return None
    curves = [measure for measure in m.values() if isinstance(measure, Curve)]
    below = curves[0].all_below() if curves else m["gain"].below
    if below:
        return Decision(
            NOT_ASSESSABLE, "the gain itself is shown to lie below 0.05 here, so there is nothing to explain"
        )
    return Decision(UNDECIDED, f"whether there is a gain above 0.05 is open: {fresh_seeds(m['gain'], 'the mean gain')}")
