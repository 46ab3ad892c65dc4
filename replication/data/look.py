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

from replication.data.decoding import Depth, kind_of, opened, shallow, unopened
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
    deep: dict[int, str]
    """kind of every image with more than 8 bits a grey value, see `decoding.kind_of`"""
    depths: dict[str, Depth]
    """the range of each kind of them"""
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
    """Number, sum of the bytes, thumbnail, kind and extremes of a deep image, whether constant, sides; or number and fault."""
    number, data = item
    try:
        image = opened(data, 2 * SIDE)
        sides, extremes, kind = unopened(data).size, None, kind_of(image)
        if kind:
            grey = np.asarray(image)
            if not np.isfinite(grey).all():
                raise ValueError("it holds values that are not numbers")
            extremes = (kind, float(grey.min()), float(grey.max()))
            constant, small = extremes[1] == extremes[2], thumbnail(image)
        else:
            image = shallow(image)
            bounds: Any = image.getextrema()  # a pair a channel
            constant = all(low == high for low, high in bounds)
            small = thumbnail(image)
        return number, hashlib.sha256(data).digest(), small, extremes, constant, sides
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
    constant, sides, deep = [], [], {}
    for number, *facts in streamed(_seen, read(listing.photos), n, f"looking at {path.name}"):
        if len(facts) == 1:
            broken[number] = facts[0]
            continue
        sums[number], thumbnails[number], extremes, same, size = facts
        sides += size
        if same:
            constant.append(number)
        if extremes:
            deep[number] = extremes
    depths = {}
    for kind in sorted({kind for kind, _, _ in deep.values()}):
        of = [number for number in deep if deep[number][0] == kind]
        low, high = min(deep[number][1] for number in of), max(deep[number][2] for number in of)
        depths[kind] = depth = Depth.of(low, high, kind == "I")
        thumbnails[of] = (thumbnails[of] - depth.black) * (255 / (depth.white - depth.black))
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
        {number: deep[number][0] for number in sorted(deep)},
        depths,
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
