"""Which way and how many runs at a time: measured on the device at hand, once for every form of run, and remembered."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from replication.data.splits import Split
from replication.files import write
from replication.paths import home
from replication.run import Run
from replication.training.engines.lockstep import WAYS, Lockstep
from replication.training.engines.member import Member
from replication.training.engines.memory import bound, out_of_memory
from replication.training.engines.stacked import Stacked

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
UPDATES = 20
"""timed updates of a candidate"""
ENOUGH = 1.05
"""a larger size has to be faster by this factor, else larger ones are not tried"""
SHARE = 0.8
"""of the free memory that runs may fill"""


@dataclass(frozen=True)
class Choice:
    """A way to train `size` runs at a time."""

    way: str
    size: int


def form(run: Run, device: torch.device) -> str:
    """What a choice holds for: the device, torch and the factors that time and memory depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    factors = (run.setting, run.network, run.head, run.n_majority + run.n_minority, run.batch_size, run.precision)
    return " ".join(map(str, (name, torch.__version__, *factors)))


def seconds_per_update(run: Run, split: Split, way: str, size: int, device: torch.device) -> tuple[float, int]:
    """Seconds per update of one run among `size` alike ones, and the bytes that all of them hold at the most."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_reserved(device)
    step = Lockstep(WAYS[way]([Member(run, split, device) for _ in range(size)]), capture=cuda)
    step.together.mode(True)
    updates = min(UPDATES, len(step.members[0].plan))
    for timed in (False, True):
        step.clock.zero_()
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(updates if timed else 1):
            step.steps[0]()
        if cuda:
            torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / updates / size
    return seconds, torch.cuda.max_memory_reserved(device) - before if cuda else 0


def candidates(run: Run, split: Split, device: torch.device) -> Iterator[dict]:
    """Every way at growing sizes, each as `way`, `size`, `seconds` per update and run, and `bytes`.

    A way ends where more runs gain next to nothing, where they would not fit, and where it cannot train the run.
    """
    fitting = SIZES
    if device.type == "cuda":
        torch.cuda.empty_cache()
        room = SHARE * torch.cuda.mem_get_info(device)[0] / bound(run, split, capture=True)
        fitting = [size for size in SIZES if size <= max(room, 1)]
    for way in WAYS:
        best = float("inf")
        for size in fitting:
            try:
                seconds, held = seconds_per_update(run, split, way, size, device)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                torch.cuda.empty_cache()
                break
            except ValueError:
                if way != Stacked.name:
                    raise
                break  # masks of their own cannot be stacked
            yield {"way": way, "size": size, "seconds": seconds, "bytes": held}
            if seconds * ENOUGH > best:
                break
            best = seconds


def choose(run: Run, split: Split, device: torch.device) -> Choice:
    """The fastest candidate, of now or of an earlier time; all are kept in `engines.json` beside the store.

    ValueError where not even one run fits, and for a run that no way can train.
    """
    path, key = home() / "engines.json", form(run, device)

    def known() -> dict[str, list[dict]]:
        return json.loads(path.read_text()) if path.exists() else {}

    found = known().get(key)
    if found is None:
        found = list(candidates(run, split, device))
        if not found:
            raise ValueError(f"one run of {run.network} does not fit into the memory of the device")
        write(path, json.dumps(known() | {key: found}, indent=1))
    fastest = min(found, key=lambda candidate: candidate["seconds"])
    return Choice(fastest["way"], fastest["size"])
