"""Constructed tables against every criterion: each verdict, ties, missing and diverged runs, combinations."""

import dataclasses
import functools
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from scipy import stats

from replication.study import arms
from replication.study import designs
from replication.study import rates as rates_module
from replication.claims.claims import CLAIMS
from replication.claims.criteria import VERDICTS, reading
from replication.analysis import statistics as st
from replication.analysis.effects import Curve
from replication.results.frame import frame, values
from replication.run import FACTORS
from replication.claims.verdicts import effects, judge, judge_cells

REP, PART, INC, CON, NA, NOT = VERDICTS
WIDE = np.array([0.0, 0.12] * 30)  # mean 0.06, but not shown to lie on either side of 0.05
PROBABILITIES = ("nll", "nll_train", "brier", "brier_train", "confidence_train", "roc_auc")
CURVES = ("validation_nll", "test_f1_minority", "validation_f1_minority")


def with_p(p):
    """Gains (20,) that a paired t test puts above 0.05 with exactly this p."""
    return 0.05 + stats.zscore(np.arange(20.0), ddof=1) + stats.t.isf(p, 19) / np.sqrt(20)


@functools.cache
def planned(claim, seeds, same=False):
    """A design on digits with the simple CNN, and a result with F1 0 everywhere of each of its runs."""
    rates = {arm: 1e-2 if same or arm.startswith("plain") else 3e-3 for arm in arms.ARMS}
    with mock.patch.object(rates_module, "chosen_rates", return_value={"digits/simple_cnn": rates}):
        entries = designs.entries(claim, ("digits",), ("simple_cnn",), seeds)
    scores = dict.fromkeys(PROBABILITIES, 0.5) | {name: [0.0] * 3 for name in CURVES} | {"f1_minority": 0.0}
    rows = [
        {"key": i, **dataclasses.asdict(run), "readout": readout, **scores}
        for i, run in enumerate(dict.fromkeys(e.run for _, e in entries))
        for readout in ("as_trained", "bn_removed", "logit_adjusted")
    ]
    return entries, pd.DataFrame(rows)


@functools.cache
def blank(claim, seeds, same):
    return frame(*planned(claim, seeds, same)).drop(columns={*FACTORS} - {"init", "seed", "stop_f1"})


def arm(score, name="final_bn", column="f1_minority", **where):
    """What to put where: one value for all seeds, one a seed (n,), or one list for all seeds."""
    return score, column, {"arm": name, **where}


def filled(claim, *puts, seeds=20, same=False, setting="digits", network="simple_cnn", init="random"):
    """A design's frame with `puts` in it, as the cell of another setting, network and initialisation."""
    table = blank(claim, seeds, same).copy()
    for score, column, where in puts:
        rows = np.logical_and.reduce([table[k] == v for k, v in where.items()])
        score = score if isinstance(score, np.ndarray) else [score] * seeds
        table.loc[rows, column] = table.loc[rows, "seed"].map(lambda s: score[s - 100])
    return table.assign(cell_setting=setting, cell_network=network, init=init)


def one(claim, table):
    """The verdict of a table with one cell; where there are several (`majorities`) they must agree."""
    first, *others = judge_cells(CLAIMS[claim], table)
    assert {c.verdict for c in others} <= {first.verdict}
    return first


def curve(variant, levels, gains):
    return [arm(score, variant=variant, level=n) for n, score in zip(levels, gains)]


def uncertainty(confidence, nll, brier, f1, gained=0.5, nll_test=None, losses=(3.0, 1.0, 2.0)):
    scores = (nll if nll_test is None else nll_test, nll, brier, brier, confidence, [*losses], f1)
    return [arm(gained), *map(arm, scores, ["final_bn"] * 7, PROBABILITIES[:5] + CURVES[:2])]


def training_time(plain, final_bn, gained=0.5, censored=0):
    """Epochs of the second 0.8 in a row, after a single one in epoch 1; None: never."""
    timed = {"column": "validation_f1_minority", "level": 100}
    never = [0.8] + [0.0] * 99
    at = {e: never if e is None else [0.8] + [0.0] * (e - 3) + [0.8, 0.8] for e in (plain, final_bn)}
    by_seed = np.empty(20, dtype=object)
    by_seed[:] = [never if i < censored else at[final_bn] for i in range(20)]
    return [arm(gained, level=10), arm(at[plain], "plain", **timed), arm(by_seed, **timed)]


PUTS = {
    "base": lambda e10, e30=0.5, e100=0.5: [arm(e10, level=10), arm(e30, level=30), arm(e100, level=100)],
    "removal": lambda trained, removed: [arm(trained), arm(removed, readout="bn_removed")],
    "ratio": lambda *gains: curve("minority varied", designs.RATIO_LEVELS, gains),
    "batch_size": lambda epochs, updates, rest=0.5: [
        put for variant, last in (("equal epochs", epochs), ("equal updates", updates))
        for put in curve(variant, designs.BATCH_LEVELS, (rest,) * 6 + (last,))],
    "generality": lambda gained: [arm(gained)],
    "majorities": lambda single, double: [arm(single, level=1), arm(double, level=2)],
    "sigmoid": lambda soft, one, each: [arm(soft), arm(one, "final_bn_sigmoid"), arm(each, "final_bn_sigmoids")],
    "uncertainty": uncertainty,
    "training_time": training_time,
}  # fmt: skip
COSTS, FREE, TIE, HELPS = [0.9, 0.2, 0.9], [0.1, 0.9, 0.9], [0.0, 0.0, 0.05], [0.0, 1.0, 0.9]
ONE_DIVERGED = np.array([np.nan] + [0.9] * 19)
ROWS = {
    "base": {
        REP: [(0.5,)], PART: [(0.5, 0.0), (0.5, 0.5, 0.05), (0.5, WIDE)], INC: [(0.05,), (WIDE,)],
        CON: [(0.0,), (-0.5,), (0.0, 0.0, 0.0)]},
    "removal": {
        REP: [(0.9, 0.9), (0.9, 0.46)], CON: [(0.9, 0.44), (0.9, 0.0), (0.9, -0.1), (0.08, 0.045)],
        INC: [(0.9, 0.45), (0.08, 0.05), (0.08, WIDE)], NA: [(0.0, 0.0), (0.05, 0.9), (WIDE, 0.9)]},
    "ratio": {
        REP: [(0.1, 0.2, 0.5, 0.2, 0.1, 0.1), (0.5, 0.5, 0.5, 0.56, 0.5, 0.5)],
        CON: [(0.5,) * 6, (0.5, 0.52) * 3], NA: [(0.0,) * 6, (0.05,) * 6, (0.0, 0.0, 0.0, with_p(0.03), 0.0, 0.0)],
        INC: [(0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (0.0, *(0.5,) * 5), (0.5, *(0.1,) * 4, 0.5),
              (0.5, 0.5, 0.55, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5 + WIDE, 0.5, 0.5, 0.5)]},
    "batch_size": {
        REP: [(0.8, 0.8)], PART: [(0.8, 0.5), (0.8, 0.5 + WIDE)], CON: [(0.5, 0.5)],
        INC: [(0.5, 0.8), (0.5 + WIDE, 0.8), (0.5, 0.5 + WIDE), (0.55, 0.5), (0.5, 0.55), (0.45, 0.45)],
        NA: [(0.0, 0.8, 0.0), (0.05, 0.8, 0.05)]},
    "generality": {REP: [(0.5,)], CON: [(0.0,), (-0.5,)], INC: [(0.05,), (WIDE,)]},
    "majorities": {
        REP: [(0.5, 0.0), (0.5, -0.5)], CON: [(0.5, 0.5), (0.5, 0.06)],
        INC: [(0.5, 0.05), (0.5, WIDE), (0.09, 0.04), (0.09, 0.045)], NA: [(0.05, 0.5), (0.0, 0.0)]},
    "sigmoid": {
        REP: [(0.5, 0.0, 0.0), (0.5, 0.0, WIDE)], CON: [(0.5, 0.5, 0.5)], PART: [(0.5, 0.5, 0.0), (0.5, 0.0, 0.5)],
        INC: [(0.5, 0.05, 0.0), (0.5, -0.05, 0.0), (0.5, -0.2, 0.0), (0.5, WIDE, 0.0), (0.06, 0.01, 0.0),
              (0.06, 0.02, 0.0), (0.5, np.array([0.3] + [0.0] * 59), 0.0)],
        NA: [(0.0, 0.0, 0.0), (0.05, 0.5, 0.5)]},
    "uncertainty": {
        REP: [(0.4, 0.9, 0.9, COSTS), (0.4, 0.9, 0.1, COSTS)], CON: [(0.4, 0.1, 0.1, FREE)],
        INC: [(0.4, 0.9, 0.9, FREE), (0.4, 0.9, 0.9, TIE), (0.5, 0.9, 0.9, COSTS), (0.4, 0.5, 0.9, COSTS),
              (0.4, 0.1, 0.1, TIE), (0.4, 0.1, 0.1, COSTS), (0.9, 0.1, 0.5, FREE), (0.9, 0.1, 0.1, FREE, 0.5, 0.5),
              (0.4, ONE_DIVERGED, 0.9, COSTS), (0.4, 1 - ONE_DIVERGED, 0.1, FREE), (0.4, 0.1, 0.1, HELPS)],
        NA: [(0.4, 0.9, 0.9, COSTS, 0.05)]},
    "training_time": {
        REP: [(20, 10), (None, 10), (None, 5, 0.5, 10)], CON: [(20, 20), (10, 20)], NA: [(20, 10, 0.05)],
        INC: [(20, 19), (5, None), (None, None), (None, 5, 0.5, 11)]},
}  # fmt: skip
CASES = [(claim, scores, v) for claim, row in ROWS.items() for v, cases in row.items() for scores in cases]


@pytest.mark.parametrize("claim, scores, verdict", CASES)
def test_row(claim, scores, verdict):
    table = filled(claim, *PUTS[claim](*scores), seeds=60 if claim == "sigmoid" else 20)
    assert one(claim, table).verdict == verdict


def test_absence_takes_49_seeds_and_an_edge_is_described():
    assert [one("sigmoid", filled("sigmoid", arm(0.5), seeds=n)).verdict for n in (48, 49)] == [INC, REP]
    for gains, words in (((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), "edge"), ((0.1, 0.1, 0.1, 0.5, 0.1, 0.1), "at 20 of")):
        assert words in one("ratio", filled("ratio", *PUTS["ratio"](*gains))).reason


def test_least_loss_of_diverged_epochs():
    for losses, cost in (((np.nan, 2, 1), 0), ((1, np.inf, np.nan), -0.8), ((np.nan,) * 3, -0.9)):
        table = filled("uncertainty", *uncertainty(0.5, 0.5, 0.5, [0.1, 0.5, 0.9], losses=losses))
        assert one("uncertainty", table).measures["own"]["f1_at_least_loss_minus_last"].d == pytest.approx(cost)


@pytest.mark.parametrize("gained, auc, adjusted, kind", [
    (0.5, 0.6, 0.0, "representation"), (0.5, 0.5, 0.5, "threshold"), (0.5, 0.52, 0.5, "undecided"),
    (0.5, 0.5, 0.0, "undecided"), (0.0, 0.5, 0.5, "undecided"), (0.5, ONE_DIVERGED - 0.4, 0.5, "threshold"),
])  # fmt: skip
def test_reading_of_a_gain(gained, auc, adjusted, kind):
    puts = [arm(auc, column="roc_auc", level=10), arm(adjusted, "plain", readout="logit_adjusted")]
    assert reading(one("base", filled("base", *PUTS["base"](gained), *puts)).measures["own"]) == kind


@pytest.mark.parametrize("claim", CLAIMS)
def test_one_missing_run_leaves_its_cell_not_run(claim):
    entries, results = planned(claim, 20)
    cells = judge_cells(CLAIMS[claim], frame(entries, results[results["key"] != 3]))
    assert [c.verdict for c in cells].count(NOT) == 1 and cells[0].measures == {}
    assert judge(claim, frame(entries, pd.DataFrame())).verdict == NOT


def test_a_diverged_run_counts_as_zero_and_nan_as_not_run():
    for score, verdict in ((0.055, REP), (0.0, INC), (np.nan, NOT)):
        assert one("generality", filled("generality", arm(np.array([score] + [0.055] * 19)))).verdict == verdict


def test_a_verdict_takes_20_seeds_on_digits_and_10_elsewhere():
    for setting, enough in (("digits", 20), ("cracks", 10)):
        for seeds, verdict in ((enough, REP), (enough - 1, INC), (1, INC)):
            table = filled("generality", arm(0.5), seeds=seeds, setting=setting)
            assert one("generality", table).verdict == verdict


def test_results_that_cannot_be_paired_are_refused():
    entries, results = planned("removal", 20)
    with pytest.raises(ValueError, match="one result"):
        frame(entries, pd.concat([results, results[results["key"] == 0].assign(key="other data")]))
    table = blank("removal", 20, False)
    with pytest.raises(ValueError, match="20 seeds, found 19"):
        judge("removal", table[(table["readout"] != "bn_removed") | (table["seed"] != 103)])
    with pytest.raises(ValueError, match="20 seeds, found 60"):
        values(table, "plain")
    with pytest.raises(KeyError, match="nobody"):
        values(table, "nobody")
    lonely = Curve([10], np.full((20, 1), 0.5), st.pairwise(np.full((20, 1), 0.5)))
    assert not lonely.all_within()


# cells of `removal` by their verdict (a: not assessable, n: not run): F1 as trained, and removed
KINDS = {"r": (0.9, 0.9), "c": (0.9, 0.0), "i": (0.9, 0.45), "a": (0.0, 0.0), "n": (np.nan, np.nan)}


@pytest.mark.parametrize("own, shared, verdict", [
    ("r", "r", REP), ("r", "c", PART), ("i", "r", PART), ("c", "a", PART), ("i", "a", INC), ("a", "a", NA),
])  # fmt: skip
def test_both_learning_rates_must_agree(own, shared, verdict):
    puts = [arm(f1, rate=rate, readout=readout) for rate, kind in (("own", own), ("shared", shared), ("wide", own))
            for readout, f1 in zip(("as_trained", "bn_removed"), KINDS[kind])]  # fmt: skip
    assert one("removal", filled("removal", *puts)).verdict == verdict


@pytest.mark.parametrize("claim", CLAIMS)
def test_equal_learning_rates_share_their_runs_and_verdict(claim):
    table = filled(claim, same=True)
    assert table["key"].nunique() < filled(claim)["key"].nunique()
    for c in judge_cells(CLAIMS[claim], table):
        assert c.by_rate["own"] == c.by_rate["shared"] == (c.verdict, c.reason)


@pytest.mark.parametrize("kinds, verdict", [
    ("rr", REP), ("cc", CON), ("rc", PART), ("ra", REP), ("ri", REP), ("rn", REP), ("ii", INC), ("ia", INC),
    ("in", INC), ("an", NA), ("aa", NA), ("nn", NOT),
])  # fmt: skip
def test_decided_cells_decide(kinds, verdict):
    parts = [filled("removal", *PUTS["removal"](*KINDS[k]), setting=f"s{i}") for i, k in enumerate(kinds)]
    assert judge("removal", pd.concat(parts)).verdict == verdict


NO_K20 = "no VGG19 or ResNet34 fine-tuned on PlantVillage from ImageNet's weights has all its runs"
PV, K20, MLP = {"setting": "plantvillage/apple"}, {"network": "vgg19", "init": "imagenet"}, {"network": "mlp"}
PEPPER = {"setting": "plantvillage/pepper"} | K20


def cells(claim, kinds):
    """Cells by the initial of their verdict, with or without where they are; else of ever new data sets."""
    gains = {"r": 0.5, "c": 0.0, "i": 0.05, "n": np.nan}
    places = [{"setting": f"s{i}"} | (k[1] if len(k) > 1 else {}) for i, k in enumerate(kinds)]
    return pd.concat([filled(claim, arm(gains[k[0]]), **place) for k, place in zip(kinds, places)])


@pytest.mark.parametrize("kinds, verdict", [
    ("rrc", REP), ("rc", PART), ("ri", INC), ("ci", INC), ("cri", PART), ("ccr", CON), ("rn", REP),
    (["c", ("r", MLP), ("r", MLP)], PART), (["n", ("r", MLP)], NOT), (["i", ("r", MLP), ("r", MLP)], INC),
    (["r", ("c", PV | K20), ("c", PEPPER)], REP), (["r", ("c", PV)], PART), ([("r", PV)], NOT), ("nn", NOT),
])  # fmt: skip
def test_generality_takes_more_than_half_of_the_cells(kinds, verdict):
    assert judge("generality", cells("generality", kinds)).verdict == verdict


@pytest.mark.parametrize("kinds, verdict, reason", [
    ([("r", PV | K20), "c"], REP, "contradicted in 1 of 1 analogue"), (["n"], NOT, NO_K20),
    ([("c", PV | K20), "r"], CON, "below"), ([("n", PV | K20)], NOT, NO_K20), (["r"], INC, NO_K20),
    ([("i", PV | K20), "r"], INC, "no number"), ([("r", PV | K20), ("c", PEPPER)], PART, "replicated in 1"),
    ([("r", PV | K20), ("n", PEPPER)], REP, "1 of 2"), ([("r", PV | {"init": "imagenet"})], INC, NO_K20),
    ([("r", PV | {"network": "vgg19"})], INC, NO_K20), ([("n", PV | K20), "r"], INC, NO_K20),
    ([("r", PV | {"network": "vgg19", "init": "other_crops"})], INC, "replicated in 1 of 1 analogue"),
])  # fmt: skip
def test_base_is_judged_on_cells_with_the_identity_of_k20(kinds, verdict, reason):
    judged = judge("base", cells("base", kinds))
    assert judged.verdict == verdict and reason in judged.reason


@pytest.mark.parametrize("others, verdict", [((), REP), ((0.001,), REP), ((0.04,), INC), ((np.nan,), INC)])
def test_holm_adjusts_once_over_all_planned_cells(others, verdict):
    gains = [with_p(p) for p in (0.03, *others)]
    judged = judge("generality", pd.concat(filled("generality", arm(g), setting=f"s{g[0]}") for g in gains))
    assert judged.cells[0].verdict == verdict
    tosts = [1.0 if np.isnan(g).any() else st.tost(g) for g in gains]
    p = [st.holm(np.nan_to_num([0.03, *others], nan=1))[0], st.holm(tosts)[0]]
    assert [next(effects(judged))[name] for name in ("p above", "p within")] == pytest.approx(p)


@settings(max_examples=20, deadline=None)
@given(claim=hs.sampled_from([*CLAIMS]), seed=hs.integers(0, 2**32 - 1), seeds=hs.sampled_from([1, 2, 9, 20]),
       same=hs.booleans(), hole=hs.booleans())  # fmt: skip
def test_any_table_gets_one_verdict_whatever_its_order(claim, seed, seeds, same, hole):
    rng, parts = np.random.default_rng(seed), []
    for setting, init in (("digits", "random"), ("plantvillage/apple", "imagenet")):
        table = filled(claim, seeds=seeds, same=same, setting=setting, network="vgg19", init=init)
        for name in ("f1_minority", *PROBABILITIES):
            table[name] = rng.choice([0.0, 0.05, 0.1, 0.9, 1.0, rng.random()], len(table))
            table.loc[rng.random(len(table)) < (name != "f1_minority") * 0.02, name] = np.nan
        for name in CURVES:
            table[name] = list(rng.choice([0.0, 0.8, 0.9, np.nan], (len(table), 3)))
        table.loc[table.index[:1], "f1_minority"] = np.nan if hole else 0.0
        parts.append(table)
    table = pd.concat(parts)
    judged, again = judge(claim, table), judge(claim, table.sample(frac=1, random_state=seed))
    found = {judged.verdict, *(v for c in judged.cells for v in (c.verdict, *dict(c.by_rate.values())))}
    assert found <= {*VERDICTS} and len(judged.cells) == table.groupby([*CLAIMS[claim].cell]).ngroups
    assert judged.verdict == again.verdict
