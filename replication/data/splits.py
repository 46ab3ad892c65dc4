"""Which images train, validate and test a run: drawn afresh by every seed, disjoint, the same for every arm."""

import functools
import hashlib
import json
import shlex
from dataclasses import dataclass

import numpy as np

from replication.data.loading import load
from replication.data.settings import Setting, setting
from replication.data.sizes import fitted, members
from replication.data.sources import PARTS, Source
from replication.limits import check_known
from replication.run import AUGMENTATIONS, Run, entropy


@dataclass(frozen=True)
class Part:
    """Images of one part of a split: `images` (N, C, H, W) uint8 and `labels` (N,) class indices."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Split:
    """Training, validation and test images of a run, and what they were drawn from."""

    train: Part
    validation: Part
    test: Part
    minorities: tuple[int, ...]
    """class indices of the minority classes"""
    digest: str
    """of the data, see `data_digest`"""
    augment: bool = False
    """whether training images are flipped and shifted"""

    @property
    def n_classes(self) -> int:
        """Number of classes K, majority classes first."""
        return int(self.train.labels.max()) + 1

    @property
    def train_counts(self) -> np.ndarray:
        """(K,) training images of each class."""
        return np.bincount(self.train.labels)


@functools.cache
def data_digest(name: str) -> str:
    """What names the data of a setting in a key: the digest of the images, with that of what the setting declares."""
    s = setting(name)
    source = load(s.source, s.pixels)
    images, declared = source.digest, fitted(source, s).declared()
    if not declared:
        return images
    return hashlib.sha256(json.dumps([images, declared], sort_keys=True).encode()).hexdigest()[:16]


def _parts(
    rng: np.random.Generator, members: np.ndarray, groups: np.ndarray, sizes: dict[str, int]
) -> dict[str, np.ndarray]:
    """Image numbers of the test, validation and training part of one class, drawn from its members (M,).

    Test and validation take whole groups in random order; what their last group has too many is left out. Training
    images are drawn one by one from the groups that remain. Fewer than asked for where a part runs out.
    """
    order = rng.permutation(members)
    _, first, which = np.unique(groups[order], return_index=True, return_inverse=True)
    rank = first[which]  # of a group: the place of its first image
    at, parts = np.argsort(rank, kind="stable"), {}
    for part in ("test", "validation"):
        parts[part] = order[at[: sizes[part]]]
        last = rank[at[: sizes[part]]].max(initial=-1)
        at = at[rank[at] > last]
    parts["train"] = order[np.sort(at)][: sizes["train"]]
    return parts


def _given(
    rng: np.random.Generator, members: np.ndarray, groups: np.ndarray, sizes: dict[str, int], given: np.ndarray
) -> dict[str, np.ndarray]:
    """As `_parts` within the owner's split: `given` (N,) is the part of every image, see `Source.parts`.

    Where that has no validation images, they are drawn from its training images.
    """
    own = {part: members[given[members] == k] for k, part in enumerate(PARTS)}
    if len(own["validation"]):
        return {part: rng.permutation(own[part])[: sizes[part]] for part in ("test", "validation", "train")}
    test = rng.permutation(own["test"])[: sizes["test"]]
    return _parts(rng, own["train"], groups, sizes | {"test": 0}) | {"test": test}


def indices(source: Source, s: Setting, n_majority: int, n_minority: int, seed: int) -> dict[str, list[np.ndarray]]:
    """Image numbers of every part, one array a class.

    Test and validation are drawn before training images, and these from the front of one permutation: with the same
    seed every ratio is tested on the same images and a smaller training class is contained in a larger one.
    ValueError if a class has too few images, saying how many there are.
    """
    rng = np.random.default_rng(entropy(seed, "split"))
    groups = source.groups if s.grouped else np.arange(len(source.labels))
    parts: dict[str, list[np.ndarray]] = {"test": [], "validation": [], "train": []}
    for c, numbers in enumerate(members(source, s, seed)):
        majority = c < s.majorities
        sizes = {
            "test": s.test,
            "validation": s.validation[0] // s.majorities if majority else s.validation[1],
            "train": n_majority if majority else n_minority,
        }
        wanted = sizes | {"train": len(numbers)}
        everything = (
            _parts(rng, numbers, groups, wanted)
            if source.parts is None
            else _given(rng, numbers, groups, wanted, source.parts)
        )
        enough = all(len(everything[part]) == sizes[part] for part in ("test", "validation"))
        at_most = len(everything["train"]) if enough else 0
        if sizes["train"] > at_most:
            kind = "majority" if majority else "minority"
            held = sizes["test"] + sizes["validation"]
            raise ValueError(
                f"n_{kind} = {sizes['train']} asks for too many training images in setting {s.name!r}: class {c} has "
                f"{len(numbers)} images of which {held} are held out, with those of their groups, so at most {at_most} "
                "are allowed" + _scaled(s)
            )
        for part, chosen in everything.items():
            parts[part].append(chosen[: sizes[part]])
    return parts


def _scaled(s: Setting) -> str:
    """The command that trains with what there is, of a setting of one's own images; else empty."""
    return (
        f"; `{shlex.join(['replication', 'try', s.source.removeprefix('folder:')])}` scales them down" if s.own else ""
    )


def framed(images: np.ndarray) -> np.ndarray:
    """Images (N, C, P, P) with all but a frame of a sixteenth of their side, at least 1 pixel, set to mid-grey."""
    width = max(images.shape[-1] // 16, 1)
    images = images.copy()
    images[..., width:-width, width:-width] = 127
    return images


def augmented(run: Run) -> bool:
    """Whether a run's training images are flipped and shifted. ValueError for an unknown `augmentation`."""
    check_known("augmentation", run.augmentation, AUGMENTATIONS)
    return setting(run.setting).augment and run.augmentation == "setting"


def split(run: Run) -> Split:
    """Images and labels of every part of a run. Errors: as `indices` and `setting`."""
    s = setting(run.setting)
    source = load(s.source, s.pixels)
    s = fitted(source, s)
    chosen = indices(source, s, run.n_majority, run.n_minority, run.drawn_by)

    def part(classes: list[np.ndarray]) -> Part:
        labels = np.repeat(np.arange(len(classes)), [len(c) for c in classes])
        images = np.asarray(source.images[np.concatenate(classes)])
        return Part(framed(images) if s.border else images, labels)

    parts = (part(chosen[name]) for name in ("train", "validation", "test"))
    return Split(*parts, s.minority_classes, data_digest(run.setting), augmented(run))
