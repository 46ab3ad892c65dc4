"""Loss as a guide: does the epoch of least loss miss the best F1?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from replication.analysis import statistics as st
from replication.analysis.effects import Effect
from replication.claims import cells
from replication.claims.claim import (
    CONTRADICTED,
    K20,
    REPLICATED,
    UNDECIDED,
    Claim,
    Decision,
    Measures,
    fresh_seeds,
    gain,
)
from replication.results.frame import values
from replication.study.design import PAIR, Cell, Comparison, compare

if TYPE_CHECKING:
    import pandas as pd  # runs are planned and trained where it may be lacking


def design(cell: Cell) -> Iterator[Comparison]:
    """The base runs, read at every epoch."""
    yield compare(cell, PAIR)


def at_least_loss(part: pd.DataFrame, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Within `final_bn`: test F1 at the epoch of least validation loss minus that of the last epoch, and that epoch.

    Both (n,). `loss`: `validation_nll`, of the validation images as they are, or `validation_nll_train`, of these
    weighted to training prevalence. F1 0 where no epoch has a finite loss.
    """
    losses, f1 = (values(part, "final_bn", name) for name in (loss, "test_f1_minority"))
    least = [int(np.nanargmin(v)) if np.isfinite(v).any() else -1 for v in losses]
    difference = [(f[k] if k >= 0 else 0.0) - f[-1] for f, k in zip(f1, least)]
    return np.array(difference), np.array(least) + 1


def measure(part: pd.DataFrame, metric: str, tests: int) -> Measures:
    """What stopping at the least validation loss costs in F1, by the validation images' prevalence and by training's."""
    return {"gain": gain(part, metric)} | {
        name: Effect(at_least_loss(part, loss)[0], margin=-st.MARGIN)
        for name, loss in (
            ("f1_at_least_loss_minus_last", "validation_nll"),
            ("f1_at_least_loss_minus_last_train", "validation_nll_train"),
        )
    }


def decide(m: Measures) -> Decision:
    """By the validation images' own prevalence; training's stands beside it."""
    stopped = m["f1_at_least_loss_minus_last"]
    if stopped.below:
        return Decision(REPLICATED, "at the epoch of least loss F1 is more than 0.05 below that of the last epoch")
    if stopped.above:
        return Decision(CONTRADICTED, "stopping at the epoch of least loss costs less than 0.05 F1")
    return Decision(UNDECIDED, fresh_seeds(stopped))


CLAIM = Claim(
    id="loss_choice",
    order=8,
    title="Loss as a guide",
    design=design,
    cells=(
        cells.identity(),
        *cells.close(),
        *cells.frozen(),
        *cells.published("digits", *cells.IMAGES),
        *cells.resnets(),
    ),
    statement="With the layer, a lower loss does not mean a better minority F1.",
    source=K20,
    replicated_when=(
        "within `final_bn` the test F1 at the epoch of least validation loss lies more than 0.05 below that of the last epoch"
    ),
    contradicted_when="it lies less than 0.05 below",
    measure=measure,
    decide=decide,
    curves=("final_bn",),
    headline=("f1_at_least_loss_minus_last", "F1 at the epoch of least loss minus F1 at the end"),
)
