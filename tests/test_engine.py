"""Every engine against the plain loop: many runs at a time give what each gives alone."""

import contextlib
import dataclasses
import json
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from replication.data.augmentation import Augmented, draws, reach
from replication.data.splits import Part, Split
from replication.results.store import Store
from replication.run import Run
from replication.running import device, local
from replication.running.progress import Progress
from replication.training import loop, optimizers, schedules
from replication.training.engines import choice, lockstep, member
from replication.training.engines.member import Member, adam_step, moved, rates_of
from replication.training.engines.memory import bound, out_of_memory
from replication.training.engines.stacked import OWN
from replication.training.heads import FINAL_NORMS, build

CPU = torch.device("cpu")
gpu = pytest.mark.gpu
without_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def photographs(pixels: int = 32, n: int = 68, augment: bool = True, seed: int = 0) -> Split:
    """Noise in colour, brighter in class 1; 16 images in each held-out part."""
    rng = np.random.default_rng(seed)

    def part(size: int) -> Part:
        labels = (np.arange(size) % 4 == 0).astype(np.int64)
        images = rng.integers(0, 200, (size, 3, pixels, pixels)) + 40 * labels[:, None, None, None]
        return Part(images.astype(np.uint8), labels)

    return Split(part(n), part(16), part(16), (1,), "noise", augment)


def small(**factors) -> Run:
    """Of 68 images: 4 updates an epoch, 2 epochs."""
    return Run(**{"batch_size": 16, "epochs": 2, "precision": "float64", "seed": 0} | factors)


def differences(a: loop.Outcome, b: loop.Outcome) -> float:
    """Largest difference between two outcomes that agree in everything countable."""
    assert (a.diverged, a.epochs, a.updates) == (b.diverged, b.epochs, b.updates)
    assert a.readouts.keys() == b.readouts.keys()
    pairs = [(a.validation, b.validation), (a.test, b.test), *((a.readouts[k], b.readouts[k]) for k in a.readouts)]
    assert all(x.shape == y.shape and np.array_equal(np.isnan(x), np.isnan(y)) for x, y in pairs)
    return max(float(np.nanmax(np.abs(x - y), initial=0)) for x, y in pairs)


# --- Pieces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", [8, 16, 33, 64])
def test_moved_on_the_device_is_moved_on_the_host_to_the_bit(pixels):
    rng = np.random.default_rng(pixels)
    images = rng.integers(0, 256, (9, 3, pixels, pixels), dtype=np.uint8)
    moves = draws(3, 40, pixels, 1)[0]
    assert {*moves[:, 0]} == {0, 1} and {*moves[:, 1]} == {*range(2 * reach(pixels) + 1)}
    numbers = rng.integers(0, 9, 40)
    there = torch.from_numpy(images.transpose(0, 2, 3, 1).copy())
    found = moved(there, torch.from_numpy(numbers), torch.from_numpy(moves))
    assert np.array_equal(found, Augmented(images)(numbers, moves))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["one_cycle", "constant"])
def test_adam_with_its_constants_on_the_device_is_torchs(name):
    torch.manual_seed(0)
    start = torch.randn(7, dtype=torch.float64)
    ours, theirs = start.clone(), start.clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs], 0.05)
    rates = torch.from_numpy(rates_of(Run(schedule=name, learning_rate=0.05), 30))
    moments, variances = torch.zeros_like(ours), torch.zeros_like(ours)
    for t, (rate, beta1) in enumerate(schedules.schedule(name, 0.05, 30)):
        gradient = torch.randn(7, dtype=torch.float64)
        optimizer.param_groups[0].update(lr=rate, betas=(beta1, 0.999))
        theirs.grad = gradient.clone()
        optimizer.step()
        adam_step(ours, gradient, moments, variances, rates[t])
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-13)
    assert (ours - start).abs().min() > 1e-3


def test_a_gpu_takes_single_precision_at_its_word(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    loop.settle(CPU)
    assert torch.backends.cudnn.allow_tf32 and not torch.backends.cudnn.deterministic
    loop.settle(torch.device("cuda"))
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    loop.settle(torch.device("cuda"), "tf32")
    assert torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32
    loop.settle(torch.device("cuda"), "bfloat16")
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_memory_lies_as_suits_the_device_or_as_the_environment_says(monkeypatch):
    monkeypatch.delenv("REPLICATION_MEMORY_FORMAT", raising=False)
    cuda = torch.device("cuda")
    assert loop.memory_format(CPU, "float32") == loop.memory_format(cuda, "tf32") == torch.channels_last
    assert loop.memory_format(cuda, "float32") == torch.contiguous_format
    monkeypatch.setenv("REPLICATION_MEMORY_FORMAT", "contiguous")
    assert loop.memory_format(CPU, "bfloat16") == torch.contiguous_format
    monkeypatch.setenv("REPLICATION_MEMORY_FORMAT", "sideways")
    with pytest.raises(
        ValueError, match="unknown REPLICATION_MEMORY_FORMAT 'sideways': allowed are channels_last, cont"
    ):
        loop.memory_format(CPU, "float32")


@pytest.mark.parametrize("way", ["loop", "streams", "stacked"])
def test_results_do_not_depend_on_how_memory_lies(way, monkeypatch):
    run, parts, found, seen = small(final_norm="bn"), photographs(16), {}, []
    plain = optimizers.flattened
    for layout in loop.LAYOUTS:

        def watched(model, wanted):
            flat = plain(model, wanted)
            seen.extend(
                p.is_contiguous(memory_format=wanted) and p.grad.stride() == p.stride()
                for p in model.parameters()
                if p.dim() == 4
            )
            return flat

        monkeypatch.setattr(optimizers, "flattened", watched)
        monkeypatch.setattr(member, "flattened", watched)
        monkeypatch.setenv("REPLICATION_MEMORY_FORMAT", layout)
        train = loop.train if way == "loop" else lambda r, p: lockstep.train_together([r], [p], "cpu", way)[0]
        found[layout] = train(run, parts)
    assert seen and all(seen)
    assert differences(*found.values()) < 1e-10


@pytest.mark.parametrize("members", [1, 3])
def test_stacked_networks_see_contiguous_memory_alone(members, monkeypatch):
    """vmap raises on a GPU where cuDNN asks for channels last, which it does for feature maps that lie so."""
    seen, plain = [], torch.nn.BatchNorm2d.forward

    def watched(self, x):
        strides = [s for s, size in zip(x.stride(), x.shape) if size > 1]
        seen.append(strides == sorted(strides, reverse=True))
        return plain(self, x)

    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", watched)
    runs = [small(final_norm="bn", epochs=1, seed=s) for s in range(members)]
    step = lockstep.Lockstep(lockstep.WAYS["stacked"]([Member(r, photographs(32), CPU) for r in runs]), capture=False)
    step.train()
    assert len(seen) > 6 and all(seen)


# --- Equality with the loop -----------------------------------------------------------------------

MIXED = [
    small(),
    small(final_norm="bn", seed=1, learning_rate=1e-3),
    small(final_norm="bn_slow", seed=2, batch_size=17),  # the same number of updates an epoch
    small(final_norm="bn_before", loss="focal"),
    small(final_norm="layer_norm", loss="class_weighted", sampling="oversample"),
    small(final_norm="mean_only", loss="logit_adjusted", schedule="constant"),
    small(final_norm="bn", output="sigmoid"),
    small(final_norm="affine", output="sigmoids"),
    small(final_norm="bn", head="fastai"),
    small(network="mlp"),
    small(network="logistic", final_norm="bn_no_affine"),
]


@pytest.fixture(scope="module")
def mixed() -> tuple[list[Split], list[loop.Outcome]]:
    """Every run of MIXED on images of its own, by the loop."""
    splits = [photographs(augment=i % 3 > 0, seed=i) for i in range(len(MIXED))]
    return splits, [loop.train(run, part) for run, part in zip(MIXED, splits)]


def test_runs_of_all_forms_side_by_side_equal_the_loop(mixed):
    splits, alone = mixed
    for run, a, b in zip(MIXED, alone, lockstep.train_together(MIXED, splits, "cpu")):
        assert differences(a, b) < 1e-10, run
        assert np.abs(a.test[-1] - a.test[0]).max() > 1e-3, run


@pytest.mark.parametrize("norm", FINAL_NORMS)
def test_stacked_runs_equal_the_loop(norm):
    runs = [small(final_norm=norm, seed=s, learning_rate=rate) for s, rate in ((0, 3e-3), (1, 1e-2), (2, 1e-3))]
    splits = [photographs(16, seed=s) for s in range(3)]
    # two logits leave a layer norm as 1 and -1, whatever they were: its gradients are what rounding leaves of them
    limit = 1e-8 if norm == "layer_norm" else 1e-10
    for run, part, found in zip(runs, splits, lockstep.train_together(runs, splits, "cpu", "stacked")):
        assert differences(loop.train(run, part), found) < limit


@pytest.mark.parametrize(
    "factors",
    [
        {"network": "mlp"},
        {"network": "logistic"},
        {"output": "sigmoid"},
        {"output": "sigmoids"},
        {"loss": "focal"},
        {"loss": "class_weighted"},
        {"loss": "logit_adjusted"},
        {"sampling": "oversample"},
        {"epochs": 1, "updates": 7},
    ],
)
def test_stacked_runs_of_every_form_equal_the_loop(factors):
    runs, parts = [small(final_norm="bn", **factors, seed=s) for s in range(2)], photographs(16)
    for run, found in zip(runs, lockstep.train_together(runs, [parts] * 2, "cpu", "stacked")):
        assert differences(loop.train(run, parts), found) < 1e-10


def test_stacked_runs_that_differ_in_all_that_is_their_own_equal_the_loop():
    """So that a factor is no member's own (`stacked.OWN`) before it has been shown to be."""
    other = {
        "seed": 1,
        "split_seed": 2,
        "sampling": "oversample",
        "augmentation": "none",
        "learning_rate": 1e-2,
        "schedule": "constant",
        "epochs": 3,
        "updates": 8,
        "shift": -0.4,
    }
    assert {*other, "init"} == set(OWN)  # weights of another origin are weights
    runs = [small(final_norm="bn_fixed_shift"), small(final_norm="bn_fixed_shift", **other)]
    splits = [photographs(16), photographs(16, augment=False, seed=1)]
    for run, part, found in zip(runs, splits, lockstep.train_together(runs, splits, "cpu", "stacked")):
        assert differences(loop.train(run, part), found) < 1e-10


@pytest.mark.parametrize("way", lockstep.WAYS)
def test_twenty_updates_in_single_precision(way):
    run, parts = small(final_norm="bn", precision="float32", epochs=5), photographs()
    (found,) = lockstep.train_together([run], [parts], "cpu", way)
    wanted = loop.train(run, parts)
    assert found.updates == 20 and differences(wanted, found) < 1e-4
    assert found.test.dtype == np.float32


def test_half_precision_gives_the_loops_results_within_its_rounding():
    run, parts = small(final_norm="bn", precision="bfloat16"), photographs()
    wanted, exact = loop.train(run, parts), loop.train(dataclasses.replace(run, precision="float32"), parts)
    (found,) = lockstep.train_together([run], [parts], "cpu")
    assert found.readouts.keys() == wanted.readouts.keys() == exact.readouts.keys()
    for name, logits in wanted.readouts.items():  # each by its own rounding: normalising few similar logits enlarges it
        rounding = np.abs(logits - exact.readouts[name]).max()
        assert rounding > 1e-4
        assert np.abs(logits - found.readouts[name]).max() <= 3 * rounding, name
    assert np.abs(wanted.test - found.test).max() <= 3 * np.abs(wanted.test - exact.test).max()
    assert np.abs(wanted.validation - found.validation).max() <= 3 * np.abs(wanted.validation - exact.validation).max()


def test_a_run_alone_equals_the_same_run_in_company_to_the_bit(mixed):
    splits, _ = mixed
    everyone = lockstep.train_together(MIXED, splits, "cpu")
    for i in (1, 5, 8):
        (alone,) = lockstep.train_together([MIXED[i]], [splits[i]], "cpu")
        assert differences(alone, everyone[i]) == 0


def test_members_of_a_stack_do_not_see_each_other():
    runs, splits = [small(final_norm="bn", seed=s) for s in range(3)], [photographs(16, seed=s) for s in range(3)]
    first = lockstep.train_together(runs, splits, "cpu", "stacked")[0]
    other = lockstep.train_together([runs[0], runs[2]], [splits[0], splits[2]], "cpu", "stacked")[0]
    assert differences(first, other) < 1e-12


def test_engines_are_measured_anew_where_their_notes_are_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    assert choice._known() == {}
    (tmp_path / "engines.json").write_text("{")
    assert choice._known() == {}


@pytest.mark.parametrize("way", lockstep.WAYS)
def test_a_run_that_diverges_ends_as_in_the_loop_and_spoils_nobody(way):
    wild, calm = small(learning_rate=1e200, schedule="constant", epochs=4), small(epochs=4)
    parts = photographs(16)
    found = lockstep.train_together([wild, calm], [parts] * 2, "cpu", way)
    wanted = [loop.train(run, parts) for run in (wild, calm)]
    assert wanted[0].diverged and wanted[0].epochs < 4 and not wanted[1].diverged
    assert differences(wanted[1], found[1]) < 1e-10
    assert differences(wanted[0], found[0]) >= 0 and np.isnan(found[0].test[-1]).all()


def test_what_does_not_go_together_is_refused():
    parts = photographs(16)
    for runs, way, words in [
        ([small(), small(epochs=3)], "streams", "must make the same number of updates in every epoch"),
        ([small(stop_f1=0.5)], "streams", "runs that stop early are trained one by one"),
        ([small(), small(final_norm="bn")], "stacked", "runs of 2 forms cannot be stacked: they must share setting, "),
        (
            [small(final_norm="bn"), small(final_norm="bn", ghost_batch=8)],
            "stacked",
            "runs of 2 forms cannot be stacked",
        ),
        ([small(), small(label_smoothing=0.1)], "stacked", "runs of 2 forms cannot be stacked"),
        ([small(head="fastai")], "stacked", "head 'fastai' has dropout: runs with it cannot be stacked"),
        (
            [small(precision="bfloat16")],
            "stacked",
            "precision 'bfloat16' cannot be stacked: allowed are float32, float64",
        ),
        (
            [small(precision="float8")],
            "streams",
            "unknown precision 'float8': allowed are float32, tf32, bfloat16, float64",
        ),
        ([small(trained="head")], "streams", "only runs with trained = 'all' are trained together: the loop is needed"),
        ([small(), small(precision="tf32")], "streams", "runs in float64, tf32 cannot be trained together"),
    ]:
        with pytest.raises(ValueError, match=words):
            lockstep.train_together(runs, [parts] * len(runs), "cpu", way)


def test_progress_is_told_in_images():
    told = []
    lockstep.train_together([small(), small(seed=1)], [photographs(16)] * 2, "cpu", tell=told.append)
    assert told == [2 * 4 * 16] * 2


# --- Carrying out ---------------------------------------------------------------------------------

PLANNED = [
    Run(network="mlp", final_norm=norm, n_majority=200, epochs=2, seed=seed, stop_f1=stop)
    for seed in range(3)
    for norm in ("none", "bn")
    for stop in (0.0, 0.05)
]


@pytest.fixture(scope="module")
def by_loop() -> dict[Run, dict]:
    return {run: local.carry_out(run, "cpu", "here").scores["as_trained"] for run in PLANNED}


@pytest.mark.parametrize("name", ["streams", "stacked"])
def test_every_engine_stores_what_the_loop_finds(name, by_loop, own_store, capsys):
    with Store(own_store) as store:
        assert local.carry_out_all(PLANNED, store, "cpu", 1, engine=name) == len(PLANNED)
        assert local.carry_out_all(PLANNED, store, "cpu", 1, engine=name) == 0
        found = {result.run: result for result in store.results()}
    assert found.keys() == by_loop.keys()
    for run, result in found.items():
        assert result.scores["as_trained"]["nll"] == pytest.approx(by_loop[run]["nll"], rel=0.05), run
    engines = {r.run.stop_f1 > 0: store_engine(own_store, r.provenance) for r in found.values()}
    assert engines == {True: "loop", False: f"{name}, {6 if name == 'streams' else 3} runs at a time"}
    assert "images/s" in capsys.readouterr().err


def store_engine(path, provenance: str) -> str:
    with Store(path) as store:
        return json.loads(store.db.execute("SELECT json FROM provenance WHERE id = ?", [provenance]).fetchone()[0])[
            "engine"
        ]


def test_out_of_memory_halves_what_trains_together(own_store, monkeypatch):
    seen, plain = [], device.train_together

    def tight(runs, *rest):
        seen.append(len(runs))
        if len(runs) > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return plain(runs, *rest)

    monkeypatch.setattr(device, "train_together", tight)
    runs = [run for run in PLANNED if not run.stop_f1]
    with Store(own_store) as store:
        assert local.carry_out_all(runs, store, "cpu", 1, engine="streams") == len(runs) == 6
    assert seen == [6, 3, *[1] * 6]


def test_a_run_too_large_for_the_device_is_said(own_store, monkeypatch):
    def never(*_):
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(device, "train_together", never)
    with Store(own_store) as store, pytest.raises(ValueError, match="one run of mlp does not fit into the memory"):
        local.carry_out_all(PLANNED[:1], store, "cpu", 1, engine="streams")


def test_memory_that_ran_out_is_told_whatever_came_of_it(own_store, monkeypatch):
    def hidden(*_):
        try:
            raise torch.cuda.OutOfMemoryError("out of memory")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(device, "train_together", hidden)
    with Store(own_store) as store, pytest.raises(ValueError, match="one run of mlp does not fit into the memory"):
        local.carry_out_all(PLANNED[:1], store, "cpu", 1, engine="streams")
    assert out_of_memory(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    assert not out_of_memory(RuntimeError("something else")) and not out_of_memory(None)


def test_an_interrupted_chunk_loses_no_chunk_before_it(own_store, monkeypatch):
    plain = device.train_together

    def interrupted(runs, *rest):
        if runs[0].final_norm == "bn":
            raise KeyboardInterrupt
        return plain(runs, *rest)

    monkeypatch.setattr(device, "train_together", interrupted)
    runs = [run for run in PLANNED if not run.stop_f1]
    with Store(own_store) as store:
        with pytest.raises(KeyboardInterrupt):
            local.carry_out_all(runs, store, "cpu", 1, engine="stacked")
        assert {result.run for result in store.results()} == {run for run in runs if run.final_norm == "none"}


def chunks(runs, store, engine="auto"):
    return device.Chunks(list(runs), store, "cpu", engine, Progress(len(runs)), threading.Event())


def test_the_first_runs_of_a_form_are_trained_without_measuring(own_store, monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    asked, runs = [], [dataclasses.replace(PLANNED[0], seed=s) for s in range(20)]
    monkeypatch.setattr(device, "choose", lambda *given: asked.append(given[3:]) or choice.Choice("stacked", 5))
    with Store(own_store) as store:
        assert chunks(runs, store).carry_out(1, float("inf")) == 20
        engines = sorted(json.loads(row)["engine"] for (row,) in store.db.execute("SELECT json FROM provenance"))
    ((most, budget),) = asked
    assert most == 12 and 0 < budget < 12
    assert engines == ["stacked, 2 runs at a time", "stacked, 5 runs at a time", "streams, 8 runs at a time"]
    monkeypatch.setattr(device, "choose", None)
    few = [dataclasses.replace(run, seed=run.seed + 100) for run in runs[:6]]
    with Store(own_store) as store:
        assert chunks(few, store).carry_out(1, float("inf")) == 6


def test_a_way_that_fails_in_training_is_passed_over_until_the_loop_is_left(own_store, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    tried = []

    def fails(runs, splits, where, way, tell):
        tried.append(way)
        raise NotImplementedError("not on this device")

    monkeypatch.setattr(device, "train_together", fails)
    runs = [run for run in PLANNED if not run.stop_f1]
    with Store(own_store) as store:
        waiting = chunks(runs, store)
        assert waiting.carry_out(1, float("inf")) == 0 and waiting.by_loop == runs
        assert tried == ["streams", "stacked"]
        with pytest.raises(
            ValueError, match=r"^engine 'streams' failed on mlp \(not on this device\): use engine auto or"
        ):
            local.carry_out_all(runs, store, "cpu", 1, engine="streams")
    said = capsys.readouterr().err
    assert "mlp on digits is not trained by streams (not on this device): stacked is next" in said
    assert "by stacked (not on this device): loop is next" in said


def test_what_no_engine_trains_the_loop_does(own_store, monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    monkeypatch.setattr(local, "device_of", lambda name: "cpu")
    monkeypatch.setattr(device.Chunks, "carry_out", lambda self, *_: self.by_loop.extend(self.waiting) or 0)
    with Store(own_store) as store:
        assert local.carry_out_all(PLANNED[:2], store, "cpu", 1, engine="streams") == 2
        assert {result.run for result in store.results()} == set(PLANNED[:2])


def test_few_runs_are_scored_beside_the_training_and_many_in_one_pool(monkeypatch):
    made = []

    @contextlib.contextmanager
    def pool(workers):
        made.append(workers)
        yield object()

    monkeypatch.setattr(device, "pool", pool)
    monkeypatch.setattr(device, "_scorers", {})
    monkeypatch.setattr(device, "_kept", contextlib.ExitStack())
    with device.scorers(device.MANY - 1, 4) as executor:
        assert isinstance(executor, ThreadPoolExecutor) and not made
    assert device.scorers(device.MANY, 4) is device.scorers(1000, 4) and made == [4]


def test_the_environment_may_name_the_engine(own_store, monkeypatch):
    monkeypatch.setenv("REPLICATION_ENGINE", "warp")
    with Store(own_store) as store, pytest.raises(ValueError, match="unknown engine 'warp'"):
        local.carry_out_all(PLANNED, store, "cpu")


def test_time_is_up_before_the_first_chunk(own_store):
    with Store(own_store) as store:
        assert local.carry_out_all(PLANNED, store, "cpu", 1, time_budget=0, engine="streams") == 0


def test_an_unknown_engine_is_refused(own_store):
    with Store(own_store) as store, pytest.raises(ValueError, match="unknown engine 'warp': allowed are auto, loop, "):
        local.carry_out_all(PLANNED, store, "cpu", engine="warp")


# --- Memory ---------------------------------------------------------------------------------------


class Live(TorchDispatchMode):
    """Bytes of all tensors alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        out = operation(*arguments, **(keywords or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in self.known:
                storage = tensor.untyped_storage()
                self.known.add(key)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._gone, key, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _gone(self, key, size):
        self.known.discard(key)
        self.live -= size


@pytest.mark.parametrize(
    "factors",
    [
        {},
        {"network": "mlp"},
        {"precision": "float64"},
        {"network": "resnet34"},
        {"network": "resnet34", "head": "fastai"},
        {"network": "vgg19_bn", "batch_size": 8},
    ],
)
def test_a_run_takes_no_more_memory_than_its_bound(factors):
    run, parts = small(**{"precision": "float32", "final_norm": "bn"} | factors), photographs()
    with Live() as tensors:
        one, clock = Member(run, parts, CPU), torch.zeros(1, dtype=torch.int64)
        for number in range(2):
            one.update(clock + number)
        one.model.eval()
        one.test(clock)
    assert tensors.peak <= bound(run, parts) <= 2.5 * tensors.peak


# --- Choosing -------------------------------------------------------------------------------------


def test_the_fastest_candidate_is_chosen_once(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    times, measured = {"streams": {1: 4.0, 2: 2.0, 4: 1.95}, "stacked": {1: 3.0, 2: 1.5, 4: 1.0, 8: 1.2}}, []

    def timed(run, part, way, size, device):
        measured.append((way, size))
        return times[way][size], 100 * size

    monkeypatch.setattr(choice, "seconds_per_update", timed)
    monkeypatch.setattr(choice, "SIZES", (1, 2, 4, 8, 16))
    assert choice.choose(small(), photographs(), CPU) == choice.Choice("stacked", 4)
    assert measured == [
        ("streams", 1),
        ("streams", 2),
        ("streams", 4),
        ("stacked", 1),
        ("stacked", 2),
        ("stacked", 4),
        ("stacked", 8),
    ]
    assert choice.choose(small(seed=5, final_norm="bn"), photographs(), CPU) == choice.Choice("stacked", 4)
    assert len(measured) == 7
    assert choice.choose(small(seed=6), photographs(n=80), CPU, most=2) == choice.Choice("stacked", 2)
    assert len(measured) == 7
    kept = json.loads((tmp_path / "engines.json").read_text())
    assert [c["seconds"] for c in kept[choice.form(small(), photographs(), CPU)]] == [
        4.0,
        2.0,
        1.95,
        3.0,
        1.5,
        1.0,
        1.2,
    ]


def test_a_way_that_cannot_train_the_run_is_no_candidate(monkeypatch):
    monkeypatch.setattr(choice, "SIZES", (1,))
    found = list(choice.candidates(small(head="fastai"), photographs(16), CPU))
    assert [(c["way"], c["size"]) for c in found] == [("streams", 1), ("stacked", 1)] and found[0]["seconds"] > 0
    assert found[1]["failed"] == "head 'fastai' has dropout: runs with it cannot be stacked"
    assert choice.fastest(found, 8) == choice.Choice("streams", 1)


def test_a_way_that_fails_at_anything_is_passed_over_and_said(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    monkeypatch.setattr(choice, "SIZES", (1, 2))

    def timed(run, part, way, size, device):
        if way == "streams":
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        return 1.0 / size, 0

    monkeypatch.setattr(choice, "seconds_per_update", timed)
    assert choice.choose(small(), photographs(16), CPU) == choice.Choice("stacked", 2)
    (kept,) = json.loads((tmp_path / "engines.json").read_text()).values()
    assert kept[0] == {"way": "streams", "size": 1, "failed": "operation not permitted when stream is capturing"}


def test_measuring_keeps_to_its_budget_and_to_the_runs_there_are(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    now, measured = [0.0], []
    monkeypatch.setattr(choice.time, "perf_counter", lambda: now[0])

    def timed(run, part, way, size, device):
        measured.append((way, size))
        now[0] += size
        return 1.0 / size, 0

    monkeypatch.setattr(choice, "seconds_per_update", timed)
    list(choice.candidates(small(), photographs(16), CPU, most=8, budget=20))
    assert measured == [("streams", 1), ("streams", 2), ("streams", 4), ("streams", 8)] and now[0] <= 20
    measured.clear()
    assert {c["size"] for c in choice.candidates(small(), photographs(16), CPU, most=3)} == {1, 2}
    assert choice.choose(small(), photographs(16), CPU, budget=-1) is None


def test_a_choice_that_failed_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    monkeypatch.setattr(choice, "SIZES", (1,))
    with pytest.raises(
        ValueError, match="^no way to train many runs of simple_cnn .* \\(streams: unknown loss 'none'.*loop$"
    ):
        choice.choose(small(loss="none"), photographs(16), CPU)

    def full(*_):
        raise torch.cuda.OutOfMemoryError("out of memory")

    with monkeypatch.context() as short:
        short.setattr(choice, "seconds_per_update", full)
        with pytest.raises(ValueError, match="^one run of simple_cnn does not fit into the memory of the device$"):
            choice.choose(small(), photographs(16), CPU)
    assert choice.choose(small(), photographs(16), CPU).size == 1


def test_a_run_of_a_single_update_has_a_choice_too():
    seconds, _ = choice.seconds_per_update(small(updates=1), photographs(16), "streams", 1, CPU)
    assert seconds > 0


def test_what_is_captured_is_kept_twice():
    run, parts = small(), photographs(16)
    weights = sum(p.numel() for p in build(run, 3, 16, 2).parameters())
    assert bound(run, parts, capture=True) - bound(run, parts) >= 3 * 4 * weights


def test_progress_without_a_terminal_is_lines(capsys):
    with Progress(2) as progress:
        progress.trained(1000)
        progress.done()
        progress.done()
    said = capsys.readouterr().err
    assert "\r" not in said and said.endswith("\n")
    assert "2/2" in said.splitlines()[-1] and "run/s" in said.splitlines()[-1] and "images/s" in said.splitlines()[-1]


# --- On a GPU -------------------------------------------------------------------------------------


@gpu
@without_gpu
@pytest.mark.parametrize("way", lockstep.WAYS)
def test_captured_runs_equal_the_loop_on_a_gpu(way):
    runs, parts = [small(final_norm="bn", seed=s) for s in range(4)], photographs()
    for run, found in zip(runs, lockstep.train_together(runs, [parts] * 4, "cuda", way)):
        assert differences(loop.train(run, parts, "cuda"), found) < 1e-8
        assert differences(loop.train(run, parts, "cpu"), found) < 1e-8


@gpu
@without_gpu
def test_runs_of_all_forms_on_streams_equal_the_loop_on_a_gpu(mixed):
    splits, alone = mixed
    found = lockstep.train_together(MIXED, splits, "cuda")
    for run, part, a, b in zip(MIXED, splits, alone, found):
        wanted = loop.train(run, part, "cuda") if run.head == "fastai" else a  # masks are the device's own
        assert differences(wanted, b) < 1e-8, run
    for i in (1, 5, 8):
        (by_itself,) = lockstep.train_together([MIXED[i]], [splits[i]], "cuda")
        assert differences(by_itself, found[i]) < 1e-10


def rounding(run: Run, parts: Split) -> float:
    """How far the loop's own results lie apart in memory formats: what a precision leaves open, amplified by training."""
    found = []
    for layout in loop.LAYOUTS:
        with mock.patch.dict(os.environ, REPLICATION_MEMORY_FORMAT=layout):
            found.append(loop.train(run, parts, "cuda"))
    return differences(*found)


@gpu
@without_gpu
@pytest.mark.parametrize("pixels", [32, 64, 128])
@pytest.mark.parametrize("precision, least", [("float32", 1e-3), ("tf32", 2e-2), ("bfloat16", 5e-2)])
@pytest.mark.parametrize("network", ["simple_cnn", "resnet34"])
def test_engines_equal_the_loop_on_photographs_in_every_precision_in_use(network, precision, least, pixels):
    runs = [small(network=network, final_norm="bn", precision=precision, learning_rate=3e-4, seed=s) for s in range(2)]
    parts = photographs(pixels)
    limit = max(least, 10 * rounding(runs[0], parts))
    wanted = [loop.train(run, parts, "cuda") for run in runs]
    for way in ("streams",) if precision == "bfloat16" else ("streams", "stacked"):
        for run, a, b in zip(runs, wanted, lockstep.train_together(runs, [parts] * 2, "cuda", way)):
            assert differences(a, b) < limit, (way, run)
            assert np.abs(a.test[-1] - a.test[0]).max() > 1e-3


@gpu
@without_gpu
def test_runs_of_different_precisions_leave_each_other_alone_on_a_gpu():
    exact, parts = small(final_norm="bn", precision="float32"), photographs()
    alone = loop.train(exact, parts, "cuda")
    for precision in ("tf32", "bfloat16"):
        loop.train(dataclasses.replace(exact, precision=precision), parts, "cuda")
        assert differences(alone, loop.train(exact, parts, "cuda")) == 0


@gpu
@without_gpu
def test_the_training_loop_never_waits_for_the_gpu():
    alone = [Member(small(), photographs(), torch.device("cuda", 0))]
    steps = lockstep.Lockstep(lockstep.WAYS["streams"](alone), capture=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@gpu
@without_gpu
@pytest.mark.parametrize("network", ["simple_cnn", "resnet34"])
def test_runs_on_a_gpu_take_no_more_memory_than_their_bound(network):
    run, parts = small(final_norm="bn", network=network, precision="float32"), photographs(64)
    choice.seconds_per_update(run, parts, "streams", 1, torch.device("cuda", 0))  # what libraries take once
    for size in (2, 8):
        _, held = choice.seconds_per_update(run, parts, "streams", size, torch.device("cuda", 0))
        assert held <= size * bound(run, parts, capture=True)


@gpu
@without_gpu
def test_engines_on_a_gpu_store_what_the_loop_finds(own_store, monkeypatch, tmp_path, by_loop):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    with Store(own_store) as store:
        assert local.carry_out_all(PLANNED, store, "cuda") == len(PLANNED)
        found = {result.run: result.scores["as_trained"]["nll"] for result in store.results()}
    assert np.mean([found[run] - by_loop[run]["nll"] for run in PLANNED]) == pytest.approx(0, abs=0.05)
