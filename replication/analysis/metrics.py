"""Scores of one run's test predictions: decisions, ranking, calibration and confidence.

Only numpy is needed here: the module also runs where scipy and scikit-learn are missing.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# A diverged run scores 0 on the first group and NaN on the second.
_DECISIONS = (
    *("f1_minority", "precision_minority", "recall_minority", "f1_majority", "precision_majority"),
    *("recall_majority", "f1_macro", "balanced_accuracy", "f1_minority_at_1", "tp", "fp", "fn", "tn"),
)
_PROBABILITIES = (
    *("roc_auc", "average_precision", "nll", "brier", "ece", "ece_classwise"),
    *("nll_train", "brier_train", "ece_train", "ece_classwise_train", "temperature_test"),
    *("temperature_train", "nll_scaled", "ece_scaled", "nll_scaled_train", "ece_scaled_train"),
    *("confidence_right", "confidence_wrong", "confidence", "confidence_train", "error_auroc"),
)
METRICS: tuple[str, ...] = _DECISIONS + _PROBABILITIES
PUBLISHED_METRICS: tuple[str, ...] = (
    *("f1_minority", "f1_macro", "f1_majority", "balanced_accuracy", "roc_auc", "average_precision"),
    *("recall_minority", "precision_minority", "f1_minority_at_1", "nll", "nll_train", "brier", "brier_train"),
    *("ece_train", "confidence", "confidence_train", "error_auroc"),
    *("mean_log_odds_majority", "mean_log_odds_minority"),
    *("f1_minority_tuned", "f1_macro_tuned", "f1_minority_tuned_all", "f1_macro_tuned_all"),
)
"""what a run published from now on keeps of every readout, see `replication.analysis.readings`"""

_LOW_PREVALENCE = 0.01  # of `f1_minority_at_1`
_INNER_EDGES = np.arange(1, 15) / 15  # of 15 equal bins (low, high]; 0 falls into the first
_MAX_TEMPERATURE = 100.0


def log_softmax(logits: ArrayLike) -> Floats:
    """Log probabilities (..., K) of logits (..., K), in float64 and without overflow."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def adjust(logits: ArrayLike, train_counts: ArrayLike, tau: float = 1.0) -> Floats:
    """Post-hoc logit adjustment: logits (N, K) minus tau times the log of the training prevalence (K,).

    Source: Menon et al. 2021, arXiv:2007.07314. ValueError: counts of another shape or not positive.
    """
    logits = np.asarray(logits, dtype=np.float64)
    return logits - tau * np.log(_prevalence(train_counts, logits.shape[-1]))


def score(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    minorities: tuple[int, ...],
    train_counts: ArrayLike,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
) -> dict[str, float]:
    """All `METRICS` of test logits (N, K) with labels (N,), in that order.

    Classes outside `minorities` are majority; `train_counts` (K,) gives the training prevalence. A suffix
    `_train` means samples weighted to that prevalence, `_at_1` all minority classes together weighted to 1 %.
    Precision, recall and F1 are unweighted means over classes, 0 where undefined; `tp`, `fp`, `fn` and `tn`
    take any minority class as positive. ECE has 15 equal bins (Guo et al. 2017, arXiv:1706.04599, section 2),
    for each class in `ece_classwise` (Nixon et al. 2019, arXiv:1904.01685). `_scaled` follows temperature
    scaling, fitted on `validation` = logits (M, K), labels (M,) at the prevalence it is tested at; NaN if
    there is none or its logits are not finite. One test logit that is not finite makes a diverged run:
    decisions 0, the rest NaN.

    ValueError: shapes that disagree, labels out of range, a class without samples, no or only minority
    classes, training counts that are not positive.
    """
    logits, labels, counts = _checked(logits, labels, ndim=2)
    minority = _membership(minorities, len(counts))
    prevalence = _prevalence(train_counts, len(counts))
    held = None if validation is None else _checked(*validation, ndim=2)
    if held is not None and held[0].shape[1] != len(counts):
        raise ValueError(
            f"Validation logits must have {len(counts)} classes like the test logits, found {held[0].shape[1]}."
        )
    if not np.isfinite(logits).all():
        return dict.fromkeys(_DECISIONS, 0.0) | dict.fromkeys(_PROBABILITIES, float("nan"))

    shares = counts / counts.sum()
    predicted = logits.argmax(axis=1)
    log_p = log_softmax(logits)
    values = _decisions(_confusion(predicted, labels, len(counts)), minority)
    # Log odds rank the samples, since probabilities that round to 0 or 1 would lose their order.
    odds = _logsumexp(logits[:, minority]) - _logsumexp(logits[:, ~minority])
    values["roc_auc"], values["average_precision"] = _areas(odds, minority[labels])
    confidence = np.exp(log_p.max(axis=1))
    for at, suffix, target in (("test", "", shares), ("train", "_train", prevalence)):
        weights = _weights(labels, counts, target)
        temperature = values[f"temperature_{at}"] = _temperature(held, target)
        before = _calibration(log_p, labels, predicted, weights)
        after = _calibration(log_softmax(logits / temperature), labels, predicted, weights)
        values |= {f"{name}{suffix}": value for name, value in before.items()}
        values |= {f"{name}_scaled{suffix}": after[name] for name in ("nll", "ece")}
        values[f"confidence{suffix}"] = weights @ confidence
    values |= _errors(logits, confidence, predicted, predicted != labels)
    return {name: float(values[name]) for name in METRICS}


def history(
    logits: ArrayLike, labels: ArrayLike, minorities: tuple[int, ...], train_counts: ArrayLike
) -> dict[str, Floats]:
    """Per-epoch `nll`, `nll_train` and `f1_minority`, each (E,), of logits (E, N, K) with labels (N,).

    As in `score`; an epoch with a logit that is not finite has NLL NaN and F1 0. ValueError: as in `score`.
    """
    logits, labels, counts = _checked(logits, labels, ndim=3)
    minority = _membership(minorities, len(counts))
    at_train = _weights(labels, counts, _prevalence(train_counts, len(counts)))
    finite = np.asarray(np.isfinite(logits).all(axis=(1, 2)))
    if not finite.all():
        logits = np.where(finite[:, None, None], logits, 0.0)
    if len(counts) == 2:  # the same as below, with one exponential an image
        against = (logits[:, :, 0] - logits[:, :, 1]) * (2 * labels - 1)
        nll = np.log1p(np.exp(-np.abs(against))) + np.maximum(against, 0)
    else:
        nll = -log_softmax(logits)[:, np.arange(len(labels)), labels]  # (E, N)
    f1 = _f1(_confusion(logits.argmax(axis=2), labels, len(counts)))  # (E, K)
    return {
        "nll": np.where(finite, nll.mean(axis=1), np.nan),
        "nll_train": np.where(finite, nll @ at_train, np.nan),
        "f1_minority": np.where(finite, f1[:, minority].mean(axis=1), 0.0),
    }


def f1_macro(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean F1 over the classes of logits (N, K) with labels (N,), 0 where a logit is not finite.

    ValueError: as in `score`.
    """
    logits, labels, counts = _checked(logits, labels, ndim=2)
    if not np.isfinite(logits).all():
        return 0.0
    return float(_f1(_confusion(logits.argmax(axis=1), labels, len(counts))).mean())


def _checked(logits: ArrayLike, labels: ArrayLike, ndim: int) -> tuple[Floats, Ints, Ints]:
    """Logits, labels and the number of samples of each class (K,)."""
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if logits.ndim != ndim or labels.shape != logits.shape[-2:-1]:
        wanted = "(N, K)" if ndim == 2 else "(E, N, K)"
        raise ValueError(f"Logits must be {wanted} and labels (N,), found shapes {logits.shape} and {labels.shape}.")
    classes = logits.shape[-1]
    if labels.dtype.kind not in "iu" or ((labels < 0) | (labels >= classes)).any():
        raise ValueError(
            f"Labels must be integers from 0 to {classes - 1}, found {labels.dtype} {np.unique(labels)[:9]}."
        )
    labels = labels.astype(np.intp)
    counts = np.bincount(labels, minlength=classes)
    if not counts.all():
        raise ValueError(
            f"Every one of the {classes} classes needs a sample, found none of {np.flatnonzero(counts == 0)}."
        )
    return logits, labels, counts


def _membership(minorities: tuple[int, ...], classes: int) -> NDArray[np.bool_]:
    """Mask (K,) of the minority classes."""
    chosen = set(minorities)
    if not chosen or not chosen < set(range(classes)):
        raise ValueError(
            f"Minorities must be some, not all, of the classes 0 to {classes - 1}, found {tuple(minorities)}."
        )
    return np.isin(np.arange(classes), list(chosen))


def _prevalence(train_counts: ArrayLike, classes: int) -> Floats:
    """Shares (K,) of the classes in training."""
    train_counts = np.asarray(train_counts, dtype=np.float64)
    if train_counts.shape != (classes,) or not (np.isfinite(train_counts) & (train_counts > 0)).all():
        raise ValueError(f"Training counts must be {classes} positive numbers, found {train_counts}.")
    return train_counts / train_counts.sum()


def _weights(labels: Ints, counts: Ints, prevalence: Floats) -> Floats:
    """Sample weights (N,), of sum 1, that give the classes the prevalence (K,)."""
    return (prevalence / counts)[labels]


def _confusion(predicted: Ints, labels: Ints, classes: int) -> Floats:
    """Counts (..., K, K), rows labels and columns predictions, of predictions (..., N)."""
    cell = labels * classes + predicted.reshape(-1, len(labels))
    cell += np.arange(len(cell))[:, None] * classes**2
    counts = np.bincount(cell.ravel(), minlength=len(cell) * classes**2)
    return counts.reshape(*predicted.shape[:-1], classes, classes).astype(np.float64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Quotient, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _f1(confusion: Floats) -> Floats:
    """F1 (..., K) of every class."""
    true = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _ratio(2 * true, confusion.sum(axis=-1) + confusion.sum(axis=-2))


def _decisions(confusion: Floats, minority: NDArray[np.bool_]) -> dict[str, float]:
    true = np.diagonal(confusion)
    f1, precision = _f1(confusion), _ratio(true, confusion.sum(axis=0))
    recall = true / confusion.sum(axis=1)
    values = {"f1_macro": f1.mean(), "balanced_accuracy": recall.mean()}
    for name, group in (("minority", minority), ("majority", ~minority)):
        values[f"f1_{name}"] = f1[group].mean()
        values[f"precision_{name}"] = precision[group].mean()
        values[f"recall_{name}"] = recall[group].mean()
    share = confusion[minority].sum() / confusion.sum()
    row = np.where(minority, _LOW_PREVALENCE / share, (1 - _LOW_PREVALENCE) / (1 - share))
    values["f1_minority_at_1"] = _f1(confusion * row[:, None])[minority].mean()
    values["tp"] = confusion[np.ix_(minority, minority)].sum()
    values["fp"] = confusion[np.ix_(~minority, minority)].sum()
    values["fn"] = confusion[np.ix_(minority, ~minority)].sum()
    values["tn"] = confusion[np.ix_(~minority, ~minority)].sum()
    return values


def _logsumexp(logits: Floats) -> Floats:
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1))


def _areas(scores: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """ROC AUC and average precision of scores (N,), ties as one threshold; NaN if all or none is positive."""
    if positive.all() or not positive.any():
        return float("nan"), float("nan")
    order = np.argsort(-scores)
    scores, positive = scores[order], positive[order]
    last = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)  # of each tie
    hits = np.cumsum(positive)[last]
    gained, precision = np.diff(hits, prepend=0), hits / (last + 1)
    misses = np.diff(last + 1 - hits, prepend=0)
    area = misses @ (hits - gained / 2)
    return area / (hits[-1] * (len(scores) - hits[-1])), gained @ precision / hits[-1]


def _calibration(log_p: Floats, labels: Ints, predicted: Ints, weights: Floats) -> dict[str, float]:
    """NLL, Brier score and both ECEs of log probabilities (N, K), with weights (N,) of sum 1."""
    classes = log_p.shape[1]
    p = np.exp(log_p)
    right = np.zeros_like(p)  # one-hot labels
    right[np.arange(len(labels)), labels] = 1
    gap = (right - p) * weights[:, None]
    cell = np.searchsorted(_INNER_EDGES, p) * classes + np.arange(classes)
    top = np.arange(len(p)), predicted
    return {
        "nll": float(-(weights @ log_p[np.arange(len(labels)), labels])),
        "brier": float((gap * (right - p)).sum()),
        "ece": float(np.abs(np.bincount(cell[top] // classes, gap[top])).sum()),
        "ece_classwise": float(np.abs(np.bincount(cell.ravel(), gap.ravel())).sum() / classes),
    }


def _temperature(validation: tuple[Floats, Ints, Ints] | None, prevalence: Floats) -> float:
    """Temperature in [1/100, 100] of least validation NLL at a prevalence (K,).

    It is 1 where all do equally well, and NaN without finite validation logits. The NLL is convex in the
    inverse temperature, so the zero of its slope is sought by Newton's method, halving the bracket on the log
    scale where a step leaves it or slows down. Source: Guo et al. 2017, section 4.2.
    """
    if validation is None or not np.isfinite(validation[0]).all():
        return np.nan
    logits, labels, counts = validation
    weights = _weights(labels, counts, prevalence)
    margins = np.ascontiguousarray(logits.T) - logits[np.arange(len(labels)), labels]  # (K, M), faster to sum

    def slope(inverse: float) -> tuple[float, float]:
        """First and second derivative of the NLL."""
        p = np.exp(inverse * (margins - margins.max(axis=0)))
        p /= p.sum(axis=0)
        mean = (p * margins).sum(axis=0)
        return weights @ mean, weights @ (p * (margins - mean) ** 2).sum(axis=0)

    low, high = 1 / _MAX_TEMPERATURE, _MAX_TEMPERATURE
    at_low, at_high = slope(low)[0], slope(high)[0]
    if at_low == at_high == 0:
        return 1.0
    if at_low >= 0:
        return 1 / low
    if at_high <= 0:
        return 1 / high
    inverse, step = 1.0, high
    for _ in range(100):
        first, second = slope(inverse)
        low, high = (low, inverse) if first > 0 else (inverse, high)
        proposal = inverse - first / second if second > 0 else np.nan
        if not low <= proposal <= high or abs(proposal - inverse) > step / 2:
            proposal = np.sqrt(low * high)
        step = abs(proposal - inverse)
        inverse = proposal
        if step <= 1e-10 * inverse:
            break
    return 1 / inverse


def _errors(logits: Floats, confidence: Floats, predicted: Ints, wrong: NDArray[np.bool_]) -> dict[str, float]:
    """Confidence (N,) of right and of wrong predictions, and how well it tells them apart."""
    # The odds against the prediction rank samples as 1 - confidence does, without its rounding to 0.
    others = logits.copy()
    others[np.arange(len(predicted)), predicted] = -np.inf
    return {
        "confidence_right": confidence[~wrong].mean() if not wrong.all() else np.nan,
        "confidence_wrong": confidence[wrong].mean() if wrong.any() else np.nan,
        "error_auroc": _areas(_logsumexp(others) - logits.max(axis=1), wrong)[0],
    }
