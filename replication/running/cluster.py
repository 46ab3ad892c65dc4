"""Runs carried out on a Ray cluster: chunks as tasks on any node, rows streamed into this process's store as they finish."""

import contextlib
import dataclasses
import getpass
import json
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from replication import files
from replication.data.settings import setting as setting_of
from replication.limits import check_known
from replication.limits import deadline as deadline_in
from replication.results.provenance import commit, registration
from replication.results.store import Store
from replication.run import Run
from replication.running import local
from replication.running.initial import make
from replication.running.node import block_task, task
from replication.running.parcels import Luggage, code_digest, needed, parcel
from replication.running.processes import cores, interruptible
from replication.running.progress import Progress

ATTEMPTS = 3
"""times that runs are tried on another node after their worker or node was lost"""
CHUNK = 32
"""runs a task at the most, of those that train all layers; heads go in the chunks of `running.frozen`"""
AHEAD = 2
"""tasks submitted for every one that the cluster has room for, so that no worker waits and a new node finds work"""
SCHEME = "ray"


def address_of(text: str) -> str | None:
    """The address in `ray` (a cluster of this machine alone: None) or `ray://HOST:PORT`. ValueError for anything else."""
    if text == SCHEME:
        return None
    where = text.removeprefix(f"{SCHEME}://")
    if where == text or not where.strip():
        raise ValueError(f"--on {text!r} is not allowed: ray (this machine) or ray://HOST:PORT")
    return where


def _ray():
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "Ray is not installed: `pip install 'final-batchnorm-replication[train,ray]'` installs it"
        ) from error
    return ray


@dataclass
class Chunk:
    """Runs of one task, those that are not finished yet."""

    runs: list[Run]
    failures: int = 0
    hopeless: bool = False
    """whether it would fail everywhere"""
    node: str = ""
    """id of the node that carries it out"""
    avoid: str = ""
    """id of the node that lost it"""
    reason: str = ""


def chunks_of(runs: Sequence[Run], device: str, engine: str, room: int) -> list[Chunk]:
    """Runs as chunks, in order, those of heads as they are trained together; enough chunks for all workers."""
    heads = [run for run in runs if run.trained == "head" and engine != "loop"]
    others = [run for run in runs if run.trained != "head" or engine == "loop"]
    size = max(1, min(CHUNK, len(others) // (4 * max(room, 1))))
    found = [Chunk(others[i : i + size]) for i in range(0, len(others), size)]
    if heads:
        from replication.running import frozen

        found += [Chunk(chunk) for chunk in frozen.chunks(heads, device)]
    return found


class Driver:
    """Chunks handed to a cluster until all are finished or given up."""

    def __init__(self, store: Store, device: str, engine: str, end: float, progress, interrupted: threading.Event):
        self.ray, self.store, self.device, self.engine, self.end = _ray(), store, device, engine, end
        self.progress, self.interrupted = progress, interrupted
        self.resources = {"num_cpus": 1, "num_gpus": 1 if device == "cuda" else 0}
        self.failed: dict[Run, tuple[str, int]] = {}
        """runs given up: the reason, and how often they were tried"""
        self.done = 0

    def room(self) -> int:
        """Tasks that the cluster can carry out at a time, as it is now."""
        return max(1, int(self.ray.cluster_resources().get("GPU" if self.device == "cuda" else "CPU", 0)))

    def luggage(self, paths: Sequence[Path]) -> Luggage:
        """What is sent to every node, put into the object store once."""
        at = os.environ.get("REPLICATION_NODE_HOME") or f"{tempfile.gettempdir()}/replication-{getpass.getuser()}"
        told = {"REPLICATION_COMMIT": commit(), "REPLICATION_REGISTRATION": registration()}
        return Luggage(code_digest(), at, told, tuple(parcel(path, self.ray.put) for path in paths))

    def features(self, runs: Sequence[Run], luggage: Luggage) -> list[Path]:
        """Where this machine keeps the features that runs need; what is missing is computed by the nodes."""
        from replication.running import frozen

        groups: dict[tuple, list[Run]] = {}
        for run in runs:
            groups.setdefault(frozen.group_key(run), []).append(run)
        remote = self.ray.remote(**self.resources, max_retries=ATTEMPTS)(block_task)
        found = []
        for group in groups.values():
            s = setting_of(group[0].setting)
            body = frozen.body_of(group[0], *frozen.load(s.source, s.pixels).images.shape[1:3])
            features = frozen.Features.of(group[0], body)
            todo = deque(features.missing(frozen.labels_of(group)))
            running: dict = {}
            while (todo or running) and time.time() < self.end:
                self._check()
                while todo and len(running) < AHEAD * self.room():
                    block = todo.popleft()
                    running[remote.remote(luggage, group[0], *block, self.device)] = block
                for ref in self.ray.wait(list(running), timeout=0.5)[0] if running else ():
                    label, block = running.pop(ref)
                    features.keep(label, block, self.ray.get(ref))
            found.append(features.folder)
        return found

    def _check(self) -> None:
        if self.interrupted.is_set():
            raise KeyboardInterrupt

    def carry_out(self, chunks: Sequence[Chunk], luggage: Luggage) -> None:
        """Hand out the chunks, keep what comes, hand lost ones to other nodes."""
        sent = self.ray.put(luggage)
        remote = self.ray.remote(**self.resources, max_retries=0, num_returns="streaming")(task)
        waiting, running = deque(chunks), {}
        try:
            while (waiting and time.time() < self.end) or running:
                self._check()
                while waiting and len(running) < AHEAD * self.room() and time.time() < self.end:
                    chunk = waiting.popleft()
                    options = self._elsewhere(chunk)
                    running[remote.options(**options).remote(sent, chunk.runs, self.device, self.engine, self.end)] = (
                        chunk
                    )
                for stream in self.ray.wait(list(running), timeout=0.5, fetch_local=False)[0] if running else ():
                    if not self._take(stream, running[stream]):
                        waiting += self._ended(running.pop(stream))
        finally:
            for stream, chunk in running.items():
                self._drain(stream, chunk)
                self.ray.cancel(stream)

    def _elsewhere(self, chunk: Chunk) -> dict:
        """Options that put a chunk on another node than that which lost it, where there is one."""
        if not chunk.avoid:
            return {"scheduling_strategy": "SPREAD"}
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        need = "GPU" if self.device == "cuda" else "CPU"
        others = [
            node["NodeID"]
            for node in self.ray.nodes()
            if node["Alive"] and node["NodeID"] != chunk.avoid and node["Resources"].get(need, 0) >= 1
        ]
        if not others:
            return {}
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(others[chunk.failures % len(others)], soft=True)}

    def _take(self, stream, chunk: Chunk) -> bool:
        """Keep the next thing that a task has sent; False where it has ended, well or not."""
        try:
            found = self.ray.get(next(stream))
        except StopIteration:
            chunk.reason = ""
            return False
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            chunk.reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            chunk.hopeless = isinstance(cause, ValueError)
            return False
        except self.ray.exceptions.RayError as error:
            chunk.reason = f"its worker or node was lost ({(str(error).strip().splitlines() or [''])[0][:200]})"
            return False
        if isinstance(found, str):
            chunk.node = found
        elif isinstance(found, dict):
            self.store.add_provenance(found)
        else:
            self.store.add(found)
            chunk.runs = [run for run in chunk.runs if run != found.run]
            self.progress.trained(found.facts["updates_made"] * found.run.batch_size)
            self.progress.done()
            self.done += 1
        return True

    def _drain(self, stream, chunk: Chunk) -> None:
        """Keep what has come already."""
        while self.ray.wait([stream], timeout=0, fetch_local=False)[0] and self._take(stream, chunk):
            pass

    def _ended(self, chunk: Chunk) -> list[Chunk]:
        """What is still to be done of a chunk whose task has ended: nothing, or its runs elsewhere."""
        if not chunk.runs or not chunk.reason:
            return []  # finished, or stopped by the time budget
        chunk.failures += 1
        alone = chunk.runs if chunk.runs[0].trained == "head" else chunk.runs[:1]
        rest = chunk.runs[len(alone) :]  # the first one was being trained when it happened
        again = [Chunk(rest, avoid=chunk.node)] if rest else []
        if chunk.hopeless or chunk.failures > ATTEMPTS:
            self.failed |= dict.fromkeys(alone, (chunk.reason, chunk.failures))
            return again
        return [Chunk(alone, chunk.failures, avoid=chunk.node), *again]


def failures_of(store: Store) -> Path:
    """Where is kept, beside a store, which runs were given up and why."""
    return store.path.with_name(f"{store.path.name}.failed.json")


def carry_out_on(
    runs: Sequence[Run],
    store: Store,
    address: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    time_budget: float | None = None,
    engine: str = "auto",
) -> int:
    """Carry out the runs that the store lacks on a Ray cluster, and return how many were finished.

    `address`: HOST:PORT of a cluster to which this machine belongs, `auto` for the one that runs here, None for one of
    this machine alone with `workers` (default: one per core). A task is a chunk of runs on one core, or one core and one
    GPU. What they are trained with is sent to every node once and kept below `REPLICATION_NODE_HOME` there (default: in
    the folder of temporary files). Rows arrive one by one and are stored at once, as by `local.carry_out_all`, also when
    Ctrl-C ends it. A run whose worker or node is lost is tried on other nodes `ATTEMPTS` times, then given up: RuntimeError
    at the end says how many were, and `failures_of` which and why. New nodes are used as they join.
    ValueError where Ray is not installed, for what is not allowed, and where the nodes' code is not this.
    """
    check_known("device", device, local.DEVICES)
    check_known("engine", engine, local.ENGINES)
    deadline_in(time_budget)
    ray = _ray()
    todo = local.missing(runs, store)
    if not todo:
        return 0
    end = float("inf") if time_budget is None else time.time() + time_budget
    make(todo)
    mine = not ray.is_initialized()
    if mine:
        try:
            _connect(ray, address, workers)
        except Exception as error:  # Ray raises the bare class where a node does not start in time
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            remedy = (
                "start one, and run this command on one of its nodes" if address else "try again when it is less busy"
            )
            raise ValueError(f"no Ray cluster at {address or 'this machine'} ({reason}): {remedy}") from error
    try:
        with Progress(len(todo)) as progress, interruptible() as interrupted:
            if device == "auto":
                device = "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "cpu"
            driver = Driver(store, device, engine, end, progress, interrupted)
            luggage = driver.luggage(needed(todo))
            if heads := [run for run in todo if run.trained == "head" and engine != "loop"]:
                parcels = tuple(parcel(path, ray.put) for path in driver.features(heads, luggage))
                luggage = dataclasses.replace(luggage, parcels=luggage.parcels + parcels)
            driver.carry_out(chunks_of(todo, device, engine, driver.room()), luggage)
    finally:
        if mine:
            ray.shutdown()
    _tell_failures(driver.failed, store)
    return driver.done


def _connect(ray, address: str | None, workers: int | None) -> None:
    if address:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    else:
        ray.init(num_cpus=workers or cores(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def _tell_failures(failed: dict[Run, tuple[str, int]], store: Store) -> None:
    place_of, kept = failures_of(store), {}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        kept = {key: row for key, row in json.loads(place_of.read_text(encoding="utf-8")).items()}
    done = store.keys()
    new = {
        local.key_of(run): {"factors": run.changed(), "reason": reason, "attempts": attempts}
        for run, (reason, attempts) in failed.items()
    }
    kept = {key: row for key, row in (kept | new).items() if key not in done}
    if kept or place_of.exists():
        files.write(place_of, json.dumps(kept, indent=1) + "\n")
    if failed:
        reason = next(iter(failed.values()))[0]
        raise RuntimeError(
            f"{len(failed)} runs were given up, the first since {reason}: all others are kept, and {place_of} says why"
        )
