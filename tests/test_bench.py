"""The benchmark: peers that do the same work, counted operations, a file that is gone on with, numbers that add up."""

import dataclasses
import html
import json
import re
import runpy
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from replication import cli
from replication.bench import curves, measurements, transfer
from replication.bench.ceilings import ceilings
from replication.bench.derived import measured_times, peaks, read
from replication.bench.measure import measure
from replication.bench.operations import forward_flops, operations
from replication.bench.peers import peers
from replication.bench.workloads import WORKLOADS
from replication.data.splits import Part, Split, split
from replication.run import Run
from replication.training.heads import build
from replication.training.loop import scaled

ROOT = Path(__file__).parents[1]
CEILINGS = {
    "float32 product": 1e11,
    "float32 convolution": 9e10,
    "bfloat16 product": 3e11,
    "bfloat16 convolution": 4e11,
    "copy": 1e10,
}
INSTALLED = [name for name, peer in peers("cpu").items() if not peer.missing()]


@pytest.fixture(autouse=True)
def few_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def blank(pixels: int) -> Split:
    part = Part(np.zeros((8, 3, pixels, pixels), np.uint8), np.arange(8) % 2)
    return Split(part, part, part, (1,), "blank")


@pytest.mark.parametrize(
    ("network", "pixels", "giga"),
    [
        ("resnet34", 64, 0.60),
        ("resnet34", 128, 2.39),
        ("vgg19_bn", 64, 3.19),
        ("vgg19_bn", 128, 12.7),
        ("simple_cnn", 64, 0.083),
    ],
)
def test_operations_are_those_known(network, pixels, giga):
    assert forward_flops(Run(network=network), blank(pixels)) / 1e9 == pytest.approx(giga, rel=0.01)


def test_operations_of_a_run_are_counted_by_hand():
    run = WORKLOADS["digits"].run
    counted, parts = operations(run, split(run)), split(run)
    held = len(parts.validation.labels) + len(parts.test.labels)
    assert counted["epoch"] == counted["forward"] * (3 * 15 * 64 + held)
    assert counted["readouts"] == counted["forward"] * (1010 + held)


TRAINED_HERE = [n for n in INSTALLED if n not in ("ours_bfloat16", "compiled", "dataloader_processes", "jax_vmap")]
"""not what is another one again, in half precision, compiled or in processes"""
LEARN = [dataclasses.replace(WORKLOADS["digits"].run, epochs=6, seed=seed) for seed in (0, 1)]
"""so long that the AUC is clear of the bound whatever the peer's own draws, which no seed of ours fixes"""


@pytest.mark.parametrize("name", TRAINED_HERE)
def test_peers_train_the_network_of_the_run(name, monkeypatch):
    seen, finished = [], []
    for module in ("torch_peers", "framework_peers"):
        monkeypatch.setattr(f"replication.bench.{module}.network", lambda r, p, d: seen.append(made(r, p)) or seen[-1])
    peers("cpu")[name].train(LEARN, "cpu", finished.append)
    assert sum(finished) == 2
    if name.startswith("ours"):
        return
    assert len(seen) == 2
    for run, model in zip(LEARN, seen):
        assert int(model.body[2].num_batches_tracked) == run.epochs * 15  # updates an epoch
        before, after = (ranked(m, split(run)) for m in (made(run, split(run)), model))
        assert after > 0.95 and after > before


def test_jax_trains_the_network_of_the_run():
    for package in ("jax", "flax", "optax"):
        pytest.importorskip(package)
    from replication.bench.jax_peer import trained

    halves = list(trained(LEARN, "cpu"))
    assert [h.shape[::2] for h in halves] == [(1, 2), (1, 2)]
    assert all(auc(logits[0], split(run)) > 0.95 for run, logits in zip(LEARN, halves))


def auc(logits: np.ndarray, parts: Split) -> float:
    labels = np.concatenate([parts.validation.labels, parts.test.labels])
    return roc_auc_score(labels, logits[:, 1] - logits[:, 0])


def ranked(model: torch.nn.Module, parts: Split) -> float:
    """ROC AUC on validation and test images: what few updates move first, the threshold last."""
    x = torch.cat([scaled(part.images, torch.float32, torch.device("cpu")) for part in (parts.validation, parts.test)])
    with torch.no_grad():
        return auc(model.eval()(x).numpy(), parts)


def made(run: Run, parts: Split) -> torch.nn.Module:
    return build(run, *parts.train.images.shape[1:3], parts.n_classes)


def test_a_peer_is_timed_in_a_process_of_its_own():
    row = measure("ours_loop", "digits", "cpu")
    assert row["state"] == "measured" and sum(n for _, n in row["finished"]) == row["runs"] == 10
    times = [at for at, _ in row["finished"]]
    assert times == sorted(times) and times[0] > 0 and row["cpu_seconds"] > times[-1] / 4
    assert row["bytes"] > 10**8


def test_what_cannot_be_timed_is_said(monkeypatch):
    assert measure("ours_loop", "digits", "cpu", seconds=0.3)["state"] == "out of time"
    if "jax_vmap" in INSTALLED:
        assert measure("jax_vmap", "resnet34", "cpu")["state"].startswith("failed: ValueError: jax_vmap has simple_cnn")
    else:
        assert measure("jax_vmap", "digits", "cpu")["state"].startswith("not installed: jax")


@pytest.fixture
def worker(monkeypatch, tmp_path):
    """A peer that starts a worker and never ends; the file that has the worker's id once it runs."""
    there = tmp_path / "worker"
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nsleep 300 & echo $! > {there}.tmp; mv {there}.tmp {there}; wait\n")
    script.chmod(0o755)
    monkeypatch.setattr("replication.bench.measure.sys.executable", str(script))
    return there


def gone(there) -> bool:
    """Whether a process has ended within some seconds."""
    for _ in range(100):
        try:
            if not Path(f"/proc/{there.read_text().strip()}/cmdline").read_bytes():  # a zombie
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
def test_a_peer_out_of_time_takes_its_workers_along(worker):
    assert measure("ours_loop", "digits", "cpu", seconds=0.5)["state"] == "out of time"
    assert gone(worker)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
def test_an_interrupted_peer_takes_its_workers_along(worker, monkeypatch):
    def interrupted(_):
        while not worker.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure("ours_loop", "digits", "cpu")
    assert gone(worker)


@pytest.fixture
def quick(monkeypatch):
    """Times that nobody took: a run takes 2 s, two at a time, after 3 s of start-up."""
    calls = []

    def timed(peer, workload, device, seconds=None):
        calls.append((workload, peer))
        at_once = peers(device)[peer].at_once(WORKLOADS[workload], device)
        n = 3 * at_once
        row = {"peer": peer, "workload": workload, "device": device, "at_once": at_once, "runs": n, "epochs": 10}
        finished = [[3 + 2.0 * at_once * (1 + i // at_once), 1] for i in range(n)]
        return row | {"state": "measured", "finished": finished, "cpu_seconds": 1, "bytes": 10**9, "device_bytes": 0}

    monkeypatch.setattr(measurements, "measure", timed)
    monkeypatch.setattr(measurements, "ceilings", lambda device: CEILINGS)
    monkeypatch.setattr(measurements, "CURVES", {"runs": ((1, 10), lambda n, device: 3 + n / 5)})
    return calls


def test_the_file_is_gone_on_with(quick, tmp_path, capsys):
    out = tmp_path / "sub" / "b.json"
    command = ["bench", "--device", "cpu", "--workloads", "digits", "--out", str(out)]
    assert cli.main([*command, "--peers", "ours"]) == 0
    assert cli.main([*command, "--peers", "ours,ours_loop", "--rounds", "2", "--curves"]) == 0
    assert cli.main([*command, "--peers", "ours,ours_loop", "--rounds", "2", "--curves"]) == 0
    assert quick == [("digits", "ours"), ("digits", "ours_loop"), ("digits", "ours"), ("digits", "ours_loop")]
    content = json.loads(out.read_text())
    assert [(m["round"], m["peer"]) for m in content["measurements"]] == [
        (0, "ours"),
        (0, "ours_loop"),
        (1, "ours"),
        (1, "ours_loop"),
    ]
    assert [(c["x"], c["seconds"]) for c in content["curves"]] == [(1, 3.2), (10, 5)]
    assert len(content["ceilings"]) == 2 and [p.name for p in out.parent.iterdir()] == ["b.json"]
    assert "0 measurements more" in capsys.readouterr().out.splitlines()[-1]

    rows = measured_times(read(out))
    assert rows["run"].tolist() == [2.0] * 4 and rows["ratio"].tolist() == [1.0] * 4
    assert rows["start-up"].tolist() == [3.0] * 4 and rows["cell cold"].tolist() == [23.0] * 4
    assert rows["runs/hour"].tolist() == [1800.0] * 4 and rows["images/s"].tolist() == [15 * 64 * 10 / 2] * 4
    counted = content["operations"]["digits"]
    share = (10 * counted["epoch"] + counted["readouts"]) / 2 / 1e11
    assert rows["share"].to_numpy() == pytest.approx(share)


def test_fewer_epochs_are_extrapolated_by_operations(quick, tmp_path):
    measurements.bench(tmp_path / "b.json", ["digits"], ["ours", "in_memory"], 1, "cpu")
    content = read(tmp_path / "b.json")
    for row in content["measurements"]:
        row["epochs"] = 5
    rows, counted = measured_times(content).set_index("peer"), content["operations"]["digits"]
    assert rows["run"]["in_memory"] == pytest.approx(4)
    of = [n * counted["epoch"] + counted["readouts"] for n in (5, 10)]
    assert rows["run"]["ours"] == pytest.approx(2 * of[1] / of[0])


def test_another_machines_file_is_not_gone_on_with(quick, tmp_path, capsys):
    out = tmp_path / "b.json"
    measurements.bench(out, ["digits"], ["ours"], 1, "cpu")
    content = json.loads(out.read_text())
    content["provenance"]["hardware"] = "abacus"
    out.write_text(json.dumps(content))
    assert cli.main(["bench", "--device", "cpu", "--out", str(out)]) == 2
    assert "was measured with hardware abacus, found " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workloads", "imagenet"], "unknown workload 'imagenet': allowed are digits, apple32, "),
        (["--peers", "keras"], "unknown peer 'keras': allowed are ours, ours_bfloat16, ours_loop, "),
        (["--rounds", "0"], "rounds = 0 is not allowed: at least 1"),
        (["--time-budget", "-1"], "time budget -1 s is not allowed: at least 0"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, words, tmp_path, capsys):
    assert cli.main(["bench", "--device", "cpu", "--out", str(tmp_path / "b.json"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "b.json").exists()


def test_no_time_measures_nothing(quick, tmp_path):
    assert measurements.bench(tmp_path / "b.json", ["digits"], ["ours"], 1, "cpu", time_budget=0) == 0 and not quick


def test_a_peer_out_of_time_is_tried_again(quick, tmp_path, monkeypatch):
    with monkeypatch.context() as slow:
        slow.setattr(measurements, "measure", lambda *_: {"state": "out of time"})
        measurements.bench(tmp_path / "b.json", ["digits"], ["ours"], 1, "cpu", time_budget=60)
    content = read(tmp_path / "b.json")
    assert content["measurements"] == [] and peaks(content)["float32"] == 1e11
    with pytest.raises(ValueError, match="the file holds no measurement of a peer yet"):
        measured_times(content)
    measurements.bench(tmp_path / "b.json", ["digits"], ["ours"], 1, "cpu")
    assert measured_times(read(tmp_path / "b.json"))["run"].tolist() == [2.0]


def test_memory_of_a_gpu_is_not_that_of_the_machine(quick, tmp_path):
    measurements.bench(tmp_path / "b.json", ["digits"], ["ours", "dataloader_processes"], 1, "cpu")
    content = read(tmp_path / "b.json")
    assert measured_times(content)["GB"].tolist() == [1.0, 1.0]
    for row in content["measurements"]:
        row |= {"device": "cuda", "device_bytes": 2 * 10**9 * (row["peer"] == "ours")}
    assert measured_times(content)["GB"].fillna(-1).tolist() == [2.0, -1.0]
    pytest.importorskip("IPython")
    from replication.bench import tables as shown

    assert "not known" in shown.comparison(content, "digits").data


def test_what_was_not_timed_is_listed(quick, tmp_path):
    pytest.importorskip("IPython")
    from replication.bench import tables as shown

    measurements.bench(tmp_path / "b.json", ["digits"], ["ours"], 1, "cpu")
    text = shown.unmeasured([read(tmp_path / "b.json")]).data
    assert text.count("<td>not run</td>") == len(WORKLOADS) and text.count("no GPU was available") == 1
    row = next(row for row in text.split("<tr>") if "<td>digits</td>" in row)
    assert (
        all(f"<code>{name}</code>" in row for name in peers("cpu") if name != "ours") and "<code>ours</code>" not in row
    )


def test_a_goal_is_told_with_the_range_of_its_rounds():
    pytest.importorskip("IPython")
    from replication.bench import tables as shown

    rows = pd.DataFrame(
        {
            "workload": "w",
            "round": [0, 1] * 2,
            "peer": ["ours"] * 2 + ["theirs"] * 2,
            "runs/hour": [8.0, 9.0, 2.0, 3.0],
            "share": [0.5, 0.25, 0.1, 0.1],
        }
    )
    found = shown.Goal("cpu", "w", 3, "theirs").values(rows, "ours")
    assert found.tolist() == [4.0, 3.0] and shown._median_and_range(found) == "3.5 (3\u20134)"
    assert shown.Goal("cpu", "w", 0.3).values(rows, "ours").tolist() == [0.5, 0.25]
    assert shown._median_and_range(found[:1]) == "4"
    for goal, name in ((shown.Goal("cpu", "w", 3, "none"), "ours"), (shown.Goal("cpu", "w", 3), "ours_bfloat16")):
        assert shown._median_and_range(goal.values(rows, name)) == "not measured"


def test_no_measurements_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="no measurements at .*: `replication bench` makes them"):
        read(tmp_path / "none.json")


def test_ceilings_are_those_of_products_and_copies(monkeypatch):
    monkeypatch.setattr("replication.bench.ceilings.SIDES", (64, 256))
    monkeypatch.setattr("replication.bench.ceilings.SECONDS", 0.02)
    monkeypatch.setattr("replication.bench.ceilings.CONVOLUTIONS", ((16, 16, 32, 16),))
    found = ceilings("cpu")
    assert found.keys() == CEILINGS.keys() and all(10**7 < rate < 10**15 for rate in found.values())


def test_a_peak_is_the_larger_of_products_and_convolutions():
    more = CEILINGS | {"float32 product": 8e10, "float32 convolution": 2e11}
    assert peaks({"ceilings": [CEILINGS, more]}) == {"float32": 2e11, "bfloat16": 4e11, "copy": 1e10}


def test_curves_are_of_real_runs():
    assert curves.by_runs(1, "cpu") > 0.1


@pytest.mark.data
def test_a_larger_image_takes_its_time():
    from replication.running.local import at_hand

    if not at_hand("plantvillage/apple@16"):
        pytest.skip("no images of apple leaves: REPLICATION_DATA names their folder")
    assert 0.01 < curves.by_side(16, "cpu") < 60


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_scripts_find_what_they_import(script):
    """Nothing else runs most of them: a name that moved would be noticed on the day of a measurement."""
    try:
        runpy.run_path(str(script), run_name="imported")
    except ModuleNotFoundError as error:
        assert not str(error.name).startswith("replication"), error
        pytest.skip(f"{error.name} is not installed")


def frozen_content(**network) -> dict:
    return {
        "ceilings, one core": {"float32 product": 1e11, "float32 convolution": 5e10},
        "networks": {"resnet_cntk": network},
    }


LINEAR = {"heads a second, one core": [40.0, 60.0, 70.0], "flops a head": 1, "scoring, s": 0.002, "storing, s": 0.001}


def test_frozen_goals_are_shares_and_ratios_of_what_was_measured():
    content = frozen_content(
        **{
            "features, one core": {"ours": [20.0], "plain loop": [10.0], "flops an image": 1_000_000_000},
            "linear head": LINEAR,
            "fastai's head": LINEAR | {"heads a second, one core": [0.5], "flops a head": 60_000_000_000},
            "pair of 60 seeds with features, s": 60.0,
            "fastai, s a run": 101.0,
        }
    )
    rows = [[cell.strip() for cell in row] for row in cells_of(transfer.goals(content).data)]
    assert rows == [
        ["linear heads a second and core, resnet_cntk: 50", "60 (40\u201370)", "yes"],
        ["fastai's head, share of the product peak, resnet_cntk: 50\u00a0%", "30\u00a0%", "no"],
        ["features, share of the convolution peak, resnet_cntk: 50\u00a0%", "40\u00a0%", "no"],
        ["a pair of 60 seeds, times as fast as fastai's, resnet_cntk: 200", "202", "yes"],
    ]


def test_what_was_not_measured_of_a_frozen_body_is_said():
    content = frozen_content(**{"features, one core": {"ours": [20.0], "plain loop": [10.0], "flops an image": 1}})
    assert [row[1:] for row in cells_of(transfer.goals(content).data)] == [
        ["not measured", ""],
        ["not measured", ""],
        ["4e-08\u00a0%", "no"],
        ["not measured", ""],
    ]


def cells_of(table: str) -> list[list[str]]:
    """The cells of a table's body, row by row, without markup."""
    body = table[table.index("<tbody>") : table.index("</tbody>")]
    return [
        [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
    ]


def test_the_page_says_whether_two_devices_agree():
    def content(lower: float) -> dict:
        f1 = [0.9, 0.8, 0.7]
        both = {"here": [value - lower for value in f1], "published": f1}
        means = {side: round(float(np.mean(values)), 4) for side, values in both.items()}
        return {
            "setting": "plantvillage/tomato@128",
            "network": "resnet_cntk:imagenet",
            "seeds": 3,
            "runs": {"plain": {"f1_minority": both}, "final_bn": {"f1_minority": both, "learned_shift": both}},
            "means": {"plain": means, "final_bn": means},
            "means within 0.05": lower <= 0.05,
            "trained here": [
                {"hardware": "a processor", "versions": {"torch": "2"}, "commit": commit} for commit in ("abc", "def")
            ],
            "seconds": [100.0, 200.0, 250.0],
        }

    table = transfer.two_devices(content(0.02)).data
    assert cells_of(table) == [
        ["plain", "0.780", "0.800", "0.0200", ""],
        ["final BN", "0.780", "0.800", "0.0200", "0.0200"],
    ]
    assert "3 seeds" in table and "largest difference of a seed: learned shift" in table
    said = transfer.whether_devices_agree(content(0.02)).data
    assert "at most 0.020 apart, so it may." in said and "a run took 200 s of one core" in said
    assert "on a processor, torch 2; commits abc and def;" in said
    assert "at most 0.060 apart, so it may not." in transfer.whether_devices_agree(content(0.06)).data
