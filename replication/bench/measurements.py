"""The file of measurements: made step by step, kept whole at every moment, gone on with by the next call."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tqdm import tqdm

from replication.bench.ceilings import ceilings
from replication.bench.curves import CURVES
from replication.bench.measure import measure
from replication.bench.operations import operations
from replication.bench.peers import peers
from replication.bench.workloads import WORKLOADS
from replication.data.splits import split
from replication.files import check_output, write
from replication.limits import check_known, check_within, deadline
from replication.results.provenance import record

ROUNDS = 1000
"""most that may be asked for"""
PEER_PACKAGES = ("fastai", "lightning", "jax", "flax", "optax")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def about(device: str) -> dict:
    """The provenance of measurements: hardware, versions (of peers too), commit."""
    accelerator = ""
    if device == "cuda":
        import torch

        accelerator = torch.cuda.get_device_name()
    found = record(device, "several", accelerator)
    return found | {"versions": found["versions"] | {name: _version(name) for name in PEER_PACKAGES}}


def _content(path: Path, like: dict) -> dict:
    """What a file of measurements holds. ValueError in one sentence for another shape than that of an empty one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for name, empty in like.items():
            if not isinstance(found[name], type(empty)):
                raise ValueError(f"{name} is no {'list' if isinstance(empty, list) else 'object'}")
            if isinstance(empty, list) and not all(isinstance(row, dict) for row in found[name]):
                raise ValueError(f"{name} holds what is no measurement")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a file of measurements ({error}): name another") from error
    return found


class Measurements:
    """Measurements in a JSON file. ValueError in one sentence for a file of another machine, version or commit."""

    def __init__(self, path: Path, device: str):
        self.path, self.device = path, device
        here = about(device)
        self.content = {"provenance": here, "operations": {}, "ceilings": [], "measurements": [], "curves": []}
        check_output(path)
        if path.exists():
            self.content = _content(path, self.content)
            there = self.content["provenance"]
            for name in ("hardware", "device", "versions", "commit"):
                if there.get(name) != here[name]:
                    raise ValueError(
                        f"{path} was measured with {name} {there.get(name)}, found {here[name]}: another file is needed"
                    )

    def save(self) -> None:
        """Write the file, whole or not at all."""
        write(self.path, json.dumps(self.content, indent=1) + "\n")

    def has(self, part: str, **what) -> bool:
        """Whether a part holds a measurement with these values."""
        return any(all(row.get(k) == v for k, v in what.items()) for row in self.content[part])

    def add(self, part: str, row: dict) -> None:
        """Keep one more measurement."""
        self.content[part].append(row)
        self.save()


def bench(
    out: Path,
    workloads: Sequence[str],
    names: Sequence[str],
    rounds: int,
    device: str,
    curves: bool = False,
    time_budget: float | None = None,
) -> int:
    """Measure what the file lacks and return how much that was. Peers take turns, round after round.

    ValueError for unknown names, fewer than one round, a negative time and a file of other conditions.
    """
    known = peers(device)
    for kind, asked, allowed in (("workload", workloads, WORKLOADS), ("peer", names, known)):
        for name in asked:
            check_known(kind, name, allowed)
    check_within(1, ROUNDS, rounds=rounds)
    end = deadline(time_budget)
    kept = Measurements(out, device)
    todo: list[tuple[str, Callable[[], None]]] = [("ceilings", lambda: kept.add("ceilings", ceilings(device)))]

    def one(round_: int, workload: str, peer: str) -> None:
        if workload not in kept.content["operations"]:
            kept.content["operations"][workload] = operations(WORKLOADS[workload].run, split(WORKLOADS[workload].run))
        left = None if end == float("inf") else max(end - time.monotonic(), 1)
        found = measure(peer, workload, device, left)
        if found["state"] != "out of time":  # the next call tries again
            kept.add("measurements", {"round": round_} | found)

    def point(curve: str, x: int) -> None:
        kept.add("curves", {"curve": curve, "x": x, "seconds": round(CURVES[curve][1](x, device), 4)})

    for round_ in range(rounds):
        for workload in workloads or WORKLOADS:
            for peer in names or known:
                if not kept.has("measurements", round=round_, workload=workload, peer=peer):
                    todo.append((f"{workload}, {peer}", lambda r=round_, w=workload, p=peer: one(r, w, p)))
    for curve, (points, _) in CURVES.items() if curves else ():
        todo += [
            (f"{curve}, {x}", lambda c=curve, x=x: point(c, x))
            for x in points
            if not kept.has("curves", curve=curve, x=x)
        ]
    done = 0
    if len(todo) == 1:
        return 0  # ceilings alone are of no use
    with tqdm(todo, unit="measurement", mininterval=0, file=sys.stderr) as bar:
        for name, carry_out in bar:
            if time.monotonic() >= end:
                break
            bar.set_postfix_str(name)
            carry_out()
            done += 1
    return done
