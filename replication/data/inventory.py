"""What of the image data is on this machine, in words."""

import re
import tarfile
from pathlib import Path

from replication.data.catalogue import DATA_SETS, DataSet
from replication.data.fetch.listed import listed
from replication.data.packs import classes_of, images_of, is_image, open_pack, place, size_of
from replication.data.settings import SETTINGS
from replication.data.loading import SOURCES, load


def count(path: Path) -> int:
    """Number of images in a class's folder or tar archive. ValueError for a broken archive."""
    if path.is_dir():
        return len(images_of(path))
    try:
        with tarfile.open(path) as archive:
            return sum(member.isfile() and is_image(member.name) for member in archive)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"archive {path} cannot be read to its end: {error}") from error


def packs(name: str) -> dict[int, Path]:
    """Packs of a data set on this machine, by the side of their images in pixels."""
    folder = place(name, 0).parent
    found = (
        re.fullmatch(rf"{re.escape(name)}-(\d+)", path.name) for path in (folder.iterdir() if folder.is_dir() else ())
    )
    sizes = sorted(int(match[1]) for match in found if match)
    return {pixels: place(name, pixels) for pixels in sizes if (place(name, pixels) / "pack.json").is_file()}


def _uses(source: str) -> str:
    return "  settings: " + (", ".join(s.name for s in SETTINGS.values() if s.source == source) or "none")


def _here(data_set: DataSet) -> list[str]:
    """Lines about the files of a data set. ValueError where there are none."""
    found = classes_of(data_set.name)
    counts = {c: count(path) for c, path in found.items()}
    expected = {c: len(images.names) for c, images in listed(data_set.name).items()}
    megabytes = sum(map(size_of, found.values())) / 1e6
    others = [f"{c} {counts.get(c, 0)} of {n}" for c, n in expected.items() if counts.get(c, 0) != n]
    lines = [
        f"{data_set.name}: {sum(counts.values())} images of {len(found)} classes, "
        f"{megabytes:.1f} MB in {data_set.folder()}",
        "  images: " + ", ".join(f"{c} {n}" for c, n in counts.items()),
    ]
    return lines + ([f"  not as listed: {', '.join(others)}"] if others else [])


def report() -> list[str]:
    """Lines about every data set: what is here, packed at which sizes, used by which settings, licence and citation."""
    lines = []
    for name in SOURCES:
        source = load(name)
        counts = ", ".join(f"{c} {n}" for c, n in zip(source.classes, source.counts))
        lines += [
            f"{name}: {len(source.images)} images of {source.n_labels} classes, {source.images.nbytes / 1e6:.1f} MB, "
            "part of scikit-learn",
            f"  images: {counts}", _uses(name), f"  digest {source.digest}",
            f"  licence: {source.licence}", f"  {source.citation}",
        ]  # fmt: skip
    for name, data_set in DATA_SETS.items():
        try:
            lines += _here(data_set)
        except ValueError as error:
            lines.append(f"{name}: not here: {error}")
        if found := packs(name):
            megabytes = sum(map(size_of, found.values())) / 1e6
            sizes = ", ".join(f"{pixels} pixels (digest {open_pack(path).digest})" for pixels, path in found.items())
            lines.append(f"  packed at {sizes}, {megabytes:.1f} MB in {place(name, 0).parent}")
        else:
            lines.append("  not packed yet: its first use does that")
        lines += [_uses(name), f"  licence: {data_set.licence}", f"  {data_set.citation}"]
    return lines
