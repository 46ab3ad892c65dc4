"""Seconds to decode and pack 3,164 images (PlantVillage's apple leaves, 160 pixels) at 32 and 64, and to open a pack.

Run: REPLICATION_DATA=FOLDER python benchmarks/pack.py [--rounds 5] [--json FILE]. Wall time and CPU time: on a busy
machine (see `load` in the file) only the latter says something. Opening is measured with the images as tar archives
and as one file each.
"""

import argparse
import json
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from replication.data.catalogue import DATA_SETS
from replication.data.packs import classes, pack, packed
from replication.results.provenance import record

GOALS = {"pack at 32 pixels": 10, "pack at 64 pixels": 10, "open, from archives": 0.05, "open, from files": 0.05}
"""seconds of wall time allowed"""


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def main() -> None:
    """Take turns, print medians beside the goals."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--json", help="write the measurements here")
    a = arguments.parse_args()
    leaves = {c: path for c, path in classes(DATA_SETS["plantvillage"].folder()).items() if c.startswith("Apple")}
    with tempfile.TemporaryDirectory() as scratch:
        archives, files = Path(scratch) / "archives", Path(scratch) / "files"
        for folder in (archives, files):
            folder.mkdir()
        for path in leaves.values():
            (archives / path.name).symlink_to(path)
            with tarfile.open(path) as archive:
                archive.extractall(files, filter="data")
        os.environ["REPLICATION_HOME"] = str(Path(scratch) / "home")
        packs = [packed(f"folder:{folder}", 32) for folder in (archives, files)]
        if packs[0].digest != packs[1].digest:
            raise ValueError("archives and files make different packs")
        work = {
            "pack at 32 pixels": lambda: pack(archives, 32, Path(scratch) / "pack"),
            "pack at 64 pixels": lambda: pack(archives, 64, Path(scratch) / "pack"),
            "open, from archives": lambda: packed(f"folder:{archives}", 32).images[0].max(),
            "open, from files": lambda: packed(f"folder:{files}", 32).images[0].max(),
        }
        seconds = {name: [timed(f) for _ in range(a.rounds)] for name, f in work.items()}
    for name, goal in GOALS.items():
        wall, cpu = (statistics.median(s[kind] for s in seconds[name]) for kind in ("wall", "cpu"))
        print(f"{name:<20} median {wall:.3f} s, {cpu:.3f} s of CPU time (goal: {goal} s)")
    if a.json:
        about = {"images": len(packs[0].images), "goals": GOALS, "load": os.getloadavg(), "seconds": seconds}
        about["provenance"] = record("cpu")
        Path(a.json).write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
