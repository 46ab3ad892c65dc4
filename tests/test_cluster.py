"""Runs on a Ray cluster give the rows of the local backend, whatever happens to workers and nodes."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from replication.paths import home
from replication.results.store import Store
from replication.run import Run
from replication.running import cluster, local
from replication.running.children import descendants
from replication.running.cluster import (
    ATTEMPTS,
    CHUNK,
    Chunk,
    Driver,
    address_of,
    carry_out_on,
    chunks_of,
)
from replication.running.parcels import Luggage, parcel

RUNS = [
    Run(network="logistic", final_norm=norm, epochs=2, seed=seed) for seed in range(100, 104) for norm in ("none", "bn")
]


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REPLICATION_NODE_HOME", str(tmp_path / "node"))


def rows(path) -> dict:
    with Store(path) as store:
        found = {}
        for r in store.results():
            facts = {name: value for name, value in r.facts.items() if name != "seconds"}
            found[r.key] = (facts, r.scores, {name: a.tobytes() for name, a in r.arrays.items()})
        return found


# --- Without Ray ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"), [("ray", None), ("ray://10.0.0.1:6379", "10.0.0.1:6379"), ("ray://auto", "auto")]
)
def test_addresses(text, address):
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["", "mars", "ray://", "ray:// ", "raylet", "http://x"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="is not allowed: ray .this machine. or ray://HOST:PORT"):
        address_of(text)


@pytest.mark.parametrize(
    ("address", "remedy"), [(None, "try again when it is less busy"), ("a:1", "start one, and run")]
)
def test_a_cluster_that_does_not_start_is_one_sentence(tmp_path, monkeypatch, address, remedy):
    class NoRay:
        is_initialized = staticmethod(lambda: False)

        @staticmethod
        def init(**_):
            raise Exception("The current node timed out during startup.\nMore of it.")

    monkeypatch.setattr(cluster, "_ray", lambda: NoRay)
    said = rf"no Ray cluster at .*\(The current node timed out.*\): {remedy}"
    with Store(tmp_path / "ray.sqlite") as store, pytest.raises(ValueError, match=said):
        carry_out_on(RUNS[:1], store, address, device="cpu")


def test_ray_is_imported_only_when_asked_for():
    import subprocess
    import sys

    code = "import sys, replication.cli, replication.running.cluster, replication.running.local; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("n", "room", "sizes"), [(10, 1, [2] * 5), (1000, 2, [CHUNK] * 31 + [8]), (3, 8, [1] * 3), (0, 1, [])]
)
def test_chunks_are_the_runs_in_order(n, room, sizes):
    runs = [Run(seed=100 + i) for i in range(n)]
    found = chunks_of(runs, "cpu", "auto", room)
    assert [run for chunk in found for run in chunk.runs] == runs and [len(chunk.runs) for chunk in found] == sizes


def test_a_lost_chunk_goes_on_without_what_was_finished_and_its_first_run_is_given_up_alone():
    driver = object.__new__(Driver)
    driver.failed = {}
    todo, given_up, tries = [Chunk(RUNS[:4])], [], 0
    while todo:
        chunk = todo.pop(0)
        if chunk.runs[0] == RUNS[1]:  # whoever trains this one is lost
            tries += 1
            chunk.node, chunk.reason = "here", "its worker was lost"
        else:
            chunk.runs, chunk.reason = chunk.runs[1:], ""
            if chunk.runs:
                chunk.reason = "its worker was lost"
        again = driver._ended(chunk)
        assert all(c.avoid == chunk.node for c in again)
        todo = again + todo
        given_up = list(driver.failed)
    assert (
        given_up == [RUNS[1]] and driver.failed[RUNS[1]] == ("its worker was lost", ATTEMPTS + 1) and tries == ATTEMPTS
    )


def test_parcels_bring_folders_and_files_once(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(ray, "get", lambda kept: kept)
    (home() / "packs" / "x" / "deep").mkdir(parents=True)
    (home() / "packs" / "x" / "deep" / "a").write_bytes(b"\0\1\2")
    (home() / "packs" / "x" / "b").write_bytes(b"")
    (home() / "file.pt").write_bytes(b"weights")
    parcels = [parcel(home() / "packs" / "x", lambda array: array), parcel(home() / "file.pt", lambda array: array)]
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "node"))
    for _ in range(2):
        for one in parcels:
            one.unpack()
    assert (home() / "packs" / "x" / "deep" / "a").read_bytes() == b"\0\1\2" and (
        home() / "packs" / "x" / "b"
    ).read_bytes() == b""
    assert (home() / "file.pt").read_bytes() == b"weights"


def test_a_node_with_other_code_is_refused():
    with pytest.raises(ValueError, match="another version of this package than the driver"):
        Luggage("0" * 64, "nowhere", {}, ()).settle()


# --- With Ray: a cluster of two nodes on this machine ------------------------------------------------------


@pytest.fixture(scope="module")
def two_nodes():
    pytest.importorskip("ray", reason="Ray is not installed")
    import ray
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80 * 1024**2}
    try:
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **memory})
        nodes.add_node(num_cpus=1, **memory)
    except Exception as error:  # Ray gives a node 15 s to start, and has no class for it
        pytest.skip(f"Ray does not start here: {error}")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def connected(two_nodes):
    import ray

    ray.init(address=two_nodes.address, log_to_driver=False)
    yield two_nodes
    ray.shutdown()


def test_rows_are_those_of_the_local_backend(connected, tmp_path):
    with Store(tmp_path / "local.sqlite") as store:
        local.carry_out_all(RUNS, store, "cpu", 1)
    with Store(tmp_path / "ray.sqlite") as store:
        assert carry_out_on(RUNS, store, device="cpu") == len(RUNS)
        assert carry_out_on(RUNS, store, device="cpu") == 0
        [told] = store.provenance().values()
    with Store(tmp_path / "local.sqlite") as store:
        assert told == next(iter(store.provenance().values()))
    assert rows(tmp_path / "ray.sqlite") == rows(tmp_path / "local.sqlite") and len(
        rows(tmp_path / "ray.sqlite")
    ) == len(RUNS)
    assert not cluster.failures_of(store).exists()


def _workers() -> list[int]:
    """Ray's workers below this process that carry out a task."""
    found = []
    for pid in descendants(os.getpid()):
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::task"):
                found.append(pid)
        except OSError:  # it has just ended
            continue
    return found


def test_a_worker_killed_in_the_middle_costs_no_run(connected, tmp_path):
    runs = [Run(network="logistic", epochs=10, seed=seed) for seed in range(100, 140)]
    killed = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            with Store(tmp_path / "ray.sqlite") as store:
                if store.keys() and (workers := _workers()):
                    os.kill(workers[0], signal.SIGKILL)
                    killed.append(workers[0])
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    with Store(tmp_path / "ray.sqlite") as store:
        killer.start()
        assert carry_out_on(runs, store, device="cpu") == len(runs)
    killer.join()
    assert killed and len(rows(tmp_path / "ray.sqlite")) == len(runs)


def test_a_run_that_fails_everywhere_is_recorded_with_its_reason(connected, tmp_path):
    bad = Run(network="logistic", n_majority=10**6, seed=100)
    with Store(tmp_path / "ray.sqlite") as store:
        with pytest.raises(RuntimeError, match="1 runs were given up, the first since .*: all others are kept"):
            carry_out_on([*RUNS[:2], bad, *RUNS[2:4]], store, device="cpu")
        assert store.keys() == {local.key_of(run) for run in RUNS[:4]}
        [(key, told)] = json.loads(cluster.failures_of(store).read_text()).items()
        assert key == local.key_of(bad) and told["factors"]["n_majority"] == 10**6 and told["reason"]
        assert carry_out_on(RUNS[:5], store, device="cpu") == 1
        assert key in json.loads(cluster.failures_of(store).read_text())


def test_no_time_trains_nothing(connected, tmp_path):
    with Store(tmp_path / "ray.sqlite") as store:
        assert carry_out_on(RUNS, store, device="cpu", time_budget=0) == 0
