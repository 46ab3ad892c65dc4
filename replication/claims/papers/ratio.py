"""The imbalance ratio: does the gain peak at one?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from replication.claims import cells
from replication.claims.claim import (
    CONTRADICTED,
    K21,
    REPLICATED,
    UNDECIDED,
    Claim,
    Decision,
    Measures,
    at_levels,
    curve,
)
from replication.study.design import PAIR, PRIMARY, Cell, Comparison, compare

if TYPE_CHECKING:
    import pandas as pd  # runs are planned and trained where it may be lacking

LEVELS = (2, 5, 10, 20, 40, 80)
"""minority images beside 1000 majority images; 10 is the base"""
MORE_LEVELS = (160, 320)
"""further ones where the images last, as on leaves"""
MAJORITY_LEVELS = (100, 200, 500, 1000)
"""majority images beside 10 minority images"""
CURVE_KINDS = ("own", "shared", "default", "base")


def design(cell: Cell) -> Iterator[Comparison]:
    """Minority images varied beside 1000 majority images, and majority images varied beside 10 minority images.

    Registered cells are tuned at every level; those published before have the rates chosen at 1000:10.
    """
    tuned = ("n_minority", "n_majority") if cell.version else ()
    for n in LEVELS + cell.option("more_levels"):
        yield compare(cell, PAIR, variant="minority varied", level=n, at=tuned[:1], n_minority=n)
    for n in cell.option("majority_levels", MAJORITY_LEVELS):
        yield compare(cell, PAIR, variant="majority varied", level=n, at=tuned[1:], n_majority=n)


def measure(part: pd.DataFrame, metric: str, tests: int) -> Measures:
    """The gain over the numbers of minority images, which is judged, and over those of majority images where run."""
    judged = curve(part, "minority varied", metric, tests)
    beside = (
        {"other": curve(part, "majority varied", metric, tests)} if "majority varied" in set(part["variant"]) else {}
    )
    return at_levels(judged) | {"curve": judged} | beside


def decide(m: Measures) -> Decision:
    """A peak is an inner ratio above both ends; no peak, an end that no inner ratio exceeds by the margin."""
    curve = m["curve"]
    if peaks := curve.peaks():
        reason = f"the gain at {', '.join(f'{p:g}' for p in peaks)} of 1000 exceeds that at both ends by more than 0.05"
        return Decision(REPLICATED, reason, ("curve",))
    if curve.end_as_good():
        return Decision(
            CONTRADICTED, "at one end of the ratios the gain is within 0.05 of that at every inner ratio, or above"
        )
    return Decision(UNDECIDED, "neither a peak nor its absence is shown between the ratios")


CLAIM = Claim(
    id="ratio",
    order=2,
    title="The imbalance ratio",
    design=design,
    cells=(
        *cells.with_options(
            (Cell("plantvillage/tomato@160", cells.LITE, PRIMARY, 60, CURVE_KINDS),), more_levels=MORE_LEVELS
        ),
        Cell("digits", cells.LITE, PRIMARY, 60, CURVE_KINDS),
        *cells.published("digits", seeds=40, kinds=("own", "shared")),
        *cells.with_options(cells.published("plantvillage/apple", kinds=("own", "shared")), more_levels=MORE_LEVELS),
    ),
    statement="There is a threshold of the imbalance ratio at which the gain of the final BatchNorm peaks.",
    source=K21,
    replicated_when="the gain at some inner ratio exceeds that at both ends of the grid by more than 0.05 (simultaneously)",
    contradicted_when="one end of the grid lies no more than 0.05 below every inner ratio (simultaneously)",
    measure=measure,
    decide=decide,
    headline=("curve", "gain over the ratios"),
    variants=("minority varied",),
)
