"""Data sets by name: digits, which every machine has, and the packs of images."""

import functools

import numpy as np

from replication.data.packs import packed
from replication.data.sources import Source, digest


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
    return packed(name, pixels)
