"""What a head on a frozen body sees of a run's split: features, labels, and the order of its batches."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from replication.data.augmentation import draws
from replication.run import Run
from replication.training.loop import batches


@dataclass(frozen=True)
class Examples:
    """Features and labels of the parts of a split, and which of them make up every batch."""

    train: np.ndarray
    """(V, n, F) features of the training images: as they are and, in settings with augmentation, mirrored"""
    held: np.ndarray
    """(M + N, F) features of validation and test images"""
    labels: np.ndarray
    """(n,) class indices of the training images"""
    validation_labels: np.ndarray
    """(M,)"""
    minorities: tuple[int, ...]
    counts: np.ndarray
    """(K,) training images of each class"""
    plan: list[np.ndarray]
    """(updates, B) image numbers by epoch, see `replication.training.loop.batches`"""
    mirrored: np.ndarray | None
    """(epochs, n) view of every image in every epoch, 0 or 1; none where there is one view"""

    @property
    def n_validation(self) -> int:
        """Number of validation images M."""
        return len(self.validation_labels)

    def rows(self) -> np.ndarray:
        """(U, B) rows of `train`, laid out as (V n, F), of every update."""
        numbers = np.concatenate(self.plan)
        if self.mirrored is None:
            return numbers
        views = np.concatenate([views[epoch] for views, epoch in zip(self.mirrored, self.plan)])
        return views.astype(np.int64) * len(self.labels) + numbers


Rows = Callable[[int, np.ndarray], np.ndarray]
"""from a view and image numbers (n,) to features (n, F)"""


def examples(
    run: Run,
    rows: Rows,
    parts: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    minorities: tuple[int, ...],
    pixels: int,
    augment: bool,
) -> Examples:
    """The examples of a run whose `parts` are image numbers by name, their class indices alike.

    Of the augmentation's draws only the mirroring is used: shifts would be views of their own. ValueError: see
    `replication.training.loop.batches`.
    """
    plan = batches(run, labels["train"])
    moves = draws(run.seed, len(labels["train"]), pixels, len(plan)) if augment else None
    return Examples(
        train=np.stack([rows(view, parts["train"]) for view in range(2 if augment else 1)]),
        held=np.concatenate([rows(0, parts["validation"]), rows(0, parts["test"])]),
        labels=labels["train"],
        validation_labels=labels["validation"],
        minorities=minorities,
        counts=np.bincount(labels["train"]),
        plan=plan,
        mirrored=moves[:, :, 0] if augment else None,
    )
