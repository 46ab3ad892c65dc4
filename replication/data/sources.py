"""The data sets themselves, as uint8 arrays with a digest."""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np


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
        sha.update(np.ascontiguousarray(a).tobytes())
    return sha.hexdigest()[:16]


def _digits() -> Source:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 1, 8, 8) * 15).astype(np.uint8)  # 0..16 -> 0..240
    labels = labels.astype(np.int64)
    return Source(
        "digits",
        images,
        labels,
        groups=np.arange(len(labels)),
        classes=tuple("0123456789"),
        digest=digest(images, labels),
        licence="CC BY 4.0 (UCI), shipped with scikit-learn (BSD-3-Clause)",
        citation="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998",
    )


SOURCES = {"digits": _digits}
"""data sets that need no files of their own"""


@functools.cache
def load(name: str, pixels: int = 0) -> Source:
    """The data set of that name with square images of `pixels`, read once per process.

    Images come from their pack, which is made at the first use. ValueError in one sentence where the data is missing.
    """
    if name in SOURCES:
        return SOURCES[name]()
    from replication.data.packs import packed  # packs are sources themselves

    return packed(name, pixels)
