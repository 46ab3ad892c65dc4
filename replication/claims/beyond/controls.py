"""Controls: how much of a leaf result is leaf, and how much the parting of neighbouring photographs matters."""

from collections.abc import Iterator

from replication.claims import cells
from replication.claims.claim import Plan
from replication.study.design import EXPLORATORY, PAIR, Cell, Comparison, compare

FIRST = (
    "plantvillage/apple",
    "plantvillage/apple/border",
    "plantvillage/apple/ungrouped",
    "plantvillage/pepper",
    "plantvillage/pepper/border",
)


def design(cell: Cell) -> Iterator[Comparison]:
    """The base pair where only the image's border is seen, or neighbouring photographs may part."""
    yield compare(cell, PAIR)


PLAN = Plan(
    "controls",
    "Controls",
    design,
    (
        *(Cell(name, seeds=10, kinds=("own", "shared"), version=0) for name in FIRST),
        *(
            Cell(f"plantvillage/{crop}/border@160", network, EXPLORATORY, 20, ("own", "default"))
            for crop in ("tomato", "apple", "pepper")
            for network in (cells.LITE, cells.RESNET)
        ),
    ),
    order=2,
)
