"""From cells to verdicts on constructed tables: families, kinds of rate, qualifiers, counts, headlines; and what is published."""

import dataclasses
import json
import runpy
from collections import Counter
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from constructed import (
    CNN,
    CURVES,
    LITE,
    PROBABILITIES,
    WIDE,
    arm,
    at,
    cell_of,
    chosen,
    fill,
    judged,
    one,
    planned,
    with_p,
)
from hypothesis import given, settings
from hypothesis import strategies as hs
from statsmodels.stats.multitest import multipletests

from replication.analysis import statistics as st
from replication.claims import judge as J
from replication.claims import registry, tiers
from replication.claims.claim import CONTRADICTED, NOT_ASSESSABLE, NOT_JUDGED, NOT_RUN, REPLICATED, UNDECIDED, WORDS
from replication.claims.papers import majorities
from replication.claims.registry import CLAIMS
from replication.claims.verdict import Unit
from replication.results import frame as frame_module
from replication.results import published
from replication.results.frame import frame, values, with_defaults
from replication.run import FACTORS, Run
from replication.study.design import EXPLORATORY, PRIMARY, SECONDARY, SHOWN, Cell

REP, CON, OPEN, NA, NOT = REPLICATED, CONTRADICTED, UNDECIDED, NOT_ASSESSABLE, NOT_RUN
BARE = {"kinds": ("own",), "options": (), "seeds": 20}
IDENTITY = cell_of("base", "plantvillage/apple@160", "vgg19:imagenet", **BARE)
CLOSE = cell_of("base", "plantvillage/tomato@128", "resnet_cntk:imagenet", **BARE)
FROZEN = cell_of("base", "plantvillage/tomato@160", LITE, **BARE)
RELATED = cell_of("base", "cifar10/1v1", LITE, **BARE)
DIGITS = cell_of("base", "digits", CNN, **BARE)
TOP = (IDENTITY, CLOSE, FROZEN, RELATED, DIGITS)
BESIDE = tuple(cell_of("base", f"plantvillage/{crop}@160", LITE, **BARE) for crop in ("apple", "pepper"))
GAINS = {"r": 0.5, "c": 0.0, "u": 0.05, "n": np.nan}


def cell(setting, network=LITE, role=SECONDARY, **changes):
    return Cell(setting, network, role, **{"seeds": 20, "kinds": ("own",)} | changes)


def words(claim, cells, kinds):
    """Puts that give the cells these words, by their initials."""
    return [put for c, k in zip(cells, kinds, strict=True) for put in at(c, arm(GAINS[k]))]


def headline(cells, kinds):
    return judged("base", cells, *words("base", cells, kinds)).headlines[0]


# --- Runs that are missing --------------------------------------------------------------------------


def test_cells_without_all_their_runs_are_not_run_and_say_how_many():
    def drop(table):
        lost = table["seed"].isin([103, 105]) & (table["cell_setting"] == DIGITS.setting) & (table["arm"] == "plain")
        return table.assign(f1_minority=table["f1_minority"].where(~lost))

    found = judged("base", (DIGITS, FROZEN), arm(0.5), drop=drop).cells
    assert [(c.word, c.done) for c in found] == [(NOT, 18), (REP, 20)]
    assert found[0].reason == "18 of 20 seeds" and not found[0].measures


@pytest.mark.parametrize("claim", CLAIMS)
def test_without_any_result_a_claim_is_not_run(claim):
    plan = CLAIMS[claim]
    for results in (pd.DataFrame(), published.read(["cracks"])):
        with mock.patch("replication.study.rates.chosen_rates", lambda kind="grid": {}):
            empty = J.judge(plan, J.plan_frame(plan, plan.cells, results))  # no rates: no rows at all
        assert {c.word for c in empty.cells} <= {NOT, NOT_JUDGED} and {h.word for h in empty.headlines} == {NOT}
    first = next(c for c in plan.cells if c.role == PRIMARY)
    with chosen():
        data = J.plan_frame(plan, [first], pd.DataFrame())  # rates, but no results
        assert J.judge(plan, data, [first]).cells[0].word == NOT


def test_a_kind_of_rate_that_is_not_run_is_said_and_leaves_the_word():
    def drop(table):
        return table.assign(
            f1_minority=table["f1_minority"].where((table["rate"] != "shared") | (table["seed"] != 104))
        )

    c = dataclasses.replace(FROZEN, kinds=("own", "shared", "default"))
    found = judged("base", (c,), arm(0.5), drop=drop).cells[0]
    assert {kind: d.word for kind, d in found.decisions.items()} == {"own": REP, "shared": NOT, "default": REP}
    assert found.word == REP and found.decisions["shared"].reason == "19 of 20 seeds"
    assert not any("rate-dependent" in q for q in found.qualifiers)


@pytest.mark.parametrize("score, word", [(0.055, REP), (0.0, OPEN), (np.nan, NOT)])
def test_a_diverged_run_counts_as_zero_and_a_missing_one_as_not_run(score, word):
    assert one("base", FROZEN, arm(np.array([score] + [0.055] * 19))).word == word


@pytest.mark.parametrize(
    "c, enough", [(FROZEN, 20), (DIGITS, 20), (RELATED, 20), (CLOSE, 10), (cell("cracks", CNN), 10)]
)
def test_least_seeds(c, enough):
    assert J.least_seeds(c) == enough
    for seeds, word in ((enough, REP), (enough - 1, OPEN), (1, OPEN)):
        found = one("base", dataclasses.replace(c, seeds=seeds), arm(0.5))
        assert found.word == word and (word == REP) != (f"at least {enough} seeds" in found.reason)


def test_fewer_seeds_at_more_epochs_do_not_weaken_the_word_at_10():
    c = dataclasses.replace(FROZEN, options=(("epochs", (30, 100)), ("long_seeds", (5,))))
    assert one("base", c, arm(0.5)).word == REP


def test_results_that_cannot_be_paired_are_refused():
    removal = cell_of("removal", "digits", **BARE)
    table = planned("removal", (removal,))
    with pytest.raises(ValueError, match="20 seeds, found 19"):
        J.judge(CLAIMS["removal"], table[(table["readout"] != "bn_removed") | (table["seed"] != 103)], [removal])
    with pytest.raises(KeyError, match="nobody"):
        values(table, "nobody")
    entries = [(("digits", CNN), e) for e in entries_of("removal", removal)]
    results = pd.DataFrame({**vars(e.run), "readout": "as_trained", "f1_minority": 0.0} for _, e in entries)
    with pytest.raises(ValueError, match="one result"):
        frame(entries, pd.concat([results, results[:1]]))


def entries_of(claim, c):
    with chosen():
        return CLAIMS[claim].entries(c)


def test_results_without_macro_f1_say_nothing_of_it():
    for drop in (lambda t: t.drop(columns="f1_macro"), lambda t: t.assign(f1_macro=np.nan)):
        found = judged("base", (FROZEN,), arm(0.5), drop=drop).cells[0]
        assert (found.word, found.macro) == (REP, "")


# --- Qualifiers ---------------------------------------------------------------------------------------


def at_rates(**gains):
    return [arm(GAINS[k], rate=kind) for kind, k in gains.items()]


@pytest.mark.parametrize(
    "gains, word, said",
    [
        ({"own": "r", "shared": "r", "default": "r"}, REP, None),
        ({"own": "r", "shared": "c", "default": "r"}, REP, "contradicted at both arms at plain's best"),
        ({"own": "r", "shared": "u", "default": "c"}, REP, "contradicted at both arms at 0.001"),
        (
            {"own": "c", "shared": "r", "default": "r"},
            CON,
            "replicated at both arms at plain's best and both arms at 0.001",
        ),
        ({"own": "r", "shared": "u", "default": "u"}, REP, None),
        ({"own": "u", "shared": "c", "default": "r"}, OPEN, None),
    ],
)
def test_rate_dependent_is_the_opposite_word_at_another_kind_of_rate(gains, word, said):
    found = one("base", dataclasses.replace(FROZEN, kinds=("own", "shared", "default")), *at_rates(**gains))
    said_there = [q for q in found.qualifiers if q.startswith("rate-dependent")]
    assert found.word == word and len(said_there) == bool(said) and (not said or said in said_there[0])


@pytest.mark.parametrize(
    "claim, setting, network, kind", [("base", "digits", CNN, "wide"), ("ratio", "digits", LITE, "base")]
)
def test_wide_rates_and_those_of_the_base_ratio_are_kinds_too(claim, setting, network, kind):
    c = cell_of(claim, setting, network, kinds=("own", kind), seeds=20, options=())
    peak = [arm(0.5, level=10, rate=kind)] if claim == "ratio" else [arm(0.0, rate=kind)]
    found = one(claim, c, arm(0.4), *([arm(0.2, rate=kind)] if claim == "ratio" else []), *peak)
    assert (found.word, found.decisions[kind].word) == ((CON, REP) if claim == "ratio" else (REP, CON))
    assert any(q.startswith("rate-dependent") for q in found.qualifiers)


def test_curves_are_tuned_at_every_level_and_published_ones_at_1000_to_10():
    for setting, network, apart in (("digits", LITE, True), ("digits", CNN, False)):
        entries = entries_of("ratio", cell_of("ratio", setting, network, seeds=1))
        rates = {(e.kind, e.arm, e.level): e.run.learning_rate for e in entries if e.variant == "minority varied"}
        assert (rates["own", "plain", 20] != rates["own", "plain", 10]) == apart
        if apart:
            assert rates["base", "plain", 20] == rates["base", "plain", 10] == rates["own", "plain", 10]
            assert rates["shared", "final_bn", 20] == rates["own", "plain", 20]


@pytest.mark.parametrize(
    "late, later, said",
    [
        (0.5, 0.5, set()),
        (0.0, 0.5, {"gone at 30 epochs"}),
        (0.0, 0.04, {"gone at 30 epochs", "gone at 100 epochs"}),
        (0.05, WIDE, set()),
        (np.nan, 0.0, {"gone at 100 epochs"}),
        (0.5, np.nan, {"not trained beyond 30 epochs"}),
        (np.nan, np.nan, {"not trained beyond 10 epochs"}),
    ],
)
def test_gone_and_not_trained_beyond(late, later, said):
    c = dataclasses.replace(FROZEN, options=(("epochs", (30, 100)),))
    puts = arm(0.5, variant=""), arm(late, variant="longer", level=30), arm(later, variant="longer", level=100)
    found = one("base", c, *puts)
    assert found.word == REP and {q for q in found.qualifiers if "epochs" in q} == said
    lost = one("base", c, arm(0.0), arm(0.0, variant="longer", level=30))
    assert lost.word == CON and not any("gone" in q for q in lost.qualifiers)


@pytest.mark.parametrize(
    "single, double, word, said",
    [
        (0.5, 0.2, CON, True),
        (0.5, 0.5, CON, False),
        (0.5, 0.45, CON, False),
        (0.5, 0.0, REP, False),
        (0.2, 0.5, CON, False),
    ],
)
def test_attenuated(single, double, word, said):
    c = cell_of("majorities", "plantvillage/tomato@160", LITE, kinds=("own",))
    found = one("majorities", c, arm(single, level=1), arm(double, level=2))
    assert found.word == word and any("attenuated" in q for q in found.qualifiers) == said


@pytest.mark.parametrize(
    "claim, scores, macro, word, seen",
    [
        ("base", {}, 0.5, REP, "shown"),
        ("base", {}, 0.05, REP, "not shown"),
        ("base", {}, 0.0, REP, "contradicted"),
        ("removal", {"bn_removed": 0.5}, {"bn_removed": 0.5, "as_trained": 0.5}, REP, "shown"),
        ("removal", {"bn_removed": 0.5}, {"bn_removed": 0.0, "as_trained": 0.5}, REP, "contradicted"),
        ("removal", {"bn_removed": 0.5}, {"bn_removed": 0.5, "as_trained": 1.0}, REP, "not shown"),
        ("removal", {"bn_removed": 0.0}, 0.5, CON, ""),
    ],
)
def test_macro_f1_stands_beside_what_rests_on_an_effect_above_its_margin(claim, scores, macro, word, seen):
    c = cell_of(claim, "plantvillage/tomato@160", LITE, **BARE)
    by_readout = macro if isinstance(macro, dict) else {"as_trained": macro, "bn_removed": macro}
    puts = [arm(0.5), *(arm(v, readout=r) for r, v in scores.items())]
    puts += [arm(v, column="f1_macro", readout=r) for r, v in by_readout.items()]
    found = one(claim, c, *puts)
    assert (found.word, found.macro, "not in macro F1" in found.qualifiers) == (word, seen, seen == "contradicted")


@pytest.mark.parametrize("macro, seen", [("peak", "shown"), ("flat", "contradicted"), ("open", "not shown")])
def test_macro_f1_of_a_curve(macro, seen):
    c = cell_of("ratio", "digits", LITE, **BARE)
    level = {"peak": 0.9, "flat": 0.5, "open": 0.55}[macro]
    puts = arm(0.5), arm(0.9, level=10), arm(level, column="f1_macro", level=10)
    found = one("ratio", c, *puts)
    assert (found.word, found.macro) == (REP, seen)


def test_the_gate_looks_at_minority_f1_alone():
    c = cell_of("removal", "plantvillage/tomato@160", LITE, **BARE)
    assert one("removal", c, arm(0.5), arm(0.0, column="f1_macro")).word == REP
    assert one("removal", c, arm(0.5, column="f1_macro")).word == NA


@pytest.mark.parametrize(
    "rates, said",
    [
        ({}, ""),
        ({"plain": 1.0}, "of plain lies"),
        ({"other": 1e-5}, "of final_bn lies"),
        ({"plain": 1.0, "other": 1e-5}, "final_bn and plain"),
    ],
)
def test_grid_end(rates, said):
    found = [q for q in one("base", FROZEN, arm(0.5), **rates).qualifiers if q.startswith("grid end")]
    assert (said in found[0]) if said else not found


def test_after_the_fact_and_explored():
    for c, said in ((DIGITS, "after the fact"), (FROZEN, None), (BESIDE[0], "explored"), (BESIDE[1], "explored")):
        found = one("base", c, arm(0.5)).qualifiers
        assert {q for q in found if q in ("after the fact", "explored")} == ({said} if said else set())


def test_tiers_and_what_was_explored():
    for name, network, tier, seen in (
        ("plantvillage/apple@160", "vgg19:imagenet", "identity", False),
        ("plantvillage/tomato@96", "resnet34:imagenet", "identity", False),
        ("plantvillage/apple@64", "resnet34:imagenet", "conceptual", False),
        ("plantvillage/apple@160", "vgg19_bn:imagenet", "close", False),
        ("plantvillage/apple@96", "efficientnet_lite0:imagenet", "close", True),
        ("plantvillage/apple", LITE, "frozen", True),
        ("plantvillage/tomato/2v1@160", LITE, "frozen", False),
        ("plantvillage/apple@160", "vgg19:imagenet:head", "frozen", False),
        ("skin@160", LITE, "related", True),
        ("digits", "resnet_cntk:imagenet", "related", False),
        ("cifar10", LITE, "related", False),
        ("plantvillage/apple", "resnet34:random", "conceptual", False),
        ("plantvillage/apple", "resnet34:other_crops", "conceptual", False),
        ("digits", CNN, "conceptual", False),
        ("plantvillage/pepper@128", "resnet_cntk:imagenet", "close", False),
        ("plantvillage/pepper@224", LITE + "+fastai", "frozen", True),
    ):
        assert (tiers.tier(Cell(name, network)), tiers.explored(Cell(name, network))) == (tier, seen), (name, network)


def test_what_has_no_rates_of_its_own_is_shown_not_judged():
    for c in (
        cell("plantvillage/tomato@128", "resnet_cntk:imagenet+fastai", SHOWN, kinds=("default",)),
        cell("plantvillage/apple@160", kinds=("default",)),
    ):
        found = judged("base", (c,), arm(0.5))
        assert found.cells[0].word == NOT_JUDGED and found.cells[0].done == 20
        assert found.cells[0].measures["default"]["gain"].d.mean() == pytest.approx(0.5)


# --- Families -----------------------------------------------------------------------------------------


def p_above(judgement):
    return [c.measures["own"]["gain"].adjusted[0] for c in judgement.cells]


def test_families_are_adjusted_by_holm():
    raw = (0.03, 0.004, 0.02)
    cells = (*BESIDE, cell_of("base", "plantvillage/tomato@160", "resnet_cntk:imagenet:head", **BARE))
    found = judged("base", cells, *(put for c, p in zip(cells, raw) for put in at(c, arm(with_p(p, 20)))))
    assert p_above(found) == pytest.approx(multipletests(raw, method="holm")[1])
    assert [c.word for c in found.cells] == [REP] * 3


@pytest.mark.parametrize("others, word", [((), REP), ((0.001,), REP), ((0.04,), OPEN), ((None,), OPEN)])
def test_a_cell_beside_is_adjusted_over_its_family_and_unrun_ones_count_as_1(others, word):
    cells = BESIDE[: 1 + len(others)]
    puts = [put for c, p in zip(cells, (0.03, *others)) for put in at(c, arm(np.nan if p is None else with_p(p, 20)))]
    assert judged("base", cells, *puts).cells[0].word == word


@pytest.mark.parametrize("lead", TOP)
def test_no_other_cell_changes_what_a_primary_cell_says(lead):
    alone = judged("base", (lead,), *at(lead, arm(with_p(0.03, 20)))).cells[0]
    others = tuple(c for c in (*TOP, *BESIDE) if c != lead) + (
        cell("skin@160", version=2),
        cell("cracks@128", role=EXPLORATORY),
    )
    for k in "rcn":
        among = judged(
            "base", (*others, lead), *words("base", others, k * len(others)), *at(lead, arm(with_p(0.03, 20)))
        ).cells[-1]
        assert (among.word, among.qualifiers) == (alone.word, alone.qualifiers) == (REP, alone.qualifiers)
        assert among.measures["own"]["gain"].adjusted == alone.measures["own"]["gain"].adjusted


def test_which_cells_are_a_family():
    def family(*args, claim="base", **kwargs):
        return J.family(CLAIMS[claim], Unit(cell(*args, **kwargs)))

    apple, pepper, skin = (family(s) for s in ("plantvillage/apple@160", "plantvillage/pepper@160", "skin@160"))
    assert apple == pepper != skin
    assert family("skin@160", version=2) == family("plantvillage/apple@160", version=3) not in (apple, skin)
    assert (
        family("cracks", CNN, version=0)
        == family("plantvillage/apple", "resnet34:random", version=0)
        not in (apple, skin)
    )
    alone = [family("skin@160", role=role) for role in (PRIMARY, EXPLORATORY, SHOWN)]
    assert len({*alone, apple, skin}) == 5
    other = [family(s, claim="generality") for s in ("digits", "cracks@128", "skin@160", "cifar10/1v1")]
    assert {*other} == {("other data",)} and family("plantvillage/apple@160", claim="generality") == apple


def test_added_cells_are_one_family_and_leave_the_first_as_it_was():
    added = tuple(cell(s, version=v) for s, v in (("skin@160", 2), ("cracks@128", 2), ("digits", 3)))
    puts = [put for c in (*BESIDE, *added) for put in at(c, arm(with_p(0.02, 20)))]
    first, two, three = (judged("base", (*BESIDE, *added[:n]), *puts) for n in (0, 2, 3))
    assert p_above(first) == pytest.approx([0.04] * 2) and p_above(two)[:2] == p_above(three)[:2] == p_above(first)
    assert p_above(two)[2:] == pytest.approx([0.04] * 2) and p_above(three)[2:] == pytest.approx([0.06] * 3)
    assert [c.word for c in three.cells] == [REP, REP, OPEN, OPEN, OPEN]


def test_exploratory_cells_are_judged_alone_and_change_no_family():
    extra = cell("plantvillage/tomato@160", "resnet_cntk:imagenet:head", EXPLORATORY)
    puts = [put for c in (*BESIDE, extra) for put in at(c, arm(with_p(0.02, 20)))]
    assert p_above(judged("base", (*BESIDE, extra), *puts)) == pytest.approx([0.04, 0.04, 0.02])


def test_kinds_of_rate_are_families_of_their_own():
    """A cell at own rates alone is no part of the family at shared rates."""
    both = dataclasses.replace(BESIDE[0], kinds=("own", "shared"))
    puts = [arm(with_p(0.02, 20))]
    found = judged("base", (both, BESIDE[1]), *puts).cells[0].measures
    assert [found[kind]["gain"].adjusted[0] for kind in ("own", "shared")] == pytest.approx([0.04, 0.02])


def test_curves_of_a_family_share_alpha_by_bonferroni():
    pair = tuple(cell(s, kinds=("own",), options=()) for s in ("plantvillage/apple@160", "plantvillage/pepper@160"))
    gains = np.random.default_rng(0).normal(0.5, 0.1, 20)
    two, lone = (
        judged("ratio", pair, arm(0.4), arm(gains, level=10)),
        judged("ratio", pair[:1], arm(0.4), arm(gains, level=10)),
    )
    a, b = two.cells[0].measures["own"]["curve"], lone.cells[0].measures["own"]["curve"]
    assert (a.tests, b.tests) == (2, 1)
    assert a.pairs.high == pytest.approx(st.pairwise(a.D, 1 - 0.05 / 2).high) and (a.pairs.high >= b.pairs.high).all()
    unrun = judged("ratio", pair, *at(pair[0], arm(0.4)), *at(pair[1], arm(np.nan)))
    assert unrun.cells[0].measures["own"]["curve"].tests == 2


# --- Headline and counts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kinds, word, tier, beside",
    [
        ("rccnn", REP, "identity", ()),
        ("nrccc", REP, "close", ("identity: not tested",)),
        ("nucrr", OPEN, "close", ("identity: not tested",)),
        ("nncrr", CON, "frozen", ("identity: not tested", "close: not tested")),
        ("nnnrc", REP, "related", ("identity: not tested", "close: not tested", "frozen: not tested")),
        ("nnnnr", REP, "conceptual", tuple(f"{t}: not tested" for t in ("identity", "close", "frozen", "related"))),
        ("nnnnn", NOT, "", tuple(f"{t}: not tested" for t in tiers.TIERS)),
    ],
)
def test_the_highest_tier_whose_primary_cell_has_its_runs_leads(kinds, word, tier, beside):
    for cells, letters in ((TOP, kinds), (TOP[::-1], kinds[::-1])):
        found = headline(cells, letters)
        assert (found.word, found.tier, found.beside) == (word, tier, beside)


def test_a_higher_tier_that_lacks_runs_says_how_many_it_has():
    some = np.array([0.5] * 12 + [np.nan] * 8)
    found = judged("base", TOP, *words("base", TOP, "nncrr"), *at(CLOSE, arm(some))).headlines[0]
    assert (found.tier, found.beside) == ("frozen", ("identity: not tested", "close: 12 of 20 seeds"))


def test_not_assessable_is_a_headline():
    cells = tuple(cell_of("removal", c.setting, c.network, **BARE) for c in TOP)
    found = judged("removal", cells, *words("removal", cells, "nccrr")).headlines[0]
    assert (found.word, found.tier) == (NA, "close")


def test_a_cell_after_the_fact_leads_only_where_no_registered_one_has_its_runs():
    after = dataclasses.replace(CLOSE, version=0)
    assert headline((after, RELATED), "rc").tier == "related"
    assert headline((after, RELATED), "rn").tier == "close"
    assert headline((dataclasses.replace(DIGITS, version=1), RELATED), "rc").tier == "related"


def test_neither_secondary_nor_exploratory_nor_added_cells_move_a_headline():
    lead = headline((FROZEN, DIGITS), "cr")
    for extra in (
        BESIDE[0],
        cell("plantvillage/apple@160", "vgg19:imagenet", PRIMARY, version=2),
        cell("plantvillage/apple@128", "resnet_cntk:imagenet", EXPLORATORY),
    ):
        for k in "rn":
            found = headline((extra, FROZEN, DIGITS), k + "cr")
            assert (found.word, found.tier, found.reason, found.beside) == (
                lead.word,
                lead.tier,
                lead.reason,
                lead.beside,
            )


def test_longer_training_that_is_missing_holds_no_headline_up():
    c = dataclasses.replace(FROZEN, options=(("epochs", (30,)),))
    found = judged("base", (c,), arm(0.5), arm(np.nan, variant="longer")).headlines[0]
    assert (found.word, found.tier) == (REP, "frozen")


def test_counts_take_images_body_and_part_once_and_leave_out_the_headline():
    cells = (
        FROZEN,
        cell("plantvillage/tomato@160", LITE + "+fastai"),  # the headline's images, body and part
        BESIDE[0],
        cell("plantvillage/apple@128"),  # the same at another size
        cell("plantvillage/apple@160", LITE + "+fastai"),
        cell("plantvillage/apple@160", "resnet_cntk:imagenet:head"),
        cell("plantvillage/apple@128", "resnet_cntk:imagenet"),
        cell("skin@160"),
        cell("cracks@128", role=EXPLORATORY),
        cell("plantvillage/pepper@160", version=2),
        cell("plantvillage/pepper@128"),  # the first registered counts
    )
    found = judged("base", cells, *words("base", cells, "rrrccunrrrr")).counts()
    none = {"identity": Counter(), "conceptual": Counter()}
    assert found == none | {
        "frozen": Counter({REP: 2, OPEN: 1}),
        "close": Counter({NOT: 1}),
        "related": Counter({REP: 1}),
    }


def test_counts_take_variants_of_majorities_once():
    apple, digits = (cell_of("majorities", s, kinds=("own",)) for s in ("plantvillage/apple", "digits"))
    found = judged("majorities", (digits, apple), arm(0.5))
    assert len(found.cells) == 8 and found.counts()["conceptual"] == Counter({CON: 1})
    assert [c.unit.variant for c in found.cells[:4]] == list(majorities.VARIANTS)
    assert found.headlines[0].lead.unit.variant == majorities.VARIANTS[0]
    assert [c.unit.may_lead for c in found.cells] == [True] + [False] * 7


GROUPS = {
    "other data": ("digits", "cracks@128", "skin@160", "cifar10/1v1"),
    "simpler networks": ("digits", "cracks", "skin", "cifar10"),
}


@pytest.mark.parametrize(
    "kinds, word",
    [
        ("rrrr", REP),
        ("rrrc", REP),
        ("rrru", REP),
        ("rrcc", OPEN),
        ("rruc", OPEN),
        ("uuur", OPEN),
        ("cccr", CON),
        ("cccc", CON),
        ("rrrn", REP),
        ("rrnn", NOT),
        ("rrcn", NOT),
        ("nnnn", NOT),
    ],
)
def test_generality_takes_three_of_four_cells(kinds, word):
    for part, network in (("other data", LITE), ("simpler networks", CNN)):
        cells = tuple(cell_of("generality", s, network, **BARE) for s in GROUPS[part])
        found = judged("generality", cells, *words("generality", cells, kinds))
        assert [(h.part, h.word) for h in found.headlines] == [(part, word)]


def test_generality_has_two_words_and_other_cells_have_no_part_in_them():
    cells = tuple(
        cell_of("generality", s, n, **BARE)
        for part, n in (("other data", LITE), ("simpler networks", CNN))
        for s in GROUPS[part]
    )
    extra = (
        cell("skin@224", role=EXPLORATORY),
        cell("cracks@64", CNN, EXPLORATORY),
        cell("digits", "mlp", version=0),
        cell("cifar10", LITE, version=2),
        cell("plantvillage/apple", CNN, version=0),
    )
    alone = judged("generality", cells, *words("generality", cells, "rrrccccr"))
    among = judged("generality", cells + extra, *words("generality", cells + extra, "rrrccccr" + "ccrcr"))
    assert [(h.part, h.word) for h in alone.headlines] == [("other data", REP), ("simpler networks", CON)]
    assert among.headlines == alone.headlines and alone.word == OPEN
    assert [c.measures["own"]["gain"].adjusted for c in among.cells[:8]] == [
        c.measures["own"]["gain"].adjusted for c in alone.cells
    ]


def test_generality_is_adjusted_over_its_four_cells():
    cells = tuple(cell_of("generality", s, LITE, **BARE) for s in GROUPS["other data"])
    found = judged(
        "generality", cells, *(put for c, p in zip(cells, (0.01, 0.02, 0.03, 0.2)) for put in at(c, arm(with_p(p, 20))))
    )
    assert p_above(found) == pytest.approx(multipletests((0.01, 0.02, 0.03, 0.2), method="holm")[1])
    assert found.headlines[0].word == OPEN


# --- Whatever the table ---------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(
    claim=hs.sampled_from([*CLAIMS]),
    seed=hs.integers(0, 2**32 - 1),
    seeds=hs.sampled_from([1, 2, 9, 20]),
    hole=hs.booleans(),
)
def test_any_table_gets_one_verdict_whatever_its_order(claim, seed, seeds, hole):
    rng = np.random.default_rng(seed)
    cells = tuple(
        dataclasses.replace(c, seeds=seeds, kinds=("own", "shared"), options=())
        for c in CLAIMS[claim].cells
        if (c.setting, c.network) in (("digits", CNN), ("plantvillage/tomato@160", LITE), ("digits", LITE))
    )
    table = planned(claim, cells).copy()
    for name in ("f1_minority", "f1_macro", *PROBABILITIES):
        table[name] = rng.choice([0.0, 0.05, 0.1, 0.9, 1.0, rng.random()], len(table))
        table.loc[rng.random(len(table)) < (not name.startswith("f1")) * 0.02, name] = np.nan
    for name in CURVES:
        table[name] = list(rng.choice([0.0, 0.8, 0.9, np.nan], (len(table), 3)))
    table.loc[table.index[:1], "f1_minority"] = np.nan if hole else 0.0
    with chosen():
        first, again = (J.judge(CLAIMS[claim], t, cells) for t in (table, table.sample(frac=1, random_state=seed)))
    assert {c.word for c in first.cells} | {h.word for h in first.headlines} <= {*WORDS}
    assert [(c.word, c.reason, c.qualifiers, c.macro) for c in first.cells] == [
        (c.word, c.reason, c.qualifiers, c.macro) for c in again.cells
    ]
    assert [h.word for h in first.headlines] == [h.word for h in again.headlines]
    assert {row["rate"] for row in J.effects(first)} <= {"own", "shared"}


def test_the_table_of_effects():
    found = judged("base", BESIDE, arm(with_p(0.02, 20)))
    rows = [row for row in J.effects(found) if row["effect"] == "gain"]
    assert [row["p above"] for row in rows] == pytest.approx([0.04] * 2)
    d = with_p(0.02, 20)
    for row in rows:
        assert (row["n"], row["mean"], row["low"], row["high"]) == pytest.approx((20, d.mean(), *st.bca(d)))


# --- What has been published ------------------------------------------------------------------------------

WORDS_OF_PUBLISHED = {
    "base": {
        "digits": REP,
        "plantvillage/apple": REP,
        "plantvillage/pepper": REP,
        "cracks": OPEN,
        "skin": REP,
        "cifar10": REP,
        "plantvillage/apple@64": REP,
        "resnet34:random": REP,
        "resnet34:other_crops": REP,
    },
    "removal": {
        "digits": CON,
        "plantvillage/apple": OPEN,
        "plantvillage/pepper": OPEN,
        "cracks": OPEN,
        "skin": OPEN,
        "cifar10": REP,
        "resnet34:random": REP,
        "resnet34:other_crops": REP,
    },
    "ratio": {"digits": REP, "plantvillage/apple": OPEN},
    "batch_size": {"digits": REP, "plantvillage/apple": REP},
    "generality": {
        "digits": REP,
        "plantvillage/apple": REP,
        "plantvillage/pepper": REP,
        "cracks": OPEN,
        "skin": REP,
        "cifar10": REP,
        "mlp": REP,
        "logistic": CON,
    },
    "majorities": {"digits": CON, "plantvillage/apple": CON, "plantvillage/tomato": CON, "cifar10": CON},
    "sigmoid": {
        "digits": CON,
        "plantvillage/apple": CON,
        "plantvillage/pepper": CON,
        "cracks": OPEN,
        "skin": CON,
        "cifar10": CON,
    },
    "confidence": {
        "digits": REP,
        "plantvillage/apple": REP,
        "plantvillage/pepper": REP,
        "cracks": OPEN,
        "skin": REP,
        "cifar10": REP,
        "resnet34:random": REP,
        "resnet34:other_crops": REP,
    },
    "loss_choice": {
        "digits": CON,
        "plantvillage/apple": CON,
        "plantvillage/pepper": CON,
        "cracks": OPEN,
        "skin": OPEN,
        "cifar10": OPEN,
        "resnet34:random": CON,
        "resnet34:other_crops": CON,
    },
    "training_time": {"digits": REP},
}
"""the words of the cells that were published before the second rules, of `majorities` that of the first variant"""
RATE_DEPENDENT = {("base", "skin"), ("generality", "skin")}


def first_cells(claim):
    return tuple(c for c in CLAIMS[claim].cells if not c.version)


@pytest.fixture(scope="module")
def results():
    return published.read()


@pytest.fixture(scope="module")
def of_published(results):
    return {n: J.judge(c, J.plan_frame(c, first_cells(n), results), first_cells(n)) for n, c in CLAIMS.items()}


def name_of(c):
    return c.setting if c.network == CNN else c.network


@pytest.mark.parametrize("claim", CLAIMS)
def test_published_cells_keep_their_words(of_published, claim):
    cells = [c for c in of_published[claim].cells if claim != "majorities" or c.unit.variant == majorities.VARIANTS[0]]
    assert {name_of(c.cell): c.word for c in cells} == WORDS_OF_PUBLISHED[claim]
    assert all("after the fact" in c.qualifiers for c in cells)
    found = {(claim, name_of(c.cell)) for c in cells if any(q.startswith("rate-dependent") for q in c.qualifiers)}
    assert found == {pair for pair in RATE_DEPENDENT if pair[0] == claim}


def test_cells_registered_since_move_no_word_of_the_published(results, of_published):
    """Nor a headline, as long as they have not been run."""
    for name in ("removal", "generality", "majorities"):
        plan = CLAIMS[name]
        data = J.plan_frame(plan, first_cells(name), results)
        among = {c.unit: c.word for c in J.judge(plan, data).cells}
        assert {c.unit: c.word for c in of_published[name].cells} == {
            u: w for u, w in among.items() if not u.cell.version
        }


V1_VARIANTS = {("1", True): 0, ("2", True): 1, ("1", False): 2, ("2", False): 3}


def test_means_are_those_of_the_first_rules(of_published):
    """Every effect of `verdicts-v1.json` that is still measured has its mean and its number of seeds."""
    recorded = json.loads((published.folder() / "verdicts-v1.json").read_text())
    compared = 0
    for claim, judgement in of_published.items():
        here = {}
        for c in judgement.cells:
            where = (c.cell.setting, c.cell.network, c.unit.variant if claim == "majorities" else "")
            here |= {(*where, kind, name): e for kind, m in c.measures.items() for name, e in m.items()}
        old = recorded["uncertainty" if claim in ("confidence", "loss_choice") else claim]
        for row in old["effects"]:
            setting, network, *rest = row["cell"].split(" / ")
            variant = majorities.VARIANTS[V1_VARIANTS[rest[0][0], "total" in rest[0]]] if rest else ""
            if (e := here.get((setting, network, variant, row["rate"], row["effect"]))) is not None:
                assert (e.n, e.d.mean()) == (row["n"], pytest.approx(row["mean"], abs=1e-6)), (claim, row)
                compared += 1
        names = {row["effect"] for row in old["effects"]} - {"final_bn_censored"}
        assert names <= {key[-1] for key in here} | (
            {"f1_at_least_loss_minus_last"} if claim == "confidence" else names if claim == "loss_choice" else set()
        )
    assert compared > 350


def same(a, b):
    return [(c.unit, c.word, c.reason, c.qualifiers) for c in a.cells] == [
        (c.unit, c.word, c.reason, c.qualifiers) for c in b.cells
    ]


def test_a_new_factor_changes_no_verdict(results, of_published):
    """Results that lack its column have its default, which is in no key."""

    @dataclasses.dataclass(frozen=True)
    class More(Run):
        colour: str = "green"

    assert More().key("data") == Run().key("data")
    factors = (*FACTORS, "colour")
    with (
        mock.patch.object(frame_module, "Run", More),
        mock.patch.object(frame_module, "FACTORS", factors),
        mock.patch("replication.study.design.Run", More),
    ):
        wider = with_defaults(results)
        assert set(wider["colour"]) == {"green"}
        for name in ("removal", "training_time"):
            plan = CLAIMS[name]
            assert same(
                J.judge(plan, J.plan_frame(plan, first_cells(name), wider), first_cells(name)), of_published[name]
            )


def test_files_older_than_a_factor_give_the_same_verdicts(results, of_published):
    defaults = {f.name: f.default for f in dataclasses.fields(Run)}
    unused = [
        n
        for n in ("trained", "input_side", "optimizer", "weight_decay", "shift", "shift_rate", "ghost_batch")
        if (results[n] == defaults[n]).all()
    ]
    older = with_defaults(results[results["trained"] == "all"].drop(columns=unused))
    plan = CLAIMS["confidence"]
    assert same(
        J.judge(plan, J.plan_frame(plan, first_cells("confidence"), older), first_cells("confidence")),
        of_published["confidence"],
    )


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_a_new_setting_network_or_result_changes_no_verdict(results, of_published):
    from replication.data.settings import SETTINGS
    from replication.study.networks import IMAGENET_BODIES, SMALL_BODIES

    more = results[results["setting"] == "cracks"].assign(setting="rust", key="other")
    with (
        mock.patch.dict(SETTINGS, rust=dataclasses.replace(SETTINGS["cracks"], name="rust")),
        mock.patch.dict(SMALL_BODIES, tiny="tiny"),
        mock.patch.dict(IMAGENET_BODIES, huge="huge"),
    ):
        for name, plan in CLAIMS.items():
            fresh = runpy.run_module(f"replication.claims.papers.{name}")["CLAIM"]
            assert fresh.cells == plan.cells
        found = J.judge(
            CLAIMS["removal"],
            J.plan_frame(CLAIMS["removal"], first_cells("removal"), pd.concat([results, more])),
            first_cells("removal"),
        )
    assert same(found, of_published["removal"])


def test_a_cell_without_entries_of_its_own_plans_nothing_expensive():
    """Longer trainings are planned by name alone: what no table knows costs what the base pair costs."""
    for name in set(CLAIMS) - {"training_time"}:  # which is about 100 epochs
        for cell in registry.cells(name, ["folder:/nowhere@32"], ["simple_cnn"], seeds=1):
            runs = [
                dict(comparison.factors).get("epochs", Run().epochs) for comparison in registry.plan(name).design(cell)
            ]
            assert runs and set(runs) == {10}, name
    assert registry.searches(["base"], ["folder:/nowhere@32"])[0][0].network == "simple_cnn"
    with pytest.raises(ValueError, match="no cell of network timm/resnet10t"):  # no setting: none is made up
        registry.cells("base", networks=["timm/resnet10t:random"])


def test_fill_puts_scores_where_it_is_told():
    table = fill(planned("base", (DIGITS,)), arm(0.5), arm(np.arange(20.0), "plain", "nll"))
    assert values(table, "final_bn").tolist() == [0.5] * 20 and values(table, "plain", "nll").tolist() == [*range(20)]
