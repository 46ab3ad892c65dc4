"""Two remedies over several cells: how often one wins, and the share of runs above every score.

As rliable has them (Agarwal et al. 2021, arXiv:2108.13264). Its interquartile mean is left out on purpose: it trims the
runs that fail, which are what a remedy is chosen to avoid. Scores are (n,) arrays, one per cell; seeds are resampled within
cells. All results are deterministic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, percentiles of a stratified bootstrap; arrays alike where there are several."""

    value: Floats
    low: Floats
    high: Floats


def wins(a: Floats, b: Floats) -> Floats:
    """P(A > B) + P(A = B) / 2 over all pairs of runs of one cell, (..., n) and (..., m), of every sample (...)."""
    sign = np.sign(a[..., :, None] - b[..., None, :])
    return (sign.mean((-2, -1)) + 1) / 2


def improvement(a: Sequence[Floats], b: Sequence[Floats], resamples: int = 2000) -> Estimate:
    """Probability of improvement: `wins` of A over B, the mean over cells. ValueError where there are no cells."""
    return _bootstrap(
        [*a, *b], lambda x: np.mean([wins(*pair) for pair in zip(x[: len(a)], x[len(a) :])], axis=0), resamples
    )


def profile(scores: Sequence[Floats], at: Floats, resamples: int = 2000) -> Estimate:
    """Performance profile: share of runs with a score above each of `at` (T,), every cell with the same weight."""
    return _bootstrap(scores, lambda x: np.mean([(d[..., None] > at).mean(-2) for d in x], axis=0), resamples)


def _bootstrap(scores: Sequence[Floats], statistic: Callable, resamples: int) -> Estimate:
    """A statistic of arrays (..., n), one per cell, with percentiles over samples drawn within cells."""
    if not scores:
        raise ValueError("scores of at least one cell are needed: found none")
    rng = np.random.default_rng(SEED)
    found = statistic([d[rng.integers(len(d), size=(resamples, len(d)))] for d in scores])
    low, high = np.percentile(found, (2.5, 97.5), axis=0)
    return Estimate(np.asarray(statistic(scores)), low, high)
