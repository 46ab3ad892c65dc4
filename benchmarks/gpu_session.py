"""Everything that is to be done on a GPU, in one go within a time budget; a second call goes on where the first stopped.

Run: python benchmarks/gpu_session.py --out FOLDER [--plan FILE] [--minutes 9] [--carried PLACE] [--back FOLDER] [--steps ..]

Steps: `smoke` (device, versions, one run), `engine` (which memory format and which engine is faster on the plan's runs,
for all that follows), `cells` (the plan), `tests` (those that need a GPU), `equality` (engines against the loop on this
device), `bench` (against what people use). FOLDER becomes the package's home there: it gets the store, the chosen rates,
what was measured, and of every step its output (`STEP.log`). A step that has ended well is not done again; every run is
stored as it finishes, so whatever ends the session costs the runs in work alone.

The plan is a JSON file: {"measure": {factors of a Run}, "cells": [{"name": .., "share": 0.5, "commands": [[..], ..]}]}.
Commands are those of `replication`, in order (`tune` before `run`, say); in them {device}, {store} and {seconds} (what is
left for the command) are filled in. `--carried` is the place that `gpu_carry.py unpack` filled. What is to be copied back
lies in `--back` at the end: at most 8 files of at most 15 MB.

Needs what `replication run` needs: torch, torchvision, numpy, Pillow, tqdm.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPLICATION = [sys.executable, "-m", "replication"]
STEPS = ("smoke", "engine", "cells", "tests", "equality", "bench")
SHARES = {"smoke": 0.15, "engine": 0.25, "cells": 0.65, "tests": 0.5, "equality": 0.4, "bench": 0.9}
"""of the time that is left when a step's turn comes, unless the later steps are not asked for"""
TIMED = 300
"""seconds that the timing of one engine may take"""
MARGIN = 15
"""seconds that a command gets to end once its time is up"""
MOST = 15 * 10**6
"""bytes of a file that is copied back"""
TESTS = ("tests/test_engine.py", "tests/test_networks.py")


def carry_out(name: str, command: list[str], seconds: float, out: Path, environment: dict[str, str]) -> str:
    """Run a command with its output in a log; `done`, `failed` or `out of time` (interrupted as Ctrl-C would)."""
    with open(out / f"{name}.log", "ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            return "done" if process.wait(max(seconds, 1)) == 0 else "failed"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(MARGIN)
            return "out of time"
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


class Session:
    """Steps within the time that is left, and what has been done of them."""

    def __init__(self, a: argparse.Namespace):
        self.a, self.end = a, time.monotonic() + 60 * a.minutes
        self.plan = json.loads(a.plan.read_text()) if a.plan else {}
        self.record = a.out / "session.json"
        self.told = json.loads(self.record.read_text()) if self.record.exists() else {}
        self.environment = os.environ | {
            "REPLICATION_HOME": str(a.out),
            "REPLICATION_STORE": str(a.out / "store.sqlite"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        if a.data:
            self.environment["REPLICATION_DATA"] = str(a.data.resolve())
        if a.carried:
            self.environment["REPLICATION_WEIGHTS"] = str(a.carried / "weights")
            self.environment["REPLICATION_DATA"] = str(a.carried / "data")

    def left(self) -> float:
        """Seconds until all must be over, the time to write what is copied back taken off."""
        return self.end - time.monotonic() - MARGIN

    def step(self, name: str, command: list[str], share: float) -> None:
        """Carry a command out unless it was done before, within a share of the time that is left."""
        if self.told.get(name, {}).get("state") == "done" or self.left() < 5:
            return
        seconds = share * self.left()
        filled = [
            text.replace("{device}", self.a.device)
            .replace("{store}", str(self.a.out / "store.sqlite"))
            .replace("{seconds}", f"{max(seconds - MARGIN, 1):.0f}")
            for text in command
        ]
        print(f"{name}: at most {seconds:.0f} s", flush=True)
        start = time.monotonic()
        state = carry_out(name, filled, seconds, self.a.out, self.environment)
        self.told[name] = {"state": state, "seconds": round(time.monotonic() - start, 1)}
        self.record.write_text(json.dumps(self.told, indent=1))
        lines = (self.a.out / f"{name}.log").read_text(errors="replace").splitlines()
        print(f"{name}: {state} after {self.told[name]['seconds']} s", *lines[-6:], sep="\n    ", flush=True)

    def cells(self, share: float) -> None:
        """All commands of the plan, cell by cell."""
        start, all_of_it = time.monotonic(), share * self.left()
        for cell in self.plan.get("cells", ()):
            stop = min(start + all_of_it, time.monotonic() + cell.get("share", 1.0) * all_of_it)
            for number, command in enumerate(cell["commands"]):
                within = stop - time.monotonic()
                if within > 5 and self.left() > 5:
                    self.step(f"{cell['name']}-{number}", [*REPLICATION, *command], min(within / self.left(), 1))

    def carry_out(self) -> None:
        """All steps asked for, in order."""
        a = self.a
        own = [sys.executable, __file__, "--out", str(a.out), "--device", a.device]
        own += ["--plan", str(a.plan)] if a.plan else []
        bench = ["bench", "--device", a.device, "--time-budget", "{seconds}", "--out", str(a.out / "bench.json")]
        commands = {
            "smoke": [*own, "--step", "smoke"],
            "engine": [*own, "--step", "engine"],
            "tests": [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", *TESTS],
            "equality": [*own, "--step", "equality"],
            "bench": [*REPLICATION, *bench, "--workloads", a.workloads, "--peers", a.peers],
        }
        asked = [name for name in STEPS if name in a.steps]
        for name in asked:
            share = 1.0 if name == asked[-1] else SHARES[name]
            if name == "cells":
                self.cells(share)
            elif name != "engine" or "measure" in self.plan:
                self.step(name, commands[name], share)
            chosen = a.out / "engine.json"
            if name == "engine" and chosen.exists():
                found = json.loads(chosen.read_text())["chosen"]
                self.environment |= found
                print(f"engine: {found}", flush=True)


def smoke(a: argparse.Namespace) -> None:
    """The device, the versions, and one run of the base cell on digits."""
    import torch

    from replication.results.provenance import record
    from replication.results.store import Store
    from replication.run import Run
    from replication.running.local import carry_out_all

    if shutil.which("nvidia-smi"):
        print(subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.strip())
    gpu = torch.cuda.get_device_name() if a.device == "cuda" else ""
    print(json.dumps(record(a.device, accelerator=gpu)))
    with Store(a.out / "scratch.sqlite") as store:
        run = Run(final_norm="bn", seed=0)
        carry_out_all([run], store, a.device, engine="streams")
        (found,) = [r for r in store.results() if r.run == run]
    print(f"minority F1 {found.scores['as_trained']['f1_minority']:.3f} in {found.facts['seconds']} s")


def engine(a: argparse.Namespace) -> None:
    """Seconds a run in both memory formats and by streams and processes of the loop; the fastest is written down.

    A run of the plan's kind is shortened to 30 updates in two epochs at most; none of these runs is kept.
    """
    from replication.run import Run
    from replication.training.loop import LAYOUTS

    factors, path = json.loads(a.plan.read_text())["measure"], a.out / "engine.json"
    run = Run(**{"final_norm": "bn"} | factors | {"epochs": 2, "updates": 0})
    told: dict = {"seconds": {}, "failed": {}, "chosen": {}}

    def choose() -> None:
        seconds = told["seconds"]
        if seconds:
            name, layout = min(seconds, key=seconds.get).split(", ")
            told["chosen"] = {"REPLICATION_MEMORY_FORMAT": layout}
            if name == "loop":  # else it is chosen as ever, and passed over where it fails
                told["chosen"]["REPLICATION_ENGINE"] = "loop"
        path.write_text(json.dumps(told, indent=1))

    def measure(name: str, layout: str) -> None:
        try:
            told["seconds"][f"{name}, {layout}"] = timed(a, run, name, layout)
        except Exception as error:  # the others are to be measured too
            told["failed"][f"{name}, {layout}"] = str(error).strip()[-500:]
        print({k: round(v, 3) for k, v in told["seconds"].items()}, told["failed"], flush=True)
        choose()

    for layout in LAYOUTS:
        measure("streams", layout)
    best = told["chosen"].get("REPLICATION_MEMORY_FORMAT", next(iter(LAYOUTS)))
    measure("loop", best)


def timed(a: argparse.Namespace, run, name: str, layout: str) -> float:
    """Seconds a run takes in company by an engine, without what starting takes: in a process of its own."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
from gpu_session import steady
print(steady({dataclass_text(run)}, {name!r}, {a.device!r}))
"""
    environment = os.environ | {"REPLICATION_MEMORY_FORMAT": layout}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT, timeout=TIMED
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])


def dataclass_text(run) -> str:
    """A run as a Python expression."""
    return f"__import__('replication.run').run.Run(**{run.changed()!r})"


def steady(run, name: str, device: str) -> float:
    """Seconds a run of four on streams, or of up to eight, each by a process of the loop that has trained before."""
    import dataclasses
    import multiprocessing

    from replication.running.processes import cores

    runs = [dataclasses.replace(run, seed=seed) for seed in range(4 if name == "streams" else min(8, cores()))]
    if name == "streams":
        from replication.data.splits import split
        from replication.training.engines.lockstep import train_together

        parts = [split(one) for one in runs]
        train_together(runs, parts, device, name)
        start = time.perf_counter()
        train_together(runs, parts, device, name)
        return (time.perf_counter() - start) / len(runs)
    ready = multiprocessing.get_context("spawn").Barrier(len(runs))
    with multiprocessing.get_context("spawn").Pool(len(runs), _meet, [ready]) as pool:
        return max(pool.map(_by_loop, [(one, device) for one in runs], chunksize=1)) / len(runs)


def _meet(barrier) -> None:
    global _barrier
    _barrier = barrier


def _by_loop(given: tuple) -> float:
    import torch

    from replication.data.splits import split
    from replication.training.loop import train

    torch.set_num_threads(1)
    run, device = given
    parts = split(run)
    train(run, parts, device)
    _barrier.wait(60)
    start = time.perf_counter()
    train(run, parts, device)
    return time.perf_counter() - start


def noise(pixels: int):
    """Noise in colour, brighter in class 1: 68 images, and 16 in each held-out part."""
    import numpy as np

    from replication.data.splits import Part, Split

    rng = np.random.default_rng(pixels)

    def part(size: int) -> Part:
        labels = (np.arange(size) % 4 == 0).astype(np.int64)
        images = rng.integers(0, 200, (size, 3, pixels, pixels)) + 40 * labels[:, None, None, None]
        return Part(images.astype(np.uint8), labels)

    return Split(part(68), part(16), part(16), (1,), "noise", True)


def equality(a: argparse.Namespace) -> None:
    """Every way against the loop on this device: largest difference of logits after eight updates."""
    import numpy as np

    from replication.run import Run
    from replication.training.engines.lockstep import WAYS, train_together
    from replication.training.loop import train

    path = a.out / "equality.json"
    found = json.loads(path.read_text()) if path.exists() else []
    known = {(row["pixels"], row["network"], row["precision"], row["way"]) for row in found}
    for pixels in (32, 64, 128):
        for network in ("simple_cnn", "resnet34"):
            for precision in ("float32", "bfloat16"):
                run, parts = (
                    Run(
                        network=network,
                        final_norm="bn",
                        precision=precision,
                        batch_size=16,
                        epochs=2,
                        learning_rate=3e-4,
                        seed=0,
                    ),
                    noise(pixels),
                )
                wanted = None
                for way in WAYS:
                    key = (pixels, network, precision, way)
                    if key in known or (way == "stacked" and precision == "bfloat16"):
                        continue
                    row = dict(zip(("pixels", "network", "precision", "way"), key))
                    try:
                        wanted = wanted or train(run, parts, a.device)
                        alone, company = (train_together([run] * n, [parts] * n, a.device, way)[0] for n in (1, 4))
                        row["loop"] = float(np.abs(wanted.test - alone.test).max())
                        row["in company"] = float(np.abs(company.test - alone.test).max())
                    except Exception as error:  # the rest is to be known too
                        row["failed"] = str(error)[:300]
                    found.append(row)
                    print(row, flush=True)
                    path.write_text(json.dumps(found, indent=1))


def compact(out: Path, back: Path) -> list[Path]:
    """The store's runs in files of at most `MOST` bytes each, without its log."""
    source = out / "store.sqlite"
    if not source.exists():
        return []
    with sqlite3.connect(source) as db:
        keys = [
            row for row in db.execute("SELECT key, length(arrays) + length(scores) + length(facts) + 400 FROM runs")
        ]
    db.close()
    parts, size = [[]], 0
    for key, held in keys:
        if size + held > 0.8 * MOST and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(key)
        size += held
    files = []
    for number, part in enumerate(parts):
        file = back / f"store{number}.sqlite"
        file.unlink(missing_ok=True)
        whole = sqlite3.connect(source)
        whole.execute("VACUUM INTO ?", [str(file)])
        whole.close()
        db = sqlite3.connect(file, isolation_level=None)
        db.execute("CREATE TEMP TABLE kept (key TEXT)")
        db.executemany("INSERT INTO kept VALUES (?)", [(key,) for key in part])
        db.execute("DELETE FROM runs WHERE key NOT IN (SELECT key FROM kept)")
        db.execute("VACUUM")
        db.close()
        files.append(file)
    return files


def bring_back(out: Path, back: Path) -> None:
    """Everything worth keeping, in few files, and what to do with them."""
    back.mkdir(parents=True, exist_ok=True)
    stores = compact(out, back)
    told = {path.name: json.loads(path.read_text()) for path in sorted(out.glob("*.json")) if path.name != "bench.json"}
    rates = ROOT / "results" / "rates.json"
    told["results/rates.json"] = json.loads(rates.read_text()) if rates.exists() else {}
    (back / "session.json").write_text(json.dumps(told, indent=1))
    if (out / "bench.json").exists():
        shutil.copy(out / "bench.json", back)
    logs = "".join(
        f"== {log.name}\n{log.read_text(errors='replace')[-200_000:]}\n" for log in sorted(out.glob("*.log"))
    )
    (back / "logs.txt").write_text(logs)
    print(
        "copy back:", *(f"{path} ({path.stat().st_size / 1e6:.1f} MB)" for path in sorted(back.iterdir())), sep="\n    "
    )
    for store in stores:
        print(f"then: replication merge {store.name}")


def main() -> None:
    """The session, or with --step one of its own steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for all that comes of it; keep it between calls"
    )
    parser.add_argument("--plan", type=Path, help="JSON file of the cells, see above")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--data", type=Path, help="folder of the image sets (default: REPLICATION_DATA)")
    parser.add_argument("--carried", type=Path, help="place that gpu_carry.py filled, instead of --data")
    parser.add_argument("--back", type=Path, help="folder of what is copied back (default: OUT/back)")
    parser.add_argument("--steps", default=",".join(STEPS), help=f"comma-separated (default: {','.join(STEPS)})")
    parser.add_argument("--workloads", default="digits", help="of the benchmark, comma-separated")
    parser.add_argument("--peers", default="ours,in_memory,compiled,jax_vmap", help="of the benchmark, comma-separated")
    parser.add_argument("--device", default="cuda")
    own = {f.__name__: f for f in (smoke, engine, equality)}
    parser.add_argument("--step", choices=own, help="only this, without a time limit")
    a = parser.parse_args()
    a.out = a.out.resolve()
    a.out.mkdir(parents=True, exist_ok=True)
    a.carried, a.plan = (path and path.resolve() for path in (a.carried, a.plan))
    if a.step:
        own[a.step](a)
        return
    a.steps = a.steps.split(",")
    if unknown := set(a.steps) - set(STEPS):
        parser.error(f"unknown step {', '.join(sorted(unknown))}: allowed are {', '.join(STEPS)}")
    session = Session(a)
    try:
        session.carry_out()
    finally:
        bring_back(a.out, a.back or a.out / "back")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
