"""A wider random search: as `budgets`, with label smoothing and augmentation among what is drawn."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from replication.claims import cells
from replication.claims.beyond.budgets import ARMS, BATCHES, CONFIGURATIONS, EPOCHS
from replication.claims.claim import Plan
from replication.claims.law.runs import at
from replication.run import AUGMENTATIONS
from replication.study.design import EXPLORATORY, Cell, Comparison

SMOOTHING = (0.0, 0.05, 0.1, 0.2)
"""shares of a label that are spread over the classes"""


def configurations(n: int = CONFIGURATIONS) -> list[dict[str, Any]]:
    """Factors of n random configurations, the same for every arm: those of `budgets`, label smoothing and augmentation.

    Rates and weight decays are log-uniform, from 3e-4 to 3e-1 and from 1e-4 to 1e-1, rounded to three digits; all else is
    uniform over its values.
    """
    rng = np.random.default_rng(17)
    return [
        {
            "learning_rate": float(f"{10 ** rng.uniform(np.log10(3e-4), np.log10(3e-1)):.3g}"),
            "weight_decay": float(f"{10 ** rng.uniform(-4, -1):.3g}"),
            "batch_size": int(rng.choice(BATCHES)),
            "epochs": int(rng.choice(EPOCHS)),
            "label_smoothing": float(rng.choice(SMOOTHING)),
            "augmentation": str(rng.choice(AUGMENTATIONS)),
            "optimizer": "adamw",
        }
        for _ in range(n)
    ]


def design(cell: Cell) -> Iterator[Comparison]:
    """Every arm in every configuration; the level is the configuration's number."""
    for number, factors in enumerate(configurations()):
        rest = {name: value for name, value in factors.items() if name != "learning_rate"}
        yield at(cell, ARMS, factors["learning_rate"], "configuration", number, **rest)


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
