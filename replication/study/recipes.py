"""Recipes: initial weights that the package makes itself, by the names that `Run.init` may bear."""

import hashlib
import json
from pathlib import Path

from replication.data.loading import load
from replication.paths import home
from replication.run import PROTOCOL, Run, checkpoint_digest
from replication.study import weights

RECIPES = {
    "other_crops": {
        "sources": ["plantvillage"],
        "without": ["Apple"],
        "pixels": 32,
        "epochs": 20,
        "learning_rate": 1e-3,
        "batch_size": 128,
        "precision": "float32",
        "seed": 0,
    },
}
"""name -> what `running.pretraining.pretrain` is given: here pepper, tomato and potato leaves, eight classes"""
THREADS = 2
"""of the CPU that a recipe is carried out with, whatever there is: the weights are the same to the bit on machines alike"""


def recipe_digest(name: str, network: str) -> str:
    """16 hex digits of SHA-256 of a recipe, the network, the images that it is carried out on and `PROTOCOL`.

    It stands for the weights in a run's key. Elsewhere the recipe gives weights that differ by rounding at first and by
    more at the end, as any training does; every result has the digest of its own as the fact `weights`.
    """
    recipe = RECIPES[name]
    images = [load(source, recipe["pixels"]).digest for source in recipe["sources"]]
    made_of = [PROTOCOL, recipe, network, images]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def weights_digest(run: Run) -> str:
    """What a run's initial weights add to its key: a digest of the recipe, checkpoint or ImageNet weights; else empty.

    ValueError for a checkpoint that is not there, and for ImageNet weights that this machine has never read.
    """
    if run.init == "imagenet":
        return weights.digest_of(run.network)
    return recipe_digest(run.init, run.network) if run.init in RECIPES else checkpoint_digest(run.init)


def checkpoint(name: str, network: str) -> Path:
    """Where this machine keeps the weights of a recipe."""
    return home() / "pretrained" / f"{network}-{name}-{recipe_digest(name, network)}.pt"


def facts(run: Run) -> dict[str, str]:
    """What a result tells of the run's initial weights: `checkpoint`, see `weights_digest`, and, of a recipe, `weights`.

    The latter is the digest of the very file that this machine made.
    """
    made_of = weights_digest(run)
    told = {"checkpoint": made_of} if made_of else {}
    return told | (
        {"weights": checkpoint_digest(str(checkpoint(run.init, run.network)))} if run.init in RECIPES else {}
    )
