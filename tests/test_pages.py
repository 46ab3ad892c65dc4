"""What pages show: the cells that are complete, the others as a sentence, one look and one form of numbers everywhere."""

import io
import json
import re
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

import replication
from replication.claims import registry
from replication.claims.beyond import fastai_recipe
from replication.claims.cells import FINE_TUNED, LITE
from replication.claims.claim import NOT_RUN, WORDS, Claim
from replication.claims.judge import plan_frame
from replication.claims.tiers import TIERS
from replication.pages import judgements, names, notebooks, picture, provenance, style, words
from replication.pages.figures import ladder, readout_names, scores
from replication.pages.front import Front
from replication.pages.judgements import focus, number_of
from replication.pages.names import named
from replication.pages.notebooks import _captioned
from replication.pages.page import Page, open_page
from replication.pages.parameters import Parameters, parameters
from replication.pages.picture import Picture
from replication.pages.provenance import trained_on
from replication.pages.scoreboard import Scoreboard, first_rules, gpu_reproduction
from replication.pages.selection import Missing, Selection, asked_cells
from replication.pages.stories import pair
from replication.pages.stories.rates import BODY_FROZEN_AND_TRAINED, beside, profile
from replication.pages.stories.told import STORIES
from replication.pages.tables import (
    badge,
    cross_check,
    csv_link,
    difference_rows,
    effect_table,
    ends_of,
    rate_table,
    table_html,
)
from replication.pages.verdict_file import claims
from replication.results import published
from replication.results.frame import values
from replication.results.store import Store
from replication.study.arms import ARMS
from replication.study.networks import SMALL_BODIES
from replication.study.networks import network as network_of
from replication.study.rates import Place, chosen_rates

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
LEAVES, CRACKS = ("plantvillage/apple", "simple_cnn"), ("cracks", "simple_cnn")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def some_published(own_store, shelf, made_up, monkeypatch):
    """Made-up results of `removal` on apple and cracks; the last seed of skin is missing."""
    monkeypatch.setenv("REPLICATION_RESULTS", str(shelf))
    if (shelf / "manifest.json").exists():
        return
    with Store(own_store) as store:
        store.add_provenance({"id": "made up", "versions": {}, "hardware": "none", "device": "cpu"})
        runs = [
            r
            for r in registry.runs(["removal"], ["plantvillage/apple", "cracks", "skin"], ["simple_cnn"])
            if (r.setting, r.seed) != ("skin", 109)
        ]
        for run in runs:
            store.add(made_up(run, data="images"))
        published.publish(store, runs)


# --- Words and looks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "digits", "plain", "with_sign"),
    [
        (0.123, 2, "0.12", "+0.12"),
        (-0.126, 2, "−0.13", "−0.13"),
        (-0.004, 2, "0.00", "0.00"),
        (0.004, 2, "0.00", "0.00"),
        (0.0, 2, "0.00", "0.00"),
        (-0.0, 1, "0.0", "0.0"),
        (-0.5, 0, "0", "0"),
        (1234.5, 1, "1,234.5", "+1,234.5"),
        (float("nan"), 2, "not defined", "not defined"),
    ],
)
def test_one_form_of_numbers(value, digits, plain, with_sign):
    assert (words.number(value, digits), words.signed(value, digits)) == (plain, with_sign)


def test_intervals_and_estimates_are_written_alike():
    assert words.between(-0.1, 0.2) == "−0.10\u00a0to\u00a0+0.20"
    d = np.array([0.1, 0.2, 0.3, 0.2])
    assert words.estimate(d).startswith("+0.20 (95\u00a0% interval +0.") and words.estimate(d).endswith(", 4 seeds)")
    assert [words.p_value(p) for p in (0.0123, 0.00009)] == ["0.012", "below 0.001"]
    assert [words.listed(w) for w in (["a"], ["a", "b"], ["a", "b", "c"], [])] == ["a", "a and b", "a, b and c", ""]
    assert [words.rate_text(v) for v in (1e-4, 0.003, 1.0)] == ["0.0001", "0.003", "1"]
    assert [words.duration(s) for s in (0.2, 90, 600, 9000)] == ["1 s", "90 s", "10 minutes", "2.5 hours"]


def test_every_arm_has_one_look_and_no_two_share_it():
    assert set(ARMS) <= set(style.LOOKS)
    looks = [(look.colour, look.marker) for look in style.LOOKS.values()]
    assert len(set(looks)) == len(looks)
    assert list(style.LOOKS)[:4] == ["plain", "final_bn", "final_bn · bn_removed", "plain · logit_adjusted"]


def test_verdicts_differ_by_word_shape_and_colour_and_are_no_arm():
    assert set(style.VERDICTS) == set(style.SIGNS) == set(WORDS)
    assert len(set(style.SIGNS.values())) == len({v.marker for v in style.VERDICTS.values()}) == len(WORDS)
    colours = {v.colour for v in style.VERDICTS.values()}
    assert len(colours) == len(WORDS) and not colours & {look.colour for look in style.LOOKS.values()}
    css = (ROOT / "book/assets/replication.css").read_text()
    for word in WORDS:
        assert (
            f".verdict-{word.replace(' ', '-')} " in css
            and f'[data-theme="dark"] .verdict-{word.replace(" ", "-")} ' in css
        )
        assert style.SIGNS[word] in badge(word) and f">{word}".replace(">", "") in badge(word)


def test_no_skill_is_that_of_always_saying_minority():
    from sklearn.metrics import balanced_accuracy_score, f1_score

    truth = np.repeat([0, 1], 150)
    always = np.ones_like(truth)
    assert style.no_skill("f1_minority") == pytest.approx(f1_score(truth, always)) == pytest.approx(style.NO_SKILL)
    assert style.no_skill("f1_macro") == pytest.approx(f1_score(truth, always, average="macro"))
    assert style.no_skill("balanced_accuracy") == balanced_accuracy_score(truth, always)
    three = np.repeat([0, 1, 2], 150)
    assert style.no_skill("f1_minority", 3) == pytest.approx(f1_score(three == 2, np.ones_like(three)))
    assert style.no_skill("nll") is None


def test_readers_see_names_not_ids():
    assert names.arm_label("final_bn · bn_removed") == "final BN with the layer removed"
    assert names.network_label("efficientnet_lite0:imagenet:head") == "EfficientNet-Lite0, ImageNet, frozen"
    effects = {name for c in registry.CLAIMS.values() for name in [c.headline[0]]}
    assert all("_" not in names.effect_label(name) for name in effects | set(names.METRICS))
    rows = [
        {
            "cell_setting": "digits",
            "cell_network": "mlp",
            "variant": "",
            "rate": "own",
            "images": "digits",
            "effect": "one_minus_two",
            "levels": 1,
            "n": 3,
            "mean": -0.0001,
            "low": -0.2,
            "high": 0.1,
            "median": 0.0,
            "margin": 0.05,
            "p above": 0.5,
            "p below": 1e-5,
            "p within": 1.0,
        }
    ]
    shown = effect_table(rows).iloc[0].tolist()
    assert "two-layer perceptron" in shown[0] and "gain with one majority class minus gain with two" in shown
    assert "0.000" in shown and "below 0.001" in shown and "each arm's own rate" in shown


# --- Parameters -----------------------------------------------------------------------------------


def test_names_made_later_in_a_live_kernel_are_no_parameters():
    live = {"settings": "cracks", "seeds": 0, "sentence": "a page's own", "cells": [1], "In": ["", 'sentence = "x"']}
    assert parameters(live) == Parameters(settings="cracks")
    paths = {"PAPERMILL_INPUT_PATH": "base.ipynb", "PAPERMILL_OUTPUT_PATH": "out.ipynb"}
    cell = "# Parameters\n" + "".join(f'{name} = "{path}"\n' for name, path in paths.items())
    assert parameters(live | paths | {"In": ["", cell]}) == Parameters(settings="cracks")
    assert parameters({"settings": "cracks"} | paths) == Parameters(settings="cracks")
    injected = live | {"seed": 3, "In": ["", "# Parameters\nseed = 3\n", 'sentence = "x"']}
    with pytest.raises(ValueError, match="unknown parameter 'seed': allowed are settings"):
        parameters(injected)
    with pytest.raises(ValueError, match="parameter seeds = 'x' is not allowed"):
        parameters(live | {"seeds": "x"})


@pytest.mark.parametrize(
    "path", [p for p in NOTEBOOKS if p.stem not in ("status", "reliability")], ids=lambda p: p.stem
)
def test_parameters_cell_is_the_same_in_all_notebooks(path):
    def cells(at):
        return [
            c["source"] for c in json.loads(at.read_text())["cells"] if "parameters" in c["metadata"].get("tags", [])
        ]

    assert cells(path) == cells(ROOT / "book/base.ipynb") and len(cells(path)) == 1


def test_every_claim_has_a_notebook_of_its_own():
    assert set(registry.CLAIMS) <= {p.stem for p in NOTEBOOKS} and set(STORIES) <= set(registry.PLANS)


# --- What a page selects --------------------------------------------------------------------------


def test_training_here_needs_no_files_unless_told(monkeypatch):
    cells = asked_cells("base", Parameters(seeds=1))
    assert {c.setting for c in cells} == {"digits"} and {network_of(c.network).body for c in cells} <= set(SMALL_BODIES)
    assert {c.setting for c in asked_cells("base", Parameters(seeds=1, settings="cracks"))} == {"cracks"}
    seen = []
    monkeypatch.setattr(
        "replication.pages.local.trained", lambda plan, cells, asked: seen.append(cells) or pd.DataFrame()
    )
    assert focus(Page("removal", Parameters(seeds=2)).judgement) is None
    assert all(c.seeds == 2 and c.setting == "digits" for c in seen[0])


def test_complete_cells_stand_side_by_side(some_published):
    page = Page("removal", Parameters())
    parts = page.parts()
    assert set(parts) == {names.cell_label(LEAVES), names.cell_label(CRACKS)}
    text = page.by_cell([("final_bn", "plain")], ("own",)).data
    part = parts[names.cell_label(LEAVES)]
    a, b = values(part, "final_bn"), values(part, "plain")
    assert len(a) == 10 and f"<td>{b.mean():.2f}</td>" in text and f"<td>{words.signed((a - b).mean(), 3)}</td>" in text
    assert page.contrast(
        "final_bn", cell=next(c for c in page.cells if c.setting == "plantvillage/apple" and c.network == "simple_cnn")
    ).startswith(f"{b.mean():.2f} to {a.mean():.2f} (difference")
    assert "skin" not in text


def test_what_is_not_there_is_said_with_its_seeds(some_published):
    page = Page("removal", Parameters(settings="skin", networks="simple_cnn"))
    said = page.key_figure().data
    assert (
        said.startswith("<p class='missing'>") and f"{names.cell_label(('skin', 'simple_cnn'))}: 9 of 10 seeds" in said
    )
    assert "Not run yet" in Page("ratio", Parameters()).found().data
    assert page.forest().data.startswith("<p class='missing'>")
    with pytest.raises(Missing, match="nothing is published; with seeds > 0"):
        page.part()
    j = page.judgement
    assert [c.word for c in j.cells] == [NOT_RUN] and "9 of 10 seeds" in page.verdict().data


def test_a_readout_or_metric_that_was_not_recorded_is_left_out(some_published):
    page = Page("removal", Parameters(settings="cracks", networks="simple_cnn"))
    part = page.part()
    assert scores(part, "plain · logit_adjusted") is None and scores(part, "plain", "no_such") is None
    assert page.mean("plain · logit_adjusted") == "not recorded"
    assert page.among("plain", "plain · logit_adjusted", "final_bn · bn_removed") == ["plain", "final_bn · bn_removed"]
    assert page.contrast("final_bn", "plain · logit_adjusted") == "not recorded"


def test_figures_show_every_seed_and_the_no_skill_line(some_published):
    page = Page("removal", Parameters())
    picture = page.ladder(("plain", "final_bn"))
    ax = picture.figure.axes[0]
    assert sum(len(c.get_offsets()) for c in ax.collections if len(c.get_offsets()) == 10) == 2 * 2 * 10
    assert any(np.allclose(line.get_xdata(), 2 / 3) for line in ax.lines)
    assert len(picture.data) == 40 and set(picture.data["arm"]) == {"plain", "final BN"}
    assert words.number(values(page.parts()[names.cell_label(CRACKS)], "plain").mean()) in picture.alt
    labels = {t.get_text() for t in ax.texts}
    assert labels == set(page.parts())


def test_captions_and_alternative_texts_are_put_where_the_book_reads_them():
    fig = ladder({}, ())
    bundle, about = Picture(fig, "a finding. More.", "a finding", pd.DataFrame())._repr_mimebundle_()
    assert bundle["text/plain"] == about["alt"] == "a finding" and len(bundle["image/png"]) > 1000
    cell = {"metadata": {"mystnb": {"image": {"alt": "old"}}}, "outputs": [{"data": bundle, "metadata": about}]}
    _captioned(cell)
    assert cell["metadata"]["mystnb"] == {"figure": {"caption": "a finding. More."}, "image": {"alt": "a finding"}}
    gone = {
        "metadata": {"mystnb": cell["metadata"]["mystnb"]},
        "outputs": [{"data": {"text/html": "none"}, "metadata": {}}],
    }
    _captioned(gone)
    assert "mystnb" not in gone["metadata"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_captions_are_those_computed(path):
    for cell in json.loads(path.read_text())["cells"]:
        found = [o["metadata"] for o in cell.get("outputs", ()) if "caption" in o.get("metadata", {})]
        shown = cell["metadata"].get("mystnb", {})
        assert not found or (shown["figure"]["caption"], shown["image"]["alt"]) == (
            found[0]["caption"],
            found[0]["alt"],
        )
        assert len(found) <= 1, "a cell has one figure, and one caption"


# --- Every page on every published cell -----------------------------------------------------------

LISTED = published.manifest()["files"]


def published_places() -> list[tuple[str, str]]:
    """(setting, network) of every planned cell of which something is published."""
    rows = published.read()
    there = set(zip(rows["setting"], rows["network"], rows["init"], rows["trained"], rows["head"]))
    cells = {(c.setting, c.network) for p in registry.PLANS.values() for c in p.cells}
    return sorted((s, n) for s, n in cells if (s, (w := network_of(n)).body, w.init, w.trained, w.head) in there)


def test_a_page_of_images_asked_for_shows_their_pilots_and_their_command():
    page = Page("base", Parameters(settings="digits", networks="logistic"))
    again = "papermill book/base.ipynb out.ipynb -p settings digits -p networks logistic -p seeds 3"
    assert again in page.provenance().data
    assert "Every dot is one of the pilot seeds" in profile(page).caption
    whole = Page("base", Parameters())
    assert "papermill book/base.ipynb out.ipynb -p seeds 3" in whole.provenance().data


def test_a_page_of_images_of_which_nothing_is_published_says_so():
    page = Page("base", Parameters(settings="skin@64", networks="simple_cnn"))
    assert "not run yet" in page.key_result().data and "missing" in page.key_figure().data
    assert page.found().data and page.design().data and "No results to show" in page.provenance().data
    assert replication.read(["skin@64"]).empty


def test_what_a_rerun_takes_is_said_of_the_device_of_the_rows():
    page = Page("base", Parameters())
    cell = next(c for c in page.cells if (c.setting, c.network) == ("plantvillage/tomato@128", FINE_TUNED))
    took, command = provenance.rerun(page.selection, cell, page.records())
    assert "one process among those that share a GPU" in took and command.startswith("replication run base --settings")
    elsewhere = {id: record | {"device": "cpu"} for id, record in page.records().items()}
    assert "on one core" in provenance.rerun(page.selection, cell, elsewhere)[0]


def test_every_kind_of_network_has_a_name_of_its_own():
    rows = published.read().drop_duplicates(["network", "init", "trained", "head"])
    labels = named(rows)["body"]
    assert len(set(labels)) == len(labels)


def test_a_cell_is_called_by_what_its_design_trains_on():
    (cell,) = (c for c in registry.CLAIMS["majorities"].cells if (c.setting, c.network) == ("cifar10", LITE))
    assert "one or two classes against one" in names.cell_label(cell) and "nine" not in names.cell_phrase(cell)
    page = Page("majorities", Parameters())
    for text in (page.found().data, page.verdict().data, page.effects().data, page.design().data):
        assert "one or two classes against one" in text and "one class against nine" not in text


def test_the_rule_on_a_page_has_its_gate():
    for name, claim in registry.CLAIMS.items():
        gate = "the gain itself must be shown to exceed 0.05" in judgements.rule_html(
            Page(name, Parameters()).judgement
        )
        assert gate is claim.gated, name


def test_the_clearest_of_several_levels_is_called_that():
    text = Page("ratio", Parameters()).verdict().data
    assert "gain where it is clearest of 8 levels (interval not adjusted for that choice)" in text


def test_rates_at_an_end_are_marked_in_the_design():
    page = Page("mechanism", Parameters())
    cell = page.cells[0]
    place = Place(cell.setting, cell.network).source
    ends = {arm for _, arm in ends_of({place: chosen_rates()[place]})}
    text = page.design().data
    assert "bn_no_affine" in ends and "0.1*" in text and "an asterisk marks an end of the rates tried" in text


@pytest.mark.parametrize("place", published_places(), ids=" ".join)
def test_every_page_opens_on_every_published_cell(place):
    asked = Parameters(settings=place[0], networks=place[1])
    for name, plan in registry.PLANS.items():
        if name == "performance" or name not in STORIES:  # the one has no key figure, others stand on a page of several
            continue
        page = Page(name, asked)
        assert "<div class='key-result'>" in page.key_result().data
        assert isinstance(page.key_figure(), Picture) or "missing" in page.key_figure().data
        assert page.found().data and page.design().data and page.provenance().data
        if isinstance(plan, Claim):
            assert badge(page.judgement.cells[0].word) in page.verdict().data
            assert page.effects().data.startswith("<details")


def test_the_same_body_frozen_and_trained_stand_side_by_side():
    found = beside(BODY_FROZEN_AND_TRAINED)
    pilots = published.pilots((BODY_FROZEN_AND_TRAINED[1][0],))
    seen = found.data.groupby(["setting", "network", "arm"]).get_group
    here = seen((*BODY_FROZEN_AND_TRAINED[1], "final_bn"))
    assert len(here) == 25 and set(here["seed"]) == set(range(5))  # five rates on five seeds
    same = {"final_norm": "bn", "learning_rate": 3e-4, "network": "resnet_cntk", "trained": "all", "head": "linear"}
    chosen = pilots[(pilots[list(same)] == pd.Series(same)).all(axis=1) & (pilots["seed"] < 5)]
    mean = here.loc[here["learning rate"] == 3e-4, "validation macro F1"].mean()
    assert mean == pytest.approx(chosen["validation_f1_macro"].mean())
    assert f"at best {words.number(mean)} at 0.0003" in found.alt and len(found.figure.axes) == 4
    assert "the pilot seeds (10, 5, 10 and 5, by panel)" in found.caption
    with pytest.raises(Missing, match="no pilot runs are published for"):
        beside((("digits", "mlp"), ("skin@32", "resnet_cntk:imagenet")))


def test_fastais_recipe_is_shown_when_it_is_whole(monkeypatch):
    (cell,) = fastai_recipe.PLAN.cells
    rows = [
        {"key": str(n), **vars(e.run), "readout": "as_trained", "f1_minority": 0.9 - 0.2 * (e.arm == "plain")}
        for n, e in enumerate(fastai_recipe.PLAN.entries(cell))
    ]
    monkeypatch.setattr(pair, "published_rows", lambda settings: pd.DataFrame(rows))
    text = pair.recipe().data
    assert "+0.200" in text and "<td>10</td>" in text and "shown, not judged" in text
    assert pair.fastai_means() == ["0.70", "0.90", "not recorded", "not recorded"]
    monkeypatch.setattr(pair, "published_rows", lambda settings: pd.DataFrame(rows[2:-1]))
    assert "8 of 10 seeds have been run" in pair.recipe().data and pair.fastai_means() == pair.recipe_line() == []


def test_fastais_recipe_stands_where_its_numbers_are_those_published():
    rows = published.read(("plantvillage/tomato@128",)).query("schedule == 'fine_tune'")
    plain, layer = (
        rows[(rows["final_norm"] == norm) & (rows["readout"] == "as_trained")] for norm in ("none", "bn_slow")
    )
    [line] = pair.recipe_line()
    assert (
        f"plain {words.number(plain['f1_minority'].mean())}, final BN {words.number(layer['f1_minority'].mean())},"
        in line
    )
    assert f"from {words.number(plain['roc_auc'].mean())} to {words.number(layer['roc_auc'].mean())}." in line
    assert (
        line in Page("base", Parameters()).found().data
        and ", ".join(pair.fastai_means()[:3]) in Front({}).sentences().data
    )


def test_seconds_of_a_gpu_are_not_told_as_those_of_a_core():
    rows = pd.DataFrame({"provenance": ["here", "here", "there", None]})
    records = {"here": {"device": "cpu"}, "there": {"device": "cuda"}}
    assert trained_on(rows[:2], records) == trained_on(pd.DataFrame(), {}) == "one core"
    assert "GPU" in trained_on(rows, records)


# --- Scoreboard -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def board():
    return Scoreboard(Parameters())


def test_scoreboard_has_a_row_a_headline_with_its_number(board):
    rows = board.rows()
    heads = [(name, h) for name, j in board.judgements.items() for h in j.headlines]
    assert list(rows["verdict"]) == [h.word for _, h in heads] and list(rows["id"]) == [name for name, _ in heads]
    for (name, h), line, row in zip(heads, board.lines(), rows.to_dict("records")):
        assert h.word.upper() in line and (not h.tier or h.tier in line) and row["number"] in line
        assert all(q in row["qualifiers"] for q in h.qualifiers)
        if h.lead:
            assert row["number"] == number_of(registry.CLAIMS[name], h.lead)


def test_scoreboard_counts_every_cell_once(board):
    text = board.by_tier().data
    for j in board.judgements.values():
        for counter in j.counts().values():
            for word, n in counter.items():
                assert f"{n} {badge(word)}" in text
    assert set(TIERS) <= set(re.findall(r'<th scope="col">(.*?)</th>', text))
    done = sum(c.word != NOT_RUN for j in board.judgements.values() for c in j.cells)
    assert f"{done} of " in board.cells().data and board.cells().data.count("<tr") == done + 1


def test_a_box_names_the_other_cells_of_its_tier_or_counts_them(board):
    ways = set()
    for j in board.judgements.values():
        text = judgements.headlines_html(j)
        for h in (h for h in j.headlines if h.lead):
            others = [c for c in j.counted() if c.tier == h.tier and c.word != NOT_RUN]
            assert ("Other cells of this tier" in text) == bool(others)
            if len(others) <= judgements.MOST_NAMED:
                assert all(
                    names.setting_label(c.cell.setting) in text and number_of(j.claim, c) in text for c in others
                )
                ways |= {"named"} if others else set()
            else:
                for word, n in Counter(c.word for c in others).items():
                    assert f"{n}{words.NBSP}{judgements.evidence(badge(word))}" in text
                ways.add("counted")
    assert ways == {"named", "counted"}


def test_runs_that_never_find_the_minority_are_counted_and_named(board):
    asked = registry.runs(["base"], ["digits"], ["simple_cnn"], kinds=["own"])
    plain = pd.DataFrame(vars(run) for run in asked if run.final_norm == "none" and run.epochs == 10)
    f1 = published.read(["digits"]).query("readout == 'as_trained'").merge(plain, on=list(plain))["f1_minority"]
    n = int((f1 == 0).sum())
    found = judgements.cells_frame(board.judgements["base"]).set_index("images and network")["runs at F1 0"]
    assert n > 0 and found[names.cell_label(("digits", "simple_cnn"))] == f"plain {n} of {len(f1)}"
    assert found[names.cell_label(("plantvillage/tomato@128", "resnet_cntk:imagenet"))] == ""
    page = Page("base", Parameters(settings="digits", networks="simple_cnn"))
    assert f" ({n} of {len(f1)} runs at 0.00)" in page.found().data and page.collapsed("final_bn") == ""


def test_an_undecided_box_says_where_other_rates_decide(board):
    """A decided one has the qualifier rate-dependent instead."""
    for j in board.judgements.values():
        text = judgements.headlines_html(j)
        for h in (h for h in j.headlines if h.lead):
            words_there = {d.word for d in h.lead.decisions.values()} & {"replicated", "contradicted"}
            for word in words_there:
                assert (f"{word.capitalize()} at " in text) == (h.word == "undecided")


def test_committed_verdicts_are_those_computed(board):
    """`results/claims.json` is what `publish` would write now."""
    assert json.loads((ROOT / "results/claims.json").read_text()) == json.loads(json.dumps(claims(board)))
    base = claims(board)["claims"]["base"]["headlines"][0]
    lead = board.judgements["base"].headlines[0].lead
    assert base["verdict"] == lead.word and base["number"]["seeds"] == lead.done
    assert base["number"]["interval_95"][0] <= base["number"]["mean"] <= base["number"]["interval_95"][1]


def test_first_and_second_rules_stand_side_by_side(board):
    old = json.loads((ROOT / "results/verdicts-v1.json").read_text())
    text = first_rules(board).data
    assert text.count("<tr") == len(registry.CLAIMS) + 1
    assert all(f"<td>{claim['verdict']}</td>" in text for claim in old.values())


def test_gpu_reproduction_is_computed_from_the_committed_cells():
    rows = pd.DataFrame({"difference": [0.001, -0.03, 0.0], "seeds": [10, 20, 30]})
    said = gpu_reproduction(rows)
    assert said.startswith("2 of 3 cells") and "largest 0.0300" in said and "60 runs" in said


# --- Tables ---------------------------------------------------------------------------------------


def test_tables_have_captions_and_their_data():
    rows = pd.DataFrame({"a": ["x"], "b": [0.5]})
    text = table_html(rows, "What it is", sortable=True)
    assert "<caption>What it is (<a download=" in text and "sortable" in text and '<th scope="col">' in text
    import base64

    for found in (csv_link(rows, "name"), text):
        data = re.search(r"base64,([^\"]+)", found)[1]
        assert base64.b64decode(data).decode() == "a,b\nx,0.5\n"
    marked = table_html(pd.DataFrame({"a": ["<b>1 &lt; 2</b>"]}), "Marked")
    data = re.search(r"base64,([^\"]+)", marked)[1]
    assert base64.b64decode(data).decode() == "a\n1 < 2\n" and 'download="marked.csv"' in marked


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_table_and_figure_of_the_book_has_its_data(path):
    shown = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", ()) if "data" in o]
    html = "".join("".join(o["data"].get("text/html", ())) for o in shown)
    captions = re.findall(r"<caption>(.*?)</caption>", html, re.DOTALL)
    assert html.count("<table") == len(captions) and all("<a download=" in caption for caption in captions)
    drawn = [n for n, o in enumerate(shown) if "image/png" in o["data"]]
    assert all(
        "class='figure-source'><a download=" in "".join(shown[n + 1]["data"].get("text/html", ())) for n in drawn
    )
    assert "-0.00" not in html and f"{words.MINUS}0.00<" not in html


def test_cross_check_is_the_benchmark_in_a_table():
    run = {"f1_minority": 0.5, "roc_auc": 0.9, "seconds": 2.0}
    found = {
        "f1_minority": {"n": 2, "difference": -0.25, "interval": [-0.4, 0.1]},
        "roc_auc": {"n": 2, "difference": 0.01, "interval": [0, 0.02]},
        "agree": True,
    }
    theirs = [run | {"f1_minority": 0.75, "seconds": 6.0}] * 2
    text = cross_check(
        {
            "results": {"plain": {"ours": [run] * 3, "fastai": theirs, "fastai_default": theirs}},
            "comparison": {"plain": {"fastai": found | {"agree": False}, "fastai_default": found}},
        }
    ).data
    cells = [part.split("<")[0] for part in text.split("<td>")[1:]]
    numbers = ["2", "0.50", "0.75", "−0.250", "−0.40\u00a0to\u00a0+0.10", "+0.010 (0.000\u00a0to\u00a0+0.020)"]
    assert cells == [
        "plain",
        "fastai",
        *numbers,
        "no",
        "2.0",
        "6.0",
        "plain",
        "fastai, default",
        *numbers,
        "",
        "2.0",
        "6.0",
    ]


def test_rates_at_an_end_of_those_tried_are_marked():
    rates = {"digits/a": {"plain": 0.1, "final_bn": 0.01}, "cracks/b": {"plain": 3e-4}}
    assert ends_of(rates) == [("digits/a", "plain"), ("cracks/b", "plain")]
    text = rate_table(rates, ends_of(rates)).data
    assert [part.split("<")[0] for part in text.split("<td>")[1:]] == [
        "plain",
        "0.1 *",
        "0.0003 *",
        "final BN",
        "0.01",
        "",
    ]


def test_open_page_checks_its_parameters():
    with pytest.raises(ValueError, match="unknown parameter 'seed'"):
        open_page("base", {"seed": 3})
    assert open_page("base", {"networks": "mlp", "settings": "digits"}).cells[0].network == "mlp"


def test_selection_counts_seeds_of_incomplete_cells(some_published):
    plan = registry.CLAIMS["removal"]
    cells = registry.cells("removal", ["skin", "cracks"], ["simple_cnn"])
    chosen = Selection(plan, cells, published.read())
    skin = next(c for c in cells if c.setting == "skin")
    assert chosen.seeds_done(skin) == 9 and not chosen.has(skin) and chosen.open([skin]).endswith("9 of 10 seeds")
    assert len(chosen.frame) == len(plan_frame(plan, cells, published.read()))


def test_the_data_of_a_figure_name_the_seeds_of_the_runs():
    """So that they can be joined with the published files."""
    page = Page("base", Parameters(settings="plantvillage/apple@128", networks="resnet_cntk:imagenet"))
    part = page.part(**page.where)
    scored = part[part["readout"] == "as_trained"].pivot(index="seed", columns="arm", values="f1_minority")
    data = page.forest().data
    own = data[data["rate"] == "own"].set_index("seed")["gain"]
    pd.testing.assert_series_equal(own, scored["final_bn"] - scored["plain"], check_names=False)
    drawn = page.ladder(("plain", "final_bn"), cells=[page.lead]).data
    plain = drawn[drawn["arm"] == names.arm_label("plain")].set_index("seed")["minority F1"]
    pd.testing.assert_series_equal(plain, scored["plain"], check_names=False)


def test_means_beside_a_paired_difference_are_of_the_same_seeds():
    """A diverged run has no probabilities: its seed counts in neither mean."""
    part = pd.DataFrame(
        {
            "seed": [100, 101, 102, 103, 104] * 2,
            "arm": ["plain"] * 5 + ["final_bn"] * 5,
            "readout": "as_trained",
            "error_auroc": [0.9, np.nan, 0.7, 0.8, 0.6, 0.5, 0.6, np.nan, 0.4, 0.1],
        }
    )
    [row] = difference_rows(part, [("final_bn", "plain")], "error_auroc")
    assert (row["from"], row["to"], row["seeds"]) == ("0.77", "0.33", 3) and row["mean"] == words.signed(-0.4333, 3)


def test_what_is_no_score_is_named_as_a_change():
    assert (
        names.effect_label("nll_train") == "change of NLL at training prevalence"
        and names.effect_label("gain") == "gain"
    )


def test_readouts_of_an_arm_are_named_as_figures_name_them():
    assert readout_names("final_bn", ("as_trained", "bn_removed")) == ["final_bn", "final_bn · bn_removed"]


# --- When the transfer results arrive -------------------------------------------------------------

TOMATO = ("plantvillage/tomato@160", "efficientnet_lite0:imagenet:head")


@pytest.fixture
def transfer_published(own_store, tmp_path, made_up, monkeypatch):
    """Made-up results of a frozen body on tomato leaves: claims on the base pair whole, the profile too, close begun."""
    monkeypatch.setenv("REPLICATION_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    close = ("plantvillage/tomato@128", "resnet_cntk:imagenet")
    chosen = {"/".join(place): {"plain": 0.01, "final_bn": 0.003} for place in (TOMATO, close)}
    (tmp_path / "rates.json").write_text(json.dumps({"grid": chosen, "wide": {}}))
    runs = {run for name in ("base", "rate_profile") for run in registry.runs([name], [TOMATO[0]], [TOMATO[1]])}
    runs |= set(registry.runs(["base"], [close[0]], [close[1]], seeds=12, kinds=["own"]))
    with Store(own_store) as store:
        store.add_provenance({"id": "made up", "versions": {}, "hardware": "none", "device": "cpu"})
        for run in runs:
            found = made_up(run, data="images")
            found.scores["logit_adjusted"] = dict(found.scores["as_trained"])
            store.add(found)
        published.publish(store, runs, curves=runs)


def test_transfer_cells_lead_when_they_are_whole(transfer_published):
    page = Page("base", Parameters())
    head = page.judgement.headlines[0]
    assert (head.tier, head.lead.cell.setting) == ("frozen", TOMATO[0]) and "close: 12 of 20 seeds" in head.beside
    text = page.key_result().data
    assert "tier</a> <em>frozen</em>" in text and names.cell_label(TOMATO) in text
    assert "identity not tested; close: 12 of 20 seeds" in text and "for these weights and images" in text
    assert list(page.parts(page.leading(**page.where), **page.where)) == [names.cell_label(TOMATO)]
    assert names.cell_label(TOMATO) in page.key_figure().caption
    profiled = profile(page)
    assert len(profiled.figure.axes[0].get_xticks()) == 7 and "confidence" not in profiled.alt
    front = Front({})
    assert front.sentences().data.startswith(f"**On {names.cell_phrase(TOMATO)}**") and isinstance(
        front.hero(), Picture
    )
    assert "frozen" in "\n".join(front.board.lines())


def test_a_page_is_executed_when_something_that_it_is_made_from_has_changed(tmp_path, monkeypatch):
    """With `changed`: up-to-date pages are copied, others executed; a page on this machine's own runs always is."""
    for folder in ("book", "replication", "results", "benchmarks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "replication" / "code.py").write_text("one = 1\n")
    monkeypatch.setattr(notebooks, "root", lambda: tmp_path)
    executed = []
    monkeypatch.setattr(notebooks, "_execute", lambda path, *_: executed.append(path.stem) or "")
    for name in ("base", "status"):
        path = tmp_path / "book" / f"{name}.ipynb"
        page = {"cells": [{"cell_type": "code", "source": [f"{name}"]}], "metadata": {}}
        path.write_text(json.dumps(page))
        path.write_text(json.dumps(page | {"metadata": {"made_from": notebooks.origin(path)}}))

    def run(**options) -> list[str]:
        executed.clear()
        notebooks.execute(out=tmp_path / "out", workers=1, **options)
        return sorted(executed)

    assert run() == ["base", "status"]
    assert run(changed=True) == ["status"] and (tmp_path / "out" / "base.ipynb").exists()
    assert run(changed=True, parameters=["-p", "seeds", "1"]) == ["base", "status"]
    (tmp_path / "replication" / "code.py").write_text("one = 2\n")
    assert run(changed=True) == ["base", "status"]
    (tmp_path / "replication" / "code.py").write_text("one = 1\n")
    (tmp_path / "results" / "manifest.json").write_text("{}")
    assert run(changed=True) == ["base", "status"]
    (tmp_path / "results" / "manifest.json").unlink()
    base = tmp_path / "book" / "base.ipynb"
    base.write_text(base.read_text().replace('"base"', '"other"'))
    assert run(changed=True) == ["base", "status"]


def test_a_verdicts_colour_survives_the_small_palette():
    """Few dots have it among many of other colours: it must not become another verdict's."""
    arms = [look.colour for look in style.LOOKS.values()][:8]
    fig, ax = plt.subplots(figsize=(6, 8))
    rng = np.random.default_rng(0)
    for k, colour in enumerate(arms):
        ax.scatter(rng.random(200), rng.random(200) + k, color=colour, alpha=0.4, s=9)
    for k, verdict in enumerate(style.VERDICTS.values()):
        ax.scatter([0.2 * k], [4], color=verdict.colour, s=80, zorder=5)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=110, facecolor="white")
    plt.close(fig)
    before, after = (
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3).astype(int)
        for png in (buffer.getvalue(), picture.smaller(buffer.getvalue()))
    )
    for word, verdict in style.VERDICTS.items():
        exact = np.round(255 * np.array(to_rgb(verdict.colour)))
        there = (before == exact).all(1)
        assert there.sum() > 20 and np.abs(after[there] - exact).max() <= 16, word
