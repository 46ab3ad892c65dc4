"""Official files to this machine: resumed after a cut, checked by SHA-256, unpacked without escape."""

import errno
import http.client
import itertools
import os
import shutil
import stat
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path

from tqdm import tqdm

from replication.data.archives import members as members_of
from replication.files import sha256_of, whole

CHUNK = 1 << 20
RETRIES = 5
HERE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
"""errors of this machine's disk, which no further attempt can mend"""
PASSING = (408, 425, 429)
"""answers below 500 that ask to come again"""
AGENT = "final-batchnorm-replication (https://arxiv.org/abs/2109.09016)"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _continue(url: str, part: Path, timeout: float) -> None:
    """Append what is missing of a file, from the start where the server cannot continue."""
    have = _size(part)
    headers = {"User-Agent": AGENT} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        whole_size = error.headers.get("Content-Range", "").rpartition("/")[2]
        if whole_size.isdigit() and int(whole_size) != have:  # the file has changed since
            part.unlink()
            raise ConnectionError(f"{have} bytes of it are here, but it has {whole_size}") from error
        return  # nothing is missing; where the size is not said, the checksum tells
    with response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        left = None if length is None else int(length)
        total = None if left is None else left + (have if resumed else 0)
        room(part.parent, left or 0)
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(total=total, initial=have if resumed else 0, unit="B", unit_scale=True, desc=part.stem) as progress,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
                left = None if left is None else left - len(chunk)
    if left:
        raise ConnectionError(f"{left} bytes are missing at the end")


def room(folder: Path, size: int) -> None:
    """OSError if the disk of a folder has no room for so many bytes."""
    if size > (free := shutil.disk_usage(folder).free):
        raise OSError(
            errno.ENOSPC, f"the disk is full: {size / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free", str(folder)
        )


def fetch(
    url: str, target: Path, sha256: str = "", retries: int = RETRIES, timeout: float = 60, wait: float = 1
) -> Path:
    """Download to `target` and return it; what is there already, with the right checksum, stays.

    A broken connection is continued where it broke (HTTP Range), with longer and longer waits, until `retries`
    attempts in a row have brought less than a mebibyte; a later call continues too. The file appears under its name
    only when whole. ConnectionError when it cannot be had, ValueError for a wrong checksum (the file is removed),
    OSError where it cannot be written.
    """
    if target.exists() and (not sha256 or sha256_of(target) == sha256):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    by_hand = f"; a file fetched by hand is taken from {target}"
    fruitless = 0
    for attempts in itertools.count(1):
        had = _size(part)
        try:
            _continue(url, part, timeout)
            break
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in HERE:
                raise OSError(f"{target.name} cannot be written to {target.parent}: {error.strerror}") from error
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in PASSING:
                raise ConnectionError(f"{url} answered {error.code} {error.reason}{by_hand}") from error
            fruitless = 0 if _size(part) >= had + CHUNK else fruitless + 1
            if fruitless > retries:
                raise ConnectionError(
                    f"{url} could not be fetched in {attempts} attempts ({error}): "
                    f"the same command continues it{by_hand}"
                ) from error
        time.sleep(wait * 2 ** max(fruitless - 1, 0))
    if sha256 and (seen := sha256_of(part)) != sha256:
        part.unlink()
        raise ValueError(f"{target.name} has checksum {seen[:12]}, expected {sha256[:12]}: removed, fetch it again")
    part.replace(target)
    return target


def _inside(folder: Path, name: str) -> None:
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the archive holds a path that leads outside its folder, {name!r}: nothing was unpacked")


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip, tar or rar archive to `folder`, which appears only when whole, and return it.

    ValueError for a path or link that leads outside, for a broken archive, for an unknown kind, and for a rar where
    no `bsdtar` (libarchive) is installed; OSError where the disk cannot take it.
    """
    try:
        with whole(folder) as temporary:
            if zipfile.is_zipfile(archive):
                _unpack_zip(archive, temporary)
            elif tarfile.is_tarfile(archive):
                _unpack_tar(archive, temporary)
            elif archive.open("rb").read(4) == b"Rar!":
                _unpack_rar(archive, temporary)
            else:
                raise ValueError(f"{archive.name} is not an archive that can be unpacked: allowed are zip, tar and rar")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if getattr(error, "errno", None) in HERE:
            raise OSError(f"{archive.name} cannot be unpacked to {folder.parent}: {error.strerror}") from error
        raise ValueError(f"{archive.name} cannot be unpacked: {error}") from error
    return folder


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for name in content.namelist():
            _inside(folder, name)
        room(folder, sum(member.file_size for member in content.infolist()))
        content.extractall(folder)  # checks every member's CRC-32; a link becomes a file


def _unpack_tar(archive: Path, folder: Path) -> None:
    members_of(archive)  # to the last byte: tarfile takes a damaged entry for the end
    with tarfile.open(archive) as content:
        members = content.getmembers()
        for member in members:
            _inside(folder, member.name)
        room(folder, sum(member.size for member in members))
        content.extractall(folder, filter="data")


def rar_tool(name: str) -> str:
    """Path of the program that unpacks rar archives. ValueError says what to install for the archive of that name."""
    if not (bsdtar := shutil.which("bsdtar")):
        raise ValueError(f"{name} is a rar archive: install bsdtar (package libarchive-tools) to unpack it")
    return bsdtar


def _unpack_rar(archive: Path, folder: Path) -> None:
    bsdtar = rar_tool(archive.name)

    def run(*arguments: str | Path) -> str:
        environment = os.environ | {"LC_ALL": "C.UTF-8"}  # names outside ASCII
        done = subprocess.run([bsdtar, *arguments], capture_output=True, text=True, errors="replace", env=environment)
        if done.returncode:
            raise ValueError(f"{archive.name} cannot be unpacked: {done.stderr.partition(chr(10))[0]}")
        return done.stdout

    if not (names := run("-tf", archive).splitlines()):  # what bsdtar makes of a broken archive
        raise ValueError(f"{archive.name} cannot be unpacked: no file was found in it")
    for name in names:
        _inside(folder, name)
    run("-x", "--no-same-permissions", "--no-same-owner", "-f", archive, "-C", folder)
    _make_plain(folder, archive.name)


def _make_plain(folder: Path, archive: str) -> None:
    """Refuse links, devices and pipes that an archive has left in a folder; take setuid bits off what stays."""
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if path.is_symlink() or stat.S_ISREG(mode) and path.lstat().st_nlink > 1:
            raise ValueError(f"{archive} holds a link, {path.name!r}: nothing was unpacked")
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ValueError(f"{archive} holds a device or a pipe, {path.name!r}: nothing was unpacked")
        path.chmod(0o755 if stat.S_ISDIR(mode) else 0o644)
