"""A wider random search: as `budgets`, with label smoothing and augmentation among what is drawn."""

from collections.abc import Iterator
from typing import Any

from replication.claims import cells
from replication.claims.beyond import budgets
from replication.claims.claim import Plan
from replication.run import AUGMENTATIONS
from replication.study.design import EXPLORATORY, Cell, Comparison

FURTHER = {"label_smoothing": (0.0, 0.05, 0.1, 0.2), "augmentation": AUGMENTATIONS}
"""factors beyond those of `budgets`, with the values that are drawn"""


def configurations(n: int = budgets.CONFIGURATIONS) -> list[dict[str, Any]]:
    """Factors of n random configurations of six factors, see `budgets.configurations`."""
    return budgets.configurations(n, 17, FURTHER)


def design(cell: Cell) -> Iterator[Comparison]:
    """Every arm in every configuration of six factors."""
    yield from budgets.compared(cell, configurations())


PLAN = Plan(
    "search",
    "The best of k random configurations of six factors",
    design,
    tuple(
        Cell(setting, network, EXPLORATORY, 5, ("default",), 5)
        for setting, network in (
            (cells.LEAVES[0], cells.LITE),
            ("skin@160", cells.LITE),
            ("cifar10/1v1", cells.RESNET),
        )
    ),
    order=11,
)
