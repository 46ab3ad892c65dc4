"""Folders and files that are there whole or not at all, whatever stops the writing."""

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that replaces it when the block ends well, and is removed when it does not.

    What processes of this machine left behind that were killed at the same is removed first. Where another process
    finishes the same folder meanwhile, that one stays.
    """
    prefix = f".{path.name}.{platform.node()}."
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.iterdir():
        pid = left.name.removeprefix(prefix)
        if pid != left.name and pid.isdigit() and (int(pid) == os.getpid() or not _alive(int(pid))):
            shutil.rmtree(left, ignore_errors=True)
    temporary = path.with_name(f"{prefix}{os.getpid()}")
    temporary.mkdir()
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        try:
            temporary.replace(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write(path: Path, text: str) -> None:
    """Write a file, which until then stays as it was; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
