"""Recipes for initial weights: carried out once where first needed, kept apart by what they are made of, guarded."""

import inspect

import pandas as pd
import pytest
import torch

from replication.data.settings import Setting, setting
from replication.results.reproduction import other_weights
from replication.results.store import Store
from replication.run import Run, checkpoint_digest
from replication.running import initial, local
from replication.running.pretraining import pretrain
from replication.study import recipes
from replication.training.heads import build

FEW = {
    "sources": ["digits"],
    "without": ["3", "8"],
    "pixels": 8,
    "epochs": 1,
    "learning_rate": 1e-3,
    "batch_size": 128,
    "precision": "float32",
    "seed": 0,
}
RUN = Run(setting="digits/1v1", init="most_digits", epochs=1)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    monkeypatch.setattr(recipes, "RECIPES", {"most_digits": FEW})
    monkeypatch.setattr(initial, "RECIPES", {"most_digits": FEW})
    left_out = Setting("digits/1v1", "digits", classes=(("3",), ("8",)))
    monkeypatch.setattr(initial, "setting_of", lambda name: left_out if name == "digits/1v1" else setting(name))
    return tmp_path / "pretrained"


def test_a_recipe_is_carried_out_once_and_runs_start_from_it(folder):
    initial.make([RUN, Run()])
    (path,) = folder.glob("*.pt")
    assert path == recipes.checkpoint("most_digits", "simple_cnn") and path.name.startswith("simple_cnn-most_digits-")
    kept, before = torch.load(path, weights_only=True), path.stat().st_mtime_ns
    assert kept["provenance"]["without"] == ["3", "8"] and len(kept["provenance"]["classes"]) == 8
    initial.make([RUN])
    assert path.stat().st_mtime_ns == before

    body = build(RUN, 1, 8, 2).state_dict()
    assert all(torch.equal(body[f"body.{key}"], value) for key, value in kept["body"].items())
    result = local.carry_out(RUN, "cpu", "made up")
    assert result.facts["checkpoint"] == recipes.recipe_digest("most_digits", "simple_cnn")
    assert local.key_of(RUN) == result.key != local.key_of(Run(setting="digits/1v1", epochs=1))
    assert result.facts["weights"] == checkpoint_digest(str(path))


def test_weights_of_another_recipe_network_or_set_of_images_are_other_weights(folder, monkeypatch):
    found = [recipes.recipe_digest("most_digits", network) for network in ("simple_cnn", "mlp")]
    for changed in ({"epochs": 2}, {"learning_rate": 1e-2}, {"seed": 1}):
        monkeypatch.setitem(recipes.RECIPES, "most_digits", FEW | changed)
        found.append(recipes.recipe_digest("most_digits", "simple_cnn"))
    monkeypatch.setitem(recipes.RECIPES, "most_digits", FEW)
    with monkeypatch.context() as another:
        another.setattr(recipes, "PROTOCOL", recipes.PROTOCOL + 1)
        found.append(recipes.recipe_digest("most_digits", "simple_cnn"))
    images = recipes.load("digits", 8)
    monkeypatch.setattr(recipes, "load", lambda *_: type("", (), {"digest": images.digest[::-1]}))
    found.append(recipes.recipe_digest("most_digits", "simple_cnn"))
    assert len(set(found)) == 7


def test_no_run_starts_from_weights_that_have_seen_its_images(folder, tmp_path):
    seen = Run(init="most_digits")
    words = "^init = 'most_digits' has seen images of class '1' in 'digits': allowed are settings of digits whose classes all "
    with pytest.raises(ValueError, match=words + "begin with 3, 8$"):
        initial.make([RUN, seen])
    with Store(tmp_path / "store.sqlite") as store, pytest.raises(ValueError, match="has seen images"):
        local.carry_out_all([seen], store, "cpu")
    assert not folder.exists()


def test_weights_that_nobody_has_made_are_asked_for(folder):
    with pytest.raises(ValueError, match="no checkpoint at init = "):
        build(RUN, 1, 8, 2)


def test_a_recipe_is_carried_out_alike_whatever_the_machine(folder):
    before, digests = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            initial.make([RUN])
            assert torch.get_num_threads() == threads
            (path,) = folder.glob("*.pt")
            digests.append([*torch.load(path, weights_only=True)["body"].values()])
            path.unlink()
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *digests))


def test_no_time_means_no_recipe(folder, tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        assert local.carry_out_all([RUN], store, "cpu", time_budget=0) == 0
    assert not folder.exists()


def test_results_from_other_weights_are_told():
    published, same, other = (pd.DataFrame({"seed": [1], "weights": [w]}) for w in ("a", "a", "b"))
    assert not other_weights(published, same) and other_weights(published, other)
    assert not other_weights(published, pd.DataFrame({"seed": [1]}))


@pytest.mark.skipif(not local.at_hand("plantvillage/apple"), reason="needs the images of PlantVillage")
@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("plantvillage/apple", True),
        ("plantvillage/apple@64", True),
        ("plantvillage/apple/2v2", True),
        ("digits", True),
        ("plantvillage/pepper", False),
        ("plantvillage/tomato/1v1", False),
    ],
)
def test_other_crops_are_for_apple_and_for_other_sources(name, allowed):
    run = Run(setting=name, init="other_crops", network="resnet34")
    if allowed:
        return initial._refuse_seen(run)
    with pytest.raises(ValueError, match="has seen images of class '(Pepper|Tomato)"):
        initial._refuse_seen(run)


def test_a_recipe_leaves_nothing_to_defaults():
    asked = inspect.signature(pretrain).parameters.keys() - {"network", "out", "device"}
    assert all(recipe.keys() == asked for recipe in recipes.RECIPES.values())
