"""The rules by which the law's predictions are judged: the numbers that each asks for, and whether they hold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binom

from replication.analysis import statistics as st
from replication.analysis.effects import INSIDE
from replication.analysis.law import confidence, predicted
from replication.analysis.thresholds import at_cut
from replication.claims.law.runs import FIXED, REMEDY_SCORES
from replication.run import FACTORS, Run
from replication.study.networks import network as network_of


@dataclass(frozen=True)
class Check:
    """One number that a rule asks for."""

    setting: str
    network: str
    what: str
    """which level of which factor"""
    expected: float
    observed: float
    low: float
    """lower end of the interval of what was found (95 %, or 90 % where equivalence is tested)"""
    high: float
    seeds: int
    margin: float
    holds: bool | None
    """none where the rule says nothing of it, e.g. beyond `LARGEST_S`"""
    S: float = float("nan")
    """sum of the shift's learning rates, where the law's simulation is compared"""

    @property
    def deviation(self) -> float:
        """What was found minus what was expected."""
        return self.observed - self.expected


# --- rows --------------------------------------------------------------------------------------------


def _groups(rows: pd.DataFrame, *by: str) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """Rows of one cell, and of one value of further columns, where every run has a result."""
    for key, part in rows.groupby(["cell_setting", "cell_network", *by], sort=False):
        if part["f1_minority"].notna().all():
            yield key, part


def _values(part: pd.DataFrame, arm: str, metric: str, readout: str = "as_trained") -> np.ndarray:
    """A metric of one arm in the order of seeds, (n,)."""
    if metric not in part:
        return np.array([])
    return part.loc[(part["arm"] == arm) & (part["readout"] == readout)].sort_values("seed")[metric].to_numpy(float)


def _run(part: pd.DataFrame) -> Run:
    row = part.iloc[0]
    return Run(**{name: getattr(row[name], "item", lambda v=row[name]: v)() for name in FACTORS})


def _interval(d: np.ndarray) -> tuple[float, float]:
    """95 % interval of a mean, by t: shifts of the same run differ by batches alone, and hardly at that."""
    return -st.upper_limit(-d, 0.975), st.upper_limit(d, 0.975)


def _level(variant: str, level: float) -> str:
    return f"{variant} {level:g}"


# --- rules -------------------------------------------------------------------------------------------


LARGEST_S = 2.5
"""sum of the shift's learning rates up to which the rule says how near the shift must be"""


def margin_of(S: float) -> float:
    """How near the shift must be, by the sum of its learning rates; not a number where the rule says nothing."""
    return 0.05 if S < 1 else 0.15 if S <= LARGEST_S else float("nan")


def _shift_check(key: tuple, what: str, part: pd.DataFrame, arm: str = "final_bn") -> Check | None:
    of = part[(part["arm"] == arm) & (part["readout"] == "as_trained")]
    if "learned_shift" not in of or not (d := of["learned_shift"].dropna().to_numpy(float)).size:
        return None  # older runs did not record it
    law = predicted(_run(of))
    margin = margin_of(law.S)
    holds = bool(abs(d.mean() - law.shift) <= margin) if np.isfinite(margin) else None
    return Check(*key[:2], what, law.shift, float(d.mean()), *_interval(d), len(d), margin, holds, law.S)


def _shifts(rows: pd.DataFrame) -> Iterator[Check]:
    for key, part in _groups(rows, "variant", "level"):
        if check := _shift_check(key, _level(*key[2:]), part):
            yield check


def _log_odds(rows: pd.DataFrame) -> Iterator[Check]:
    for key, part in _groups(rows, "level"):
        run = _run(part)
        pi = run.n_minority / (run.n_majority + run.n_minority)
        names = ("mean_log_odds_majority", "mean_log_odds_minority", "learned_shift")
        majority, minority, shift = (_values(part, "final_bn", name) for name in names)
        if not len(shift) or not np.isfinite(shift + majority + minority).all():
            continue
        d = (1 - pi) * majority + pi * minority - shift
        margin = 0.25 if network_of(key[1]).trained == "all" else 0.05
        yield Check(
            *key[:2],
            _level("rate", key[2]),
            0.0,
            float(d.mean()),
            *_interval(d),
            len(d),
            margin,
            bool(abs(d.mean()) <= margin),
        )


def _mean_confidence(rows: pd.DataFrame) -> Iterator[Check]:
    for key, part in _groups(rows, "level"):
        law, d = predicted(_run(part)), _values(part, "final_bn", "confidence_train")
        d, expected = d[np.isfinite(d)], confidence(law.shift)
        if len(d):
            holds = bool(abs(d.mean() - expected) <= 0.03)
            yield Check(
                *key[:2], _level("rate", key[2]), expected, float(d.mean()), *_interval(d), len(d), 0.03, holds, law.S
            )


def _equivalent(key: tuple, what: str, d: np.ndarray, wanted: bool = True) -> Check:
    """Whether a paired difference is shown to lie within 0.05 (TOST); with its 90 % interval by the same t."""
    shown = st.tost(d) < st.ALPHA
    return Check(
        *key[:2], what, 0.0, float(d.mean()), -st.upper_limit(-d), st.upper_limit(d), len(d), st.MARGIN, shown == wanted
    )


def _rate_acts(rows: pd.DataFrame) -> Iterator[Check]:
    for key, part in _groups(rows):
        layer = part[part["variant"] == "layer"]
        for r in sorted(layer["level"].unique()):
            reference = _values(layer[layer["level"] == r], "final_bn", "f1_minority")
            fixed = part[part["variant"] == f"shift of {r:g}"]
            for rate in sorted(fixed["level"].unique()):
                d = _values(fixed[fixed["level"] == rate], FIXED[0.0], "f1_minority") - reference
                yield _equivalent(key, f"shift of {r:g}, trained at {rate:g}", d)


def _batch_size(rows: pd.DataFrame) -> Iterator[Check]:
    for key, part in _groups(rows):
        levels = sorted(part["level"].unique())
        D = np.stack([_values(part[part["level"] == n], "final_bn", "f1_minority") for n in levels], 1)
        pairs = st.pairwise(D)
        for (i, j), d, low, high in zip(pairs.pairs, pairs.difference, pairs.low, pairs.high):
            within = bool(low > -INSIDE and high < INSIDE)
            yield Check(
                *key[:2],
                f"{levels[i]:g} minus {levels[j]:g}",
                0.0,
                float(d),
                float(low),
                float(high),
                len(D),
                st.MARGIN,
                within,
            )


def _sigmoid(rows: pd.DataFrame) -> Iterator[Check]:
    for key, part in _groups(rows, "level"):
        if check := _shift_check(key, _level("shift at rate", key[2]), part, "final_bn_sigmoid"):
            yield check
        d = _values(part, "final_bn_sigmoid", "f1_minority") - _values(part, "final_bn", "f1_minority")
        yield _equivalent(key, _level("F1 at rate", key[2]), d)


def _centred(rows: pd.DataFrame) -> Iterator[Check]:
    for key, part in _groups(rows, "level"):
        d = _values(part, "centred", "f1_minority") - _values(part, "final_bn", "f1_minority")
        yield _equivalent(key, _level("rate", key[2]), d, wanted=key[0] != "digits")


def _fixed_shift(rows: pd.DataFrame) -> Iterator[Check]:
    for key, part in _groups(rows):
        tuned = part[part["variant"] == "tuned"]
        scores = {(arm, readout, m): _values(tuned, arm, m, readout) for arm, readout, m in REMEDY_SCORES}
        if not all(len(v) and np.isfinite(v).all() for v in scores.values()):
            continue
        best = max(scores, key=lambda name: scores[name].mean())
        for rate in sorted(part.loc[part["variant"] == "untuned", "level"].unique()):
            here = part[(part["variant"] == "untuned") & (part["level"] == rate)]
            d = _values(here, FIXED[-0.4], "f1_macro") - scores[best]
            shown = st.p_above(d, -st.MARGIN) < st.ALPHA
            what = f"rate {rate:g}, minus {' · '.join(best[:2])}{', cut anew' if 'tuned' in best[2] else ''}"
            yield Check(
                *key[:2], what, 0.0, float(d.mean()), -st.upper_limit(-d), st.upper_limit(d), len(d), st.MARGIN, shown
            )


def _matched(rows: pd.DataFrame) -> Iterator[Check]:
    for key, part in _groups(rows):
        if "order" not in part:
            continue
        of = part[part["readout"] == "as_trained"].sort_values("seed")
        plain, layer = (of[of["arm"] == arm] for arm in ("plain", "final_bn"))
        if plain["order"].isna().any() or layer["cut"].isna().any():
            continue
        pairs = zip(plain["order"], plain["n_test"], layer["cut"])
        d = np.array([at_cut(order, int(n), int(cut))[0] for order, n, cut in pairs]) - layer["f1_minority"].to_numpy(
            float
        )
        yield _equivalent(key, "plain at the layer's number of positives", d)


def _median(x: np.ndarray) -> tuple[float, float, float]:
    """Median with the ends of its 95 % interval, which are two of the values (by the binomial distribution)."""
    x = np.sort(x)
    lowest = int(binom.ppf(0.025, len(x), 0.5)) - 1
    return float(np.median(x)), float(x[max(lowest, 0)]), float(x[min(len(x) - 1 - lowest, len(x) - 1)])


def _removed_zero(rows: pd.DataFrame) -> Iterator[Check]:
    for key, part in _groups(rows, "level"):
        names = "mean_log_odds_majority", "mean_log_odds_minority"
        majority, minority = (_values(part, "final_bn", name, "bn_removed") for name in names)
        predicted_at = _values(part, "final_bn", "predicted_zero")
        if not len(predicted_at) or not np.isfinite(predicted_at + majority + minority).all():
            continue
        found, low, high = _median(-majority / (minority - majority))
        expected, margin = float(np.median(predicted_at)), 0.15
        holds = bool(abs(found - expected) <= margin)
        yield Check(*key[:2], _level("rate", key[2]), expected, found, low, high, len(majority), margin, holds)


def _nothing(rows: pd.DataFrame) -> Iterator[Check]:
    """The law gives the layer's F1 over the number of minority images, not that of plain: no gain can be derived."""
    yield from ()


NEEDED = {
    "shift": "learned_shift",
    "optimizer": "learned_shift",
    "log_odds": "learned_shift",
    "shift_rate": "learned_shift",
    "removed_zero": "predicted_zero",
    "two_majorities": "learned_shift",
}
"""prediction -> what its rule needs of every run and older runs did not record; without it a run does not count as done"""
CHECKS: dict[str, Callable[[pd.DataFrame], Iterator[Check]]] = {
    "shift": _shifts,
    "optimizer": _shifts,
    "log_odds": _log_odds,
    "mean_confidence": _mean_confidence,
    "rate_acts_through_shift": _rate_acts,
    "shift_rate": _shifts,
    "batch_size": _batch_size,
    "sigmoid": _sigmoid,
    "ratio_peak": _nothing,
    "centred_features": _centred,
    "fixed_shift": _fixed_shift,
    "matched_positives": _matched,
    "removed_zero": _removed_zero,
    "two_majorities": _shifts,
}
"""the rule of every prediction"""
