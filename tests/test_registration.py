"""What is registered: which cells with which roles, that the file is what the claims say, only "
"grows, and comes before its runs."""

import copy
import dataclasses
import hashlib
import json
import subprocess
from collections import Counter

import pandas as pd
import pytest

from replication.claims import registration, registry, tiers
from replication.paths import root
from replication.results import published
from replication.results.kept import keeps_logits
from replication.run import FACTORS
from replication.study.design import EXPLORATORY, PRIMARY, SHOWN, pilot_runs
from replication.study.rates import FINE_TUNING_GRID, PILOT_RATES, Place, learning_rate

FILE = "registration.json"
LITE, TOMATO = "efficientnet_lite0:imagenet:head", "plantvillage/tomato@160"
FIRST_FOUR = ("base", "removal", "confidence", "loss_choice")


def git(*arguments):
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=root())
    return done.stdout.strip() if done.returncode == 0 else None


def history():
    """(commit, text) of every committed version of the file, oldest first; skips where there is no history."""
    if git("rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("a shallow clone, or no clone, has no history of the registration")
    commits = (git("log", "--format=%H", "--reverse", "--", FILE) or "").split()
    if not commits:
        pytest.skip("the registration has not been committed yet")
    return [(commit, shown) for commit in commits if (shown := shown_at(commit)) is not None]


def shown_at(commit):
    done = subprocess.run(["git", "show", f"{commit}:{FILE}"], capture_output=True, cwd=root())
    return done.stdout if done.returncode == 0 else None


# --- The plan, against the design -----------------------------------------------------------------


def test_one_primary_cell_a_claim_and_tier():
    found = {
        (name, tiers.tier(c)): (c.setting, c.network, c.seeds)
        for name, p in registry.CLAIMS.items()
        for c in p.cells
        if c.role == PRIMARY and name != "generality"
    }
    wanted = {(n, "identity"): ("plantvillage/apple@160", "vgg19:imagenet", 20) for n in FIRST_FOUR}
    wanted |= {(n, "close"): ("plantvillage/tomato@128", "resnet_cntk:imagenet", 20) for n in FIRST_FOUR}
    judged = [n for n in registry.CLAIMS if n != "generality"]
    seeds = {"sigmoid": 200, "training_time": 20}
    wanted |= {(n, "frozen"): (TOMATO, LITE, seeds.get(n, 60)) for n in judged}
    related = {"ratio": "digits", "batch_size": "digits", "majorities": "cifar10"}
    wanted |= {
        (n, "related"): (related.get(n, "cifar10/1v1"), LITE, seeds.get(n, 60)) for n in judged if n != "training_time"
    }
    published_seeds = {"ratio": 40, "batch_size": 20, "training_time": 20}
    wanted |= {(n, "conceptual"): ("digits", "simple_cnn", published_seeds.get(n, 60)) for n in judged}
    assert found == wanted
    assert sum(c.role == PRIMARY for n in judged for c in registry.CLAIMS[n].cells) == len(wanted)


def test_primary_cells_have_not_been_explored_or_are_what_the_design_names():
    seen = {
        (name, c.setting)
        for name, c in registry.registered()
        if c.role == PRIMARY and name in registry.CLAIMS and tiers.explored(c)
    }
    assert seen == {("ratio", "digits"), ("batch_size", "digits")}


def test_a_claim_names_a_setting_with_a_network_once():
    for name, p in registry.PLANS.items():
        assert max(Counter((c.setting, c.network) for c in p.cells).values()) == 1, name


def test_no_cell_added_later_is_primary():
    assert not [c for p in registry.PLANS.values() for c in p.cells if c.version > 1 and c.role == PRIMARY]


def test_seven_settings_with_two_frozen_bodies():
    settings = {
        *(f"plantvillage/{crop}@160" for crop in ("tomato", "apple", "pepper")),
        "skin@160",
        "cracks@128",
        "cifar10/1v1",
        "digits",
    }
    wanted = {(s, n) for s in settings for n in (LITE, "resnet_cntk:imagenet:head")}
    for name in ("base", "removal", "sigmoid", "confidence", "loss_choice"):
        cells = {(c.setting, c.network): c for c in registry.CLAIMS[name].cells if c.version}
        assert wanted <= cells.keys()
        assert all(cells[pair].kinds == ("own", "shared", "default") and cells[pair].seeds >= 60 for pair in wanted)


def comparisons(claim, setting, network):
    document = registration.document()["cells"]
    (cell,) = (c for c in document if (c["claim"], c["setting"], c["network"]) == (claim, setting, network))
    return cell, {(c["variant"], c["level"]): c for c in cell["comparisons"]}


def test_levels_kinds_and_where_they_are_tuned():
    cell, found = comparisons("ratio", TOMATO, LITE)
    assert [n for v, n in found if v == "minority varied"] == [2, 5, 10, 20, 40, 80, 160, 320]
    assert [n for v, n in found if v == "majority varied"] == [100, 200, 500, 1000]
    assert cell["rates"] == ["own", "shared", "default", "base"]
    assert (
        found["minority varied", 20]["tuned at"] == {"n_minority": 20}
        and found["minority varied", 10]["tuned at"] == {}
    )
    assert found["majority varied", 200]["tuned at"] == {"n_majority": 200}
    _, found = comparisons("batch_size", "digits", LITE)
    assert [n for v, n in found if v == "equal epochs"] == [8, 16, 32, 64, 128, 256, 512]
    assert found["equal epochs", 8]["tuned at"] == {"batch_size": 8}
    for claim, setting, total, pair in (
        ("majorities", TOMATO, 500, ("plantvillage/tomato/1v1@160", "plantvillage/tomato/2v1@160")),
        ("majorities", "cifar10", 1000, ("cifar10/1v1", "cifar10/2v1")),
        ("majorities", "digits", 1000, ("digits/1v1", "digits/2v1")),
    ):
        _, found = comparisons(claim, setting, LITE)
        variant = "one minority class, majority images fixed in total"
        assert [(c["setting"], c["factors"]["n_majority"]) for c in found.values()] == [
            (pair[0], total),
            (pair[1], total // 2),
        ]
        assert found.keys() == {(variant, 1), (variant, 2)} and found[variant, 2]["tuned at"] == {
            "n_majority": total // 2
        }


def test_longer_training_and_pilots():
    _, found = comparisons("base", TOMATO, LITE)
    assert {level: (c["rates"], c["seeds"]) for (v, level), c in found.items() if v == "longer"} == {
        30: (["own"], [100, 159]),
        100: (["own"], [100, 159]),
    }
    cell, found = comparisons("base", "plantvillage/tomato@128", "resnet_cntk:imagenet")
    assert found["longer", 30]["seeds"] == [100, 109] and found["longer", 30]["rates"] == ["own"]
    assert cell["pilots"] == {"rates": [*FINE_TUNING_GRID], "seeds": [*range(5)]} and min(FINE_TUNING_GRID) == 3e-5
    assert comparisons("base", TOMATO, LITE)[0]["pilots"]["seeds"] == [*range(10)]
    assert comparisons("base", "cracks@128", LITE)[0]["network's factors"]["input_side"] == 160


def test_what_came_to_published_cells_is_registered_and_nothing_else_of_them():
    added = [c for c in registration.document()["cells"] if c["version"] == 0]
    assert {(c["claim"], c["setting"]) for c in added} == {
        (claim, s)
        for claim in ("base", "removal", "sigmoid")
        for s in ("plantvillage/apple", "plantvillage/pepper", "cracks", "skin", "cifar10")
    }
    assert all(c["rates"] == ["default"] and [x["rates"] for x in c["comparisons"]] == [["default"]] for c in added)


def asked_for(chosen):
    """The runs that some (plan, cell) ask for, as far as their rates have been chosen."""
    return {e.run for name, cell in chosen for c in registry.plan(name).design(cell) for e in c.chosen()}


def published_first():
    """The runs of the cells that were published before there was a registration, at their first kinds of rate."""
    cells = [(name, c) for name, p in registry.PLANS.items() for c in p.cells if not c.version]
    return asked_for(
        (name, dataclasses.replace(c, kinds=tuple(kind for kind in c.kinds if kind != "default"))) for name, c in cells
    )


def registered_runs():
    """The runs that had to be registered before they were carried out."""
    return asked_for((*registry.registered(), *registry.predicted())) - published_first()


def test_what_version_1_registered_was_not_among_what_was_published_before():
    later = [(name, cell) for name, cell in registry.registered() if cell.version > 1]
    runs = registered_runs() - asked_for((*registry.predicted(), *later))
    assert runs and len(published_first()) > 1000
    assert all(
        run.learning_rate == 1e-3
        or run.trained == "head"
        or run.init == "imagenet"
        or run.final_norm == "bn_fixed_shift"  # an arm that no cell of version 0 has
        for run in runs
    )
    asked = asked_for((name, c) for name, p in registry.PLANS.items() for c in p.cells if not c.version)
    assert not [run for run in asked & runs if run.final_norm == "bn_fixed_shift"]


# --- The file ---------------------------------------------------------------------------------------


def test_the_text_is_json_with_one_cell_a_line():
    text = registration.text()
    document = json.loads(text)
    assert document == json.loads(json.dumps(registration.document())) and text == registration.text()
    lines = [line for line in text.splitlines() if line.startswith('  {"claim"')]
    assert len(lines) == len(document["cells"]) == sum(1 for _ in registry.registered())
    assert {c["role"] for c in document["cells"]} <= {PRIMARY, "secondary", EXPLORATORY, SHOWN}


def test_the_file_is_what_the_claims_say():
    if not registration.file().exists():
        pytest.skip("registration.json has not been written yet")
    assert registration.file().read_text() == registration.text(), "run `replication register` and commit the file"


def lost(old, new):
    """What a later version changes or takes away of an earlier one: it may add cells, claims and predictions only."""
    changed = []
    for part, name in (
        ("cells", lambda c: (c["claim"], c["setting"], c["network"])),
        ("predictions", lambda p: p["id"]),
    ):
        later = {name(row): row for row in new[part]}
        changed += [name(row) for row in old[part] if later.get(name(row)) != row]
        known = {name(row) for row in old[part]}
        added = [row for row in new[part] if name(row) not in known]
        if part == "cells":
            changed += [name(row) for row in added if row["version"] <= old["version"] or row["role"] == PRIMARY]
    changed += [claim for claim, rule in old["claims"].items() if new["claims"].get(claim) != rule]
    return changed


@pytest.mark.parametrize(
    "change, name",
    [
        (lambda d: d["cells"].pop(3), "removed"),
        (lambda d: d["cells"][3].update(seeds=[100, 150]), "seeds"),
        (lambda d: d["cells"][3].update(role="primary"), "role"),
        (lambda d: d["cells"][5]["pilots"].update(rates=[1.0]), "rates"),
        (lambda d: d["cells"][5]["comparisons"][0].update(level=11), "level"),
        (lambda d: d["claims"]["base"].update({"replicated when": "always"}), "rule"),
        (lambda d: d["predictions"][0].update(rule="passes"), "prediction"),
        (
            lambda d: d["cells"].append(d["cells"][3] | {"setting": "skin@96", "version": 99, "role": "primary"}),
            "primary added",
        ),
        (lambda d: d["cells"].append(d["cells"][3] | {"setting": "skin@96", "version": 1}), "backdated"),
    ],
)
def test_changes_to_what_is_registered_are_found(change, name):
    old = json.loads(registration.text())
    new = copy.deepcopy(old)
    new["version"] = later = old["version"] + 1
    assert not lost(old, new)
    new["cells"].append(new["cells"][3] | {"setting": "skin@97", "version": later, "role": "secondary"})
    assert not lost(old, new)
    change(new)
    assert len(lost(old, new)) == 1, name


def test_later_versions_only_add():
    versions = [json.loads(text) for _, text in history()]
    for old, new in zip(versions, versions[1:]):
        assert not lost(old, new) and new["version"] >= old["version"]


# --- The runs -----------------------------------------------------------------------------------------


def refused(record, committed, is_ancestor):
    """Why a run with this provenance does not come after its registration; empty if it does.

    `committed`: digest -> commits whose version of the file has it; `is_ancestor(a, b)` as git's.
    """
    commit = record.get("commit", "unknown")
    if commit.endswith("+"):
        return f"its code was changed beyond commit {commit[:-1]}"
    if not (found := committed.get(record.get("registration", ""))):
        return "it carries no digest of a committed registration"
    if not any(is_ancestor(first, commit) for first in found):
        return f"its commit {commit} does not descend from the registration's"
    return ""


def test_runs_without_a_registration_before_them_are_refused():
    committed, order = {"d1": ["b"]}, "abc"
    ancestor = lambda a, b: order.index(a) <= order.index(b)  # noqa: E731
    assert not refused({"commit": "c", "registration": "d1"}, committed, ancestor)
    assert not refused({"commit": "b", "registration": "d1"}, committed, ancestor)
    for record in (
        {"commit": "a", "registration": "d1"},
        {"commit": "c+", "registration": "d1"},
        {"commit": "c", "registration": "d2"},
        {"commit": "c"},
        {"registration": "d2"},
    ):
        assert refused(record, committed, ancestor)


def registered_rows():
    """Published rows, one a run, of runs that had to be registered."""
    wanted = pd.DataFrame(vars(run) for run in registered_runs())
    rows = published.read()
    rows = rows[rows["readout"] == "as_trained"] if len(rows) else rows
    return rows.merge(wanted, on=list(FACTORS)) if len(wanted) and len(rows) else rows[:0]


def test_every_published_run_of_a_registered_cell_comes_after_its_registration():
    rows = registered_rows()
    if rows.empty:
        pytest.skip("no run of a registered cell has been published yet")
    committed = {}
    for commit, text in history():
        committed.setdefault(hashlib.sha256(text).hexdigest(), []).append(commit)
    records = published.manifest()["provenance"]

    def ancestor(first, commit):
        return git("merge-base", "--is-ancestor", first, commit) is not None

    wrong = {name: why for name in set(rows["provenance"]) if (why := refused(records[name], committed, ancestor))}
    assert not wrong


# --- What the pages draw beside it -----------------------------------------------------------------


def test_published_runs_have_the_predictions_that_a_page_draws():
    drawn = pd.DataFrame(vars(run) for run in registry.runs_with_predictions() if keeps_logits(run))
    rows = published.read()
    kept = rows[rows["readout"] == "as_trained"].merge(drawn, on=list(FACTORS))
    for (setting, network), part in kept.groupby(["setting", "network"]):
        assert set(part["key"]) <= set(published.predictions(setting, network)["key"]), (setting, network)
    assert kept["setting"].nunique() > 5


def test_what_the_methods_page_types_of_cracks_is_so():
    """Plain's rate is the lowest tried and best by little; with adjusted logits every image is called minority there."""
    place = Place("cracks", "simple_cnn")
    assert learning_rate(place, "plain") == min(PILOT_RATES) == 3e-4
    pilots = published.pilots(["cracks"]).merge(
        pd.DataFrame(vars(r) for r in pilot_runs(place, "plain", PILOT_RATES, range(3))), on=list(FACTORS)
    )
    means = pilots.groupby("learning_rate")["validation_f1_macro"].mean().sort_values()
    assert means.index[-1] == 3e-4 and means.iloc[-1] - means.iloc[-2] < 0.005
    asked = registry.runs(["base"], ["cracks"], ["simple_cnn"], kinds=["own"])
    plain = pd.DataFrame(vars(run) for run in asked if run.final_norm == "none" and run.epochs == 10)
    rows = published.read(["cracks"]).query("readout == 'logit_adjusted'").merge(plain, on=list(FACTORS))
    assert len(rows) >= 10 and (rows["recall_minority"] == 1).all() and (rows["f1_majority"] == 0).all()
