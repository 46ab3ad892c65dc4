"""Which images of a data set are used: committed file names, and the official file of each, told by its fingerprint."""

import csv
import gzip
import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from replication.data.fingerprints import BITS, LIMIT, distances, fingerprint
from replication.data.folders import classes, encoded


@dataclass(frozen=True)
class Listed:
    """Images of one class: `names` (N,) and `fingerprints` (N, BITS) bool."""

    names: tuple[str, ...]
    fingerprints: np.ndarray


def _file(name: str):
    return resources.files("replication") / "data" / "fetch" / "lists" / f"{name}.csv.gz"


def listed(name: str) -> dict[str, Listed]:
    """The images used of a data set, by class; empty where all of the official ones are (CIFAR-10)."""
    if not _file(name).is_file():
        return {}
    rows = defaultdict(list)
    with gzip.open(io.BytesIO(_file(name).read_bytes()), "rt", encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            rows[row["class"]].append((row["file"], np.frombuffer(bytes.fromhex(row["fingerprint"]), np.uint8)))
    return {
        c: Listed(
            tuple(file for file, _ in files), np.unpackbits([b for _, b in files], axis=1, count=BITS).astype(bool)
        )
        for c, files in rows.items()
    }


def write(folder: Path, path: Path) -> None:
    """Write the list of a data set (one archive or folder per class) to a csv.gz file: class, file, fingerprint in hex.

    How the committed lists were made: `write(REPLICATION_DATA/NAME, replication/data/fetch/lists/NAME.csv.gz)`.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("class", "file", "fingerprint"))
    for c, files in classes(folder).items():
        table.writerows((c, name, np.packbits(fingerprint(data)).tobytes().hex()) for name, data in encoded(files))
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def plain(name: str) -> str:
    """A file or class name without its suffix, in lower-case letters and digits only."""
    return "".join(filter(str.isalnum, Path(name).stem.lower()))


def matched(wanted: Listed, files: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Listed name -> official name of the same picture, among official files (name, bytes) of the class.

    That is the file of the same plain name if its fingerprint agrees, else the file with the nearest fingerprint. A
    listed image is left out where none agrees, or where the file belongs to another one. Files that are no images
    count as absent.
    """
    names, seen = [], []
    for name, data in files:
        try:
            seen.append(fingerprint(data))
        except Exception:  # noqa: S112 - a broken file is reported when what is listed is missing
            continue
        names.append(name)
    if not names:
        return {}
    apart = distances(wanted.fingerprints, np.array(seen)).astype(float)
    by_name = {plain(name): i for i, name in enumerate(names)}
    for i, name in enumerate(wanted.names):
        j = by_name.get(plain(name))
        if j is not None and apart[i, j] <= LIMIT:
            apart[i, j] = -1
    found, taken = {}, set()
    for i in np.argsort(apart.min(axis=1), kind="stable"):
        j = int(apart[i].argmin())
        if apart[i, j] <= LIMIT and j not in taken:
            taken.add(j)
            found[wanted.names[i]] = names[j]
    return found
