"""Frozen bodies: heads trained many at a time against a plain loop over features, and features against the body."""

import dataclasses
import os
import shutil
import threading
import time
from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from replication.data.splits import augmented, framed, split
from replication.results.store import Store
from replication.run import Run
from replication.running import frozen as frozen_module
from replication.running.frozen import carry_out_frozen, head_examples, train_chunk
from replication.running.local import carry_out_all, key_of
from replication.running.pretraining import save
from replication.running.progress import Progress
from replication.running.scoring import Labels, scored
from replication.training import bodies, loop
from replication.training import features as features_module
from replication.training.engines.examples import Examples, examples
from replication.training.engines.heads import train_heads
from replication.training.features import Features, labels_of
from replication.training.heads import (
    BEFORE,
    CENTRING,
    FINAL_NORMS,
    SHIFTED,
    GhostBatchNorm,
    MaxAvgPool,
    build,
    head_of,
)
from replication.training.loop import PRECISIONS
from replication.training.losses import LOSSES, SMOOTHED, as_softmax, loss_of
from replication.training.readouts import learned, readouts
from replication.training.schedules import schedule

WIDTH = 24


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(**factors) -> Run:
    """210 images, 3 updates an epoch, in float64."""
    return Run(**{"n_majority": 200, "epochs": 3, "trained": "head", "precision": "float64"} | factors)


def made_up(run: Run, classes: int = 2, head: str = "linear", held: int = 60) -> Examples:
    """Features that tell the classes apart, of two views."""
    rng = np.random.default_rng(run.seed)
    width = 2 * WIDTH if head == "fastai" else WIDTH
    centres = rng.normal(size=(classes, width))
    labels = np.repeat(np.arange(classes), [run.n_majority] + [run.n_minority] * (classes - 1))
    test = np.arange(held) % classes
    sizes = {"train": np.arange(len(labels)), "validation": np.arange(20), "test": np.arange(20, held)}
    features = {view: rng.normal(size=(max(len(labels), held), width)) + 0.3 * view for view in range(2)}

    def rows(view: int, numbers: np.ndarray) -> np.ndarray:
        truth = labels if len(numbers) == len(labels) else test
        return np.maximum(features[view][numbers] + centres[truth[numbers]], 0).astype(np.float32)

    truths = {"train": labels, "validation": test[:20], "test": test[20:]}
    return examples(run, rows, sizes, truths, tuple(range(1, classes)), pixels=32, augment=True)


def twin(run: Run, e: Examples, updates: int | None = None) -> dict[str, np.ndarray]:
    """A plain loop over features with the head's own modules and torch's optimizers: histories and readouts."""
    dtype = PRECISIONS[run.precision]
    width = e.held.shape[1] // (2 if run.head == "fastai" else 1)
    head = head_of(run, width, len(e.counts))
    head.pool = head.pool[1:] if run.head == "fastai" else nn.Identity()
    head = head.to(dtype)
    named = [(name, p) for name, p in head.named_parameters() if p.requires_grad]
    groups = [
        {
            "params": [p],
            "weight_decay": run.weight_decay if p.dim() == 2 else 0.0,
            "multiple": run.shift_rate if name == "final_norm.bias" else 1.0,
        }
        for name, p in named
    ]
    optimizer = {
        "adam": lambda: torch.optim.Adam(groups),
        "adamw": lambda: torch.optim.AdamW(groups),
        "sgd": lambda: torch.optim.SGD(groups, lr=1.0, momentum=0.9),
    }[run.optimizer]()
    loss = loss_of(run, torch.from_numpy(e.counts).to(dtype))
    rates = iter(schedule(run.schedule, run.learning_rate, sum(map(len, e.plan))))
    held, history, made = torch.from_numpy(e.held).to(dtype), [], 0
    for number, epoch in enumerate(e.plan):
        head.train()
        for batch in epoch:
            if made == updates:
                break
            x = np.stack([e.train[e.mirrored[number][i], i] for i in batch])
            rate, beta1 = next(rates)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["multiple"]
                if "betas" in group:
                    group["betas"] = (beta1, 0.999)
            optimizer.zero_grad()
            loss(head(torch.from_numpy(x).to(dtype)), torch.from_numpy(e.labels[batch])).backward()
            optimizer.step()
            made += 1
        head.eval()
        with torch.no_grad():
            history.append(as_softmax(head(held).numpy(), run.output))
    model = nn.Sequential(OrderedDict(body=nn.Identity(), head=head))
    with torch.no_grad():
        read = dict(
            readouts(model, held, e.n_validation, torch.from_numpy(e.train[0]).to(dtype), torch.from_numpy(e.labels))
        )
    found = {name: as_softmax(z.numpy(), run.output) for name, z in read.items()}
    return {"history": np.stack(history)} | found | facts(learned(loop.final_norm(model)))


def facts(told: dict[str, float]) -> dict[str, np.ndarray]:
    """What a final norm has learned, as arrays."""
    return {f"learned {name}": np.array([value]) for name, value in told.items()}


def found(outcome) -> dict[str, np.ndarray]:
    """An outcome as the twin tells it."""
    return {"history": np.concatenate([outcome.validation, outcome.test], 1)} | outcome.readouts | facts(outcome.facts)


def agree(runs: list[Run], tolerance: float = 1e-10, **options) -> None:
    """Runs trained together equal their twins."""
    made = {run.seed: made_up(run, **options) for run in runs}
    of = [made[run.seed] for run in runs]
    for run, e, outcome in zip(runs, of, train_heads(runs, of)):
        ours, wanted = found(outcome), twin(run, e)
        assert ours.keys() == wanted.keys(), run
        for name, values in wanted.items():
            assert np.abs(ours[name] - values).max() < tolerance * max(1, np.abs(values).max()), (run, name)
        assert outcome.epochs == run.epochs and not outcome.diverged
        assert np.abs(wanted["history"][-1] - wanted["history"][0]).max() > 1e-3, run


# Two logits leave a layer norm as 1 and -1 whatever they were: its gradients are what rounding leaves of them.
NORMS = [name for name in FINAL_NORMS if name != "layer_norm"]


def test_all_norms_together_equal_the_plain_loop():
    agree([small(final_norm=norm, seed=s, shift=-0.4) for norm in NORMS for s in (100, 101)])


def test_three_classes_equal_the_plain_loop():
    names = [*FINAL_NORMS]
    agree([small(final_norm=norm, setting="digits/1v2", shift=-0.4) for norm in names], classes=3)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_equal_the_plain_loop(loss):
    agree([small(final_norm=norm, loss=loss) for norm in ("none", "bn", "bn_before", "centred")])


def test_losses_side_by_side_equal_the_plain_loop():
    outputs = [small(output="sigmoids"), small(output="sigmoids", final_norm="bn")]
    agree([small(final_norm=norm, loss=loss) for norm in ("none", "bn") for loss in LOSSES] + outputs)


@pytest.mark.parametrize("norm", NORMS)
def test_sigmoids_equal_the_plain_loop(norm):
    agree([small(final_norm=norm, output=output, shift=0.3) for output in ("sigmoid", "sigmoids")])


@pytest.mark.parametrize("classes, setting", [(2, "digits"), (3, "digits/1v2")])
def test_smoothed_labels_equal_the_plain_loop(classes, setting):
    runs = [
        small(setting=setting, final_norm=norm, loss=loss, label_smoothing=share)
        for norm in ("none", "bn", "bn_before")
        for loss in LOSSES
        for share in (0.0, 0.1, 0.2)
        if loss in SMOOTHED or not share
    ]
    agree(runs, classes=classes)


def test_augmentation_is_the_settings_unless_it_is_switched_off():
    run = small(setting="plantvillage/tomato@160")
    assert augmented(run) and not augmented(dataclasses.replace(run, augmentation="none"))
    assert not augmented(small())  # digits are not augmented at all
    with pytest.raises(ValueError, match="unknown augmentation 'mixup': allowed are setting, none"):
        augmented(small(augmentation="mixup"))


@pytest.mark.parametrize("optimizer, decay", [("adam", 0.0), ("adamw", 0.1), ("sgd", 0.0), ("sgd", 0.1)])
def test_optimizers_equal_the_plain_loop(optimizer, decay):
    norms = ("none", "bn", "bn_before", "mean_only")
    runs = [small(final_norm=n, optimizer=optimizer, learning_rate=r) for n in norms for r in (3e-2, 3e-3)]
    agree([*runs, *(dataclasses.replace(run, weight_decay=decay) for run in runs if decay)])


@pytest.mark.parametrize("norm", [n for n in NORMS if n in CENTRING + BEFORE])
def test_ghost_batches_equal_the_plain_loop(norm):
    agree([small(final_norm=norm, ghost_batch=size, shift=-0.4) for size in (8, 32)])


def test_a_ghost_batch_is_a_batch_of_its_own():
    norm, plain = GhostBatchNorm(3, 4).double(), nn.BatchNorm1d(3).double()
    x = torch.randn(12, 3, dtype=torch.float64)
    wanted = torch.cat([plain(part) for part in x.split(4)])
    torch.testing.assert_close(norm(x), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * torch.stack([p.var(0) for p in x.split(4)]).mean(0))


@pytest.mark.parametrize("norm", [n for n in NORMS if n in SHIFTED])
def test_a_shift_has_a_rate_of_its_own(norm):
    runs = [small(final_norm=norm, shift_rate=multiple, learning_rate=1e-2) for multiple in (0.0, 1.0, 30.0)]
    agree(runs)
    e = made_up(runs[0])
    ends = [outcome.test[-1] for outcome in train_heads(runs, [e] * 3)]
    assert np.abs(ends[0] - ends[2]).max() > 1e-2


@pytest.mark.parametrize(
    "factors",
    [
        {"sampling": "oversample"},
        {"schedule": "constant"},
        {"batch_size": 16},
        {"updates": 7, "epochs": 3},
    ],
)
def test_orders_and_schedules_equal_the_plain_loop(factors):
    agree([small(final_norm=norm, seed=s, **factors) for norm in ("none", "bn") for s in (100, 101)])


@pytest.mark.parametrize("norm", NORMS)
def test_a_fastai_head_equals_the_plain_loop(norm):
    agree([small(final_norm=norm, head="fastai", epochs=2, shift=0.2)], 1e-9, head="fastai")


def test_single_precision_equals_the_plain_loop_over_20_updates():
    runs = [small(final_norm=norm, precision="float32", updates=20, epochs=7) for norm in NORMS]
    agree(runs, 1e-4)


def test_company_does_not_matter():
    rates = (1e-3, 1e-2)
    runs = [small(final_norm=n, learning_rate=r, seed=s) for s in (100, 101) for n in NORMS for r in rates]
    made = {run.seed: made_up(run) for run in runs}
    together = train_heads(runs, [made[run.seed] for run in runs])
    for number in (0, 3, len(runs) - 1):
        (alone,) = train_heads([runs[number]], [made[runs[number].seed]])
        for name, values in found(alone).items():
            assert np.abs(found(together[number])[name] - values).max() < 1e-10


@pytest.mark.parametrize("head", ["linear", "fastai"])
def test_a_run_that_stops_is_read_where_it_stopped(head):
    run = small(epochs=8, learning_rate=3e-2, final_norm="bn", head=head)
    e = made_up(run, head=head)
    long, stopped = train_heads([run, dataclasses.replace(run, stop_f1=0.3)], [e, e])
    assert long.epochs == 8 and 2 <= stopped.epochs < 8
    assert stopped.updates == 3 * stopped.epochs
    last = np.concatenate([stopped.validation[-1], stopped.test[-1]])
    assert np.abs(stopped.readouts["as_trained"] - last).max() < 1e-12
    assert np.abs(stopped.test - long.test[: stopped.epochs]).max() < 1e-12
    assert np.abs(stopped.readouts["bn_removed"] - long.readouts["bn_removed"]).max() > 1e-3
    assert 0 < -stopped.facts["shift"] < -long.facts["shift"]  # as it was where it stopped


@pytest.mark.parametrize("head", ["linear", "fastai"])
def test_divergence_stays_with_the_run(head):
    kind = {"head": head, "schedule": "constant", "precision": "float32"}
    high = kind | {"learning_rate": 1e38}
    runs = [small(**kind), small(**high, optimizer="sgd"), small(**high), small(**kind, final_norm="bn")]
    e = made_up(runs[0], head=head)
    outcomes = train_heads(runs, [e] * 4)
    assert [outcome.diverged for outcome in outcomes] == [False, True, True, False]
    for outcome in outcomes[1:3]:
        assert np.isnan(outcome.test[-1]).all() and np.isnan(outcome.readouts["as_trained"]).all()
        assert outcome.epochs == len(outcome.test) < 3
    assert np.isfinite(outcomes[3].test).all()


@pytest.mark.parametrize(
    "factors, told",
    [
        ({"optimizer": "lamb"}, "unknown optimizer 'lamb'"),
        ({"weight_decay": 0.1}, "needs optimizer 'adamw' or 'sgd'"),
        ({"precision": "bfloat16"}, "not for frozen bodies"),
        ({"precision": "tf32"}, "not for frozen bodies: allowed are float32 and float64"),
        ({"shift_rate": 2.0}, "shift_rate = 2 needs a final norm whose shift is trained"),
        ({"final_norm": "bn", "ghost_batch": 24}, "does not divide a batch of 64"),
        ({"final_norm": "affine", "ghost_batch": 32}, "needs a final norm with batch statistics"),
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"final_norm": "softplus"}, "unknown final norm"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(factors, told):
    e = made_up(small())
    with pytest.raises(ValueError, match=told):
        train_heads([small(**factors)], [e])


def test_the_plain_network_refuses_a_shift_with_a_rate_of_its_own():
    with pytest.raises(ValueError, match="shift_rate = 2 needs trained = 'head'"):
        build(Run(final_norm="bn", shift_rate=2.0), 1, 8, 2)


def test_fixed_values_of_final_norms():
    norm = head_of(small(final_norm="bn_fixed_shift", shift=-0.4), 5, 2).final_norm
    assert norm.bias.tolist() == pytest.approx([0.2, -0.2]) and not norm.bias.requires_grad
    norm = head_of(small(final_norm="bn_fixed_shift", shift=-0.4, output="sigmoid"), 5, 2).final_norm
    assert norm.bias.tolist() == pytest.approx([-0.4])
    norm = head_of(small(final_norm="bn_fixed_shift", shift=1.0, setting="digits/2v1"), 5, 3).final_norm
    assert norm.bias.tolist() == pytest.approx([-0.5, -0.5, 0.5])
    norm = head_of(small(final_norm="bn_log_prior_scale"), 5, 2).final_norm
    assert norm.weight.tolist() == pytest.approx([np.log(20)] * 2) and not norm.weight.requires_grad
    with pytest.raises(ValueError, match="needs n_majority above n_minority"):
        head_of(small(final_norm="bn_log_prior_scale", n_minority=200), 5, 2)


# --- Features, and whole runs on them ---------------------------------------------------------------


@pytest.fixture
def leaves(tmp_path, monkeypatch) -> str:
    """A folder of images of two classes, 8 pixels wide, as a setting whose training images are mirrored."""
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    for name, n in (("large", 520), ("small", 260)):
        folder = tmp_path / "leaves" / name
        folder.mkdir(parents=True)
        for i in range(n):
            image = rng.integers(256, size=(8, 8, 3)) // (1 if name == "large" else 2)
            Image.fromarray(image.astype(np.uint8)).save(folder / f"{i}.png")
    return f"folder:{tmp_path / 'leaves'}@8"


def a_body() -> nn.Module:
    """A small body with random weights and running statistics of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        body, _ = bodies.body("simple_cnn", 3, 8)
        for layer in body:
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
    return body.eval()


def frozen(setting: str, **factors) -> Run:
    return Run(setting=setting, **{"n_majority": 200, "epochs": 2, "trained": "head"} | factors)


@pytest.fixture
def checkpoint(tmp_path) -> str:
    """The body as a checkpoint, for `Run.init`."""
    path = tmp_path / "body.pt"
    save(path, "simple_cnn", a_body(), {})
    return str(path)


def computed(run: Run, body: nn.Module) -> Features:
    features = Features.of(run, body)
    for block in list(features.missing(labels_of([run]))):
        features.compute(body, *block)
    return features


def wanted_features(body: nn.Module, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and largest values (N, F) as the heads' own pooling gives them."""
    with torch.no_grad():
        maps = body(loop.scaled(images, torch.float32, torch.device("cpu")))
        both = MaxAvgPool()(maps).numpy()
    return both[:, both.shape[1] // 2 :], both[:, : both.shape[1] // 2]


def test_features_are_those_of_the_images(leaves):
    body, run = a_body(), frozen(leaves)
    features = computed(run, body)
    numbers = np.random.default_rng(0).permutation(len(features.data.labels))[:300]
    images = np.asarray(features.data.images[numbers])
    for view, shown in enumerate((images, images[..., ::-1])):
        mean, largest = wanted_features(body, np.ascontiguousarray(shown))
        assert np.abs(features.rows(view, numbers) - mean).max() < 1e-5
        both = features.rows(view, numbers, "fastai")
        assert np.abs(both - np.concatenate([largest, mean], 1)).max() < 1e-5
    assert np.abs(features.rows(0, numbers) - features.rows(1, numbers)).max() > 1e-2
    framed_too = dataclasses.replace(features, border=True, folder=features.folder / "border")
    framed_too.compute(body, 0, 0)
    mean, _ = wanted_features(body, framed(np.asarray(features.data.images[:300])))
    assert np.abs(framed_too.rows(0, np.arange(300)) - mean).max() < 1e-5


def test_features_do_not_depend_on_how_they_are_cut(leaves, monkeypatch):
    body, run = a_body(), frozen(leaves)
    whole_blocks = computed(run, body)
    monkeypatch.setattr(features_module, "BLOCK", 100)
    monkeypatch.setattr(features_module, "AT_ONCE", 7 * 64)
    monkeypatch.setattr(features_module, "LEAST", 7)
    cut = dataclasses.replace(whole_blocks, folder=whole_blocks.folder / "cut")
    for block in list(cut.missing([0, 1])):
        cut.compute(body, *block)
    numbers = np.arange(0, 780, 3)
    found = cut.rows(1, numbers)
    monkeypatch.undo()
    assert len(list(cut.folder.iterdir())) == 6 + 3
    # the fixture's home is gone with its environment: the data is in memory by now
    assert np.abs(found - whole_blocks.rows(1, numbers)).max() < 1e-5


def test_a_feature_key_follows_what_it_is_made_of(leaves):
    body, run = a_body(), frozen(leaves)
    folders = {Features.of(run, body).folder, Features.of(dataclasses.replace(run, input_side=16), body).folder}
    assert Features.of(dataclasses.replace(run, seed=5, learning_rate=1.0), a_body()).folder in folders
    with torch.no_grad():
        body[2].running_mean[0] += 1e-3
    folders.add(Features.of(run, body).folder)
    folders.add(Features.of(dataclasses.replace(run, setting="digits"), body).folder)
    assert len(folders) == 4


def test_a_flip_in_a_block_is_noticed_and_a_block_without_a_sum_is_computed_again(leaves):
    run, body = frozen(leaves), a_body()
    features = computed(run, body)
    file = features.folder / "0-0" / "features.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
    again = Features.of(run, body)
    assert list(again.missing(labels_of([run]))) == [(0, 0)]
    again.compute(body, 0, 0)
    assert file.read_bytes() == content and not list(again.missing(labels_of([run])))
    (file.parent / "features.sha256").unlink()  # as an earlier version left it
    assert list(Features.of(run, body).missing(labels_of([run]))) == [(0, 0)]


def test_a_broken_or_missing_block_is_computed_again(leaves, monkeypatch):
    monkeypatch.setattr(features_module, "BLOCK", 100)
    body, run = a_body(), frozen(leaves)
    features = computed(run, body)
    before = features.rows(0, np.arange(780)).copy()
    file = features.folder / "0-3" / "features.npy"
    os.truncate(file, file.stat().st_size // 2)
    shutil.rmtree(features.folder / "1-0")
    again = Features.of(run, body)
    assert list(again.missing([0, 1])) == [(0, 3), (1, 0)]
    kept = (features.folder / "0-0" / "features.npy").stat().st_mtime_ns
    assert np.array_equal(computed(run, body).rows(0, np.arange(780)), before)
    assert (features.folder / "0-0" / "features.npy").stat().st_mtime_ns == kept


def test_random_weights_are_refused():
    with pytest.raises(ValueError, match="with random weights keeps no features"):
        features_module.body_of(Run(trained="head"), 1, 8)


@pytest.mark.parametrize("head", ["linear", "fastai", "fastai_no_dropout"])
def test_runs_equal_the_plain_loop_over_images(leaves, checkpoint, head):
    shared = {"init": checkpoint, "head": head}
    runs = [frozen(leaves, final_norm=norm, seed=s, **shared) for norm in ("none", "bn") for s in (0, 1)]
    runs += [frozen(leaves, seed=0, split_seed=s, **shared) for s in (0, 1)]
    features = computed(runs[0], features_module.body_of(runs[0], 3, 8))
    for run, labels, outcome in train_chunk(runs, features, "cpu"):
        parts = split(run)
        plain = loop.train(run, parts)
        assert outcome.readouts.keys() == plain.readouts.keys()
        for name, logits in plain.readouts.items():
            assert np.abs(outcome.readouts[name] - logits).max() < 1e-3, name
        assert np.abs(outcome.test - plain.test).max() < 1e-3
        assert (outcome.epochs, outcome.updates, outcome.diverged) == (plain.epochs, plain.updates, plain.diverged)
        assert np.array_equal(labels.test, parts.test.labels) and labels.digest == parts.digest
        assert np.array_equal(labels.train_counts, parts.train_counts)
    first, own, other = (outcome.test for run, _, outcome in train_chunk([runs[0], *runs[-2:]], features, "cpu"))
    assert np.allclose(first, own, atol=1e-5) and not np.allclose(first, other, atol=1e-2)


def test_without_augmentation_heads_and_the_loop_see_the_images_as_they_are(leaves, checkpoint):
    runs = [frozen(leaves, init=checkpoint, final_norm="bn", augmentation=name) for name in ("none", "setting")]
    features = computed(runs[0], features_module.body_of(runs[0], 3, 8))
    ends = []
    for run in runs:
        ((_, _, outcome),) = train_chunk([run], features, "cpu")
        assert (head_examples(run, features)[0].mirrored is None) is (run.augmentation == "none")
        assert np.abs(outcome.test - loop.train(run, split(run)).test).max() < 1e-3
        ends.append(outcome.test[-1])
    assert np.abs(ends[0] - ends[1]).max() > 1e-2


def carry_out(runs: list[Run], store: Store, **options) -> int:
    interrupted = options.pop("interrupted", threading.Event())
    with Progress(len(runs)) as progress:
        return carry_out_frozen(runs, store, "cpu", progress, interrupted, workers=1, **options)


def test_finished_runs_are_stored_and_scored_as_from_the_plain_loop(leaves, checkpoint, own_store):
    runs = [frozen(leaves, init=checkpoint, final_norm=norm, seed=s) for norm in ("none", "bn") for s in (0, 1)]
    with Store(own_store) as store:
        assert carry_out(runs, store) == 4
        results = {result.run: result for result in store.results()}
    assert set(results) == set(runs)
    run = runs[2]
    plain = scored(run, Labels.of(split(run)), loop.train(run, split(run)), "")
    found = results[run]
    assert found.scores.keys() == plain.scores.keys()
    for readout, scores in plain.scores.items():
        assert found.scores[readout]["nll"] == pytest.approx(scores["nll"], abs=1e-3)
    assert found.key == plain.key == key_of(run)
    assert found.facts["updates_made"] == plain.facts["updates_made"] == 6


def test_the_deadline_and_ctrl_c_end_the_work(leaves, checkpoint, own_store):
    runs = [frozen(leaves, init=checkpoint, seed=s) for s in range(3)]
    with Store(own_store) as store:
        assert carry_out(runs, store, deadline=time.monotonic() - 1) == 0
        asked = threading.Event()
        asked.set()
        with pytest.raises(KeyboardInterrupt):
            carry_out(runs, store, interrupted=asked)
        assert not store.keys()
        assert carry_out_all(runs, store, workers=1) == 3
        assert set(store.keys()) == {key_of(run) for run in runs}


def test_chunks_keep_a_seed_together_and_are_not_too_large(monkeypatch):
    monkeypatch.setitem(frozen_module.AT_ONCE, ("cpu", "linear"), 5)
    norms = ("none", "bn")
    runs = [frozen("digits", final_norm=n, seed=s) for n in norms for s in range(4)]
    runs += [frozen("digits", n_minority=20, learning_rate=r) for r in np.linspace(1e-3, 1e-2, 7)]
    cut = list(frozen_module.chunks(runs, "cpu"))
    assert sorted(map(len, cut)) == [2, 4, 4, 5]
    assert {run for chunk in cut for run in chunk} == set(runs)
    assert all(len({run.n_minority for run in chunk}) == 1 for chunk in cut)
    assert all(sum(run.seed == s for run in cut[0]) == 2 for s in {run.seed for run in cut[0]})
