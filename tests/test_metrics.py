"""Scores against scikit-learn, torchmetrics, scipy and plain-Python twins."""

import ast
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import logsumexp
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)
from torchmetrics.classification import (
    BinaryCalibrationError,
    MulticlassCalibrationError,
)

from replication.analysis import metrics
from replication.analysis.metrics import METRICS, adjust, history, log_softmax, score

EXAMPLES = settings(deadline=None, max_examples=100, derandomize=True)


def drawn(seed, n=160, classes=2, scale=2.0):
    """Random logits (n, classes) that favour the label, and unequally frequent labels."""
    rng = np.random.default_rng(seed)
    shares = np.arange(classes, 0, -1) / np.arange(1, classes + 1).sum()
    labels = np.concatenate([np.arange(classes), rng.choice(classes, n - classes, p=shares)])
    return scale * (rng.normal(size=(n, classes)) + np.eye(classes)[labels]), labels


def weights_to(prevalence, labels):
    """Plain twin of the re-weighting: prevalence of the label over its share of the test set."""
    shares = np.bincount(labels) / len(labels)
    return np.array([prevalence[label] / shares[label] for label in labels])


def ece_twin(confidence, right, weights):
    """Plain loop over 15 bins (low, high], 0 in the first."""
    total = 0.0
    for b in range(15):
        gap = 0.0
        for c, r, w in zip(confidence, right, weights, strict=True):
            if b / 15 < c <= (b + 1) / 15 or (b == 0 and c == 0):
                gap += w * (r - c)
        total += abs(gap)
    return total / sum(weights)


@st.composite
def problems(draw):
    """Logits, labels, minorities and training counts: smooth, tied or saturated."""
    classes = draw(st.integers(2, 4))
    n = draw(st.integers(classes, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.permutation(np.concatenate([np.arange(classes), rng.integers(classes, size=n - classes)]))
    logits = {
        "smooth": rng.normal(size=(n, classes)) * 3,
        "tied": rng.integers(-1, 2, size=(n, classes)).astype(float),
        "constant": np.zeros((n, classes)),
        "saturated": rng.choice([-1e4, 1e4], size=(n, classes)) + rng.integers(0, 3, size=(n, classes)),
    }[draw(st.sampled_from(["smooth", "tied", "constant", "saturated"]))]
    minorities = tuple(rng.permutation(classes)[: draw(st.integers(1, classes - 1))].tolist())
    return logits, labels, minorities, rng.integers(1, 1000, size=classes)


@EXAMPLES
@given(problems())
def test_decisions_match_sklearn(problem):
    logits, labels, minorities, counts = problem
    ours = score(logits, labels, minorities=minorities, train_counts=counts)
    predicted = logits.argmax(1)
    majorities = [k for k in range(len(counts)) if k not in minorities]
    for name, group in (("minority", list(minorities)), ("majority", majorities)):
        theirs = precision_recall_fscore_support(labels, predicted, labels=group, average="macro", zero_division=0)
        for metric, value in zip(("precision", "recall", "f1"), theirs, strict=False):
            assert ours[f"{metric}_{name}"] == pytest.approx(value, abs=1e-12)
    assert ours["f1_macro"] == pytest.approx(
        (ours["f1_minority"] * len(minorities) + ours["f1_majority"] * len(majorities)) / len(counts)
    )
    assert ours["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))

    actual, found = np.isin(labels, minorities), np.isin(predicted, minorities)
    weights = np.where(actual, 0.01 / actual.mean(), 0.99 / (~actual).mean())
    at_1 = precision_recall_fscore_support(
        labels, predicted, labels=list(minorities), average="macro", zero_division=0, sample_weight=weights
    )
    assert ours["f1_minority_at_1"] == pytest.approx(at_1[2], abs=1e-12)
    assert [ours[c] for c in ("tp", "fp", "fn", "tn")] == [
        (actual & found).sum(),
        (~actual & found).sum(),
        (actual & ~found).sum(),
        (~actual & ~found).sum(),
    ]


@EXAMPLES
@given(problems())
def test_ranking_matches_sklearn(problem):
    logits, labels, minorities, counts = problem
    ours = score(logits, labels, minorities=minorities, train_counts=counts)
    minority = np.isin(np.arange(len(counts)), minorities)
    # The same rounded odds for both: other ways to sum may break exact ties in the last digit.
    odds = metrics._logsumexp(logits[:, minority]) - metrics._logsumexp(logits[:, ~minority])
    plain = logsumexp(logits[:, minority], axis=1) - logsumexp(logits[:, ~minority], axis=1)
    np.testing.assert_allclose(odds, plain, rtol=1e-12, atol=1e-12)
    positive = minority[labels]
    assert ours["roc_auc"] == pytest.approx(roc_auc_score(positive, odds), abs=1e-12)
    assert ours["average_precision"] == pytest.approx(average_precision_score(positive, odds), abs=1e-12)


@EXAMPLES
@given(problems())
def test_calibration_matches_sklearn_and_a_plain_loop(problem):
    logits, labels, minorities, counts = problem
    ours = score(logits, labels, minorities=minorities, train_counts=counts)
    log_p = scipy_log_softmax(logits, axis=1)
    np.testing.assert_allclose(log_softmax(logits), log_p, rtol=1e-12, atol=1e-12)
    p, one_hot = np.exp(log_softmax(logits)), np.eye(len(counts))[labels]
    right = logits.argmax(1) == labels
    for suffix, w in (("", np.ones(len(labels))), ("_train", weights_to(counts / counts.sum(), labels))):
        assert ours[f"nll{suffix}"] == pytest.approx(
            np.average(-log_p[np.arange(len(labels)), labels], weights=w), rel=1e-12, abs=1e-12
        )
        brier = np.average(((p - one_hot) ** 2).sum(1), weights=w)
        assert ours[f"brier{suffix}"] == pytest.approx(brier, abs=1e-12)
        assert ours[f"ece{suffix}"] == pytest.approx(ece_twin(p.max(1), right, w), abs=1e-12)
        classwise = [ece_twin(p[:, k], labels == k, w) for k in range(len(counts))]
        assert ours[f"ece_classwise{suffix}"] == pytest.approx(np.mean(classwise), abs=1e-12)
        assert ours[f"confidence{suffix}"] == pytest.approx(np.average(p.max(1), weights=w))


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_nll_and_brier_match_sklearns_losses(classes):
    logits, labels = drawn(classes, classes=classes)
    counts = 10 ** np.arange(classes, 0, -1)
    ours = score(logits, labels, minorities=(classes - 1,), train_counts=counts)
    p = np.exp(scipy_log_softmax(logits, axis=1))
    for suffix, w in (("", None), ("_train", weights_to(counts / counts.sum(), labels))):
        assert ours[f"nll{suffix}"] == pytest.approx(log_loss(labels, p, sample_weight=w))
        brier = brier_score_loss(labels, p, sample_weight=w, labels=range(classes), scale_by_half=False)
        assert ours[f"brier{suffix}"] == pytest.approx(brier)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_ece_matches_torchmetrics(classes):
    logits, labels = drawn(classes + 10, n=400, classes=classes)
    ours = score(logits, labels, minorities=(0,), train_counts=np.ones(classes))
    p = torch.from_numpy(np.exp(scipy_log_softmax(logits, axis=1)))
    target = torch.from_numpy(labels)
    theirs = MulticlassCalibrationError(classes, n_bins=15, norm="l1")(p, target)
    assert ours["ece"] == pytest.approx(float(theirs), abs=1e-6)  # torchmetrics adds in float32
    by_class = [BinaryCalibrationError(15, "l1")(p[:, k], (target == k).long()) for k in range(classes)]
    assert ours["ece_classwise"] == pytest.approx(float(torch.stack(by_class).mean()), abs=1e-6)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("classes", [2, 4])
def test_temperature_matches_scipy(seed, classes):
    scale = (0.05, 1, 8, 60)[seed % 4]
    logits, labels = drawn(seed, classes=classes, scale=scale)
    held_out, held_labels = drawn(seed + 100, n=120, classes=classes, scale=scale)
    counts = np.array([1000, 10, 10, 10][:classes])
    ours = score(logits, labels, minorities=(1,), train_counts=counts, validation=(held_out, held_labels))
    shares = np.bincount(labels) / len(labels)
    for at, suffix, target in (("test", "", shares), ("train", "_train", counts / counts.sum())):
        w = weights_to(target, held_labels)

        def nll(log_t, w=w):
            log_p = scipy_log_softmax(held_out / np.exp(log_t), axis=1)
            return np.average(-log_p[np.arange(len(held_labels)), held_labels], weights=w)

        best = minimize_scalar(nll, bounds=np.log([0.01, 100]), method="bounded", options={"xatol": 1e-10})
        assert np.log(ours[f"temperature_{at}"]) == pytest.approx(best.x, abs=1e-4)
        assert nll(np.log(ours[f"temperature_{at}"])) <= best.fun + 1e-12
        scaled = score(logits / ours[f"temperature_{at}"], labels, minorities=(1,), train_counts=counts)
        assert ours[f"nll_scaled{suffix}"] == pytest.approx(scaled[f"nll{suffix}"])
        assert ours[f"ece_scaled{suffix}"] == pytest.approx(scaled[f"ece{suffix}"])


@EXAMPLES
@given(problems())
def test_no_grid_temperature_beats_the_fitted_one(problem):
    logits, labels, minorities, counts = problem
    ours = score(logits, labels, minorities=minorities, train_counts=counts, validation=(logits, labels))
    rows = np.arange(len(labels))
    for suffix, w in (("", np.ones(len(labels))), ("_train", weights_to(counts / counts.sum(), labels))):
        grid = [
            np.average(-scipy_log_softmax(logits / t, axis=1)[rows, labels], weights=w)
            for t in np.geomspace(0.01, 100, 61)
        ]
        assert ours[f"nll_scaled{suffix}"] <= min(grid) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(
    ("sign", "scale", "expected"), [(1, 3, 0.01), (-1, 3, 100), (1, 0, 1), (1, 1e4, 0.01), (-1, 1e4, 100)]
)
def test_temperature_ends(sign, scale, expected):
    """All right: as sharp as allowed; all wrong: as flat as allowed; constant logits: left alone."""
    labels = np.arange(40) % 2
    logits = sign * scale * np.eye(2)[labels]
    ours = score(logits, labels, minorities=(1,), train_counts=(9, 1), validation=(logits, labels))
    assert ours["temperature_test"] == pytest.approx(expected)
    assert ours["temperature_train"] == pytest.approx(expected)


def test_temperature_survives_mixed_magnitudes():
    """Margins from 1e-2 to 1e4 make a plain Newton search fail; one wrong sample keeps the optimum inside."""
    labels = np.arange(60) % 2
    margin = np.geomspace(1e-2, 1e4, 60)
    margin[5] *= -1
    logits = np.stack([np.zeros(60), np.where(labels == 1, margin, -margin)], axis=1)
    ours = score(logits, labels, minorities=(1,), train_counts=(1, 1), validation=(logits, labels))
    inverse = np.geomspace(0.01, 100, 20001)
    grid = np.logaddexp(0, -inverse[:, None] * margin).mean(1)
    assert 1 < inverse[grid.argmin()] < 99
    assert 1 / ours["temperature_test"] == pytest.approx(inverse[grid.argmin()], rel=1e-3)


def test_saturated_floats_keep_their_ranking():
    """Probabilities all round to 0 or 1 here; their order is perfect and must stay so."""
    labels = np.repeat([0, 1], 20)
    margin = np.concatenate([np.linspace(100, 200, 20), np.linspace(300, 400, 20)])
    ours = score(np.stack([0 * margin, margin], 1), labels, minorities=(1,), train_counts=(1, 1))
    assert ours["roc_auc"] == ours["average_precision"] == 1
    assert ours["error_auroc"] == 1  # the wrong half has the smaller margins
    assert ours["f1_majority"] == 0


def test_confidence_of_errors():
    logits, labels = drawn(5, classes=3)
    ours = score(logits, labels, minorities=(1, 2), train_counts=(8, 1, 1))
    p = np.exp(scipy_log_softmax(logits, axis=1))
    confidence, wrong = p.max(1), p.argmax(1) != labels
    assert ours["error_auroc"] == pytest.approx(roc_auc_score(wrong, 1 - confidence))
    assert ours["confidence_right"] == pytest.approx(confidence[~wrong].mean())
    assert ours["confidence_wrong"] == pytest.approx(confidence[wrong].mean())


@pytest.mark.parametrize(("sign", "missing"), [(1, "confidence_wrong"), (-1, "confidence_right")])
def test_all_right_or_all_wrong_leaves_nan(sign, missing):
    labels = np.arange(10) % 2
    ours = score(sign * np.eye(2)[labels], labels, minorities=(1,), train_counts=(9, 1))
    unfitted = {name for name in METRICS if "scaled" in name or "temperature" in name}
    assert {name for name, value in ours.items() if np.isnan(value)} == unfitted | {missing, "error_auroc"}


def test_tied_logits_predict_the_lowest_class():
    ours = score(np.zeros((6, 3)), [0, 0, 1, 1, 2, 2], minorities=(0,), train_counts=(1, 1, 1))
    assert (ours["recall_minority"], ours["recall_majority"], ours["roc_auc"]) == (1, 0, 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_diverged_run(bad):
    logits, labels = drawn(1)
    logits[3, 0] = bad
    ours = score(logits, labels, minorities=(1,), train_counts=(9, 1), validation=drawn(2))
    zero = {name for name in METRICS if name.startswith(("f1_", "precision_", "recall_", "balanced_"))}
    zero |= {"tp", "fp", "fn", "tn"}
    assert tuple(ours) == METRICS
    assert {name for name, value in ours.items() if value == 0} == zero
    assert {name for name, value in ours.items() if np.isnan(value)} == set(METRICS) - zero


def test_diverged_validation_leaves_only_scaled_scores_nan():
    held_out, held_labels = drawn(2)
    held_out[0, 0] = np.nan
    ours = score(*drawn(1), minorities=(1,), train_counts=(9, 1), validation=(held_out, held_labels))
    nan = {name for name, value in ours.items() if np.isnan(value)}
    assert nan == {name for name in METRICS if "scaled" in name or "temperature" in name}


def test_score_names_types_and_input_kinds():
    logits, labels = drawn(3)
    logits = logits.astype(np.float16)
    ours = score(logits, labels, minorities=(1,), train_counts=(9, 1))
    assert tuple(ours) == METRICS and len(set(METRICS)) == len(METRICS)
    assert {type(value) for value in ours.values()} == {float}
    same = score(torch.from_numpy(logits), labels.astype(np.uint8).tolist(), minorities=(1,), train_counts=[900, 100])
    np.testing.assert_equal(same, ours)


@EXAMPLES
@given(problems(), st.integers(0, 4))
def test_history_is_score_epoch_by_epoch(problem, epochs):
    logits, labels, minorities, counts = problem
    stacked = np.stack([logits * (e - 1) for e in range(epochs)]) if epochs else np.empty((0, *logits.shape))
    if epochs > 2:
        stacked[1, 0, 0] = np.inf
    ours = history(stacked, labels, minorities, counts)
    assert list(ours) == ["nll", "nll_train", "f1_minority"]
    for name, values in ours.items():
        plain = [score(z, labels, minorities=minorities, train_counts=counts)[name] for z in stacked]
        assert values.shape == (epochs,)
        np.testing.assert_allclose(values, plain, rtol=1e-12, atol=1e-12)


def test_adjust_divides_the_prior_out():
    """exp(adjusted) is the likelihood ratio p(y|x) / p(y)^tau, up to a factor per sample."""
    logits, _ = drawn(0, classes=3)
    prior = np.array([0.9, 0.09, 0.01])
    for tau in (0.0, 0.5, 1.0):
        posterior = np.exp(scipy_log_softmax(logits, axis=1)) / prior**tau
        expected = posterior / posterior.sum(1, keepdims=True)
        np.testing.assert_allclose(np.exp(log_softmax(adjust(logits, 5000 * prior, tau))), expected)
    np.testing.assert_array_equal(adjust(logits, 5000 * prior, 1.0), adjust(logits, 5000 * prior))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 1, 2, 1]}, "Labels must be integers from 0 to 1"),
        ({"labels": [0, 1, -1, 1]}, "Labels must be integers from 0 to 1"),
        ({"labels": [0.0, 1.0, 0.0, 1.0]}, "found float64"),
        ({"labels": [0, 0, 0, 0]}, r"needs a sample, found none of \[1\]"),
        ({"labels": [0, 1, 0]}, r"found shapes \(4, 2\) and \(3,\)"),
        ({"logits": np.zeros(4)}, r"Logits must be \(N, K\)"),
        ({"logits": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "needs a sample"),
        ({"minorities": ()}, "Minorities must be some"),
        ({"minorities": (0, 1)}, "Minorities must be some"),
        ({"minorities": (2,)}, "Minorities must be some"),
        ({"train_counts": (1, 2, 3)}, "Training counts must be 2 positive numbers"),
        ({"train_counts": (1, 0)}, "Training counts must be 2 positive numbers"),
        ({"validation": (np.zeros((4, 2)), [0, 0, 0, 0])}, "needs a sample"),
        ({"validation": (np.zeros((3, 3)), [0, 1, 2])}, "Validation logits must have 2 classes"),
    ],
)
def test_errors_are_one_sentence(change, message):
    fine = {"logits": np.eye(2)[[0, 1, 0, 1]], "labels": [0, 1, 0, 1], "minorities": (1,)}
    with pytest.raises(ValueError, match=message) as error:
        score(**fine | {"train_counts": (9, 1)} | change)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_errors_of_history_and_adjust():
    with pytest.raises(ValueError, match=r"Logits must be \(E, N, K\)"):
        history(np.zeros((4, 2)), [0, 1, 0, 1], (1,), (9, 1))
    with pytest.raises(ValueError, match="Training counts must be 3"):
        adjust(np.zeros((4, 3)), (9, 1))


def test_imports_only_numpy_and_the_standard_library():
    tree = ast.parse(Path(metrics.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names == {"numpy"}


def test_score_is_fast():
    """Every run and readout calls it: under 3 ms, in the best of ten batches as others share the cores."""
    (logits, labels), validation = drawn(0, n=300), drawn(1, n=225)
    best = np.inf
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(5):
            score(logits, labels, minorities=(1,), train_counts=(1000, 10), validation=validation)
        best = min(best, (time.perf_counter() - start) / 5)
    assert best < 3e-3
