"""Other data, simpler networks: does the gain carry over?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from replication.claims import cells
from replication.claims.claim import K21, Claim, Measures, gain
from replication.claims.papers import base
from replication.study.design import PAIR, SECONDARY, Cell, Comparison, compare

if TYPE_CHECKING:
    import pandas as pd  # runs are planned and trained where it may be lacking

OTHER_DATA = ("digits", "cracks@128", "skin@160", "cifar10/1v1")
SIMPLER_ON = ("digits", "cracks", "skin", "cifar10")
"""the four cells of each part: others, added or asked for, decide nothing"""


def design(cell: Cell) -> Iterator[Comparison]:
    """The base pair."""
    yield compare(cell, PAIR)


def measure(part: pd.DataFrame, metric: str, tests: int) -> Measures:
    """The gain."""
    return {"gain": gain(part, metric)}


def other_data(cell: Cell) -> bool:
    """The frozen EfficientNet-Lite0 on four sets of other images."""
    return cell.network == cells.LITE and cell.setting in OTHER_DATA


def simpler_network(cell: Cell) -> bool:
    """The small CNN on the same four sets."""
    return cell.network == "simple_cnn" and cell.setting in SIMPLER_ON


CLAIM = Claim(
    id="generality",
    order=4,
    title="Other data, simpler networks",
    design=design,
    cells=(
        *(Cell(setting, cells.LITE) for setting in OTHER_DATA),
        *cells.published("digits", *cells.IMAGES),
        *(Cell("digits", network, SECONDARY, 60, cells.FIRST_KINDS, 0) for network in ("mlp", "logistic")),
    ),
    statement="The effect shows on other data sets and with much simpler architectures.",
    source=K21,
    replicated_when="the gain exceeds 0.05 in at least three of the four cells, for other data and for simpler networks each",
    contradicted_when="it lies below 0.05 in at least three of the four",
    measure=measure,
    decide=base.decide,
    headline=("gain", "gain"),
    gated=False,
    groups=(("other data", other_data), ("simpler networks", simpler_network)),
)
