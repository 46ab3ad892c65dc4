"""Paired statistics against scipy, statsmodels, Tukey's range and simulations of F1-like differences."""

import dataclasses
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from replication.analysis import statistics as S

TRIAL = np.random.default_rng(7).normal(0.1, 0.2, 25)
# F1 has few distinct values on small test sets, so differences tie: thousandths, not arbitrary floats.
differences = st.lists(st.integers(-1000, 1000), min_size=3, max_size=30).map(lambda v: np.array(v) / 1000)
quick = settings(max_examples=40, deadline=None)


# --- Oracles --------------------------------------------------------------------------------------


def test_bca_is_scipys_interval_where_nothing_ties():
    oracle = stats.bootstrap(
        (np.sort(TRIAL),), np.mean, method="BCa", n_resamples=9999, rng=np.random.default_rng(S.SEED)
    ).confidence_interval
    assert S.bca(TRIAL) == pytest.approx(tuple(oracle), rel=1e-9)
    assert S.bca(TRIAL) == S.bca(TRIAL)


@pytest.mark.parametrize("margin", [-0.05, 0.0, 0.05, 0.2])
def test_one_sided_p_are_those_of_scipys_t_test(margin):
    for p, side in [(S.p_above, "greater"), (S.p_below, "less")]:
        assert p(TRIAL, margin) == pytest.approx(stats.ttest_1samp(TRIAL, margin, alternative=side).pvalue)


@pytest.mark.parametrize("margin", [0.05, 0.1, 0.2])
def test_tost_is_statsmodels_paired_tost(margin):
    rng = np.random.default_rng(3)
    x, y = rng.normal(0.7, 0.1, (2, 30))
    assert S.tost(x - y, margin) == pytest.approx(ttost_paired(x, y, -margin, margin)[0])


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_one_sided_limits_are_those_of_scipy_and_agree_with_the_p(level):
    low = stats.ttest_1samp(TRIAL, 0, alternative="greater").confidence_interval(level).low
    high = stats.ttest_1samp(TRIAL, 0, alternative="less").confidence_interval(level).high
    assert (-S.upper_limit(-TRIAL, level), S.upper_limit(TRIAL, level)) == pytest.approx((low, high))
    assert S.p_below(TRIAL, high) == pytest.approx(1 - level)
    assert S.p_above(TRIAL, low) == pytest.approx(1 - level)


def test_holm_by_hand():
    assert S.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert S.holm([0.5]) == pytest.approx([0.5])
    assert S.holm([]).shape == (0,)


@pytest.mark.parametrize("m", [1, 2, 7, 30])
def test_holm_is_statsmodels_with_ties(m):
    ps = np.random.default_rng(m).integers(0, 50, m) / 500
    assert S.holm(ps) == pytest.approx(multipletests(ps, method="holm")[1])


@pytest.mark.parametrize(("k", "n"), [(0, 20), (1, 20), (3, 60), (20, 20)])
def test_big_share_upper_is_clopper_pearson(k, n):
    d = np.where(np.arange(n) < k, -0.9, 0.1)
    oracle = stats.binomtest(k, n, alternative="less").proportion_ci(0.95, method="exact").high
    assert S.big_share_upper(d) == pytest.approx(oracle)


def test_forty_nine_seeds_without_a_large_difference_are_just_enough():
    assert S.big_share_upper(np.zeros(48)) > S.BIG_SHARE > S.big_share_upper(np.zeros(49)) > 0.059


@pytest.mark.parametrize("effect", [0.05, 0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("side", [-1, 1])
def test_seeds_needed_reach_the_power_and_one_fewer_does_not(effect, side):
    d = S.MARGIN + side * effect + stats.zscore(TRIAL, ddof=1)
    n = S.seeds_needed(d)
    power = TTestPower().power(effect, np.array([n - 1, n]), S.ALPHA, alternative="larger")
    assert power[0] < 0.8 <= power[1]


def test_max_t_is_tukeys_range_for_normal_columns():
    rng = np.random.default_rng(5)
    D = rng.normal(0, 0.1, (600, 4)) + rng.normal(0, 0.3, (600, 1))
    r = S.pairwise(D)
    X = D[:, r.pairs[:, 0]] - D[:, r.pairs[:, 1]]
    q = (r.high - r.low) / 2 / stats.sem(X, axis=0)
    assert q == pytest.approx(np.full(6, stats.studentized_range.ppf(0.95, 4, 599) / np.sqrt(2)), rel=0.04)
    assert r.difference == pytest.approx(X.mean(axis=0))
    assert r.pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


@pytest.mark.parametrize(
    "D",
    [
        np.random.default_rng(6).gamma(1.0, 0.2, (15, 3)),
        np.outer([0.5, 0.6, 0.7] + [0] * 17, [1, 0]),  # 4 % of resamples draw zeros only
    ],
    ids=["skewed", "sparse"],
)
def test_max_t_is_its_plain_loop(D):
    r = S.pairwise(D)
    X = D[:, r.pairs[:, 0]] - D[:, r.pairs[:, 1]]
    X = X[np.lexsort(X.T)]
    n = len(X)
    t = []
    for counts in np.random.default_rng(S.SEED).multinomial(n, np.full(n, 1 / n), size=4999):
        sample = np.repeat(X, counts, axis=0)
        with np.errstate(divide="ignore"):
            se = np.where(np.ptp(sample, axis=0) == 0, 0, sample.std(axis=0, ddof=1)) / np.sqrt(n)
            t.append(np.max(np.abs(sample.mean(axis=0) - X.mean(axis=0)) / se))
    q = (r.high - r.low) / 2 / stats.sem(X, axis=0)
    assert q == pytest.approx(np.full(len(q), np.quantile(t, 0.95, method="higher")))


# --- Edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f", [S.bca, S.p_above, S.p_below, S.tost, S.big_share_upper, S.absent, S.upper_limit, S.seeds_needed]
)
def test_nan_infinity_and_shape_are_refused_in_one_sentence(f):
    with pytest.raises(ValueError, match="found 2 NaN or infinite of 3"):
        f([0.1, np.nan, inf])
    with pytest.raises(ValueError, match=r"found shape \(1, 2\)"):
        f([[0.1, 0.2]])


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match="found 1 NaN"):
        S.pairwise([[0.1, np.nan], [0.1, 0.2]])
    with pytest.raises(ValueError, match="must have 2 dimension"):
        S.pairwise([0.1, 0.2])
    with pytest.raises(ValueError, match="found none"):
        S.bca([])
    for ps in ([0.1, np.nan], [-0.1], [1.1]):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            S.holm(ps)


def test_without_spread_the_side_decides():
    for value, above, below in [(0.3, 0.0, 1.0), (-0.3, 1.0, 0.0), (0.05, 1.0, 1.0)]:
        d = np.full(20, value)
        assert (S.p_above(d), S.p_below(d)) == (above, below)
        assert S.bca(d) == (value, value)
        assert S.upper_limit(d) == value
    assert S.tost(np.zeros(20)) == 0.0
    assert S.tost(np.full(20, 0.05)) == S.tost(np.full(20, -0.05)) == S.tost(np.full(20, 0.3)) == 1.0


def test_rounding_noise_is_no_spread():
    d = np.array([0.95 - 0.90, 0.15 - 0.10, 0.35 - 0.30])
    assert len(set(d)) > 1
    assert S.p_above(d) == S.p_below(d) == 1.0
    assert S.seeds_needed(d) is None
    assert S.big_share_upper([0.55 - 0.3] * 49) < S.BIG_SHARE


@pytest.mark.parametrize("d", [[], [0.9]])
def test_fewer_than_two_seeds_decide_nothing(d):
    assert S.p_above(d) == S.p_below(d) == S.tost(d) == 1.0
    assert S.upper_limit(d) == inf
    assert S.seeds_needed(d) is None
    assert not S.absent(d)
    r = S.pairwise(np.full((len(d), 3), 0.9))
    assert (r.low == -inf).all() and (r.high == inf).all() and len(r.low) == 3


def test_bca_of_one_seed_is_the_point():
    assert S.bca([0.4]) == (0.4, 0.4)


def test_bca_falls_back_to_percentiles_where_it_is_undefined():
    # Both resampled means lie below the mean: the bias term is infinite.
    low, high = S.bca(TRIAL, resamples=2)
    assert low < high < TRIAL.mean()


def test_seeds_needed_edges():
    assert S.seeds_needed(np.full(5, 0.3)) == 2
    assert S.seeds_needed(S.MARGIN + np.array([-0.1, 0.1])) is None
    assert S.seeds_needed(TRIAL, power=0.95) > S.seeds_needed(TRIAL)


def test_restricted_caps_and_fills():
    assert S.restricted([3, 100, 140, np.nan, inf, None], cap=100).tolist() == [3, 100, 100, 100, 100, 100]


def test_absence_needs_equivalence_and_no_rare_large_gain():
    small = np.random.default_rng(1).normal(0, 0.02, 60)
    assert S.absent(small) and S.absent(small).holds
    assert not S.absent(small[:48])
    assert not S.absent(small + 0.06)
    rare = np.append(np.zeros(59), 0.9)
    assert S.tost(rare) < 0.05 and not S.absent(rare)
    assert not dataclasses.replace(S.absent(small), p_tost=0.06)


def test_pairs_without_spread_get_points_and_leave_the_others_alone():
    D = np.random.default_rng(2).normal(0.3, 0.1, (20, 3))
    r = S.pairwise(np.column_stack([D, D[:, 0], D[:, 0] + 0.2]))  # columns 0, 3 and 4 move together
    pairs = r.pairs.tolist()
    for pair, value in [([0, 3], 0.0), ([0, 4], -0.2), ([3, 4], -0.2)]:
        k = pairs.index(pair)
        assert r.low[k] == r.high[k] == r.difference[k] == pytest.approx(value)
    assert (r.high > r.low).sum() == 7
    flat = S.pairwise(np.full((5, 3), 0.4))
    assert (flat.low == 0).all() and (flat.high == 0).all()
    assert S.pairwise(np.zeros((5, 1))).low.shape == (0,)


def test_one_failed_seed_neither_fires_nor_spoils_the_other_pairs():
    rng = np.random.default_rng(4)
    D = rng.normal([0.0, 0.0, 0.3, 0.5], [0, 0, 0.05, 0.05], (20, 4))
    clean = S.pairwise(D[:, 1:])
    D[0, 0] = 0.9  # columns 0 and 1 now tie in 19 of 20 seeds: 36 % of resamples have no spread
    r = S.pairwise(D)
    assert r.low[0] < 0 < r.high[0] < 0.3
    assert np.isfinite(r.high).all()
    others = [3, 4, 5]  # the pairs among columns 1, 2, 3
    assert (r.low[others] <= clean.low).all()
    assert r.high[others] - r.low[others] == pytest.approx(clean.high - clean.low, rel=0.4)


# --- Properties -----------------------------------------------------------------------------------


@quick
@given(differences, st.integers(-500, 500).map(lambda v: v / 1000))
def test_shifting_shifts(d, c):
    low, high = S.bca(d, resamples=199)
    assert S.bca(d + c, resamples=199) == pytest.approx((low + c, high + c), abs=1e-9)
    assert d.min() - 1e-9 <= low <= high <= d.max() + 1e-9
    assert S.p_above(d + c, 0.05 + c) == pytest.approx(S.p_above(d, 0.05), abs=1e-6)
    assert S.upper_limit(d + c) == pytest.approx(S.upper_limit(d) + c)


@quick
@given(differences, st.randoms(use_true_random=False))
def test_the_order_of_seeds_does_not_matter(d, random):
    other = d[random.sample(range(len(d)), len(d))]
    assert S.bca(other, resamples=199) == pytest.approx(S.bca(d, resamples=199), abs=1e-9)
    assert S.p_above(other) == pytest.approx(S.p_above(d), abs=1e-9)
    assert S.tost(other) == pytest.approx(S.tost(d), abs=1e-9)
    assert S.big_share_upper(other) == S.big_share_upper(d)


def test_the_order_of_seeds_does_not_matter_to_pairs():
    D = np.random.default_rng(9).normal(0, 0.1, (20, 4))
    shuffled = S.pairwise(np.random.default_rng(1).permutation(D))
    assert shuffled.high == pytest.approx(S.pairwise(D).high, abs=1e-12)


@quick
@given(differences, st.integers(1, 300).map(lambda v: v / 1000))
def test_more_gain_is_more_evidence(d, more):
    assert S.p_above(d + more) <= S.p_above(d) + 1e-9
    assert S.p_below(d + more) >= S.p_below(d) - 1e-9
    assert S.p_above(d, 0.05 + more) >= S.p_above(d) - 1e-9
    assert S.tost(d, 0.05 + more) <= S.tost(d) + 1e-9
    assert S.p_above(-d, -0.05) == pytest.approx(S.p_below(d))
    assert S.big_share_upper(d, 0.25 + more) <= S.big_share_upper(d)


# --- Size and coverage, by simulation -------------------------------------------------------------


def mixture(*parts):
    """Draws `(repeats, n)` from parts (probability, low, high), uniform within each; and the true mean."""
    p, low, high = np.array(parts).T

    def draw(repeats: int, n: int) -> np.ndarray:
        rng = np.random.default_rng(100 + n)
        part = rng.choice(len(p), (repeats, n), p=p)
        return rng.uniform(low[part], high[part])

    return draw, float(p @ (low + high) / 2)


@pytest.mark.parametrize("n", [20, 60])
@pytest.mark.parametrize(
    "parts",
    [
        [(0.5, 0, 0), (0.5, 0.85, 0.97)],
        [(0.2, 0, 0), (0.8, 0.85, 0.97)],
        [(0.8, 0, 0), (0.2, 0.85, 0.97)],
        [(0.4, 0, 0), (0.3, -0.1, 0.3), (0.3, 0.6, 0.95)],
    ],
    ids=["half", "most", "few", "three modes"],
)
def test_bca_covers_bimodal_gains(parts, n):
    draw, true = mixture(*parts)
    limits = np.array([S.bca(d, resamples=499) for d in draw(300, n)])
    covered = np.mean((limits[:, 0] <= true) & (true <= limits[:, 1]))
    assert 0.91 <= covered <= 0.99


AT_MARGIN = {  # every one with mean 0.05
    "narrow": [(1, 0, 0.1)],
    "half zero, small gains": [(0.5, 0, 0), (0.5, 0, 0.2)],
    "both ways": [(0.5, 0, 0), (0.25, 0.9, 1.0), (0.25, -0.8, -0.7)],
    "some large gains": [(17 / 18, 0, 0), (1 / 18, 0.85, 0.95)],
}


@pytest.mark.parametrize("n", [20, 60])
@pytest.mark.parametrize("name", AT_MARGIN)
def test_size_at_the_margin(name, n):
    draw, mean = mixture(*AT_MARGIN[name])
    assert mean == pytest.approx(S.MARGIN)
    D = draw(1500, n)
    assert np.mean([S.p_above(d) < S.ALPHA for d in D]) <= 0.07
    if name != "some large gains":
        assert np.mean([S.p_below(d) < S.ALPHA for d in D]) <= 0.09
    assert np.mean([bool(S.absent(d)) for d in D]) <= 0.08


def test_unseen_rare_events_break_the_t_test_but_not_absence():
    """The limit of every test of n seeds, on record: what was not drawn is not seen; only more seeds help."""
    losses, mean = mixture((0.95, 0.1, 0.1), (0.05, -0.9, -0.9))
    assert mean == pytest.approx(S.MARGIN)
    few = np.mean([S.p_above(d) < S.ALPHA for d in losses(1500, 20)])
    more = np.mean([S.p_above(d) < S.ALPHA for d in losses(1500, 60)])
    assert few == pytest.approx(0.95**20, abs=0.03)
    assert 0.1 < more < few - 0.1
    gains, _ = mixture(*AT_MARGIN["some large gains"])
    below = np.mean([S.p_below(d) < S.ALPHA for d in gains(1500, 20)])
    assert below == pytest.approx((17 / 18) ** 20, abs=0.04)
    assert np.mean([bool(S.absent(d)) for d in gains(1500, 60)]) <= S.ALPHA


def bimodal(rng, n):
    """Six exchangeable columns: a seed's chance to be learnt is shared by all; gains 0 or about 0.9."""
    chance = rng.beta(0.75, 0.75, (n, 1))
    return np.where(rng.random((n, 6)) < chance, rng.normal(0.9, 0.03, (n, 6)), 0)


def unimodal(rng, n):
    """Six exchangeable normal columns correlated by seed."""
    return rng.normal(0.3, 0.2, (n, 1)) + rng.normal(0, 0.2, (n, 6))


@pytest.mark.parametrize("columns", [unimodal, bimodal])
def test_pairwise_keeps_the_familywise_error_and_naive_range_does_not(columns):
    """Max minus min is positive in every resample, so its plain bootstrap calls equal columns different."""
    rng = np.random.default_rng(11)
    repeats, n, false, naive = 500, 20, 0, 0
    for _ in range(repeats):
        D = columns(rng, n)
        r = S.pairwise(D, resamples=499)
        false += ((r.low > 0) | (r.high < 0)).any()
        means = D[rng.integers(0, n, (499, n))].mean(axis=1)
        naive += np.quantile(np.ptp(means, axis=1), 0.025) > S.MARGIN
    assert false / repeats <= 0.07
    assert naive / repeats > 0.5


def test_pairwise_covers_unequal_columns_simultaneously():
    rng = np.random.default_rng(12)
    true, spread = np.array([0.3, 0.6, 0.9, 0.9, 0.5, 0.2]), np.array([0.15, 0.1, 0.03, 0.03, 0.1, 0.1])
    covered = 0
    for _ in range(400):
        D = true + spread * (0.5 * rng.normal(size=(20, 1)) + 0.9 * rng.uniform(-1.7, 1.7, (20, 6)))
        r = S.pairwise(D, resamples=499)
        gap = true[r.pairs[:, 0]] - true[r.pairs[:, 1]]
        covered += ((r.low <= gap) & (gap <= r.high)).all()
    assert 0.92 <= covered / 400 <= 0.995
