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
    digest: str
    licence: str
    citation: str

    @property
    def n_labels(self) -> int:
        """Number of different labels."""
        return int(self.labels.max()) + 1


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
        digest(images, labels),
        licence="CC BY 4.0 (UCI), shipped with scikit-learn (BSD-3-Clause)",
        citation="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998",
    )


SOURCES = {"digits": _digits}


@functools.cache
def load(name: str) -> Source:
    """The data set of that name, read once per process."""
    return SOURCES[name]()
