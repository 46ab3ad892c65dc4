"""Other programs run as children that never outlive this process: they and all that they start are ended with it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


class Children:
    """Programs that are waited for in threads; `end` ends all of them, with everything that they have started.

    Each runs under a guard, this module as a program, which holds the reading end of a pipe. The pipe closes whatever
    ends this process, SIGKILL included, and the guard then ends what runs below it.
    """

    def __init__(self):
        self._lock, self._guards, self._ended = threading.Lock(), set[subprocess.Popen](), False

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess:
        """Run a program to its end; its output as text. Its status is -SIGKILL where it was ended before its start."""
        guard = [sys.executable, "-P", str(Path(__file__)), *command]
        with self._lock:
            if self._ended:
                return subprocess.CompletedProcess(command, -signal.SIGKILL, "", "interrupted")
            process = subprocess.Popen(
                guard,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C is this process's, and a killed group does not take the guard along
            )
            self._guards.add(process)
        out, err = (_Reader(stream) for stream in (process.stdout, process.stderr))
        try:
            process.wait()
        finally:
            with self._lock:
                self._guards.discard(process)
            process.stdin.close()
        return subprocess.CompletedProcess(command, process.returncode, out.text(), err.text())

    def end(self) -> None:
        """End all that run, and start none any more."""
        with self._lock:
            self._ended = True
            for process in self._guards:
                os.kill(process.pid, signal.SIGTERM)


class _Reader(threading.Thread):
    """Reads a stream to its end, so that its writer never waits."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream, self.content = stream, b""
        self.start()

    def run(self) -> None:
        self.content = self.stream.read()

    def text(self) -> str:
        self.join(5)  # a grandchild that holds the stream is not waited for
        return self.content.decode(errors="replace")


def _parents() -> dict[int, int]:
    """Process -> its parent, of all processes of this machine."""
    if os.path.isdir("/proc/self"):
        found = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                stat = Path("/proc", name, "stat").read_text(errors="replace")
            except OSError:  # it has just ended
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(name)] = int(parent)
        return found
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    return {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    parents, found, new = _parents(), set[int](), {pid}
    while new := {child for child, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def _end_all() -> None:
    """Kill what runs below this process, until nothing does."""
    deadline = time.monotonic() + 2
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _guard(command: Sequence[str]) -> int:
    """Run a program; end it, and what it has started, when standard input closes or at SIGTERM."""
    if sys.platform == "linux":  # what outlives its own parent becomes a child of this process
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def ended(*_) -> None:
        _end_all()
        os._exit(128 + signal.SIGTERM)

    def watch() -> None:
        while os.read(0, 1024):
            pass
        ended()

    signal.signal(signal.SIGTERM, ended)
    threading.Thread(target=watch, daemon=True).start()
    status = subprocess.Popen(command, stdin=subprocess.DEVNULL).wait()
    _end_all()
    return status


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1:]))
