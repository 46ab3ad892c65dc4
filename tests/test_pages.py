"""What pages show of several cells at once: complete ones side by side, the others as a sentence, never an error."""

import numpy as np
import pytest

from replication.study import designs
from replication.pages import figures
from replication.results import published
from replication.results.frame import values
from replication.results.store import Store
from replication.pages.page import Page, open_page
from replication.pages.parameters import Parameters
from replication.pages.scoreboard import Scoreboard
from replication.pages.tables import cross_check, rate_table

PAIR = [("final_bn", "plain")]
LEAVES, CRACKS = "plantvillage/apple", "cracks"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture(autouse=True)
def some_published(own_store, shelf, made_up, monkeypatch):
    """Made-up results of `removal` and `generality` on apple and cracks; the last seed of skin is missing."""
    monkeypatch.setenv("REPLICATION_RESULTS", str(shelf))
    if (shelf / "manifest.json").exists():
        return
    with Store(own_store) as store:
        store.add_provenance({"id": "made up", "versions": {}, "hardware": "none", "device": "cpu"})
        runs = [r for r in designs.runs(["removal"], ["plantvillage/apple", "cracks", "skin"], ["simple_cnn"])
                if (r.setting, r.seed) != ("skin", 109)]  # fmt: skip
        for run in runs:
            store.add(made_up(run, data="images"))
        published.publish(store, runs, [])


def test_complete_cells_stand_side_by_side():
    page = Page("removal", Parameters())
    assert list(page.parts()) == [LEAVES, CRACKS] and not page.complete
    text = page.by_cell(PAIR).data
    assert text.count("<tr") == 3 and text.count("<td>plantvillage/apple</td>") == 1 and "skin" not in text
    part = page.parts()[LEAVES]
    a, b = values(part, "final_bn"), values(part, "plain")
    assert len(a) == 10 and f"{b.mean():.2f}\u00a0→\u00a0{a.mean():.2f}, {(a - b).mean():+.3f}\u00a0(" in text
    assert "<th>own</th>" in text and "<th>shared</th>" in text
    auc = page.by_cell(PAIR, ("own",), "roc_auc").data
    assert f"\u00a0→\u00a0{values(part, 'final_bn', 'roc_auc').mean():.2f}," in auc and "<th>shared</th>" not in auc


def test_what_is_not_there_is_said():
    page = Page("removal", Parameters())
    assert "no complete results of removal for skin / simple_cnn" in page.draw(
        figures.rows, [("plain", "as_trained")], setting="skin"
    ).data
    assert "No results to show yet" in Page("ratio", Parameters()).forest("gain", "gain").data
    assert Page("ratio", Parameters()).by_cell(PAIR).data.count("<td>") == 0


def test_arms_that_a_cell_lacks_are_left_out():
    asked = ("plain", "final_bn_slow", "plain · logit_adjusted")
    assert Page("base", Parameters(settings="cracks")).among(*asked) == ["plain", "plain · logit_adjusted"]
    assert Page("base", Parameters(settings="digits")).among(*asked) == [*asked]


def test_figures_of_cells_show_every_seed():
    page = Page("removal", Parameters())
    drawn = page.draw(figures.rows, [("plain", "as_trained")], setting="cracks")
    assert len(drawn.axes[0].collections[0].get_offsets()) == 10
    forest = page.forest("gain", "gain")
    assert [t.get_text() for t in forest.axes[0].get_yticklabels()] == [LEAVES, CRACKS]
    rows = figures.cells(page.parts(), ("plain", "final_bn"))
    assert [t.get_text() for t in rows.axes[0].get_yticklabels()][:2] == [f"{LEAVES}: plain", f"{LEAVES}: final_bn"]


def test_every_planned_cell_stands_under_its_verdict():
    board = Scoreboard(Parameters())
    text = board.by_verdict().data
    assert text.count("<tr>") == len(board.judgements) + 1
    row = text.split("Removing the layer at inference")[1].split("</tr>")[0].split("<td>")[1:]
    of = {c.cell[0]: c for c in board.judgements["removal"].cells if c.cell[1] == "simple_cnn"}
    order = ["replicated", "partly", "contradicted", "inconclusive"]
    for name in ("plantvillage/apple", "cracks"):
        effect = of[name].measures["own"]["more_than_half_kept"].d.mean()
        column = order.index(of[name].verdict) if of[name].verdict in order else 4
        assert name.split("/")[-1] in row[column] and f"{effect:+.2f}" in row[column]
    assert "skin (not run)" in row[4] and "digits (not run)" in row[4]


def test_training_here_is_on_digits_unless_told_otherwise(monkeypatch):
    seen = []
    monkeypatch.setattr(Page, "_trained", lambda self, settings, *_: seen.append(settings) or published.read(["digits"]))
    open_page("removal", {"seeds": 1})
    open_page("removal", {"seeds": 1, "settings": "cracks"})
    open_page("controls", {"seeds": 1})
    assert seen == [("digits",), ("cracks",), ()]


@pytest.mark.parametrize(("settings", "claims"), [
    ((), {*designs.DESIGNS}), (("digits",), {*designs.DESIGNS} - {"controls", "performance"}),
    (("plantvillage/tomato",), {"majorities"}),
    (("cracks",), {"base", "removal", "generality", "sigmoid", "uncertainty"}),
    (("folder:mine",), {"base", "removal", "generality", "sigmoid", "uncertainty"}),
])  # fmt: skip
def test_without_a_claim_a_setting_gets_what_is_planned_for_it(settings, claims):
    assert {c for c in designs.DESIGNS if not settings or designs.planned(c, settings[0])} == claims


def test_cross_check_is_the_benchmark_in_a_table():
    run = {"f1_minority": 0.5, "roc_auc": 0.9, "seconds": 2.0}
    found = {"f1_minority": {"n": 2, "difference": -0.25, "interval": [-0.4, 0.1]},
             "roc_auc": {"n": 2, "difference": 0.01, "interval": [0, 0.02]}, "agree": True}  # fmt: skip
    theirs = [run | {"f1_minority": 0.75, "seconds": 6.0}] * 2
    text = cross_check({
        "results": {"plain": {"ours": [run] * 3, "fastai": theirs, "fastai_default": theirs}},
        "comparison": {"plain": {"fastai": found | {"agree": False}, "fastai_default": found}},
    }).data  # fmt: skip
    cells = [part.split("<")[0] for part in text.split("<td>")[1:]]
    numbers = ["2", "0.50", "0.75", "-0.250", "-0.40\u00a0to\u00a0+0.10", "+0.010 (+0.000\u00a0to\u00a0+0.020)"]
    assert cells == ["plain", "fastai", *numbers, "no", "2.0", "6.0",
                     "plain", "fastai, default", *numbers, "", "2.0", "6.0"]  # fmt: skip


def test_rates_at_an_end_of_the_grid_are_marked():
    text = rate_table({"a/cnn": {"plain": 0.1, "final_bn": 0.01}, "b/cnn": {"plain": 3e-4}}, (3e-4, 0.01, 0.1)).data
    assert [part.split("<")[0] for part in text.split("<td>")[1:]] == ["plain", "0.1 *", "0.0003 *", "final_bn", "0.01", ""]
