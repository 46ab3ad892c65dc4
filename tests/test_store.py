"""What is kept of a run: the local store, the published files, and what is read out of both."""

import functools
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from replication.study import rates
from replication.running import local
from replication.study import designs
from replication.running import processes
from replication.data.loading import load
from replication.results import published
from replication.results import reproduction
from replication.results.frame import HISTORIES, table
from replication.results.store import SCHEMA, Store, default_path
from replication.running.tuning import choose
from replication.paths import root
from replication.run import FACTORS, PROTOCOL, Run

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
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE runs SET protocol = protocol + 1 WHERE key = ?", (made_up(RUNS[0]).key,))
    assert {result.run for result in store.results()} == set(RUNS[1:])


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
    assert [writer.wait(60) for writer in writers] == [0, 0]
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
        threads = [
            threading.Thread(target=open_and_read, args=(tmp_path / f"{i}.sqlite", barrier)) for _ in range(6)
        ]
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
        ValueError, match=f"was written by schema version {SCHEMA + 1}: this package reads {SCHEMA} only"
    ):
        Store(store.path)
    assert healthy(store.path) == len(RUNS)


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough for a header" * 20, b"\x00" * 4096]
)
def test_file_that_is_no_store_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="notes.txt is no results store"):
        Store(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damage", ["scores = '{'", "factors = '{\"nope\": 1}'", "arrays = x'00ff'", "arrays = x'504b0304'"]
)
def test_damaged_run_is_named(store, damage):
    key = min(store.keys())
    store.db.execute(f"UPDATE runs SET {damage} WHERE key = ?", (key,))
    with pytest.raises(ValueError, match=f"run {key} in .*store.sqlite cannot be read: "):
        list(store.results())


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
    planned = designs.runs(["generality"], networks=["logistic"], seeds=12)
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
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
        assert all(len(result.scores) > 1 and len(result.arrays) == 8 for result in store.results())
        left = local.missing(planned, store)
        assert len(left) == len(planned) - kept
        assert local.carry_out_all(planned[: len(planned) - len(left) + 2], store, "cpu", workers=1) == 2
        assert healthy(own_store) == kept + 2
    assert psutil.wait_procs(workers, timeout=20)[1] == []


# --- Published results ----------------------------------------------------------------------------


@pytest.fixture
def shelf(store, tmp_path):
    """A folder with the store's results, published."""
    where = tmp_path / "results"
    assert published.publish(store, [*RUNS, Run(seed=999)], RUNS[:2], where) == 4
    return where


FILES = ["digits/simple_cnn.parquet", "digits/simple_cnn.predictions.parquet"]


def test_published_results_are_those_of_the_store(shelf, store):
    rows = published.read(where=shelf)
    wanted = table(store.results()).sort_values(["key", "readout"], ignore_index=True)
    pd.testing.assert_frame_equal(rows.drop(columns=[*HISTORIES]), wanted.drop(columns=[*HISTORIES]))
    trained = (rows["readout"] == "as_trained").to_numpy()
    for name in HISTORIES:
        assert rows.loc[~trained, name].isna().all()
        assert np.array_equal(np.stack(rows.loc[trained, name]), np.stack(wanted.loc[trained, name]))
    assert len(rows) == 8 and rows["key"].nunique() == 4
    listed = published.manifest(shelf)
    assert listed["provenance"] == {"made up": RECORD} and listed["protocol"] == PROTOCOL
    assert {name: entry["rows"] for name, entry in listed["files"].items()} == dict(zip(FILES, (8, 2)))
    assert published.check(shelf) == FILES


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
    published.publish(store, [r.run for r in store.results()], [], shelf)
    assert set(published.read(["digits/1v2"], shelf)["setting"]) == {"digits/1v2"}
    assert set(published.read(["digits"], shelf)["setting"]) == {"digits", "digits/1v2"}
    assert published.read(["cifar10"], shelf).empty
    assert published.read(where=shelf)["key"].nunique() == 6


def contents(where: Path) -> dict[str, bytes]:
    return {
        path.relative_to(where).as_posix(): path.read_bytes() for path in where.rglob("*") if path.is_file()
    }


def test_publishing_twice_changes_nothing(shelf, store):
    before = contents(shelf)
    assert set(before) == {*FILES, "manifest.json"}
    published.publish(store, RUNS, RUNS[:2], shelf)
    assert contents(shelf) == before


def test_publishing_adds_to_what_is_there_and_replaces_what_is_newer(shelf, tmp_path, made_up):
    newer = made_up(RUNS[0], provenance="there")
    newer.scores["as_trained"]["f1_minority"] = 0.5
    with Store(tmp_path / "other.sqlite") as other:
        other.add_provenance(RECORD | {"id": "there"})
        other.add(newer)
        other.add(made_up(Run(seed=7), provenance="there"))
        published.publish(other, [RUNS[0], Run(seed=7)], [], shelf)
    rows = published.read(where=shelf)
    assert rows["key"].nunique() == 5 and len(rows) == 10
    row = rows[(rows["key"] == newer.key) & (rows["readout"] == "as_trained")]
    assert row["f1_minority"].tolist() == [0.5] and row["provenance"].tolist() == ["there"]
    assert set(published.manifest(shelf)["provenance"]) == {"made up", "there"}
    assert len(published.predictions("digits", "simple_cnn", shelf)) == 2


def test_changed_missing_and_unknown_files_are_refused(shelf):
    path = shelf / FILES[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(
        ValueError,
        match=f"results file {FILES[0]} has checksum [0-9a-f]{{12}}: the manifest has [0-9a-f]{{12}}",
    ):
        published.read(where=shelf)
    path.write_bytes(whole)
    path.rename(shelf / "digits/other.parquet")
    with pytest.raises(ValueError, match=f"results file {FILES[0]} is in the manifest but not in "):
        published.check(shelf)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="results file digits/other.parquet is not in the manifest of "):
        published.check(shelf)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"protocol": 1, "files": {}}'])
def test_what_is_no_manifest_is_refused(shelf, text):
    (shelf / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json is no manifest: "):
        published.check(shelf)


def test_publishing_that_fails_leaves_what_was_published(shelf, store, made_up, monkeypatch):
    """Whatever is interrupted before the manifest is written has put nothing in place."""
    before = {path: path.read_bytes() for path in shelf.rglob("*.*")}
    run = Run(seed=500)
    store.add(made_up(run))

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space left"):
        published.publish(store, [run], [], shelf)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in before} == before
    assert published.check(shelf)


def test_results_of_another_protocol_are_refused(shelf, store):
    path = shelf / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": PROTOCOL + 1}))
    for use in (published.check, lambda where: published.publish(store, RUNS, [], where)):
        with pytest.raises(
            ValueError, match=f"results of protocol {PROTOCOL + 1}: this package reads {PROTOCOL} only"
        ):
            use(shelf)


def test_nothing_published_reads_as_nothing(tmp_path):
    assert published.check(tmp_path) == [] and published.read(where=tmp_path).empty


# --- Tuning and reproduction ----------------------------------------------------------------------


def test_the_best_mean_wins_among_equals_the_least_loss_then_the_lowest_rate():
    scores = [("d/n", "plain", 1e-1, 0.9, 2.0), ("d/n", "plain", 1e-2, 0.5, 1.0), ("d/n", "plain", 1e-1, 0.3, 2.0),
              ("d/n", "plain", 1e-2, 0.7, 1.0), ("d/n", "plain", 1e-3, 0.6, 1.5), ("d/n", "final_bn", 1e-1, 0.2, 9.0),
              ("d/n", "final_bn", 1e-3, 0.1, 1.0), ("d/m", "plain", 1e-3, 0.0, 1.0), ("d/m", "plain", 1e-2, 0.0, 1.0),
              ("d/o", "plain", 1e-3, 0.4, float("nan")), ("d/o", "plain", 1e-2, 0.4, 3.0)]  # fmt: skip
    # 0.6 three times: of the least loss
    wanted = {"d/n": {"plain": 1e-2, "final_bn": 1e-1}, "d/m": {"plain": 1e-3}, "d/o": {"plain": 1e-2}}
    assert choose(scores) == choose(scores[::-1]) == wanted
    assert choose([]) == {}


def test_reproduction_compares_cells_on_the_seeds_in_both(made_up):
    runs = [Run(seed=s, final_norm=norm) for norm in ("none", "bn") for s in range(100, 104)]
    theirs = table(made_up(run) for run in runs)
    ours = table(made_up(run) for run in [*runs[:3], *runs[4:], Run(seed=100, batch_size=8)])
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
    assert (
        said.startswith("1 of 2 cells have the published mean F1 within 0.02 (1 to the bit;")
        and "7 runs" in said
    )
    assert "mean absolute difference 0.0250, largest 0.0500" in said


def test_other_data_is_not_compared(made_up):
    theirs, ours = table([made_up(Run())]), table([made_up(Run(), data="0123456789abcdef")])
    for cells in (reproduction.compare(theirs, ours), reproduction.compare(theirs, table([]))):
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
    assert files and sum((COMMITTED / name).stat().st_size for name in files) < 20e6
    rows, records = published.read(where=COMMITTED), published.manifest(COMMITTED)["provenance"]
    assert set(rows["provenance"]) <= set(records)
    assert not rows.duplicated([*FACTORS, "data", "readout"]).any()
    wanted = {run.key(load("digits").digest) for run in designs.runs(settings=["digits"])}
    assert wanted <= set(rows["key"]), "some runs of the designs on digits are not published"


@needs_results
def test_learning_rates_are_those_that_the_published_pilots_choose():
    rows = published.read(where=COMMITTED)
    pilots = rows[(rows["seed"] < 100) & (rows["readout"] == "as_trained")]
    seen = zip(pilots["validation_f1_macro"], (history[-1] for history in pilots["validation_nll_train"]))
    scores = dict(zip((Run(**row) for row in pilots[list(FACTORS)].to_dict("records")), seen))
    found = [(place, arm, run.learning_rate, *scores[run]) for place, arm, run in designs.pilots()]
    assert choose(row for row in found if row[2] in rates.RATE_GRID) == rates.chosen_rates("grid")
    assert choose(found) == rates.chosen_rates("wide")
