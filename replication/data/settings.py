"""The settings: each a data set with its class map, a few declarative lines."""

import dataclasses
import functools
from dataclasses import dataclass

from replication.data.sources import Source


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

    @property
    def minority_classes(self) -> tuple[int, ...]:
        """Class indices of the minorities."""
        return tuple(range(self.majorities, self.majorities + self.minorities))

    def declared(self) -> dict:
        """What the name of an embedded data set leaves open and a result must therefore carry: all but its defaults."""
        named = ("name", "source", "majorities", "minorities", "reserved")
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
            first = int(source.counts.argmax())
            return [[first], [label for label in range(source.n_labels) if label != first]]
        order = [(seed + i) % source.n_labels for i in range(source.n_labels)]
        others = order[max(self.minorities, self.reserved):]
        majority = [others[i :: self.majorities] if self.pooled else others[i : i + 1] for i in range(self.majorities)]
        return majority + [[label] for label in order[: self.minorities]]


def _kvm(name: str, **declared) -> list[Setting]:
    """The four settings of the majorities claim whose classes the seed picks, from the same majority labels."""
    return [
        Setting(f"{name}/{k}v{m}", majorities=k, minorities=m, reserved=2, **declared) for k in (1, 2) for m in (1, 2)
    ]


def _images(name: str, source: str, *classes: tuple[str, ...], minorities: int = 1, **declared) -> Setting:
    """A setting of real images: 32 pixels, flipped and shifted in training."""
    return Setting(
        name, source, majorities=len(classes) - minorities if classes else 1, minorities=minorities, classes=classes,
        **_IMAGES | declared,
    )  # fmt: skip


_IMAGES = {"test": 150, "validation": (150, 75), "pixels": 32, "augment": True}
_HEALTHY, _SCAB, _ROT, _RUST = (
    (f"Apple___{name}",) for name in ("healthy", "Apple_scab", "Black_rot", "Cedar_apple_rust")
)
_APPLE = (_HEALTHY, _SCAB + _ROT + _RUST)
_PEPPER = (("Pepper_bell___healthy",), ("Pepper_bell___Bacterial_spot",))
_TOMATO = (("Tomato___healthy",), ("Tomato___Early_blight",), ("Tomato___Late_blight",))

SETTINGS = {
    s.name: s
    for s in (
        Setting("digits", "digits"),
        *_kvm("digits", source="digits"),
        _images("plantvillage/apple", "plantvillage", *_APPLE),
        _images("plantvillage/pepper", "plantvillage", *_PEPPER),
        _images("plantvillage/tomato", "plantvillage", _TOMATO[0], _TOMATO[1] + _TOMATO[2]),
        _images("cracks", "cracks", ("negative",), ("positive",)),
        _images("skin", "skin", ("benign",), ("malignant",)),
        _images("cifar10", "cifar10"),
        # majorities claim: the classes of PlantVillage have roles fixed by their sizes, those of CIFAR-10 take turns
        _images("plantvillage/apple/1v1", "plantvillage", _HEALTHY, _ROT),
        _images("plantvillage/apple/2v1", "plantvillage", _HEALTHY, _SCAB, _ROT),
        _images("plantvillage/apple/1v2", "plantvillage", _HEALTHY, _ROT, _RUST, minorities=2),
        _images("plantvillage/apple/2v2", "plantvillage", _HEALTHY, _SCAB, _ROT, _RUST, minorities=2),
        _images("plantvillage/tomato/1v1", "plantvillage", _TOMATO[0], _TOMATO[2]),
        _images("plantvillage/tomato/2v1", "plantvillage", *_TOMATO),
        *_kvm("cifar10", source="cifar10", pooled=False, **_IMAGES),
        # controls
        _images("plantvillage/apple/border", "plantvillage", *_APPLE, border=True),
        _images("plantvillage/pepper/border", "plantvillage", *_PEPPER, border=True),
        _images("plantvillage/tomato/border", "plantvillage", _TOMATO[0], _TOMATO[1] + _TOMATO[2], border=True),
        _images("plantvillage/apple/ungrouped", "plantvillage", *_APPLE, grouped=False),
    )
}


@functools.cache
def setting(name: str) -> Setting:
    """The setting of that name; `NAME@64` is the same at 64 pixels, `folder:PATH` a folder of images of one's own.

    Such a folder (one subfolder a class) is used as its largest class against all others, pooled. ValueError names
    the settings there are, and for a size that cannot be had.
    """
    base, at, pixels = name.rpartition("@")
    if not at or not pixels.isdigit():
        base, pixels = name, ""
    if base.startswith("folder:") and base != "folder:":
        found = Setting(base, source=base, largest=True, **_IMAGES)
    elif base in SETTINGS:
        found = SETTINGS[base]
    else:
        raise ValueError(f"unknown setting {name!r}: allowed are {', '.join(SETTINGS)}, folder:PATH, and NAME@PIXELS")
    if not pixels:
        return found
    if not found.pixels or int(pixels) < 8:
        raise ValueError(f"setting {base!r} cannot be had at {pixels} pixels: allowed are "
                         + ("sizes from 8" if found.pixels else "its own size only"))  # fmt: skip
    return dataclasses.replace(found, name=name, pixels=int(pixels))
