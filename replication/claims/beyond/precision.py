"""Precision: does half precision change the gain?"""

from collections.abc import Iterator

from replication.claims.claim import Plan
from replication.study.design import PAIR, Cell, Comparison, compare


def design(cell: Cell) -> Iterator[Comparison]:
    """The base pair in float32, as all results are, and under bfloat16 autocast."""
    for name in ("float32", "bfloat16"):
        yield compare(cell, PAIR, variant=name, precision=name)


PLAN = Plan(
    "performance",
    "Precision",
    design,
    (Cell("plantvillage/apple", seeds=10, kinds=("own", "shared"), version=0),),
    order=3,
)
