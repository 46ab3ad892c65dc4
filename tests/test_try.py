"""`replication try`: from a folder of images to a page; choices, identity of one's own folders, names, hints."""

import dataclasses
import html.parser
import json
import re
import shlex
import shutil
import warnings
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score

from replication import cli, paths
from replication.analysis import statistics
from replication.analysis.choices import ARMS, CHOICES, HELD, Comparison, confusion, scores
from replication.analysis.readings import held_out
from replication.analysis.thresholds import crossed, first_minority, tuned
from replication.data.loading import load
from replication.data.settings import joined, names
from replication.data.splits import data_digest
from replication.pages import trial_report as page
from replication.pages.names import cell_phrase
from replication.pages.page import Page
from replication.pages.parameters import parameters
from replication.pages.stories.rates import profile
from replication.results import published
from replication.results.store import Store, default_path
from replication.run import Run
from replication.running import frozen, trial, trial_files, tuning
from replication.running.expectation import ALIKE, expected, in_words
from replication.running.initial import make
from replication.running.local import carry_out_all, key_of
from replication.running.pretraining import save
from replication.study.design import pilot_runs
from replication.study.rates import NoRate, Place, learning_rate, own_rates

NETWORK = "efficientnet_lite0:imagenet:head"


def images(path, counts=(220, 50), side=32):
    """A folder of two classes of noisy pictures, the first darker."""
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    for name, n, light in zip(("intact", "worn"), counts, (90, 120)):
        (path / name).mkdir(parents=True)
        for k in range(n):
            picture = rng.normal(light, 40, (side, side, 3)) + rng.normal(0, 25, 3)
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path / name / f"{k:04}.png")
    return path


# --- Choices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(4, 4), (20, 20), (7, 31)])
def test_confusion_is_read_off_two_f1_scores(sizes):
    minority, majority = sizes
    truth = np.repeat([1, 0], sizes)
    for found in range(minority + 1):
        for false in range(majority + 1):
            said = np.concatenate([np.arange(minority) < found, np.arange(majority) < false]).astype(int)
            one, macro = f1_score(truth, said, zero_division=0), f1_score(truth, said, average="macro", zero_division=0)
            assert confusion_matrix(truth, said)[:, 1].tolist() == [false, found]
            assert confusion(one, macro, minority, majority) == (found, false)


def rows_of(values, n_test=300):
    """A table of results from (seed, choice) -> (validation macro F1, minority F1, macro F1)."""
    rows = []
    for seed, of in values.items():
        for arm in ARMS:
            for readout in ("as_trained", "logit_adjusted"):
                rows.append({"arm": arm, "readout": readout, "seed": seed, "n_test": n_test, "roc_auc": 0.9})
                for choice in CHOICES:
                    if choice.arm == arm and choice.readout == readout:
                        held, minority, macro = of[choice.name]
                        rows[-1] |= {"f1_minority" + choice.suffix: minority, "f1_macro" + choice.suffix: macro}
                    if choice.arm == arm:
                        rows[-1][choice.held] = of[choice.name][0]
    return pd.DataFrame(rows)


def varied(seeds, rng, **gains):
    found = {}
    for seed in seeds:
        base = rng.normal(0.6, 0.02)
        found[seed] = {
            c.name: tuple(base + gains.get(c.name, 0) + rng.normal(0, 0.01) for _ in range(3)) for c in CHOICES
        }
    return found


def test_the_choice_is_made_on_validation_images_and_the_least_change_goes_first():
    rng = np.random.default_rng(1)
    values = varied(range(100, 120), rng, final_bn=0.2)
    assert Comparison(scores(rows_of(values))).recommended == "final_bn"
    for of in values.values():  # the test images speak against it: they have no say
        of["final_bn"] = (of["final_bn"][0], 0.1, 0.1)
    found = Comparison(scores(rows_of(values)))
    assert found.best == found.recommended == "final_bn" and found.gain("final_bn").high < -0.3
    alike = varied(range(100, 120), np.random.default_rng(2), final_bn=0.2)
    for seed, of in alike.items():
        of["plain · tuned"] = tuple(np.array(of["final_bn"]) + (0.02 if seed % 2 else -0.021))
    found = Comparison(scores(rows_of(alike)))
    assert (found.best, found.recommended) == ("final_bn", "plain · tuned"), "within one standard error"
    assert found.next_best == "final_bn"


def test_gains_are_simultaneous_and_signed():
    values = varied(range(100, 115), np.random.default_rng(3), final_bn=0.2, **{"plain · tuned": 0.1})
    found = Comparison(scores(rows_of(values)))
    V = found.values("f1_minority")
    pairs = statistics.pairwise(V)
    gain = found.gain("final_bn")  # column 4 minus column 0
    at = pairs.pairs.tolist().index([0, 4])
    assert gain.mean == pytest.approx((V[:, 4] - V[:, 0]).mean()) and gain.mean > 0.15
    assert (gain.low, gain.high) == (-pairs.high[at], -pairs.low[at]) and gain.low < gain.mean < gain.high
    back = found.gain("plain", "final_bn")
    assert (back.mean, back.low, back.high) == pytest.approx((-gain.mean, -gain.high, -gain.low))
    assert found.gain("plain").mean == 0 == found.gain("plain").high


def test_few_seeds_have_no_intervals_and_half_a_seed_does_not_count():
    values = varied(range(100, 109), np.random.default_rng(4))
    rows = rows_of(values)
    found = Comparison(scores(rows))
    assert found.n == 9 and not np.isfinite(found.gain("final_bn").low)
    without = rows[(rows["arm"] != "final_bn") | (rows["seed"] != 103)]
    assert 103 not in set(scores(without)["seed"]) and Comparison(scores(without)).n == 8


def test_a_threshold_is_never_scored_on_images_that_it_was_set_on():
    rng = np.random.default_rng(5)
    minority = np.arange(90) >= 60
    odds = rng.normal(size=90) + minority
    said = crossed(odds, minority, 10)
    for k in range(5):
        fold = np.concatenate([np.arange(60) % 5, np.arange(30) % 5]) == k
        rest = np.flatnonzero(~fold)[first_minority(minority[~fold], 10)]
        assert (said[fold] == (odds[fold] >= tuned(odds[rest][None], minority[rest])[0])).all()
    changed = odds.copy()
    changed[7] += 5
    assert (
        crossed(changed, minority, 10)[[k for k in range(60) if k % 5 == 2 and k != 7]]
        == said[[k for k in range(60) if k % 5 == 2 and k != 7]]
    ).all()
    logits = np.stack([-odds / 2, odds / 2], 1)
    told = held_out(logits, minority.astype(int), (1,), [1000, 10])
    assert told[f"{HELD}_tuned"] == pytest.approx(f1_score(minority, said, average="macro"))
    adjusted = odds + np.log(100) > 0
    assert told[f"{HELD}_adjusted"] == pytest.approx(f1_score(minority, adjusted, average="macro"))
    assert set(held_out(logits * np.nan, minority.astype(int), (1,), [1000, 10]).values()) == {0.0}


# --- Identity, names, hints -----------------------------------------------------------------------


def test_a_folder_has_one_key_wherever_it_lies():
    keys = {Run(setting=f"folder:{path}", seed=3).key("0123") for path in ("/a/b", "/c, d/e@160", "/a/b::x@48")}
    assert len(keys) == 1 and keys.pop() != Run(setting="digits", seed=3).key("0123")
    assert Run(setting="folder:/a").key("0123") != Run(setting="folder:/a").key("4567")


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REPLICATION_RESULTS", str(tmp_path / "results"))
    for cached in (load, data_digest):
        cached.cache_clear()


def test_a_copy_of_a_folder_has_its_rates_and_its_runs(tmp_path, own_home, made_up, own_store):
    images(tmp_path / "here")
    place = Place(f"folder:{tmp_path / 'here'}@16", "simple_cnn")
    search = tuning.Search(place, "plain", (1e-2,), range(2), 0, rate=1e-2)
    tuning.write_rates([search], own_rates())
    shutil.copytree(tmp_path / "here", tmp_path / "there, too")
    elsewhere = dataclasses.replace(place, setting=f"folder:{tmp_path / 'there, too'}@16")
    assert elsewhere.name == place.name and str(tmp_path) not in place.name
    assert learning_rate(elsewhere, "plain") == 1e-2
    with Store(own_store) as store:
        for run in search.runs():
            store.add(made_up(run, data=data_digest(run.setting)))
        moved = dataclasses.replace(search, place=elsewhere)
        assert set(tuning.pilot_scores(store, moved.runs())) == set(moved.runs())
        assert {key_of(run) for run in moved.runs()} == store.keys()


def test_a_rate_that_is_missing_names_the_whole_command(tmp_path, own_home):
    images(tmp_path / "a, b")
    name = f"folder:{tmp_path / 'a, b'}@16"
    with pytest.raises(NoRate) as error:
        learning_rate(Place(name, "simple_cnn"), "final_bn")
    command = re.search("`replication (.*)` chooses one$", str(error.value))[1]
    a = cli.parser().parse_args(shlex.split(command))
    assert (a.claims, a.settings, a.networks, a.arms) == (["base"], [name], ["simple_cnn"], ["final_bn"])


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1), max_size=4))
def test_names_are_read_as_they_were_written(some):
    assert names(joined(some)) == some


def test_names_with_commas_are_a_json_list_everywhere(tmp_path):
    path = tmp_path / "a, b"
    images(path, (3, 2))
    text = json.dumps([f"folder:{path}@16", "digits"])
    assert cli.parser().parse_args(["run", "base", "--settings", text]).settings == [f"folder:{path}@16", "digits"]
    assert parameters({"settings": text}).settings == text
    with pytest.raises(ValueError, match="is not a list of names"):
        names('["a"')
    assert names("a,b,") == ["a", "b"] and names("") == []


def test_help_of_run_lists_what_there_is(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    said = capsys.readouterr().out
    assert all(
        word in said for word in ("claims: base, removal", "settings: digits", "networks: simple_cnn", "folder:PATH")
    )


def test_verify_needs_published_results(own_home, capsys):
    assert cli.main(["verify", "--cells", "0"]) == 2
    assert "run this in a checkout of the book" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["verdicts"], ["publish"], ["register"], ["execute", "base"], ["reproduced"]], ids=" ".join
)
def test_verbs_of_the_book_say_so_elsewhere(own_home, tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPLICATION_RESULTS")
    monkeypatch.setattr("replication.paths.root", lambda: tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert f"`replication {arguments[0]}` needs the book, and {tmp_path} is no checkout of it: run this in one" in said
    assert not list(tmp_path.iterdir())


def test_what_is_kept_is_found_from_any_folder_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.delenv("REPLICATION_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    checkout = paths.root()
    assert paths.home() == checkout / ".replication"
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    assert paths.home() == tmp_path / "me" / ".replication"
    (tmp_path / ".replication").mkdir()
    assert paths.home() == tmp_path / ".replication"


def test_rates_of_the_books_cells_are_ones_own_outside_a_checkout(own_home, monkeypatch):
    search = tuning.Search(Place("digits", "mlp"), "plain", (1e-2,), range(2), 0, rate=1e-2)
    assert tuning.write_all_rates([], {(search.place, search.arm)}) == []
    monkeypatch.setattr(tuning, "is_checkout", lambda: False)
    assert tuning.write_all_rates([search], {(search.place, search.arm)}) == [own_rates()]


def test_expected_time_is_that_of_runs_alike(own_store, made_up):
    runs = [Run(seed=seed, learning_rate=rate) for seed in range(3) for rate in (1e-3, 1e-2)]
    with Store(own_store) as store:
        assert expected(runs, store, "cpu", 1) is None
        store.add(made_up(runs[0], seconds=2.0))
        store.add(made_up(runs[1], seconds=4.0))
        assert expected(runs, store, "cpu", 1) == 18.0 == 2 * expected(runs, store, "cpu", 2)
        assert expected([*runs, Run(network="mlp")], store, "cpu", 1) is None
        assert in_words(runs, store, "cpu", 1) == ", about 18 s on this machine"


def test_how_long_published_runs_took_is_said_where_this_machine_knows_nothing(tmp_path):
    known = Run(setting="digits", learning_rate=1e-2, final_norm="bn", seed=100)
    rows = published.read(("digits",))
    rows = rows[(rows["readout"] == "as_trained") & (rows["network"] == "simple_cnn")]
    like = rows[(rows[list(ALIKE)] == pd.Series({name: getattr(known, name) for name in ALIKE})).all(axis=1)]
    with Store(tmp_path / "s.sqlite") as store:
        said = in_words([known, known], store, "cpu")
        assert (
            said
            == f"; such runs took {2 * like['seconds'].mean():.0f} s of one core or device where they were published"
        )
        assert in_words([dataclasses.replace(known, n_minority=7)], store, "cpu") == ""


# --- From a folder to a page ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """A trial by the command line in an empty folder, with a space and a comma in the images' name."""
    where = tmp_path_factory.mktemp("try")
    images(where / "my wall, north")
    (where / "work").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where / "work")
        patch.setenv("REPLICATION_HOME", str(where / "home"))
        patch.setenv("REPLICATION_STORE", str(where / "store.sqlite"))
        for cached in (load, data_digest):
            cached.cache_clear()
        assert cli.main(["try", "../my wall, north", "--pixels", "32", "--seeds", "12", "--device", "cpu"]) == 0
    return where


@pytest.fixture
def there(tried, monkeypatch):
    monkeypatch.chdir(tried / "work")
    monkeypatch.setenv("REPLICATION_HOME", str(tried / "home"))
    monkeypatch.setenv("REPLICATION_STORE", str(tried / "store.sqlite"))
    monkeypatch.setenv("REPLICATION_RESULTS", str(tried / "no results"))
    for cached in (load, data_digest):
        cached.cache_clear()
    return tried


def test_a_folder_gives_a_page_and_a_table(there):
    out = there / "work" / "try-my wall, north"
    rows = pd.read_parquet(out / trial_files.RESULTS)
    done = rows[(rows["role"] == "confirmatory") & (rows["readout"] == "as_trained")]
    assert done.groupby("arm")["seed"].nunique().to_dict() == dict.fromkeys(ARMS, 12)
    pilots = rows[(rows["role"] == "pilot") & (rows["readout"] == "as_trained")]
    assert pilots.groupby("arm")["seed"].nunique().to_dict() == dict.fromkeys(ARMS, 10)
    told = json.loads((out / trial_files.ABOUT).read_text())
    assert set(rows["n_majority"]) == {told["train"][0]} and set(rows["updates"]) == {150}
    found = Comparison(scores(rows[rows["role"] == "confirmatory"]))
    one = done[(done["arm"] == "final_bn") & (done["seed"] == 105)].iloc[0]
    row = found.rows[(found.rows["choice"] == "final_bn") & (found.rows["seed"] == 105)].iloc[0]
    assert row["found"] + row["false"] == one["cut"], "the confusion agrees with how many were called minority"


class _Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.asked, self.without_alt, self.text = [], 0, ""

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.asked += [a[name] for name in ("src", "href", "srcset") if name in a]
        self.without_alt += tag == "img" and not a.get("alt")

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_else_and_answers_first(there):
    text = (there / "work" / "try-my wall, north" / page.PAGE).read_text()
    links = _Links()
    links.feed(text)
    assert links.asked and all(url.startswith("data:") for url in links.asked) and links.without_alt == 0
    assert "<script" not in text and "@import" not in text and "url(" not in text
    assert "On these images, use" in links.text and "Does the final BN layer help?" in links.text
    assert links.text.index("On these images, use") < links.text.index("The choices")
    assert "intact: 220 images, majority" in links.text and "error" not in links.text.lower().replace(
        "standard error", ""
    )
    notebook = json.loads((there / "work" / "try-my wall, north" / page.NOTEBOOK).read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "page" in "".join(cell["source"])]
    assert len(code) > 5 and all(cell["outputs"] for cell in code)


def test_once_more_trains_nothing_wherever_the_folder_lies(there, capsys, monkeypatch):
    with Store(default_path()) as store:
        before = store.keys()
    rates = own_rates().read_text()
    shutil.copytree(there / "my wall, north", there / "moved", dirs_exist_ok=True)
    monkeypatch.setattr(page, "make", lambda out: out / page.PAGE)
    assert cli.main(["try", str(there / "moved"), "--pixels", "32", "--seeds", "12"]) == 0
    with Store(default_path()) as store:
        assert store.keys() == before
    assert own_rates().read_text() == rates and "the same command resumes" not in capsys.readouterr().out
    moved = pd.read_parquet("try-moved/" + trial_files.RESULTS)
    assert set(moved["setting"]) == {f"folder:{there / 'moved'}"}
    first = pd.read_parquet(there / "work" / "try-my wall, north" / trial_files.RESULTS)
    assert set(first["key"]) == set(moved["key"])


def test_a_time_budget_stops_it_and_says_how_to_go_on(there, capsys, monkeypatch):
    monkeypatch.setattr(page, "make", lambda out: pytest.fail("there is nothing to show"))
    assert cli.main(["try", "../my wall, north", "--pixels", "40", "--time-budget", "0", "--out", "short"]) == 0
    said = capsys.readouterr().out
    assert "the same command resumes" in said and "page:" not in said


def test_own_sets_on_other_verbs(there, capsys, made_up, monkeypatch):
    name = joined([f"folder:{there / 'my wall, north'}"])
    assert cli.main(["publish", "--to", "out"]) == 0
    assert published.check(there / "work" / "out")
    rows = published.read(where=there / "work" / "out")
    assert set(rows["setting"]) == set(names(name))
    capsys.readouterr()
    assert cli.main(["verdicts", "--settings", name, "--networks", NETWORK, "--results", "out"]) == 0
    assert "The gain itself" in capsys.readouterr().out
    assert cli.main(["data", "list"]) == 0
    assert "my wall, north at 32 pixels: intact 220, worn 50" in capsys.readouterr().out
    monkeypatch.setenv("REPLICATION_RESULTS", "out")
    with Store(default_path()) as store:
        for run in pilot_runs(Place(names(name)[0], NETWORK), "plain", (1e-3,), range(3)):
            store.add(made_up(run, min(store.provenance()), data_digest(run.setting), validation_f1_macro=0.625))
    assert cli.main(["publish", "--to", "out"]) == 0
    shown = profile(Page("base", parameters({"settings": name, "networks": NETWORK}))).data
    assert "Pilots on photographs in my wall, north with a frozen EfficientNet-Lite0" in shown and "0.62 (3)" in shown
    assert (
        cell_phrase((f"{names(name)[0]}@40", "mlp"))
        == "photographs in my wall, north (40 px) with a two-layer perceptron"
    )
    monkeypatch.delenv("REPLICATION_RESULTS")
    assert cli.main(["verdicts", "--results", "nowhere"]) == 2
    assert "publish --to nowhere" in capsys.readouterr().err


def test_a_page_is_told_where_the_images_lie_from_where_it_was_asked(there, monkeypatch):
    (there / "work" / "own.pt").touch()
    passed = []
    monkeypatch.setattr("replication.pages.notebooks.execute", lambda *a: passed.append(a[4]))
    name, networks = json.dumps(["folder:../my wall, north@40", "digits"]), "simple_cnn:own.pt,mlp"
    assert cli.main(["execute", "base", "-p", "settings", name, "-p", "networks", networks, "-p", "seeds", "0"]) == 0
    given = dict(zip(passed[0][1::3], passed[0][2::3]))
    assert names(given["settings"]) == [f"folder:{there / 'my wall, north'}@40", "digits"]
    assert names(given["networks"]) == [f"simple_cnn:{there / 'work' / 'own.pt'}", "mlp"] and given["seeds"] == "0"
    with pytest.raises(ValueError, match="no images at .*/nothing: name a folder"):
        parameters({"settings": "folder:../nothing"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["../my wall, north", "--majority", "rusty"], "there is no class 'rusty' in "),
        (["../my wall, north", "--out", "../my wall, north/out"], "lies among the images"),
        (["../my wall, north", "--train", "5000:10", "--pixels", "32"], "asks for too many training images"),
        (["../my wall, north", "--network", "vgg"], "unknown network 'vgg'"),
        (["../my wall, north", "--seeds", "0"], "seeds = 0 is not allowed"),
        (["../my wall, north", "--pixels", "-1"], "pixels = -1 is not allowed: at least 8 and at most 1024"),
        (["../my wall, north", "--workers", "0"], "workers = 0 is not allowed"),
        (["../my wall, north", "--out", "../a file"], "is a file, device or pipe, name another"),
        (["../nothing"], "is not there"),
        (["../few"], "which is too few"),
        (["../one"], "has one class"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_a_sentence(there, capsys, arguments, words):
    for name, counts in (("few", (60, 20)), ("one", (30, 1))):
        if not (there / name).exists():
            images(there / name, counts)
    shutil.rmtree(there / "one" / "worn", ignore_errors=True)
    (there / "a file").touch()
    assert cli.main(["try", *arguments]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("replication: ") and words in said


def test_the_owners_split_and_ratio_are_kept(tmp_path, own_home):
    for part, counts in (("train", (160, 30)), ("val", (40, 12)), ("test", (40, 25))):
        images(tmp_path / "split" / part, counts)
    made, seen = trial.prepare(tmp_path / "split", pixels=16, tell=lambda text: None)
    assert (made.sizes.n_majority, made.sizes.n_minority) == (160, 30) and made.fixed
    assert "all training images of your own split" in made.sizes.sentence and seen.parts["worn"]["train"] == 30
    made, _ = trial.prepare(tmp_path / "split", pixels=16, train=(120, 6), tell=lambda text: None)
    assert (made.sizes.n_majority, made.sizes.n_minority) == (120, 6) and "--train 120:6" in made.command()
    images(tmp_path / "two" / "train", (180, 40))
    images(tmp_path / "two" / "test", (40, 25))
    made, _ = trial.prepare(tmp_path / "two", pixels=16, tell=lambda text: None)
    held = made.sizes.validation
    assert made.sizes.n_majority == 180 - held[0] and made.sizes.n_minority == 40 - held[1] and not made.fixed


def test_a_majority_that_is_none_is_said(tmp_path, own_home):
    folder = images(tmp_path / "some", (400, 60))
    large = max(folder.iterdir(), key=lambda path: len(list(path.iterdir())))
    (folder / "third").mkdir()
    for path in sorted(large.iterdir())[:190]:
        path.rename(folder / "third" / path.name)
    said = []
    made, _ = trial.prepare(folder, pixels=16, tell=said.append)
    assert sum(list(made.shares.values())[1:]) > next(iter(made.shares.values()))
    assert "to try one rare class against all others, put those into one folder" in said[-1]


@pytest.mark.parametrize(("counts", "said"), [((400, 120), True), ((400, 42), False)])
def test_the_folders_own_ratio_is_offered_where_it_lasts(tmp_path, own_home, counts, said):
    made, _ = trial.prepare(images(tmp_path / "some", counts), pixels=16, tell=lambda text: None)
    offer = re.search(r"--train (\d+):(\d+) ", made.ratio())
    assert bool(offer) == said
    if offer:
        n, m = map(int, offer.groups())
        assert n / m == pytest.approx(counts[0] / counts[1], rel=0.05)
        again, _ = trial.prepare(tmp_path / "some", pixels=16, train=(n, m), tell=lambda text: None)
        assert (again.sizes.n_majority, again.sizes.n_minority) == (n, m) and not again.ratio()


def test_broken_files_are_left_out(tmp_path, own_home):
    images(tmp_path / "some")
    (tmp_path / "some" / "worn" / "broken.png").write_bytes(b"no image")
    said = []
    made, seen = trial.prepare(tmp_path / "some", pixels=16, tell=said.append)
    assert made.shares == {"intact": 220, "worn": 50} and "no whole images: 1 (worn/broken.png)" in said[0]


def test_a_checkpoint_that_has_seen_the_images_is_warned_of(tmp_path, own_home):
    body = torch.nn.Linear(2, 2)
    here, other = f"folder:{images(tmp_path / 'here')}@16", f"folder:{images(tmp_path / 'other')}@16"
    for sources in ({f"folder:{tmp_path / 'here'}/": "another size"}, {"folder:gone": load(here[:-3], 16).digest}):
        save(tmp_path / "seen.pt", "simple_cnn", body, {"sources": sources, "without": []})
        init = str(tmp_path / "seen.pt")
        with pytest.warns(UserWarning, match="was pretrained on folder:.*tested on what it has seen"):
            make([Run(setting=here, init=init)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make([Run(setting=other, init=init), Run(setting=here)])


def test_few_heads_train_here_as_they_would_in_workers(there, tmp_path, monkeypatch):
    """The oracle is the pool of worker processes."""
    setting = f"folder:{there / 'my wall, north'}"
    made, _ = trial.prepare(there / "my wall, north", pixels=32, tell=lambda text: None)
    runs = [dataclasses.replace(run, seed=run.seed + 50) for arm in ("plain", "final_bn") for run in made.runs(arm)[:2]]
    assert runs[0].setting == setting
    found = []
    for few in (96, 0):
        monkeypatch.setattr(frozen, "FEW", few)
        with Store(tmp_path / f"{few}.sqlite") as store:
            assert carry_out_all(runs, store, "cpu", 1) == 4
            found.append({r.key: (r.scores, r.facts[f"{HELD}_tuned"]) for r in store.results()})
    assert found[0] == found[1]
