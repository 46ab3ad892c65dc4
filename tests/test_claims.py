"""The criterion of every claim on constructed tables: each word, each reason, ties with a margin, diverged runs."""

import dataclasses

import numpy as np
import pytest
from constructed import CNN, CURVES, LITE, PROBABILITIES, WIDE, arm, cell_of, one
from scipy import stats

from replication.analysis import statistics as st
from replication.analysis.effects import Curve, Effect
from replication.claims.claim import CONTRADICTED, NOT_ASSESSABLE, REPLICATED, UNDECIDED, WORDS
from replication.claims.papers import batch_size, ratio
from replication.claims.registry import CLAIMS

REP, CON, OPEN, NA = REPLICATED, CONTRADICTED, UNDECIDED, NOT_ASSESSABLE
TOMATO = "plantvillage/tomato@160"


def curve(variant, levels, gains):
    return [arm(score, variant=variant, level=n) for n, score in zip(levels, gains, strict=True)]


def confidence(change, nll, gained=0.5):
    """Mean confidence and NLL at training prevalence; both are 0.5 in plain."""
    return [arm(gained), arm(change, column="confidence_train"), arm(nll, column="nll_train")]


def loss_choice(f1, gained=0.5, losses=(3.0, 1.0, 2.0), other=(1.0, 2.0, 3.0)):
    columns = ("validation_nll", "validation_nll_train", "test_f1_minority")
    return [arm(gained), *(arm([*v], column=c) for v, c in zip((losses, other, f1), columns))]


def training_time(plain, final_bn, gained=0.5, censored=0):
    """Epochs of the second 0.8 in a row, after a single one in epoch 1; None: never, and in the first `censored` seeds."""
    timed = {"column": "validation_f1_minority", "level": 100}
    never = [0.8] + [0.0] * 99
    curves = {e: never if e is None else [0.8] + [0.0] * (e - 3) + [0.8, 0.8] for e in (plain, final_bn)}
    by_seed = np.empty(20, dtype=object)
    by_seed[:] = [never if i < censored else curves[final_bn] for i in range(20)]
    return [arm(gained, level=10), arm(curves[plain], "plain", **timed), arm(by_seed, **timed)]


RATIOS, SIZES = ratio.LEVELS, batch_size.LEVELS + batch_size.LARGEST
CELLS = {
    name: cell_of(name, TOMATO, LITE, seeds=60, kinds=("own",), options=()) for name in CLAIMS if name != "generality"
} | {
    "generality": cell_of("generality", "digits", LITE, kinds=("own",)),
    "ratio": cell_of("ratio", "digits", LITE, seeds=20, kinds=("own",)),
    "batch_size": cell_of("batch_size", "digits", LITE, seeds=20, kinds=("own",)),
    "training_time": cell_of("training_time", TOMATO, LITE, kinds=("own",)),
}
PUTS = {
    "base": lambda gained: [arm(gained)],
    "generality": lambda gained: [arm(gained)],
    "removal": lambda trained, removed: [arm(trained), arm(removed, readout="bn_removed")],
    "ratio": lambda *gains: curve("minority varied", RATIOS, gains),
    "batch_size": lambda epochs, updates=0.5, rest=0.5: [
        put
        for variant, last in (("equal epochs", epochs), ("equal updates", updates))
        for put in curve(variant, SIZES, (rest,) * 6 + (last,))
    ],
    "majorities": lambda single, double: [arm(single, level=1), arm(double, level=2)],
    "sigmoid": lambda soft, single, each=0.0: [
        arm(soft),
        arm(single, "final_bn_sigmoid"),
        arm(each, "final_bn_sigmoids"),
    ],
    "confidence": confidence,
    "loss_choice": loss_choice,
    "training_time": training_time,
}
COSTS, FREE, TIE = [0.9, 0.2, 0.9], [0.1, 0.9, 0.9], [0.0, 0.0, 0.05]
DIVERGED = np.array([np.nan] + [0.9] * 59)
ROWS = {
    "base": {REP: [(0.5,), (0.06,)], OPEN: [(0.05,), (WIDE,)], CON: [(0.0,), (-0.5,), (0.04,)]},
    "generality": {REP: [(0.5,)], OPEN: [(0.05,), (WIDE,)], CON: [(0.0,), (-0.5,)]},
    "removal": {
        REP: [(0.9, 0.9), (0.9, 0.46), (0.11, 0.06)],
        CON: [(0.9, 0.44), (0.9, -0.1), (0.08, 0.045), (0.9, WIDE)],
        OPEN: [(0.9, 0.45), (0.08, 0.05), (0.08, WIDE), (0.05, 0.9), (WIDE, 0.9)],
        NA: [(0.0, 0.0), (0.04, 0.9)],
    },
    "ratio": {
        REP: [(0.1, 0.2, 0.5, 0.2, 0.1, 0.1), (0.5, 0.5, 0.5, 0.56, 0.5, 0.5), (0.4, 0.5, 0.5, 0.5, 0.5, 0.1)],
        CON: [
            (0.5,) * 6,
            (0.5, 0.52) * 3,
            (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
            (0.6, 0.5, 0.1, 0.2, 0.1, 0.0),
            (0.5, *(0.1,) * 4, 0.5),
            (0.0, *(0.5,) * 5),
            (0.46, *(0.5,) * 4, 0.0),
        ],
        OPEN: [
            (0.5, 0.5, 0.55, 0.5, 0.5, 0.5),
            (0.5, 0.5, 0.5 + WIDE, 0.5, 0.5, 0.5),
            (0.05,) * 6,
            (0.0, 0.0, 0.0, 0.0, 0.0, WIDE),
        ],
        NA: [(0.0,) * 6, (0.04, 0.0, -0.5, 0.04, 0.0, 0.0)],
    },
    "batch_size": {
        REP: [(0.8,), (0.8, 0.8), (0.2,)],
        CON: [(0.5,), (0.5, 0.9), (0.54,), (0.46,)],
        OPEN: [(0.5 + WIDE,), (0.55,), (0.45,), (0.05, 0.5, 0.05)],
        NA: [(0.0, 0.8, 0.0)],
    },
    "majorities": {
        REP: [(0.5, 0.0), (0.5, -0.5), (0.1, 0.04)],
        CON: [(0.5, 0.5), (0.5, 0.06)],
        OPEN: [(0.5, 0.05), (0.5, WIDE), (0.09, 0.04), (0.08, 0.04), (0.05, 0.5)],
        NA: [(0.0, 0.0), (0.0, 0.5)],
    },
    "sigmoid": {
        REP: [(0.5, 0.0), (0.5, 0.0, 0.5), (0.1, -0.04)],
        CON: [(0.5, 0.5), (0.5, 0.06, 0.0)],
        OPEN: [
            (0.5, 0.05),
            (0.5, -0.05),
            (0.5, -0.2),
            (0.5, WIDE),
            (0.06, 0.01),
            (0.06, 0.02),
            (0.05, 0.5),
            (0.5, np.array([0.3] + [0.0] * 59)),
        ],
        NA: [(0.0, 0.0), (0.0, 0.5)],
    },
    "confidence": {
        REP: [(0.4, 0.9)],
        CON: [(0.9, 0.9), (0.4, 0.1), (0.9, 0.1), (0.9, 0.5), (0.5, 0.1), (0.9, DIVERGED)],
        OPEN: [(0.5, 0.9), (0.4, 0.5), (0.5, 0.5), (0.4, DIVERGED), (0.4, 1 - DIVERGED), (0.4, 0.9, 0.05)],
        NA: [(0.4, 0.9, 0.0)],
    },
    "loss_choice": {
        REP: [(COSTS,), (COSTS, 0.06)],
        CON: [(FREE,), ([0.0, 0.0, 0.04],), ([0.9] * 3,)],
        OPEN: [(TIE,), (COSTS, 0.05)],
        NA: [(COSTS, 0.0)],
    },
    "training_time": {
        REP: [(20, 10), (None, 10), (20, 18), (None, 5, 0.5, 0)],
        CON: [(20, 20), (10, 20), (5, None)],
        OPEN: [(20, 19), (20, 10, 0.05)],
        NA: [(20, 10, 0.0), (None, None), (None, 5, 0.5, 1)],
    },
}
CASES = [(claim, scores, word) for claim, row in ROWS.items() for word, cases in row.items() for scores in cases]


@pytest.mark.parametrize("claim, scores, word", CASES)
def test_word(claim, scores, word):
    assert one(claim, CELLS[claim], *PUTS[claim](*scores)).word == word


def test_every_claim_has_every_word_that_it_can_have():
    """Not run is of the judge; base and generality have no gate."""
    for name, claim in CLAIMS.items():
        assert set(ROWS[name]) == {REP, CON, OPEN} | ({NA} if claim.gated else set())
    assert set(WORDS) == {REP, CON, OPEN, NA, "not run"}


@pytest.mark.parametrize(
    "claim, scores, words",
    [
        ("base", (WIDE,), "fresh study would need about"),
        ("base", (0.05,), "no number of seeds"),
        ("removal", (WIDE, 0.9), "whether there is a gain above 0.05 is open"),
        ("removal", (0.9, 0.44), "less than half"),
        ("removal", (0.08, 0.045), "lies below 0.05"),
        ("majorities", (0.08, 0.04), "not shown to gain 0.05 more"),
        ("majorities", (0.5, WIDE), "fresh study would need"),
        ("sigmoid", (0.5, -0.2), "neither to exceed 0.05 nor to lie within it"),
        ("sigmoid", (0.06, 0.02), "not shown to gain"),
        ("sigmoid", (0.5, np.array([0.3] + [0.0] * 59)), "large ones are not shown to be rare"),
        ("ratio", (0.1, 0.1, 0.1, 0.5, 0.1, 0.1), "at 20 of 1000"),
        ("confidence", (0.9, 0.1), "confidence rises and NLL gets better"),
        ("confidence", (0.4, 0.5), "confidence lower, NLL at training prevalence open"),
        ("training_time", (None, None), "never reached the target"),
    ],
)
def test_reason(claim, scores, words):
    assert words in one(claim, CELLS[claim], *PUTS[claim](*scores)).reason


@pytest.mark.parametrize("seeds, word", [(48, OPEN), (49, REP)])
def test_absence_takes_49_seeds(seeds, word):
    found = one("sigmoid", dataclasses.replace(CELLS["sigmoid"], seeds=seeds), arm(0.5))
    assert (found.word, "cannot show absence" in found.reason) == (word, word == OPEN)
    few = one("sigmoid", cell_of("sigmoid", "cracks", kinds=("own",)), arm(0.5), arm(WIDE, "final_bn_sigmoid"))
    assert few.reason == "10 seeds cannot show absence: it takes 49"


def test_holm_over_the_two_ways_to_contradict():
    """Each p alone would do at 0.04; together neither does; one at 0.02 does."""
    rng = np.random.default_rng(0)
    shape = rng.normal(size=60)
    shape = (shape - shape.mean()) / shape.std(ddof=1)

    def shifted(p, sign):
        return 0.5 + sign * (shape + stats.t.isf(p, 59) / np.sqrt(60))

    words = [
        one("confidence", CELLS["confidence"], *confidence(shifted(a, 1), shifted(b, -1))).word
        for a, b in ((0.04, 0.5), (0.04, 0.04), (0.02, 0.5), (0.5, 0.02))
    ]
    assert words == [OPEN, OPEN, CON, CON]


def test_loss_choice_is_judged_by_the_validation_images_prevalence():
    """The other prevalence, where the least loss is at the first epoch, stands beside it."""
    found = one("loss_choice", CELLS["loss_choice"], *loss_choice([0.1, 0.9, 0.9])).measures["own"]
    assert found["f1_at_least_loss_minus_last"].d == pytest.approx(0.0)
    assert found["f1_at_least_loss_minus_last_train"].d == pytest.approx(-0.8)


def test_least_loss_of_diverged_epochs():
    for losses, cost in (((np.nan, 2, 1), 0), ((1, np.inf, np.nan), -0.8), ((np.nan,) * 3, -0.9)):
        found = one("loss_choice", CELLS["loss_choice"], *loss_choice([0.1, 0.5, 0.9], losses=losses))
        assert found.measures["own"]["f1_at_least_loss_minus_last"].d == pytest.approx(cost)


def test_training_time_is_capped_and_counts_both_arms_as_censored():
    found = one("training_time", CELLS["training_time"], *training_time(None, 10)).measures["own"]
    assert found["epochs_saved"].d == pytest.approx(90) and found["censored"].d.mean() == 0.5


def test_batch_size_ignores_equal_updates_and_ratio_ignores_the_majority():
    for updates in (0.0, 0.5, 0.9):
        found = one("batch_size", CELLS["batch_size"], *PUTS["batch_size"](0.5, updates))
        assert found.word == CON and found.measures["own"]["updates"].some_apart() == (updates != 0.5)
    beside = curve("majority varied", ratio.MAJORITY_LEVELS, (0.0, 0.9, 0.0, 0.9))
    assert one("ratio", CELLS["ratio"], *PUTS["ratio"](*(0.5,) * 6), *beside).word == CON


# --- Curves ---------------------------------------------------------------------------------------


def plain_intervals(D, level=0.95):
    """All simultaneous differences by name, from the matrix of pairs."""
    found = st.pairwise(D, level)
    return {(i, j): (low, high) for (i, j), low, high in zip(found.pairs, found.low, found.high)} | {
        (j, i): (-high, -low) for (i, j), low, high in zip(found.pairs, found.low, found.high)
    }


@pytest.mark.parametrize("seed", range(40))
def test_curves_are_their_plain_twin(seed):
    rng = np.random.default_rng(seed)
    n, G = int(rng.integers(2, 30)), int(rng.integers(3, 7))
    D = rng.choice([0.0, 0.04, 0.05, 0.1, 0.5], G) + rng.choice([0.0, 0.002, 0.05]) * rng.normal(size=(n, G))
    curve, of = Curve([*range(G)], D, st.pairwise(D)), plain_intervals(D)
    inner, last = range(1, G - 1), G - 1
    assert curve.peaks() == [k for k in inner if of[k, 0][0] > 0.05 + 1e-9 and of[k, last][0] > 0.05 + 1e-9]
    assert curve.end_as_good() == any(all(of[k, end][1] < 0.05 - 1e-9 for k in inner) for end in (0, last))
    assert curve.all_within() == all(abs(x) < 0.05 - 1e-9 for pair in of.values() for x in pair)
    assert curve.some_apart() == any(low > 0.05 + 1e-9 for low, _ in of.values())
    assert curve.all_below() == all(st.p_below(column) < 0.05 for column in D.T)
    assert not (curve.peaks() and curve.end_as_good()) and not (curve.some_apart() and curve.all_within())


def test_curves_of_few_levels_say_nothing():
    for G in (1, 2):
        D = np.full((20, G), 0.5)
        curve = Curve([*range(G)], D, st.pairwise(D))
        assert not curve.peaks() and not curve.end_as_good() and not curve.some_apart()
    assert not Curve([1], np.full((20, 1), 0.5), st.pairwise(np.full((20, 1), 0.5))).all_within()


def test_a_family_of_curves_is_wider_and_its_gate_stricter():
    D = np.random.default_rng(3).normal(0.02, 0.06, (20, 4))
    alone, of_six = (Curve([*range(4)], D, st.pairwise(D, 1 - 0.05 / m), m) for m in (1, 6))
    assert (of_six.pairs.high > alone.pairs.high).all()
    assert alone.all_below() == all(st.p_below(d) < 0.05 for d in D.T)
    assert of_six.all_below() == all(6 * st.p_below(d) < 0.05 for d in D.T)


def test_the_gate_of_a_curve_takes_its_clearest_level():
    D = np.stack([np.full(20, 0.0), np.random.default_rng(1).normal(0.1, 0.05, 20), np.full(20, 0.02)], axis=1)
    from replication.claims.claim import at_levels

    gain = at_levels(Curve([1, 2, 3], D, st.pairwise(D)))["gain"]
    assert (gain.d == D[:, 1]).all() and gain.raw()[0] == pytest.approx(3 * st.p_above(D[:, 1]))


def test_effects_with_a_number_missing_show_nothing():
    assert Effect(np.array([0.5, np.nan])).raw() == (1.0, 1.0, 1.0)


# --- Errors of each word under its null -------------------------------------------------------------

REPEATS = 300
LIMIT = 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / REPEATS)


def decided(claim, measures):
    return CLAIMS[claim].decide({name: with_adjusted(m) for name, m in measures.items()}).word


def with_adjusted(measure):
    return dataclasses.replace(measure, adjusted=measure.raw()) if isinstance(measure, Effect) else measure


def noise(rng, n=20):
    """Bounded noise of mean 0; what skewed and bimodal gains do to the tests stands in `test_statistics`."""
    return 0.08 * (rng.beta(2, 2, n) - 0.5)


@pytest.mark.parametrize(
    "claim, means, word",
    [
        ("base", {"gain": 0.05}, REP),
        ("base", {"gain": 0.05}, CON),
        ("removal", {"gain": 0.5, "removed_minus_plain": 0.3, "more_than_half_kept": 0.0}, REP),
        ("removal", {"gain": 0.06, "removed_minus_plain": 0.05, "more_than_half_kept": 0.02}, REP),
        ("removal", {"gain": 0.5, "removed_minus_plain": 0.3, "more_than_half_kept": 0.0}, CON),
        ("majorities", {"gain": 0.5, "gain_two_majorities": 0.05, "one_minus_two": 0.45}, REP),
        ("majorities", {"gain": 0.08, "gain_two_majorities": 0.03, "one_minus_two": 0.05}, REP),
        ("majorities", {"gain": 0.5, "gain_two_majorities": 0.05, "one_minus_two": 0.45}, CON),
        ("sigmoid", {"gain_sigmoid": 0.05, "softmax_minus_sigmoid": 0.4}, REP),
        ("sigmoid", {"gain_sigmoid": -0.05, "softmax_minus_sigmoid": 0.4}, REP),
        ("sigmoid", {"gain_sigmoid": 0.0, "softmax_minus_sigmoid": 0.05}, REP),
        ("sigmoid", {"gain_sigmoid": 0.05, "softmax_minus_sigmoid": 0.4}, CON),
        ("confidence", {"gain": 0.5, "confidence_train": 0.0, "nll_train": 0.2}, REP),
        ("confidence", {"gain": 0.5, "confidence_train": -0.2, "nll_train": 0.0}, REP),
        ("confidence", {"gain": 0.5, "confidence_train": 0.0, "nll_train": 0.0}, CON),
        ("loss_choice", {"f1_at_least_loss_minus_last": -0.05}, REP),
        ("loss_choice", {"f1_at_least_loss_minus_last": -0.05}, CON),
        ("training_time", {"epochs_saved": 1.0, "censored": 0.0}, REP),
        ("training_time", {"epochs_saved": 1.0, "censored": 0.0}, CON),
    ],
)
def test_a_word_errs_at_most_as_often_as_its_level(claim, means, word):
    """At the edge of the null, where it errs most."""
    margins = {
        "more_than_half_kept": 0.0,
        "confidence_train": 0.0,
        "nll_train": 0.0,
        "f1_at_least_loss_minus_last": -0.05,
        "epochs_saved": 1.0,
        "censored": 0.5,
    }
    rng = np.random.default_rng(len(claim) + len(word))
    n = 60 if claim == "sigmoid" else 20
    wrong = 0
    for _ in range(REPEATS):
        drawn = {name: mean + noise(rng, n) * (name != "censored") for name, mean in means.items()}
        wrong += decided(claim, {name: Effect(d, margins.get(name, 0.05)) for name, d in drawn.items()}) == word
    assert wrong / REPEATS <= LIMIT


@pytest.mark.parametrize(
    "claim, means, word",
    [
        ("ratio", (0.3, 0.35, 0.3, 0.3, 0.3), REP),
        ("ratio", (0.3, 0.9, 0.85, 0.3, 0.85), REP),
        ("ratio", (0.3, 0.35, 0.3, 0.3, 0.0), CON),
        ("batch_size", (0.3, 0.35, 0.3, 0.3, 0.3), REP),
        ("batch_size", (0.3, 0.35, 0.3, 0.3, 0.3), CON),
    ],
)
def test_a_word_of_curves_errs_at_most_as_often_as_its_level(claim, means, word):
    rng, wrong, name = np.random.default_rng(5), 0, {"ratio": "curve", "batch_size": "epochs"}[claim]
    for _ in range(150):
        D = np.array(means) + noise(rng, 20)[:, None] + np.stack([noise(rng, 20) for _ in means], axis=1)
        found = Curve([*range(5)], D, st.pairwise(D, resamples=499))
        wrong += CLAIMS[claim].decide({name: found}).word == word
    assert wrong / 150 <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 150)


def test_names_used_here_are_those_of_the_results():
    from replication.analysis.metrics import METRICS
    from replication.results.frame import HISTORIES

    assert (
        set(PROBABILITIES) <= set(METRICS)
        and set(CURVES) <= set(HISTORIES)
        and CNN in {c.network for c in CLAIMS["base"].cells}
    )
