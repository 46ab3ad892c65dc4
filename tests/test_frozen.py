"""Frozen bodies: heads trained many at a time against a plain loop over features, and features against the body."""

import dataclasses
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from replication.run import Run
from replication.training.engines.examples import Examples, examples
from replication.training.engines.heads import train_heads
from replication.training.heads import (
    BEFORE,
    CENTRING,
    FINAL_NORMS,
    SHIFTED,
    GhostBatchNorm,
    build,
    head_of,
)
from replication.training.loop import PRECISIONS, schedule
from replication.training.losses import LOSSES, as_softmax, loss_of
from replication.training.readouts import readouts

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
    features = {
        view: rng.normal(size=(max(len(labels), held), width)) + 0.3 * view for view in range(2)
    }

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
        read = dict(readouts(model, held, e.n_validation, torch.from_numpy(e.train[0]).to(dtype)))
    return {"history": np.stack(history)} | {name: as_softmax(z.numpy(), run.output) for name, z in read.items()}


def found(outcome) -> dict[str, np.ndarray]:
    """An outcome as the twin tells it."""
    return {"history": np.concatenate([outcome.validation, outcome.test], 1)} | outcome.readouts


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


@pytest.mark.parametrize("factors", [
    {"sampling": "oversample"}, {"schedule": "constant"}, {"batch_size": 16}, {"updates": 7, "epochs": 3},
])  # fmt: skip
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


@pytest.mark.parametrize("factors, told", [
    ({"optimizer": "lamb"}, "unknown optimizer 'lamb'"),
    ({"weight_decay": 0.1}, "needs optimizer 'adamw' or 'sgd'"),
    ({"precision": "bfloat16"}, "not for frozen bodies"),
    ({"shift_rate": 2.0}, "shift_rate = 2 needs a final norm whose shift is trained"),
    ({"final_norm": "bn", "ghost_batch": 24}, "does not divide a batch of 64"),
    ({"final_norm": "affine", "ghost_batch": 32}, "needs a final norm with batch statistics"),
    ({"loss": "hinge"}, "unknown loss 'hinge'"),
    ({"final_norm": "softplus"}, "unknown final norm"),
])  # fmt: skip
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
