"""The page of tuning, and the paragraph of the whole, on constructed results: what is shown, not shown and missing."""

import functools
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from constructed import chosen

from replication.claims.beyond import budgets, ghost, search, untuned
from replication.claims.beyond import variance as crossed
from replication.claims.law.runs import FIXED
from replication.pages import spread, tuning
from replication.pages.parameters import Parameters
from replication.pages.tuning import TuningPage
from replication.pages.whole import statement
from replication.run import Run

TOMATO, SKIN = untuned.PLAN.cells[0], untuned.PLAN.cells[3]


def rows_of(run, score, **more):
    """The rows of a run that scores so much in every readout."""
    kinds = {"none": ("as_trained", "logit_adjusted"), "bn": ("as_trained", "bn_removed")}
    readouts = kinds.get(run.final_norm, ("as_trained", "shifted_by_images"))
    shared = {"f1_minority": score, "f1_macro": score, "f1_macro_tuned": score, "n_test": 300, "roc_auc": score}
    shared |= {"recall_minority": score, "balanced_accuracy": (score + 0.9) / 2, "ece_train": 0.1}
    return [{"key": str(hash(run)), **vars(run), "readout": r, **shared, **more} for r in readouts]


@functools.cache
def remedies(fixed=0.85):
    """Both cells whole: remedies have 0.8, the layer 0.88, the fixed shift so much on tomato and 0.6 on skin."""
    found = {}
    with chosen():
        for cell in (TOMATO, SKIN):
            for e in untuned.PLAN.entries(cell):
                score = (
                    (fixed if cell is TOMATO else 0.6) if e.arm == FIXED[-0.4] else 0.88 if e.arm == "final_bn" else 0.8
                )
                found[e.run] = rows_of(e.run, score + 0.01 * np.sin(e.run.seed))
    return pd.DataFrame([row for rows in found.values() for row in rows])


def others(plan, score):
    """All cells of another plan."""
    found = {}
    with chosen():
        for cell in plan.cells:
            for e in plan.entries(cell):
                found[e.run] = score(e)
    return pd.DataFrame([row for rows in found.values() for row in rows])


def page_on(table):
    return mock.patch.object(tuning, "published_rows", lambda settings=(): table), TuningPage(Parameters())


def opened(table):
    patch, page = page_on(table)
    with patch, chosen():
        assert page.results is not None and page.contests is not None
    return page


def test_a_cell_in_which_the_fixed_shift_loses_makes_the_answer_no():
    page = opened(remedies())
    assert [(c.setting, c.rate, c.noninferior) for c in page.contests] == [
        (cell.setting, rate, cell is TOMATO) for cell in (TOMATO, SKIN) for rate in untuned.RATES
    ]
    assert all(c.best[0] == "final_bn" for c in page.contests)
    text = page.answer().data
    assert (
        "No: shown in 2 of 4" in text
        and "skin lesions, 160 px · EfficientNet-Lite0, ImageNet, frozen at 0.001 (−0.28)" in text
    )
    assert "Not run in full: apple leaves" in text


def test_just_inside_is_shown_and_just_beyond_is_not():
    for fixed, shown in ((0.84, True), (0.82, False)):
        assert {c.noninferior for c in opened(remedies(fixed)).contests if c.setting == TOMATO.setting} == {shown}


def test_a_cell_that_lacks_a_run_is_not_judged():
    table = remedies()
    page = opened(table[table["key"] != table["key"].iloc[0]])
    assert {c.setting for c in page.contests} == {SKIN.setting}
    empty = opened(pd.DataFrame())
    assert "Not run yet" in empty.answer().data and "missing" in empty.improvement_table().data


def test_improvement_profiles_and_shifts():
    page = opened(remedies())
    text = page.improvement_table().data
    assert text.count("<tr>") == len(untuned.TUNED) and "0.50 (0.50 to 0.50)" in text  # wins on tomato, loses on skin
    assert tuning._exceeded(np.array([0.3, 0.4, 0.5]), np.array([1.0, 0.9, 0.89])) == "0.40"
    assert tuning._exceeded(np.array([0.3, 0.4]), np.array([0.8, 0.2])) == "less than 0.30"
    assert "shift fixed at −0.4 0.59" in page.profiles().alt or "shift fixed at −0.4 0.60" in page.profiles().alt
    assert page.shifts_table().data.count("<tr>") == 4


def test_precision_at_one_percent_by_hand():
    rows = pd.DataFrame({"n_test": [300, 300], "recall_minority": [0.8, 0.0], "balanced_accuracy": [0.85, 0.5]})
    assert [v.tolist() for v in spread.counted(rows)] == [[120, 0], [15, 0], [30, 150], [135, 150]]
    assert tuning.precision_at(rows) == pytest.approx([0.008 / (0.008 + 0.099), 0])


def test_the_configuration_is_chosen_on_validation_images():
    def score(e):
        sign = 1 if e.arm == "plain_class_weighted" else -1  # its best on validation is its worst on test
        of_validation = {
            "validation_f1_macro": sign * 0.01 * e.level,
            "validation_f1_macro_tuned": 0.5,
            "validation_f1_macro_adjusted": 0.5,
        }
        return rows_of(e.run, 0.9 - 0.01 * e.level, **of_validation)

    page = opened(pd.concat([others(search.PLAN, score), others(budgets.PLAN, score)]))
    with chosen():
        picture, told = page.searches.figure(), page.searches.sentence().data
    ends = picture.data[picture.data["k"] == 20].set_index("remedy")["macro F1"]
    assert len(picture.data) == 3 * 7 * 20 and (ends["class weights"] < 0.76).all() and (ends["plain"] > 0.85).all()
    threshold = picture.data[picture.data["remedy"] == "plain, threshold tuned"]["macro F1"]
    assert threshold.to_numpy() == pytest.approx(np.full(60, np.mean(0.9 - 0.01 * np.arange(20))))
    lines = [line for line in told.splitlines() if line.startswith("- ")]
    assert len(lines) == 6 and all(
        line.endswith("class weights 0.72.") for line in lines
    )  # the worst on test comes last
    assert sum("four: no label smoothing" in line for line in lines) == 3
    assert "12 of the 20 configurations smooth labels" in told and told.startswith(
        "Expected macro F1 with 20 configurations, 5"
    )


def test_shares_of_the_spread_add_up_and_find_the_split():
    def score(e):
        return rows_of(e.run, 0.5 + 0.04 * (e.level % 7) + 0.001 * (e.run.seed % 6))

    with chosen(), mock.patch.object(spread, "_pilot_scores", lambda cell, arm: None):
        found = spread.Spread(others(crossed.PLAN, score)).shares()
    assert found.iloc[:, 4:].sum(axis=1).to_numpy() == pytest.approx(np.ones(14))
    assert (found["which images train"] + found["test images"] > 0.99).all() and (
        found["choice of the rate"] == 0
    ).all()


def test_ghost_batches_are_compared_with_the_whole_batch():
    table = others(ghost.PLAN, lambda e: rows_of(e.run, 0.8 - (0.1 if e.level == 8 else 0) + 0.01 * np.sin(e.run.seed)))
    with chosen():
        text = spread.Spread(table).ghosts().data
    assert text.count("−0.100") == 2 and text.count("0.000") >= 4


def test_the_whole_says_no_more_than_what_passed():
    class Law:
        outcomes = []

        def outcome(self, id):
            return None

    page = opened(remedies())
    text = statement(Law(), page).data
    assert text.startswith("Why the layer acts as it does is not known yet")
    assert "in 2 of 4 comparisons (two rates a cell); in 1 of 2 cells not at both." in text


def test_the_wider_search_draws_every_value():
    found = search.configurations(200)
    assert found[:20] == search.configurations() and len({str(c) for c in found}) == 200
    for name, values in search.FURTHER.items():
        counts = [sum(c[name] == value for c in found) for value in values]
        assert min(counts) > 0.6 * 200 / len(values), (name, counts)


def test_every_configuration_differs_and_stays_in_its_range():
    found = budgets.configurations()
    assert len({str(c) for c in found}) == 20 and found == budgets.configurations()
    assert all(3e-4 <= c["learning_rate"] <= 0.3 and 1e-4 <= c["weight_decay"] <= 0.1 for c in found)
    assert {Run(**c).optimizer for c in found} == {"adamw"}
