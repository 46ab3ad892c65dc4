"""The settings: each a data set with its class map, a few declarative lines."""

import dataclasses
import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from replication.data.folders import resolved
from replication.data.sources import Source
from replication.limits import SIDES

EMBEDDED = ("digits",)
"""data sets that need no files of their own"""
_SIZED = re.compile(r"(?P<before>[^@]*)@(?P<pixels>[0-9]{1,9})(?P<after>(/[^@/]+)*)")
_OWN_SIZED = re.compile(r"(?P<before>.*)@(?P<pixels>[0-9]{1,9})", re.DOTALL)


@dataclass(frozen=True)
class Setting:
    """A data set, which of its labels make up which class, what the network sees of an image, and the held-out sizes."""

    name: str
    source: str
    """data set the images come from, see `replication.data.sources`"""
    majorities: int = 1
    """number of majority classes; they come first in the class order"""
    minorities: int = 1
    """number of minority classes"""
    test: int = 75
    """test images of every class (the test set is balanced)"""
    validation: tuple[int, int] = (150, 7)
    """validation images of all majority classes together, and of each minority class"""
    reserved: int = 0
    """labels kept out of the majority classes beside the minorities in use, so that settings can be compared"""
    classes: tuple[tuple[str, ...], ...] = ()
    """names of the source's labels that make up each class, majority classes first; if empty the seed picks them"""
    largest: bool = False
    """whether the majority is the source's largest label and the minority all others, pooled"""
    pooled: bool = True
    """whether the seed pools all other labels into the majority classes, or gives each of these one label"""
    pixels: int = 0
    """side of the square images; 0 where the source has one size only"""
    augment: bool = False
    """whether training images are flipped and shifted, see `replication.data.augmentation`"""
    border: bool = False
    """whether only a frame of the image is seen, a sixteenth of its side wide (the background-only control)"""
    grouped: bool = True
    """whether images of one group stay in one part of a split"""
    majority: str = ""
    """with `largest`: name of the source's label that is the majority instead of its largest"""
    label: str = ""
    """the setting's name for readers"""

    @property
    def embedded(self) -> bool:
        """Whether the data set needs no files of its own."""
        return self.source in EMBEDDED

    @property
    def own(self) -> bool:
        """Whether the images are a folder or a table of one's own."""
        return self.source.startswith("folder:")

    @property
    def minority_classes(self) -> tuple[int, ...]:
        """Class indices of the minorities."""
        return tuple(range(self.majorities, self.majorities + self.minorities))

    def declared(self) -> dict:
        """What the name of an embedded data set leaves open and a result must therefore carry: all but its defaults."""
        named = ("name", "source", "majorities", "minorities", "reserved", "label")
        fields = (f for f in dataclasses.fields(self) if f.name not in named)
        return {f.name: value for f in fields if (value := getattr(self, f.name)) != f.default}

    def class_map(self, seed: int, source: Source) -> list[list[int]]:
        """Source labels of every class, majority classes first.

        They are named by `classes`, or found by size (`largest`), or picked by the seed: minorities are then the labels
        seed, seed + 1, ... modulo their number, and the majority classes disjoint pools of the others (or one of them
        each), so no result hangs on one label. ValueError for a class that the data does not have.
        """
        if self.classes:
            names = {name: label for label, name in enumerate(source.classes)}
            if unknown := [name for pool in self.classes for name in pool if name not in names]:
                raise ValueError(
                    f"setting {self.name!r} needs class {unknown[0]!r}: the data set has {', '.join(source.classes)}"
                )
            return [[names[name] for name in pool] for pool in self.classes]
        if self.largest:
            if self.majority and self.majority not in source.classes:
                raise ValueError(
                    f"setting {self.name!r} needs class {self.majority!r}: the data set has {', '.join(source.classes)}"
                )
            if source.n_labels < 2:
                raise ValueError(f"setting {self.name!r} has one class, {source.classes[0]!r}: at least two are needed")
            first = source.classes.index(self.majority) if self.majority else int(source.counts.argmax())
            return [[first], [label for label in range(source.n_labels) if label != first]]
        order = [(seed + i) % source.n_labels for i in range(source.n_labels)]
        others = order[max(self.minorities, self.reserved) :]
        majority = [others[i :: self.majorities] if self.pooled else others[i : i + 1] for i in range(self.majorities)]
        return majority + [[label] for label in order[: self.minorities]]


_KVM = {
    (1, 1): "one class against another",
    (2, 1): "two classes against one",
    (1, 2): "one class against two",
    (2, 2): "two classes against two",
}
"""words for settings of so many majority and minority classes"""


def _kvm(name: str, label: str, **declared) -> list[Setting]:
    """The four settings of the majorities claim whose classes the seed picks, from the same majority labels."""
    return [
        Setting(f"{name}/{k}v{m}", majorities=k, minorities=m, reserved=2, label=f"{label}, {_KVM[k, m]}", **declared)
        for k in (1, 2)
        for m in (1, 2)
    ]


def _images(name: str, label: str, *classes: tuple[str, ...], minorities: int = 1, **declared) -> Setting:
    """A setting of real images of the data set that its name begins with: 32 pixels, flipped and shifted in training."""
    return Setting(
        name,
        name.partition("/")[0],
        majorities=len(classes) - minorities if classes else 1,
        minorities=minorities,
        classes=classes,
        label=label,
        **_IMAGES | declared,
    )


def _of(name: str, label: str, *classes: tuple[str, ...], minorities: int = 1) -> Setting:
    """A setting of the majorities claim whose classes have roles fixed by their sizes."""
    words = _KVM[len(classes) - minorities, minorities]
    return _images(name, f"{label}, {words}", *classes, minorities=minorities)


_IMAGES = {"test": 150, "validation": (150, 75), "pixels": 32, "augment": True}
_HEALTHY, _SCAB, _ROT, _RUST = (
    (f"Apple___{name}",) for name in ("healthy", "Apple_scab", "Black_rot", "Cedar_apple_rust")
)
_APPLE = (_HEALTHY, _SCAB + _ROT + _RUST)
_PEPPER = (("Pepper_bell___healthy",), ("Pepper_bell___Bacterial_spot",))
_WELL, _EARLY, _LATE = (("Tomato___healthy",), ("Tomato___Early_blight",), ("Tomato___Late_blight",))
_TOMATO = (_WELL, _EARLY + _LATE)

SETTINGS = {
    s.name: s
    for s in (
        Setting("digits", "digits", label="digits"),
        *_kvm("digits", "digits", source="digits"),
        _images("plantvillage/apple", "apple leaves", *_APPLE),
        _images("plantvillage/pepper", "pepper leaves", *_PEPPER),
        _images("plantvillage/tomato", "tomato leaves", *_TOMATO),
        _images("cracks", "concrete cracks", ("negative",), ("positive",)),
        _images("skin", "skin lesions", ("benign",), ("malignant",)),
        _images("cifar10", "CIFAR-10, one class against nine"),
        # majorities claim: the classes of PlantVillage have roles fixed by their sizes, those of CIFAR-10 take turns
        _of("plantvillage/apple/1v1", "apple leaves", _HEALTHY, _ROT),
        _of("plantvillage/apple/2v1", "apple leaves", _HEALTHY, _SCAB, _ROT),
        _of("plantvillage/apple/1v2", "apple leaves", _HEALTHY, _ROT, _RUST, minorities=2),
        _of("plantvillage/apple/2v2", "apple leaves", _HEALTHY, _SCAB, _ROT, _RUST, minorities=2),
        _of("plantvillage/tomato/1v1", "tomato leaves", _WELL, _LATE),
        _of("plantvillage/tomato/2v1", "tomato leaves", _WELL, _EARLY, _LATE),
        *_kvm("cifar10", "CIFAR-10", source="cifar10", pooled=False, **_IMAGES),
        # controls
        _images("plantvillage/apple/border", "apple leaves, the border alone", *_APPLE, border=True),
        _images("plantvillage/pepper/border", "pepper leaves, the border alone", *_PEPPER, border=True),
        _images("plantvillage/tomato/border", "tomato leaves, the border alone", *_TOMATO, border=True),
        _images(
            "plantvillage/apple/ungrouped", "apple leaves, neighbouring photographs parted", *_APPLE, grouped=False
        ),
    )
}


def _own(name: str) -> tuple[Setting, str]:
    """The setting of `folder:PATH`, perhaps with `::CLASS` and `@PIXELS`, and the pixels as text."""
    path, pixels, majority = name.removeprefix("folder:"), "", ""
    nameless = ValueError(f"setting {name!r} names no folder: write folder:PATH")
    if "\0" in path:
        raise nameless
    if not resolved(path).exists() and (sized := _OWN_SIZED.fullmatch(path)):
        path, pixels = sized["before"], sized["pixels"]
    if not resolved(path).exists() and "::" in path:
        path, _, majority = path.rpartition("::")
    if not path.strip():
        raise nameless
    source = f"folder:{resolved(path)}"
    label = f"photographs in {Path(source).name}" + (f", most of them {majority}" if majority else "")
    canonical = source + (f"::{majority}" if majority else "")
    return Setting(canonical, source, largest=True, majority=majority, label=label, **_IMAGES), pixels


def names(text: str) -> list[str]:
    """Names from a text: separated by commas, or as a JSON list where one of them has a comma, `["folder:a, b"]`.

    ValueError for what begins as such a list and is none.
    """
    if not text.lstrip().startswith("["):
        return [name for name in text.split(",") if name]
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) and name for name in found):
        raise ValueError(f'{text} is not a list of names: write a,b or ["a", "b"]')
    return found


def joined(names: Iterable[str]) -> str:
    """The text that `names` reads these from."""
    some = list(names)
    return json.dumps(some, ensure_ascii=False) if any("," in n or n.startswith("[") for n in some) else ",".join(some)


@functools.cache
def setting(name: str) -> Setting:
    """The setting of that name; `NAME@64` is the same at 64 pixels, `folder:PATH` a folder of images of one's own.

    The size may also stand after the data set's name: `plantvillage/apple@160/2v1` is `plantvillage/apple/2v1@160`,
    which is its one `name`; at its usual size a setting has the name without it. A folder (one subfolder a class) is
    used as its largest class against all others, pooled, or as that of `folder:PATH::CLASS`; its name is
    `folder:` with the absolute path without links, however it is spelt. ValueError names the settings there are, and
    for a size that cannot be had.
    """
    pixels = ""
    if name.startswith("folder:") and name != "folder:":
        found, pixels = _own(name)
    else:
        base = name
        if sized := _SIZED.fullmatch(name):
            base, pixels = sized["before"] + sized["after"], sized["pixels"]
        if base not in SETTINGS:
            raise ValueError(
                f"unknown setting {name!r}: allowed are {', '.join(SETTINGS)}, folder:PATH, and NAME@PIXELS"
            )
        found = SETTINGS[base]
    if not pixels:
        return found
    side = int(pixels)
    if not found.pixels or not SIDES[0] <= side <= SIDES[1]:
        raise ValueError(
            f"setting {found.name!r} cannot be had at {pixels} pixels: allowed are "
            + (f"sizes from {SIDES[0]} to {SIDES[1]}" if found.pixels else "its own size only")
        )
    if side == found.pixels:
        return found
    return dataclasses.replace(found, name=f"{found.name}@{side}", pixels=side, label=f"{found.label}, {side} px")
