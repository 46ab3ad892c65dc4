"""Which images train, validate and test a run: drawn afresh by every seed, disjoint, the same for every arm."""

from dataclasses import dataclass

import numpy as np

from replication.data.settings import Setting, setting
from replication.data.sources import Source, load
from replication.runs import Run, entropy


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
    """of the data set as a whole"""

    @property
    def n_classes(self) -> int:
        """Number of classes K, majority classes first."""
        return int(self.train.labels.max()) + 1

    @property
    def train_counts(self) -> np.ndarray:
        """(K,) training images of each class."""
        return np.bincount(self.train.labels)


def indices(source: Source, s: Setting, n_majority: int, n_minority: int, seed: int) -> dict[str, list[np.ndarray]]:
    """Image numbers of every part, one array a class.

    Test and validation are drawn before training images, and these from the front of one permutation: with the same
    seed every ratio is tested on the same images and a smaller training class is contained in a larger one.
    ValueError if a class has too few images, saying how many there are.
    """
    rng = np.random.default_rng(entropy(seed, "split"))
    parts: dict[str, list[np.ndarray]] = {"test": [], "validation": [], "train": []}
    for c, pool in enumerate(s.class_map(seed, source.n_labels)):
        majority = c < s.majorities
        sizes = {
            "test": s.test,
            "validation": s.validation[0] // s.majorities if majority else s.validation[1],
            "train": n_majority if majority else n_minority,
        }
        order = rng.permutation(np.flatnonzero(np.isin(source.labels, pool)))
        if sum(sizes.values()) > len(order):
            kind = "majority" if majority else "minority"
            held = sizes["test"] + sizes["validation"]
            raise ValueError(
                f"n_{kind} = {sizes['train']} asks for too many training images in setting {s.name!r}: class {c} has "
                f"{len(order)} images of which {held} are held out, so at most {len(order) - held} are allowed"
            )
        start = 0
        for part, n in sizes.items():
            parts[part].append(order[start : start + n])
            start += n
    return parts


def split(run: Run) -> Split:
    """Images and labels of every part of a run. Errors: as `indices` and `setting`."""
    s = setting(run.setting)
    source = load(s.source)
    chosen = indices(source, s, run.n_majority, run.n_minority, run.seed)

    def part(classes: list[np.ndarray]) -> Part:
        labels = np.repeat(np.arange(len(classes)), [len(c) for c in classes])
        return Part(source.images[np.concatenate(classes)], labels)

    return Split(part(chosen["train"]), part(chosen["validation"]), part(chosen["test"]), s.minority_classes, source.digest)
