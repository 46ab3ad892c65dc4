"""Softmax as uncertainty: does the network do better while less confident?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from replication.analysis import statistics as st
from replication.analysis.effects import Effect
from replication.claims import cells
from replication.claims.claim import CONTRADICTED, K20, K21, REPLICATED, UNDECIDED, Claim, Decision, Measures, gain
from replication.results.frame import values
from replication.study.design import PAIR, Cell, Comparison, compare

if TYPE_CHECKING:
    import pandas as pd  # runs are planned and trained where it may be lacking


def design(cell: Cell) -> Iterator[Comparison]:
    """The base runs, judged by their probabilities."""
    yield compare(cell, PAIR)


def measure(part: pd.DataFrame, metric: str, tests: int) -> Measures:
    """The gain, and what the layer does to confidence, NLL and Brier score at training prevalence and at balance."""

    def difference(name: str) -> Effect:
        return Effect(values(part, "final_bn", name) - values(part, "plain", name), margin=0.0)

    names = ("confidence_train", "nll_train", "nll", "brier_train", "brier")
    return {"gain": gain(part, metric)} | {name: difference(name) for name in names}


def decide(m: Measures) -> Decision:
    """At training prevalence: less confident and worse NLL while F1 rises; contradicted by either's opposite (Holm)."""
    confidence, nll = m["confidence_train"], m["nll_train"]
    if confidence.below and nll.above:
        return Decision(REPLICATED, "F1 rises while mean confidence falls and NLL gets worse", ("gain",))
    higher, better = st.holm([confidence.adjusted[0], nll.adjusted[1]])
    if min(higher, better) < st.ALPHA:
        words = [word for p, word in ((higher, "confidence rises"), (better, "NLL gets better")) if p < st.ALPHA]
        return Decision(CONTRADICTED, f"F1 rises and {' and '.join(words)}")
    words = [
        f"{name} {'higher' if e.above else 'lower' if e.below else 'open'}"
        for name, e in (("confidence", confidence), ("NLL at training prevalence", nll))
    ]
    return Decision(UNDECIDED, ", ".join(words))


CLAIM = Claim(
    id="confidence",
    order=7,
    title="Softmax as uncertainty",
    design=design,
    cells=(
        cells.identity(),
        *cells.close(),
        *cells.frozen(),
        *cells.published("digits", *cells.IMAGES),
        *cells.resnets(),
    ),
    statement=(
        "The layer undermines softmax output as an uncertainty measure: the network does better while less confident."
    ),
    source=f"{K20} and {K21}",
    replicated_when="F1 rises while, at training prevalence, mean confidence falls and NLL gets worse",
    contradicted_when="confidence rises, or NLL gets better, at training prevalence",
    measure=measure,
    decide=decide,
    headline=("confidence_train", "change of mean confidence at training prevalence"),
    predictions=PAIR,
)
