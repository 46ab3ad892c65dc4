"""The command line as a user meets it: help, errors in one sentence, interruptions, and what it imports."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from replication import cli
from replication.claims import registry
from replication.data.loading import load
from replication.pages.parameters import Parameters, parameters
from replication.paths import root
from replication.results import published
from replication.results.store import Store
from replication.run import Run
from replication.study import design, rates

COMMAND = str(Path(sys.executable).with_name("replication"))
VERBS = [
    "run",
    "tune",
    "execute",
    "verdicts",
    "publish",
    "reproduced",
    "verify",
    "merge",
    "pretrain",
    "data list",
    "data fetch",
    "data pack",
]
# the smallest design there is
SMALL = ["run", "generality", "--networks", "logistic", "--device", "cpu", "--workers", "1"]
# a cell whose learning rates have been chosen
TUNED = ["run", "base", "--settings", "digits", "--networks", "simple_cnn"]


def small(seeds: int) -> list[Run]:
    return registry.runs(["generality"], networks=["logistic"], seeds=seeds)


@pytest.fixture(autouse=True)
def own_results(tmp_path, monkeypatch):
    """Nothing is published but what a test publishes."""
    monkeypatch.setenv("REPLICATION_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=600, env=os.environ | environment
    )


def kept(path: Path) -> int:
    """Finished runs in a store; 0 where there is none yet."""
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(path) as db:
            return db.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


# --- Help and errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main([*verb.split(), "--help"])
    said = capsys.readouterr().out
    assert exit.value.code == 0 and said.startswith(f"usage: replication {verb}") and "-h, --help" in said


def test_help_lists_every_verb():
    said = shell("--help")
    assert said.returncode == 0 and said.stderr == ""
    assert all(re.search(rf"^    {verb.split()[0]}\s", said.stdout, re.MULTILINE) for verb in VERBS)


def refused(capsys, *arguments: str) -> str:
    """The one sentence on stderr of a command that ends with status 2."""
    assert cli.main(list(arguments)) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("replication: ") and said.err.count("\n") == 1
    return said.err.removeprefix("replication: ").strip()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("run nope", "unknown claim 'nope': allowed are base, removal, "),
        ("run base nope", "unknown claim 'nope': allowed are base, removal, "),
        ("run base --settings cats", "unknown setting 'cats': allowed are digits"),
        ("run base --networks vgg", "unknown network 'vgg': allowed are simple_cnn, mlp, logistic"),
        ("run sigmoid --networks mlp", "claim 'sigmoid' has no cell of network mlp: name settings too"),
        (
            "run sigmoid --settings digits --networks mlp",
            "no learning rate chosen for arm 'plain_sigmoid' on 'digits/mlp'",
        ),
        ("run base --seeds 0", "seeds = 0 is not allowed: at least 1"),
        ("run base --seeds -3", "seeds = -3 is not allowed: at least 1"),
        ("run base --seeds 1001", "seeds = 1001 is not allowed: at least 1 and at most 1000"),
        ("{TUNED} --workers 0", "workers = 0 is not allowed: at least 1"),
        ("{TUNED} --workers -1", "workers = -1 is not allowed: at least 1"),
        ("{TUNED} --time-budget -1", "time budget -1 s is not allowed: at least 0"),
        ("{TUNED} --time-budget nan", "time budget nan s is not allowed: at least 0"),
        ("{TUNED} --device tpu", "unknown device 'tpu': allowed are auto, cpu, cuda"),
        ("tune --settings cats", "unknown setting 'cats': allowed are digits"),
        ("tune --networks vgg", "unknown network 'vgg': allowed are simple_cnn, mlp, logistic"),
        ("execute nope", "unknown notebook 'nope': allowed are "),
        ("execute --workers 0", "workers = 0 is not allowed: at least 1"),
        ("verdicts --seeds -1", "parameter seeds = -1 is not allowed"),
        ("verdicts --device tpu", "parameter device = 'tpu' is not allowed"),
        ("verify --cells -1", "cells = -1 is not allowed: at least 0"),
        ("verify --seeds 0", "seeds = 0 is not allowed: at least 1"),
        ("merge nowhere.sqlite", "no results file to merge at nowhere.sqlite"),
        ("merge /", "no results file to merge at /"),
    ],
)
def test_error_is_one_sentence_and_status_2(capsys, own_store, arguments, words):
    assert words in refused(capsys, *arguments.format(TUNED=" ".join(TUNED)).split())
    assert kept(own_store) == 0


@pytest.mark.parametrize("arguments", [["fly"], ["run", "--seeds", "many"], ["merge"], ["run", "--sedes", "3"], []])
def test_what_is_no_command_is_refused_with_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)
    assert exit.value.code == 2 and capsys.readouterr().err.startswith("usage: replication")


@pytest.mark.parametrize("command", [TUNED, ["verdicts", "--seeds", "1"]])
def test_cuda_without_a_gpu_is_refused(capsys, monkeypatch, command):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refused(capsys, *command, "--device", "cuda") == (
        "device 'cuda' was asked for but torch sees no GPU: use cpu or auto"
    )


def test_file_that_is_no_store_is_refused(capsys, tmp_path):
    (tmp_path / "notes").write_text("not a database " * 100)
    for command in (["merge"], [*TUNED, "--out"]):
        assert "notes is not a results store: " in refused(capsys, *command, str(tmp_path / "notes"))


def test_store_of_another_version_is_refused(capsys, own_store):
    with sqlite3.connect(own_store) as db:
        db.execute("CREATE TABLE runs (key TEXT)")
        db.execute("PRAGMA user_version = 99")
    for command in (TUNED, ["publish"], ["reproduced"]):
        assert "was written by schema version 99: this package reads 1 and 2 only" in refused(capsys, *command)


@pytest.fixture
def shelf(own_store, own_results, made_up):
    """Made-up results of the smallest design, published."""
    with Store(own_store) as store:
        store.add_provenance({"id": "made up", "versions": {}, "hardware": "none", "device": "cpu"})
        for run in small(seeds=2):
            store.add(made_up(run))
    assert cli.main(["publish"]) == 0
    return own_results


def test_wrong_checksum_is_refused(capsys, shelf):
    capsys.readouterr()
    [path] = shelf.glob("digits/logistic-*.parquet")
    with open(path, "ab") as file:
        file.write(b"more")
    for command in (["verify"], ["verdicts"], ["reproduced"], ["publish"]):
        said = refused(capsys, *command)
        assert said.startswith(f"results file digits/{path.name} has checksum ") and "the manifest has " in said


def test_no_room_is_one_sentence(capsys, own_store, made_up, monkeypatch):
    def full(*_, **__):
        raise sqlite3.OperationalError("database or disk is full")

    def carry_out_all(runs, store, *_):
        store.db = type("Full", (), {"execute": full, "__enter__": full, "__exit__": full, "close": lambda _: None})()
        store.add(made_up(runs[0]))

    monkeypatch.setattr("replication.running.local.carry_out_all", carry_out_all)
    said = refused(capsys, *TUNED, "--seeds", "1")
    assert said == f"cannot write to {own_store}: database or disk is full; every run finished before is kept"


def test_other_failures_have_status_1(capsys, monkeypatch):
    def broken(*_):
        raise RuntimeError("a worker died")

    monkeypatch.setattr("replication.running.local.carry_out_all", broken)
    assert cli.main(TUNED) == 1
    assert capsys.readouterr().err == "replication: a worker died\n"


# --- Parameters of a notebook ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": 3}, "unknown parameter 'seed': allowed are settings, networks, seeds, device"),
        ({"seeds": -1}, "parameter seeds = -1 is not allowed: .* greater than or equal to 0"),
        ({"seeds": "3"}, "parameter seeds = '3' is not allowed: .* integer"),
        ({"seeds": 3.5}, "parameter seeds = 3.5 is not allowed"),
        ({"seeds": True}, "parameter seeds = True is not allowed"),
        ({"settings": "digits,cats"}, "parameter settings = 'digits,cats' is not allowed: unknown setting"),
        ({"settings": ["digits"]}, r"parameter settings = \['digits'\] is not allowed: .* string"),
        ({"networks": "vgg"}, "parameter networks = 'vgg' is not allowed: unknown network 'vgg': allowed are "),
        ({"device": "tpu"}, "parameter device = 'tpu' is not allowed: .*'auto', 'cpu' or 'cuda'"),
    ],
)
def test_bad_parameter_is_named_with_what_is_allowed(given, words):
    with pytest.raises(ValueError, match=words) as error:
        parameters(given)
    assert "\n" not in str(error.value)


def test_parameters_are_the_plain_values_of_a_namespace():
    given = {"seeds": 2, "device": "cpu", "_hidden": 1, "In": [], "Out": {}, "np": pytest, "open_page": print}
    assert parameters(given) == Parameters(seeds=2, device="cpu")
    assert parameters({}) == Parameters(settings="", networks="", seeds=0, device="auto")
    assert parameters({"settings": "cracks", "networks": "vgg19+fastai"}).networks == "vgg19+fastai", "rates come later"


def test_page_of_nothing_published_says_how_to_train(own_results):
    from replication.pages.page import open_page

    with pytest.raises(ValueError, match="for digits · two-layer perceptron: nothing is published; with seeds > 0 "):
        open_page("ratio", {"settings": "digits", "networks": "mlp"}).part()


# --- What is imported -----------------------------------------------------------------------------

LISTENER = """
import contextlib, json, sys
from replication.cli import main

found = {"import": "torch" in sys.modules or "numpy" in sys.modules}
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(sys.stderr):
        status = main(command)
    found[command[0]] = status or "torch" in sys.modules
print(json.dumps(found))
"""


def test_reading_results_does_not_import_torch(shelf, tmp_path):
    (tmp_path / "other.sqlite").touch()
    commands = [
        ["data", "list"],
        ["merge", str(tmp_path / "other.sqlite")],
        ["reproduced", "--cells"],
        ["verdicts"],
        ["verify", "--cells", "0"],
        ["publish"],
    ]
    done = subprocess.run([sys.executable, "-c", LISTENER, json.dumps(commands)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"import": False} | {command[0]: False for command in commands}


# A machine with a GPU may lack all of these. scikit-learn has the digits and needs scipy for itself.
BLOCKER = """
import sys
from importlib.machinery import PathFinder

BLOCKED = {"IPython", "matplotlib", "pandas", "papermill", "pyarrow", "pydantic", "scipy", "statsmodels"}


def for_scikit_learn():
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("sklearn"):
            return True
        frame = frame.f_back
    return False


class Poor(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        root = name.partition(".")[0]
        if root in BLOCKED and not (root == "scipy" and for_scikit_learn()):
            return None
        return super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Poor
"""


def test_run_out_needs_little_and_merge_takes_it_home(capsys, tmp_path, own_store):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(BLOCKER)
    paths = os.pathsep.join([str(tmp_path / "bare"), str(root())])
    bare = {"PYTHONPATH": paths, "REPLICATION_COMMIT": "0123456789ab"}
    for name in ("pandas", "scipy"):
        probe = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, env=os.environ | bare)
        assert f"No module named '{name}'" in probe.stderr.decode()

    out, n = tmp_path / "far" / "out.sqlite", len(small(seeds=1))
    done = shell(*SMALL, "--seeds", "1", "--out", str(out), **bare)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{n} runs trained, {n} of {n} in {out}\n" and not own_store.exists()

    assert [cli.main(["merge", str(out)]) for _ in range(2)] == [0, 0]
    assert capsys.readouterr().out == f"{n} runs added to {own_store}\n0 runs added to {own_store}\n"
    with Store(own_store) as store:
        [record] = store.provenance().values()
        assert {result.provenance for result in store.results()} == {record["id"]}
        assert record["commit"] == "0123456789ab" and record["device"] == "cpu" and "torch" in record["versions"]
        assert {r.run for r in store.results()} == set(small(seeds=1))


# --- Stopping early -------------------------------------------------------------------------------


def test_time_budget_ends_early_and_keeps_runs(capsys, own_store):
    """The run that has begun is finished, and none is waiting behind it."""
    assert cli.main([*SMALL, "--seeds", "4", "--workers", "1", "--time-budget", "0.5"]) == 0
    assert kept(own_store) == 1
    assert capsys.readouterr().out == f"1 runs trained, 1 of {len(small(seeds=4))} in {own_store}\n"


def test_no_time_at_all_trains_nothing(capsys, own_store):
    assert cli.main([*SMALL, "--seeds", "1", "--time-budget", "0"]) == 0
    assert capsys.readouterr().out == f"0 runs trained, 0 of {len(small(seeds=1))} in {own_store}\n"


def test_ctrl_c_keeps_finished_runs(own_store):
    running = subprocess.Popen(
        [COMMAND, *SMALL, "--seeds", "500"],
        start_new_session=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 300
    while kept(own_store) < 2 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    out, err = running.communicate(timeout=300)
    assert running.returncode == 130 and out == ""
    assert err.endswith("replication: interrupted; every finished run is kept\n") and "Traceback" not in err
    assert 2 <= kept(own_store) < len(small(seeds=500))
    with Store(own_store) as store:
        assert all(result.scores for result in store.results())
        assert store.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- Publishing and verifying ---------------------------------------------------------------------


def test_verify_retrains_what_is_published(capsys, own_store, own_results, tmp_path):
    from replication.running import local

    run = small(seeds=1)[0]
    with Store(own_store) as store:
        record = local.record("cpu")
        store.add_provenance(record)
        result = local.carry_out(run, "cpu", record["id"])
        store.add(result)
    certificate = tmp_path / "codecheck.yml"
    command = ["verify", "--cells", "1", "--seeds", "1", "--workers", "1", "--device", "cpu"]
    command += ["--sample", "3", "--certificate", str(certificate)]
    assert [cli.main(["publish"]), cli.main(["reproduced"]), cli.main(command)] == [0, 0, 0]
    said = capsys.readouterr().out
    assert f"1 runs published to {own_results}" in said
    assert "reproduced on this machine: 1 of 1 cells have the published mean F1 within 0.02 (1 to the bit" in said
    assert re.search(
        r"1 results files agree with the manifest\n1 runs are trained again; such runs took \d+ s of one core .*\n"
        r"retrained 1 runs \(the same kind of machine\): 1 of 1 cells",
        said,
    )
    done = yaml.safe_load(certificate.read_text())
    assert done["agreed"] and done["sample"] == 3 and done["machine"]["device"] == "cpu"
    assert [entry["file"] for entry in done["manifest"]] == [
        f"results/{name}" for name in published.manifest()["files"]
    ]
    [cell] = done["retrained"]
    assert (cell["network"], cell["seeds"], cell["identical"]) == (run.network, 1, True)
    claims = json.loads((own_results / "claims.json").read_text())["claims"]
    assert set(claims) == set(registry.CLAIMS)


def test_verify_finds_a_number_that_does_not_come_out_again(capsys, shelf, monkeypatch, made_up, tmp_path):
    """Made-up results do not come out of a training, and other data are no reproduction at all."""

    def trained(runs, store, *_):
        for run in runs:
            result = made_up(run, data=data)
            result.scores["as_trained"]["f1_minority"] = 2.0
            store.add(result)

    monkeypatch.setattr("replication.running.verification.carry_out_all", trained)
    data = load("digits").digest
    certificate = tmp_path / "codecheck.yml"
    assert cli.main(["verify", "--device", "cpu", "--certificate", str(certificate)]) == 2
    done = yaml.safe_load(certificate.read_text())
    assert not done["agreed"] and "DISAGREED: a cell's mean F1 differs" in done["summary"]
    assert "a cell's mean F1 differs by more than 0.02 from the published one" in capsys.readouterr().err
    data = "0123456789abcdef"
    assert cli.main(["verify", "--device", "cpu"]) == 2
    assert "the data here is another version than that of the published results" in capsys.readouterr().err


def test_verify_with_nothing_published_says_so(capsys):
    assert cli.main(["verify"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("replication: there are no published results at ") and said.err.count("\n") == 1


def test_verdicts_prints_every_claim(capsys):
    from replication.claims.registry import CLAIMS

    assert cli.main(["verdicts"]) == 0
    first, *rows = capsys.readouterr().out.splitlines()
    assert first == "published results" and all("NOT RUN" in row for row in rows)
    assert [title for title in (c.title for c in CLAIMS.values()) if any(row.startswith(title) for row in rows)] == [
        c.title for c in CLAIMS.values()
    ]


def test_tune_writes_what_the_pilots_choose(capsys, own_store, tmp_path, monkeypatch, made_up):
    """The planned cell's rate joins the published ones, that of a cell of one's own this machine's."""
    published_file, chosen = tmp_path / "rates.json", rates.chosen_rates("grid")
    published_file.write_text(rates.published_rates().read_text())
    monkeypatch.setattr("replication.study.rates.published_rates", lambda: published_file)
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    top = {"plain": 3e-4, "final_bn": 1e-1}  # both at an end of the grid, which grows until they are inside
    with Store(own_store) as store:
        for network in ("logistic", "mlp"):
            for arm, rate in top.items():
                for run in design.pilot_runs(rates.Place("digits", network), arm, rates.LADDER, range(10)):
                    store.add(made_up(run, validation_f1_macro=1 - abs(run.learning_rate - rate)))
    command = ["tune", "base", "generality", "--settings", "digits", "--arms", "plain,final_bn", "--device", "cpu"]
    before = published_file.read_bytes()
    assert cli.main([*command, "--networks", "logistic,mlp"]) == 0
    assert published_file.read_bytes() == before
    assert capsys.readouterr().out == "4 published learning rates are kept; --again chooses them anew\n"
    assert cli.main([*command, "--networks", "logistic,mlp", "--again"]) == 0
    written = json.loads(published_file.read_text())
    assert written["grid"] == chosen | {f"digits/{network}": top for network in ("logistic", "mlp")}
    assert written["tried"]["digits/mlp"] == {
        "plain": [1e-4, *rates.RATE_GRID],
        "final_bn": [*rates.RATE_GRID, 3e-1],
    }
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"chosen learning rates written to {published_file}"
    assert "digits/logistic plain: 0.0003" in said


def test_tune_counts_published_pilots(capsys, own_store, tmp_path, monkeypatch, made_up):
    """A rate is chosen from what is published and what the store has, and nothing that is published is trained."""
    from replication.running import local

    file = tmp_path / "rates.json"
    monkeypatch.setattr("replication.study.rates.published_rates", lambda: file)
    runs = design.pilot_runs(rates.Place("digits", "mlp"), "plain", rates.RATE_GRID, range(10))
    found = [made_up(run, validation_f1_macro=1 - abs(run.learning_rate - 3e-3)) for run in runs]
    with Store(tmp_path / "elsewhere.sqlite") as elsewhere:
        elsewhere.add_provenance({"id": "made up", "device": "cpu"})
        for result in found[:40]:
            elsewhere.add(result)
        published.publish(elsewhere, runs)
    trained = []

    def instead(todo, store, *_):
        trained.extend(local.missing(todo, store))
        for result in found:
            if result.run in trained:
                store.add(result)

    monkeypatch.setattr(local, "carry_out_all", instead)
    command = ["tune", "base", "--settings", "digits", "--networks", "mlp", "--arms", "plain", "--device", "cpu"]
    assert cli.main([*command, "--unpublished"]) == 0
    assert set(trained) == set(runs[40:]) and "digits/mlp plain: 0.003\n" in capsys.readouterr().out
    trained.clear()
    assert cli.main([*command, "--again"]) == 0
    assert set(trained) == set(runs[:40])  # the store has the others by now


def test_data_list_names_every_source_with_licence_and_digest(capsys):
    assert cli.main(["data", "list"]) == 0
    said = capsys.readouterr().out
    digits = load("digits")
    assert all(word in said for word in ("digits: 1797 images", digits.digest, digits.licence, digits.citation))


def test_the_package_imports_alone():
    code = """import sys; before = set(sys.modules); import replication
print(sorted(name for name in set(sys.modules) - before if name.partition(".")[0] not in sys.stdlib_module_names))"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert loaded == "['replication', 'replication.version']\n"
