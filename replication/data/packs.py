"""Image archives and folders in, one memory-mapped uint8 array a size out: every image is decoded once."""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from replication.data.catalogue import DATA_SETS
from replication.data.sources import Source, digest
from replication.files import whole
from replication.paths import home

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
ARCHIVES = (".tar.gz", ".tgz", ".tar")
NEIGHBOURS = 10
"""photo numbers that count as neighbours: blocks of ten under one code form a group"""
_PHOTO = re.compile(r"___(?P<code>.*?)[ _]+(?P<number>\d+)\D*$")


def decode(data: bytes, pixels: int) -> np.ndarray:
    """An encoded image as uint8 (3, pixels, pixels): upright by its EXIF mark, cut square about its centre, scaled.

    Grey, palette, CMYK and 16-bit images become RGB, what is transparent becomes white. OSError or SyntaxError if the
    bytes are no whole image.
    """
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (pixels, pixels))  # a JPEG decodes at the nearest larger size
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow would clip 16 bits to 8 instead of scaling them
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode.endswith(("A", "a")) or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    square = ImageOps.fit(image.convert("RGB"), (pixels, pixels), Image.Resampling.BOX)
    return np.asarray(square).transpose(2, 0, 1)


def classes(folder: Path) -> dict[str, Path]:
    """Class names of a data set and the tar archive or folder of each. ValueError where there is none."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = next((s for s in ARCHIVES if path.name.endswith(s)), None)
        if path.is_dir() and not path.name.startswith("."):
            found[path.name] = path
        elif suffix:
            found[path.name.removesuffix(suffix)] = path
    if not found:
        raise ValueError(
            f"no data set at {folder}: found no folder and no tar archive of images, one a class is needed"
        )
    return found


def is_image(name: str) -> bool:
    """Whether a file of that name is taken for an image; hidden ones, such as macOS adds to archives, are not."""
    return not Path(name).name.startswith(".") and Path(name).suffix.lower() in IMAGES


def images_of(folder: Path) -> list[Path]:
    """All image files below a folder, by name."""
    return sorted(path for path in folder.rglob("*") if is_image(path.name) and path.is_file())


def encoded(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every image of a class, by name. An archive is read, never unpacked: nothing can escape.

    ValueError for an archive that is cut short or none at all.
    """
    if path.is_dir():
        for file in images_of(path):
            yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    try:
        with tarfile.open(path) as archive:
            members = (m for m in archive.getmembers() if m.isfile() and is_image(m.name))
            for member in sorted(members, key=lambda m: m.name):
                yield Path(member.name).name, archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"archive {path} cannot be read to its end: {error}; fetch it again") from error


def group(name: str) -> str:
    """What must stay in one part of a split: neighbouring photo numbers under one code, else the file by itself."""
    photo = _PHOTO.search(Path(name).stem)
    return f"{photo['code']}/{int(photo['number']) // NEIGHBOURS}" if photo else name


def _decoded(path: Path, pixels: int, skip_broken: bool) -> tuple[np.ndarray, list[str], list[str]]:
    """Images (N, 3, P, P) and names of one class, and the names of those left out as broken."""

    def one(item: tuple[str, bytes]) -> np.ndarray | Exception:
        try:
            return decode(item[1], pixels)
        except Exception as error:  # Pillow's decoders let out whatever they stumble on
            return error

    items = list(encoded(path))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        decoded = list(tqdm(pool.map(one, items), total=len(items), unit="image", desc=path.name, leave=False))
    broken = [(name, e) for (name, _), e in zip(items, decoded) if isinstance(e, Exception)]
    if broken and not skip_broken:
        raise ValueError(
            f"{len(broken)} of {len(items)} files of {path} are no whole images, the first is {broken[0][0]!r} "
            f"({broken[0][1]}): mend or remove them, or skip them with --skip-broken"
        )
    kept = [(name, image) for (name, _), image in zip(items, decoded) if not isinstance(image, Exception)]
    if not kept:
        raise ValueError(f"class {path.name!r} of {path.parent} is empty: it needs at least one image")
    return np.stack([image for _, image in kept]), [name for name, _ in kept], [name for name, _ in broken]


def pack(folder: Path, pixels: int, where: Path, skip_broken: bool = False) -> Path:
    """Decode a data set (one archive or folder a class) to `where`, and return `where`.

    Written beside it and renamed when whole: what is there is never half of a pack. Files: `images.npy`
    (N, 3, P, P) uint8, `labels.npy` (N,), `groups.npy` (N,), `pack.json`. ValueError for an empty or broken set,
    OSError where the pack cannot be written.
    """
    if pixels < 8:
        raise ValueError(f"pixels = {pixels} is too small: at least 8")
    found = classes(folder)
    parts = [_decoded(path, pixels, skip_broken) for path in found.values()]
    images = np.concatenate([images for images, _, _ in parts])
    labels = np.repeat(np.arange(len(parts)), [len(images) for images, _, _ in parts])
    names = [f"{c}/{name}" for c, (_, kept, _) in zip(found, parts) for name in kept]
    _, groups = np.unique([f"{c}/{group(name)}" for c, (_, kept, _) in zip(found, parts) for name in kept],
                          return_inverse=True)  # fmt: skip
    about = {
        "classes": list(found), "pixels": pixels, "names": names, "digest": digest(images, labels, groups),
        "inputs": _inputs(found), "broken": [f"{c}/{name}" for c, (*_, broken) in zip(found, parts) for name in broken],
    }  # fmt: skip
    try:
        with whole(where) as temporary:
            for name, array in (("images", images), ("labels", labels), ("groups", groups)):
                np.save(temporary / f"{name}.npy", array)
            (temporary / "pack.json").write_text(json.dumps(about, ensure_ascii=False, indent=1))
    except OSError as error:
        raise OSError(f"no pack can be written to {where}: {error}; it needs {images.nbytes / 1e6:.1f} MB") from error
    return where


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


def _inputs(found: dict[str, Path]) -> dict[str, int]:
    """Bytes of every class as it lies on the disk: tells a pack of other data of the same name."""
    return {name: size_of(path) for name, path in found.items()}


def _about(where: Path) -> dict:
    return json.loads((where / "pack.json").read_text())


def open_pack(where: Path, licence: str = "", citation: str = "") -> Source:
    """A pack as a data set, its images memory-mapped. ValueError if there is no whole pack."""
    if not (where / "pack.json").is_file():
        raise ValueError(f"no pack at {where}: `replication data pack` makes one")
    about = _about(where)
    images = np.load(where / "images.npy", mmap_mode="r")
    labels, groups = (np.load(where / f"{name}.npy") for name in ("labels", "groups"))
    return Source(where.name, images, labels, groups, tuple(about["classes"]), about["digest"], licence, citation)


def folder_of(name: str) -> Path:
    """Where the images of a data set of the catalogue or of `folder:PATH` lie or would lie. ValueError else."""
    if name in DATA_SETS:
        return DATA_SETS[name].folder()
    if not name.startswith("folder:") or name == "folder:":
        raise ValueError(f"unknown data set {name!r}: allowed are {', '.join(DATA_SETS)} and folder:PATH")
    return Path(name.removeprefix("folder:")).resolve()


def classes_of(name: str) -> dict[str, Path]:
    """The classes of a data set, see `folder_of`. ValueError says how to get one that is not here."""
    try:
        return classes(folder_of(name))
    except ValueError as error:
        raise ValueError(f"{error}; {DATA_SETS[name].how_to_get()}" if name in DATA_SETS else str(error)) from error


def place(name: str, pixels: int) -> Path:
    """Where the pack of a data set, see `folder_of`, is kept on this machine."""
    path = folder_of(name)
    label = name if name in DATA_SETS else f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    return home() / "packs" / f"{label}-{pixels}"


def packed(name: str, pixels: int) -> Source:
    """A data set of the catalogue, or `folder:PATH`, by its pack, which is made if there is none or of other files.

    A pack is enough: the files it was made of may be gone. ValueError for an unknown name and where there is neither.
    """
    where, data_set = place(name, pixels), DATA_SETS.get(name)
    known = (where / "pack.json").is_file()
    try:
        found = classes_of(name)
    except ValueError:
        if not known:
            raise
    else:
        if not known or _inputs(found) != _about(where)["inputs"]:
            pack(folder_of(name), pixels, where)
    return open_pack(where, *((data_set.licence, data_set.citation) if data_set else ()))
