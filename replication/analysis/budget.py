"""What tuning is worth: the best of k random configurations, and how firm a choice among learning rates is."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from replication.analysis.comparison import SEED, Estimate

Floats = NDArray[np.float64]


def expected_best(validation: Floats, test: Floats) -> Floats:
    """Expected test score (n,) of the configuration with the best validation score among k, k = 1 to n.

    `validation` and `test` (n,) are those of n random configurations, of which k are drawn with replacement (Dodge et al.
    2019, arXiv:1909.03004, section 3, where both are the same). Configurations with equal validation scores are equally
    likely to be taken. ValueError unless both are as long and finite.
    """
    validation, test = np.asarray(validation, float), np.asarray(test, float)
    if validation.shape != test.shape or validation.ndim != 1 or not np.isfinite(validation + test).all():
        raise ValueError(
            f"one finite validation and test score a configuration are needed: found {validation.shape} and {test.shape}"
        )
    values, which, counts = np.unique(validation, return_inverse=True, return_counts=True)
    of_value = np.bincount(which, weights=test) / counts
    at_most = np.cumsum(counts) / len(validation)
    k = np.arange(1, len(validation) + 1)[:, None]
    share = at_most**k - np.concatenate([[0.0], at_most[:-1]]) ** k  # that the best of k has this validation score
    return share @ of_value


def best_of(validation: Floats, test: Floats, resamples: int = 2000) -> Estimate:
    """`expected_best` of scores (n, m) of n configurations on m seeds, averaged over seeds, with intervals.

    The bootstrap draws configurations, and seeds within it, anew.
    """
    rng, (n, m) = np.random.default_rng(SEED), validation.shape
    found = []
    for _ in range(resamples):
        rows, columns = rng.integers(n, size=(n, 1)), rng.integers(m, size=(1, m))
        found.append(expected_best(validation[rows, columns].mean(1), test[rows, columns].mean(1)))
    low, high = np.percentile(found, (2.5, 97.5), axis=0)
    return Estimate(expected_best(validation.mean(1), test.mean(1)), low, high)


def choices(scores: Floats, best: Callable[[Floats], int] = lambda means: int(means.argmax()), n: int = 2000) -> Floats:
    """How often each of R rates is chosen, (R,), when the seeds of its pilots (R, m) are drawn anew, with replacement.

    `best` takes the mean scores (R,) and gives the number of the best.
    """
    rng, (rates, seeds) = np.random.default_rng(SEED), scores.shape
    drawn = scores[:, rng.integers(seeds, size=(n, seeds))].mean(2)  # (R, n)
    return np.bincount([best(means) for means in drawn.T], minlength=rates) / n
