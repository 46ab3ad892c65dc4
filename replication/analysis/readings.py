"""All readouts of a run scored at once, fast: the metrics that are published, and the order of the test labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from replication.analysis import metrics
from replication.analysis.metrics import PUBLISHED_METRICS, Floats, Ints
from replication.analysis.thresholds import Mask, crossed, first_minority, order_of, tuned, two_f1

_ZERO_IF_DIVERGED = frozenset(metrics._DECISIONS) | {name for name in PUBLISHED_METRICS if "tuned" in name}


@dataclass(frozen=True)
class Reading:
    """What is kept of one readout."""

    scores: dict[str, float]
    """`PUBLISHED_METRICS`, in that order"""
    order: bytes
    """whether each test image is minority, by falling log-odds of the minority, as bits"""
    cut: int
    """test images called minority; with two classes they are the first in that order"""


def read_all(
    readouts: Mapping[str, ArrayLike],
    validation: ArrayLike,
    test: ArrayLike,
    *,
    minorities: tuple[int, ...],
    train_counts: ArrayLike,
) -> dict[str, Reading]:
    """Score logits (M + N, K) on validation and test images by readout; `validation` (M,) and `test` (N,) are labels.

    Metrics as in `metrics.score`; besides `mean_log_odds_*`, the mean over the test images of a group of the log-odds
    of the minority in nats, and `f1_*_tuned`: at the threshold on these log-odds that is best on validation images
    (`thresholds.tuned`), of which the majority's all count and the minority's first ones, as many as training has;
    with `_all` every one. Tuned scores are NaN for more than two classes. A readout with a logit that is not finite is
    that of a diverged run: decisions 0, the rest NaN, and its order that of the images.

    ValueError: as `metrics.score`.
    """
    logits = np.stack([np.asarray(z, dtype=np.float64) for z in readouts.values()])  # (R, M + N, K)
    split = len(validation)
    held, seen = logits[:, :split], logits[:, split:]
    _, labels, counts = metrics._checked(seen[0], test, ndim=2)
    _, validation, _ = metrics._checked(held[0], validation, ndim=2)
    classes = len(counts)
    minority = metrics._membership(minorities, classes)
    prevalence = metrics._prevalence(train_counts, classes)
    finite = np.asarray(np.isfinite(logits).all(axis=(1, 2)))
    if not finite.all():
        held, seen = (np.where(finite[:, None, None], z, 0.0) for z in (held, seen))

    is_minority = minority[labels]
    predicted = seen.argmax(axis=2)
    odds = _odds(seen, minority)
    values = _decided(metrics._confusion(predicted, labels, classes), minority)
    values |= _probable(seen, labels, predicted, counts, prevalence)
    against = _against(seen, predicted)
    areas = _areas(
        np.concatenate([odds, against]), np.concatenate([np.tile(is_minority, (len(odds), 1)), predicted != labels])
    )
    values["roc_auc"], values["error_auroc"] = np.split(areas[0], 2)
    values["average_precision"] = areas[1][: len(odds)]
    values["mean_log_odds_majority"] = odds[:, ~is_minority].mean(axis=1)
    values["mean_log_odds_minority"] = odds[:, is_minority].mean(axis=1)
    values |= _tuned(held, validation, odds, is_minority, minority, train_counts)

    found = {}
    for r, name in enumerate(readouts):
        scores = {metric: float(values[metric][r]) for metric in PUBLISHED_METRICS}
        if not finite[r]:
            tuned_or_not = {k for k in scores if classes != 2 and "tuned" in k}
            scores = {k: 0.0 if k in _ZERO_IF_DIVERGED - tuned_or_not else float("nan") for k in scores}
        cut = int(minority[predicted[r]].sum()) if finite[r] else 0
        found[name] = Reading(scores, order_of(odds[r], is_minority), cut)
    return found


def held_out(
    logits: ArrayLike, labels: ArrayLike, minorities: tuple[int, ...], train_counts: ArrayLike
) -> dict[str, float]:
    """Macro F1 on validation images (M, 2) of what costs no training: adjusted logits, and a tuned threshold.

    The threshold's is that of `thresholds.crossed`, so that no image is judged by a threshold that it helped to set. By
    name: `validation_f1_macro_adjusted`, `validation_f1_macro_tuned`; 0 where a logit is not finite.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    of = {"validation_f1_macro_adjusted": 0.0, "validation_f1_macro_tuned": 0.0}
    if not np.isfinite(logits).all():
        return of
    minority = metrics._membership(minorities, logits.shape[1])
    here, most = minority[labels], int(np.asarray(train_counts)[minority].sum())
    said = crossed(_odds(logits[None], minority)[0], here, most)
    macro = two_f1((said & here).sum(), said.sum(), int(here.sum()), len(here))[1]
    return {
        "validation_f1_macro_adjusted": metrics.f1_macro(metrics.adjust(logits, train_counts), labels),
        "validation_f1_macro_tuned": float(macro),
    }


def _odds(logits: Floats, minority: Mask) -> Floats:
    """Log-odds (R, N) of the minority classes against the others."""
    if len(minority) == 2:
        one = int(minority[1])
        return logits[:, :, one] - logits[:, :, 1 - one]
    return _logsumexp(logits[:, :, minority]) - _logsumexp(logits[:, :, ~minority])


def _logsumexp(logits: Floats) -> Floats:
    top = logits.max(axis=-1)
    return top + np.log(np.exp(logits - top[..., None]).sum(axis=-1))


def _against(logits: Floats, predicted: Ints) -> Floats:
    """Log-odds (R, N) against the class that is predicted."""
    if logits.shape[2] == 2:
        return -np.abs(logits[:, :, 1] - logits[:, :, 0])
    others = logits.copy()
    np.put_along_axis(others, predicted[:, :, None], -np.inf, axis=2)
    return _logsumexp(others) - logits.max(axis=2)


def _decided(confusion: Floats, minority: Mask) -> dict[str, Floats]:
    """Scores (R,) of the decisions, from counts (R, K, K) as `metrics._confusion` gives them."""
    true = np.diagonal(confusion, axis1=1, axis2=2)
    f1, recall = metrics._f1(confusion), true / confusion.sum(axis=2)
    precision = metrics._ratio(true, confusion.sum(axis=1))
    share = confusion[0, minority].sum() / confusion[0].sum()
    row = np.where(minority, metrics._LOW_PREVALENCE / share, (1 - metrics._LOW_PREVALENCE) / (1 - share))
    return {
        "f1_minority": f1[:, minority].mean(axis=1),
        "f1_majority": f1[:, ~minority].mean(axis=1),
        "f1_macro": f1.mean(axis=1),
        "balanced_accuracy": recall.mean(axis=1),
        "recall_minority": recall[:, minority].mean(axis=1),
        "precision_minority": precision[:, minority].mean(axis=1),
        "f1_minority_at_1": metrics._f1(confusion * row[:, None])[:, minority].mean(axis=1),
    }


def _probable(logits: Floats, labels: Ints, predicted: Ints, counts: Ints, prevalence: Floats) -> dict[str, Floats]:
    """Scores (R,) of the probabilities."""
    rows, images, classes = logits.shape
    top = logits.max(axis=2)
    p = np.exp(logits - top[:, :, None])
    total = p.sum(axis=2)
    p /= total[:, :, None]
    nll = top + np.log(total) - logits[:, np.arange(images), labels]
    brier = ((p - np.eye(classes)[labels]) ** 2).sum(axis=2)
    confidence = 1 / total
    at_train = metrics._weights(labels, counts, prevalence)
    gap = ((predicted == labels) - confidence) * at_train
    bins = len(metrics._INNER_EDGES) + 1
    cell = np.searchsorted(metrics._INNER_EDGES, confidence) + bins * np.arange(rows)[:, None]
    ece = np.bincount(cell.ravel(), gap.ravel(), minlength=rows * bins).reshape(rows, bins)
    return {
        "nll": nll.mean(axis=1),
        "nll_train": nll @ at_train,
        "brier": brier.mean(axis=1),
        "brier_train": brier @ at_train,
        "ece_train": np.abs(ece).sum(axis=1),
        "confidence": confidence.mean(axis=1),
        "confidence_train": confidence @ at_train,
    }


def _areas(scores: Floats, positive: Mask) -> tuple[Floats, Floats]:
    """ROC AUC and average precision (R,) of scores (R, N), ties as one threshold; NaN if all or none is positive."""
    rows, images = scores.shape
    order = np.argsort(-scores, axis=1)
    scores, positive = np.take_along_axis(scores, order, axis=1), np.take_along_axis(positive, order, axis=1)
    ends = np.ones((rows, images), dtype=bool)  # of each tie the last
    np.not_equal(scores[:, 1:], scores[:, :-1], out=ends[:, :-1])
    row, last = np.nonzero(ends)
    hits = np.cumsum(positive, axis=1)
    total = hits[:, -1]
    hits = hits[row, last]
    first = np.diff(row, prepend=-1) > 0  # a row's first tie has nothing before it
    gained = hits - np.where(first, 0, np.roll(hits, 1))
    seen = last + 1
    misses = seen - np.where(first, 0, np.roll(seen, 1)) - gained
    starts = np.flatnonzero(first)
    area = np.add.reduceat(misses * (hits - gained / 2), starts)
    precision = np.add.reduceat(gained * (hits / seen), starts)
    none = (total == 0) | (total == images)
    whole, some = np.maximum(total * (images - total), 1), np.maximum(total, 1)
    return np.where(none, np.nan, area / whole), np.where(none, np.nan, precision / some)


def _tuned(
    held: Floats, validation: Ints, odds: Floats, is_minority: Mask, minority: Mask, train_counts: ArrayLike
) -> dict[str, Floats]:
    """Minority and macro F1 (R,) on test images with log-odds (R, N) at thresholds from validation logits (R, M, K)."""
    names = ("f1_minority_tuned", "f1_macro_tuned", "f1_minority_tuned_all", "f1_macro_tuned_all")
    if len(minority) != 2:
        return {name: np.full(len(odds), np.nan) for name in names}
    held_odds, here = _odds(held, minority), minority[validation]
    most = int(np.asarray(train_counts)[minority].sum())
    values = []
    for chosen in (first_minority(here, most), np.ones_like(here)):
        said = odds >= tuned(held_odds[:, chosen], here[chosen])[:, None]
        found = said[:, is_minority].sum(axis=1)
        values += two_f1(found, said.sum(axis=1), int(is_minority.sum()), len(is_minority))
    return dict(zip(names, values))
