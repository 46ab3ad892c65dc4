"""The page of the law and the advice page on constructed results: words, tables and figures."""

from unittest import mock

import numpy as np
import pandas as pd
import pytest
from constructed import chosen
from test_law_judge import WRONG, results

from replication.analysis import law
from replication.claims.beyond import first_updates as first_updates_plan
from replication.claims.law import rules as law_rules
from replication.claims.law.predictions import PREDICTIONS
from replication.pages import advice, everywhere, law_figures
from replication.pages import law as law_page
from replication.pages.parameters import Parameters
from replication.run import Run


def page_on(table):
    """The law's page on a table of results instead of the published ones."""
    with mock.patch.object(law_page, "published_rows", lambda settings=(): table), chosen():
        page = law_page.LawPage(Parameters())
        assert page.outcomes
    return page


@pytest.fixture(scope="module")
def optimizers():
    return page_on(results("optimizer"))


def test_every_prediction_has_a_name_for_readers():
    assert set(law_page.TITLES) == {p.id for p in PREDICTIONS} == set(law_rules.CHECKS)


def test_outcomes_are_told_in_words(optimizers):
    text = optimizers.predictions().data
    assert text.count("<tr>") == len(PREDICTIONS)
    assert "8 of 8 checks hold" in law_page.said(optimizers.outcome("optimizer"))
    assert "Cannot be judged" in law_page.said(optimizers.outcome("ratio_peak"))
    assert law_page.said(optimizers.outcome("matched_positives")) == "Nothing yet."
    assert f"passed</span> 1 of {len(PREDICTIONS)}" in optimizers.key_result().data
    assert law_page.rule(optimizers.outcome("optimizer")) == PREDICTIONS[0].rule


def test_a_failure_names_its_place():
    page = page_on(results("optimizer", change=WRONG["optimizer"]))
    assert "Clearest failure: tomato leaves" in law_page.said(page.outcome("optimizer"))
    assert f"failed</span> 1 of {len(PREDICTIONS)}" in page.key_result().data
    assert "<td>no</td>" in page.details("optimizer").data and "<td>yes</td>" in page.details("optimizer").data


def test_the_curve_shows_every_level_beside_the_simulation(optimizers):
    picture = optimizers.curve()
    ax = picture.figure.axes[0]
    S, shift = (np.asarray(v) for v in ax.lines[0].get_data())
    run = Run(final_norm="bn", learning_rate=3e-3)
    assert np.interp(law.predicted(run).S, S, shift) == pytest.approx(law.predicted(run).shift, abs=0.02)
    assert len(picture.data) == 4 and len(ax.lines[1].get_xdata()) == 4  # AdamW alone: SGD is another curve
    assert page_on(pd.DataFrame()).curve().data.startswith("<p class='missing'>")


def test_without_results_the_page_says_so():
    page = page_on(pd.DataFrame())
    assert (
        "No shift has been measured yet" in page.key_result().data
        and f"not run</span> {len(PREDICTIONS)} of {len(PREDICTIONS)}" in page.key_result().data
    )
    assert "Not run yet" in page.details("shift").data


def test_the_reader_is_told_the_shift_of_a_training_of_their_own():
    text = law_page.told(1e-2, epochs=10, batch_size=64, n_minority=10).data
    assert "150 updates" in text and "**−1.21**" in text and "−4.61" in text and "0.77" in text
    assert "**−2.77**" in law_page.told(1e-2, optimizer="sgd").data


def test_the_drawing_moves_with_the_rate():
    alts = [law_figures.logits_picture(lr).alt for lr in (3e-3, 3e-2)]
    assert "−0.42" in alts[0] and "−2.48" in alts[1]


@pytest.fixture(scope="module")
def advised():
    table = pd.concat([results("matched_positives"), results("fixed_shift")], ignore_index=True)
    table = table.drop_duplicates([*vars(Run()), "readout"])
    with mock.patch.object(advice, "published_rows", lambda settings=(): table), chosen():
        page = advice.AdvicePage(Parameters())
        yield page


def test_advice_is_five_sentences(advised):
    lines = advised.sentences().data.splitlines()
    assert [line[:2] for line in lines] == ["1.", "2.", "3.", "4.", "5."]
    assert "−0.42 nats at 0.003" in lines[3]


def test_advice_without_results_says_so():
    nothing = pd.DataFrame()
    with (
        mock.patch.object(advice, "published_rows", lambda settings=(): nothing),
        mock.patch.object(everywhere, "published_rows", lambda settings=(): nothing),
        chosen(),
    ):
        page = advice.AdvicePage(Parameters())
        assert page.figure().data.startswith("<p class='missing'>") and page.sentences().data.count("not run yet") == 4


def test_where_zero_lies_is_told_with_what_it_gives():
    def found(run, arm, cell):
        digits = cell.setting == "digits"
        return {
            "f1_minority": 0.1 if digits else 0.9,
            "mean_log_odds_majority": -3.9 if digits else -1.6,
            "mean_log_odds_minority": 0.1 if digits else 2.4,
            "predicted_zero": 0.3 + 0.001 * run.seed,
        } | ({"mean_log_odds_majority": 0.004 * run.seed - 1.6} if not digits else {})

    page = page_on(results("removed_zero", change=found))
    picture = page.removed()
    assert len(picture.data) == 200 and (picture.data["place"].round(3) == 0.975).sum() == 40
    assert "of the way to the minority's in 160 (mean minority F1 0.90)" in picture.alt
    assert "further in 40 (mean minority F1 0.10)" in picture.alt and "0 of the first" not in picture.alt
    lacking = results("removed_zero", drop=lambda run, arm, cell: run.seed == 119)
    assert "not run yet" in page_on(lacking).removed().data


def test_first_updates_are_told_by_class():
    plan = first_updates_plan.PLAN
    rows = []
    with chosen():
        for cell in plan.cells:
            for entry in plan.entries(cell):
                drop = entry.arm == "plain" and 3 <= entry.level < 100
                scores = {"recall_minority": 0.0 if drop else 0.5, "balanced_accuracy": 0.5, "f1_minority": 0.5}
                rows.append({"key": len(rows), **vars(entry.run), "readout": "as_trained", **scores})
    picture = page_on(pd.DataFrame(rows)).first_updates()
    assert (
        "from 1 to 300: with Adam 0.00 for plain and 0.50 for final BN; with SGD 0.00 for plain and 0.50" in picture.alt
    )
    assert "Balanced accuracy after 30: with Adam 0.50 for plain and 0.50 for final BN" in picture.alt
    assert len(picture.data) == 2 * 2 * 2 * 14 and picture.data["majority"].isin([0.5, 1.0]).all()
    assert len(picture.figure.axes) == 4
    digits_alone = [row for row in rows if row["setting"] == "digits"]
    assert len(page_on(pd.DataFrame(digits_alone)).first_updates().figure.axes) == 2
    assert "not run yet" in page_on(pd.DataFrame(digits_alone[1:])).first_updates().data
