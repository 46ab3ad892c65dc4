"""From measured times to what a page shows: seconds per run, cold and warm, runs per hour, share of peak."""

import json
from pathlib import Path

import pandas as pd

from replication.bench.workloads import WORKLOADS
from replication.paths import root


def read(path: Path) -> dict:
    """A file of measurements; ValueError where there is none."""
    if not path.is_file():
        raise ValueError(f"no measurements at {path}: `replication bench` makes them")
    return json.loads(path.read_text())


def recorded() -> list[dict]:
    """The measurements that belong to the book: `bench.json` first, then `bench_*.json`, of large networks or other machines."""
    folder = root() / "benchmarks"
    return [read(folder / "bench.json"), *map(read, sorted(folder.glob("bench_*.json")))]


def frozen() -> dict:
    """What `benchmarks/frozen.py` measured: features, heads, and a pair of arms beside fastai's."""
    return read(root() / "benchmarks" / "frozen.json")


def on_gpu() -> tuple[dict, dict, dict]:
    """What was measured on a GPU: the peers by `replication bench` on digits and on photographs, and a session's cells."""
    folder = root() / "benchmarks" / "measurements"
    return (
        read(folder / "h200_bench.json"),
        read(folder / "h200_bench_streams.json"),
        read(folder / "h200_session.json"),
    )


def devices() -> dict:
    """What `benchmarks/devices.py` found: runs of a GPU, trained again on a CPU."""
    return read(root() / "benchmarks" / "measurements" / "devices_tomato.json")


def packing() -> dict:
    """What `benchmarks/pack.py` measured: seconds to decode and to open a set of images, and the goals."""
    return read(root() / "benchmarks" / "pack.json")


def _times(row: dict) -> dict[str, float]:
    """Start-up seconds and seconds per run of the whole machine, of the epochs that were timed.

    Runs that train at the same time end together: what the first of them take is the start-up and their own time.
    """
    done, cold, first = 0, 0.0, 0
    for at, n in row["finished"]:
        done += n
        if not first and done >= row["at_once"]:
            cold, first = at, done
    last = row["finished"][-1][0]
    warm = (last - cold) / (done - first)
    return {"start-up": cold - warm * first, "timed": warm}


def peaks(content: dict) -> dict[str, float]:
    """`float32` and `bfloat16`: the best product or convolution of all measurements; `copy` likewise."""
    best = pd.DataFrame(content["ceilings"]).max()
    return {
        kind: best[[name for name in best.index if name.startswith(kind)]].max()
        for kind in ("float32", "bfloat16", "copy")
    }


def measured_times(content: dict) -> pd.DataFrame:
    """One row a (workload, peer, round) that was measured.

    `run`: seconds a whole run costs the machine when warm (extrapolated by its operations where fewer
    `epochs` were timed than the run has); `one run`: seconds of one of those that train at the same time;
    `cell cold`, `cell warm`: seconds of ten runs with and without start-up; `runs/hour`; `images/s` trained on;
    `share` of the measured peak of its precision; `GB` in use (on a GPU: of its memory, NaN where
    it is not known); `ratio`: `run` by that of `ours` in the same round.
    ValueError where nothing was measured.
    """
    peak = peaks(content)
    rows = []
    for row in content["measurements"]:
        if row["state"] != "measured":
            continue
        work, times = WORKLOADS[row["workload"]], _times(row)
        counted = content["operations"][row["workload"]]
        read = counted["readouts"] if row["peer"].startswith("ours") else 0
        timed, whole = (epochs * counted["epoch"] + read for epochs in (row["epochs"], work.run.epochs))
        run = times["timed"] * whole / timed
        per_epoch = (work.run.n_majority + work.run.n_minority) // work.run.batch_size * work.run.batch_size
        precision = "bfloat16" if row["peer"].endswith("bfloat16") else "float32"
        rows.append(
            {
                "workload": row["workload"],
                "peer": row["peer"],
                "round": row["round"],
                "epochs": row["epochs"],
                "start-up": times["start-up"],
                "run": run,
                "cell cold": times["start-up"] + 10 * run,
                "cell warm": 10 * run,
                "one run": run * row["at_once"],
                "runs/hour": 3600 / run,
                "images/s": per_epoch * work.run.epochs / run,
                "share": whole / run / peak[precision],
                "GB": (row["bytes"] if row["device"] == "cpu" else row["device_bytes"] or float("nan")) / 1e9,
            }
        )
    if not rows:
        raise ValueError("the file holds no measurement of a peer yet: `replication bench` resumes it")
    found = pd.DataFrame(rows)
    ours = found[found["peer"] == "ours"].set_index(["workload", "round"])["run"]
    keys = pd.MultiIndex.from_frame(found[["workload", "round"]])
    return found.assign(ratio=found["run"] / ours.reindex(keys).to_numpy())
