"""Constructed tables: a claim's own design on its own cells, with scores put in instead of trained."""

import dataclasses
import functools
from unittest import mock

import numpy as np
import pandas as pd
from scipy import stats

from replication.claims import judge
from replication.claims.registry import CLAIMS
from replication.run import CONFIRMATORY, FACTORS
from replication.study import arms
from replication.study import rates as rates_module

PROBABILITIES = ("nll", "nll_train", "brier", "brier_train", "confidence_train", "roc_auc")
CURVES = ("validation_nll", "validation_nll_train", "test_f1_minority", "validation_f1_minority")
WIDE = np.array([0.0, 0.12] * 100)  # mean 0.06, but not shown to lie on either side of 0.05
LITE, CNN = "efficientnet_lite0:imagenet:head", "simple_cnn"


def with_p(p, n=60):
    """Gains (n,) that a paired t test puts above 0.05 with exactly this p."""
    return 0.05 + stats.zscore(np.arange(float(n)), ddof=1) + stats.t.isf(p, n - 1) / np.sqrt(n)


class Everywhere(dict):
    """Chosen rates of any place: those of a level differ from those at 1000:10."""

    def __init__(self, plain, other, tried=None):
        self.plain, self.other, self.tried = plain, other, tried

    def __contains__(self, place):
        return True

    def get(self, place, default=None):
        if self.tried:
            return dict.fromkeys(arms.ARMS, self.tried)
        at = 1.1 if "=" in place else 1.0
        return {arm: at * (self.plain if arm.startswith("plain") else self.other) for arm in arms.ARMS}

    __getitem__ = get


def chosen(plain=1e-2, other=3e-3, tried=(1e-5, 1.0)):
    """Every learning rate chosen: `plain` and its like, and all other arms."""
    rates = {
        "grid": Everywhere(plain, other),
        "wide": Everywhere(3 * plain, other / 3),
        "tried": Everywhere(0, 0, tried),
    }
    return mock.patch.object(rates_module, "chosen_rates", lambda kind="grid": rates[kind])


def cell_of(claim, setting, network=CNN, **changes):
    """A planned cell of a claim, changed."""
    found = next(c for c in CLAIMS[claim].cells if (c.setting, c.network) == (setting, network))
    return dataclasses.replace(found, **changes)


@functools.cache
def planned(claim, cells):
    """The frame of some cells with F1 0 everywhere."""
    with chosen():
        runs = dict.fromkeys(e.run for cell in cells for e in CLAIMS[claim].entries(cell))
    zero = (
        dict.fromkeys(PROBABILITIES, 0.5) | {name: [0.0] * 3 for name in CURVES} | {"f1_minority": 0.0, "f1_macro": 0.0}
    )
    results = pd.DataFrame(
        {"key": i, **vars(run), "readout": readout, **zero}
        for i, run in enumerate(runs)
        for readout in ("as_trained", "bn_removed", "logit_adjusted")
    )
    with chosen():
        found = judge.plan_frame(CLAIMS[claim], cells, results)
    return found.drop(columns={*FACTORS} - {"seed", "stop_f1"})


def arm(score, name="final_bn", column="f1_minority", **where):
    """What to put where: one value for all seeds, one a seed (n,), or one list for all seeds; F1 is macro F1 as well."""
    return score, ("f1_minority", "f1_macro") if column == "f1_minority" else (column,), {"arm": name, **where}


def fill(table, *puts):
    """A frame with `puts` in it."""
    table = table.copy()
    for score, columns, where in puts:
        rows = np.logical_and.reduce([table[k] == v for k, v in where.items()])
        of = score.__getitem__ if isinstance(score, np.ndarray) else lambda _, score=score: score
        for column in columns:
            table.loc[rows, column] = table.loc[rows, "seed"].map(lambda s, of=of: of(s - CONFIRMATORY))
    return table


def at(cell, *puts):
    """The same puts in one cell of several."""
    return [
        (score, columns, where | {"cell_setting": cell.setting, "cell_network": cell.network})
        for score, columns, where in puts
    ]


def judged(claim, cells, *puts, drop=None, **rates):
    """The judgement of some cells of a claim on a constructed table."""
    cells = tuple(cells)
    table = fill(planned(claim, cells), *puts)
    with chosen(**rates):
        return judge.judge(CLAIMS[claim], table if drop is None else drop(table), cells)


def one(claim, cell, *puts, **rates):
    """The verdict of one cell; of `majorities` that of its first variant."""
    return judged(claim, (cell,), *puts, **rates).cells[0]
