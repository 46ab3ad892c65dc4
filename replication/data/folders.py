"""What lies in the folder of a data set: its classes, the images of each, and what is left out and why."""

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from replication.data.archives import ARCHIVES, MOST, Member, contents, members
from replication.data.decoding import IMAGES

PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""names of folders, and values of a table's column `split`, that say which part of a split an image belongs to"""
HIDDEN, LARGE = "hidden, or in a hidden folder or one of previews", f"larger than {MOST / 1e6:.0f} MB"
"""why a file is left out"""
PACKED = (*ARCHIVES, ".zip", ".rar", ".7z", ".gz", ".bz2", ".xz")
THUMBNAILS = ("@eaDir", "__MACOSX")
"""folders in which systems keep previews of images"""
MASK = re.compile(r"[_\- .](masks?|segmentation|seg|groundtruth|annotations?)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Photo:
    """An image file of a data set: `path` is the file, or the archive that holds it as `member`."""

    label: str
    name: str
    path: Path
    member: Member | None = None
    part: str = ""
    """`train`, `validation` or `test` where the owner has split the images, else empty"""


@dataclass
class Listing:
    """The images of a data set in the order of its pack, and names of files left out, by reason."""

    photos: list[Photo] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, sorted."""
        return sorted({photo.label for photo in self.photos})

    def leave(self, reason: str, name: str) -> None:
        """Note a file that is left out."""
        self.left_out.setdefault(reason, []).append(name)


def hidden(name: str) -> bool:
    """Whether a path leads through a hidden file or folder, or one of previews."""
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") and part not in (".", "..") or part in THUMBNAILS for part in parts)


def is_image(name: str) -> bool:
    """Whether a file of that name is taken for an image; hidden ones, such as macOS adds to archives, are not."""
    return not hidden(name) and PurePosixPath(name).suffix.lower() in IMAGES


def _sniffed(path: Path) -> bool:
    """Whether a file without a suffix is an image by its first bytes."""
    try:
        with Image.open(path) as image:
            return bool(image.format)
    except Exception:  # Pillow's readers let out whatever they stumble on
        return False


def walk(folder: Path, above: tuple = ()) -> Iterator[Path]:
    """All entries below a folder that are no folders; linked folders are followed, but not in a circle."""
    stat = folder.stat()
    if (stat.st_dev, stat.st_ino) in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from walk(folder / entry.name, (*above, (stat.st_dev, stat.st_ino)))
            else:
                yield folder / entry.name


def _reason(path: Path, name: str) -> str:
    """Why a file is left out; empty if it is taken for an image."""
    if hidden(name):
        return HIDDEN
    if not path.is_file():
        return "a device, a pipe or a link that leads nowhere"
    if path.name.lower().endswith(PACKED):
        return "an archive inside a class, which is not opened"
    if not path.suffix:
        return "" if _sniffed(path) else "without a suffix, and no image"
    if path.suffix.lower() not in IMAGES:
        return f"no image by its suffix {path.suffix.lower()}"
    return LARGE if path.stat().st_size > MOST else ""


def _folder(label: str, folder: Path, listing: Listing, part: str = "", prefix: str = "") -> None:
    """Add the images below a folder, by name."""
    for path in sorted(walk(folder)):
        name = path.relative_to(folder).as_posix()
        if reason := _reason(path, name):
            listing.leave(reason, f"{label}/{prefix}{name}")
        else:
            listing.photos.append(Photo(label, prefix + name, path, part=part))


def _archive(label: str, path: Path, listing: Listing, part: str = "", prefix: str = "") -> None:
    """Add the images of an archive, by name there; its folders are no part of their names."""
    for member in sorted(members(path), key=lambda member: member.name):
        if is_image(member.name) and member.size <= MOST:
            listing.photos.append(Photo(label, prefix + PurePosixPath(member.name).name, path, member, part))
        else:
            why = LARGE if is_image(member.name) else HIDDEN if hidden(member.name) else "no image by its suffix"
            listing.leave(why, f"{label}/{prefix}{member.name}")


def _add(label: str, path: Path, listing: Listing, part: str = "", prefix: str = "") -> None:
    (_folder if path.is_dir() else _archive)(label, path, listing, part, prefix)


def images_of(folder: Path) -> list[Path]:
    """All image files below a folder, by name."""
    listing = Listing()
    _folder("", folder, listing)
    return [photo.path for photo in listing.photos]


def classes(folder: Path) -> dict[str, Path]:
    """Class names of a data set and the tar archive or folder of each.

    ValueError where there is none, and where a class is there twice, such as `good/` beside `good.tar`.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = next((s for s in ARCHIVES if path.name.lower().endswith(s)), None)
        if hidden(path.name) or not (path.is_dir() or suffix):
            continue
        name = path.name if path.is_dir() else path.name[: -len(suffix)]
        if name in found:
            raise ValueError(
                f"class {name!r} is there twice, as {found[name].name} and as {path.name} in {folder}: "
                "remove one, or give it another name"
            )
        found[name] = path
    if not found:
        raise ValueError(f"no data set at {folder}: found no folder or tar archive of images; one per class is needed")
    return found


def encoded(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every image of a class, by name. An archive is read, never unpacked: nothing can escape.

    ValueError for an archive that is cut short, damaged or none at all.
    """
    listing = Listing()
    _add("", path, listing)
    if path.is_dir():
        for photo in listing.photos:
            yield photo.name, photo.path.read_bytes()
        return
    for i, content in contents(path, [photo.member for photo in listing.photos], as_stored=False):
        yield listing.photos[i].name, content


def catalogued(folder: Path) -> Listing:
    """The images of a data set that has one folder or tar archive a class."""
    listing = Listing()
    for label, path in classes(folder).items():
        _add(label, path, listing)
    return listing


def own(path: Path) -> Listing:
    """The images of a folder of one's own, or of a table of them.

    The folder has one subfolder or tar archive a class; or `train`, `test` and perhaps `val`, each with these, which
    are then the split; a table (.csv) has columns file, label and perhaps split. Masks that lie beside their
    photograph (`x_mask.png`, `x.png`) are left out. ValueError says what is missing or contradicts itself.
    """
    if path.is_file() and path.suffix.lower() == ".csv":
        listing = _listed(path)
    else:
        found, listing = classes(path), Listing()
        split = {name: PARTS[name.lower()] for name in found if name.lower() in PARTS}
        _beside(path, listing)
        if split and found[next(iter(split))].is_dir():
            _check_split(path, found, split)
            for name, part in split.items():
                _beside(found[name], listing, f"{name}/")
                for label, below in classes(found[name]).items():
                    _add(label, below, listing, part, f"{name}/")
        else:
            for label, below in found.items():
                _add(label, below, listing)
    listing.photos.sort(key=lambda photo: photo.label)  # stable: of a class as they were found
    _without_masks(listing)
    return listing


def _beside(folder: Path, listing: Listing, prefix: str = "") -> None:
    """Note what lies beside the folders and archives of the classes."""
    taken = set(classes(folder).values())
    for path in sorted(folder.iterdir()):
        if path in taken:
            continue
        if hidden(path.name):
            reason = "hidden, or in a hidden folder or one of previews"
        elif path.name.lower().endswith(PACKED):
            reason = f"an archive of a kind that is not opened ({', '.join(ARCHIVES)} are)"
        else:
            reason = "beside the classes, in none of them"
        listing.leave(reason, f"{prefix}{path.name}{'/' * path.is_dir()}")


def _check_split(path: Path, found: dict[str, Path], split: dict[str, str]) -> None:
    if others := [name for name in found if name not in split]:
        raise ValueError(
            f"{path} holds {', '.join(f'{name}/' for name in split)}, which look like a split, beside {others[0]!r}: "
            "a folder has classes, or train, val and test with classes in each"
        )
    parts = list(split.values())
    if sorted(parts) not in (["test", "train"], ["test", "train", "validation"]):
        raise ValueError(
            f"{path} holds {', '.join(f'{name}/' for name in split)}: a split has train/ and test/ and may have val/, each once"
        )
    labels = {}
    for name in split:
        try:
            labels[name] = set(classes(found[name]))
        except ValueError as error:
            raise ValueError(
                f"{path} holds {', '.join(f'{n}/' for n in split)}, which look like a split, but {name}/ has no folder "
                "per class: put one folder per class into each, or give them other names if they are classes"
            ) from error
    first = next(iter(labels))
    for name, has in labels.items():
        if has != labels[first]:
            odd = min(has ^ labels[first])
            raise ValueError(
                f"class {odd!r} is not in both {first}/ and {name}/ of {path}: every part needs every class"
            )


def _listed(path: Path) -> Listing:
    listing, seen = Listing(), {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error.reason}): save the table as CSV in UTF-8") from error
    head = text.partition("\n")[0]
    with io.StringIO(text, newline="") as file:
        rows = csv.DictReader(file, delimiter=";" if ";" in head and "," not in head else ",")  # as spreadsheets write
        columns = rows.fieldnames or []
        if missing := [column for column in ("file", "label") if column not in columns]:
            raise ValueError(
                f"{path} has no column {missing[0]!r}, found {', '.join(columns) or 'nothing'}: a table of images has file, "
                "label and perhaps split"
            )
        for line, row in enumerate(rows, 2):
            name, label, part = (((row.get(column) or "").strip()) for column in ("file", "label", "split"))
            where = path.parent / Path(name).expanduser()
            if not name or not label:
                raise ValueError(
                    f"{path} has no {'file' if not name else 'label'} in line {line}: every image needs both"
                )
            if part and part.lower() not in PARTS or not part and "split" in columns:
                raise ValueError(f"{path} has split {part!r} in line {line}: allowed are train, val and test")
            if name in seen:
                raise ValueError(f"{path} names {name!r} in lines {seen[name]} and {line}: every image once")
            seen[name] = line
            if not where.is_file():
                raise ValueError(f"{path} names {name!r} in line {line}, and there is no such file in {path.parent}")
            listing.photos.append(Photo(label, name, where, part=PARTS.get(part.lower(), "")))
    listing.photos.sort(key=lambda photo: photo.name)
    return listing


def _without_masks(listing: Listing) -> None:
    stems = {(photo.label, str(PurePosixPath(photo.name).with_suffix(""))) for photo in listing.photos}
    kept = []
    for photo in listing.photos:
        stem = str(PurePosixPath(photo.name).with_suffix(""))
        beside = MASK.sub("", stem)
        if beside != stem and (photo.label, beside) in stems:
            listing.leave("a mask beside its photograph", f"{photo.label}/{photo.name}")
        else:
            kept.append(photo)
    listing.photos[:] = kept


def stamp(path: Path) -> dict[str, str]:
    """What tells a change of a data set's files, by class: 16 hex digits over the name, size and time of every file."""
    if path.is_file():
        return {"table": _stamp([path, *(photo.path for photo in _listed(path).photos)], path.parent)}
    return {name: _stamp(walk(below) if below.is_dir() else [below], path) for name, below in classes(path).items()}


def _stamp(files, root: Path) -> str:
    facts = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:  # a link that leads nowhere
            continue
        facts.append(f"{os.path.relpath(file, root)}\0{stat.st_size}\0{stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(facts)).encode(errors="surrogateescape")).hexdigest()[:16]


def read(photos: list[Photo]) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every image, files first, then archive by archive as the bytes lie there."""
    archives: dict[Path, list[int]] = {}
    for i, photo in enumerate(photos):
        if photo.member:
            archives.setdefault(photo.path, []).append(i)
        else:
            yield i, photo.path.read_bytes()
    for path, numbers in archives.items():
        for k, content in contents(path, [photos[i].member for i in numbers]):
            yield numbers[k], content


def resolved(path: str | Path) -> Path:
    """The one spelling of a path: absolute, `~` spelt out, without links and dots."""
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, OSError) as error:  # links in a circle; no such user
        raise ValueError(
            f"{path} leads nowhere ({error}): name a folder with one folder of images per class"
        ) from error
