"""One training with every factor fixed (`Run`), the grids made of them, and the key that names a result."""

import dataclasses
import functools
import hashlib
import itertools
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROTOCOL = 1
"""Raised by hand when training results change on purpose; part of every key."""

CONFIRMATORY = 100
"""First confirmatory seed; the seeds below it are pilots, used for choosing learning rates and never again."""


SAMPLINGS = ("shuffle", "oversample")
FINE_TUNE = "fine_tune"
"""fastai's recipe, see `training.optimizers`: a schedule of several rates, with an Adam of its own"""
SCHEDULES = ("one_cycle", "constant", FINE_TUNE)
OPTIMIZERS = ("adam", "adamw", "sgd")
AUGMENTATIONS = ("setting", "none")


@dataclass(frozen=True)
class Run:
    """One training. Two runs that are equal give equal results; defaults never change (they are not in the key)."""

    setting: str = "digits"
    """data set with its class map, see `replication.data.settings`"""
    network: str = "simple_cnn"
    """body of the network, see `replication.training.bodies`"""
    init: str = "random"
    """`random`, `imagenet`, a recipe's name (see `replication.study.recipes`), or the path of a checkpoint"""
    head: str = "linear"
    """what stands between the body and the final norm, see `replication.training.heads`"""
    final_norm: str = "none"
    """the layer under study, see `replication.training.heads.FINAL_NORMS`"""
    output: str = "softmax"
    """`softmax`, `sigmoid` (one logit, two classes) or `sigmoids` (one logit a class, argmax)"""
    loss: str = "cross_entropy"
    """see `replication.training.losses`"""
    sampling: str = "shuffle"
    """`shuffle` (each image once an epoch) or `oversample` (classes equally often, with replacement)"""
    n_majority: int = 1000
    """training images of each majority class"""
    n_minority: int = 10
    """training images of each minority class"""
    schedule: str = "one_cycle"
    """`one_cycle` (rate and momentum, as torch's OneCycleLR by default), `constant`, or `fine_tune`: fastai's, one epoch
    with a frozen body before the others, with the optimizer that belongs to it"""
    learning_rate: float = 3e-3
    """peak rate of Adam"""
    epochs: int = 10
    """passes over the training images"""
    updates: int = 0
    """if not 0, exactly this many updates instead of `epochs` passes"""
    stop_f1: float = 0.0
    """if not 0, stop after two consecutive epochs with a minority validation F1 of at least this"""
    batch_size: int = 64
    """images an update; the rest of a pass that fills no batch is dropped"""
    precision: str = "float32"
    """`float32`, `tf32` (on a GPU; float32 elsewhere), `bfloat16` (autocast) or `float64` (tests)"""
    trained: str = "all"
    """`all` layers, or the `head` alone: the body is then frozen in evaluation mode"""
    input_side: int = 0
    """side in pixels at which the body sees the images (bilinear); 0: as they are packed"""
    optimizer: str = "adam"
    """`adam`, `adamw` (decoupled weight decay) or `sgd` (momentum 0.9)"""
    weight_decay: float = 0.0
    """of `adamw` and `sgd`, on weights alone: not on biases, nor on a norm's scale and shift"""
    shift: float = 0.0
    """of `bn_fixed_shift`: the minority's shift minus the majority's; each class has half of it"""
    shift_rate: float = 1.0
    """learning rate of the final norm's shift, as a multiple of `learning_rate`"""
    ghost_batch: int = 0
    """if not 0, the final norm takes its batch statistics over parts of so many images"""
    label_smoothing: float = 0.0
    """share of each label that is spread evenly over the classes (Szegedy et al. 2016, arXiv:1512.00567, section 7)"""
    augmentation: str = "setting"
    """`setting` (training images are flipped and shifted where the setting says so) or `none`"""
    split_seed: int = -1
    """if not negative, what the split follows from in place of `seed`, with which class is the minority where that varies"""
    seed: int = CONFIRMATORY
    """split, initial weights, batch order and augmentation all follow from it"""

    @property
    def drawn_by(self) -> int:
        """The seed of the split."""
        return self.seed if self.split_seed < 0 else self.split_seed

    def changed(self) -> dict:
        """The factors that differ from their defaults, by name."""
        return {f.name: value for f in dataclasses.fields(self) if (value := getattr(self, f.name)) != f.default}

    def key(self, data_digest: str, checkpoint_digest: str = "") -> str:
        """Name of this run's result: 16 hex digits of SHA-256 over the changed factors, the data and `PROTOCOL`.

        A folder of one's own counts by its content, which `data_digest` stands for, and not by where it lies.
        """
        named = {"factors": self.changed(), "data": data_digest, "protocol": PROTOCOL}
        if self.setting.startswith("folder:"):
            named["factors"]["setting"] = "folder"
        if checkpoint_digest:  # its content counts, not where it lies
            named["factors"]["init"] = named["checkpoint"] = checkpoint_digest
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def checkpoint_digest(init: str) -> str:
    """16 hex digits of SHA-256 of the checkpoint that `Run.init` names; empty for `random` and `imagenet`.

    ValueError where there is no such file.
    """
    if init in ("random", "imagenet"):
        return ""
    try:
        return hashlib.sha256(Path(init).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise ValueError(
            f"no checkpoint at init = {init!r} ({error.strerror}): allowed are random, imagenet, a recipe and a checkpoint's path"
        ) from error


FACTORS = tuple(f.name for f in dataclasses.fields(Run))


def grid(**factors) -> list[Run]:
    """Runs for every combination of the values given: `grid(seed=range(100, 103), batch_size=64)` is 3 runs."""
    lists = [v if isinstance(v, Iterable) and not isinstance(v, str) else [v] for v in factors.values()]
    return [Run(**dict(zip(factors, values))) for values in itertools.product(*lists)]


def entropy(seed: int, purpose: str) -> list[int]:
    """Seed material for numpy's SeedSequence that is independent for every (seed, purpose)."""
    return [zlib.crc32(purpose.encode()), seed]
