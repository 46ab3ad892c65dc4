"""A data set as uint8 arrays with a digest."""

import hashlib
from dataclasses import dataclass

import numpy as np

PARTS = ("train", "validation", "test")
"""parts of a split, in the order of their numbers in `Source.parts`"""
_CHUNK = 16 << 20


@dataclass(frozen=True)
class Source:
    """All images of a data set: `images` (N, C, H, W) uint8, `labels` (N,) int, `digest` of both."""

    name: str
    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    """(N,) int: images of one group stay in one part of a split"""
    classes: tuple[str, ...]
    """names of the labels, in their order"""
    digest: str
    licence: str
    citation: str
    parts: np.ndarray | None = None
    """(N,) int, index in `PARTS` where the owner has split the images, -1 in none; None where every seed splits them anew"""

    @property
    def n_labels(self) -> int:
        """Number of different labels."""
        return len(self.classes)

    @property
    def counts(self) -> np.ndarray:
        """(L,) images of each label."""
        return np.bincount(self.labels, minlength=self.n_labels)


def digest(*arrays: np.ndarray) -> str:
    """16 hex digits of SHA-256 over the shapes, types and bytes of the arrays."""
    sha = hashlib.sha256()
    for a in arrays:
        sha.update(f"{a.dtype.str}{a.shape}".encode())
        step = max(_CHUNK * len(a) // max(a.nbytes, 1), 1) if a.ndim else 1
        for i in range(0, len(a), step) if a.ndim else ():  # an array on the disk is never in memory as a whole
            sha.update(np.ascontiguousarray(a[i : i + step]).data)
        if not a.ndim:
            sha.update(a.tobytes())
    return sha.hexdigest()[:16]
