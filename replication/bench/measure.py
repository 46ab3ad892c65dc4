"""One peer on one workload, timed as a process of its own: first run cold, further runs warm, memory, CPU time."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from replication.bench.peers import peers
from replication.bench.workloads import WORKLOADS

SAMPLE = 0.25
"""seconds between two looks at the memory"""


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


def measure(peer: str, workload: str, device: str, seconds: float | None = None) -> dict:
    """Time a peer. `finished`: seconds since the process was started, and runs finished then, one pair a report.

    Where it cannot be timed `state` says why instead: packages that are not installed, or its last line of error.
    """
    chosen, work = peers(device)[peer], WORKLOADS[workload]
    about = {"peer": peer, "workload": workload, "device": device, "at_once": chosen.at_once(work, device),
             "runs": chosen.runs(work, device), "epochs": work.runs(1, device)[0].epochs}  # fmt: skip
    if missing := chosen.missing():
        return about | {"state": f"not installed: {', '.join(missing)}"}
    start = time.time()
    command = [sys.executable, "-W", "ignore", "-m", __name__, peer, workload, device]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE):
            peak[0] = max(peak[0], _memory(process.pid))
            if seconds is not None and time.time() - start > seconds:
                process.kill()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = os.times()
    out, errors = process.communicate()
    after = os.times()
    over.set()
    watcher.join()
    if process.returncode:
        words = [line for line in errors.splitlines() if line.strip()]
        slow = seconds is not None and time.time() - start > seconds
        return about | {"state": "out of time" if slow else f"failed: {words[-1] if words else process.returncode}"}
    told = json.loads(out.splitlines()[-1])
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return about | {
        "state": "measured", "finished": [[round(at - start, 3), n] for at, n in told["finished"]],
        "cpu_seconds": round(used, 2), "bytes": peak[0], "device_bytes": told["device_bytes"],
    }  # fmt: skip


def _child(peer: str, workload: str, device: str) -> None:
    chosen, work = peers(device)[peer], WORKLOADS[workload]
    runs = work.runs(chosen.runs(work, device), device, chosen.precision)
    finished = []
    chosen.train(runs, device, lambda n: finished.append((time.time(), n)))
    device_bytes = 0
    if device == "cuda" and "torch" in sys.modules:
        device_bytes = sys.modules["torch"].cuda.max_memory_reserved()
    print(json.dumps({"finished": finished, "device_bytes": device_bytes}))


if __name__ == "__main__":
    _child(*sys.argv[1:])
