"""Folders and files that are there whole or not at all, whatever stops the writing, and that hold what they held."""

import ctypes
import functools
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from replication.paths import home

_MINE: set[str] = set()
"""names that this process writes under at the moment, so that its threads leave each other alone"""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _prefix(path: Path) -> str:
    return f".{path.name}.{platform.node()}."


def _beside(path: Path) -> Path:
    """A hidden name beside `path` that no other writer has: its machine, its process, and a word drawn for it."""
    temporary = path.with_name(f"{_prefix(path)}{os.getpid()}.{secrets.token_hex(4)}")
    _MINE.add(temporary.name)
    return temporary


def _left(path: Path) -> list[Path]:
    """What processes of this machine left beside `path` that were killed while they wrote it."""
    found, prefix = [], _prefix(path)
    for entry in path.parent.iterdir() if path.parent.is_dir() else ():
        pid = entry.name.removeprefix(prefix).partition(".")[0]
        if not entry.name.startswith(prefix) or not (pid.isascii() and pid.isdigit()):
            continue
        mine = int(pid) == os.getpid()
        if entry.name.removesuffix(".old") not in _MINE if mine else not _alive(int(pid)):
            found.append(entry)
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def recover(path: Path) -> None:
    """Finish what a killed process began with `path`: what it had set aside comes back, what it left half goes."""
    left = _left(path)
    aside = [entry for entry in left if entry.name.endswith(".old")]
    if aside and not os.path.lexists(path):
        with suppress(OSError):  # another process was faster
            aside[0].rename(path)
    for entry in left:
        _remove(entry)


@functools.cache
def _renameat2():
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # not Linux
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one system call; False where the system or its file system cannot."""
    function, here, swap = _renameat2(), -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(function) and function(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def _replace(new: Path, path: Path) -> None:
    """Put the folder `new` at `path`: in one rename where the system can swap, else with the old one set aside."""
    aside = new.with_name(new.name + ".old")
    for _ in range(100):  # another process may replace the same folder at the same time
        if not os.path.lexists(path):
            with suppress(FileExistsError):
                try:
                    new.rename(path)
                    return
                except OSError:
                    if not path.is_dir():
                        raise
        elif path.is_dir() and _exchange(new, path):
            return _remove(new)
        else:
            with suppress(FileNotFoundError):
                path.rename(aside)
                new.rename(path)
                return _remove(aside)
    raise OSError(f"{path} is replaced by other processes all the time: stop them, and try again")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that replaces it when the block ends well, and is removed when it does not.

    A kill at any moment leaves the old folder or the new one, at the latest after the next call (or `recover`), which
    removes what killed processes of this machine left. Of two processes that write the same folder the last one wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    if os.path.lexists(path) and not path.is_dir():
        raise NotADirectoryError(f"{path} is there and no folder: move it away")
    temporary = _beside(path)
    try:
        temporary.mkdir()
        yield temporary
        _replace(temporary, path)
    finally:
        _remove(temporary)
        _MINE.discard(temporary.name)


def check_output(path: Path) -> None:
    """ValueError where a path is not a file that could be written: a folder, a device, a pipe, or in no usable folder."""
    path = Path(path)
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise ValueError(f"{path} is not a file that could be written, but a folder, device or pipe: name another")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{path} cannot be written: {folder} is not a folder that may be written to, name another")


def check_folder(path: Path) -> None:
    """ValueError where a path is not a folder, and none can be made there."""
    folder = next(part for part in (path.absolute(), *path.absolute().parents) if os.path.lexists(part))
    if not folder.is_dir():
        raise ValueError(f"{path} is not a folder: {folder} is a file, device or pipe, name another")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file to be written, which replaces `path` when the block ends well.

    Until then `path` stays as it was; its folder is made. The bytes are on the disk before the file takes its name. A
    link stays one: what it leads to is written. ValueError where `path` is a folder, a device or a pipe.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a file that could be written, but a folder, device or pipe: name another")
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _left(path):
        _remove(left)
    temporary = _beside(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        _MINE.discard(temporary.name)


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, as `replaced`; text is UTF-8."""
    with replaced(path) as temporary, temporary.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def clear(folder: Path) -> None:
    """Remove what processes of this machine left anywhere in a folder that were killed while they wrote a file."""
    for entry in folder.rglob(f".*.{platform.node()}.*"):
        if entry in _left(entry.with_name(entry.name[1:].rpartition(f".{platform.node()}.")[0])):
            _remove(entry)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _verified() -> dict[str, list]:
    try:
        known = json.loads((home() / "verified.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(sums: dict[Path, str]) -> None:
    """Note on this machine that files had these sums, as long as their size and times stay as they are."""
    known = {path: fact for path, fact in _verified().items() if os.path.exists(path)}
    known |= {str(path.resolve()): [*_stamp(path), total] for path, total in sums.items()}
    with suppress(OSError, ValueError):  # a read-only folder: sums are computed again
        write(home() / "verified.json", json.dumps(known, indent=0))


def verify(sums: dict[Path, str], remedy: str) -> None:
    """ValueError, ending in the remedy, unless every file has its SHA-256.

    Read once for each file and change of its size and times: what was right is remembered on this machine.
    """
    known, new = _verified(), {}
    for path, expected in sums.items():
        try:
            stamp = _stamp(path)
            if known.get(str(path.resolve())) == [*stamp, expected]:
                continue
            seen = sha256_of(path)
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
        if seen != expected:
            raise ValueError(
                f"{path} has changed since it was written (SHA-256 {seen[:12]}, not {expected[:12]}): {remedy}"
            )
        new[path] = expected
    if new:
        remember(new)
