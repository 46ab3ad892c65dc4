"""Remedies: what else is done about imbalance, with and without the layer."""

from collections.abc import Iterator

from replication.claims.claim import Plan
from replication.study.design import PAIR, Cell, Comparison, compare

LOSSES = ("class_weighted", "focal", "logit_adjusted_loss", "oversample")


def design(cell: Cell) -> Iterator[Comparison]:
    """Class weights, focal loss, logit-adjusted loss and oversampling, each with and without the layer."""
    yield compare(cell, (*PAIR, *(f"{norm}_{loss}" for loss in LOSSES for norm in PAIR)))


PLAN = Plan(
    "remedies", "Remedies for imbalance", design, (Cell("digits", seeds=20, kinds=("own",), version=0),), order=1
)
