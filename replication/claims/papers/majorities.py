"""One majority class or two: does the gain need a single one?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

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
from replication.study.design import PAIR, PRIMARY, Cell, Comparison, compare

if TYPE_CHECKING:
    import pandas as pd  # runs are planned and trained where it may be lacking

TOTALS = {"plantvillage/apple": 500, "plantvillage/tomato": 500}
"""majority images in total where not 1000, at every size: a diseased class has no more to give"""
TWO_MINORITIES = ("digits", "plantvillage/apple", "cifar10")
"""settings of the first rules that have a fourth class"""
IN_TOTAL, EACH = "majority images fixed in total", "images fixed per majority class"
ON_CIFAR = "CIFAR-10, one or two classes against one"
ONE, TWO = "one minority class", "two minority classes"
VARIANTS = tuple(f"{minorities}, {images}" for images in (IN_TOTAL, EACH) for minorities in (ONE, TWO))


def setting_with(setting: str, majorities: int, minorities: int) -> str:
    """The setting of a data set with so many majority and minority classes."""
    name, at, pixels = setting.partition("@")
    return f"{name}/{majorities}v{minorities}{at}{pixels}"


def design(cell: Cell) -> Iterator[Comparison]:
    """One or two majority classes by one minority class, in the first rules' cells by two as well.

    Once with 1000 majority images in total (or `TOTALS`), once with half as many in every majority class; 10 images a
    minority class. The level is the number of majority classes. Registered cells have the first alone, each tuned.
    """
    total = TOTALS.get(cell.setting.partition("@")[0], 1000)
    for images in (IN_TOTAL,) if cell.version else (IN_TOTAL, EACH):
        for m in (1, 2) if not cell.version and cell.setting in TWO_MINORITIES else (1,):
            for k in (1, 2):
                n = total // k if images == IN_TOTAL else total // 2
                variant = f"{ONE if m == 1 else TWO}, {images}"
                at = ("n_majority",) if cell.version else ()
                yield compare(
                    cell, PAIR, setting=setting_with(cell.setting, k, m), variant=variant, level=k, at=at, n_majority=n
                )


def measure(part: pd.DataFrame, metric: str, tests: int) -> Measures:
    """The gain with one majority class and with two, and their difference."""
    one, two = gain(part, metric, level=1), gain(part, metric, level=2)
    return {"gain": one, "gain_two_majorities": two, "one_minus_two": Effect(one.d - two.d)}


def decide(m: Measures) -> Decision:
    """Nothing must be gained with two majority classes."""
    two, difference = m["gain_two_majorities"], m["one_minus_two"]
    if two.above:
        reason = "with two majority classes the gain exceeds 0.05 as well"
        return Decision(CONTRADICTED, reason, ("gain_two_majorities",))
    if two.below and difference.above:
        return Decision(REPLICATED, "the gain exceeds 0.05 with one majority class only", ("gain", "one_minus_two"))
    if not two.below:
        return Decision(UNDECIDED, fresh_seeds(two))
    if difference.d.mean() > difference.margin:
        return Decision(UNDECIDED, fresh_seeds(difference))
    return Decision(UNDECIDED, "two majority classes gain less than 0.05, but one is not shown to gain 0.05 more")


def qualify(own: Decision, m: Measures) -> Iterator[str]:
    """Whether two majority classes, though they gain too, gain less."""
    if own.word == CONTRADICTED and m["one_minus_two"].above:
        yield "attenuated: two majority classes gain at least 0.05 less than one"


CLAIM = Claim(
    id="majorities",
    order=5,
    title="One majority class or two",
    design=design,
    cells=(
        Cell("plantvillage/tomato@160", cells.LITE, PRIMARY),
        Cell("cifar10", cells.LITE, PRIMARY, images=ON_CIFAR),
        Cell("digits", cells.LITE),
        *cells.published("digits", "plantvillage/apple", "plantvillage/tomato", kinds=("own", "shared")),
        *(replace(c, images=ON_CIFAR) for c in cells.published("cifar10", kinds=("own", "shared"))),
    ),
    statement="The effect occurs only with a single majority class; with two majority classes nothing improves.",
    source=K21,
    replicated_when=(
        "one majority class gains more than 0.05, two gain less than 0.05, and their difference exceeds 0.05"
    ),
    contradicted_when="with two majority classes the gain exceeds 0.05",
    measure=measure,
    decide=decide,
    qualify=qualify,
    headline=("gain_two_majorities", "gain with two majority classes"),
    variants=VARIANTS,
)
