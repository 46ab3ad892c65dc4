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
from replication.training.loop import LAYOUTS, memory_format

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
UPDATES = 20
"""timed updates of a candidate"""
ENOUGH = 1.05
"""a larger size has to be faster by this factor, else larger ones are not tried"""
HOPELESS = 3.0
"""a way that is slower than another one by this factor at the same size is not tried at larger ones"""
ROOM = 0.8
"""of the free memory that runs may fill"""
SHARE = 0.1
"""of the time of the training asked for that measuring may take"""


@dataclass(frozen=True)
class Choice:
    """A way to train `size` runs at a time."""

    way: str
    size: int


def form(run: Run, split: Split, device: torch.device) -> str:
    """What a choice holds for: the device, torch and what time and memory of an update depend on.

    Not the number of training images, nor the final norm: an update does not notice them.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    layout = next(n for n, value in LAYOUTS.items() if value == memory_format(device, run.precision))
    shape = "x".join(map(str, split.train.images.shape[1:]))
    factors = (run.network, run.head, shape, run.input_side, split.augment, run.batch_size, run.precision, layout)
    return " ".join(map(str, (name, torch.__version__, *factors)))


def fits(run: Run, split: Split, device: torch.device) -> int:
    """How many such runs the free memory of a GPU holds by their bound, at least 1; elsewhere the largest of `SIZES`."""
    if device.type != "cuda":
        return SIZES[-1]
    torch.cuda.empty_cache()
    try:
        return max(int(ROOM * torch.cuda.mem_get_info(device)[0] / bound(run, split, capture=True)), 1)
    except Exception:  # a network that cannot be traced: memory that runs out is noticed as well
        return SIZES[-1]


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


def candidates(
    run: Run, split: Split, device: torch.device, most: int = SIZES[-1], budget: float = float("inf")
) -> Iterator[dict]:
    """Every way at growing sizes, each as `way`, `size`, `seconds` per update and run, and `bytes`.

    No more than `most` runs at a time. None is begun that would take longer than what is left of `budget` seconds, by
    what the one before it took. A way ends where more runs gain next to nothing, where they would not fit, and where it
    fails: then `failed` says why instead of `seconds`.
    """
    end, room = time.perf_counter() + budget, fits(run, split, device)
    fitting = [size for size in SIZES if size <= min(most, room)]
    at, by_size = 0.0, dict[int, float]()
    for way in WAYS:
        best, before = float("inf"), 0
        for size in fitting:
            expected = at * size / before if before else at
            if time.perf_counter() + expected > end:
                break
            start = time.perf_counter()
            try:
                seconds, held = seconds_per_update(run, split, way, size, device)
            except Exception as error:  # whatever a way fails at, others may not
                if out_of_memory(error):
                    recover(device)
                    break
                yield {"way": way, "size": size, "failed": reason(error)}
                recover(device)
                break
            yield {"way": way, "size": size, "seconds": seconds, "bytes": held}
            at, before = time.perf_counter() - start, size
            slow = seconds > HOPELESS * by_size.get(size, float("inf"))
            by_size[size] = min(seconds, by_size.get(size, seconds))
            if slow or seconds * ENOUGH > best:
                break
            best = seconds


def reason(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def recover(device: torch.device) -> None:
    """Let go of what an attempt left in a GPU's memory."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def remembered(run: Run, split: Split, device: torch.device) -> list[dict]:
    """The candidates measured for this form of run at an earlier time, from `engines.json` beside the store."""
    return _known().get(form(run, split, device), [])


def _known() -> dict[str, list[dict]]:
    try:
        return json.loads((home() / "engines.json").read_text())
    except (OSError, ValueError):  # not there, or damaged: engines are measured anew
        return {}


def fastest(found: list[dict], most: int) -> Choice | None:
    """The fastest candidate of at most so many runs, unless all failed."""
    worked = [c for c in found if "seconds" in c]
    within = [c for c in worked if c["size"] <= most] or worked
    if not within:
        return None
    best = min(within, key=lambda candidate: candidate["seconds"])
    return Choice(best["way"], min(best["size"], most))


def choose(
    run: Run, split: Split, device: torch.device, most: int = SIZES[-1], budget: float = float("inf")
) -> Choice | None:
    """The fastest candidate, of now or of an earlier time; all are kept in `engines.json` beside the store.

    None where the budget allowed no candidate. ValueError in one sentence where not even one run fits, and where every
    way failed.
    """
    found = remembered(run, split, device)
    if fastest(found, most) is None:
        found = list(candidates(run, split, device, most, budget))
        if any("seconds" in candidate for candidate in found):
            write(home() / "engines.json", json.dumps(_known() | {form(run, split, device): found}, indent=1))
        elif found:
            reasons = "; ".join(f"{c['way']}: {c['failed']}" for c in found)
            raise ValueError(f"no way to train many runs of {run.network} at once works here ({reasons}): use the loop")
        elif budget == float("inf"):
            raise ValueError(f"one run of {run.network} does not fit into the memory of the device")
    return fastest(found, most)
