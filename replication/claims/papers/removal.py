"""Removing the layer at inference: is the gain kept?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from replication.analysis.effects import Effect
from replication.claims import cells
from replication.claims.claim import CONTRADICTED, K21, REPLICATED, UNDECIDED, Claim, Decision, Measures, fresh_seeds
from replication.results.frame import values
from replication.study.design import PAIR, Cell, Comparison, compare

if TYPE_CHECKING:
    import pandas as pd  # runs are planned and trained where it may be lacking


def design(cell: Cell) -> Iterator[Comparison]:
    """The base runs, read with and without the layer."""
    yield compare(cell, PAIR)


def measure(part: pd.DataFrame, metric: str, tests: int) -> Measures:
    """The gain, what is left of it without the layer, and by how much that exceeds half of it."""
    plain, trained = values(part, "plain", metric), values(part, "final_bn", metric)
    removed = values(part, "final_bn", metric, "bn_removed")
    return {
        "gain": Effect(trained - plain),
        "removed_minus_plain": Effect(removed - plain),
        "more_than_half_kept": Effect(removed - plain - (trained - plain) / 2, margin=0.0),
    }


def decide(m: Measures) -> Decision:
    """More than half of the gain, and more than 0.05, must be left."""
    kept, half = m["removed_minus_plain"], m["more_than_half_kept"]
    if half.below:
        return Decision(CONTRADICTED, "without the layer less than half of the gain is left")
    if kept.below:
        return Decision(CONTRADICTED, "without the layer the gain lies below 0.05")
    if kept.above and half.above:
        reason = "without the layer more than half of the gain is left, and more than 0.05"
        return Decision(REPLICATED, reason, ("removed_minus_plain", "more_than_half_kept"))
    return Decision(UNDECIDED, fresh_seeds(half if kept.above else kept))


CLAIM = Claim(
    id="removal",
    order=1,
    title="Removing the layer at inference",
    design=design,
    cells=(
        cells.identity(),
        *cells.close(),
        *cells.frozen(),
        *cells.published("digits"),
        *cells.on_images(),
        *cells.resnets(),
    ),
    statement="The gain is kept when the added BatchNorm layer is removed again at inference.",
    source=K21,
    replicated_when="without the layer F1 exceeds `plain` by more than 0.05 and by more than half of the gain",
    contradicted_when="either lies below",
    measure=measure,
    decide=decide,
    headline=("more_than_half_kept", "F1 left above half of the gain"),
)
