"""From the official files of a data set to one folder or archive of images per class."""

import csv
import io
import os
import pickle
import shutil
import tarfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from replication.data.catalogue import data_set
from replication.data.fetch.download import fetch, rar_tool, unpack
from replication.data.fetch.listed import listed, matched, plain
from replication.data.folders import classes, images_of
from replication.files import whole

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SKIN = {"benign": ("NV", "BKL", "DF", "VASC"), "malignant": ("MEL", "BCC")}
"""diagnoses of each class; AKIEC, partly pre-malignant, is in neither"""


def class_names(name: str) -> tuple[str, ...]:
    """The classes that a data set of the catalogue has here."""
    return CIFAR10 if name == "cifar10" else tuple(listed(name))


def get(name: str, everything: bool = False) -> Path:
    """Fetch a data set from its official source, unless it is here, and return its folder, which appears when whole.

    Of the official files those that are listed (`replication.data.fetch.listed`) are taken, under their listed names; with
    `everything` all of them, under their own. The downloads are removed at the end, and kept where something fails:
    the next call resumes them. ValueError for an unknown name, a wrong checksum, an archive that is broken or has
    another content than expected; ConnectionError, OSError as `replication.data.fetch.download.fetch`.
    """
    source = data_set(name)
    target, downloads = source.folder(), source.downloads()
    if target.is_dir() and any(target.iterdir()):
        absent = [c for c in class_names(name) if c not in classes(target)]
        if absent:
            raise ValueError(f"{target} is there without class {absent[0]!r}: move it away to fetch {name} again")
        return target
    for file in source.files:
        if file.name.endswith(".rar"):
            rar_tool(file.name)
    try:
        downloads.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{name} cannot be put into {target.parent}: {error.strerror}") from error
    unpacked = downloads / "unpacked"
    try:
        for file in source.files:
            path = fetch(file.url, downloads / file.name, file.sha256)
            try:
                if path.suffix != ".csv":
                    unpack(path, unpacked / path.name)
            except ValueError as error:
                if file.sha256:  # it is what it should be
                    raise
                path.unlink()
                raise ValueError(f"{error}; it was removed, fetch it again") from error
        with whole(target) as folder:
            if name == "cifar10":
                _batches(unpacked, folder)
            else:
                found = _by_diagnosis(downloads, everything) if name == "skin" else _by_folder(name, unpacked)
                _lay_out(name, found, folder, everything)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    shutil.rmtree(downloads)
    return target


def _lay_out(name: str, found: dict[str, list[Path]], folder: Path, everything: bool) -> None:
    """Move the images of every class to its folder: all of them, or the listed ones under their listed names."""
    lacking = []
    for c, files in found.items():
        by_name = {file.name: file for file in files}
        if everything:
            chosen = by_name
        else:
            wanted = listed(name)[c]
            read = ((file.name, file.read_bytes()) for file in tqdm(files, unit="image", desc=c, leave=False))
            chosen = {
                Path(mine).stem + Path(theirs).suffix.lower(): by_name[theirs]
                for mine, theirs in matched(wanted, read).items()
            }
            if len(chosen) < len(wanted.names):
                lacking.append(f"{c} has {len(chosen)} of {len(wanted.names)} listed among {len(files)} files")
        (folder / c).mkdir()
        for new, file in chosen.items():
            os.replace(file, folder / c / new)
        if not chosen:
            lacking.append(f"{c} has no image at all")
    if lacking:
        raise ValueError(
            f"the official files of {name} are not those that were listed ({'; '.join(lacking)}): "
            f"`replication data fetch {name} --all` takes them as they are"
        )


def _by_folder(name: str, unpacked: Path) -> dict[str, list[Path]]:
    """Images of every class from the folder of its name, spelt as it may be."""
    folders: dict[str, list[Path]] = {}
    for folder in sorted(path for path in unpacked.rglob("*") if path.is_dir()):
        folders.setdefault(plain(folder.name), []).append(folder)
    for c in class_names(name):
        if (n := len(folders.get(plain(c), ()))) != 1:
            seen = ", ".join(f.name for several in folders.values() for f in several)[:300] or "no folder"
            raise ValueError(f"the official files of {name} have {n} folders of class {c!r}, not one: found {seen}")
    return {c: images_of(folders[plain(c)][0]) for c in class_names(name)}


def _table(path: Path, *columns: str) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if absent := [column for column in columns if not rows or column not in rows[0]]:
        path.unlink()
        raise ValueError(
            f"{path.name} has no column {absent[0]!r}: it is not the official table; removed, fetch it again"
        )
    return rows


def _by_diagnosis(downloads: Path, everything: bool) -> dict[str, list[Path]]:
    """Images of benign and malignant lesions from ISIC 2018 task 3.

    With `everything`: one image a lesion, that of the lowest number, and only lesions confirmed by histopathology, as
    the listed ones were chosen.
    """
    images = {file.stem: file for file in images_of(downloads / "unpacked")}
    truth = next((downloads / "unpacked").rglob("*GroundTruth.csv"), None)
    if not truth:
        raise ValueError("the official files of skin have no table of diagnoses, *GroundTruth.csv")
    of = {
        row["image"]: [code for codes in SKIN.values() for code in codes if float(row[code])]
        for row in _table(truth, "image", *SKIN["benign"], *SKIN["malignant"])
    }
    if everything:
        (file,) = downloads.glob("*LesionGroupings.csv")
        lesions: dict[str, str] = {}
        for row in sorted(_table(file, "image", "lesion_id", "diagnosis_confirm_type"), key=lambda row: row["image"]):
            if row["diagnosis_confirm_type"].startswith("histo"):
                lesions.setdefault(row["lesion_id"], row["image"])
        of = {image: of[image] for image in lesions.values() if image in of}
    return {
        c: [images[image] for image, codes in sorted(of.items()) if image in images and set(codes) & set(SKIN[c])]
        for c in SKIN
    }


class _Arrays(pickle.Unpickler):
    """Reads arrays, lists and strings; whatever else a pickle could call is refused."""

    ALLOWED = {"_reconstruct": np.ndarray(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}

    def find_class(self, module: str, name: str):
        if module.partition(".")[0] == "numpy" and name in self.ALLOWED:
            return self.ALLOWED[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _batch(path: Path, *keys: bytes) -> list:
    try:
        with path.open("rb") as file:
            content = _Arrays(file, encoding="bytes").load()
        return [content[key] for key in keys]
    except Exception as error:  # a pickle fails in many ways
        raise ValueError(f"{path.name} of the official files of cifar10 cannot be read: {error!r}") from error


def _batches(unpacked: Path, folder: Path) -> None:
    """CIFAR-10 from its Python batches to one tar archive of PNG files a class, named by part and order in it."""
    expected = ["batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    batches = {path.name: path for path in unpacked.rglob("*") if path.name in expected}
    if absent := [name for name in expected if name not in batches]:
        raise ValueError(f"the official files of cifar10 lack {absent[0]}")
    (names,) = _batch(batches["batches.meta"], b"label_names")
    names = [name.decode() for name in names]
    if sorted(names) != sorted(CIFAR10):
        raise ValueError(
            f"the official files of cifar10 have classes {', '.join(names)}: expected {', '.join(CIFAR10)}"
        )
    seen: Counter[tuple[str, str]] = Counter()
    with ExitStack() as stack:
        archives = {c: stack.enter_context(tarfile.open(folder / f"{c}.tar", "w")) for c in names}
        for batch in tqdm(expected[1:], unit="batch", desc="cifar10", leave=False):
            pixels, labels = _batch(batches[batch], b"data", b"labels")
            for image, label in zip(np.reshape(pixels, (-1, 3, 32, 32)).transpose(0, 2, 3, 1), labels):
                c, part, buffer = names[label], batch.partition("_")[0].replace("data", "train"), io.BytesIO()
                Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG")
                entry = tarfile.TarInfo(f"{c}/{part}_{seen[c, part]:04}.png")
                seen[c, part] += 1
                entry.size = buffer.tell()
                buffer.seek(0)
                archives[c].addfile(entry, buffer)
