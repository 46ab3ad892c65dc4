"""A look at every image of a folder of one's own: which are broken, constant, deep, or the same picture twice."""

import functools
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from replication.data.decoding import Depth, is_deep, opened, shallow
from replication.data.fingerprints import SIDE, similar, thumbnail
from replication.data.folders import Listing, own, read, stamp


@dataclass(frozen=True)
class Look:
    """What was seen of N images, by their number in the listing."""

    listing: Listing
    broken: dict[int, str]
    """why an image is none"""
    constant: tuple[int, ...]
    """images of one colour"""
    deep: tuple[int, ...]
    """images with more than 8 bits a grey value"""
    depth: Depth | None
    """the range of the deep ones"""
    identical: tuple[tuple[int, int], ...]
    """pairs of the same bytes, neighbours in a chain"""
    near: tuple[tuple[int, int], ...]
    """pairs that show the same picture, turned, mirrored, scaled or compressed, but are no same bytes"""
    sides: tuple[int, int]
    """shortest and longest side in pixels"""


def streamed(function: Callable, items: Iterable, total: int, words: str) -> Iterator:
    """Results of a function of every item in their order, by one thread per core, with few items in memory at once."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool, tqdm(total=total, unit="image", desc=words, leave=False) as progress:
        waiting: deque = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
                progress.update()
        while waiting:
            yield waiting.popleft().result()
            progress.update()


def _seen(item: tuple[int, bytes]) -> tuple:
    """Number, sum of the bytes, thumbnail, extremes of a deep image, whether constant, sides; or number and the fault."""
    number, data = item
    try:
        image = opened(data, 2 * SIDE)
        sides, extremes, whole = image.size, None, True
        if is_deep(image):
            grey = np.asarray(image)
            if not np.isfinite(grey).all():
                raise ValueError("it holds values that are not numbers")
            extremes, whole = (float(grey.min()), float(grey.max())), grey.dtype.kind in "iu"
            constant, small = extremes[0] == extremes[1], thumbnail(image)
        else:
            image = shallow(image)
            bounds: Any = image.getextrema()  # a pair a channel
            constant = all(low == high for low, high in bounds)
            small = thumbnail(image)
        return number, hashlib.sha256(data).digest(), small, extremes, whole, constant, sides
    except Exception as error:  # Pillow's decoders let out whatever they stumble on
        return number, str(error) or type(error).__name__


def look(path: Path) -> Look:
    """A look at all images below a folder or in a table, see `folders.own`; remembered while the files stay as they are."""
    return _look(path, json.dumps(stamp(path)))


@functools.lru_cache(maxsize=4)
def _look(path: Path, _stamp: str) -> Look:
    listing = own(path)
    n = len(listing.photos)
    thumbnails, sums, broken = np.zeros((n, SIDE, SIDE), np.float32), {}, {}
    constant, deep, sides, low, high, whole = [], [], [], [], [], True
    for number, *facts in streamed(_seen, read(listing.photos), n, f"looking at {path.name}"):
        if len(facts) == 1:
            broken[number] = facts[0]
            continue
        sums[number], thumbnails[number], extremes, ints, same, size = facts
        sides += size
        if same:
            constant.append(number)
        if extremes:
            deep.append(number)
            low.append(extremes[0])
            high.append(extremes[1])
            whole &= ints
    depth = Depth.of(min(low), max(high), whole) if deep else None
    if depth:
        thumbnails[deep] = (thumbnails[deep] - depth.black) * (255 / (depth.white - depth.black))
    first: dict[bytes, int] = {}
    identical, same_as = [], {}
    for number in sorted(sums):
        before = first.get(sums[number])
        if before is not None:
            identical.append((before, number))
            same_as[number] = before
        first.setdefault(sums[number], number)
    single = np.array([number for number in sorted(sums) if number not in same_as], int)
    near = [(int(single[i]), int(single[j])) for i, j in similar(thumbnails[single])]
    return Look(
        listing,
        broken,
        tuple(sorted(constant)),
        tuple(sorted(deep)),
        depth,
        tuple(identical),
        tuple(near),
        (min(sides, default=0), max(sides, default=0)),
    )


def joined(groups: np.ndarray, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Groups (N,) after images of every pair have come into one; numbered from 0."""
    parent = list(range(int(groups.max(initial=-1)) + 1))

    def root(g: int) -> int:
        while parent[g] != g:
            parent[g] = parent[parent[g]]
            g = parent[g]
        return g

    for i, j in pairs:
        a, b = sorted((root(int(groups[i])), root(int(groups[j]))))
        parent[b] = a
    return np.unique([root(int(g)) for g in groups], return_inverse=True)[1]
