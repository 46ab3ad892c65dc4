"""Behind fastai's head: which part of it, or of the layer, carries the better ranking."""

from collections.abc import Iterator

from replication.claims import cells
from replication.claims.claim import Plan
from replication.study.design import EXPLORATORY, PAIR, Cell, Comparison, compare
from replication.study.rates import DEFAULT_RATE

ARMS = (*PAIR, "final_bn_slow", "mean_only", "affine")
"""the layer, with fastai's momentum, without its division by the standard deviation, and without its centring"""
VARIANTS = ("fastai_no_dropout", "fastai_torch_init")
"""fastai's head without dropout, and with PyTorch's initial weights instead of Kaiming's"""


def design(cell: Cell) -> Iterator[Comparison]:
    """All arms behind the head as it is and the base pair behind its variants, at Adam's default rate."""
    yield compare(cell, ARMS, kinds=("default",), variant="fastai", level=DEFAULT_RATE)
    for head in VARIANTS:
        yield compare(cell, PAIR, kinds=("default",), variant=head, level=DEFAULT_RATE, head=head)


PLAN = Plan(
    "fastai_head",
    "Behind fastai's head",
    design,
    (Cell(cells.LEAVES[0], f"{cells.LITE}+fastai", EXPLORATORY, 20, ("default",), 3),),
    order=9,
)
