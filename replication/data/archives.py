"""Tar archives, read to their end and in place: nothing is unpacked, and nothing that is missing goes unnoticed."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

ARCHIVES = (".tar.gz", ".tgz", ".tar")
RATIO, SLACK = 50, 256 << 20
"""a compressed archive may hold so many times its size, and so many bytes besides: images hardly shrink"""
MOST = 512 << 20
"""bytes of the largest file that is taken for an image"""
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_FAULTS = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive: its name there, and where its bytes lie in the archive once that is decompressed."""

    name: str
    offset: int
    size: int


class _Bounded(io.RawIOBase):
    """A decompressed file that refuses to be read beyond a limit."""

    def __init__(self, file: BinaryIO, limit: int):
        self.file, self.limit = file, limit

    def _check(self, position: int) -> None:
        if position > self.limit:
            raise ValueError(f"it unpacks to more than {self.limit / 1e6:.0f} MB, over {RATIO} times its size")

    def seek(self, offset: int, whence: int = 0) -> int:
        self._check(offset)
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def read(self, size: int = -1) -> bytes:
        content = self.file.read(min(size, self.limit + 1) if size >= 0 else self.limit + 1 - self.file.tell())
        self._check(self.file.tell())
        return content

    def close(self) -> None:
        self.file.close()
        super().close()


def _open(path: Path) -> BinaryIO:
    """The tar inside an archive, decompressed as it is read."""
    if not path.is_file():
        raise ValueError("it is a device, a pipe or a link that leads nowhere")
    with path.open("rb") as file:
        start = file.read(6)
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    return _Bounded(opener(path, "rb"), RATIO * path.stat().st_size + SLACK) if opener else path.open("rb")


def _walk(file: BinaryIO) -> tuple[list[tarfile.TarInfo], int]:
    """All entries, and where the mark of the end begins. Reads on until the last byte, so that checksums are checked."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        entries = archive.getmembers()
        end = archive.offset
    file.seek(end)
    position = end
    while chunk := file.read(1 << 20):
        if chunk.strip(b"\0"):
            at = position + len(chunk) - len(chunk.lstrip(b"\0"))
            raise ValueError(
                f"there is no entry where one should begin, after {len(entries)} entries, but byte {at} is no padding"
            )
        position += len(chunk)
    if position < end + tarfile.BLOCKSIZE:
        raise EOFError(f"it ends at byte {position} after {len(entries)} entries, without the mark of its end")
    return entries, end


def members(path: Path) -> list[Member]:
    """The files of an archive in their order, without links and devices.

    The archive is read to its end: ValueError, naming it and the position, where an entry or the mark of the end is
    damaged or missing, where a checksum of gzip, bzip2 or xz does not fit, and where it holds absurdly much.
    """
    file = None
    try:
        file = _open(path)
        entries, _ = _walk(file)
        return [Member(e.name, e.offset_data, e.size) for e in entries if e.isreg() and not e.issparse()]
    except _FAULTS as error:
        position = ""
        if file is not None and not file.closed:
            position = f" (near byte {file.tell()})"
        raise ValueError(
            f"archive {path} cannot be read to its end{position}: {error or type(error).__name__}; "
            "fetch it or make it again"
        ) from error
    finally:
        if file is not None:
            file.close()


def contents(path: Path, wanted: Sequence[Member], as_stored: bool = True) -> Iterator[tuple[int, bytes]]:
    """Number in `wanted` and bytes of files of an archive: as they lie there, so that it is decompressed but once.

    In the order of `wanted` if not `as_stored`. ValueError names the archive and what is cut short.
    """
    order = range(len(wanted))
    try:
        with _open(path) as file:
            for i in sorted(order, key=lambda i: wanted[i].offset) if as_stored else order:
                if wanted[i].size > MOST:
                    yield i, b""
                    continue
                file.seek(wanted[i].offset)
                content = file.read(wanted[i].size)
                if len(content) < wanted[i].size:
                    raise EOFError(f"{wanted[i].name!r} at byte {wanted[i].offset} is cut short")
                yield i, content
    except _FAULTS as error:
        raise ValueError(f"archive {path} cannot be read to its end: {error}; fetch it or make it again") from error
