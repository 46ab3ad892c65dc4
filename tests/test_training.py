"""Training against its plain twin: the layer's algebra, losses, pairing, determinism, and what is refused."""

import copy
import dataclasses
import platform
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import f1_score
from torch import nn

from replication.data.splits import split
from replication.results.store import Store
from replication.run import Run
from replication.running import local
from replication.training import loop, schedules
from replication.training.heads import BEFORE, CENTRING, FINAL_NORMS, Affine, MeanOnly, build
from replication.training.losses import LOSSES, as_softmax, loss_of
from replication.training.readouts import in_parts, readouts, shifted

NORMS = [name for name in FINAL_NORMS if name != "none"]
BATCH_NORMS = ["bn", "bn_slow", "bn_no_affine"]  # after the last linear layer


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(**factors) -> Run:
    """210 images, 3 updates an epoch."""
    return Run(**{"network": "mlp", "n_majority": 200, "epochs": 2} | factors)


def train(run: Run) -> loop.Outcome:
    return loop.train(run, split(run))


@dataclasses.dataclass
class Trained:
    outcome: loop.Outcome
    model: nn.Sequential
    held: torch.Tensor
    n_validation: int
    images: torch.Tensor
    labels: torch.Tensor


def trained(run: Run) -> Trained:
    """A run together with the network and the images that its readouts are made of."""
    seen = []

    def spy(*arguments):
        seen.extend(arguments)
        return readouts(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "readouts", spy)
        outcome = train(run)
    return Trained(outcome, *seen)


@pytest.fixture(scope="module")
def networks() -> dict[str, Trained]:
    """One trained network for every final norm, in float64."""
    return {name: trained(small(final_norm=name, precision="float64")) for name in FINAL_NORMS}


def close(found, wanted, tolerance=1e-10):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(wanted), rtol=tolerance, atol=tolerance)


# --- The layer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", BATCH_NORMS)
def test_folding_is_exact(networks, norm):
    read = networks[norm].outcome.readouts
    close(read["bn_folded"], read["as_trained"])
    assert np.abs(read["bn_removed"] - read["as_trained"]).max() > 0.01


@pytest.mark.parametrize("norm", NORMS)
def test_removed_is_what_the_layer_sees(networks, norm):
    run = networks[norm]
    inputs = []
    hook = run.model.head.final_norm.register_forward_hook(lambda _, seen, __: inputs.append(seen[0]))
    with torch.no_grad():
        logits = run.model.eval()(run.held)
    hook.remove()
    seen = run.model.head.linear(inputs[0]) if norm in BEFORE else inputs[0]
    assert np.array_equal(run.outcome.readouts["bn_removed"], seen.detach())
    assert np.array_equal(run.outcome.readouts["as_trained"], logits)


def in_one_batch(run: Trained, images: torch.Tensor) -> nn.Module:
    """The network after its final norm alone, with momentum 1, has seen the images as one batch."""
    model = copy.deepcopy(run.model).eval()
    model.head.final_norm.momentum = 1.0
    model.head.final_norm.train()
    with torch.no_grad():
        model(images)
    return model.eval()


@pytest.mark.parametrize("norm", [*BATCH_NORMS, "bn_before"])
def test_recalibration_is_one_training_batch_with_momentum_1(networks, norm):
    run = networks[norm]
    with torch.no_grad():
        close(run.outcome.readouts["bn_recalibrated"], in_one_batch(run, run.images)(run.held))
        parts = run.held[: run.n_validation], run.held[run.n_validation :]
        own = torch.cat([in_one_batch(run, part)(part) for part in parts])
    close(run.outcome.readouts["batch_statistics"], own)
    assert np.abs(run.outcome.readouts["batch_statistics"] - run.outcome.readouts["bn_recalibrated"]).max() > 0.1


def test_readouts_follow_from_the_layer(networks):
    names = {norm: set(run.outcome.readouts) for norm, run in networks.items()}
    assert names["none"] == {"as_trained"}
    assert names["layer_norm"] == names["affine"] == names["mean_only"] == {"as_trained", "bn_removed"}
    assert names["bn_before"] == names["layer_norm"] | {"bn_recalibrated", "batch_statistics"}
    assert all(names[norm] == names["bn_before"] | {"bn_folded"} for norm in BATCH_NORMS)


def test_mean_only_is_batch_norm_without_its_division():
    torch.manual_seed(0)
    layer, twin = MeanOnly(3).double(), nn.BatchNorm1d(3, eps=1e-300, affine=False).double()
    nn.init.normal_(layer.bias)
    for batch in torch.randn(4, 8, 3, dtype=torch.float64) * 5 + 2:
        batch.requires_grad_()
        spread = batch.var(0, unbiased=False).sqrt()
        ours, theirs = layer(batch), twin(batch) * spread + layer.bias
        close(ours, theirs)
        close(*(torch.autograd.grad((y**3).sum(), batch)[0] for y in (ours, theirs)))
    close(layer.running_mean, twin.running_mean)
    assert layer.running_mean.abs().min() > 0.1
    x = torch.randn(5, 3, dtype=torch.float64)
    close(layer.eval()(x), twin.eval()(x) * twin.running_var.sqrt() + layer.bias)


def test_affine_is_scale_and_shift():
    layer, x = Affine(2), torch.randn(4, 2)
    close(layer(x), x)
    nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    close(layer(x), nn.functional.linear(x, layer.weight.diag(), layer.bias), 1e-6)


@pytest.mark.parametrize("norm", FINAL_NORMS)
def test_only_a_bias_without_a_gradient_is_frozen(norm):
    run = small(final_norm=norm)
    parts = split(run)
    model = build(run, 1, 8, 2).double().train()
    linear = model.head.linear
    frozen = not linear.bias.requires_grad
    linear.bias.requires_grad_()
    x = loop.scaled(parts.train.images, torch.float64, torch.device("cpu"))[:64]
    y = torch.arange(64) % 2
    loss_of(run, torch.tensor([200.0, 10.0]).double())(model(x), y).backward()
    assert linear.weight.grad.abs().max() > 1e-3
    assert frozen == (norm in CENTRING) == bool(linear.bias.grad.abs().max() < 1e-14)


# --- The plain twin -------------------------------------------------------------------------------


def twin(run: Run) -> torch.Tensor:
    """Final logits on validation and test images of a loop as one would write it by hand."""
    parts = split(run)
    dtype = getattr(torch, run.precision)
    model = build(run, 1, 8, 2).to(dtype)
    images = [torch.tensor(part.images / 127.5 - 1).to(dtype) for part in (parts.train, parts.validation, parts.test)]
    labels = torch.tensor(parts.train.labels)
    steps = len(labels) // run.batch_size
    updates = run.updates or run.epochs * steps
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=run.learning_rate)
    cycle = None
    if run.schedule == "one_cycle":
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, run.learning_rate, total_steps=updates)
    rng = np.random.default_rng([zlib.crc32(b"order"), run.seed])
    for update in range(updates):
        if update % steps == 0:
            order = rng.permutation(len(labels))
        batch = order[update % steps * run.batch_size :][: run.batch_size]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[0][batch]), labels[batch]).backward()
        optimizer.step()
        if cycle and update + 1 < updates:
            cycle.step()
    with torch.no_grad():
        return model.eval()(torch.cat(images[1:]))


@pytest.mark.parametrize("schedule", ["one_cycle", "constant"])
@pytest.mark.parametrize("norm", ["none", "bn"])
@pytest.mark.parametrize("network", ["simple_cnn", "mlp", "logistic"])
def test_a_whole_run_is_that_of_the_plain_twin_in_float64(network, norm, schedule):
    run = small(network=network, final_norm=norm, schedule=schedule, precision="float64", batch_size=40)
    # pixels that never change make the logistic's logits, and so rounding under a BatchNorm, differ by processor
    close(train(run).readouts["as_trained"], twin(run), 1e-9 if (network, norm) == ("logistic", "bn") else 1e-10)


# Not the mlp: pixels that never change have no true gradient before a BatchNorm, and Adam blows up the noise.
@pytest.mark.parametrize(("network", "norm"), [("simple_cnn", "bn"), ("logistic", "none")])
def test_twenty_updates_are_those_of_the_plain_twin_in_float32(network, norm):
    run = small(network=network, final_norm=norm, updates=20)
    close(train(run).readouts["as_trained"], twin(run), 1e-4)


def test_outcome_ends_with_what_is_read_as_trained():
    outcome = train(small())
    assert outcome.validation.shape == (2, 157, 2) and outcome.test.shape == (2, 150, 2)
    last = np.concatenate([outcome.validation[-1], outcome.test[-1]])
    assert np.array_equal(last, outcome.readouts["as_trained"])


# --- Losses and outputs ---------------------------------------------------------------------------

RNG = np.random.default_rng(5)
LOGITS, LABELS, COUNTS = RNG.normal(size=(12, 3)) * 3, RNG.integers(3, size=12), np.array([100.0, 20.0, 5.0])


def of_label(values):
    return values[np.arange(len(LABELS)), LABELS]


def balanced_softmax() -> float:
    """Ren et al. 2020, eq. 3."""
    p = COUNTS * np.exp(LOGITS)
    return -np.log(of_label(p) / p.sum(1)).mean()


LOG_P = of_label(log_softmax(LOGITS, 1))
FORMULAS = {
    "cross_entropy": -LOG_P.mean(),
    "class_weighted": -np.average(LOG_P, weights=1 / COUNTS[LABELS]),
    "focal": -((1 - np.exp(LOG_P)) ** 2 * LOG_P).mean(),
    "logit_adjusted": balanced_softmax(),
}


def loss(logits: np.ndarray, labels=LABELS, **factors) -> float:
    counts = torch.tensor(COUNTS[: max(2, logits.shape[1])])
    return float(loss_of(Run(**factors), counts)(torch.tensor(logits), torch.tensor(labels)))


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_its_formula(name):
    assert loss(LOGITS, loss=name) == pytest.approx(FORMULAS[name], rel=1e-12)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_smoothed_loss_is_its_formula(share):
    every = log_softmax(LOGITS, 1)
    of_all = {"cross_entropy": -every.mean(), "logit_adjusted": -log_softmax(LOGITS + np.log(COUNTS), 1).mean()}
    for name, even in of_all.items():
        wanted = (1 - share) * FORMULAS[name] + share * even
        assert loss(LOGITS, loss=name, label_smoothing=share) == pytest.approx(wanted, rel=1e-12)
    weights = 1 / COUNTS
    even = -(every * weights).mean(1).sum() / weights[LABELS].sum()
    wanted = (1 - share) * FORMULAS["class_weighted"] + share * even
    assert loss(LOGITS, loss="class_weighted", label_smoothing=share) == pytest.approx(wanted, rel=1e-12)


def test_sigmoid_losses_are_their_formula():
    p, hot = expit(LOGITS), np.eye(3)[LABELS]
    each = -(hot * np.log(p) + (1 - hot) * np.log(1 - p))
    assert loss(LOGITS, output="sigmoids") == pytest.approx(each.sum(1).mean(), rel=1e-12)
    one, y = LOGITS[:, :1], LABELS % 2
    p = expit(one[:, 0])
    wanted = -np.where(y, np.log(p), np.log(1 - p)).mean()
    assert loss(one, y, output="sigmoid") == pytest.approx(wanted, rel=1e-12)


def test_outputs_as_softmax_keep_their_probabilities():
    one = np.append(LOGITS[:, 0], [-1000, 1000])[:, None]
    assert softmax(as_softmax(one, "sigmoid"), 1)[:, 1] == pytest.approx(expit(one[:, 0]), rel=1e-12)
    many = np.vstack([LOGITS, [[-1000.0, 0, 1000]]])
    p = softmax(as_softmax(many, "sigmoids"), 1)
    assert p == pytest.approx(expit(many) / expit(many).sum(1, keepdims=True), rel=1e-12)
    assert np.array_equal(p.argmax(1), many.argmax(1)) and len(set(p.argmax(1))) == 3
    assert as_softmax(LOGITS, "softmax") is LOGITS


# --- Pairing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["simple_cnn", "mlp", "logistic"])
@pytest.mark.parametrize("norm", NORMS)
def test_arms_share_initial_weights(network, norm):
    plain, arm = (build(small(network=network, final_norm=n), 1, 8, 2).state_dict() for n in ("none", norm))
    assert set(plain) <= set(arm) and all(name.startswith("head.final_norm") for name in set(arm) - set(plain))
    assert all(torch.equal(plain[name], arm[name]) for name in plain)
    other = build(small(network=network, seed=101), 1, 8, 2).state_dict()
    assert not torch.equal(plain["head.linear.weight"], other["head.linear.weight"])


@pytest.mark.parametrize(
    "arm", [{"final_norm": "bn"}, {"output": "sigmoids"}, {"loss": "focal"}, {"learning_rate": 0.1}]
)
def test_arms_share_split_and_batch_order(arm):
    plain, other = split(small()), split(small(**arm))
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(plain, part).images, getattr(other, part).images)
    orders = [np.array(loop.batches(small(**a), plain.train.labels)) for a in ({}, arm, {"seed": 101})]
    assert np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[0], orders[2])


@pytest.mark.parametrize("norm", FINAL_NORMS)
def test_a_score_does_not_depend_on_the_batch(networks, norm):
    run = networks[norm]
    some = [0, 3, run.n_validation, run.n_validation + 80, len(run.held) - 1]
    with torch.no_grad():
        found = dict(readouts(run.model, run.held[some], 2, run.images, run.labels))
    together = found.pop("batch_statistics", None)
    for name, logits in found.items():
        close(logits, run.outcome.readouts[name][some])
    if norm in (*BATCH_NORMS, "bn_before"):
        assert np.abs(together.numpy() - run.outcome.readouts["batch_statistics"][some]).max() > 0.1


# --- Determinism ----------------------------------------------------------------------------------

PAIR = [small(network="simple_cnn", final_norm="bn"), small(sampling="oversample", output="sigmoid")]


def same(one: loop.Outcome, other: loop.Outcome) -> bool:
    return all(
        np.array_equal(getattr(one, part), getattr(other, part), equal_nan=True) for part in ("validation", "test")
    ) and all(np.array_equal(one.readouts[name], logits) for name, logits in other.readouts.items())


@pytest.mark.parametrize("run", PAIR, ids=lambda run: run.network)
def test_a_run_is_the_same_whatever_ran_before(run):
    alone = train(run)
    for other in PAIR:
        train(dataclasses.replace(other, loss="cross_entropy", seed=3))
    torch.manual_seed(1), np.random.seed(1)
    assert same(train(run), alone)
    assert not same(train(dataclasses.replace(run, seed=101)), alone)


def test_a_result_does_not_depend_on_the_number_of_workers(tmp_path):
    kept = []
    for workers in (1, 2):
        with Store(tmp_path / f"{workers}.sqlite") as store:
            assert local.carry_out_all(PAIR, store, "cpu", workers) == 2
            assert local.carry_out_all(PAIR, store, "cpu", workers) == 0
            kept.append(list(store.results()))
    here = sorted((local.carry_out(run, "cpu", "here") for run in PAIR), key=lambda result: result.key)
    for one, two, three in zip(*kept, here, strict=True):
        assert one.run == two.run == three.run
        assert one.scores == two.scores == three.scores
        assert set(one.arrays) == set(three.arrays)
        assert all(np.array_equal(one.arrays[name], r.arrays[name]) for r in (two, three) for name in one.arrays)


# On four test images. The mlp in float64 for the reason given at the float32 twin.
GOLDEN = [
    (
        {"network": "simple_cnn", "final_norm": "bn"},
        [[0.20541, 0.01130], [0.13737, -0.03875], [0.25441, 0.16290], [0.17012, 0.16242]],
    ),
    (
        {"network": "mlp", "precision": "float64"},
        [[0.11775, 0.25748], [0.08603, 0.22805], [-0.01397, 0.24735], [0.00130, 0.23688]],
    ),
]


@pytest.mark.parametrize(("factors", "wanted"), GOLDEN, ids=["simple_cnn", "mlp"])
def test_training_results_are_those_of_this_protocol(factors, wanted):
    logits = train(small(**factors)).test[-1][[0, 50, 100, 149]]
    assert logits == pytest.approx(np.array(wanted), abs=1e-3), "training results changed: raise PROTOCOL"


# --- Divergence, early stop, updates, sampling ----------------------------------------------------


def test_a_diverged_run_is_recorded(own_store):
    run = small(final_norm="bn", learning_rate=1e38)
    with Store(own_store) as store:
        store.add(local.carry_out(run, "cpu", "here"))
        [result] = store.results()
    assert result.run == run and result.facts["diverged"] is True
    assert set(result.scores) >= {"as_trained", "bn_removed", "bn_folded", "logit_adjusted"}
    assert {scores["f1_minority"] for scores in result.scores.values()} == {0.0}
    assert all(np.isnan(scores["nll"]) for scores in result.scores.values())
    assert result.facts["validation_f1_macro"] == 0
    assert np.isnan(result.arrays["test_nll"][-1]) and result.arrays["test_f1_minority"][-1] == 0


def test_training_ends_where_the_loss_is_not_finite(monkeypatch):
    calls = []

    def nan_at_5(run, counts):
        def loss(logits, labels):
            calls.append(1)
            return logits.sum() * (float("nan") if len(calls) == 5 else 1)

        return loss

    monkeypatch.setattr(loop, "loss_of", nan_at_5)
    outcome = train(small(epochs=4))  # 3 updates an epoch
    assert outcome.diverged and outcome.epochs == 2 and outcome.updates == 6
    assert np.isfinite(outcome.test[0]).all() and np.isnan(outcome.test[1]).all()
    assert np.isnan(outcome.readouts["as_trained"]).all()


def test_training_stops_after_two_consecutive_epochs_that_reach_the_f1(monkeypatch):
    f1 = iter([0.8, 0.79, 0.9, 0.8, 1.0])
    monkeypatch.setattr(loop, "minority_f1", lambda *_: next(f1))
    outcome = train(small(epochs=9, schedule="constant", stop_f1=0.8))
    assert (outcome.epochs, outcome.updates, len(outcome.test)) == (4, 12, 4)


def test_a_stopped_run_is_the_beginning_of_the_full_one():
    run = small(epochs=8, schedule="constant", n_minority=80, final_norm="bn", learning_rate=0.01)
    full, labels = train(run), torch.tensor(split(run).validation.labels)
    reached = [loop.minority_f1(torch.tensor(logits), labels, (1,)) >= 0.8 for logits in full.validation]
    last = next(i for i in range(1, 8) if reached[i - 1] and reached[i]) + 1
    early = train(dataclasses.replace(run, stop_f1=0.8))
    assert early.epochs == last < 8 and True in reached[: last - 2]  # one epoch alone did not stop it
    assert np.array_equal(early.test, full.test[:last])


def test_minority_f1_is_scikit_learns():
    predicted, labels = RNG.integers(4, size=(2, 40))
    found = loop.minority_f1(torch.eye(4)[predicted], torch.tensor(labels), (1, 3))
    assert found == pytest.approx(f1_score(labels, predicted, labels=[1, 3], average="macro"))
    assert loop.minority_f1(torch.eye(2)[[0, 0]], torch.tensor([0, 0]), (1,)) == 0


@pytest.mark.parametrize(("updates", "epochs"), [(1, 1), (3, 1), (7, 3), (12, 4)])
def test_updates_are_made_exactly(updates, epochs):
    run = small(updates=updates, epochs=99)
    outcome = train(run)
    assert (outcome.updates, outcome.epochs, len(outcome.test)) == (updates, epochs, epochs)
    labels = split(run).train.labels
    whole = np.concatenate(loop.batches(small(epochs=4), labels))
    assert np.array_equal(np.concatenate(loop.batches(run, labels)), whole[:updates])


def test_shuffle_takes_each_image_at_most_once_an_epoch():
    for epoch in loop.batches(small(batch_size=64), split(small()).train.labels):
        assert epoch.shape == (3, 64) and len(np.unique(epoch)) == 192


def test_oversample_draws_classes_and_their_images_equally():
    labels = split(small()).train.labels
    drawn = np.concatenate(loop.batches(small(sampling="oversample", epochs=200), labels)).ravel()
    assert abs(labels[drawn].mean() - 0.5) < 4 * 0.5 / len(drawn) ** 0.5
    for c, n in enumerate(np.bincount(labels)):
        each = np.bincount(drawn, minlength=len(labels))[labels == c]
        wanted = len(drawn) / 2 / n
        assert np.abs(each - wanted).max() < 6 * wanted**0.5


def test_updates_at_a_constant_rate_are_the_first_of_a_longer_training():
    few, more = (train(small(updates=n, schedule="constant", final_norm="bn")) for n in (3, 6))
    assert few.updates == 3 and more.updates == 6 and (few.test[-1] == more.test[0]).all()


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({"batch_size": 1}, "batch_size = 1 leaves BatchNorm no variance: allowed are 2 to 210"),
        ({"batch_size": 211}, "batch_size = 211 is larger than the training set: allowed are 2 to 210"),
        ({"network": "vgg"}, "unknown network 'vgg': allowed are simple_cnn, mlp, logistic"),
        ({"head": "deep"}, "unknown head 'deep': allowed are linear"),
        ({"final_norm": "group"}, "unknown final norm 'group': allowed are none, bn, bn_slow,"),
        ({"output": "tanh"}, "unknown output 'tanh': allowed are softmax, sigmoid, sigmoids"),
        ({"loss": "hinge"}, "unknown loss 'hinge': allowed are cross_entropy, class_weighted, focal,"),
        ({"loss": "focal", "output": "sigmoid"}, "loss 'focal' needs output 'softmax', found 'sigmoid'"),
        ({"label_smoothing": 1.0}, "label_smoothing = 1 is no share: allowed are 0 to below 1"),
        (
            {"label_smoothing": 0.1, "loss": "focal"},
            "label_smoothing = 0.1 needs output 'softmax' and a loss of cross_entropy, class_weighted, logit_adjusted",
        ),
        ({"label_smoothing": 0.1, "output": "sigmoids"}, "found 'sigmoids' and 'cross_entropy'"),
        ({"augmentation": "mixup"}, "unknown augmentation 'mixup': allowed are setting, none"),
        ({"sampling": "smote"}, "unknown sampling 'smote': allowed are shuffle, oversample"),
        ({"schedule": "cosine"}, "unknown schedule 'cosine': allowed are one_cycle, constant"),
        ({"precision": "int8"}, "unknown precision 'int8': allowed are float32, tf32, bfloat16, float64"),
        ({"init": "imagenet"}, "unknown init 'imagenet': allowed are random"),
        ({"setting": "digits/2v1", "output": "sigmoid"}, "found 3 classes, use 'sigmoids'"),
    ],
)
def test_bad_factor_is_refused_in_one_sentence(factors, words):
    with pytest.raises(ValueError) as error:
        train(small(**factors))
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "side, images, sizes", [(8, 300, [300]), (32, 150, [64, 64, 22]), (64, 70, [32, 32, 6]), (128, 1, [1])]
)
def test_a_test_in_parts_is_that_in_one(side, images, sizes):
    torch.manual_seed(0)
    body = build(Run(), 3, side, 2).body.eval()
    x, seen = torch.randn(images, 3, side, side).contiguous(memory_format=torch.channels_last), []

    def watched(part):
        seen.append(len(part))
        return body(part)

    with torch.no_grad():
        torch.testing.assert_close(in_parts(watched, x), body(x), rtol=1e-5, atol=1e-5)
    assert seen == sizes


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_a_worker_keeps_the_memory_of_its_tensors():
    code = """
import resource, sys, torch
from replication.running.processes import _keep_memory
if sys.argv[1] == "kept":
    _keep_memory()
for n in range(25):
    torch.ones(10 * 2**20)  # 40 MB: glibc maps what is above 32 MB whatever it has seen before
    if n == 19:  # the heap has found its size
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    lost, kept = (int(subprocess.check_output([sys.executable, "-c", code, how])) for how in ("lost", "kept"))
    assert kept < 1000 < lost, "five times 10240 pages of 4 KB, or none"


def test_a_threshold_by_the_training_images_is_two_deviations_above_the_majority():
    rng = np.random.default_rng(0)
    seen, labels = rng.normal(size=(2, 50)), np.repeat([0, 1], [40, 10])
    logits = rng.normal(size=(2, 7))
    odds = (seen[1] - seen[0])[:40]
    cut = shifted(*map(torch.from_numpy, (logits, seen, labels))).numpy()
    close(torch.from_numpy(cut[1] - cut[0]), logits[1] - logits[0] - odds.mean() - 2 * odds.std(ddof=1))
    moved = seen + 5 * np.array([[0.0], [1.0]]) * (labels == 1)  # the minority has no say
    assert np.array_equal(shifted(*map(torch.from_numpy, (logits, moved, labels))).numpy(), cut)


def test_only_a_fixed_shift_is_set_by_the_training_images(networks):
    assert "shifted_by_images" in networks["bn_fixed_shift"].outcome.readouts
    assert not [n for n in networks if n != "bn_fixed_shift" and "shifted_by_images" in networks[n].outcome.readouts]


# --- Optimizers of all layers ---------------------------------------------------------------------


def by_hand(run: Run) -> np.ndarray:
    """Test logits after a training whose updates are written out: SGD with momentum 0.9, or AdamW; decay on weights alone."""
    s = split(run)
    model = build(run, *s.train.images.shape[1:3], s.n_classes).double()
    plan = loop.batches(run, s.train.labels)
    rates = schedules.schedule(run.schedule, run.learning_rate, sum(map(len, plan)))
    x, y = loop.scaled(s.train.images, torch.float64, torch.device("cpu")), torch.from_numpy(s.train.labels)
    loss_function = loss_of(run, torch.from_numpy(s.train_counts).double())
    trained = [p for p in model.parameters() if p.requires_grad]
    first, second = ([torch.zeros_like(p) for p in trained] for _ in range(2))
    for step, (rows, (rate, beta1)) in enumerate(zip(np.concatenate(plan), rates), 1):
        loss_function(model.train()(x[rows]), y[rows]).backward()
        with torch.no_grad():
            for p, m, v in zip(trained, first, second):
                decay = run.weight_decay * (p.dim() > 1)
                if run.optimizer == "sgd":
                    m.mul_(0.9).add_(p.grad + decay * p)
                    p.sub_(rate * m)
                else:
                    p.mul_(1 - rate * decay)
                    m.mul_(beta1).add_((1 - beta1) * p.grad)
                    v.mul_(0.999).add_(0.001 * p.grad**2)
                    p.sub_(rate * (m / (1 - beta1**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8))
                p.grad = None
    with torch.no_grad():
        return model.eval()(loop.scaled(s.test.images, torch.float64, torch.device("cpu"))).numpy()


@pytest.mark.parametrize("optimizer, decay", [("sgd", 0.0), ("sgd", 0.1), ("adamw", 0.0), ("adamw", 0.3)])
def test_optimizers_of_all_layers_are_their_formulas(optimizer, decay):
    run = small(optimizer=optimizer, weight_decay=decay, final_norm="bn", precision="float64", learning_rate=1e-2)
    found = train(run).test[-1]
    assert np.abs(found - by_hand(run)).max() < 1e-9
    if decay:
        assert np.abs(found - train(dataclasses.replace(run, weight_decay=0.0)).test[-1]).max() > 1e-4
    elif optimizer == "adamw":
        assert np.abs(found - train(dataclasses.replace(run, optimizer="adam")).test[-1]).max() < 1e-9


@pytest.mark.parametrize(
    "factors, told",
    [
        ({"weight_decay": 0.1}, "weight_decay = 0.1 needs optimizer 'adamw' or 'sgd': found 'adam'"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion': allowed are adam, adamw, sgd"),
        ({"shift_rate": 2.0}, "shift_rate = 2.0 is for frozen bodies only"),
        ({"schedule": "fine_tune", "optimizer": "sgd"}, "brings its own optimizer: found 'sgd', 'adam' is needed"),
    ],
)
def test_optimizers_that_do_not_fit_are_refused(factors, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        train(small(**factors))
