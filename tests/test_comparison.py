"""Comparisons over cells, tuning budgets and variance components: each against brute force or a known truth."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import f1_score

from replication.analysis import budget, comparison, variance


def test_wins_count_pairs_and_half_of_ties():
    assert comparison.wins(np.array([1.0, 2, 3]), np.array([2.0])) == pytest.approx(0.5)
    assert comparison.wins(np.array([3.0, 4]), np.array([1.0, 2])) == 1


def test_improvement_is_the_mean_over_cells_and_its_interval_covers():
    a, b = [np.array([1.0, 1]), np.array([0.0, 0])], [np.array([0.0, 0]), np.array([0.0, 0])]
    found = comparison.improvement(a, b)
    assert found.value == found.low == found.high == 0.75
    rng, inside = np.random.default_rng(1), 0
    for _ in range(60):  # two normals one deviation apart: 0.76
        x, y = rng.normal(1, 1, (3, 20)), rng.normal(0, 1, (3, 20))
        e = comparison.improvement([*x], [*y], 100)
        inside += e.low <= 0.7602 <= e.high
    assert inside >= 51
    with pytest.raises(ValueError, match="at least one cell"):
        comparison.improvement([], [])


def test_a_profile_weighs_cells_alike():
    found = comparison.profile([np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.5])], np.array([0.1, 0.5, 0.9]))
    assert found.value == pytest.approx([1, 0.25, 0])
    assert (found.low <= found.value).all() and (found.value <= found.high).all()


@pytest.mark.parametrize("ties", [False, True])
def test_the_best_of_k_against_all_draws(ties):
    rng = np.random.default_rng(2)
    validation, test = rng.random(5), rng.random(5)
    if ties:
        validation[[1, 3]] = validation[0]
    found = budget.expected_best(validation, test)
    for k in (1, 2, 3, 4):
        draws = [np.array(d) for d in itertools.product(range(5), repeat=k)]
        brute = np.mean([test[d[validation[d] == validation[d].max()]].mean() for d in draws])
        assert found[k - 1] == pytest.approx(brute, abs=1e-12)


def test_the_best_of_k_of_uniform_scores_is_known():
    scores = np.random.default_rng(3).random(4000)
    assert budget.expected_best(scores, scores)[[0, 3]] == pytest.approx([1 / 2, 4 / 5], abs=0.02)
    with pytest.raises(ValueError, match="one finite validation"):
        budget.expected_best(scores, scores[1:])


def test_the_interval_of_the_best_of_k_covers():
    rng, inside = np.random.default_rng(4), 0
    for _ in range(60):  # uniform: the best of 5 is 5/6
        scores = np.repeat(rng.random((40, 1)), 2, axis=1)
        e = budget.best_of(scores, scores, 100)
        inside += e.low[4] <= 5 / 6 <= e.high[4]
    assert inside >= 50


def test_a_clear_choice_never_flips_and_a_coin_flips_half_the_time():
    clear = np.array([[0.1] * 10, [0.9] * 10, [0.2] * 10])
    assert budget.choices(clear).tolist() == [0, 1, 0]
    coin = np.stack([np.tile([0.0, 1], 50), np.tile([1.0, 0], 50)])
    assert budget.choices(coin) == pytest.approx([0.5, 0.5], abs=0.1)


def test_crossed_components_are_found_again():
    rng, found = np.random.default_rng(5), []
    for _ in range(200):
        scores = rng.normal(0, 3, (12, 1)) + rng.normal(0, 2, (1, 8)) + rng.normal(0, 1, (12, 8))
        found.append(variance.crossed(scores))
    means = [np.mean([getattr(c, name) for c in found]) for name in ("split", "seed", "rest")]
    assert means == pytest.approx([9, 4, 1], rel=0.12)
    with pytest.raises(ValueError, match="at least two splits"):
        variance.crossed(np.zeros((1, 5)))


def test_variance_between_groups_is_found_again():
    rng, groups = np.random.default_rng(6), np.repeat(np.arange(10), 6)
    found = [variance.between(rng.normal(0, 2, 10)[groups] + rng.normal(0, 1, 60), groups) for _ in range(300)]
    assert np.mean(found) == pytest.approx(4, rel=0.12)
    assert variance.between(rng.normal(size=6), np.zeros(6)) == 0


def test_macro_f1_is_scikit_learns():
    rng = np.random.default_rng(7)
    truth, said = rng.integers(2, size=80), rng.integers(2, size=80)
    counts = [((said == a) & (truth == b)).sum() for a, b in ((1, 1), (1, 0), (0, 1), (0, 0))]
    assert variance.macro_f1(*map(np.array, counts)) == pytest.approx(f1_score(truth, said, average="macro"))


def noise_of_test_of_test_images_is_that_of_fresh_ones():
    rng, few = np.random.default_rng(8), 150
    hits, alarms = rng.binomial(few, 0.8, 3000), rng.binomial(few, 0.1, 3000)
    real = variance.macro_f1(hits, alarms, few - hits, few - alarms).var()
    n = slice(0, 300)
    assert variance.noise_of_test(hits[n], alarms[n], few - hits[n], few - alarms[n]) == pytest.approx(real, rel=0.1)
