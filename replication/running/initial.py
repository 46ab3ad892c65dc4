"""Initial weights made where a run first needs them: the recipes of `replication.study.recipes` carried out."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path

from replication.data.loading import load
from replication.data.packs import pack_folder
from replication.data.settings import setting as setting_of
from replication.files import sha256_of, verify, write
from replication.run import Run
from replication.study.networks import network as network_of
from replication.study.recipes import RECIPES, THREADS, checkpoint


def check_here(settings: Iterable[str], networks: Iterable[str]) -> None:
    """ValueError for images or a checkpoint of one's own that are not here, before anybody is told to tune for them."""
    for s in map(setting_of, settings):
        if (
            s.own
            and not Path(s.source.removeprefix("folder:")).exists()
            and not pack_folder(s.source, s.pixels).is_dir()
        ):
            raise ValueError(
                f"no images at {s.source.removeprefix('folder:')}: name a folder with one folder per class"
            )
    for n in map(network_of, networks):
        if n.init not in ("random", "imagenet", *RECIPES) and not Path(n.init).is_file():
            raise ValueError(
                f"no checkpoint at {n.init}: name a file that `replication pretrain` has written, or one of random, imagenet, "
                f"{', '.join(RECIPES)}"
            )


def _refuse_seen(run: Run) -> None:
    recipe, setting = RECIPES[run.init], setting_of(run.setting)
    if setting.source not in recipe["sources"]:
        return
    source = load(setting.source, setting.pixels)
    used = [source.classes[label] for pool in setting.class_map(run.drawn_by, source) for label in pool]
    if seen := [name for name in used if not name.startswith(tuple(recipe["without"]))]:
        raise ValueError(
            f"init = {run.init!r} has seen images of class {seen[0]!r} in {run.setting!r}: allowed are settings of "
            f"{setting.source} whose classes all begin with {', '.join(recipe['without'])}"
        )


def _warn_of_seen(setting: str, init: str) -> None:
    """Warn where a checkpoint of one's own was pretrained on the images of a setting: it would be tested on what it knows."""
    import torch

    try:
        about = torch.load(init, map_location="cpu", weights_only=True, mmap=True).get("provenance", {})
    except Exception:  # whatever is wrong with the file is said where its weights are read
        return
    s = setting_of(setting)
    digest = load(s.source, s.pixels).digest
    for name, known in (about.get("sources") or {}).items():
        source = setting_of(name).source if name.startswith("folder:") else name
        if source == s.source or known == digest:
            but = f" but classes that begin with {', '.join(about['without'])}" if about.get("without") else ""
            warnings.warn(
                f"{init} was pretrained on {name}{but}: where {setting} has the same images, the network is tested on what "
                "it has seen, labels included",
                stacklevel=3,
            )


def _kept_sum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sum_of(path: Path) -> str:
    """The SHA-256 that a checkpoint had when it was made, or was first seen, kept beside it."""
    kept = _kept_sum(path)
    try:
        if re.fullmatch("[0-9a-f]{64}", found := kept.read_text(encoding="ascii").strip()):
            return found
    except (OSError, ValueError):
        pass
    write(kept, sha256_of(path) + "\n")
    return sha256_of(path)


def make(runs: Iterable[Run]) -> None:
    """Carry out the recipes that some runs start from, where that has not been done.

    ValueError for a run some of whose classes the recipe has trained on: it would be tested on images that it knows; and
    for a checkpoint that has changed since it was made.
    """
    runs = list(runs)
    for setting, init in sorted(
        {(run.setting, run.init) for run in runs if run.init not in ("random", "imagenet", *RECIPES)}
    ):
        _warn_of_seen(setting, init)
    wanted = [run for run in runs if run.init in RECIPES]
    for run in wanted:
        _refuse_seen(run)
    for name, network in sorted({(run.init, run.network) for run in wanted}):
        path = checkpoint(name, network)
        if not path.exists():
            import torch  # which takes seconds, and most runs start from no recipe

            from replication.running.pretraining import pretrain

            _kept_sum(path).unlink(missing_ok=True)  # of a file that was deleted to be made again
            before = torch.get_num_threads()
            torch.set_num_threads(THREADS)
            try:
                pretrain(network, out=path, **RECIPES[name])
            finally:
                torch.set_num_threads(before)
        verify({path: _sum_of(path)}, "delete it, and it is made again")
