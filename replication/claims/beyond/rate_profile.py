"""The rate profile: what the layer does at every learning rate, instead of at the best one."""

from collections.abc import Iterator

from replication.claims import cells
from replication.claims.claim import Plan
from replication.study.design import EXPLORATORY, PAIR, Cell, Comparison, compare
from replication.study.rates import grid_of

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def design(cell: Cell) -> Iterator[Comparison]:
    """The base pair at every rate."""
    rates = RATES if ":head" in cell.network else grid_of(cell.network)
    for rate in rates:
        yield compare(cell, PAIR, level=rate, rate=rate)


PLAN = Plan(
    "rate_profile",
    "The rate profile",
    design,
    tuple(
        Cell(f"plantvillage/{crop}@160", network, EXPLORATORY, 60, ("default",))
        for crop in ("tomato", "apple")
        for network in (cells.LITE, cells.RESNET)
    ),
    order=4,
)
