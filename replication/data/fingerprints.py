"""Which pictures are the same: a few bits of each that scaling and JPEG leave alone, and the eight ways to turn it."""

import functools
import io

import numpy as np
from PIL import Image

SIDE, WAVES = 32, 12
BITS = WAVES**2 - 1
LIMIT = 30
"""most bits by which fingerprints of one picture may differ; at other sizes and qualities our images differed from
themselves in 18 at most, unrelated pictures differ in half of the bits"""
NEAR = 0.2
"""largest difference of two thumbnails, root mean square, as a share of their contrast, at which they show the same"""


@functools.cache
def _waves() -> np.ndarray:
    return np.cos(np.pi / SIDE * np.outer(np.arange(WAVES), np.arange(SIDE) + 0.5))


def thumbnail(image: Image.Image) -> np.ndarray:
    """(SIDE, SIDE) float32 grey values of an image."""
    return np.asarray(image.convert("F").resize((SIDE, SIDE), Image.Resampling.BOX))


def signs(grey: np.ndarray) -> np.ndarray:
    """(BITS,) bool: signs of the lowest cosine frequencies of a thumbnail (SIDE, SIDE), without the mean."""
    return (_waves() @ grey @ _waves().T).ravel()[1:] > 0


def fingerprint(data: bytes) -> np.ndarray:
    """(BITS,) bool of an encoded image, see `signs`.

    Scaling and JPEG change few of them; different photographs, mirrored ones too, differ in many. OSError or
    SyntaxError if the bytes are no whole image.
    """
    image = Image.open(io.BytesIO(data))
    image.draft("L", (2 * SIDE, 2 * SIDE))
    return signs(thumbnail(image))


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N, M) number of bits by which fingerprints (N, BITS) and (M, BITS) differ."""
    signs = [2 * bits.astype(np.float32) - 1 for bits in (one, other)]
    return ((BITS - signs[0] @ signs[1].T) / 2).round().astype(int)


def turned(grey: np.ndarray) -> list[np.ndarray]:
    """The eight ways, mirrored or not, to turn images (..., S, S) by quarters."""
    return [np.rot90(side, k, axes=(-2, -1)) for side in (grey, grey[..., ::-1]) for k in range(4)]


def similar(thumbnails: np.ndarray, block: int = 1024) -> list[tuple[int, int]]:
    """Pairs i < j of thumbnails (N, S, S) that show the same picture, turned or mirrored or not.

    Their fingerprints differ in `LIMIT` bits at most and their grey values by `NEAR` of their contrast: pictures that
    are merely alike, such as two cracks in grey concrete, pass the first test alone. Constant images have no pairs.
    """
    contrast = thumbnails.std(axis=(1, 2))
    shown = np.flatnonzero(contrast > 1)
    grey = thumbnails[shown] - thumbnails[shown].mean(axis=(1, 2), keepdims=True)
    own = np.array([signs(g) for g in grey]).reshape(-1, BITS)
    pairs = set()
    for way in turned(grey):
        bits = np.array([signs(g) for g in way]).reshape(-1, BITS)
        for start in range(0, len(shown), block):
            rows, columns = np.nonzero(distances(own[start : start + block], bits[start:]) <= LIMIT)
            rows, columns = rows + start, columns + start
            later = columns > rows
            rows, columns = rows[later], columns[later]
            for i, j in zip(
                np.array_split(rows, len(rows) // block + 1), np.array_split(columns, len(rows) // block + 1)
            ):
                apart = np.sqrt(((grey[i] - way[j]) ** 2).mean(axis=(1, 2)))
                same = apart <= NEAR * np.minimum(contrast[shown[i]], contrast[shown[j]])
                pairs |= {(int(a), int(b)) for a, b in zip(shown[i[same]], shown[j[same]])}
    return sorted(pairs)
