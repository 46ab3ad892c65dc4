"""Features of a frozen body: computed once for every image and view, kept on the disk, read by thousands of heads."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from replication.data.loading import load
from replication.data.settings import Setting
from replication.data.settings import setting as setting_of
from replication.data.sources import Source
from replication.data.splits import framed
from replication.files import sha256_of, verify, whole
from replication.paths import home
from replication.run import Run
from replication.training.heads import build
from replication.training.loop import scaled, settle
from replication.training.readouts import AT_ONCE, LEAST

FORMAT = 1
"""raised by hand when features change on purpose; part of every key"""
BLOCK = 512
"""images whose features are written at a time: what a kill costs at the most"""
SUM = "features.sha256"
"""file of a block that holds the SHA-256 of its features"""
MEAN, LARGEST = 0, 1
"""the two poolings, in their order on the disk"""


def body_of(run: Run, channels: int, pixels: int) -> nn.Module:
    """The frozen body of a run, in evaluation. ValueError for random weights: every seed would have features of its own."""
    if run.init == "random":
        raise ValueError(
            f"trained = 'head' on network {run.network!r} with random weights keeps no features: init = imagenet, a "
            "recipe or a checkpoint is needed"
        )
    plain = Run(setting=run.setting, network=run.network, init=run.init, trained="head", input_side=run.input_side)
    return build(plain, channels, pixels, 2).body.eval()


def digest_of(body: nn.Module) -> str:
    """16 hex digits of SHA-256 over the names and values of all parameters and buffers, those not saved included."""
    sha = hashlib.sha256()
    for name, values in sorted({**dict(body.named_parameters()), **dict(body.named_buffers())}.items()):
        sha.update(f"{name}{values.dtype}{tuple(values.shape)}".encode())
        sha.update(values.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


def pooled(body: nn.Module, images: np.ndarray, device: torch.device, side: int = 0) -> np.ndarray:
    """Mean and largest value of every feature map, (2, N, F) float32, of uint8 images (N, C, P, P)."""
    at_once = 256 if device.type == "cuda" else max(LEAST, AT_ONCE // (side or images.shape[-1]) ** 2)
    found = []
    with torch.no_grad():
        for part in np.split(images, range(at_once, len(images), at_once)):
            maps = body(scaled(np.ascontiguousarray(part), torch.float32, device)).flatten(2)
            found.append(torch.stack([maps.mean(2), maps.amax(2)]).cpu())
    return torch.cat(found, 1).numpy()


@dataclass(frozen=True)
class Features:
    """Features of one body on the images of one data set at one size, by label of the data set in blocks of `BLOCK`.

    A block is a folder, there whole or not at all, with one array (V, 2, n, F): views, poolings, images, features.
    Travels lightly between processes: images and features are read where they are needed.
    """

    source: str
    pixels: int
    border: bool
    """whether only a frame of the images is seen"""
    mirrored: bool
    """whether there is a second view, mirrored"""
    side: int
    """`Run.input_side`"""
    folder: Path

    @classmethod
    def of(cls, run: Run, body: nn.Module) -> "Features":
        """Where the features of that body for a run's setting are or will be."""
        s, source = setting_of(run.setting), _source(run)
        made_of = [FORMAT, run.network, digest_of(body), run.input_side, s.border, s.augment, source.digest]
        key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
        name = run.network.replace("/", "_")
        folder = home() / "features" / f"{name}-{source.name.replace('/', '_')}-{key}"
        return cls(s.source, s.pixels, s.border, s.augment, run.input_side, folder)

    @cached_property
    def data(self) -> Source:
        """The images."""
        return load(self.source, self.pixels)

    @cached_property
    def ranks(self) -> np.ndarray:
        """(N,) index of every image among those of its label."""
        ranks = np.empty(len(self.data.labels), int)
        for label in range(self.data.n_labels):
            members = np.flatnonzero(self.data.labels == label)
            ranks[members] = np.arange(len(members))
        return ranks

    @cached_property
    def _opened(self) -> dict[tuple[int, int], np.ndarray]:
        return {}

    def __getstate__(self) -> dict:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def members(self, label: int, block: int) -> np.ndarray:
        """Numbers of the images of a block."""
        return np.flatnonzero(self.data.labels == label)[block * BLOCK : (block + 1) * BLOCK]

    def _block_folder(self, label: int, block: int) -> Path:
        return self.folder / f"{label}-{block}"

    def _open(self, label: int, block: int) -> np.ndarray:
        key = label, block
        if key not in self._opened:
            self._opened[key] = np.load(self._block_folder(label, block) / "features.npy", mmap_mode="r")
        return self._opened[key]

    def missing(self, labels: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Blocks (label, number) of the images of some labels that are not there, or not as they were written."""
        wanted = [
            (label, block) for label in sorted(labels) for block in range(-(-int(self.data.counts[label]) // BLOCK))
        ]
        unsure = [] if self._as_written(wanted) else wanted
        for label, block in wanted:
            try:
                there = self._open(label, block).shape[2] == len(self.members(label, block))
            except (OSError, ValueError):
                there = False
            if not there or (label, block) in unsure and not self._as_written([(label, block)]):
                yield label, block

    def _as_written(self, blocks: Iterable[tuple[int, int]]) -> bool:
        """Whether blocks are there with the sums that were written with them."""
        folders = [self._block_folder(*block) for block in blocks]
        try:
            verify({f / "features.npy": (f / SUM).read_text() for f in folders}, "it is computed again")
        except (OSError, ValueError):
            return False
        return True

    def compute(self, body: nn.Module, label: int, block: int, device: str = "cpu") -> int:
        """Compute a block and write it; its number of images. OSError where there is no room."""
        where = torch.device(device)
        settle(where)
        images = np.asarray(self.data.images[self.members(label, block)])
        images = framed(images) if self.border else images
        views = [images, images[..., ::-1]] if self.mirrored else [images]
        body = body.to(where, memory_format=torch.channels_last).eval()
        found = np.stack([pooled(body, view, where, self.side) for view in views])
        self.keep(label, block, found)
        return len(images)

    def keep(self, label: int, block: int, found: np.ndarray) -> None:
        """Write a block, computed here or elsewhere, with its sum."""
        self._opened.pop((label, block), None)
        with whole(self._block_folder(label, block)) as folder:
            np.save(folder / "features.npy", found)
            (folder / SUM).write_text(sha256_of(folder / "features.npy"))

    def rows(self, view: int, numbers: np.ndarray, head: str = "linear") -> np.ndarray:
        """What a head sees of images (n,): mean values (n, F), or largest and mean ones (n, 2F) before fastai's."""
        poolings = (LARGEST, MEAN) if head.startswith("fastai") else (MEAN,)
        labels, ranks = self.data.labels[numbers], self.ranks[numbers]
        out = np.empty((len(numbers), 0), np.float32)
        for label, block in np.unique(np.stack([labels, ranks // BLOCK]), axis=1).T:
            which = np.flatnonzero((labels == label) & (ranks // BLOCK == block))
            kept = self._open(int(label), int(block))[view]
            found = np.concatenate([kept[pooling][ranks[which] % BLOCK] for pooling in poolings], 1)
            out = out if out.shape[1] else np.empty((len(numbers), found.shape[1]), np.float32)
            out[which] = found
        return out


def _source(run: Run) -> Source:
    s: Setting = setting_of(run.setting)
    return load(s.source, s.pixels)


def labels_of(runs: Iterable[Run]) -> set[int]:
    """Labels of the data set that some runs of the same one draw images of."""
    wanted = {(run.setting, run.drawn_by): run for run in runs}.values()
    return {
        label
        for run in wanted
        for pool in setting_of(run.setting).class_map(run.drawn_by, _source(run))
        for label in pool
    }
