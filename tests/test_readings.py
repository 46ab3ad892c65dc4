"""The fast scores of all readouts at once, and tuned thresholds, against plain twins and scikit-learn."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.metrics import f1_score

from replication.analysis import thresholds
from replication.analysis.metrics import METRICS, PUBLISHED_METRICS, adjust, f1_macro, score
from replication.analysis.readings import read_all

EXAMPLES = settings(deadline=None, max_examples=150, derandomize=True)


@st.composite
def held_out(draw):
    """Logits (R, M + N, K) of some readouts, labels (M,) and (N,), minorities and training counts."""
    classes = draw(st.sampled_from([2, 2, 2, 3, 4]))
    m, n = draw(st.integers(classes, 20)), draw(st.integers(classes, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = [
        rng.permutation(np.concatenate([np.arange(classes), rng.integers(classes, size=k - classes)])) for k in (m, n)
    ]
    labels = np.concatenate(parts)
    rows = draw(st.integers(1, 3))
    shape = (rows, m + n, classes)
    kind = draw(st.sampled_from(["smooth", "tied", "constant", "saturated"]))
    logits = {
        "smooth": rng.normal(size=shape) * 3 + 2 * np.eye(classes)[labels],
        "tied": rng.integers(-1, 2, size=shape).astype(float),
        "constant": np.zeros(shape),
        "saturated": rng.choice([-1e4, 1e4], size=shape) + rng.integers(0, 3, size=shape),
    }[kind]
    minorities = tuple(rng.permutation(classes)[: draw(st.integers(1, classes - 1))].tolist())
    return logits, *parts, minorities, rng.integers(1, 12, size=classes)


def read(problem):
    logits, validation, test, minorities, counts = problem
    named = {f"readout {r}": z for r, z in enumerate(logits)}
    return list(read_all(named, validation, test, minorities=minorities, train_counts=counts).values())


@EXAMPLES
@given(held_out())
def test_scores_are_those_of_the_plain_function(problem):
    logits, validation, test, minorities, counts = problem
    for z, reading in zip(logits, read(problem), strict=True):
        plain = score(z[len(validation) :], test, minorities=minorities, train_counts=counts)
        assert tuple(reading.scores) == PUBLISHED_METRICS
        for name in set(PUBLISHED_METRICS) & set(METRICS):
            assert reading.scores[name] == pytest.approx(plain[name], rel=1e-11, abs=1e-12, nan_ok=True), name
        assert reading.cut == plain["tp"] + plain["fp"]


@EXAMPLES
@given(held_out())
def test_mean_log_odds_match_scipy(problem):
    logits, validation, test, minorities, _ = problem
    chosen = np.isin(np.arange(logits.shape[2]), minorities)
    for z, reading in zip(logits[:, len(validation) :], read(problem), strict=True):
        odds = logsumexp(z[:, chosen], axis=1) - logsumexp(z[:, ~chosen], axis=1)
        for name, group in (("minority", chosen[test]), ("majority", ~chosen[test])):
            assert reading.scores[f"mean_log_odds_{name}"] == pytest.approx(odds[group].mean(), rel=1e-9, abs=1e-9)


def exact_macro(said, minority):
    """Macro F1 as a fraction."""
    total = Fraction(0)
    for group, called in ((minority, said), (~minority, ~said)):
        size = int(group.sum() + called.sum())
        total += Fraction(2 * int((group & called).sum()), size) if size else 0
    return total / 2


def brute_threshold(odds, minority):
    """Every cut between distinct scores and beyond the ends, each counted anew; the middle of the best, the lower of two."""
    distinct = sorted(set(odds.tolist()))
    cuts = [-np.inf, *((a + b) / 2 for a, b in zip(distinct, distinct[1:])), np.inf]
    values = [exact_macro(odds >= cut, minority) for cut in cuts]
    best = [cut for cut, value in zip(cuts, values) if value == max(values)]
    return best[(len(best) - 1) // 2]


@EXAMPLES
@given(held_out())
def test_tuned_scores_match_brute_force_and_sklearn(problem):
    logits, validation, test, minorities, counts = problem
    for z, reading in zip(logits, read(problem), strict=True):
        if z.shape[1] > 2:
            assert all(np.isnan(v) for k, v in reading.scores.items() if "tuned" in k)
            continue
        [one] = minorities
        odds = z[:, one] - z[:, 1 - one]
        held, seen = odds[: len(validation)], odds[len(validation) :]
        few = [i for i in range(len(validation)) if validation[i] != one]
        few += [i for i in range(len(validation)) if validation[i] == one][: counts[one]]
        for suffix, images in (("tuned", sorted(few)), ("tuned_all", range(len(validation)))):
            at = brute_threshold(held[images], validation[images] == one)
            truth, said = test == one, seen >= at
            assert reading.scores[f"f1_minority_{suffix}"] == pytest.approx(f1_score(truth, said, zero_division=0))
            macro = f1_score(truth, said, average="macro", labels=[False, True], zero_division=0)
            assert reading.scores[f"f1_macro_{suffix}"] == pytest.approx(macro)


def test_ties_go_to_the_middle():
    minority = np.array([False] * 4 + [True] * 4)
    far = np.array([[0, 1, 2, 3, 7, 8, 9, 10.0]])
    assert thresholds.tuned(far, minority).tolist() == [5]
    # All called minority, or all majority: macro F1 1/3 both, in between 0; the lower of the two is taken.
    assert thresholds.tuned(np.array([[0, 1.0]]), np.array([True, False])).tolist() == [-np.inf]


def test_neighbouring_floats_are_told_apart():
    low = 1.0
    odds = np.array([[low, np.nextafter(low, 2), np.nextafter(low, 0)]])
    minority = np.array([False, True, False])
    assert ((odds >= thresholds.tuned(odds, minority)[:, None]) == minority).all()


@EXAMPLES
@given(held_out())
def test_the_order_gives_every_cut(problem):
    logits, validation, test, minorities, _ = problem
    if logits.shape[2] > 2:
        return
    [one] = minorities
    for z, reading in zip(logits, read(problem), strict=True):
        odds = (z[:, one] - z[:, 1 - one])[len(validation) :]
        by_hand = sorted(range(len(test)), key=lambda i: (-odds[i], i))
        assert thresholds.in_order(reading.order, len(test)).tolist() == [test[i] == one for i in by_hand]
        own = thresholds.at_cut(reading.order, len(test), reading.cut)
        assert own == pytest.approx((reading.scores["f1_minority"], reading.scores["f1_macro"]))
        for cut in range(len(test) + 1):
            said = np.isin(np.arange(len(test)), by_hand[:cut])
            macro = f1_score(test == one, said, average="macro", labels=[False, True], zero_division=0)
            found = thresholds.at_cut(reading.order, len(test), cut)
            assert found == pytest.approx((f1_score(test == one, said, zero_division=0), macro))


def test_the_order_takes_a_bit_an_image():
    logits = np.random.default_rng(0).normal(size=(375, 2))
    labels = np.arange(375) % 2
    [reading] = read((logits[None], labels[:75], labels[75:], (1,), (1000, 10)))
    assert len(reading.order) == 38
    with pytest.raises(ValueError, match="the order of 305 images takes 39 bytes: found 38"):
        thresholds.in_order(reading.order, 305)
    with pytest.raises(ValueError, match="cut = 301 is not allowed: 0 to 300"):
        thresholds.at_cut(reading.order, 300, 301)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_readout_scores_as_a_diverged_run_and_leaves_the_others(classes, bad):
    rng = np.random.default_rng(0)
    labels, logits = np.arange(60) % classes, rng.normal(size=(2, 60, classes))
    logits[1] = bad
    counts = np.arange(classes, 0, -1)
    whole = read((logits[:1], labels[:20], labels[20:], (1,), counts))
    fine, diverged = read((logits, labels[:20], labels[20:], (1,), counts))
    assert (fine.order, fine.cut) == (whole[0].order, whole[0].cut)
    assert list(fine.scores.values()) == pytest.approx(list(whole[0].scores.values()), rel=1e-12, nan_ok=True)
    plain = score(logits[1, 20:], labels[20:], minorities=(1,), train_counts=counts)
    for name, value in diverged.scores.items():
        expected = plain.get(name, 0.0 if "tuned" in name and classes == 2 else np.nan)
        assert value == pytest.approx(expected, nan_ok=True)
    assert diverged.cut == 0


def test_macro_f1_alone_is_that_of_all_scores():
    rng = np.random.default_rng(1)
    labels, logits = np.arange(40) % 3, rng.normal(size=(40, 3))
    assert f1_macro(logits, labels) == score(logits, labels, minorities=(1,), train_counts=(1, 1, 1))["f1_macro"]
    assert f1_macro(np.full((40, 3), np.nan), labels) == 0


def test_adjusted_logits_keep_the_order():
    rng = np.random.default_rng(2)
    labels, logits = np.arange(90) % 2, rng.normal(size=(90, 2)).astype(np.float32)
    both = np.stack([logits, adjust(logits, (1000, 10))])
    plain, adjusted = read((both, labels[:30], labels[30:], (1,), (1000, 10)))
    assert adjusted.order == plain.order and adjusted.cut > plain.cut
    assert adjusted.scores["f1_macro_tuned"] == plain.scores["f1_macro_tuned"]


def test_errors_are_those_of_the_plain_function():
    logits = np.eye(2)[[0, 1, 0, 1, 0, 1]]
    with pytest.raises(ValueError, match="Labels must be integers"):
        read((logits[None], [0, 1], [0, 1, 2, 1], (1,), (9, 1)))
    with pytest.raises(ValueError, match="needs a sample"):
        read((logits[None], [0, 0], [0, 1, 0, 1], (1,), (9, 1)))
    with pytest.raises(ValueError, match="Minorities must be some"):
        read((logits[None], [0, 1], [0, 1, 0, 1], (0, 1), (9, 1)))
