"""The parts of the layer: which of them brings the gain?"""

from collections.abc import Iterator

from replication.claims.claim import Plan
from replication.study.arms import NORMS
from replication.study.design import Cell, Comparison, compare


def design(cell: Cell) -> Iterator[Comparison]:
    """Every part of the layer by itself, and every other place or form of it."""
    yield compare(cell, [arm.name for arm in NORMS])


PLAN = Plan(
    "mechanism", "The parts of the layer", design, (Cell("digits", seeds=20, kinds=("own",), version=0),), order=0
)
