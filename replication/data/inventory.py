"""What of the image data is on this machine, in words."""

import re
from pathlib import Path

from replication.data.archives import members
from replication.data.catalogue import DATA_SETS, DataSet
from replication.data.fetch.listed import listed
from replication.data.folders import images_of, is_image
from replication.data.loading import SOURCES, load
from replication.data.packs import classes_of, open_pack, pack_folder, size_of
from replication.data.settings import SETTINGS
from replication.paths import home


def count(path: Path) -> int:
    """Number of images in a class's folder or tar archive. ValueError for a broken archive."""
    return len(images_of(path)) if path.is_dir() else sum(is_image(member.name) for member in members(path))


def packs(name: str) -> dict[int, Path]:
    """Packs of a data set on this machine, by the side of their images in pixels."""
    folder = pack_folder(name, 0).parent
    found = (
        re.fullmatch(rf"{re.escape(name)}-(\d+)", path.name) for path in (folder.iterdir() if folder.is_dir() else ())
    )
    sizes = sorted(int(match[1]) for match in found if match)
    return {
        pixels: pack_folder(name, pixels) for pixels in sizes if (pack_folder(name, pixels) / "pack.json").is_file()
    }


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


def _packs(name: str) -> list[str]:
    """Lines about the packs of a data set; of a damaged one what is wrong with it."""
    found, whole, damaged = packs(name), [], []
    for pixels, path in found.items():
        try:
            whole.append(f"{pixels} pixels (digest {open_pack(path).digest})")
        except ValueError as error:
            damaged.append(f"  {error}")
    if not found:
        return ["  not packed yet: its first use does that"]
    megabytes = sum(map(size_of, found.values())) / 1e6
    said = f"  packed at {', '.join(whole)}, {megabytes:.1f} MB in {pack_folder(name, 0).parent}"
    return ([said] if whole else []) + damaged


def own_packs() -> list[str]:
    """Lines about the packs of folders of one's own; of a damaged one what is wrong with it."""
    folder, lines = home() / "packs", []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        catalogued = any(path in packs(name).values() for name in DATA_SETS)
        if catalogued or not (found := re.fullmatch(r"(.+)-[0-9a-f]{8}-(\d+)", path.name)):
            continue
        try:
            source = open_pack(path)
        except ValueError as error:
            lines.append(f"  {error}")
            continue
        counts = ", ".join(f"{c} {n}" for c, n in zip(source.classes, source.counts))
        where = f"{size_of(path) / 1e6:.1f} MB in {path}"
        lines.append(f"  {found[1]} at {found[2]} pixels: {counts} (digest {source.digest}), {where}")
    return ["your own images, packed:", *lines] if lines else []


def report() -> list[str]:
    """Lines about every data set: what is here, packed at which sizes, used by which settings, licence and citation."""
    lines = []
    for name in SOURCES:
        source = load(name)
        counts = ", ".join(f"{c} {n}" for c, n in zip(source.classes, source.counts))
        lines += [
            f"{name}: {len(source.images)} images of {source.n_labels} classes, {source.images.nbytes / 1e6:.1f} MB, "
            "part of scikit-learn",
            f"  images: {counts}",
            _uses(name),
            f"  digest {source.digest}",
            f"  licence: {source.licence}",
            f"  {source.citation}",
        ]
    for name, data_set in DATA_SETS.items():
        try:
            lines += _here(data_set)
        except ValueError as error:
            lines.append(f"{name}: not here: {error}")
        lines += _packs(name)
        lines += [_uses(name), f"  licence: {data_set.licence}", f"  {data_set.citation}"]
    return lines + own_packs()
