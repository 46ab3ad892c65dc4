"""Training time: does the minority class need fewer epochs?"""

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
    NOT_ASSESSABLE,
    REPLICATED,
    UNDECIDED,
    Claim,
    Decision,
    Measures,
    fresh_seeds,
    gain,
)
from replication.results.frame import values
from replication.study.design import PAIR, PRIMARY, Cell, Comparison, compare

if TYPE_CHECKING:
    import pandas as pd  # runs are planned and trained where it may be lacking

CAP_EPOCHS = 100
TARGET_F1 = 0.8
MARGIN_EPOCHS = 1.0


def design(cell: Cell) -> Iterator[Comparison]:
    """A constant rate for up to 100 epochs, stopped at a validation F1 of 0.8; the base pair as the gate."""
    yield compare(cell, PAIR, level=CAP_EPOCHS, schedule="constant", epochs=CAP_EPOCHS, stop_f1=TARGET_F1)
    yield compare(cell, PAIR, level=10)


def epochs_to_target(part: pd.DataFrame, arm: str) -> np.ndarray:
    """Epoch at which validation F1 was at least the target twice in a row, (n,); NaN where it never was."""
    columns = (values(part, arm, name, level=CAP_EPOCHS) for name in ("validation_f1_minority", "stop_f1"))
    hit = []
    for curve, target in zip(*columns):
        twice = (np.asarray(curve)[1:] >= target) & (np.asarray(curve)[:-1] >= target)
        hit.append(np.flatnonzero(twice)[0] + 2 if twice.any() else np.nan)
    return np.array(hit, dtype=float)


def measure(part: pd.DataFrame, metric: str, tests: int) -> Measures:
    """Epochs saved, by means restricted to the cap, and the share of runs that never reached the target."""
    hit = {arm: epochs_to_target(part, arm) for arm in PAIR}
    saved = st.restricted(hit["plain"], CAP_EPOCHS) - st.restricted(hit["final_bn"], CAP_EPOCHS)
    censored = np.mean([np.isnan(epochs) for epochs in hit.values()], axis=0)
    return {
        "gain": gain(part, metric, level=10),
        "epochs_saved": Effect(saved, margin=MARGIN_EPOCHS),
        "censored": Effect(censored, margin=0.5),
    }


def decide(m: Measures) -> Decision:
    """By the mean number of epochs, each run's capped at 100."""
    saved = m["epochs_saved"]
    if m["censored"].d.mean() > 0.5:
        return Decision(NOT_ASSESSABLE, "more than half of the runs never reached the target within 100 epochs")
    if saved.above:
        return Decision(REPLICATED, "the layer saves more than one epoch on the way to a validation F1 of 0.8")
    if saved.below:
        return Decision(CONTRADICTED, "the layer saves less than one epoch on the way to a validation F1 of 0.8")
    return Decision(UNDECIDED, fresh_seeds(saved))


CLAIM = Claim(
    id="training_time",
    order=9,
    title="Training time",
    design=design,
    cells=(
        Cell("plantvillage/tomato@160", cells.LITE, PRIMARY, 20),
        *cells.published("digits", seeds=20, kinds=("own", "shared")),
    ),
    statement="The layer cuts the training time (epochs) needed for the minority class.",
    source=K20,
    replicated_when="the mean number of epochs to a validation F1 of 0.8, capped at 100, falls by more than one",
    contradicted_when="it falls by less than one",
    measure=measure,
    decide=decide,
    curves=PAIR,
    headline=("epochs_saved", f"mean epochs saved (runs capped at {CAP_EPOCHS})"),
)
