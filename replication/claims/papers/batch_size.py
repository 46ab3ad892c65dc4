"""The batch size: does it change the gain?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from replication.claims import cells
from replication.claims.claim import (
    CONTRADICTED,
    K21,
    REPLICATED,
    UNDECIDED,
    Claim,
    Decision,
    Measures,
    at_levels,
    curve,
)
from replication.claims.papers.base import FORMS
from replication.claims.papers.ratio import CURVE_KINDS
from replication.study.design import BASE_UPDATES, PAIR, PRIMARY, Cell, Comparison, compare

if TYPE_CHECKING:
    import pandas as pd  # runs are planned and trained where it may be lacking

LEVELS = (8, 16, 32, 64, 128, 256)
LARGEST = (512,)
"""which leaves one update an epoch: on digits only"""


def design(cell: Cell) -> Iterator[Comparison]:
    """Batch sizes at 10 epochs, and again at 150 updates; registered cells are tuned at every batch size."""
    tuned = ("batch_size",) if cell.version else ()
    for n in LEVELS + cell.option("more_levels"):
        yield compare(cell, PAIR, variant="equal epochs", level=n, at=tuned, batch_size=n)
        if forms := cell.option("forms"):
            yield compare(cell, forms, kinds=("own",), variant="forms", level=n, batch_size=n)
        if n <= cell.option("equal_updates_up_to", (512,))[0]:
            yield compare(cell, PAIR, variant="equal updates", level=n, at=tuned, batch_size=n, updates=BASE_UPDATES)


def measure(part: pd.DataFrame, metric: str, tests: int) -> Measures:
    """The gain over batch sizes at equal epochs, which is judged, and at equal updates where run."""
    judged = curve(part, "equal epochs", metric, tests)
    beside = {"updates": curve(part, "equal updates", metric, tests)} if "equal updates" in set(part["variant"]) else {}
    return at_levels(judged) | {"epochs": judged} | beside


def decide(m: Measures) -> Decision:
    """By the gain at equal epochs; no cause is read out of a test that found nothing."""
    if m["epochs"].some_apart():
        return Decision(REPLICATED, "the gain differs by more than 0.05 between some batch sizes", ("epochs",))
    if m["epochs"].all_within():
        return Decision(CONTRADICTED, "the gain is the same at all batch sizes within 0.05")
    return Decision(UNDECIDED, "neither differences nor their absence are shown between batch sizes")


CLAIM = Claim(
    id="batch_size",
    order=3,
    title="The batch size",
    design=design,
    cells=(
        Cell("plantvillage/tomato@160", cells.LITE, PRIMARY, 60, CURVE_KINDS),
        *cells.with_options((Cell("digits", cells.LITE, PRIMARY, 60, CURVE_KINDS),), more_levels=LARGEST),
        *cells.with_options(
            cells.published("digits", seeds=20, kinds=("own", "shared")), more_levels=LARGEST, forms=FORMS
        ),
        # 150 updates of 256 photographs cost as much as four base runs
        *cells.with_options(cells.published("plantvillage/apple", kinds=("own", "shared")), equal_updates_up_to=(128,)),
    ),
    statement="The batch size affects the outcome of the final BatchNorm.",
    source=K21,
    replicated_when="some pair of batch sizes differs in gain by more than 0.05 at equal epochs (simultaneously)",
    contradicted_when="all pairs differ by less than 0.05",
    measure=measure,
    decide=decide,
    headline=("epochs", "gain over the batch sizes"),
    variants=("equal epochs",),
)
