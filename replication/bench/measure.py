"""One peer on one workload, timed as a process of its own: first run cold, further runs warm, memory, CPU time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from replication.bench.peers import peers
from replication.bench.workloads import WORKLOADS

SAMPLE, SHARE = 0.25, 0.01
"""seconds between two looks at the memory, at least; and of all time spent looking, at most: a look walks page tables"""


def _tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def _memory(pid: int) -> int:
    """Bytes in use by a process and its descendants, shared pages counted once; 0 where the system does not tell."""
    total = 0
    for process in _tree(pid):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total


def _end(process: subprocess.Popen) -> None:
    """Kill a process and all that it started: workers left alone would hold its pipes and disturb what comes next."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def measure(peer: str, workload: str, device: str, seconds: float | None = None) -> dict:
    """Time a peer. `finished`: seconds since the process was started, and runs finished then, one pair a report.

    Where it cannot be timed `state` says why instead: packages that are not installed, or its last line of error.
    """
    chosen, work = peers(device)[peer], WORKLOADS[workload]
    about = {
        "peer": peer,
        "workload": workload,
        "device": device,
        "at_once": chosen.at_once(work, device),
        "runs": chosen.runs(work, device),
        "epochs": work.runs(1, device)[0].epochs,
    }
    if missing := chosen.missing():
        return about | {"state": f"not installed: {', '.join(missing)}"}
    start = time.time()
    command = [sys.executable, "-W", "ignore", "-m", __name__, peer, workload, device]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    peak, over = [0], threading.Event()

    def watch() -> None:
        looked = 0.0
        while not over.wait(max(SAMPLE, looked / SHARE)):
            before = time.perf_counter()
            peak[0] = max(peak[0], _memory(process.pid))
            looked = time.perf_counter() - before
            if seconds is not None and time.time() - start > seconds:
                _end(process)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = os.times()
    try:
        out, errors = process.communicate()
    finally:  # Ctrl-C too: it does not reach a session of its own
        over.set()
        watcher.join()
        _end(process)
        process.wait()
    after = os.times()
    if process.returncode:
        words = [line for line in errors.splitlines() if line.strip()]
        slow = seconds is not None and time.time() - start > seconds
        return about | {"state": "out of time" if slow else f"failed: {words[-1] if words else process.returncode}"}
    told = json.loads(out.splitlines()[-1])
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return about | {
        "state": "measured",
        "finished": [[round(at - start, 3), n] for at, n in told["finished"]],
        "cpu_seconds": round(used, 2),
        "bytes": peak[0],
        "device_bytes": told["device_bytes"],
    }


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def _single_precision() -> None:
    """Float32 is float32 for every peer on a GPU: torch would let convolutions compute in TF32, our engines do not."""
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def _device_bytes(peer: str) -> int:
    """Most bytes of a GPU's memory that this process held; 0 where they are those of other processes."""
    if peer == "jax_vmap":
        return sys.modules["jax"].devices()[0].memory_stats()["peak_bytes_in_use"]
    return 0 if peer == "dataloader_processes" else sys.modules["torch"].cuda.max_memory_reserved()


def _child(peer: str, workload: str, device: str) -> None:
    # Python kills no children when it is killed: a benchmark that was stopped must not go on
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    if device == "cuda":
        _single_precision()
    chosen, work = peers(device)[peer], WORKLOADS[workload]
    runs = work.runs(chosen.runs(work, device), device, chosen.precision)
    finished = []
    chosen.train(runs, device, lambda n: finished.append((time.time(), n)))
    print(json.dumps({"finished": finished, "device_bytes": _device_bytes(peer) if device == "cuda" else 0}))


if __name__ == "__main__":
    _child(*sys.argv[1:])
