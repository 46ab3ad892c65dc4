"""A sigmoid output: is there almost no gain with it?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from replication.analysis import statistics as st
from replication.analysis.effects import Effect
from replication.claims import cells
from replication.claims.claim import (
    CONTRADICTED,
    K21,
    REPLICATED,
    UNDECIDED,
    Claim,
    Decision,
    Measures,
    fresh_seeds,
    gain,
)
from replication.study.design import PAIR, SIGMOIDS, Cell, Comparison, compare

if TYPE_CHECKING:
    import pandas as pd  # runs are planned and trained where it may be lacking


def design(cell: Cell) -> Iterator[Comparison]:
    """The base pair with softmax, with one sigmoid logit, and with one sigmoid per class."""
    yield compare(cell, (*PAIR, *SIGMOIDS))


def measure(part: pd.DataFrame, metric: str, tests: int) -> Measures:
    """The gain with softmax, with one sigmoid logit (which is judged), and with one per class (shown beside it)."""
    softmax = gain(part, metric)
    found: Measures = {"gain": softmax}
    for output in ("sigmoid", "sigmoids"):
        effect = gain(part, metric, f"final_bn_{output}", f"plain_{output}")
        found |= {f"gain_{output}": effect, f"softmax_minus_{output}": Effect(softmax.d - effect.d)}
    return found


def decide(m: Measures) -> Decision:
    """Absence takes equivalence within 0.05 and large gains shown to be rare."""
    one, difference = m["gain_sigmoid"], m["softmax_minus_sigmoid"]
    if one.above:
        return Decision(CONTRADICTED, "with a sigmoid output the gain exceeds 0.05 as well", ("gain_sigmoid",))
    if one.n < st.LEAST_SEEDS_FOR_ABSENCE:
        return Decision(UNDECIDED, f"{one.n} seeds cannot show absence: it takes {st.LEAST_SEEDS_FOR_ABSENCE}")
    if not one.within:
        return Decision(
            UNDECIDED, "the gain with one sigmoid logit is shown neither to exceed 0.05 nor to lie within it"
        )
    if not replace(st.absent(one.d), p_tost=one.adjusted[2]):
        return Decision(
            UNDECIDED, "the sigmoid's gain is within 0.05 on average, but large ones are not shown to be rare"
        )
    if difference.above:
        return Decision(REPLICATED, "with a sigmoid output the gain is absent", ("softmax_minus_sigmoid",))
    if difference.d.mean() > difference.margin:
        return Decision(UNDECIDED, fresh_seeds(difference))
    return Decision(UNDECIDED, "the gain is absent with one sigmoid logit, but softmax is not shown to gain 0.05 more")


CLAIM = Claim(
    id="sigmoid",
    order=6,
    title="A sigmoid output",
    design=design,
    cells=(*cells.frozen(seeds=200), *cells.published("digits"), *cells.on_images()),
    statement="With a sigmoid output the layer has almost no impact under strong imbalance.",
    source=K21,
    replicated_when=(
        "softmax gains more than 0.05, the gain with one sigmoid logit is absent (equivalent within 0.05, large gains "
        "rare), and the difference exceeds 0.05"
    ),
    contradicted_when="with one sigmoid logit the gain exceeds 0.05",
    measure=measure,
    decide=decide,
    headline=("gain_sigmoid", "gain with one sigmoid logit"),
)
