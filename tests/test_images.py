"""Real images and folders of one's own, from files to results."""

import os

import numpy as np
import pytest
from PIL import Image

from replication import cli
from replication.claims import registry
from replication.data.loading import load
from replication.data.settings import SETTINGS, setting
from replication.data.splits import data_digest, indices, split
from replication.paths import root
from replication.results import published
from replication.results.store import Store
from replication.run import FACTORS, Run
from replication.running import local
from replication.study import design, rates

REAL = [name for name, s in SETTINGS.items() if s.source != "digits"]


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path, own_home):
    """Images of 16 pixels: 1310 bright ones, and 120 dark ones in each of two classes."""
    rng = np.random.default_rng(0)
    for name, n, base in (("gut (neu)", 1310, 140), ("kaputt", 120, 20), ("früh krank", 120, 40)):
        (tmp_path / "eigene bilder" / name).mkdir(parents=True)
        for i in range(n):
            image = rng.integers(base, base + 100, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "eigene bilder" / name / f"{i:04d}.png")
    return tmp_path / "eigene bilder"


# --- A folder of one's own ------------------------------------------------------------------------


def test_a_folder_is_a_setting(folder):
    run = Run(setting=f"folder:{folder}@16", epochs=1, learning_rate=3e-3, final_norm="bn")
    parts, source = split(run), load(f"folder:{folder}", 16)
    assert source.classes == ("früh krank", "gut (neu)", "kaputt") and source.counts.tolist() == [120, 1310, 120]
    assert parts.train_counts.tolist() == [1000, 10] and parts.augment
    assert [part.images.shape for part in (parts.validation, parts.test)] == [(225, 3, 16, 16), (300, 3, 16, 16)]
    bright = parts.test.images.mean(axis=(1, 2, 3)) > 120
    assert np.array_equal(bright, parts.test.labels == 0)  # the largest class against the others, pooled
    result = local.carry_out(run, "cpu", "none")
    assert result.key == local.key_of(run) and 0 <= result.scores["as_trained"]["f1_minority"] <= 1


def test_a_folder_that_is_too_small_says_what_it_takes(folder):
    with pytest.raises(ValueError, match="n_majority = 1011 asks for too many .* so at most 1010 are allowed"):
        split(Run(setting=f"folder:{folder}@16", n_majority=1011))
    with pytest.raises(ValueError, match="n_minority = 16 asks for too many .* so at most 15 are allowed"):
        split(Run(setting=f"folder:{folder}@16", n_minority=16))


def test_other_images_in_the_folder_are_other_data(folder):
    name = f"folder:{folder}@16"
    before = data_digest(name)
    (folder / "kaputt" / "0000.png").unlink()
    for cached in (load, data_digest):  # as a new process would
        cached.cache_clear()
    assert data_digest(name) != before


def chosen_at(setting, network, kind="own"):
    return [rates.learning_rate(rates.Place(setting, network), arm, kind) for arm in design.PAIR]


def test_rates_of_a_folder_are_kept_by_this_machine(folder, own_home, own_store, made_up, monkeypatch, capsys):
    name = setting(f"folder:{folder}").name
    with pytest.raises(ValueError, match="no learning rate chosen for arm 'plain' on 'folder:"):
        registry.runs(["base"], [name], seeds=1)

    def carry_out_all(runs, store, *_):
        for run in runs:
            store.add(made_up(run, data=data_digest(name), validation_f1_macro=1 - abs(run.learning_rate - 1e-2)))

    monkeypatch.setattr(local, "carry_out_all", carry_out_all)
    before, book = rates.published_rates().read_text(), chosen_at("digits", "simple_cnn")
    assert cli.main(["tune", "base", "sigmoid", "--settings", name]) == 0
    assert rates.published_rates().read_text() == before
    assert capsys.readouterr().out.startswith(f"chosen learning rates written to {own_home / 'rates.json'}\n")
    place = rates.Place(name, "simple_cnn")
    assert rates.learning_rate(place, "final_bn_sigmoid", "shared") == 1e-2 and not rates.at_grid_end(place, "plain")
    wanted = registry.runs(["base", "sigmoid"], [name], seeds=1, kinds=["own", "shared"])
    assert {run.learning_rate for run in wanted} == {1e-2} and {run.setting for run in wanted} == {name}
    assert chosen_at("digits", "simple_cnn") == book


def test_a_folder_is_tuned_on_so_many_seeds_and_so_long_as_asked(folder, own_home, own_store, made_up, monkeypatch):
    name = setting(f"folder:{folder}").name
    asked = []

    def carry_out_all(runs, store, device, workers, time_budget, engine):
        asked.append(time_budget)
        for run in runs:
            store.add(made_up(run, data=data_digest(name), validation_f1_macro=1 - abs(run.learning_rate - 1e-2)))

    monkeypatch.setattr(local, "carry_out_all", carry_out_all)
    command = ["tune", "base", "--settings", name, "--arms", "plain", "--seeds", "2", "--time-budget", "60"]
    assert cli.main(command) == 0 and 0 < asked[0] <= 60
    with Store(own_store) as store:
        done = store.scores()
    assert set(done["seed"]) == {0, 1} and set(done["final_norm"]) == {"none"}
    assert rates.learning_rate(rates.Place(name, "simple_cnn"), "plain") == 1e-2


def test_rates_of_a_cell_that_no_claim_plans_leave_the_books_alone(own_home, own_store, made_up, monkeypatch, capsys):
    def carry_out_all(runs, store, *_):
        for run in runs:
            store.add(made_up(run, data="made up", validation_f1_macro=1 - abs(run.learning_rate - 3e-3)))

    monkeypatch.setattr(local, "carry_out_all", carry_out_all)
    monkeypatch.setattr(local, "data_digest", lambda name: "made up")
    monkeypatch.setattr(local, "weights_digest", lambda run: "made up")
    monkeypatch.setattr(
        "replication.running.tuning.pilot_scores",
        lambda store, runs: {run: (1 - abs(run.learning_rate - 3e-3), 1.0) for run in runs},
    )
    before, apple = rates.published_rates().read_text(), chosen_at("plantvillage/apple", "simple_cnn")
    for name, network in (("plantvillage/tomato@64", "simple_cnn"), ("plantvillage/pepper", "resnet34:random")):
        assert (rates.Place(name, network), "plain") not in registry.searches()
        assert cli.main(["tune", "base", "--settings", name, "--networks", network]) == 0
        assert rates.published_rates().read_text() == before
        assert f"{own_home / 'rates.json'}" in capsys.readouterr().out
        assert chosen_at(name, network) == [3e-3, 3e-3] != chosen_at("plantvillage/apple", network)
        assert chosen_at("plantvillage/apple", "simple_cnn") == apple
    (own_home / "rates.json").write_text('{"grid": ')
    with pytest.raises(ValueError, match="rates.json holds no learning rates: .*delete it"):
        rates.chosen_rates()


def test_networks_alone_mean_the_settings_that_are_planned():
    def found(claim, network):
        return {cell.setting for cell in registry.cells(claim, networks=[network])}

    assert found("base", "resnet34:random") == {"plantvillage/apple"} and found("generality", "mlp") == {"digits"}
    assert "plantvillage/pepper" in found("base", "simple_cnn")
    for claim, network in (("base", "vgg19:random"), ("controls", "mlp")):
        with pytest.raises(ValueError, match=f"claim '{claim}' has no cell of network {network}: name settings too"):
            registry.runs([claim], networks=[network])
    assert registry.searches(networks=["vgg19:random"]) == []


@pytest.mark.parametrize("name", ["folder:/no/such/folder", "cracks"])
def test_images_that_are_not_here_are_one_sentence(name, own_home, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path / "nothing"))
    load.cache_clear()
    data_digest.cache_clear()
    assert not local.at_hand(name)
    with pytest.raises(ValueError, match="no data set at") as error:
        split(Run(setting=name))
    assert "\n" not in str(error.value)
    assert name != "cracks" or "replication data fetch cracks" in str(error.value)
    load.cache_clear()


def test_what_is_published_need_not_be_trained_again(own_store, tmp_path, made_up, monkeypatch, capsys):
    monkeypatch.setenv("REPLICATION_RESULTS", str(tmp_path / "results"))
    runs = registry.runs(["generality"], networks=["logistic"], seeds=2)
    with Store(own_store) as store:
        store.add_provenance({"id": "made up", "versions": {}, "hardware": "none", "device": "cpu"})
        for run in runs[:-1]:
            store.add(made_up(run))
        published.publish(store, runs)
    command = ["run", "generality", "--networks", "logistic", "--seeds", "2", "--unpublished", "--device", "cpu"]
    assert cli.main([*command, "--out", str(tmp_path / "other.sqlite")]) == 0
    assert capsys.readouterr().out.startswith("1 runs trained, 1 of 1 in ")


# --- The real sets --------------------------------------------------------------------------------


@pytest.fixture
def data():
    if not os.environ.get("REPLICATION_DATA"):
        pytest.skip("REPLICATION_DATA does not name the image data sets")


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_every_planned_split_can_be_drawn(name, data):
    s = setting(name)
    source = load(s.source, s.pixels)
    sizes = {
        (n("n_majority"), n("n_minority"), seed)
        for plan in registry.PLANS.values()
        for cell in plan.cells
        for c in plan.design(cell)
        if c.place.setting == name or c.place.setting.partition("@")[0] == name
        for n in [dict(vars(Run()) | dict(c.factors)).get]
        for seed in c.seeds
    }
    assert sizes or name in ("plantvillage/apple/ungrouped", "plantvillage/tomato/border")
    for n_majority, n_minority, seed in sizes:
        parts = indices(source, s, n_majority, n_minority, seed)
        numbers = [set(np.concatenate(part)) for part in parts.values()]
        assert sum(map(len, numbers)) == len(set.union(*numbers))
        if s.grouped:
            groups = [set(source.groups[list(part)]) for part in numbers]
            assert not groups[0] & groups[1] and not (groups[0] | groups[1]) & groups[2]


def published_rows(name):
    rows = published.read([name], root() / "results")
    if rows.empty:
        pytest.skip(f"nothing is published on {name}")
    return rows[(rows["setting"] == name) & (rows["readout"] == "as_trained")]


@pytest.mark.data
@pytest.mark.parametrize("name", ["plantvillage/apple", "cracks", "skin", "cifar10"])
def test_published_results_are_of_these_images(name, data):
    assert set(published_rows(name)["data"]) == {data_digest(name)}


@pytest.mark.data
def test_a_published_run_comes_out_again(data):
    rows = published_rows("plantvillage/apple")
    row = rows[(rows["epochs"] == 10) & (rows["n_majority"] == 100)].iloc[0]  # the shortest ones
    result = local.carry_out(Run(**row[list(FACTORS)].to_dict()), "cpu", "none")
    # to the bit on the same kind of machine; rounding grows in training elsewhere
    assert result.scores["as_trained"]["f1_minority"] == pytest.approx(row["f1_minority"], abs=0.2)
