"""Official files to this machine: resumed after a cut, checked by SHA-256, unpacked without escape."""

import hashlib
import http.client
import os
import shutil
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from tqdm import tqdm

CHUNK = 1 << 20
RETRIES = 5


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _continue(url: str, part: Path, timeout: float) -> None:
    """Append what is missing of a file, from the start where the server cannot continue."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing, or the part is longer than the file: the checksum tells
            return
        raise
    with response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        left = None if length is None else int(length)
        total = None if left is None else left + (have if resumed else 0)
        with part.open("ab" if resumed else "wb") as file, tqdm(
            total=total, initial=have if resumed else 0, unit="B", unit_scale=True, desc=part.stem
        ) as progress:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
                left = None if left is None else left - len(chunk)
    if left:
        raise ConnectionError(f"{left} bytes are missing at the end")


def fetch(url: str, target: Path, sha256: str = "", retries: int = RETRIES, timeout: float = 60, wait: float = 1) -> Path:
    """Download to `target` and return it; what is there already, with the right checksum, stays.

    A broken connection is continued where it broke (HTTP Range), `retries` times with longer and longer waits; a later
    call continues too. The file appears under its name only when whole. ConnectionError when it cannot be had,
    ValueError for a wrong checksum (the file is removed).
    """
    if target.exists() and (not sha256 or sha256_of(target) == sha256):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for attempt in range(retries + 1):
        try:
            _continue(url, part, timeout)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == retries:
                raise ConnectionError(f"{url} answered {error.code} {error.reason}: fetch it again later") from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == retries:
                raise ConnectionError(
                    f"{url} could not be fetched in {retries + 1} attempts ({error}): the same command continues it"
                ) from error
        time.sleep(wait * 2**attempt)
    if sha256 and (seen := sha256_of(part)) != sha256:
        part.unlink()
        raise ValueError(f"{target.name} has checksum {seen[:12]}, expected {sha256[:12]}: removed, fetch it again")
    part.replace(target)
    return target


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"the archive holds a path that leads outside its folder, {name!r}: nothing was unpacked")
    return path


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip, tar or rar archive to `folder`, which appears only when whole, and return it.

    ValueError for a path or link that leads outside, for a broken archive, for an unknown kind, and for a rar where
    no `bsdtar` (libarchive) is installed.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as content:
                for name in content.namelist():
                    _inside(temporary, name)
                content.extractall(temporary)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as content:
                for member in content.getmembers():
                    _inside(temporary, member.name)
                content.extractall(temporary, filter="data")
        elif archive.open("rb").read(4) == b"Rar!":
            _unpack_rar(archive, temporary)
        else:
            raise ValueError(f"{archive.name} is no archive that can be unpacked: allowed are zip, tar and rar")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{archive.name} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _unpack_rar(archive: Path, folder: Path) -> None:
    if not (bsdtar := shutil.which("bsdtar")):
        raise ValueError(f"{archive.name} is a rar archive: install bsdtar (package libarchive-tools) to unpack it")
    # bsdtar itself refuses absolute paths, '..' and what lies behind links unless told otherwise
    done = subprocess.run([bsdtar, "-xf", archive, "-C", folder], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{archive.name} cannot be unpacked: {done.stderr.strip()[:200]}")
