"""Paired statistics: intervals, margin tests, absence and simultaneous comparisons over seeds.

`d` is a 1-d array `(n,)` of differences paired by seed, in F1 unless said otherwise; `D` is `(n, G)`, one
column per grid point. NaN, infinities and wrong dimensions in either raise ValueError. All results are
deterministic and do not depend on the order of the seeds.
"""

import warnings
from dataclasses import dataclass
from math import ceil, inf, sqrt

import numpy as np
from numpy.typing import ArrayLike

ALPHA = 0.05
MARGIN = 0.05  # smallest effect of interest, F1
BIG = 0.25  # a single seed's |difference| that counts as large, F1
BIG_SHARE = 0.06  # absence tolerates a share of large differences below this
LEAST_SEEDS_FOR_ABSENCE = 49  # fewer seeds without a single large difference leave its upper limit above BIG_SHARE
SEED = 0
# Subtracting two F1 scores leaves noise of 1e-16, which must neither break a tie nor pass for spread.
TINY = 1e-12


def _stats():
    """scipy.stats, loaded at its first use: runs are planned and trained where it may be lacking."""
    from scipy import stats

    return stats


def _finite(d: ArrayLike, ndim: int = 1) -> np.ndarray:
    d = np.asarray(d, dtype=float)
    if d.ndim != ndim:
        raise ValueError(f"Paired differences must have {ndim} dimension(s), found shape {d.shape}.")
    if bad := int((~np.isfinite(d)).sum()):
        raise ValueError(f"Paired differences must be finite, found {bad} NaN or infinite of {d.size}.")
    return d


def _mean_se(d: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of `(n,)`, n >= 2; the error is exactly 0 where all values are equal."""
    if np.ptp(d) <= TINY:
        return float(d[0]), 0.0
    return float(d.mean()), float(d.std(ddof=1) / sqrt(d.size))


def bca(d: ArrayLike, level: float = 0.95, resamples: int = 9999) -> tuple[float, float]:
    """BCa bootstrap interval of the mean of `d` (Efron 1987, by scipy.stats.bootstrap).

    The interval is the point where all differences are equal or n is 1. Where BCa is undefined (its bias or
    acceleration term is not a number) it falls back to the percentile interval. Raises ValueError for empty
    `d`. Coverage at n = 20 is nominal for bimodal gains, but falls to 0.65 where 1 seed in 20 differs.
    """
    d = _finite(d)
    if d.size == 0:
        raise ValueError("An interval needs at least one paired difference, found none.")
    scale = np.ptp(d)
    if scale <= TINY:
        return float(d[0]), float(d[0])
    # Centred and rounded: resampled means that tie with the observed mean must compare as equal, since the
    # bias term counts ties by half and F1 differences tie often.
    centre = d.mean()
    z = (np.sort(d) - centre) / scale

    def mean(x: np.ndarray, axis: int) -> np.ndarray:
        return np.round(np.mean(x, axis=axis), 12)

    def interval(method: str) -> np.ndarray:
        result = _stats().bootstrap(
            (z,), mean, confidence_level=level, n_resamples=resamples, method=method, rng=np.random.default_rng(SEED)
        )
        return centre + scale * np.array(result.confidence_interval)

    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", _stats().DegenerateDataWarning)
        low, high = interval("BCa")
    if np.isnan(low) or np.isnan(high):
        low, high = interval("percentile")
    return float(low), float(high)


def p_above(d: ArrayLike, margin: float = MARGIN) -> float:
    """One-sided p of a paired t test that the mean lies above `margin`; 1.0 for n < 2.

    Without spread it is 0.0 or 1.0 by the side, and 1.0 on the margin. No test of n seeds can see an event
    that it has not drawn: where 1 seed in 20 loses 0.9 F1 and the others gain 0.1 (mean 0.05), the size at
    n = 20 is 0.36 instead of 0.05. `big_share_upper` bounds the share of such events.
    """
    d = _finite(d)
    if d.size < 2:
        return 1.0
    mean, se = _mean_se(d)
    if se == 0:
        return 0.0 if mean - margin > TINY else 1.0
    from scipy.special import stdtr  # what `scipy.stats.t.sf` calls, a fortieth of its time

    return float(stdtr(d.size - 1, -(mean - margin) / se))


def p_below(d: ArrayLike, margin: float = MARGIN) -> float:
    """One-sided p that the mean lies below `margin`: `p_above` mirrored."""
    return p_above(-_finite(d), -margin)


def upper_limit(d: ArrayLike, level: float = 0.95) -> float:
    """One-sided upper confidence limit of the mean (t); below `margin` exactly when `p_below` < 1 - level."""
    d = _finite(d)
    if d.size < 2:
        return inf
    mean, se = _mean_se(d)
    return float(mean + _stats().t.ppf(level, d.size - 1) * se)


def holm(ps: ArrayLike) -> np.ndarray:
    """Holm-adjusted p-values `(m,)` in the order given (Holm 1979); empty for empty input.

    Raises ValueError for a p-value that is NaN or outside [0, 1].
    """
    ps = np.asarray(ps, dtype=float)
    if not ((ps >= 0) & (ps <= 1)).all():
        raise ValueError(f"p-values must lie in [0, 1], found {ps.tolist()}.")
    order = np.argsort(ps)
    adjusted = np.empty_like(ps)
    adjusted[order] = np.minimum(np.maximum.accumulate(ps[order] * np.arange(ps.size, 0, -1)), 1)
    return adjusted


def tost(d: ArrayLike, margin: float = MARGIN) -> float:
    """p of paired equivalence within ±`margin`: the larger of two one-sided p (Schuirmann 1987)."""
    return max(p_above(d, -margin), p_below(d, margin))


def big_share_upper(d: ArrayLike, big: float = BIG, level: float = 0.95) -> float:
    """One-sided Clopper-Pearson upper limit of the share of seeds with `|d| > big`; 1.0 for empty `d`."""
    d = _finite(d)
    k = int((np.abs(d) > big + TINY).sum())
    return float(_stats().beta.ppf(level, k + 1, d.size - k)) if k < d.size else 1.0


@dataclass(frozen=True)
class Absence:
    """Is an effect absent? `dataclasses.replace(it, p_tost=p)` judges it by a Holm-adjusted p instead."""

    p_tost: float
    share_upper: float

    @property
    def holds(self) -> bool:
        return self.p_tost < ALPHA and self.share_upper < BIG_SHARE

    def __bool__(self) -> bool:
        return self.holds


def absent(d: ArrayLike) -> Absence:
    """Equivalent within ±MARGIN on average and large differences rare; holds only from 49 seeds on."""
    return Absence(tost(d), big_share_upper(d))


@dataclass(frozen=True)
class Pairwise:
    """All pairs of columns i < j, and the mean of column i minus column j with its simultaneous interval."""

    pairs: np.ndarray  # (P, 2)
    difference: np.ndarray  # (P,)
    low: np.ndarray  # (P,)
    high: np.ndarray  # (P,)


def pairwise(D: ArrayLike, level: float = 0.95, resamples: int = 4999) -> Pairwise:
    """Simultaneous intervals of all mean differences between the columns of `D` `(n, G)`.

    Studentised `max-|t|` bootstrap over seeds (Romano & Wolf 2005): difference ± q SE, where q is the `level`
    quantile of the maximum over pairs of `|mean* - mean| / SE*`. Pairs without spread get the point and stay
    out of the maximum; n < 2 gives infinite intervals.

    Where nearly all seeds of a pair tie, many resamples have SE* = 0 or next to it. Dropping them would drop
    the worst resamples and shrink q, so SE* = 0 counts as t* = infinity. But such a pair says nothing of the
    others, and one failed seed would make every interval useless: a pair whose own t*, at 1 - (1 - level) / P
    for P pairs, passes twice the Bonferroni t quantile leaves the maximum and gets the larger of q and that
    quantile. Hence q is finite.
    """
    D = _finite(D, ndim=2)
    i, j = np.triu_indices(D.shape[1], k=1)
    pairs = np.stack([i, j], axis=1)
    X = D[:, i] - D[:, j]  # (n, P)
    n, P = X.shape
    if n < 2:
        return Pairwise(pairs, X[0] if n else np.full(P, np.nan), np.full(P, -inf), np.full(P, inf))
    flat = np.ptp(X, axis=0) <= TINY
    difference = np.where(flat, X[0], X.mean(axis=0))
    width = np.zeros(P)
    if not flat.all():
        Y = X[:, ~flat]
        width[~flat] = _max_t(Y, level, resamples, P) * Y.std(axis=0, ddof=1) / sqrt(n)
    return Pairwise(pairs, difference, difference - width, difference + width)


def _max_t(X: np.ndarray, level: float, resamples: int, P: int) -> np.ndarray:
    """Critical values of |t| for the columns of `X` (each with spread), part of a family of `P` pairs."""
    n = len(X)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    Z = Z[np.lexsort(Z.T)]  # the order of seeds must not matter
    # How often each seed is drawn: two matrix products replace an array (resamples, n, P).
    counts = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    mean = counts @ Z / n  # (resamples, P)
    variance = counts @ Z**2 / n - mean**2
    constant = variance <= TINY
    t = np.where(constant, inf, np.abs(mean) / np.sqrt(np.where(constant, 1, variance) / (n - 1)))
    bonferroni = _stats().t.isf((1 - level) / 2 / P, n - 1)
    inside = np.quantile(t, 1 - (1 - level) / P, axis=0, method="higher") <= 2 * bonferroni
    q = np.quantile(t[:, inside].max(axis=1), level, method="higher") if inside.any() else 0.0
    return np.where(inside, q, max(q, bonferroni))


def restricted(hitting: ArrayLike, cap: float) -> np.ndarray:
    """Hitting times min(epochs, `cap`), same shape; never reached (NaN or infinity) counts as `cap`."""
    return np.fmin(np.asarray(hitting, dtype=float), cap)


def seeds_needed(d: ArrayLike, margin: float = MARGIN, power: float = 0.8) -> int | None:
    """Seeds (2 or more) with which a one-sided t test decides on which side of `margin` the mean lies.

    Takes the observed mean and spread as true, and ALPHA without Holm's adjustment: a rough guide from below.
    None where the mean equals the margin or n < 2.
    """
    d = _finite(d)
    if d.size < 2:
        return None
    mean, se = _mean_se(d)
    gap = abs(mean - margin)
    if gap <= TINY:
        return None
    if se == 0:
        return 2
    effect = gap / (se * sqrt(d.size))
    # The z test never needs more seeds than the t test: start there.
    n = max(2, ceil(((_stats().norm.isf(ALPHA) + _stats().norm.ppf(power)) / effect) ** 2))
    while n < 10**5 and _stats().nct.sf(_stats().t.isf(ALPHA, n - 1), n - 1, effect * sqrt(n)) < power:
        n += 1
    return n
