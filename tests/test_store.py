"""What is kept of a run: the local store, the published files, and what is read out of both."""

import dataclasses
import functools
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from replication.analysis.metrics import METRICS, PUBLISHED_METRICS
from replication.analysis.thresholds import at_cut
from replication.claims import registry
from replication.data.loading import load
from replication.paths import root
from replication.results import provenance, published, reproduction
from replication.results.columns import columns
from replication.results.compact import run_rows
from replication.results.frame import HISTORIES, frame, results_frame, values, with_defaults
from replication.results.kept import CURVES, KEPT_READOUTS
from replication.results.rows import Result, pack, sealed, unpack
from replication.results.shelf import Group, group_of
from replication.results.store import SCHEMA, Store, default_path
from replication.run import FACTORS, PROTOCOL, Run
from replication.running import local, processes
from replication.running.scoring import Labels, scored
from replication.running.tuning import Search, best
from replication.study import rates
from replication.study.design import Entry, pilot_runs
from replication.training.loop import Outcome

RUNS = [Run(seed=seed, final_norm=norm) for seed in (100, 101) for norm in ("none", "bn")]
RECORD = {
    "id": "made up",
    "commit": "0123456789ab",
    "versions": {"torch": "2"},
    "hardware": "none",
    "device": "cpu",
}


@pytest.fixture
def store(own_store, made_up):
    """A store with four made-up results."""
    with Store(own_store) as store:
        store.add_provenance(RECORD)
        for run in RUNS:
            store.add(made_up(run))
        yield store


def healthy(path: Path) -> int:
    """Number of runs in a file that SQLite finds nothing wrong with."""
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return db.execute("SELECT count(*) FROM runs").fetchone()[0]


# --- The local store ------------------------------------------------------------------------------


def test_what_is_stored_comes_back(store, made_up):
    with Store(store.path) as again:
        found = {result.run: result for result in again.results()}
        assert again.provenance() == {"made up": RECORD}
        assert again.keys() == {run.key(load("digits").digest) for run in RUNS}
    assert set(found) == set(RUNS)
    for run, result in found.items():
        wanted = made_up(run)
        assert (result.key, result.data, result.provenance) == (wanted.key, wanted.data, wanted.provenance)
        assert (result.facts, result.scores, result.protocol) == (wanted.facts, wanted.scores, PROTOCOL)
        assert result.arrays.keys() == wanted.arrays.keys()
        for name, array in wanted.arrays.items():
            assert result.arrays[name].dtype == array.dtype and np.array_equal(result.arrays[name], array)


def test_not_a_number_comes_back(store, made_up):
    result = made_up(Run(seed=7), diverged=True)
    result.scores["as_trained"]["nll"] = float("nan")
    store.add(result)
    [found] = store.results([result.key])
    assert np.isnan(found.scores["as_trained"]["nll"]) and found.facts["diverged"] is True


def test_the_same_run_is_kept_once(store, made_up):
    store.add(made_up(RUNS[0], provenance="later"))
    assert len(list(store.results())) == len(RUNS)
    assert [r.provenance for r in store.results([made_up(RUNS[0]).key])] == ["later"]


def test_runs_of_another_protocol_are_not_read(store, made_up):
    other = made_up(RUNS[0])
    with sqlite3.connect(store.path) as db:
        db.execute("DELETE FROM runs WHERE key = ?", (other.key,))
    store.add(dataclasses.replace(other, protocol=PROTOCOL + 1))
    assert {result.run for result in store.results()} == set(RUNS[1:])
    assert set(store.scores()["key"]) == {made_up(run).key for run in RUNS[1:]} and store.damaged() == {}


def test_many_at_once_are_as_one_by_one_and_all_or_none(own_store, tmp_path, made_up):
    with Store(own_store) as one, Store(tmp_path / "many.sqlite") as many:
        for run in RUNS:
            one.add(made_up(run))
        assert many.add_all(made_up(run) for run in RUNS) == len(RUNS)
        assert list(one._rows()) == list(many._rows())

        def broken():
            yield made_up(Run(seed=7))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            many.add_all(broken())
        assert many.keys() == one.keys()


def test_scores_alone_are_those_of_the_table(store, made_up):
    store.add(made_up(Run(seed=7, network="mlp", learning_rate=1e-2), weights="0123", f1=1))
    nan = made_up(Run(seed=8))
    nan.scores["as_trained"]["f1_minority"] = float("nan")
    store.add(nan)
    whole = results_frame(store.results())
    whole = whole[whole["readout"] == "as_trained"].sort_values("key", ignore_index=True)
    quick = store.scores().sort_values("key", ignore_index=True)
    wanted = ["key", *FACTORS, "data", "provenance", "readout", "f1_minority"]
    pd.testing.assert_frame_equal(quick[wanted], whole[wanted], check_dtype=False)
    assert quick["weights"].dropna().tolist() == ["0123"]
    assert store.scores([nan.key])["key"].tolist() == [nan.key] and store.scores([]).empty
    assert list(store.scores([])) == list(quick)


@pytest.mark.parametrize(
    "array", [np.zeros((0, 2)), np.arange(6, dtype=np.int8), np.ones((2, 3, 4), np.float16), np.float32(2)]
)
def test_arrays_are_packed_as_they_are(array):
    found = unpack(pack({"a": array, "b": np.arange(3)}))
    assert found["a"].dtype == array.dtype and found["a"].shape == array.shape and np.array_equal(found["a"], array)
    assert found["b"].tolist() == [0, 1, 2]


def old_store(path: Path, results) -> Path:
    """A store as schema version 1 wrote it."""
    with sqlite3.connect(path) as db:
        db.executescript("""
            CREATE TABLE provenance (id TEXT PRIMARY KEY, json TEXT NOT NULL);
            CREATE TABLE runs (
                key TEXT PRIMARY KEY, factors TEXT NOT NULL, data TEXT NOT NULL, protocol INTEGER NOT NULL,
                provenance TEXT NOT NULL, facts TEXT NOT NULL, scores TEXT NOT NULL, arrays BLOB NOT NULL
            ) WITHOUT ROWID;
            PRAGMA user_version = 1;""")
        db.execute("INSERT INTO provenance VALUES (?, ?)", (RECORD["id"], json.dumps(RECORD)))
        for r in results:
            packed = io.BytesIO()
            np.savez_compressed(packed, **r.arrays)
            row = (
                r.key,
                json.dumps(r.run.changed()),
                r.data,
                r.protocol,
                r.provenance,
                json.dumps(r.facts),
                json.dumps(r.scores),
            )
            db.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, packed.getvalue()))
    return path


@pytest.mark.parametrize("readonly", [False, True])
def test_stores_of_the_first_schema_are_read_and_renewed(tmp_path, made_up, readonly):
    path = old_store(tmp_path / "old.sqlite", map(made_up, RUNS))
    before = path.read_bytes()
    with Store(path, readonly=readonly) as store:
        found = {result.run: result for result in store.results()}
        assert store.provenance() == {RECORD["id"]: RECORD} and len(store.scores()) == len(RUNS)
    assert set(found) == set(RUNS)
    for run, result in found.items():
        assert (result.scores, result.facts) == (made_up(run).scores, made_up(run).facts)
        assert all(np.array_equal(result.arrays[name], array) for name, array in made_up(run).arrays.items())
    assert readonly == (path.read_bytes() == before)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (1 if readonly else SCHEMA,)


def test_a_damaged_run_of_the_first_schema_is_set_aside_when_read(tmp_path, made_up):
    path = old_store(tmp_path / "old.sqlite", map(made_up, RUNS))
    bad = made_up(RUNS[0]).key
    with sqlite3.connect(path) as db:
        db.execute("UPDATE runs SET scores = '[]' WHERE key = ?", (bad,))
    with Store(path) as store, pytest.warns(UserWarning, match=f"run {bad} .*scores must be a JSON object, found list"):
        assert {r.run for r in store.results()} == set(RUNS[1:])
        assert set(store.damaged()) == {bad}


@pytest.mark.parametrize("log", [False, True])
def test_reading_needs_no_right_to_write(store, made_up, monkeypatch, tmp_path, log):
    if not log:
        store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    here = tmp_path / "elsewhere"
    here.mkdir()
    for path in store.path.parent.glob("store.sqlite*"):
        shutil.copy(path, here / path.name)
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Store(here / "store.sqlite") as other:
        assert other.readonly and len(list(other.results())) == len(RUNS) and other.provenance()
        for use in (
            lambda: other.add(made_up(Run(seed=7))),
            lambda: other.add_all([]),
            lambda: other.merge(store.path),
        ):
            with pytest.raises(OSError, match="cannot write to .*: it was opened to be read only"):
                use()
    assert {name: (here / name).read_bytes() for name in before if not name.endswith("shm")} == {
        name: text for name, text in before.items() if not name.endswith("shm")
    }


def test_a_locked_store_waits(own_store, made_up):
    with Store(own_store) as store:
        other = sqlite3.connect(own_store, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        freed = threading.Timer(0.5, lambda: other.execute("COMMIT"))
        freed.start()
        start = time.monotonic()
        store.add(made_up(RUNS[0]))
        assert time.monotonic() - start > 0.4 and len(store.keys()) == 1


def test_a_run_takes_less_than_5_kb(own_store):
    """Frozen heads are scored and stored by the hundred thousand."""
    with Store(own_store) as store:
        store.add_all(frozen_head(seed) for seed in range(200))
        store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert own_store.stat().st_size / 200 < 5000


def frozen_head(seed: int, final_norm: str = "bn", **factors) -> Result:
    """A frozen head's result on logits drawn for it, scored as any is."""
    rng = np.random.default_rng(seed)
    validation, test = np.repeat([0, 1], [150, 75]), np.repeat([0, 1], [150, 150])
    both = np.concatenate([validation, test])
    history = (rng.normal(size=(10, 375 + 150, 2)) + 1.5 * np.eye(2)[both]).astype(np.float32)
    names = ("as_trained", "bn_removed") if final_norm != "none" else ("as_trained",)
    outcome = Outcome(
        history[:, :225],
        history[:, 225:],
        {n: history[-1] * (1 + i) for i, n in enumerate(names)},
        False,
        10,
        150,
        0.01,
    )
    outcome.facts = {"shift": rng.normal(), "scale_majority": 1.0, "scale_minority": rng.random()}
    run = Run(trained="head", network="efficientnet_lite0", final_norm=final_norm, seed=seed, **factors)
    labels = Labels(validation, test, (1,), np.array([1000, 10]), load("digits").digest)
    return scored(run, labels, outcome, "made up")


def test_what_an_outcome_tells_besides_is_kept(own_store):
    with Store(own_store) as store:
        store.add(frozen_head(100))
        [found] = store.results()
    assert found.facts["scale_majority"] == 1 and {"learned_shift", "scale_minority"} <= set(found.facts)
    assert tuple(found.scores["logit_adjusted"]) == PUBLISHED_METRICS
    assert set(found.scores["as_trained"]) == {*PUBLISHED_METRICS, "cut"}
    assert "logits" not in found.arrays and len(found.arrays["order_bn_removed"]) == 38
    f1 = at_cut(found.arrays["order_as_trained"].tobytes(), found.facts["n_test"], found.scores["as_trained"]["cut"])
    assert f1 == pytest.approx((found.scores["as_trained"]["f1_minority"], found.scores["as_trained"]["f1_macro"]))


WRITER = """
import sys
import numpy as np
from replication.results.store import Result, Store
from replication.run import Run

with Store(sys.argv[1]) as store:
    for seed in range(int(sys.argv[2]), int(sys.argv[3])):
        arrays = {"labels": np.zeros(100, np.int8), "logits": np.full((100, 2), seed)}
        store.add(Result(Run(seed=seed), "data", "none", {}, {"as_trained": {"f1_minority": seed}}, arrays))
"""


def test_two_processes_write_one_store(own_store):
    command = [sys.executable, "-c", WRITER, str(own_store)]
    writers = [subprocess.Popen([*command, *span]) for span in (("0", "150"), ("100", "250"))]
    assert [writer.wait(300) for writer in writers] == [0, 0]
    assert healthy(own_store) == 250
    with Store(own_store) as store:
        assert all(r.scores["as_trained"]["f1_minority"] == r.run.seed for r in store.results())


def test_a_new_store_may_be_opened_by_many_at_once(tmp_path):
    errors = []

    def open_and_read(path, barrier):
        barrier.wait()
        try:
            with Store(path) as store:
                store.keys()
        except Exception as error:
            errors.append(error)

    for i in range(15):
        barrier = threading.Barrier(6)
        threads = [threading.Thread(target=open_and_read, args=(tmp_path / f"{i}.sqlite", barrier)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def test_a_store_may_be_made_while_another_process_looks_for_it(own_store, monkeypatch):
    looks = []

    class Slow(sqlite3.Connection):
        def execute(self, *statement):
            found = super().execute(*statement)
            looks.append(statement)
            if len(looks) == 1:
                Store(own_store)
            return found

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Slow))
    with Store(own_store) as store:
        assert store.keys() == set()


def test_store_of_another_schema_version_is_refused(store):
    with sqlite3.connect(store.path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(
        ValueError, match=f"was written by schema version {SCHEMA + 1}: this package reads 1 and {SCHEMA} only"
    ):
        Store(store.path)
    assert healthy(store.path) == len(RUNS)


@pytest.mark.parametrize("content", [b"no database at all, but long enough for a header" * 20, b"\x00" * 4096])
def test_file_that_is_no_store_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="notes.txt is not a results store"):
        Store(path)
    assert path.read_bytes() == content


DAMAGE = {
    "scores = '{'": "its checksum is another",
    "factors = '{}'": "its checksum is another",
    "arrays = x'00ff'": "its checksum is another",
    "f1_minority = 2": "its checksum is another",
    "protocol = 7": "its checksum is another",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_run_is_named_and_set_aside(store, tmp_path, made_up, damage):
    key = min(store.keys())
    store.db.execute(f"UPDATE runs SET {damage} WHERE key = ?", (key,))
    with Store(tmp_path / "other.sqlite") as other:
        with pytest.warns(
            UserWarning, match=f"run {key} in .*store.sqlite is damaged .{DAMAGE[damage]}.: it is left out"
        ):
            assert other.merge(store.path) == len(RUNS) - 1
        assert other.keys() == store.keys() - {key}
    with pytest.warns(UserWarning, match=f"run {key} in .*store.sqlite is damaged .{DAMAGE[damage]}.: it is set aside"):
        assert len(list(store.results())) == len(RUNS) - 1
    assert store.damaged() == {key: DAMAGE[damage]} and key not in store.keys()  # noqa: SIM118, a store is no dict
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(store.results())) == len(store.scores()) == len(RUNS) - 1


@pytest.mark.parametrize("damage", ["factors = '{}'", "f1_minority = 2", "data = ''", "provenance = 'x'"])
def test_damage_is_seen_by_the_quick_reading_too(store, damage):
    key = min(store.keys())
    store.db.execute(f"UPDATE runs SET {damage} WHERE key = ?", (key,))
    with pytest.warns(UserWarning, match=f"run {key} .* is damaged"):
        assert set(store.scores()["key"]) == store.keys() and key in store.damaged()


@pytest.mark.parametrize(
    ("facts", "scores", "reason"),
    [
        ("null", "{}", "facts must be a JSON object, found NoneType"),
        ("{}", "3", "scores must be a JSON object, found int"),
        ("{}", '{"as_trained": 3}', "scores of as_trained must be numbers by name"),
        ("{}", '{"as_trained": {"nll": null}}', "scores of as_trained must be numbers by name"),
        ("{}", "{", "Expecting property name"),
    ],
)
def test_json_of_another_shape_is_one_sentence(store, made_up, facts, scores, reason):
    """As another program may have written it, checksum and all."""
    one = made_up(Run(seed=9))
    row = sealed(one.key, json.dumps(one.run.changed()), one.data, PROTOCOL, one.provenance, facts, scores, pack({}))
    store.db.execute(f"INSERT INTO runs VALUES ({', '.join('?' * len(row))})", row)
    with pytest.warns(UserWarning, match=reason):
        assert len(list(store.results())) == len(RUNS)


def test_a_key_that_is_another_runs_is_damage(store, made_up):
    one = made_up(Run(seed=9))
    row = sealed("0" * 16, json.dumps(one.run.changed()), one.data, PROTOCOL, one.provenance, "{}", "{}", pack({}))
    store.db.execute(f"INSERT INTO runs VALUES ({', '.join('?' * len(row))})", row)
    with pytest.warns(UserWarning, match=f"its factors and data have the key {one.key}"):
        assert len(list(store.results())) == len(RUNS)


def test_one_flipped_byte_of_any_row_is_never_silent(own_store, made_up):
    """A sample of bytes of the file's rows: what comes back is whole, and what is missing is said."""
    with Store(own_store) as store:
        store.add_provenance(RECORD)
        store.add_all(map(made_up, RUNS))
        whole = {r.key: (r.scores, r.facts, r.data, r.provenance) for r in store.results()}
        store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.db.execute("PRAGMA journal_mode = DELETE")
    text, rng, noticed = own_store.read_bytes(), np.random.default_rng(0), 0
    for at in rng.integers(100, len(text), 300):
        own_store.write_bytes(text[:at] + bytes([text[at] ^ (1 << int(rng.integers(8)))]) + text[at + 1 :])
        try:
            with warnings.catch_warnings(record=True) as said, Store(own_store, readonly=True) as store:
                warnings.simplefilter("always")
                found = {r.key: (r.scores, r.facts, r.data, r.provenance) for r in store.results()}
        except (ValueError, OSError) as error:
            assert "\n" not in str(error)
            noticed += 1
            continue
        assert all(whole[key] == values for key, values in found.items())
        noticed += bool(said)
        if not said and len(found) < len(whole):  # a row's cell was unhooked from its page
            with sqlite3.connect(own_store) as db:
                assert db.execute("PRAGMA quick_check").fetchall() != [("ok",)]
    assert noticed > 50


def test_damaged_pages_are_refused_by_every_reading(own_store, made_up):
    with Store(own_store) as store:
        for seed in range(20):
            store.add(made_up(Run(seed=seed)))
    size = own_store.stat().st_size
    with open(own_store, "r+b") as file:
        file.seek(4096 * 2)  # behind the pages of the schema
        file.write(b"\xff" * (size - 4096 * 2))
    with Store(own_store) as store:
        for reading in (store.keys, lambda: list(store.results())):
            with pytest.raises(ValueError, match="store.sqlite cannot be read: "):
                reading()
    with Store(own_store.with_name("other.sqlite")) as other:
        with pytest.raises(ValueError, match="store.sqlite cannot be read: "):
            other.merge(own_store)
        assert other.keys() == set()


def test_store_that_cannot_be_opened_is_not_called_broken(tmp_path):
    with pytest.raises(OSError, match="cannot be opened: unable to open database file"):
        Store(tmp_path)


def test_no_room_is_an_error_and_loses_nothing(store, made_up):
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages}")
    result = made_up(Run(seed=9))
    result.arrays["logits"] = np.random.default_rng(0).normal(size=(5000, 2))
    with pytest.raises(OSError, match="cannot write to .* full; every run finished before is kept"):
        store.add(result)
    assert len(list(store.results())) == len(RUNS)
    store.db.execute("PRAGMA max_page_count = 1000000")
    store.add(result)
    assert healthy(store.path) == len(RUNS) + 1


def test_merge_adds_what_is_missing(store, tmp_path, made_up):
    with Store(tmp_path / "other.sqlite") as other:
        other.add_provenance(RECORD | {"id": "there"})
        other.add(made_up(RUNS[0], provenance="there"))
        other.add(made_up(Run(seed=7), provenance="there"))
    assert [store.merge(other.path), store.merge(other.path), store.merge(store.path)] == [1, 0, 0]
    found = {result.run: result for result in store.results()}
    assert set(found) == {*RUNS, Run(seed=7)} and set(store.provenance()) == {"made up", "there"}
    assert found[RUNS[0]].provenance == "made up"
    assert np.array_equal(found[Run(seed=7)].arrays["logits"], made_up(Run(seed=7)).arrays["logits"])
    (tmp_path / "empty.sqlite").touch()
    assert store.merge(tmp_path / "empty.sqlite") == 0 and (tmp_path / "empty.sqlite").stat().st_size == 0
    with pytest.raises(ValueError, match="no results file to merge at .*nowhere"):
        store.merge(tmp_path / "nowhere")


def test_merge_without_room_adds_nothing(store, tmp_path, made_up):
    with Store(tmp_path / "other.sqlite") as other:
        for seed in range(40):
            other.add(made_up(Run(seed=seed)))
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(OSError, match="cannot write to"):
        store.merge(other.path)
    assert len(list(store.results())) == len(RUNS)
    store.db.execute("PRAGMA max_page_count = 1000000")
    assert store.merge(other.path) == 40


def test_default_path(own_store, monkeypatch):
    assert default_path() == own_store
    monkeypatch.delenv("REPLICATION_STORE")
    monkeypatch.delenv("REPLICATION_HOME", raising=False)
    assert default_path() == root() / ".replication" / "store.sqlite"


# --- Carrying out ---------------------------------------------------------------------------------


class Pool:
    """A process pool whose runs are all finished at once; some have failed."""

    _processes = None

    def __init__(self, *_, **__):
        pass

    def submit(self, work, run, *_):
        future = Future()
        outcome = self.outcomes[run]
        future.set_exception(outcome) if isinstance(outcome, BaseException) else future.set_result(outcome)
        return future

    def shutdown(self, **_):
        pass


@pytest.mark.parametrize("bad", range(4))
def test_a_failing_run_loses_no_finished_one(own_store, made_up, monkeypatch, bad):
    Pool.outcomes = {run: made_up(run) for run in RUNS} | {RUNS[bad]: ValueError("a bad run")}
    monkeypatch.setattr(processes, "ProcessPoolExecutor", Pool)
    with Store(own_store) as store:
        with pytest.raises(ValueError, match="a bad run"):
            local.carry_out_all(RUNS, store, "cpu", workers=2)
        assert {result.run for result in store.results()} == set(RUNS) - {RUNS[bad]}


@pytest.mark.parametrize("moment", range(1, 4))
def test_ctrl_c_loses_no_finished_run(own_store, made_up, monkeypatch, moment):
    Pool.outcomes = {run: made_up(run) for run in RUNS}
    monkeypatch.setattr(processes, "ProcessPoolExecutor", Pool)
    with Store(own_store) as store:
        added, add = [], store.add

        def add_until_interrupted(result):
            added.append(result)
            if len(added) == moment:
                raise KeyboardInterrupt
            add(result)

        store.add = add_until_interrupted
        with pytest.raises(KeyboardInterrupt):
            local.carry_out_all(RUNS, store, "cpu", workers=2)
        assert {result.run for result in store.results()} == set(RUNS)


def test_kill_9_loses_no_finished_run_and_leaves_no_worker(own_store):
    command = [Path(sys.executable).with_name("replication"), "run", "generality", "--networks", "logistic"]
    command += ["--seeds", "12", "--device", "cpu", "--workers", "1"]
    planned = registry.runs(["generality"], networks=["logistic"], seeds=12)
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    kept = 0
    while kept < 2 and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.05)
        if own_store.exists():
            try:
                with sqlite3.connect(own_store) as db:
                    kept = db.execute("SELECT count(*) FROM runs").fetchone()[0]
            except sqlite3.OperationalError:  # not yet created
                pass
    workers = psutil.Process(first.pid).children()
    first.send_signal(signal.SIGSTOP)
    time.sleep(2)  # by then the worker has nothing left to do, and would wait for ever
    first.kill()
    first.wait()
    kept = healthy(own_store)
    assert 2 <= kept < len(planned) and len(workers) >= 2  # one trains, one keeps track of shared resources
    with Store(own_store) as store:
        assert all(len(result.scores) > 1 and len(result.arrays) >= 9 for result in store.results())
        left = local.missing(planned, store)
        assert len(left) == len(planned) - kept
        assert local.carry_out_all(planned[: len(planned) - len(left) + 2], store, "cpu", workers=1) == 2
        assert healthy(own_store) == kept + 2
    assert psutil.wait_procs(workers, timeout=60)[1] == []


# --- Published results ----------------------------------------------------------------------------


@pytest.fixture
def shelf(store, tmp_path):
    """A folder with the store's results, published."""
    where = tmp_path / "results"
    assert published.publish(store, [*RUNS, Run(seed=999)], where, curves=RUNS[:2], predictions=RUNS[:2]) == 4
    return where


KINDS = {Group("runs", "digits", "simple_cnn"): 8, Group("predictions", "digits", "simple_cnn"): 2}


def files_of(where: Path) -> dict[Group, str]:
    """Group -> name of its published files, which are one each here."""
    return {group_of(name, entry): name for name, entry in published.manifest(where)["files"].items()}


def test_published_results_are_those_of_the_store(shelf, store):
    rows = published.read(where=shelf)
    wanted = results_frame(store.results()).set_index(["key", "readout"])
    kept = [m for m in PUBLISHED_METRICS if m in wanted]
    for row in rows.to_dict("records"):
        whole = wanted.loc[(row["key"], row["readout"])]
        for name in [*FACTORS, "data", "provenance", "diverged", "epochs_trained", "updates_made"]:
            assert row[name] == whole[name], name
        assert [row[m] for m in kept] == np.float32([whole[m] for m in kept]).tolist()
        curves = row["readout"] == "as_trained" and row["key"] in {r.key for r in store.results() if r.run in RUNS[:2]}
        for name in CURVES:
            assert np.array_equal(row[name], whole[name]) if curves else row[name] is None
    assert not {"temperature_test", "test_nll", "logits"} & set(rows)
    assert len(rows) == 8 and rows["key"].nunique() == 4 and (rows.dtypes != "float32").all()
    listed = published.manifest(shelf)
    assert listed["provenance"] == {"made up": RECORD} and listed["protocol"] == PROTOCOL
    assert {group_of(name, entry): entry["rows"] for name, entry in listed["files"].items()} == KINDS
    assert published.check(shelf) == sorted(files_of(shelf).values())
    assert all(
        shelf.joinpath(n).read_bytes() and listed["files"][n]["sha256"].startswith(n[-16:-8]) for n in listed["files"]
    )


def test_a_confirmatory_run_takes_less_than_1_kb(own_store, tmp_path):
    """A hundred thousand are published within 40 MB."""
    with Store(own_store) as store:
        store.add_provenance(RECORD)
        runs = [
            Run(trained="head", network="efficientnet_lite0", final_norm=n, seed=s)
            for n in ("none", "bn")
            for s in range(100, 250)
        ]
        store.add_all(frozen_head(run.seed, run.final_norm) for run in runs)
        assert published.publish(store, runs, tmp_path / "shelf", curves=runs, predictions=runs) == 300
        [name] = published.check(tmp_path / "shelf")  # there are no logits to predict from
        assert (tmp_path / "shelf" / name).stat().st_size < 1000 * 300
        published.publish(store, runs, tmp_path / "bare")
        [name] = published.check(tmp_path / "bare")
        assert (tmp_path / "bare" / name).stat().st_size < 400 * 300
    rows = published.read(where=tmp_path / "shelf")
    assert (
        set(rows["readout"]) == set(KEPT_READOUTS) - {"shifted_by_images"}
        and rows.loc[rows["readout"] == "as_trained", CURVES[0]].notna().all()
    )
    cuts = rows[rows["readout"] == "as_trained"]
    for order, cut, n, f1 in zip(cuts["order"], cuts["cut"], cuts["n_test"], cuts["f1_minority"]):
        assert at_cut(order, n, cut)[0] == pytest.approx(f1)
    assert {"learned_shift", "scale_majority", "scale_minority"} <= set(rows) and (rows["shift"] == 0).all()


def test_pilots_are_published_as_what_rates_are_chosen_by(shelf, store, made_up):
    pilots = [Run(seed=s, learning_rate=rate) for s in (0, 1) for rate in (1e-3, 1e-2)]
    store.add_all(map(made_up, pilots))
    store.add(made_up(Run(setting="digits/1v2", seed=2)))
    assert published.publish(store, [r.run for r in store.results()], shelf) == 5
    assert published.read(where=shelf)["key"].nunique() == 4
    found = published.pilots(where=shelf)
    assert len(found) == 5 and set(published.pilots(["digits/1v2"], shelf)["seed"]) == {2}
    assert len(published.pilots(["digits"], shelf)) == 5 and published.pilots(["cracks"], shelf).empty
    for row in found.to_dict("records"):
        result = made_up(Run(**{f: row[f] for f in FACTORS}))
        assert (row["key"], row["validation_f1_macro"]) == (result.key, result.facts["validation_f1_macro"])
        assert row["validation_nll_train"] == result.arrays["validation_nll_train"][-1]
    assert published.keys(shelf) == store.keys()


def test_published_runs_are_runs_again(shelf):
    rows = published.read(where=shelf).drop_duplicates("key")
    runs = {key: Run(**row) for key, row in zip(rows["key"], rows[list(FACTORS)].to_dict("records"))}
    assert set(runs.values()) == set(RUNS)
    assert all(run.key(load("digits").digest) == key for key, run in runs.items())


def test_predictions_come_back(shelf, made_up):
    rows = published.predictions("digits", "simple_cnn", shelf)
    assert set(rows["key"]) == {made_up(run).key for run in RUNS[:2]}
    for run in RUNS[:2]:
        [row] = rows[rows["key"] == made_up(run).key].to_dict("records")
        assert np.array_equal(row["labels"], made_up(run).arrays["labels"])
        assert np.array_equal(row["logits"].reshape(-1, 2).astype(np.float16), made_up(run).arrays["logits"])
    with pytest.raises(ValueError, match="no predictions are published for digits / mlp"):
        published.predictions("digits", "mlp", shelf)


def test_reading_is_by_setting(store, shelf, made_up):
    store.add(made_up(Run(setting="digits/1v2")))
    store.add(made_up(Run(setting="digits/1v2", network="mlp")))
    published.publish(store, [r.run for r in store.results()], shelf)
    assert set(published.read(["digits/1v2"], shelf)["setting"]) == {"digits/1v2"}
    assert set(published.read(["digits"], shelf)["setting"]) == {"digits", "digits/1v2"}
    assert published.read(["cifar10"], shelf).empty
    assert published.read(where=shelf)["key"].nunique() == 6


def contents(where: Path) -> dict[str, bytes]:
    return {path.relative_to(where).as_posix(): path.read_bytes() for path in where.rglob("*") if path.is_file()}


def test_publishing_twice_changes_nothing(shelf, store):
    before = contents(shelf)
    assert set(before) == {*files_of(shelf).values(), "manifest.json"}
    for replace in (False, True):
        assert published.publish(store, RUNS, shelf, curves=RUNS[:2], predictions=RUNS[:2], replace=replace) == (
            len(RUNS) if replace else 0
        )
        assert contents(shelf) == before


def test_publishing_adds_to_what_is_there_and_replaces_what_it_is_asked_to(shelf, tmp_path, made_up):
    newer = made_up(RUNS[0], provenance="there")
    newer.scores["as_trained"]["f1_minority"] = 0.5
    with Store(tmp_path / "other.sqlite") as other:
        other.add_provenance(RECORD | {"id": "there"})
        other.add(newer)
        other.add(made_up(Run(seed=107), provenance="there"))
        assert published.publish(other, [RUNS[0], Run(seed=107)], shelf) == 1
        rows = published.read(where=shelf)
        assert len(rows) == 10 and (rows.loc[rows["key"] == newer.key, "provenance"] == "made up").all()
        assert published.publish(other, [RUNS[0], Run(seed=107)], shelf, replace=True) == 2
    rows = published.read(where=shelf)
    assert rows["key"].nunique() == 5 and len(rows) == 10
    row = rows[(rows["key"] == newer.key) & (rows["readout"] == "as_trained")]
    assert row["f1_minority"].tolist() == [0.5] and row["provenance"].tolist() == ["there"]
    assert set(published.manifest(shelf)["provenance"]) == {"made up", "there"}
    assert set(published.predictions("digits", "simple_cnn", shelf)["key"]) == {made_up(RUNS[1]).key}
    assert len(list(shelf.rglob("*.parquet"))) == 2  # what was replaced is gone


def test_files_older_than_a_factor_grow_by_newer_runs(shelf, store, made_up, tmp_path):
    """Rows of two ages in one file: the older ones have the default, or their runs would be found nowhere."""
    from replication.results import shelf as folder

    group = Group("runs", "digits", "simple_cnn")
    older = pd.read_parquet(shelf / files_of(shelf)[group]).drop(columns=["ghost_batch", "optimizer"])
    bare = tmp_path / "older"
    bare.mkdir()
    folder.commit(bare, {group: older}, set(), {"made up": RECORD})
    store.add(made_up(Run(seed=300, ghost_batch=16)))
    assert published.publish(store, [Run(seed=300, ghost_batch=16)], bare) == 1
    [name] = published.check(bare)  # they were joined
    written, rows = pd.read_parquet(bare / name), published.read(where=bare)
    for found in (written, rows):
        assert not found[list(FACTORS)].isna().any(axis=None)
        assert found.groupby("ghost_batch")["key"].nunique().to_dict() == {0: 4, 16: 1}
        assert found["ghost_batch"].dtype.kind == "i" and set(found["optimizer"]) == {"adam"}
    # as an earlier version wrote them
    mixed = written.assign(ghost_batch=written["ghost_batch"].astype(float).replace(0.0, np.nan))
    assert with_defaults(mixed)["ghost_batch"].tolist() == written["ghost_batch"].tolist()


def test_large_files_stay_and_small_ones_grow(shelf, store, made_up, monkeypatch):
    before = files_of(shelf)
    monkeypatch.setattr("replication.results.shelf.SMALL", 5)
    store.add(made_up(Run(seed=300)))
    published.publish(store, [Run(seed=300)], shelf)
    names = set(published.manifest(shelf)["files"])
    assert set(before.values()) < names and len(names) == 3
    store.add(made_up(Run(seed=301)))
    published.publish(store, [Run(seed=301)], shelf)
    assert set(before.values()) < set(published.manifest(shelf)["files"]) and len(published.check(shelf)) == 3
    assert published.read(where=shelf)["key"].nunique() == 6


UNFIT = {
    "minority F1 of bn_removed is inf, not from 0 to 1": lambda r: r.scores["bn_removed"].update(
        f1_minority=float("inf")
    ),
    "minority F1 of as_trained is nan, not from 0 to 1": lambda r: r.scores["as_trained"].update(
        f1_minority=float("nan")
    ),
    "minority F1 of as_trained is 1.5, not from 0 to 1": lambda r: r.scores["as_trained"].update(f1_minority=1.5),
    "nll of as_trained is infinite": lambda r: r.scores["as_trained"].update(nll=float("inf")),
    "it lacks the readout as_trained": lambda r: r.scores.clear(),
    "it lacks the readout bn_removed": lambda r: r.scores.pop("bn_removed"),
    "it lacks the fact diverged": lambda r: r.facts.pop("diverged"),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_what_is_unfit_is_refused_before_anything_changes(shelf, store, made_up, reason):
    before = contents(shelf)
    bad = made_up(Run(seed=400, final_norm="bn"))
    UNFIT[reason](bad)
    store.add_all([made_up(Run(seed=401)), bad])
    with pytest.raises(
        ValueError, match=f"run {bad.key} of digits cannot be published: {reason}; nothing was published"
    ):
        published.publish(store, [Run(seed=401), bad.run], shelf)
    assert contents(shelf) == before


def test_unknown_provenance_and_other_data_are_refused(shelf, store, tmp_path, made_up):
    before = contents(shelf)
    store.add(made_up(Run(seed=400), provenance="nobody's"))
    with pytest.raises(ValueError, match='its provenance "nobody\'s" is not recorded'):
        published.publish(store, [Run(seed=400)], shelf)
    store.add(made_up(Run(seed=401), data="f" * 16))
    with pytest.raises(
        ValueError, match="was trained on data f{16}, but .* never mixed, publish them to a folder of their own"
    ):
        published.publish(store, [Run(seed=401)], shelf)
    assert contents(shelf) == before
    assert published.publish(store, [Run(seed=401)], tmp_path / "beside") == 1
    with pytest.raises(ValueError, match="never mixed"):
        published.publish(store, RUNS, tmp_path / "beside")


def test_rows_are_set_aside(shelf, made_up):
    bad = made_up(RUNS[0]).key
    assert published.set_aside([bad], shelf, "trained on the wrong images") == 1
    assert bad not in published.keys(shelf) and len(published.read(where=shelf)) == 6
    assert bad not in set(published.predictions("digits", "simple_cnn", shelf)["key"])
    kept = published.manifest(shelf)["set_aside"]
    assert {about["reason"] for about in kept.values()} == {"trained on the wrong images"} and len(kept) == 2
    assert all(set(pd.read_parquet(shelf / name)["key"]) == {bad} for name in kept)
    with pytest.raises(ValueError, match=f"run {bad} is not published in .*: nothing was set aside"):
        published.set_aside([bad], shelf)


def test_changed_missing_and_unknown_files_are_refused(shelf):
    name = files_of(shelf)[Group("runs", "digits", "simple_cnn")]
    path = shelf / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(
        ValueError,
        match=f"results file {name} has checksum [0-9a-f]{{12}}: the manifest has [0-9a-f]{{12}}",
    ):
        published.read(where=shelf)
    path.unlink()
    with pytest.raises(ValueError, match=f"results file {name} is in the manifest but not in "):
        published.check(shelf)
    path.write_bytes(whole)
    (shelf / "digits/other.parquet").write_bytes(whole)
    with pytest.raises(ValueError, match="results file digits/other.parquet is not in the manifest of "):
        published.check(shelf)


def test_a_changed_manifest_is_refused(shelf):
    path = shelf / "manifest.json"
    path.write_text(path.read_text().replace("0123456789ab", "0123456789ac"))
    with pytest.raises(ValueError, match="manifest.json was changed: its checksum is another, restore the file"):
        published.read(where=shelf)


@pytest.mark.parametrize(
    "part",
    [
        '"files": []',
        '"files": {"a": 1}',
        '"files": {"a": {"rows": 1}}',
        '"provenance": null',
        '"files": {"../a": {"sha256": "", "rows": 1}}',
    ],
)
def test_a_manifest_of_another_shape_is_one_sentence(shelf, part):
    good = {"protocol": PROTOCOL, "files": {}, "provenance": {}}
    (shelf / "manifest.json").write_text(json.dumps(good | json.loads("{" + part + "}")))
    with pytest.raises(ValueError, match="manifest.json is not a manifest: "):
        published.check(shelf)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"protocol": 1, "files": {}}'])
def test_what_is_no_manifest_is_refused(shelf, text):
    (shelf / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json is not a manifest: "):
        published.check(shelf)


def publish_until(moment: int, store: Path, where: Path) -> int:
    """Publish a whole store in a process that ends before its change number `moment` of the folder; its exit status."""
    if (child := os.fork()) == 0:
        changes = []

        def counted(call):
            def act(*arguments, **named):
                changes.append(arguments)
                if len(changes) == moment:
                    os._exit(9)
                return call(*arguments, **named)

            return act

        Path.replace, Path.unlink = counted(Path.replace), counted(Path.unlink)
        with Store(store) as own:
            published.publish(
                own, [r.run for r in own.results()], where, curves=[Run(seed=500)], predictions=[Run(seed=500)]
            )
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_publishing_killed_at_any_change_of_the_folder_is_as_before_or_done(shelf, store, tmp_path, made_up):
    """Before every rename and removal in turn; the next call finishes and clears away what was left."""
    store.add_all(made_up(run) for run in (Run(seed=500), Run(seed=501), Run(seed=3)))
    undisturbed, states = tmp_path / "undisturbed", []
    shutil.copytree(shelf, undisturbed)
    published.publish(
        store, [r.run for r in store.results()], undisturbed, curves=[Run(seed=500)], predictions=[Run(seed=500)]
    )
    for moment in range(1, 20):
        where = tmp_path / f"killed {moment}"
        shutil.copytree(shelf, where)
        status = publish_until(moment, store.path, where)
        assert status in (0, 9)
        states.append(len(published.keys(where)))
        published.publish(
            store, [r.run for r in store.results()], where, curves=[Run(seed=500)], predictions=[Run(seed=500)]
        )
        published.publish(
            store, RUNS[:1], where, curves=RUNS[:1], predictions=RUNS[:1], replace=True
        )  # clears away, as any later publishing
        assert len(published.keys(where)) == 7 and len(list(where.rglob("*.*"))) == len(published.check(where)) + 1
        if status == 0:
            break
    assert set(states) == {4, 7} and status == 0


def test_two_publishers_at_once_lose_nothing(shelf, store, made_up, tmp_path):
    paths = []
    for seed in range(200, 206):
        paths.append(tmp_path / f"{seed}.sqlite")
        with Store(paths[-1]) as other:
            other.add_provenance(RECORD)
            other.add_all([made_up(Run(seed=seed)), made_up(Run(seed=seed, final_norm="bn"))])
    with ThreadPoolExecutor(len(paths)) as many:  # each waits for a process of its own
        statuses = list(many.map(lambda path: publish_until(0, path, shelf), paths))
    assert statuses == [0] * len(paths)
    assert len(published.keys(shelf)) == 4 + 2 * len(paths)
    assert len(list(shelf.rglob("*.parquet"))) == len(published.check(shelf))


def test_results_of_another_protocol_are_refused(shelf, store):
    path = shelf / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": PROTOCOL + 1}))
    for use in (published.check, lambda where: published.publish(store, RUNS, where)):
        with pytest.raises(ValueError, match=f"results of protocol {PROTOCOL + 1}: this package reads {PROTOCOL} only"):
            use(shelf)


def test_nothing_published_reads_as_nothing(tmp_path):
    assert published.check(tmp_path) == [] and published.read(where=tmp_path).empty
    assert published.keys(tmp_path) == set() and published.pilots(where=tmp_path).empty


def test_files_of_the_first_form_are_read_beside_new_ones_and_renewed_when_they_must_be(tmp_path, store, made_up):
    """As they were written before rows were compact: all metrics, float64, no kind in the manifest."""
    where, name = tmp_path / "first", "digits/simple_cnn.parquet"
    (where / "digits").mkdir(parents=True)
    first = [made_up(run) for run in (*RUNS[:2], Run(seed=4))]
    old = results_frame(first).drop(columns=["trained", "ghost_batch"])
    old.to_parquet(where / name, index=False)
    entry = {"sha256": hashlib.sha256((where / name).read_bytes()).hexdigest(), "rows": len(old)}
    text = json.dumps({"protocol": PROTOCOL, "files": {name: entry}, "provenance": {"made up": RECORD}})
    (where / "manifest.json").write_text(text)
    assert published.publish(store, RUNS, where) == 2
    rows = published.read(where=where)
    assert rows["key"].nunique() == 5 and (rows["trained"] == "all").all() and (rows["ghost_batch"] == 0).all()
    old_keys = {r.key for r in first}
    assert rows.loc[rows["key"].isin(old_keys), "temperature_test"].tolist() == old["temperature_test"].tolist()
    assert rows.loc[~rows["key"].isin(old_keys), "temperature_test"].isna().all()
    assert [r.facts["validation_f1_macro"] for r in first[2:]] == published.pilots(where=where)[
        "validation_f1_macro"
    ].tolist()
    assert (where / name).exists()
    published.publish(store, RUNS, where, replace=True)
    assert published.read(where=where)["key"].nunique() == 5 and not (where / name).exists()
    shutil.copy(shelf_file := where / published.check(where)[0], where / name)  # as if the removal had not happened
    assert shelf_file.exists() and published.check(where)
    published.publish(store, RUNS, where, replace=True)
    assert not (where / name).exists()


def test_what_was_not_recorded_is_said_to_be(made_up):
    rows = results_frame(map(made_up, RUNS)).drop(columns=["temperature_test"])
    part = frame([(("digits", "simple_cnn"), Entry("", "own", r.final_norm, None, r)) for r in RUNS], rows)
    assert len(values(part, "bn")) == 2
    with pytest.raises(KeyError, match="temperature_test was not recorded"):
        values(part, "bn", "temperature_test")
    with pytest.raises(KeyError, match="bn_folded was not recorded of arm bn"):
        values(part, "bn", readout="bn_folded")
    with pytest.raises(KeyError, match="no as_trained of arm layer_norm"):
        values(part, "layer_norm")
    part.loc[part["arm"] == "bn", "brier"] = np.nan
    with pytest.raises(KeyError, match="brier was not recorded of as_trained of arm bn"):
        values(part, "bn", "brier")
    assert len(values(part, "none", "brier")) == 2
    part["diverged"] = True
    assert np.isnan(values(part, "bn", "brier")).all()


def test_every_column_is_explained(shelf, store, made_up):
    told = columns()
    assert not told["column"].duplicated().any() and told["meaning"].str.len().min() > 5
    known = set(told["column"])
    assert set(FACTORS) | set(METRICS) | set(PUBLISHED_METRICS) | set(HISTORIES) <= known
    one = run_rows([frozen_head(100)], [frozen_head(100).run])
    assert set(one) <= known and set(published.read(where=shelf)) <= known
    assert set(published.predictions("digits", "simple_cnn", shelf)) | set(published.pilots(where=shelf)) <= known
    if (COMMITTED / "manifest.json").exists():
        for name in published.check(COMMITTED):
            assert set(pq.read_schema(COMMITTED / name).names) <= known


def test_a_processor_is_named_with_its_generation():
    """Two generations of one name do not agree to the bit, so `verify` must not take them for one machine."""
    core = "processor\t: 0\ncpu family\t: {}\nmodel\t\t: {}\nmodel name\t: AMD EPYC\nflags\t\t: fpu\n\n"
    one, other = (provenance.model_of(core.format(25, model) * 2) for model in (1, 17))
    assert (one, other) == ("AMD EPYC (family 25, model 1)", "AMD EPYC (family 25, model 17)")
    assert provenance.model_of("model name : Cortex\n") == "Cortex" and provenance.model_of("") == ""


def test_provenance_names_the_registration(tmp_path, monkeypatch):
    monkeypatch.setattr("replication.results.provenance.root", lambda: tmp_path)
    bare = provenance.record("cpu")
    (tmp_path / "registration.json").write_text("{}")
    registered = provenance.record("cpu")
    assert (bare["registration"], registered["registration"]) == ("", hashlib.sha256(b"{}").hexdigest())
    assert bare["id"] != registered["id"]


# --- Tuning and reproduction ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        (
            {1e-1: [(0.9, 2.0), (0.3, 2.0)], 1e-2: [(0.5, 1.0), (0.7, 1.0)], 1e-3: [(0.6, 1.5)]},
            1e-2,
        ),  # 0.6 thrice: least loss
        ({1e-1: [(0.2, 9.0)], 1e-3: [(0.1, 1.0)]}, 1e-1),
        ({1e-2: [(0.0, 1.0)], 1e-3: [(0.0, 1.0)]}, 1e-3),
        ({1e-3: [(0.4, float("nan"))], 1e-2: [(0.4, 3.0)]}, 1e-2),
    ],
)
def test_the_best_mean_wins_among_equals_the_least_loss_then_the_lowest_rate(scores, wanted):
    assert best(scores) == best(dict(reversed(scores.items()))) == wanted


def test_reproduction_compares_cells_on_the_seeds_in_both(made_up):
    runs = [Run(seed=s, final_norm=norm) for norm in ("none", "bn") for s in range(100, 104)]
    theirs = results_frame(made_up(run) for run in runs)
    ours = results_frame(made_up(run) for run in [*runs[:3], *runs[4:], Run(seed=100, batch_size=8)])
    ours.loc[
        (ours["final_norm"] == "bn") & (ours["seed"] == 103) & (ours["readout"] == "as_trained"),
        "f1_minority",
    ] += 0.2
    cells = reproduction.compare(theirs, ours)
    assert cells[["final_norm", "seeds", "identical"]].values.tolist() == [
        ["none", 3, True],
        ["bn", 4, False],
    ]
    assert cells["difference"].tolist() == pytest.approx([0, 0.05])
    f1 = [made_up(run).scores["as_trained"]["f1_minority"] for run in runs]
    assert cells["published"].tolist() == pytest.approx([np.mean(f1[:3]), np.mean(f1[4:])])
    said = reproduction.summary(cells)
    assert said.startswith("1 of 2 cells have the published mean F1 within 0.02 (1 to the bit;") and "7 runs" in said
    assert "mean absolute difference 0.0250, largest 0.0500" in said


def test_other_data_is_not_compared(made_up):
    theirs, ours = results_frame([made_up(Run())]), results_frame([made_up(Run(), data="0123456789abcdef")])
    for cells in (reproduction.compare(theirs, ours), reproduction.compare(theirs, results_frame([]))):
        assert cells.empty
        assert reproduction.summary(cells).startswith("nothing to compare")


# --- The committed results ------------------------------------------------------------------------

COMMITTED = root() / "results"
needs_results = pytest.mark.skipif(
    not (COMMITTED / "manifest.json").exists(), reason="nothing is published in results/ yet"
)


@needs_results
def test_committed_results_agree_with_their_manifest():
    files = published.check(COMMITTED)
    assert files and sum((COMMITTED / name).stat().st_size for name in files) < 40e6
    rows, records = published.read(where=COMMITTED), published.manifest(COMMITTED)["provenance"]
    assert set(rows["provenance"]) <= set(records)
    assert not rows.duplicated([*FACTORS, "data", "readout"]).any()
    planned = {run for run in first_runs() if run.setting.startswith("digits")}
    wanted = {run.key(load("digits").digest) for run in planned}
    assert len(wanted) == 4720 and wanted <= set(rows["key"]), "some runs of the designs on digits are not published"
    assert runs_in(rows) <= registry.confirmatory_runs() | registry.pilots()


def runs_in(rows: pd.DataFrame) -> set[Run]:
    return {Run(**row) for row in rows.drop_duplicates("key")[list(FACTORS)].to_dict("records")}


def first_runs() -> set[Run]:
    """What the cells published before there was a registration ask for, but for the kind of rate that came later."""
    return {
        e.run
        for plan in registry.PLANS.values()
        for c in plan.cells
        if not c.version
        for e in plan.entries(dataclasses.replace(c, kinds=tuple(k for k in c.kinds if k != "default")))
    }


@pytest.fixture(scope="module")
def pilots():
    """Run -> validation macro F1 and NLL at training prevalence, of all published pilots."""
    found = published.pilots(where=COMMITTED)
    seen = zip(found["validation_f1_macro"], found["validation_nll_train"])
    return dict(zip((Run(**row) for row in found[list(FACTORS)].to_dict("records")), seen))


@needs_results
def test_pilots_of_one_setting_are_those_of_all():
    """Of every setting, whatever its files of runs have beside them."""
    every = published.pilots(where=COMMITTED)
    for name in sorted(set(every["setting"])):
        of = every[(every["setting"] == name) | every["setting"].str.startswith(f"{name}/")]
        assert set(published.pilots([name], COMMITTED)["key"]) == set(of["key"]), name


def by_rate(runs: list[Run], pilots: dict[Run, tuple[float, float]]) -> dict[float, list[tuple[float, float]]]:
    scores = {}
    for run in runs:
        scores.setdefault(run.learning_rate, []).append(pilots[run])
    return scores


@needs_results
def test_the_first_rates_are_those_that_the_published_pilots_choose(pilots):
    """On one grid for all places of a data set, and on all pilot rates."""
    first = {f"{source}/{network}": (home, network) for (source, network), home in registry.FIRST_TUNED.items()}
    wide, grid = (rates.rates_in(rates.published_rates())[kind] for kind in ("wide", "grid"))
    assert wide.keys() == first.keys()
    for place, chosen in wide.items():
        home, network = first[place]
        seeds = range(10 if home == "digits" else 3)
        for arm, rate in chosen.items():
            scores = by_rate(pilot_runs(rates.Place(home, network), arm, rates.PILOT_RATES, seeds), pilots)
            assert best(scores) == rate
            assert best({r: scores[r] for r in rates.RATE_GRID}) == grid[place][arm]


@needs_results
def test_rates_chosen_since_are_those_that_the_published_pilots_choose(pilots):
    """The grid begins as it is registered, and grows as far as the pilots have it grow."""
    chosen = rates.rates_in(rates.published_rates())
    known = {(str(place), arm): place for place, arm in registry.searches()}
    since = {
        (place, arm)
        for place, arms in chosen["grid"].items()
        for arm in arms
        if place not in chosen["wide"]
        or arm in chosen["tried"].get(place, ())  # the first rules' places got arms since
    }
    assert since == {(place, arm) for place, arms in chosen["tried"].items() for arm in arms} and since <= known.keys()
    for place, arm in since:
        search = Search.begin(known[place, arm], arm)
        while search.grown(by_rate(search.runs(), pilots)):
            pass
        assert (search.rate, [*search.rates]) == (chosen["grid"][place][arm], chosen["tried"][place][arm])


@pytest.mark.skipif(not (COMMITTED / "manifest.json").exists(), reason="no published results")
def test_what_is_read_has_names_and_explained_columns(monkeypatch):
    import replication
    from replication.study.arms import ARMS

    monkeypatch.setenv("REPLICATION_RESULTS", str(COMMITTED))
    rows = replication.read(["plantvillage/tomato@160"])
    assert set(rows) <= set(replication.columns()["column"]) and list(rows)[:4] == [
        "arm",
        "arm_label",
        "images",
        "body",
    ]
    assert {"plain", "final_bn", "bn_shift_0.4"} <= set(rows["arm"]) <= {*ARMS, ""}
    assert (rows["arm"] == "final_bn").equals(
        (rows["final_norm"] == "bn") & (rows["output"] == "softmax")
        & (rows["loss"] == "cross_entropy") & (rows["sampling"] == "shuffle") & (rows["shift"] == 0)
    )  # fmt: skip
    assert set(rows["images"]) == {"tomato leaves, 160 px"} and "EfficientNet-Lite0, ImageNet, frozen" in set(
        rows["body"]
    )
