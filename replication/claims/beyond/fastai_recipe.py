"""fastai's recipe as its users run it: `fine_tune` with everything left as it is, without and with `bn_final=True`."""

from collections.abc import Iterator

from replication.claims import cells
from replication.claims.claim import Plan
from replication.study.design import SHOWN, Cell, Comparison, compare

RATE = 2e-3
"""what fastai's `fine_tune` takes where no rate is given"""
ARMS = ("plain", "final_bn_slow")
"""fastai's final norm has momentum 0.01"""


def design(cell: Cell) -> Iterator[Comparison]:
    """A frozen epoch and ten of all layers: the rate is the recipe's, so that nothing is tuned or judged."""
    yield compare(cell, ARMS, variant="fine_tune", rate=RATE, schedule="fine_tune")


PLAN = Plan(
    "fastai_recipe",
    "fastai's recipe",
    design,
    (Cell("plantvillage/tomato@128", f"{cells.FINE_TUNED}+fastai", SHOWN, 10, ("default",), version=4),),
    order=10,
)
