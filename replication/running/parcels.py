"""What travels to a cluster's nodes: packs, features and weights in parcels, and what a worker is told beforehand."""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from replication import files
from replication.data.packs import pack_folder
from replication.data.settings import setting as setting_of
from replication.data.splits import data_digest
from replication.paths import home
from replication.run import Run
from replication.study import recipes


@dataclass(frozen=True)
class Parcel:
    """A folder or file of this machine's home, in the object store: name there -> bytes (n,) uint8."""

    at: str
    """path below the home, the same on every node"""
    contents: dict[str, object] = field(repr=False)
    """relative path, empty for a file, -> reference"""

    def unpack(self) -> None:
        """Write it into this node's home unless it is there; processes of one node wait for one another."""
        import ray

        target = home() / self.at
        with _alone(target):
            if os.path.lexists(target):
                return
            found = dict(zip(self.contents, ray.get(list(self.contents.values()))))
            if list(found) == [""]:
                files.write(target, found[""].tobytes())
                return
            with files.whole(target) as folder:
                for name, content in found.items():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    content.tofile(folder / name)


class _alone:
    """A lock of this node's that ends with the process."""

    def __init__(self, target: Path):
        self.path = target.with_name(f".{target.name}.lock")

    def __enter__(self):
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("a")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_) -> None:
        self.file.close()


def parcel(path: Path, put) -> Parcel:
    """A folder or file below the home of this machine as a parcel; `put` keeps an array (n,) in the object store."""
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    names = [p.relative_to(path).as_posix() if p != path else "" for p in found]
    return Parcel(path.relative_to(home()).as_posix(), {n: put(np.fromfile(p, np.uint8)) for n, p in zip(names, found)})


def needed(runs: Sequence[Run]) -> list[Path]:
    """What below this machine's home runs are trained with: packs, recipes' checkpoints, ImageNet's weights.

    Packs and files of weights are made where they are not there. ValueError for a checkpoint without an absolute path.
    """
    found: dict[Path, None] = {}
    for source, pixels in {(s.source, s.pixels) for run in runs if not (s := setting_of(run.setting)).embedded}:
        found[pack_folder(source, pixels)] = None
    for run in runs:
        data_digest(run.setting)  # makes the pack
        if run.init in recipes.RECIPES:
            found[recipes.checkpoint(run.init, run.network)] = None
        elif run.init not in ("random", "imagenet") and not Path(run.init).is_absolute():
            raise ValueError(f"init = {run.init!r} is not allowed on a cluster: an absolute path that every node has")
    found |= dict.fromkeys(_weights(sorted({run.network for run in runs if run.init == "imagenet"})))
    return list(found)


def _weights(networks: Sequence[str]) -> list[Path]:
    """ImageNet's weights of networks as files in one folder below the home, named by what they are."""
    if not networks:
        return []
    from replication.training import weights

    named = json.dumps([(name, weights.digest_of(name)) for name in networks])
    folder = home() / "sent-weights" / hashlib.sha256(named.encode()).hexdigest()[:16]
    for name in networks:
        if not (folder / f"{name}.pt").is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            weights.save(name, folder / f"{name}.pt")
    return [folder]


@functools.cache
def code_digest() -> str:
    """SHA-256 of this package's modules: every node must have the same."""
    found, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        found.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


@dataclass(frozen=True)
class Luggage:
    """What a worker is told before its first task: see `settle`."""

    code: str
    home: str
    """where its node keeps what it is sent"""
    environment: dict[str, str]
    parcels: tuple[Parcel, ...]

    def settle(self) -> None:
        """Unpack what was sent, once a node, and train on one thread as everywhere. ValueError where the code differs."""
        import torch

        if self.code != code_digest():
            raise ValueError("a node has another version of this package than the driver: install the same everywhere")
        os.environ |= self.environment | {"REPLICATION_HOME": self.home}
        for one in self.parcels:
            one.unpack()
            if one.at.startswith("sent-weights/"):
                os.environ["REPLICATION_WEIGHTS"] = str(home() / one.at)
        torch.set_num_threads(1)
