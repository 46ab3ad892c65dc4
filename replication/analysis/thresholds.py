"""Where to cut the minority's log-odds: tuned on validation images, or read off test labels in the order of scores."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SAME = 1e-12
"""macro F1s of two cuts nearer than this are equal: they are sums of two quotients of whole numbers"""


def two_f1(found: NDArray, said: NDArray, minority: int, images: int) -> tuple[Floats, Floats]:
    """Minority and macro F1 (...,) of two classes, 0 where undefined.

    From the minority images found (...,), the images said to be minority (...,), how many are and how many there are.
    """
    right = images - minority - (said - found)  # majority images called so
    of_minority = 2 * found / np.maximum(minority + said, 1)
    of_majority = 2 * right / np.maximum(2 * images - minority - said, 1)
    return of_minority, (of_minority + of_majority) / 2


def tuned(odds: Floats, minority: Mask) -> Floats:
    """Thresholds (R,) of greatest macro F1 for log-odds (R, M) of images that are minority or not (M,).

    An image is called minority from the threshold on. Candidates lie halfway between neighbouring distinct scores and
    beyond both ends (there -inf and inf); of equally good ones the middle one is taken, the lower of two.
    """
    rows, m = odds.shape
    order = np.argsort(odds, axis=1)
    scores = np.take_along_axis(odds, order, axis=1)
    found = minority.sum() - np.cumsum(minority[order], axis=1)  # minority images above each image
    found = np.concatenate([np.full((rows, 1), minority.sum()), found], axis=1)  # (R, M + 1)
    macro = two_f1(found, m - np.arange(m + 1), int(minority.sum()), m)[1]
    macro[:, 1:-1][scores[:, 1:] == scores[:, :-1]] = -1
    best = macro >= macro.max(axis=1, keepdims=True) - _SAME
    rank = np.cumsum(best, axis=1)
    cut = np.argmax(rank == (rank[:, -1:] + 1) // 2, axis=1)
    ends = np.pad(scores, ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))
    below, above = np.take_along_axis(ends, np.stack([cut, cut + 1], axis=1), axis=1).T
    inside = np.isfinite(below) & np.isfinite(above)
    half = np.where(inside, below, 0) / 2 + np.where(inside, above, 0) / 2
    half = np.where(half > below, half, above)  # of neighbouring floats the middle may be the lower one
    return np.where(inside, half, np.where(np.isfinite(below), np.inf, -np.inf))


def crossed(odds: Floats, minority: Mask, most: int, folds: int = 5) -> Mask:
    """Which images (M,) are called minority by thresholds that were tuned without them, a part of the images at a time.

    A threshold tuned as `tuned` on at most `most` minority images would flatter itself on the images that it was tuned
    on; so every fifth image of each class is called by the threshold of the others.
    """
    fold = np.empty(len(minority), int)
    for here in (minority, ~minority):
        fold[here] = np.arange(here.sum()) % folds
    said = np.zeros(len(minority), bool)
    for k in range(folds):
        rest = np.flatnonzero(fold != k)
        rest = rest[first_minority(minority[rest], most)]
        said[fold == k] = odds[fold == k] >= tuned(odds[rest][None], minority[rest])[0]
    return said


def first_minority(minority: Mask, most: int) -> Mask:
    """The images (M,) of the majority and the first `most` of the minority."""
    return ~minority | (np.cumsum(minority) <= most)


def order_of(odds: Floats, minority: Mask) -> bytes:
    """Whether images (N,) are minority, by falling log-odds (N,), as bits; of equal ones the first comes first."""
    return np.packbits(minority[np.argsort(-odds, kind="stable")]).tobytes()


def in_order(order: bytes, images: int) -> Mask:
    """What `order_of` was made of: whether the images (N,), sorted by falling log-odds, are minority.

    ValueError where there are not so many bits.
    """
    if len(order) != -(-images // 8):
        raise ValueError(f"the order of {images} images takes {-(-images // 8)} bytes: found {len(order)}")
    return np.unpackbits(np.frombuffer(order, np.uint8), count=images).astype(bool)


def at_cut(order: bytes, images: int, cut: int) -> tuple[float, float]:
    """Minority and macro F1 where the `cut` images of the highest scores are called minority (two classes).

    With the cut of another arm these are the scores at matched positives: what its threshold alone would give.
    ValueError for a cut that is not among the images.
    """
    minority = in_order(order, images)
    if not 0 <= cut <= images:
        raise ValueError(f"cut = {cut} is not allowed: 0 to {images}")
    both = two_f1(minority[:cut].sum(), np.asarray(cut), int(minority.sum()), images)
    return float(both[0]), float(both[1])
