"""Every engine against the plain loop: many runs at a time give what each gives alone."""

import dataclasses
import json
import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from replication.running import local
from replication.running import device
from replication.data.augmentation import Augmented, draws, reach
from replication.data.splits import Part, Split, split
from replication.results.store import Store
from replication.running.progress import Progress
from replication.run import Run
from replication.training import loop
from replication.training.engines import choice
from replication.training.engines import lockstep
from replication.training.heads import FINAL_NORMS, build
from replication.training.engines.member import Member, adam_step, moved, rates_of
from replication.training.engines.memory import bound, out_of_memory

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
    for t, (rate, beta1) in enumerate(loop.schedule(name, 0.05, 30)):
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


@pytest.mark.parametrize("factors", [
    {"network": "mlp"}, {"network": "logistic"}, {"output": "sigmoid"}, {"output": "sigmoids"}, {"loss": "focal"},
    {"loss": "class_weighted"}, {"loss": "logit_adjusted"}, {"sampling": "oversample"},
    {"epochs": 1, "updates": 7},
])  # fmt: skip
def test_stacked_runs_of_every_form_equal_the_loop(factors):
    runs, parts = [small(final_norm="bn", **factors, seed=s) for s in range(2)], photographs(16)
    for run, found in zip(runs, lockstep.train_together(runs, [parts] * 2, "cpu", "stacked")):
        assert differences(loop.train(run, parts), found) < 1e-10


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
    rounding = np.abs(wanted.test - exact.test).max()
    assert 1e-4 < rounding
    (found,) = lockstep.train_together([run], [parts], "cpu")
    assert differences(wanted, found) <= 3 * rounding


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
        ([small(head="fastai")], "stacked", "head 'fastai' has dropout: runs with it cannot be stacked"),
        ([small(precision="bfloat16")], "stacked", "precision 'bfloat16' cannot be stacked: allowed are float32, float64"),
        ([small(precision="float8")], "streams", "unknown precision 'float8': allowed are float32, bfloat16, float64"),
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
    for seed in range(3) for norm in ("none", "bn") for stop in (0.0, 0.05)
]  # fmt: skip


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
        return json.loads(
            store.db.execute("SELECT json FROM provenance WHERE id = ?", [provenance]).fetchone()[0]
        )["engine"]


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


@pytest.mark.parametrize("factors", [
    {}, {"network": "mlp"}, {"precision": "float64"}, {"network": "resnet34"}, {"network": "resnet34", "head": "fastai"},
    {"network": "vgg19_bn", "batch_size": 8},
])  # fmt: skip
def test_a_run_takes_no_more_memory_than_its_bound(factors):
    run, parts = small(**{"precision": "float32", "final_norm": "bn"} | factors), photographs()
    with Live() as tensors:
        member, clock = Member(run, parts, CPU), torch.zeros(1, dtype=torch.int64)
        for number in range(2):
            member.update(clock + number)
        member.model.eval()
        member.test(clock)
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
    assert measured == [("streams", 1), ("streams", 2), ("streams", 4),
                        ("stacked", 1), ("stacked", 2), ("stacked", 4), ("stacked", 8)]  # fmt: skip
    assert choice.choose(small(seed=5, final_norm="bn"), photographs(), CPU) == choice.Choice("stacked", 4)
    assert len(measured) == 7
    kept = json.loads((tmp_path / "engines.json").read_text())
    assert [c["seconds"] for c in kept[choice.form(small(), CPU)]] == [4.0, 2.0, 1.95, 3.0, 1.5, 1.0, 1.2]


def test_a_way_that_cannot_train_the_run_is_no_candidate(monkeypatch):
    monkeypatch.setattr(choice, "SIZES", (1,))
    found = list(choice.candidates(small(head="fastai"), photographs(16), CPU))
    assert [(c["way"], c["size"], c["bytes"]) for c in found] == [("streams", 1, 0)] and found[0]["seconds"] > 0


def test_a_choice_that_failed_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    monkeypatch.setattr(choice, "SIZES", (1,))
    with pytest.raises(ValueError, match="^unknown loss 'none'"):
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


@gpu
@without_gpu
def test_single_and_half_precision_on_a_gpu():
    run, parts = small(final_norm="bn", precision="float32", epochs=5), photographs()
    assert differences(loop.train(run, parts, "cuda"), lockstep.train_together([run], [parts], "cuda")[0]) < 1e-3
    half = dataclasses.replace(run, precision="bfloat16")
    (found,) = lockstep.train_together([half], [parts], "cuda")
    assert differences(loop.train(run, parts, "cuda"), found) < 0.5


@gpu
@without_gpu
def test_the_training_loop_never_waits_for_the_gpu():
    member = [Member(small(), photographs(), torch.device("cuda", 0))]
    steps = lockstep.Lockstep(lockstep.WAYS["streams"](member), capture=True)
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
        assert held <= size * (bound(run, parts, capture=True) + 64 * 2**20)  # rounding of every stream's segments


@gpu
@without_gpu
def test_engines_on_a_gpu_store_what_the_loop_finds(own_store, monkeypatch, tmp_path, by_loop):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    with Store(own_store) as store:
        assert local.carry_out_all(PLANNED, store, "cuda") == len(PLANNED)
        found = {result.run: result.scores["as_trained"]["nll"] for result in store.results()}
    assert np.mean([found[run] - by_loop[run]["nll"] for run in PLANNED]) == pytest.approx(0, abs=0.05)
