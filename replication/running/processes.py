"""Worker processes with one thread of torch each, and how a batch of work is interrupted without losing any of it."""

import contextlib
import ctypes
import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # not on macOS


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _keep_memory() -> None:
    """Have freed memory kept for the next tensor: feature maps of the same sizes come and go with every update.

    glibc hands large blocks back to the kernel at once, which clears every page anew; elsewhere nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        mmap_max, trim_threshold = -4, -1  # malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, -1)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    # a worker whose parent was killed would wait for ever: its siblings and itself hold its queue open
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _keep_memory()
    import torch

    torch.set_num_threads(1)


@contextlib.contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one at the latest; what they have not finished by the end of the block is dropped."""
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        yield executor
    finally:
        # private: terminate_workers(), which is public, came with Python 3.14
        for process in list((executor._processes or {}).values()):
            process.terminate()
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Say what may have killed a worker, in one sentence, instead of what the pool says. RuntimeError."""
    try:
        yield
    except BrokenExecutor as error:
        raise RuntimeError(
            "a worker process was killed, most likely by the system for want of memory: every finished run is kept, and "
            "the same command resumes, with fewer --workers where memory is short"
        ) from error


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, in the main thread.

    A KeyboardInterrupt can be raised inside a destructor or a callback of the pool, where Python ignores it.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
