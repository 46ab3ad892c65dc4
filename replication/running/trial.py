"""The trial of one's own images (`replication try`): a few arms tuned, trained and compared; nothing done is lost."""

import dataclasses
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from replication.analysis.choices import ARMS
from replication.data.loading import load
from replication.data.packs import folder_of, pack, pack_folder
from replication.data.settings import setting as setting_of
from replication.data.sizes import LEAST_TRAIN, Sizes, members, sizes, waste
from replication.data.sources import PARTS, Source
from replication.data.splits import indices
from replication.data.survey import Survey, survey
from replication.results.store import Store
from replication.run import CONFIRMATORY, Run
from replication.running import tuning
from replication.running.local import key_of, within
from replication.study.arms import arm as arm_of
from replication.study.design import BASE_UPDATES
from replication.study.networks import network as network_of
from replication.study.rates import Place, learning_rate, own_rates

NETWORK = "efficientnet_lite0:imagenet:head"
PIXELS, PIXELS_ALL = 160, 128
"""sides of the images where the head alone is trained, and where all layers are"""


@dataclass(frozen=True)
class Trial:
    """One folder or table of images, one network, and how many images train."""

    path: Path
    setting: str
    network: str
    seeds: int
    sizes: Sizes
    shares: dict[str, int]
    """images of every class in the folder, majority first"""
    fixed: bool
    """whether the owner's split leaves the same images to every seed"""

    @property
    def at(self) -> tuple[tuple[str, int], ...]:
        """The factors in which its runs differ from the book's base design."""
        short = self.sizes.n_majority + self.sizes.n_minority < BASE_UPDATES * Run().batch_size // Run().epochs
        factors = {
            "n_majority": self.sizes.n_majority,
            "n_minority": self.sizes.n_minority,
            "updates": BASE_UPDATES if short else 0,
        }
        return tuple((name, value) for name, value in factors.items() if value != getattr(Run(), name))

    def ratio(self) -> str:
        """That the folder is less imbalanced than the trainings, and how to try its own ratio; else empty."""
        many, *rest = self.shares.values()
        few, (n, m) = sum(rest), (self.sizes.n_majority, self.sizes.n_minority)
        if few > many and "you asked" not in self.sizes.sentence:
            return (
                f"The other classes together have more images ({few}) than {next(iter(self.shares))} ({many}): to try one "
                "rare class against all others, put those into one folder."
            )
        if few * n <= 2 * m * many or "you asked" in self.sizes.sentence:
            return ""
        left, least = (int(0.95 * (k - self.sizes.test - held)) for k, held in zip((many, few), self.sizes.validation))
        n = min(n, left, least * many // few)
        if n < LEAST_TRAIN:
            return ""
        return (
            f"The folder has {few / (many + few):.0%} minority images, more than these trainings: with --train "
            f"{n}:{max(1, n * few // many)} its own ratio is tried."
        )

    @property
    def place(self) -> Place:
        """Where its learning rates are chosen."""
        return Place(self.setting, self.network, self.at)

    @property
    def searches(self) -> list[tuple[Place, str]]:
        """The learning rates that must be chosen."""
        return [(self.place, arm) for arm in ARMS]

    def runs(self, arm: str) -> list[Run]:
        """An arm's confirmatory runs at its own learning rate. ValueError where that has not been chosen."""
        factors = network_of(self.network).factors(self.setting) | dict(self.at) | dict(arm_of(arm).factors)
        rate = learning_rate(self.place, arm)
        seeds = range(CONFIRMATORY, CONFIRMATORY + self.seeds)
        return [Run(setting=self.setting, **factors, learning_rate=rate, seed=seed) for seed in seeds]

    def command(self) -> str:
        """The command that makes it anywhere."""
        s = setting_of(self.setting)
        majority = ["--majority", s.majority] if s.majority else []
        return shlex.join(
            [
                "replication",
                "try",
                str(self.path),
                *majority,
                "--network",
                self.network,
                "--pixels",
                str(s.pixels),
                "--train",
                f"{self.sizes.n_majority}:{self.sizes.n_minority}",
                "--seeds",
                str(self.seeds),
            ]
        )


def _setting(path: Path, majority: str, pixels: int) -> str:
    """The name of the setting; ValueError where the spelling means another folder that is there too."""
    found = setting_of(f"folder:{path}" + (f"::{majority}" if majority else "") + f"@{pixels}")
    if folder_of(found.source) != path or found.majority != majority:
        raise ValueError(
            f"{path} cannot be distinguished from {folder_of(found.source)}, which also exists: rename one of them"
        )
    return found.name


def _loaded(name: str, seen: Survey) -> Source:
    """The images, packed; broken files are left out, as the survey has said which they are."""
    s = setting_of(name)
    try:
        return load(s.source, s.pixels)
    except ValueError:
        if not seen.broken:
            raise
    pack(folder_of(s.source), s.pixels, pack_folder(s.source, s.pixels), skip_broken=True)
    return load(s.source, s.pixels)


def _train(source: Source, name: str, found: Sizes, asked: tuple[int, int] | None) -> Sizes:
    """The sizes with as many training images as asked for; within the owner's split all there are, unless asked."""
    s = setting_of(name)
    counts = (found.n_majority, found.n_minority)
    if asked:
        counts, why = asked, "as you asked"
    elif source.parts is not None:
        held = (0, 0) if (source.parts == PARTS.index("validation")).any() else found.validation
        counts = tuple(
            int((source.parts[numbers] == 0).sum())
            - (k + waste(source, numbers[source.parts[numbers] == 0]) if k else 0)
            for numbers, k in zip(members(source, s, 0), held)
        )
        why = "all training images of your own split"
    if counts == (found.n_majority, found.n_minority):
        return found
    fitted = dataclasses.replace(s, test=found.test, validation=found.validation)
    for seed in (*range(10), CONFIRMATORY):  # raises where they do not last
        indices(source, fitted, *counts, seed)
    return dataclasses.replace(
        found,
        n_majority=counts[0],
        n_minority=counts[1],
        sentence=(
            f"Trains with {counts[0]} images of the majority and {counts[1]} of the minority, {why}; tests on {found.test} of "
            f"each, validates on {found.validation[0]} and {found.validation[1]}."
        ),
    )


def prepare(
    path: Path | str,
    majority: str = "",
    network: str = NETWORK,
    seeds: int = 20,
    pixels: int = 0,
    train: tuple[int, int] | None = None,
    tell: Callable[[str], object] = print,
) -> tuple[Trial, Survey]:
    """Look at a folder or a table of images, say what is there and how many images will train; the images are packed.

    `pixels` 0: the usual side. ValueError where the images are too few, or what is there contradicts itself.
    """
    found = network_of(network)
    seen = survey(path)
    tell("\n".join(seen.lines(majority)))
    if majority and majority not in seen.counts:
        raise ValueError(
            f"there is no class {majority!r} in {seen.path}: its classes are {', '.join(sorted(seen.counts))}"
        )
    if len(seen.counts) < 2:
        raise ValueError(
            f"{seen.path} has one class, {next(iter(seen.counts))!r}: at least two are needed, a folder each"
        )
    name = _setting(seen.path, majority, pixels or (PIXELS if found.trained == "head" else PIXELS_ALL))
    source = _loaded(name, seen)
    s = setting_of(name)
    fitting = _train(source, name, sizes(source, s), train)
    tell(fitting.sentence)
    first = source.classes[s.class_map(0, source)[0][0]]
    shares = {first: seen.counts[first]} | {c: n for c, n in seen.counts.items() if c != first}
    fixed = source.parts is not None and bool((source.parts == PARTS.index("validation")).any())
    made = Trial(seen.path, name, str(found), seeds, fitting, shares, fixed and not train)
    if ratio := made.ratio():
        tell(ratio)
    return made, seen


def carry_out(
    trial: Trial, store: Store, device: str = "auto", workers: int | None = None, time_budget: float | None = None
) -> bool:
    """Choose the arms' learning rates on pilot seeds and train the confirmatory ones; whether all is done.

    Every finished run is in the store, and goes into the next call. ValueError: as `local.carry_out_all`.
    """
    train = within(time_budget, store, device, workers)
    settled, short = tuning.tune(trial.searches, store, train)
    tuning.write_rates(settled, own_rates())
    if short:
        return False
    runs = sorted((run for arm in ARMS for run in trial.runs(arm)), key=lambda run: run.seed)
    train(runs)
    return {key_of(run) for run in runs} <= store.keys()
