"""Where the spread comes from: every split with every seed, so that the two can be distinguished."""

from collections.abc import Iterator

from replication.claims import cells
from replication.claims.claim import Plan
from replication.run import CONFIRMATORY
from replication.study.design import EXPLORATORY, PAIR, Cell, Comparison, compare

SPLITS = range(CONFIRMATORY, CONFIRMATORY + 10)


def design(cell: Cell) -> Iterator[Comparison]:
    """The base pair at its own rates; the level is the split's seed, which no other choice follows from."""
    for split in SPLITS:
        yield compare(cell, PAIR, kinds=("own",), variant="crossed", level=split, split_seed=split)


PLAN = Plan(
    "variance",
    "Where the spread comes from",
    design,
    tuple(Cell(setting, cells.LITE, EXPLORATORY, 6, ("own",), 3) for setting in (*cells.LEAVES, *cells.OTHERS)),
    order=8,
)
