"""Ghost batches: the layer's statistics over parts of a batch, with as many updates as ever."""

from collections.abc import Iterator

from replication.claims import cells
from replication.claims.claim import Plan
from replication.claims.law.runs import BASE_RATE, LAYER, at
from replication.study.design import EXPLORATORY, Cell, Comparison

PARTS = (8, 16, 32)
"""images that statistics are taken over, of 64 an update"""


def design(cell: Cell) -> Iterator[Comparison]:
    """The layer with statistics over all 64 images, level 64, and over parts of them."""
    yield at(cell, LAYER, BASE_RATE, "ghost batches", 64)
    for part in PARTS:
        yield at(cell, LAYER, BASE_RATE, "ghost batches", part, ghost_batch=part)


PLAN = Plan(
    "ghost",
    "Ghost batches",
    design,
    tuple(Cell(setting, cells.LITE, EXPLORATORY, 20, ("default",), 2) for setting in (cells.LEAVES[0], "cifar10/1v1")),
    order=7,
)
