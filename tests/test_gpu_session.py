"""The session for a machine with a GPU, rehearsed on a CPU: what it leaves when it is killed, and what has to travel."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from replication import cli
from replication.bench.peers import peers
from replication.claims import registry
from replication.data.loading import load
from replication.data.splits import split
from replication.results import published
from replication.results.store import Store
from replication.run import Run

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import devices
import gpu_carry
import gpu_session

PLAN = {
    "measure": {"network": "logistic", "n_majority": 120},
    "cells": [
        {
            "name": "digits",
            "commands": [
                [
                    "run",
                    "base",
                    "--settings",
                    "digits",
                    "--networks",
                    "logistic",
                    "--seeds",
                    "2",
                    "--device",
                    "{device}",
                    "--workers",
                    "1",
                    "--time-budget",
                    "{seconds}",
                    "--out",
                    "{store}",
                ]
            ],
        }
    ],
}


def call(out: Path, plan: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "benchmarks" / "gpu_session.py"),
        "--out",
        str(out),
        "--plan",
        str(plan),
        "--device",
        "cpu",
        "--minutes",
        "4",
        *more,
    ]


def stored(path: Path) -> int:
    try:
        with sqlite3.connect(path) as db:
            return db.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.OperationalError:  # not there yet
        return 0


def test_a_session_that_is_killed_goes_on_where_it_stopped(tmp_path):
    out, plan = tmp_path / "out", tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN))
    first = subprocess.Popen(call(out, plan, "--steps", "smoke,cells"), start_new_session=True, stdout=subprocess.PIPE)
    end = time.monotonic() + 200
    while not stored(out / "store.sqlite") and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    kept = stored(out / "store.sqlite")
    assert kept >= 1
    assert json.loads((out / "session.json").read_text()).keys() == {"smoke"}
    again = subprocess.run(call(out, plan, "--steps", "smoke,cells"), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "smoke:" not in again.stdout and "digits-0: done" in again.stdout
    assert "replication merge store0.sqlite" in again.stdout
    with Store(out / "store.sqlite") as there, Store(tmp_path / "here.sqlite") as here:
        assert here.merge(out / "back" / "store0.sqlite") == len(there.keys()) > kept
        assert here.keys() == there.keys()
        assert {r.provenance for r in here.results()} <= here.provenance().keys()
    told = json.loads((out / "back" / "session.json").read_text())
    assert {name: step["state"] for name, step in told["session.json"].items()} == {"smoke": "done", "digits-0": "done"}
    assert "minority F1 0." in (out / "back" / "logs.txt").read_text()


def test_a_command_that_takes_too_long_is_interrupted_and_tried_again(tmp_path):
    out, slow = tmp_path, [sys.executable, "-c", "import time\nprint('begun', flush=True)\ntime.sleep(60)"]
    start = time.monotonic()
    assert gpu_session.carry_out("slow", slow, 1, out, dict(os.environ)) == "out of time"
    assert time.monotonic() - start < 30 and "begun" in (out / "slow.log").read_text()
    assert (
        gpu_session.carry_out("bad", [sys.executable, "-c", "raise SystemExit(3)"], 30, out, dict(os.environ))
        == "failed"
    )


def test_the_faster_engine_and_memory_format_are_measured_and_told(tmp_path, monkeypatch):
    plan, arguments = tmp_path / "plan.json", gpu_session.argparse.Namespace(out=tmp_path, device="cpu")
    plan.write_text(json.dumps(PLAN))
    arguments.plan = plan
    times = {"streams, channels_last": 3.0, "streams, contiguous": 2.0, "loop, contiguous": 1.0}
    monkeypatch.setattr(gpu_session, "timed", lambda a, run, name, layout: times[f"{name}, {layout}"])
    gpu_session.engine(arguments)
    told = json.loads((tmp_path / "engine.json").read_text())
    assert told["seconds"] == times
    assert told["chosen"] == {"REPLICATION_MEMORY_FORMAT": "contiguous", "REPLICATION_ENGINE": "loop"}

    def broken(a, run, name, layout):
        if layout == "contiguous":
            raise RuntimeError("no such kernel")
        return 1.0

    monkeypatch.setattr(gpu_session, "timed", broken)
    gpu_session.engine(arguments)
    told = json.loads((tmp_path / "engine.json").read_text())
    assert told["chosen"] == {"REPLICATION_MEMORY_FORMAT": "channels_last"}
    assert told["failed"] == {"streams, contiguous": "no such kernel"}


@pytest.mark.parametrize("name", ["streams", "loop"])
def test_an_engine_is_timed_in_a_process_of_its_own(name, tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path))
    arguments = gpu_session.argparse.Namespace(out=tmp_path, device="cpu")
    assert 0 < gpu_session.timed(arguments, Run(network="logistic", n_majority=120, epochs=1), name, "contiguous") < 20


def test_a_large_store_comes_back_in_several_files(tmp_path, made_up, monkeypatch):
    with Store(tmp_path / "store.sqlite") as store:
        for seed in range(6):
            store.add(made_up(Run(seed=seed)))
        keys = store.keys()
    monkeypatch.setattr(gpu_session, "MOST", 8000)
    (tmp_path / "back").mkdir()
    files = gpu_session.compact(tmp_path, tmp_path / "back")
    assert len(files) > 1
    with Store(tmp_path / "all.sqlite") as store:
        added = [store.merge(file) for file in files]
        assert store.keys() == keys and sum(added) == 6 and min(added) >= 1


def test_loads_of_any_order_are_put_together(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    files = {}
    for name, size in (("a/one.bin", 3_000_000), ("b/two.bin", 10), ("b/empty.bin", 0)):
        files[name] = tmp_path / Path(name).name
        files[name].write_bytes(rng.bytes(size))
    (tmp_path / "sums.json").write_text("{}")
    monkeypatch.setattr(gpu_carry, "wanted", lambda *_: files | {"sums.json": tmp_path / "sums.json"})
    loads = gpu_carry.pack(tmp_path / "loads", [], [], 1)
    assert len(loads) == 3
    assert all(sum(p.stat().st_size for p in load.glob("*.part*")) <= 2**20 for load in loads)
    to = tmp_path / "there"
    assert gpu_carry.unpack(loads[2], to) == ["a--one.bin.part0 of load0", "a--one.bin.part1 of load1"]
    assert gpu_carry.unpack(loads[0], to) == ["a--one.bin.part1 of load1"]
    assert gpu_carry.unpack(loads[1], to) == [] == gpu_carry.unpack(loads[1], to)
    assert all((to / name).read_bytes() == path.read_bytes() for name, path in files.items())
    assert list((to / "pieces").iterdir()) == []


def test_a_spoilt_piece_is_refused(tmp_path, monkeypatch):
    (tmp_path / "sums.json").write_text("{}")
    monkeypatch.setattr(gpu_carry, "wanted", lambda *_: {"sums.json": tmp_path / "sums.json"})
    (load,) = gpu_carry.pack(tmp_path / "loads", [], [], 1)
    (load / "sums.json.part0").write_text("[]")
    with pytest.raises(ValueError, match="has another sum than in parts.json: carry it again"):
        gpu_carry.unpack(load, tmp_path / "there")


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("REPLICATION_DATA"), reason="REPLICATION_DATA is not set")
def test_a_set_of_images_travels_under_the_same_keys(tmp_path, monkeypatch):
    run = Run(setting="skin", n_majority=100, seed=3)
    here = split(run)
    loads = gpu_carry.pack(tmp_path / "loads", ["skin"], [], 5)
    assert len(loads) > 1
    missing = [gpu_carry.unpack(one, tmp_path / "there") for one in loads]
    assert missing[0] and missing[-1] == []
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path / "there" / "data"))
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    load.cache_clear()
    there = split(run)
    load.cache_clear()
    assert (tmp_path / "home" / "packs" / "skin-32").is_dir() and there.digest == here.digest
    for a, b in zip((here.train, here.validation, here.test), (there.train, there.validation, there.test)):
        assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)


def test_the_command_tells_what_is_missing(tmp_path, monkeypatch, capsys):
    (tmp_path / "sums.json").write_text("{}")
    files = {"one.bin": tmp_path / "one.bin", "sums.json": tmp_path / "sums.json"}
    files["one.bin"].write_bytes(bytes(1_500_000))
    monkeypatch.setattr(gpu_carry, "wanted", lambda *_: files)
    loads = gpu_carry.pack(tmp_path / "loads", [], [], 1)
    for load_, status, said in zip(loads, (1, 0), ("still missing: one.bin.part1 of load1", "all is there, in ")):
        monkeypatch.setattr(sys, "argv", ["gpu_carry.py", "unpack", str(load_), "--to", str(tmp_path / "there")])
        assert gpu_carry.main() == status
        assert said in capsys.readouterr().out


COMMITTED = json.loads((ROOT / "benchmarks" / "gpu_plan.json").read_text())


@pytest.mark.parametrize("plan", [PLAN, COMMITTED], ids=["made up", "committed"])
def test_the_commands_of_a_plan_are_commands_of_the_package(plan):
    for cell in plan["cells"]:
        for command in cell["commands"]:
            cli.parser().parse_args([text.replace("{seconds}", "1") for text in command])


def test_the_session_asks_for_peers_that_there_are(monkeypatch, tmp_path):
    asked = {}

    def smoke(a):
        asked.update(vars(a))

    monkeypatch.setattr(sys, "argv", ["gpu_session.py", "--out", str(tmp_path), "--step", "smoke"])
    monkeypatch.setattr(gpu_session, "smoke", smoke)
    gpu_session.main()
    assert set(asked["peers"].split(",")) <= set(peers("cuda"))


def test_chosen_rates_come_back(tmp_path):
    gpu_session.bring_back(tmp_path, tmp_path / "back")
    told = json.loads((tmp_path / "back" / "session.json").read_text())
    assert told["results/rates.json"] == json.loads((ROOT / "results" / "rates.json").read_text())


def test_the_committed_plan_trains_what_is_planned():
    commands = [command for cell in COMMITTED["cells"] for command in cell["commands"]]
    for asked in map(cli.parser().parse_args, ([t.replace("{seconds}", "1") for t in c] for c in commands)):
        for name in asked.claims:
            planned = {(c.setting, c.network) for c in registry.plan(name).cells}
            assert {(s, n) for s in asked.settings or () for n in asked.networks or ()} <= planned, name


def test_devices_are_compared_on_published_gpu_runs():
    rows, records = published.read((devices.SETTING,)), published.manifest()["provenance"]
    arms = {}
    for run, arm in devices.runs().items():
        same = (rows[list(vars(run))] == pd.Series(vars(run))).all(axis=1)
        (key,) = set(rows.loc[same, "key"])
        arms[key] = arm
    assert len(arms) == 10 and [*arms.values()].count("plain") == 5
    for lower, agree in ((0.04, True), (0.06, False)):
        ours = rows.assign(f1_minority=rows["f1_minority"] - lower)
        found = devices.compared(ours, rows, arms, records)
        assert found["means within 0.05"] is agree
        for arm, means in found["means"].items():
            assert means["published"] - means["here"] == pytest.approx(lower, abs=1e-4)
            assert ("learned_shift" in found["runs"][arm]) is (arm == "final_bn")
    with pytest.raises(ValueError, match="1 of 10 runs are missing here: train them first"):
        devices.compared(rows[rows["key"] != next(iter(arms))], rows, arms, records)
    on_cpu = {name: record | {"device": "cpu"} for name, record in records.items()}
    with pytest.raises(ValueError, match="published runs of a GPU are needed: found cpu"):
        devices.compared(rows, rows, arms, on_cpu)
