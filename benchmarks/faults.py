"""Faults on purpose: kills, flipped bytes, fuzzed commands, full disks, read-only folders, writers at once.

python benchmarks/faults.py [--kills N] [--flips N] [--fuzz N] [--seed N] [--out FILE]

Everything happens in a temporary folder: devices and pipes are its own. Every case is a forked child. Counted is what
each case came to; the first examples of what must not happen are kept, and make the exit status 1.
"""

import argparse
import io
import json
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from replication import files
from replication.analysis.metrics import METRICS
from replication.data import folders, packs
from replication.data.decoding import decode
from replication.results import published
from replication.results.frame import HISTORIES
from replication.results.provenance import processor
from replication.results.store import Result, Store
from replication.run import Run
from replication.running import initial
from replication.study import rates

RIGHT = ("kept", "found", "harmless", "refused", "done", "survived")
"""outcomes that are as they should be; all others are counted as wrong"""
CALLS = ("pwrite64", "write", "rename", "fsync", "fdatasync", "unlink", "openat", "ftruncate")
"""system calls before which strace kills"""
NOBODY = 65534


def child(work: Callable[[], str], kill_after: float | None = None, limit: float = 300) -> str:
    """What a forked child says of a case; `killed` where it was killed as asked, else what ended it."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.close(reading)
        try:
            said = work()
        except BaseException:
            said = "traceback: " + traceback.format_exc().strip().replace("\n", " | ")[-400:]
        os.write(writing, said.encode(errors="replace")[:4000])
        os._exit(0)
    os.close(writing)
    deadline = time.monotonic() + limit
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    while not (done := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.002)
    if not done[0]:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        return f"hung for {limit:g} s"
    said = os.read(reading, 4000).decode(errors="replace")
    os.close(reading)
    return said or ("killed" if os.WIFSIGNALED(done[1]) else "silent end")


def child_traced(work: Callable[[], str], call: str, when: int, limit: float = 300) -> bool:
    """Run a child that strace kills before its `when`-th system call of a kind (or that ends before); whether it ended."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.close(writing)
        os.read(reading, 1)
        try:
            work()
        finally:
            os._exit(0)
    tracer = subprocess.Popen(
        ["strace", "-qq", "-p", str(pid), "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={when}"],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.close(reading)
    os.write(writing, b"g")
    os.close(writing)
    deadline = time.monotonic() + limit
    while not (ended := os.waitpid(pid, os.WNOHANG)[0]) and time.monotonic() < deadline:
        time.sleep(0.002)
    if not ended:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    tracer.wait()
    return bool(ended)


class World:
    """A folder with a store, published results, a pack, archives and files of rates, all small, and how each is read."""

    def __init__(self, at: Path, seed: int = 0):
        self.at, self.rng = at, random.Random(seed)
        tqdm.set_lock(threading.RLock())  # its own is shared by forks: a killed child would hold it for ever
        at.chmod(0o755)
        os.environ |= {
            "REPLICATION_HOME": str(at / "home"),
            "REPLICATION_STORE": str(at / "store.sqlite"),
            "REPLICATION_RESULTS": str(at / "results"),
            "REPLICATION_DATA": str(at / "data"),
        }
        os.chdir(at)
        self.runs = [
            Run(network="logistic", final_norm=norm, seed=seed) for seed in range(100, 108) for norm in ("none", "bn")
        ]
        self.fill(at / "store.sqlite", self.runs[:8])
        with Store(at / "store.sqlite") as store:
            published.publish(store, self.runs, where=at / "results")
        self._images()
        self.pack()
        files.write(at / "rates.json", self.rates(1e-3))
        files.write(
            at / "bench.json",
            json.dumps({"provenance": {}, "operations": {}, "ceilings": [], "measurements": [], "curves": []}),
        )
        files.write(at / "checkpoint.pt", np.random.default_rng(0).bytes(20_000))
        initial._sum_of(at / "checkpoint.pt")

    @staticmethod
    def rates(rate: float) -> str:
        """A file of rates as tuning writes it."""
        content = {"grid": {"digits/logistic": {"plain": rate}}, "wide": {}, "tried": {}}
        return json.dumps(content | {"sha256": rates.rates_digest(content)})

    @staticmethod
    def result(run: Run) -> Result:
        """Made-up numbers that follow from the run."""
        rng = np.random.default_rng(run.seed + (run.final_norm == "bn"))
        scores = {name: dict(zip(METRICS, rng.random(len(METRICS)).tolist())) for name in ("as_trained", "bn_removed")}
        arrays = {name: rng.random(4).astype(np.float32) for name in HISTORIES}
        facts = {
            "diverged": False,
            "epochs_trained": 4,
            "updates_made": 6,
            "seconds": 0.5,
            "validation_f1_macro": 0.5,
            "n_test": 150,
        }
        return Result(run, "0123456789abcdef", "made up", facts, scores, arrays)

    def fill(self, path: Path, runs: list[Run]) -> None:
        """Add made-up results of some runs to a store."""
        with Store(path) as store:
            store.add_provenance({"id": "made up", "versions": {}, "hardware": "none", "device": "cpu"})
            store.add_all(map(self.result, runs))

    def _images(self) -> None:
        rng = np.random.default_rng(0)
        for label in ("a", "b"):
            (self.at / "data" / "own").mkdir(parents=True, exist_ok=True)
            with tarfile.open(self.at / "data" / "own" / f"{label}.tar", "w") as archive:
                for i in range(12):
                    raw = io.BytesIO()
                    Image.fromarray(rng.integers(255, size=(9, 9, 3), dtype=np.uint8)).save(raw, "PNG")
                    member = tarfile.TarInfo(f"{i}.png")
                    member.size = raw.tell()
                    archive.addfile(member, io.BytesIO(raw.getvalue()))

    def pack(self) -> None:
        """Pack the images."""
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            packs.pack(self.at / "data" / "own", 8, self.at / "pack")

    # --- what is read: a value that can be compared ---

    def read_store(self) -> object:
        """Keys with their scores, of the rows that can be read."""
        with Store(self.at / "store.sqlite") as store:
            found = {r.key: (json.dumps(r.scores), [a.tobytes() for a in r.arrays.values()]) for r in store.results()}
            quick = dict(store.scores()[["key", "f1_minority"]].itertuples(index=False))
            return {key: (value, quick.get(key)) for key, value in found.items()}

    def read_results(self) -> object:
        """All published rows as text."""
        return published.read(where=self.at / "results").to_json(default_handler=str)

    def read_pack(self) -> object:
        """Images and labels."""
        source = packs.open_pack(self.at / "pack")
        return source.digest, source.images.tobytes(), source.labels.tobytes(), source.groups.tobytes(), source.classes

    def read_archive(self) -> object:
        """Names and images: PNG has sums of its own, which decoding checks."""
        encoded = folders.encoded(self.at / "data" / "own" / "a.tar")
        return [(name, decode(content, 8).tobytes()) for name, content in encoded]

    def read_rates(self) -> object:
        """Chosen rates."""
        rates._read.cache_clear()
        return {kind: value for kind, value in rates.rates_in(self.at / "rates.json").items() if kind != "sha256"}

    def read_checkpoint(self) -> object:
        """The bytes of a recipe's checkpoint."""
        path = self.at / "checkpoint.pt"
        files.verify({path: initial._sum_of(path)}, "delete it")
        return path.read_bytes()

    def readers(self) -> dict[str, tuple[Callable[[], object], list[Path]]]:
        """By name: the reader, and the files that it reads."""

        def below(folder: str) -> list[Path]:
            return sorted(p for p in (self.at / folder).rglob("*") if p.is_file())

        return {
            "store": (self.read_store, [self.at / "store.sqlite"]),
            "results": (self.read_results, below("results")),
            "pack": (self.read_pack, below("pack")),
            "archive": (self.read_archive, [self.at / "data" / "own" / "a.tar"]),
            "rates": (self.read_rates, [self.at / "rates.json"]),
            "checkpoint": (self.read_checkpoint, [self.at / "checkpoint.pt"]),
        }

    # --- what is killed: (the work, what must hold afterwards) ---

    def victims(self) -> dict[str, tuple[Callable[[], str], Callable[[], str]]]:
        """By name: work that may be killed, and a check whose answer is one of `RIGHT` or says what was lost."""
        log, place = self.at / "log", self.at / "killed.sqlite"

        def add() -> str:
            with Store(place) as store, log.open("a") as told:
                for run in self.runs:
                    store.add(self.result(run))
                    told.write(run.key("0123456789abcdef") + "\n")
                    told.flush()
            return "done"

        def added() -> str:
            told = set(log.read_text().split()) if log.exists() else set()
            with warnings.catch_warnings(record=True) as said, Store(place) as store:
                warnings.simplefilter("always")
                lost = told - {r.key for r in store.results()}
                sound = store.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            for path in (log, place, *self.at.glob("killed.sqlite-*")):
                path.unlink(missing_ok=True)
            return "kept" if sound and not lost and not said else f"{len(lost)} finished runs lost"

        def publish() -> str:
            with Store(self.at / "store.sqlite") as store:
                published.publish(store, self.runs, where=self.at / "shelf", curves=self.runs)
            return "done"

        def published_whole() -> str:
            published.check(self.at / "shelf")
            publish()
            n = len(published.keys(self.at / "shelf"))
            left = [p.name for p in (self.at / "shelf").rglob(f".*.{platform.node()}.*")]
            shutil.rmtree(self.at / "shelf")
            return "kept" if n == 8 and not left else f"{n} of 8 runs published, {left} left"

        def write() -> str:
            for i in range(40):
                files.write(self.at / "written", str(i % 10) * 50_000)
            return "done"

        def written() -> str:
            path = self.at / "written"
            content = path.read_text() if path.exists() else ""
            files.write(path, "x")
            left = [p.name for p in self.at.iterdir() if p.name.startswith(".written")]
            return (
                "kept"
                if len(set(content)) <= 1 and len(content) in (0, 1, 50_000) and not left
                else f"half a file, {left}"
            )

        pristine = self.read_pack()

        def packed() -> str:
            same = self.read_pack() == pristine
            self.pack()
            left = [p.name for p in self.at.iterdir() if p.name.startswith(".pack")]
            return "kept" if same and not left else f"another pack, {left}"

        return {
            "store": (add, added),
            "publish": (publish, published_whole),
            "write": (write, written),
            "pack": (lambda: self.pack() or "done", packed),
        }


def kills(world: World, n: int, examples: list) -> Counter:
    """Kill writers: two thirds after a random time, a third before a random system call where strace is there."""
    counts, traced = Counter(), shutil.which("strace") is not None
    victims = world.victims()
    for i in range(n):
        name = world.rng.choice(list(victims))
        work, check = victims[name]
        call, when = world.rng.choice(CALLS), world.rng.randint(1, 30)
        ended = True
        if traced and i % 3 == 0:
            ended = child_traced(work, call, when)
            how = f"before {call} {when}"
        else:
            delay = world.rng.random() * (1.0 if name == "publish" else 0.2)
            child(work, kill_after=delay)
            how = f"after {delay:.3f} s"
        said = child(check) if ended else "hung"
        counts[said if said in RIGHT else "wrong"] += 1
        counts["at a system call" if how.startswith("before") else "at a random time"] += 1
        if said not in RIGHT:
            examples.append(["kill", name, how, said])
    return counts


def flips(world: World, n: int, examples: list) -> Counter:
    """Flip one bit of one byte of a file, or cut it short, and read it: what differs must be noticed."""
    counts = Counter()
    readers = world.readers()
    expected = {name: read() for name, (read, _) in readers.items()}
    for _ in range(n):
        name = world.rng.choice(list(readers))
        read, paths = readers[name]
        path = world.rng.choice(paths)
        whole = path.read_bytes()
        content, at = bytearray(whole), world.rng.randrange(len(whole))
        if world.rng.random() < 0.1:
            del content[at:]
        else:
            content[at] ^= 1 << world.rng.randrange(8)
        stat = path.stat()
        path.write_bytes(content)

        def case(read=read, name=name) -> str:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try:
                    found = read()
                except (ValueError, OSError, SyntaxError) as error:  # the last is Pillow's
                    return "found" if "\n" not in str(error).strip() else f"more than one line: {error}"
            if found == expected[name]:
                return "harmless"
            sound = (
                name == "store"
                and said
                and all(
                    (known := expected[name].get(key)) and value[0] == known[0] and value[1] in (known[1], None)
                    for key, value in found.items()
                )
            )
            return "survived" if sound else "silently wrong"

        said = child(case)
        path.write_bytes(whole)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        if name == "store":  # a reader may have set rows aside in the damaged copy
            for left in world.at.glob("store.sqlite-*"):
                left.unlink()
            path.write_bytes(whole)
        counts[said if said in RIGHT else "wrong"] += 1
        if said not in RIGHT:
            examples.append(["flip", str(path.relative_to(world.at)), at, said])
    return counts


NASTY = (
    "",
    " ",
    "0",
    "-1",
    "1e9",
    "1000000000",
    "99999999999999999999",
    "nan",
    "inf",
    "٣",
    "1_0",
    "nowhere",
    "folder",
    "text",
    "pipe",
    "null",
    "a,b",
    ",",
    "digits@٣٢",
    "digits@99999999",
    "folder:",
    "folder:nowhere",
    "folder:text",
    "../..",
    "é",
    "\udcff",
    "x" * 5000,
    "'; DROP TABLE runs",
    "%s",
    "{}",
    "base",
    "digits",
    "logistic",
    "cpu",
    "1/0",
    "9/8",
    "1/2",
)
VERBS = {
    "run": [
        "--settings",
        "--networks",
        "--engine",
        "--seeds",
        "--out",
        "--shard",
        "--rates",
        "--workers",
        "--device",
        "--data",
    ],
    "try": ["--majority", "--network", "--seeds", "--train", "--pixels", "--out", "--workers", "--device"],
    "tune": ["--settings", "--networks", "--arms", "--engine", "--workers", "--device", "--out"],
    "pretrain": [
        "--sources",
        "--without",
        "--pixels",
        "--epochs",
        "--learning-rate",
        "--precision",
        "--seed",
        "--device",
    ],
    "bench": ["--workloads", "--peers", "--rounds", "--device", "--data"],
    "verdicts": ["--seeds", "--device", "--data"],
    "publish": ["--to"],
    "set-aside": ["--reason"],
    "weights": ["--out"],
    "reproduced": ["--cells"],
    "verify": ["--seeds", "--sample", "--workers", "--device"],
    "merge": [],
    "execute": ["--out", "--workers", "--data"],
    "data list": ["--data"],
    "data pack": ["--pixels", "--data"],
    "nonsense": ["--x"],
}


def _command(rng: random.Random) -> list[str]:
    """A command line that trains nothing long, fetches nothing and writes nowhere but here."""
    verb = rng.choice(list(VERBS))

    def nasty():
        return rng.choice(NASTY)

    line = verb.split()
    for option in rng.sample(VERBS[verb], rng.randint(0, min(3, len(VERBS[verb])))):
        line += [option] if option == "--cells" else [option, nasty()]
    line += [nasty() for _ in range(rng.randint(0, 2))]
    if verb == "try":  # what lies above this folder is none of its business
        line = [word for word in line if word != "../.."]
    if verb in ("run", "try", "tune", "bench"):
        line += ["--time-budget", "0"]
    if verb == "bench":
        line += ["--out", rng.choice(["bench.json", "text", "null", "folder", "pipe"])]
    if verb == "pretrain":  # one source is not there, so that nothing is trained
        line += ["simple_cnn", "--sources", "nowhere", "--out", rng.choice(["x.pt", "null", "pipe", "folder", ""])]
    if verb == "verify":
        line += ["--cells", "0"]
    if verb == "execute":
        line += ["nowhere"]
    if verb == "verdicts":
        line = [word for word in line if word not in ("1", "1000000000")]
    return line


def fuzz(world: World, n: int, examples: list) -> Counter:
    """Call the command line with nonsense: it answers in one sentence, and within its limits."""
    import torch

    from replication import cli
    from replication.bench import peers  # noqa: F401  loaded once, not in every child
    from replication.claims import registry
    from replication.pages import scoreboard  # noqa: F401
    from replication.running import local, pretraining, tuning  # noqa: F401

    torch.set_num_threads(1)
    registry.searches()
    (world.at / "folder").mkdir(exist_ok=True)
    (world.at / "text").write_text("no such thing\n")
    os.mkfifo(world.at / "pipe")
    try:
        os.mknod(world.at / "null", 0o666 | 0o020000, os.makedev(1, 3))
    except (OSError, AttributeError):
        (world.at / "null").symlink_to("/dev/null")
    counts = Counter()
    for _ in range(n):
        line = _command(world.rng)

        def case(line=line) -> str:
            resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    status = cli.main(line)
                except SystemExit as exit:
                    status = exit.code
            said = err.getvalue()
            if "Traceback" in said or status not in (0, 1, 2):
                return f"status {status}: {said[-200:]}"
            if status and said.strip().splitlines()[-1].count("replication") == 0:
                return f"no sentence: {said[-200:]}"
            return "refused" if status else "done"

        said = child(case)
        pipe_and_null = (world.at / "pipe").is_fifo(), (world.at / "null").is_char_device()
        if pipe_and_null != (True, True):
            said = "a device or pipe was replaced"
        counts[said if said in RIGHT else "wrong"] += 1
        if said not in RIGHT:
            examples.append(["fuzz", line, said])
    return counts


def full_disk(world: World, examples: list, limits: tuple[int, ...] = (0, 1000, 10_000, 40_000)) -> Counter:
    """Let no file grow beyond a limit: the writer says so in one sentence and what was there stays."""
    counts = Counter()
    for name, (work, check) in world.victims().items():
        for limit in limits:

            def case(work=work, limit=limit) -> str:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                try:
                    return work()
                except (OSError, ValueError) as error:
                    return "refused" if "\n" not in str(error).strip() else str(error)

            said, after = child(case), child(check)
            for answer in (said, after):
                counts[answer if answer in RIGHT else "wrong"] += 1
                if answer not in RIGHT:
                    examples.append(["full disk", name, limit, answer])
    return counts


def read_only(world: World, examples: list) -> Counter:
    """Read everything as a user who may write nothing."""
    counts = Counter()
    expected = {name: read() for name, (read, _) in world.readers().items()}
    for name, (read, _) in world.readers().items():

        def case(name=name, read=read) -> str:
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            return "done" if read() == expected[name] else "read something else"

        for path in (world.at, *world.at.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222 | 0o444 | (0o111 if path.is_dir() else 0))
        said = child(case)
        for path in (world.at, *world.at.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o200)
        counts[said if said in RIGHT else "wrong"] += 1
        if said not in RIGHT:
            examples.append(["read-only", name, said])
    return counts


def at_once(world: World, examples: list, writers: int = 4) -> Counter:
    """Several processes that do the same at the same time: each succeeds, and one whole result stands."""
    counts = Counter()
    for name, (work, check) in world.victims().items():
        pids = []
        for _ in range(writers):
            if not (pid := os.fork()):
                status = 1
                try:
                    status = 0 if work() == "done" else 1
                except BaseException:
                    traceback.print_exc()
                os._exit(status)
            pids.append(pid)
        failed = sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)
        said = child(check) if not failed else f"{failed} of {writers} failed"
        counts[said if said in RIGHT else "wrong"] += 1
        if said not in RIGHT:
            examples.append(["at once", name, said])
    return counts


def faults(n_kills: int, n_flips: int, n_fuzz: int, seed: int = 0, out: Path | None = None) -> dict:
    """Counts by kind of fault and outcome, and the first wrong ones as examples; written after every kind."""
    found, examples, before = {}, [], (Path.cwd(), dict(os.environ))
    with tempfile.TemporaryDirectory() as folder:
        try:
            world = World(Path(folder), seed)
            kinds = {
                "kills": lambda: kills(world, n_kills, examples),
                "flips": lambda: flips(world, n_flips, examples),
                "read-only": lambda: read_only(world, examples),
                "at once": lambda: at_once(world, examples),
                "full disk": lambda: full_disk(world, examples),
                "fuzz": lambda: fuzz(world, n_fuzz, examples),
            }
            for kind, work in kinds.items():
                start = time.monotonic()
                found[kind] = dict(sorted(work().items()))
                print(f"{kind}: {found[kind]} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)
                told = {"hardware": processor(), "seed": seed, "counts": found, "examples": examples[:40]}
                told["wrong"] = sum(counts.get("wrong", 0) for counts in found.values())
                if out:
                    files.write(out, json.dumps(told, indent=1) + "\n")
        finally:
            os.chdir(before[0])
            os.environ.clear()
            os.environ |= before[1]
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 200), ("flips", 2000), ("fuzz", 2000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("faults.json"))
    a = parser.parse_args()
    sys.exit(faults(a.kills, a.flips, a.fuzz, a.seed, a.out.absolute())["wrong"] > 0)
