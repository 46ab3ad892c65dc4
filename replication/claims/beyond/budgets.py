"""Tuning budgets: random configurations of every arm, so that the best of k of them can be compared for every k."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from replication.claims import cells
from replication.claims.claim import Plan
from replication.claims.law.runs import FIXED, at
from replication.study.design import EXPLORATORY, Cell, Comparison

CONFIGURATIONS = 20
ARMS = ("plain", "plain_logit_adjusted_loss", "plain_class_weighted", "final_bn", FIXED[-0.4])
BATCHES, EPOCHS = (32, 64, 128, 256), (5, 10, 20, 40)


def configurations(
    n: int = CONFIGURATIONS, seed: int = 16, further: Mapping[str, Sequence] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Factors of n random configurations, the same for every arm: AdamW's rate and weight decay, batch size, epochs.

    Rates and weight decays are log-uniform, from 3e-4 to 3e-1 and from 1e-4 to 1e-1, rounded to three digits; all else,
    with `further` factors and their values, is uniform.
    """
    rng = np.random.default_rng(seed)
    return [
        {
            "learning_rate": float(f"{10 ** rng.uniform(np.log10(3e-4), np.log10(3e-1)):.3g}"),
            "weight_decay": float(f"{10 ** rng.uniform(-4, -1):.3g}"),
            "batch_size": int(rng.choice(BATCHES)),
            "epochs": int(rng.choice(EPOCHS)),
            **{name: rng.choice(values).item() for name, values in further.items()},
            "optimizer": "adamw",
        }
        for _ in range(n)
    ]


def compared(cell: Cell, drawn: Sequence[dict[str, Any]]) -> Iterator[Comparison]:
    """Every arm in every configuration drawn; the level is the configuration's number."""
    for number, factors in enumerate(drawn):
        rest = {name: value for name, value in factors.items() if name != "learning_rate"}
        yield at(cell, ARMS, factors["learning_rate"], "configuration", number, **rest)


def design(cell: Cell) -> Iterator[Comparison]:
    """Every arm in every configuration of four factors."""
    yield from compared(cell, configurations())


PLAN = Plan(
    "budgets",
    "The best of k random configurations",
    design,
    tuple(
        Cell(setting, cells.LITE, EXPLORATORY, 5, ("default",), 2)
        for setting in (cells.LEAVES[0], "skin@160", "cifar10/1v1")
    ),
    order=6,
)
