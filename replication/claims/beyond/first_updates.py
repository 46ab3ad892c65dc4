"""The first updates: how each class fares while training has hardly begun, with Adam and with SGD.

Gradient descent is said to lose the rare class at first (Francazi et al. 2023, arXiv:2207.00391) and to learn it slowly
(Kunstner et al. 2024, arXiv:2402.19449). With a constant rate, n updates are the first n of any longer training.
"""

from collections.abc import Iterator

from replication.claims import cells
from replication.claims.claim import Plan
from replication.claims.law.runs import at
from replication.study.design import EXPLORATORY, PAIR, Cell, Comparison

UPDATES = (1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 50, 100, 150, 300)
RATES = {"adam": 1e-3, "sgd": 1e-2}
"""optimiser -> constant learning rate, tuned for no arm"""


def design(cell: Cell) -> Iterator[Comparison]:
    """Both arms after n updates, by optimiser; the level is n."""
    for optimizer, rate in RATES.items():
        for n in UPDATES:
            yield at(cell, PAIR, rate, optimizer, n, optimizer=optimizer, schedule="constant", updates=n)


PLAN = Plan(
    "first_updates",
    "The first updates",
    design,
    (
        Cell("digits", "simple_cnn", EXPLORATORY, 20, ("default",), 5),
        Cell(cells.LEAVES[0], cells.LITE, EXPLORATORY, 20, ("default",), 5),
    ),
    order=12,
)
