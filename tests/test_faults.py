"""Faults on purpose stay without consequence: nothing finished is lost, nothing is silently wrong, nobody is left behind."""

import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from replication import cli, files
from replication.bench.measurements import Measurements, bench
from replication.claims import registry
from replication.paths import root
from replication.results.store import Store
from replication.run import Run
from replication.running import initial, local, tuning
from replication.running.children import Children, descendants
from replication.running.processes import explained, pool
from replication.running.sharding import shard
from replication.study import rates, weights

FAULTS = runpy.run_path(str(root() / "benchmarks" / "faults.py"))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def refused(capsys, *arguments: str) -> str:
    """The one sentence on stderr of a command that ends with status 2."""
    try:
        status = cli.main(list(arguments))
    except SystemExit as exit:  # of argparse, whose last line it is
        status = exit.code
    said = capsys.readouterr()
    assert status == 2 and said.out == "" and "Traceback" not in said.err
    return said.err.strip().splitlines()[-1]


# --- A sample of what benchmarks/faults.py counts ---------------------------------------------------


@pytest.fixture
def world(tmp_path, monkeypatch):
    for name in ("REPLICATION_HOME", "REPLICATION_STORE", "REPLICATION_RESULTS", "REPLICATION_DATA"):
        monkeypatch.setenv(name, "replaced")  # and put back afterwards
    monkeypatch.chdir(tmp_path)
    with tempfile.TemporaryDirectory() as folder:  # another user can reach it, as pytest's folders cannot be
        yield FAULTS["World"](Path(folder), seed=3)
        os.chdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "n"), [("kills", 12), ("flips", 60), ("read_only", None), ("at_once", None), ("full_disk", None)]
)
def test_a_sample_of_faults(world, kind, n):
    examples: list = []
    counts = FAULTS[kind](world, *([n] if n else []), examples)
    assert not examples and not counts["wrong"]
    assert sum(counts[outcome] for outcome in FAULTS["RIGHT"]) >= (n or 4)


def test_a_sample_of_nonsense(world):
    examples: list = []
    counts = FAULTS["fuzz"](world, 12, examples)
    assert not examples and counts["refused"] + counts["done"] == 12


def test_the_counter_of_faults_notices_what_is_wrong(world, monkeypatch):
    """A reader without checks and a writer that writes in place are found out."""
    monkeypatch.setattr(files, "verify", lambda *_: None)
    examples: list = []
    FAULTS["flips"](world, 60, examples)
    assert {where for _, where, *_ in examples} & {"checkpoint.pt", "pack/images.npy", "pack/labels.npy"}


# --- Children -----------------------------------------------------------------------------------------

PARENT = """import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has it ignored
from replication.running.children import Children
code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
code += " start_new_session=True)"
code += "; print('up', flush=True); time.sleep(600)"
children = Children()
try:
    children.run([sys.executable, "-c", code], None)
finally:
    children.end()
"""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="counts processes by /proc")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_children_and_theirs_end_within_three_seconds_of_their_parent(how):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(below := descendants(parent.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(below) == 3  # the guard, the program, and what that has started in a session of its own
    time.sleep(0.2)
    parent.send_signal(how)
    end = time.monotonic() + 3
    while any(map(_alive, below)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(_alive, below))
    parent.wait()


def test_a_program_under_guard_says_what_it_says():
    done = Children().run([sys.executable, "-c", "import sys; print('é' * 100_000); sys.exit('no')"], dict(os.environ))
    assert done.returncode == 1 and done.stdout == "é" * 100_000 + "\n" and done.stderr == "no\n"
    ended = Children()
    ended.end()
    assert ended.run([sys.executable, "-c", ""], dict(os.environ)).returncode == -signal.SIGKILL


def test_what_a_killed_worker_leaves_is_explained():
    said = "killed, most likely .* want of memory: every finished run is kept"
    with pytest.raises(RuntimeError, match=said), explained(), pool(1) as processes:
        os.kill(processes.submit(os.getpid).result(), signal.SIGKILL)
        processes.submit(time.sleep, 60).result()


# --- Sums -----------------------------------------------------------------------------------------------


def test_a_recipe_that_has_changed_is_not_trained_with(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"as it was made")
    monkeypatch.setattr(initial, "checkpoint", lambda *_: path)
    monkeypatch.setattr(initial, "_refuse_seen", lambda run: None)
    run = Run(init="other_crops")
    for _ in range(2):
        initial.make([run])
    path.write_bytes(b"as it was mabe")
    with pytest.raises(
        ValueError, match="weights.pt has changed since it was written .*: delete it, and it is made again"
    ):
        initial.make([run])


def test_rates_carry_a_sum(tmp_path):
    path = tmp_path / "rates.json"
    tuning.write_rates([], path)
    assert rates.rates_in(path)["grid"] == {}
    search = tuning.Search(rates.Place("digits", "logistic"), "plain", (1e-3, 1e-2), range(2), 0, 1e-3)
    tuning.write_rates([search], path)
    assert rates.rates_in(path)["grid"] == {"digits/logistic": {"plain": 1e-3}}
    rates._read.cache_clear()
    path.write_text(path.read_text().replace('"plain": 0.001', '"plain": 0.003'))
    with pytest.raises(ValueError, match="they were changed since they were chosen"):
        rates.rates_in(path)


@pytest.mark.parametrize("rate", ["-1", "0", "true", '"0.1"', "[]", "1e9", "NaN", "null"])
def test_what_is_no_learning_rate_is_refused(tmp_path, rate):
    (tmp_path / "rates.json").write_text('{"grid": {"digits/mlp": {"plain": RATE}}, "wide": {}}'.replace("RATE", rate))
    with pytest.raises(ValueError, match="is not a learning rate; delete it"):
        rates.rates_in(tmp_path / "rates.json")


@pytest.mark.parametrize(
    "tried", ["[]", "3", '{"digits/mlp": 3}', '{"digits/mlp": {"plain": 3}}', '{"a": {"plain": []}}']
)
def test_rates_tried_of_another_shape_are_refused(tmp_path, tried):
    (tmp_path / "rates.json").write_text('{"grid": {}, "wide": {}, "tried": TRIED}'.replace("TRIED", tried))
    with pytest.raises(ValueError, match="rates.json holds no learning rates: .*; delete it, or get it back"):
        rates.rates_in(tmp_path / "rates.json")


def test_noted_weights_that_change_in_place_are_noticed(tmp_path, home):
    file = tmp_path / "net.pt"
    file.write_bytes(b"weights")
    weights.note("net", "0" * 16, file)
    weights.check_unchanged("net", "0" * 16, file)
    with pytest.raises(ValueError, match="have changed since they were noted"):
        weights.check_unchanged("net", "1" * 16, file)
    for damaged in ("[]", "{", '{"net": 3}', '{"net": {"digest": 1, "file": []}}'):
        (home / "weights.json").write_text(damaged)
        weights.check_unchanged("net", "1" * 16, file)


# --- What a rar archive leaves ------------------------------------------------------------------------------


def test_what_a_rar_leaves_is_plain(tmp_path):
    from replication.data.fetch.download import _make_plain

    (tmp_path / "a").mkdir(mode=0o700)
    (tmp_path / "a" / "x.jpg").touch()
    (tmp_path / "a" / "x.jpg").chmod(0o6777)
    _make_plain(tmp_path, "x.rar")
    assert (tmp_path / "a" / "x.jpg").stat().st_mode & 0o7777 == 0o644 and (
        tmp_path / "a"
    ).stat().st_mode & 0o7777 == 0o755
    os.mkfifo(tmp_path / "a" / "pipe")
    with pytest.raises(ValueError, match="x.rar holds a device or a pipe, 'pipe': nothing was unpacked"):
        _make_plain(tmp_path, "x.rar")
    (tmp_path / "a" / "pipe").unlink()
    os.link(tmp_path / "a" / "x.jpg", tmp_path / "a" / "y.jpg")
    with pytest.raises(ValueError, match="x.rar holds a link"):
        _make_plain(tmp_path, "x.rar")


# --- Shapes, limits, nothing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        "{",
        "3",
        '{"provenance": 3}',
        '{"provenance": {}, "operations": []}',
        '{"provenance": {}, "operations": {}, "ceilings": [3], "measurements": [], "curves": []}',
        "[" * 100_000,
    ],
)
def test_what_is_no_file_of_measurements_is_refused(tmp_path, content):
    (tmp_path / "bench.json").write_text(content)
    with pytest.raises(ValueError, match="is not a file of measurements"):
        Measurements(tmp_path / "bench.json", "cpu")


def test_more_rounds_than_anybody_needs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="rounds = 1000000000 is not allowed: at least 1 and at most 1000"):
        bench(tmp_path / "bench.json", (), (), 10**9, "cpu")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "base", "--settings", ""], "argument --settings: it names nothing"),
        (["run", "base", "--settings", ","], "argument --settings: it names nothing"),
        (["run", "base", "--data", ""], "argument --data: it names no file or folder"),
        (["run", "base", "--out", " "], "argument --out: it names no file or folder"),
        (["try", ""], "argument PATH: it names no file or folder"),
        (["try", "loop"], "leads nowhere"),
        (["run", "base", "--seeds", "٣"], "'٣' is not a whole number in the digits 0 to 9"),
        (["run", "base", "--seeds", "1_0"], "'1_0' is not a whole number in the digits 0 to 9"),
        (["run", "base", "--time-budget", "٣"], "'٣' is not a number in the digits 0 to 9"),
        (
            ["run", "base", "--workers", "1000000000"],
            "workers = 1000000000 is not allowed: at least 1 and at most 1024",
        ),
        (["verdicts", "--settings", "folder:/nowhere/at/all"], "no images at /nowhere/at/all: name a folder"),
        (["verdicts", "--networks", "simple_cnn:/nowhere.pt"], "no checkpoint at /nowhere.pt: name a file"),
        (["run", "base", "--settings", "folder:/nowhere/at/all"], "no images at /nowhere/at/all: name a folder"),
        (["tune", "base", "--settings", "digits", "--arms", "plain,final_bm"], "unknown arm 'final_bm': allowed are"),
        (["tune", "base", "--settings", "digits", "--seeds", "0"], "seeds = 0 is not allowed: at least 1"),
        (["tune", "base", "--settings", "digits", "--seeds", "101"], "at most 100"),
        (
            ["tune", "base", "--settings", "digits", "--networks", "mlp", "--seeds", "2"],
            "--seeds 2 is not allowed on digits/mlp: its learning rates are the book's, chosen on 10 seeds",
        ),
        (["tune", "base", "--networks", "simple_cnn:/nowhere.pt"], "no checkpoint at /nowhere.pt: name a file"),
        (
            ["pretrain", "simple_cnn", "--sources", "digits", "--epochs", "1000000000", "--out", "x.pt"],
            "epochs = 1000000000 is not allowed: at least 1 and at most 10000",
        ),
        (
            ["pretrain", "simple_cnn", "--sources", "digits", "--pixels", "1000", "--out", "x.pt"],
            "pixels = 1000 is not allowed: images of digits have 8 pixels and no other size",
        ),
        (["pretrain", "simple_cnn", "--sources", "digits", "--out", "PIPE"], "is not a file that could be written"),
        (["bench", "--out", "PIPE"], "is not a file that could be written"),
        (
            ["run", "base", "--settings", "digits", "--networks", "logistic", "--out", "PIPE"],
            "it is a device or a pipe",
        ),
        (["execute", "base", "--out", "PIPE"], "is a file, device or pipe, name another"),
        (["publish", "--to", "PIPE"], "is a file, device or pipe, name another"),
        (["weights", "efficientnet_lite0", "--out", "PIPE"], "is not a file that could be written"),
        (["merge", "PIPE"], "no results file to merge at"),
        (
            ["run", "base", "--settings", "digits", "--networks", "logistic", "--on", "mars"],
            "--on 'mars' is not allowed: ray",
        ),
    ],
)
def test_nothing_and_nonsense_are_refused(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("PIPE")
    os.symlink("loop", "loop")
    assert words in refused(capsys, *arguments)
    assert Path("PIPE").is_fifo() and not Path("x.pt").exists()


def test_a_lack_of_memory_is_one_sentence(capsys, monkeypatch):
    def carry_out_all(*_):
        return np.empty((10**9, 10**6))

    monkeypatch.setattr(local, "carry_out_all", carry_out_all)
    assert cli.main(["run", "base", "--settings", "digits", "--networks", "logistic", "--seeds", "1"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("replication: the memory does not suffice (Unable to allocate") and said.count("\n") == 1


def test_a_locale_without_letters_costs_no_output(tmp_path):
    plain = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "replication", "data", "list"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=plain, cwd=root())
    assert done.returncode == 0 and "digits: 1797 images" in done.stdout and "\\xc7" in done.stdout
    command = [sys.executable, "-m", "replication", "run", "é"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=plain, cwd=root())
    assert done.returncode == 2 and done.stderr.startswith("replication: unknown claim ")


# --- Shards -------------------------------------------------------------------------------------------------


def test_shards_are_the_whole_in_its_order():
    runs = [Run(seed=seed) for seed in range(100, 123)]
    parts = [shard(runs, i, 8) for i in range(1, 9)]
    assert sorted((run for part in parts for run in part), key=runs.index) == runs
    assert all(part == sorted(part, key=runs.index) for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [run for part in (shard(runs, i, 50) for i in range(1, 51)) for run in part] == runs


def _rows(path) -> dict:
    with Store(path) as store:
        found = {}
        for r in store.results():
            facts = {name: value for name, value in r.facts.items() if name != "seconds"}
            found[r.key] = (facts, r.scores, {name: a.tobytes() for name, a in r.arrays.items()})
        return found


def test_eight_shards_merged_are_one_run_to_the_bit(capsys, tmp_path, own_store):
    """And a shard that is missing, or damaged, costs only itself."""
    import torch

    def carry_out(part, path) -> None:  # as a worker does, without its start
        with Store(path) as store:
            for run in part:
                store.add(local.carry_out(run, "cpu", "here"))

    torch.set_num_threads(1)
    runs = registry.runs(["base"], ["digits"], ["logistic"], 2)
    shards = [tmp_path / f"shard-{i}.sqlite" for i in range(1, 9)]
    carry_out(runs, tmp_path / "whole.sqlite")
    for i, path in enumerate(shards, 1):
        carry_out(shard(runs, i, 8), path)
    whole = _rows(tmp_path / "whole.sqlite")
    assert len(whole) == 10 and [len(_rows(path)) for path in shards] == [2, 2, 1, 1, 1, 1, 1, 1]
    capsys.readouterr()
    shards[3].rename(tmp_path / "kept")
    shards[5].write_bytes(b"no store at all " * 100)
    assert cli.main(["merge", *map(str, shards)]) == 2
    said = capsys.readouterr()
    assert said.out == f"8 runs added to {own_store}\n"
    assert (
        said.err.startswith("replication: 2 of 8 files were not merged, all others were: ")
        and said.err.count("\n") == 1
    )
    assert (
        "shard-4.sqlite (no results file to merge" in said.err and "shard-6.sqlite is not a results store" in said.err
    )
    (tmp_path / "kept").rename(shards[3])
    shards[5].unlink()
    carry_out(shard(runs, 6, 8), shards[5])
    assert cli.main(["merge", *map(str, shards)]) == 0
    assert _rows(own_store) == whole
