"""Everything that is to be done on a GPU, in one go within a time budget; a second call goes on where the first stopped.

Run: python benchmarks/gpu_session.py --out FOLDER [--minutes 30] [--data PACKS] [--settings ..] [--networks ..] [--device cuda]

FOLDER becomes the package's home there: it gets the store (`store.sqlite`, joined to another one by `replication merge`),
the chosen learning rates, every engine variant measured (`engines.json`), the benchmarks, profiles, and of every step
its output (`STEP.log`). A step that has ended well is not done again; one that ran out of its share of the time goes on
in the next call where that step can. Needs what `replication run` needs: torch, torchvision, numpy, Pillow, tqdm.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPLICATION = [sys.executable, "-m", "replication"]


def steps(a: argparse.Namespace) -> list[tuple[str, float, list[str]]]:
    """Name, share of the time that is left when its turn comes, and command of every step, the most telling first."""
    here = [sys.executable, __file__, "--out", str(a.out), "--device", a.device, "--settings", a.settings]
    places = ["--settings", a.settings, "--networks", a.networks, "--device", a.device]
    return [
        ("tests", 0.15, [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]),
        ("equality", 0.1, [*here, "--step", "equality"]),
        ("variants", 0.2, [*here, "--step", "variants"]),
        ("bench", 0.35, [*REPLICATION, "bench", "--device", a.device, "--out", str(a.out / "bench.json")]),
        ("profile", 0.1, [*here, "--step", "profile"]),
        ("tune", 0.4, [*REPLICATION, "tune", *places]),
        ("results", 1.0, [*REPLICATION, "run", "base", "removal", "generality", "sigmoid", "uncertainty", *places]),
    ]


def carry_out(name: str, command: list[str], seconds: float, out: Path, environment: dict[str, str]) -> str:
    """Run a command with its output in a log; `done`, `failed` or `out of time` (interrupted as Ctrl-C would)."""
    with open(out / f"{name}.log", "ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            return "done" if process.wait(seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return "out of time"


def session(a: argparse.Namespace) -> None:
    """All steps in order, each within its share of the time that is left."""
    environment = os.environ | {
        "REPLICATION_HOME": str(a.out), "REPLICATION_STORE": str(a.out / "store.sqlite"), "PYTHONPATH": str(ROOT)
    }  # fmt: skip
    if a.data:
        environment["REPLICATION_DATA"] = str(a.data.resolve())
    record = a.out / "session.json"
    told = json.loads(record.read_text()) if record.exists() else {}
    end = time.monotonic() + 60 * a.minutes
    for name, share, command in steps(a):
        if told.get(name, {}).get("state") == "done":
            continue
        left = end - time.monotonic()
        if left < 5:
            break
        print(f"{name}: at most {share * left:.0f} s", flush=True)
        start = time.monotonic()
        state = carry_out(name, command, share * left, a.out, environment)
        told[name] = {"state": state, "seconds": round(time.monotonic() - start, 1)}
        record.write_text(json.dumps(told, indent=1))
        print(f"{name}: {state} after {told[name]['seconds']} s", flush=True)


def workloads(settings: str):
    """The runs whose engines are measured: tiny, small and the papers' networks, in both precisions."""
    from replication.run import Run

    first = settings.split(",")[0]
    source = first.partition("@")[0]
    for precision in ("bfloat16", "float32"):
        for setting, network in (
            (first, "resnet34"), (first, "vgg19_bn"), (f"{source}@64", "simple_cnn"), (source, "simple_cnn")
        ):  # fmt: skip
            yield Run(setting=setting, network=network, final_norm="bn", precision=precision, seed=0)


def equality(a: argparse.Namespace) -> None:
    """Every way against the loop on this device: largest difference of logits over two epochs of the base cell."""
    from dataclasses import replace

    import numpy as np

    from replication.data.splits import split
    from replication.training.engines.lockstep import WAYS, train_together
    from replication.training.loop import train

    path = a.out / "equality.json"
    found = json.loads(path.read_text()) if path.exists() else []
    names = ("setting", "network", "precision", "way")
    for precision in ("float64", "float32", "bfloat16"):
        for run in [r for r in workloads(a.settings) if r.precision == "float32"]:
            run = replace(run, precision=precision, n_majority=200, epochs=2)
            stackable = run.network == "simple_cnn" and precision != "bfloat16"
            keys = [(run.setting, run.network, precision, way) for way in WAYS if way == "streams" or stackable]
            left = [key for key in keys if key not in [tuple(row[n] for n in names) for row in found]]
            if not left:
                continue
            parts = split(run)
            wanted = train(run, parts, a.device)
            for *_, way in left:
                alone, in_company = (train_together([run] * n, [parts] * n, a.device, way)[0] for n in (1, 4))
                found.append({
                    **dict(zip(names, (run.setting, run.network, precision, way))),
                    "loop": float(np.abs(wanted.test - alone.test).max()),
                    "in company": float(np.abs(in_company.test - alone.test).max()),
                })  # fmt: skip
                print(found[-1], flush=True)
                path.write_text(json.dumps(found, indent=1))


def variants(a: argparse.Namespace) -> None:
    """Time and memory of every way and number of runs at a time; `engines.json` keeps the losing ones too."""
    import torch

    from replication.data.splits import split
    from replication.training.engines.choice import choose

    for run in workloads(a.settings):
        print(run.setting, run.network, run.precision, choose(run, split(run), torch.device(a.device)), flush=True)


def profile(a: argparse.Namespace) -> None:
    """Where the time of twenty updates goes, by kernel, for the chosen engine of every workload."""
    import torch

    from replication.data.splits import split
    from replication.training.engines.choice import choose
    from replication.training.engines.lockstep import WAYS, Lockstep
    from replication.training.engines.member import Member

    device = torch.device(a.device)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    for run in workloads(a.settings):
        parts = split(run)
        choice = choose(run, parts, device)
        members = [Member(run, parts, device) for _ in range(choice.size)]
        step = Lockstep(WAYS[choice.way](members), capture=device.type == "cuda")
        step.together.mode(True)
        with torch.profiler.profile(activities=kinds) as seen:
            for _ in range(20):
                step.steps[0]()
            if device.type == "cuda":
                torch.cuda.synchronize()
        by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
        name = f"profile-{run.setting.replace('/', '-')}-{run.network}-{run.precision}.txt"
        (a.out / name).write_text(f"{choice}\n{seen.key_averages().table(sort_by=by, row_limit=40)}\n")


def main() -> None:
    """The session, or with --step one of its own steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for all that comes of it")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--data", type=Path, help="folder of the image sets (default: REPLICATION_DATA)")
    parser.add_argument("--settings", default="plantvillage/apple@128", help="comma-separated; the first is measured")
    parser.add_argument("--networks", default="resnet34:random", help="of the results, comma-separated")
    parser.add_argument("--device", default="cuda")
    own = {f.__name__: f for f in (equality, variants, profile)}
    parser.add_argument("--step", choices=own, help="only this, without a time limit")
    a = parser.parse_args()
    a.out = a.out.resolve()
    a.out.mkdir(parents=True, exist_ok=True)
    own[a.step](a) if a.step else session(a)


if __name__ == "__main__":
    main()
