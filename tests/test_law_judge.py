"""The rules of the law's predictions on constructed tables: passed, failed, not run, and what is not judged."""

import functools

import numpy as np
import pandas as pd
import pytest
from constructed import chosen

from replication.analysis import law
from replication.analysis.thresholds import order_of
from replication.claims.law import judge as law_judge
from replication.claims.law import rules as law_rules
from replication.claims.law import runs as law_runs
from replication.claims.law.predictions import PREDICTIONS
from replication.run import CONFIRMATORY, FACTORS, Run
from replication.study.design import Cell

IDS = [p.id for p in PREDICTIONS]
N = 300
MINORITY = np.arange(N) >= N // 2
GOOD = np.linspace(0, 1, N)  # a perfect ranking, so that a cut says it all


@functools.cache
def runs(id):
    """(run, arm, cell) of every entry of a prediction's plan."""
    plan, found = law_runs.PLANS[f"law_{id}"], {}
    with chosen():
        for cell in plan.cells:
            for entry in plan.entries(cell):
                found[entry.run] = (entry.arm, cell)
    return found


def noise(run):
    """The same small number for one seed in every arm: it cancels in pairs."""
    return 0.02 * np.sin(run.seed)


def perfect(id, run, arm, cell):
    """What a run gives if every prediction holds."""
    row = {
        "f1_minority": 0.8 + noise(run),
        "f1_macro": 0.8 + noise(run),
        "f1_macro_tuned": 0.8 + noise(run),
        "n_test": N,
        "cut": 120,
        "order": order_of(GOOD, MINORITY),
        "learned_shift": np.nan,
    }
    if arm == "plain":
        row |= {"cut": 3}
    if arm in ("final_bn", "plain"):  # what plain cut so that it says minority 120 times has: 2 * 120 / (150 + 120)
        row |= {"f1_minority": 240 / 270}
    if run.final_norm == "bn" and run.sampling == "shuffle" and run.loss == "cross_entropy":
        shift = law.predicted(run).shift
        row |= {
            "learned_shift": shift + noise(run),
            "mean_log_odds_majority": shift + noise(run) - 0.01,
            "mean_log_odds_minority": shift + noise(run) + 0.01 * run.n_majority / run.n_minority,
            "confidence_train": law.confidence(shift) + noise(run) / 10,
        }
    if run.final_norm == "bn" and id == "removed_zero":
        row |= {"predicted_zero": 0.4, "mean_log_odds_majority": -1.6, "mean_log_odds_minority": 2.4}
    if arm == "centred":
        row |= {"f1_minority": 240 / 270 - (0.2 if cell.setting == "digits" else 0)}
    if arm in ("bn_shift_0", "final_bn_sigmoid"):
        row |= {"f1_minority": 240 / 270}
    return row


@functools.cache
def base(id):
    """The table in which every prediction holds, with the (run, arm, cell) of each row."""
    rows = [
        {"key": i, **vars(run), **perfect(id, run, arm, cell)} for i, (run, (arm, cell)) in enumerate(runs(id).items())
    ]
    return pd.DataFrame(rows), [(run, *about) for run, about in runs(id).items()]


def results(id, change=lambda run, arm, cell: {}, drop=lambda run, arm, cell: False):
    """A results table in which every prediction holds, changed."""
    table, of = base(id)
    table = table.copy()
    for i, entry in enumerate(of):
        for name, value in change(*entry).items():
            table.at[i, name] = value
    table = table[[not drop(*entry) for entry in of]]
    readouts = (
        ("as_trained", "bn_removed", "logit_adjusted")
        if id in ("fixed_shift", "matched_positives", "removed_zero")
        else ("as_trained",)
    )
    return pd.concat([table.assign(readout=name) for name in readouts], ignore_index=True)


def judged(id, **kwargs):
    with chosen():
        return law_judge.judge(id, results(id, **kwargs))


@pytest.mark.parametrize("id", [id for id in IDS if id != "ratio_peak"])
def test_a_prediction_that_holds_everywhere_passes(id):
    found = judged(id)
    assert (found.word, found.done) == (law_judge.PASSED, found.wanted), found.checks
    assert found.status == "passed" and all(c.holds for c in found.judged)


@pytest.mark.parametrize("id", IDS)
def test_without_results_nothing_is_run(id):
    with chosen():
        found = law_judge.judge(id, pd.DataFrame())
    assert found.word == law_judge.NOT_RUN and found.done == 0 and found.wanted > 0 and not found.checks
    assert found.status == f"not run (0 of {found.wanted:,} runs)"


@pytest.mark.parametrize("id", [id for id in IDS if id != "ratio_peak"])
def test_one_missing_run_is_not_passed(id):
    first = next(iter(runs(id)))
    found = judged(id, drop=lambda run, arm, cell: run == first)
    assert found.word == law_judge.NOT_RUN and 0 < found.done < found.wanted


FIRST = ("plantvillage/tomato@160", "efficientnet_lite0:imagenet:head")


def here(cell):
    return (cell.setting, cell.network) == FIRST


WRONG = {
    "shift": lambda run, arm, cell: (
        {"learned_shift": -0.36}
        if here(cell)
        and run == Run(**vars(run) | {"learning_rate": 3e-3, "n_minority": 10, "batch_size": 64, "epochs": 10})
        else {}
    ),
    "optimizer": lambda run, arm, cell: (
        {"learned_shift": -1.28} if run.optimizer == "adamw" and run.learning_rate == 1e-2 else {}
    ),
    "log_odds": lambda run, arm, cell: (
        {"mean_log_odds_majority": -9.0} if here(cell) and run.learning_rate == 1e-3 else {}
    ),
    "mean_confidence": lambda run, arm, cell: (
        {"confidence_train": 0.575} if here(cell) and run.learning_rate == 1e-3 else {}
    ),
    "rate_acts_through_shift": lambda run, arm, cell: (
        {"f1_minority": 0.8} if run.shift and run.learning_rate == 3e-2 else {}
    ),
    "shift_rate": lambda run, arm, cell: (
        {"learned_shift": -0.2} if run.shift_rate == 10 and run.learning_rate == 1e-3 else {}
    ),
    "batch_size": lambda run, arm, cell: {"f1_minority": 0.8} if run.batch_size == 256 else {},
    "sigmoid": lambda run, arm, cell: {"f1_minority": 0.8} if run.output == "sigmoid" else {},
    "centred_features": lambda run, arm, cell: {"f1_minority": 240 / 270} if cell.setting == "digits" else {},
    "fixed_shift": lambda run, arm, cell: (
        {"f1_macro": 0.7} if here(cell) and run.shift == -0.4 and run.learning_rate == 1e-3 else {}
    ),
    "removed_zero": lambda run, arm, cell: (
        {"mean_log_odds_majority": -2.4, "mean_log_odds_minority": 1.6}
        if here(cell) and run.learning_rate == 2e-3
        else {}
    ),
    "two_majorities": lambda run, arm, cell: (
        {"learned_shift": -0.2} if cell.setting.startswith("digits") and run.learning_rate == 1e-3 else {}
    ),
    "matched_positives": lambda run, arm, cell: {"cut": 90} if here(cell) and arm == "final_bn" else {},
}


@pytest.mark.parametrize("id", WRONG)
def test_a_prediction_that_does_not_hold_once_fails(id):
    found = judged(id, change=WRONG[id])
    assert found.word == law_judge.FAILED and sum(c.holds is False for c in found.checks) in (
        1,
        2,
        3,
        4,
    )  # one run may be the base of several factors
    assert found.largest.holds is False


def test_a_failure_stands_whatever_else_is_missing():
    found = judged(
        "optimizer", change=WRONG["optimizer"], drop=lambda run, arm, cell: run.optimizer == "sgd" and run.seed == 119
    )
    assert found.word == law_judge.FAILED and found.done == found.wanted - 4


def test_margins_follow_the_sum_of_rates():
    assert [law_rules.margin_of(S) for S in (0.2, 0.999, 1.0, 2.5)] == [0.05, 0.05, 0.15, 0.15]
    assert np.isnan(law_rules.margin_of(2.51))


def test_the_rule_says_nothing_beyond_a_sum_of_two_and_a_half():
    found = judged("shift_rate")
    beyond = [c for c in found.checks if c.S > 2.5]
    assert beyond and all(c.holds is None for c in beyond) and len(found.judged) < len(found.checks)


def test_shifts_at_the_margin():
    def off(by):
        return lambda run, arm, cell: {"learned_shift": law.predicted(run).shift + by}

    assert judged("optimizer", change=off(0.049)).word == law_judge.PASSED
    assert judged("optimizer", change=off(0.051)).word == law_judge.FAILED
    S = {c.what: c.S for c in judged("optimizer").checks}
    assert S["adamw 0.03"] == pytest.approx(2.258, abs=0.01) and S["sgd 0.01"] == pytest.approx(0.753, abs=0.01)


def test_one_run_whose_classes_lie_alike_moves_no_median():
    def alike(run, arm, cell):
        return {"mean_log_odds_majority": -1.6, "mean_log_odds_minority": -1.6001} if run.seed == 107 else {}

    found = judged("removed_zero", change=alike)
    assert found.word == law_judge.PASSED and all(c.low == c.observed == c.high == 0.4 for c in found.checks)


def test_interval_of_a_median_is_of_the_values_that_the_binomial_gives():
    rng, inside = np.random.default_rng(3), 0
    for _ in range(2000):
        found, low, high = law_rules._median(rng.exponential(size=20))
        assert low < found < high
        inside += low < np.log(2) < high
    assert 0.95 < inside / 2000 < 0.97  # 0.9586 for the 6th and 15th of 20
    x = np.arange(20.0)
    assert law_rules._median(x) == (9.5, 5.0, 14.0)


def test_the_best_remedy_is_the_one_compared_with():
    def strong(run, arm, cell):
        return {"f1_macro": 0.9 + noise(run)} if arm == "plain_focal" else {}

    found = judged("fixed_shift", change=strong)
    assert found.word == law_judge.FAILED and all("plain_focal" in c.what for c in found.checks)
    assert all(c.deviation == pytest.approx(-0.1) for c in found.checks)


def test_a_failure_to_show_equivalence_is_a_failure():
    def spread(run, arm, cell):
        return {"f1_minority": 240 / 270 + (-1) ** run.seed * 0.4} if run.output == "sigmoid" else {}

    found = judged("sigmoid", change=spread)
    assert found.word == law_judge.FAILED and abs(found.largest.deviation) < 0.01 and found.largest.low < -0.05
    assert found.largest_deviation == max(abs(c.deviation) for c in found.judged)


@pytest.mark.parametrize("id", law_rules.NEEDED)
def test_runs_that_did_not_record_what_the_rule_needs_do_not_count(id):
    def older(run, arm, cell):
        return {law_rules.NEEDED[id]: np.nan} if run.seed < CONFIRMATORY + 10 else {}

    found = judged(id, change=older)
    assert found.word == law_judge.NOT_RUN and 0 < found.done < found.wanted
    assert {c.seeds for c in found.checks} <= {10}


def test_no_gain_can_be_derived_for_the_ratio():
    found = judged("ratio_peak")
    assert found.word == law_judge.UNDECIDABLE and found.done == found.wanted and not found.checks


def test_designs_keep_to_what_is_registered():
    for p in PREDICTIONS:
        plan = law_runs.PLANS[f"law_{p.id}"]
        assert [(c.setting, c.network, c.seeds) for c in plan.cells] == [(*place, p.seeds) for place in p.cells]
        for name, levels in p.factors:
            seen = {getattr(run, name) for run in runs(p.id)} if name != "r" else {0.003, 0.01, 0.03}
            assert set(levels) <= seen, (p.id, name)


def test_equal_S_over_batch_sizes():
    S = [
        law.predicted(Run(final_norm="bn", batch_size=n, learning_rate=law_runs.scaled_rate(n))).S
        for n in (32, 64, 128, 256)
    ]
    np.testing.assert_allclose(S, S[0], rtol=1e-3)


def test_unknown_predictions_are_named():
    with pytest.raises(ValueError, match="allowed are shift, optimizer"):
        law_judge.judge("gravity", pd.DataFrame())


def test_cells_are_planned_as_cells():
    assert all(isinstance(c, Cell) for plan in law_runs.PLANS.values() for c in plan.cells)


def test_runs_and_levels_that_serve_several_factors_count_once():
    found, rows = judged("shift"), law_judge.law_frame("shift", results("shift"))
    runs = rows[["cell_setting", "cell_network", *FACTORS]].drop_duplicates()
    entries = rows.drop_duplicates(["cell_setting", "cell_network", "variant", "level", "arm", "seed"])
    assert found.done == found.wanted == len(runs) < len(entries)
    decided = [c for c in found.checks if c.holds is not None]
    assert len(found.judged) < len(decided) and {c.observed for c in found.judged} == {c.observed for c in decided}
