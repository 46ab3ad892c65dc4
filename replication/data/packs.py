"""Packs: the images of a data set as one memory-mapped uint8 array a size, decoded once, checked whenever opened."""

import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np

from replication.data.catalogue import DATA_SETS
from replication.data.decoding import Depths, decode
from replication.data.fetch.listed import listed
from replication.data.folders import (
    Photo,
    catalogued,
    classes,
    own,
    read,
    resolved,
    stamp,
)
from replication.data.look import joined, look, streamed
from replication.data.sources import PARTS, Source, digest
from replication.files import recover, remember, sha256_of, verify, whole
from replication.limits import SIDES
from replication.paths import home

NEIGHBOURS = 10
"""photo numbers that count as neighbours: blocks of ten under one code form a group"""
_PHOTO = re.compile(r"___(?P<code>.*?)[ _]+(?P<number>\d+)\D*$")
_AGAIN = "`replication data pack` makes it again, or delete it"


def group(name: str) -> str:
    """What must stay in one part of a split: neighbouring photo numbers under one code, else the file by itself."""
    photo = _PHOTO.search(PurePosixPath(name).stem)
    return f"{photo['code']}/{int(photo['number']) // NEIGHBOURS}" if photo else name


class _Images:
    """`images.npy` as it is written, image by image, in any order; the disk's room is checked before."""

    def __init__(self, path: Path, n: int, pixels: int):
        self.shape, self.size = (n, 3, pixels, pixels), 3 * pixels * pixels
        if self.size * n > (free := shutil.disk_usage(path.parent).free):
            raise OSError(errno.ENOSPC, f"the disk is full, {free / 1e6:.1f} MB are free")
        self.file = path.open("xb", buffering=0)
        np.lib.format.write_array_header_1_0(self.file, {"descr": "|u1", "fortran_order": False, "shape": self.shape})
        self.start = self.file.tell()

    def put(self, i: int, image: np.ndarray) -> None:
        content = np.ascontiguousarray(image).data.cast("B")
        if (written := os.pwrite(self.file.fileno(), content, self.start + i * self.size)) < self.size:
            os.pwrite(self.file.fileno(), content[written:], self.start + i * self.size + written)  # says what is wrong


def _decoded(photos: list[Photo], pixels: int, depths: Depths | None, words: str) -> Iterator[tuple[int, object]]:
    """Number of every photograph with its image (3, P, P), or with the exception where it is broken."""

    def one(item: tuple[int, bytes]) -> tuple[int, object]:
        try:
            return item[0], decode(item[1], pixels, depths)
        except Exception as error:  # Pillow's decoders let out whatever they stumble on
            return item[0], error

    return streamed(one, read(photos), len(photos), words)


def _check_whole(photos: list[Photo], broken: dict[int, object], skip_broken: bool, folder: Path) -> None:
    """ValueError where photographs are broken and not to be skipped, and where nothing is left of a class."""
    for label in sorted({photos[i].label for i in broken}):
        bad = [i for i in sorted(broken) if photos[i].label == label]
        among = sum(photo.label == label for photo in photos)
        if not skip_broken:
            raise ValueError(
                f"{len(bad)} of {among} files of {folder / label} are not complete images, the first is "
                f"{photos[bad[0]].name!r} ({broken[bad[0]]}): mend or remove them, or skip them with --skip-broken"
            )
        if len(bad) == among:
            raise ValueError(f"class {label!r} of {folder} is empty: it needs at least one whole image")


def _warn_of_lacking(name: str, photos: list[Photo]) -> dict[str, int]:
    """How many listed images of every class of a data set of the catalogue are not there; said in one sentence."""
    there: dict[str, set[str]] = {}
    for photo in photos:
        there.setdefault(photo.label, set()).add(photo.name)
    lacking = {c: sorted(set(images.names) - there.get(c, set())) for c, images in listed(name).items()}
    if lacking := {c: names for c, names in lacking.items() if names}:
        names = next(iter(lacking.values()))
        count = ", ".join(f"{len(names)} of {c}" for c, names in lacking.items())
        warnings.warn(
            f"{name} lacks listed images ({count}; the first is {names[0]!r}): its results are on other images than the "
            "published ones",
            stacklevel=3,
        )
    return {c: len(names) for c, names in lacking.items()}


def pack(folder: Path, pixels: int, where: Path, skip_broken: bool = False) -> Path:
    """Decode a data set to `where`, and return `where`.

    The folder holds one archive or folder per class; one that is not of the catalogue may also be laid out as
    `folders.own` has it, its deep images are shown by their range, and the same picture twice forms a group. Written
    beside `where` and put there when whole. Files: `images.npy` (N, 3, P, P) uint8, `labels.npy` (N,), `groups.npy`
    (N,), `parts.npy` (N,) where the owner has split them, `pack.json`. ValueError for an empty or broken set, OSError
    where the pack cannot be written.
    """
    least, most = SIDES
    if not least <= pixels <= most:
        raise ValueError(
            f"pixels = {pixels} is too {'small' if pixels < least else 'large'}: {least} to {most} are allowed"
        )
    catalogue = next((d.name for d in DATA_SETS.values() if d.folder().resolve() == folder.resolve()), "")
    inputs = stamp(folder)
    seen = None if catalogue else look(folder)
    photos = (catalogued(folder) if catalogue else seen.listing).photos
    labels_of = list(inputs) if catalogue else sorted({photo.label for photo in photos})
    if not catalogue and folder.is_dir() and not any(photo.part for photo in photos):
        labels_of = list(inputs)
    for label in labels_of:
        if not any(photo.label == label for photo in photos):
            raise ValueError(f"class {label!r} of {folder} is empty: it needs at least one image")
    broken: dict[int, object] = dict(seen.broken) if seen else {}
    _check_whole(photos, broken, skip_broken, folder)
    lacking = _warn_of_lacking(catalogue, photos) if catalogue else {}
    try:
        with whole(where) as temporary:
            images = _Images(temporary / "images.npy", len(photos) - len(broken), pixels)
            with images.file:
                kept = [i for i in range(len(photos)) if i not in broken]
                late = {}
                for k, image in _decoded([photos[i] for i in kept], pixels, seen and seen.depths, folder.name):
                    if isinstance(image, Exception):
                        late[k] = image
                    else:
                        images.put(k, image)
            if late:
                broken |= {kept[k]: error for k, error in late.items()}
                _check_whole(photos, broken, skip_broken, folder)
                _close_gaps(temporary / "images.npy", sorted(late))
                kept = [i for k, i in enumerate(kept) if k not in late]
            _finish(
                temporary,
                photos,
                kept,
                labels_of,
                seen and seen.identical + seen.near,
                {
                    "pixels": pixels,
                    "inputs": inputs,
                    "lacking": lacking,
                    "broken": [f"{photos[i].label}/{photos[i].name}" for i in sorted(broken)],
                },
            )
        _remember(where)
    except OSError as error:
        needed = len(photos) * 3 * pixels**2 / 1e6
        raise OSError(f"no pack can be written to {where}: {error}; it needs {needed:.1f} MB") from error
    return where


def _close_gaps(path: Path, gaps: list[int]) -> None:
    """Write images anew without some of them, a few at a time."""
    old = np.load(path, mmap_mode="r")
    kept = np.setdiff1d(np.arange(len(old)), gaps)
    new = _Images(path.with_suffix(".new"), len(kept), old.shape[-1])
    with new.file:
        for k, i in enumerate(kept):
            new.put(k, old[i])
    path.with_suffix(".new").replace(path)


def _finish(folder: Path, photos: list[Photo], kept: list[int], labels_of: list[str], pairs, about: dict) -> None:
    """Write what stands beside the images of a pack: labels, groups, parts, and what they are."""
    photos, place_of = [photos[i] for i in kept], {i: k for k, i in enumerate(kept)}
    number = {label: i for i, label in enumerate(labels_of)}
    labels = np.array([number[photo.label] for photo in photos])
    _, groups = np.unique([f"{p.label}/{group(p.name)}" for p in photos], return_inverse=True)
    together = [(place_of[i], place_of[j]) for i, j in pairs or () if i in place_of and j in place_of]
    if together:
        groups = joined(groups, together)
    arrays = {"labels": labels, "groups": groups}
    if any(photo.part for photo in photos):
        arrays["parts"] = _parted(photos, joined(np.arange(len(photos)), together))
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    images = np.load(folder / "images.npy", mmap_mode="r")
    about |= {
        "classes": labels_of,
        "names": [f"{photo.label}/{photo.name}" for photo in photos],
        "digest": digest(images, *arrays.values()),
        "sums": {f"{name}.npy": sha256_of(folder / f"{name}.npy") for name in ("images", *arrays)},
    }
    text = json.dumps(about | {"sum": _sum(about)}, indent=1)
    (folder / "pack.json").write_text(text, encoding="ascii")


def _parted(photos: list[Photo], pictures: np.ndarray) -> np.ndarray:
    """(N,) the owner's part of every image, by number in `PARTS`; -1 where the same picture is in a later part too.

    A picture (N,) that the owner has put into two parts is thus tested on, or else validated on, alone.
    """
    parts = np.array([PARTS.index(photo.part) for photo in photos], np.int8)
    last = np.full(int(pictures.max(initial=-1)) + 1, -1, np.int8)
    np.maximum.at(last, pictures, parts)
    return np.where(parts == last[pictures], parts, -1).astype(np.int8)


def _sum(about: dict) -> str:
    """SHA-256 of what a pack says of itself, but for this sum."""
    rest = {name: value for name, value in about.items() if name != "sum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _remember(where: Path) -> None:
    with suppress(ValueError, OSError):
        remember({where / name: total for name, total in _about(where)["sums"].items()})


def _about(where: Path) -> dict:
    """What a pack says of itself. ValueError where that is damaged."""
    try:
        about = json.loads((where / "pack.json").read_text(encoding="utf-8"))
        whole = isinstance(about, dict) and {"classes", "digest", "inputs", "broken"} <= about.keys()
        if not whole or "sums" in about and about.get("sum") != _sum(about):
            raise ValueError("it is not what was written")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"pack {where} is damaged, in pack.json ({error}): {_AGAIN}") from error
    return about


def open_pack(where: Path, licence: str = "", citation: str = "") -> Source:
    """A pack as a data set, its images memory-mapped.

    Its files are those that were written, by their SHA-256 (by its digest, in a pack of an earlier version). ValueError
    if there is no whole pack.
    """
    recover(where)
    if not (where / "pack.json").is_file():
        raise ValueError(f"no pack at {where}: `replication data pack` makes one")
    about = _about(where)
    sums = about.get("sums")
    if sums:
        verify({where / name: total for name, total in sums.items()}, f"the pack is damaged, {_AGAIN}")
    try:
        images = np.load(where / "images.npy", mmap_mode="r")
        rest = [
            np.load(where / f"{name}.npy")
            for name in ("labels", "groups", *(["parts"] if "parts.npy" in (sums or ()) else []))
        ]
        if not sums and digest(images, *rest) != about["digest"]:
            raise ValueError(f"its digest is not {about['digest']}")
    except Exception as error:  # an array without sums may be damaged in any way
        raise ValueError(f"pack {where} is damaged ({error}): {_AGAIN}") from error
    return Source(where.name, images, *rest[:2], tuple(about["classes"]), about["digest"], licence, citation, *rest[2:])


def size_of(path: Path | str) -> int:
    """Bytes of a file, or of all files below a folder."""
    if not os.path.isdir(path):
        return os.stat(path).st_size
    with os.scandir(path) as entries:  # several times as fast as Path.rglob
        return sum(
            size_of(entry.path) if entry.is_dir(follow_symlinks=False) else entry.stat().st_size
            for entry in entries
            if entry.is_dir(follow_symlinks=False) or entry.is_file()
        )


def folder_of(name: str) -> Path:
    """Where the images of a data set of the catalogue or of `folder:PATH` lie or would lie. ValueError else.

    The path of one's own folder is absolute and without links, however it is spelt; it may also be a table (.csv).
    """
    if name in DATA_SETS:
        return DATA_SETS[name].folder()
    if not name.startswith("folder:") or name == "folder:":
        raise ValueError(f"unknown data set {name!r}: allowed are {', '.join(DATA_SETS)} and folder:PATH")
    return resolved(name.removeprefix("folder:"))


def classes_of(name: str) -> dict[str, Path]:
    """The classes of a data set and where each lies, see `folder_of`. ValueError says how to get one that is not here."""
    folder = folder_of(name)
    try:
        if name not in DATA_SETS and folder.is_file():
            return dict.fromkeys(own(folder).classes, folder)
        return classes(folder)
    except ValueError as error:
        raise ValueError(f"{error}; {DATA_SETS[name].how_to_get()}" if name in DATA_SETS else str(error)) from error


def pack_folder(name: str, pixels: int) -> Path:
    """Where the pack of a data set, see `folder_of`, is kept on this machine."""
    path = folder_of(name)
    spelt = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    label = name if name in DATA_SETS else f"{path.name[:60]}-{spelt}"
    return home() / "packs" / f"{label}-{pixels}"


def packed(name: str, pixels: int) -> Source:
    """A data set of the catalogue, or `folder:PATH`, by its pack, which is made if there is none or of other files.

    A pack is enough: the files it was made of may be gone. ValueError for an unknown name, where there is neither, and
    for a damaged pack.
    """
    where, data_set = pack_folder(name, pixels), DATA_SETS.get(name)
    recover(where)
    known = (where / "pack.json").is_file()
    try:
        classes_of(name)
        there = True
    except ValueError:
        if not known:
            raise
        there = False
    try:
        if there and (not known or stamp(folder_of(name)) != _about(where)["inputs"]):
            pack(folder_of(name), pixels, where)
        return open_pack(where, *((data_set.licence, data_set.citation) if data_set else ()))
    except ValueError as error:  # the command as a whole
        again = shlex.join(["replication", "data", "pack", name, "--pixels", str(pixels)])
        raise ValueError(str(error).replace("`replication data pack`", f"`{again}`")) from error
