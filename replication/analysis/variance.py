"""Where the spread of a score comes from: split, seed, test images, minority class, and the choice of the rate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Crossed:
    """Variance components of scores of every split with every seed; those that come out negative count as 0."""

    split: float
    seed: float
    rest: float
    """of their interaction, which the noise of training is part of"""


def crossed(scores: Floats) -> Crossed:
    """Variance components of scores (splits, seeds), two-way random effects by the method of moments.

    Test images belong to the split. ValueError for fewer than two of either.
    """
    n, m = scores.shape
    if min(n, m) < 2:
        raise ValueError(f"at least two splits and two seeds are needed: found {n} and {m}")
    mean, rows, columns = scores.mean(), scores.mean(1), scores.mean(0)
    rest = ((scores - rows[:, None] - columns + mean) ** 2).sum() / ((n - 1) * (m - 1))
    split = rows.var(ddof=1) - rest / m
    seed = columns.var(ddof=1) - rest / n
    return Crossed(max(split, 0.0), max(seed, 0.0), float(rest))


def between(scores: Floats, groups: NDArray) -> float:
    """Variance between groups, such as minority classes, of scores (n,): one-way random effects; 0 if negative."""
    names = np.unique(groups)
    if len(names) < 2:
        return 0.0
    parts = [scores[groups == name] for name in names]
    sizes = np.array([len(part) for part in parts])
    within = sum(((part - part.mean()) ** 2).sum() for part in parts) / (len(scores) - len(names))
    mean_square = sum(size * (part.mean() - scores.mean()) ** 2 for size, part in zip(sizes, parts)) / (len(names) - 1)
    size = (len(scores) - (sizes**2).sum() / len(scores)) / (len(names) - 1)
    return max(float((mean_square - within) / size), 0.0)


def macro_f1(tp: NDArray, fp: NDArray, fn: NDArray, tn: NDArray) -> Floats:
    """Macro F1 of two classes from counts, alike in shape; a class without any has 0."""
    sums = 2 * tp + fp + fn, 2 * tn + fp + fn
    return sum(2 * hit / np.maximum(total, 1) for hit, total in zip((tp, tn), sums)) / 2


def noise_of_test(tp: NDArray, fp: NDArray, fn: NDArray, tn: NDArray, resamples: int = 500) -> float:
    """Variance of a network's macro F1 that other test images of the same number would bring: mean over runs (n,).

    Images of each class are drawn anew (Jordan 2023, arXiv:2304.01910, section 3): hits are binomial at the rate observed.
    """
    rng = np.random.default_rng(0)
    few, many = tp + fn, fp + tn
    hits = rng.binomial(few.astype(int), tp / few, size=(resamples, len(tp)))
    alarms = rng.binomial(many.astype(int), fp / many, size=(resamples, len(tp)))
    return float(macro_f1(hits, alarms, few - hits, many - alarms).var(0).mean())
