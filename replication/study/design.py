"""Designs: the runs of a claim, each with the part that it plays there, and the pilots that choose its learning rates."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from replication.run import CONFIRMATORY, Run
from replication.study.arms import arm as arm_of
from replication.study.networks import network as network_of
from replication.study.rates import Place, learning_rate

PRIMARY, SECONDARY, EXPLORATORY, SHOWN = "primary", "secondary", "exploratory", "shown"
"""roles of a cell: it may set the headline; it is counted; it is judged outside counts; it is not judged"""
PAIR = ("plain", "final_bn")
SIGMOIDS = ("plain_sigmoid", "final_bn_sigmoid", "plain_sigmoids", "final_bn_sigmoids")
BASE_UPDATES = 150
"""updates of the base cell (10 epochs of 1010 images in batches of 64, rounded)"""


@dataclass(frozen=True)
class Cell:
    """One setting with one network, as a claim plans it."""

    setting: str
    network: str = "simple_cnn"
    role: str = SECONDARY
    seeds: int = 60
    """confirmatory seeds, counted from `run.CONFIRMATORY`"""
    kinds: tuple[str, ...] = ("own", "shared", "default")
    """kinds of learning rate, see `study.rates.KINDS`"""
    version: int = 1
    """the first committed version of `registration.json` that names it; 0: published before there was one"""
    options: tuple[tuple[str, tuple], ...] = ()
    """what a claim's design asks of this cell beyond its usual, e.g. (("epochs", (10, 30)),)"""
    images: str = field(default="", compare=False)
    """what readers call its images where the design trains on other settings than the cell's own"""

    def option(self, name: str, default: tuple = ()) -> tuple:
        """What this cell asks for under a name."""
        return dict(self.options).get(name, default)

    @property
    def numbers(self) -> range:
        """The confirmatory seeds."""
        return range(CONFIRMATORY, CONFIRMATORY + self.seeds)


@dataclass(frozen=True)
class Entry:
    """One entry of a design: a run, and the part that it plays in the claim."""

    variant: str
    """which form of the claim, where it has several"""
    kind: str
    """kind of learning rate, see `study.rates.KINDS`"""
    arm: str
    level: float
    """the factor on the claim's x axis (minority images, batch size, epochs ...), else 0"""
    run: Run


@dataclass(frozen=True)
class Comparison:
    """Some arms with everything else equal: the same seeds, at every kind of learning rate."""

    place: Place
    """the setting, the network, and where the arms' learning rates are chosen"""
    arms: tuple[str, ...]
    seeds: range
    kinds: tuple[str, ...]
    variant: str = ""
    level: float = 0
    factors: tuple[tuple[str, Any], ...] = ()
    rate: float = 0.0
    """if not 0, the learning rate of every arm, and none is chosen; `kinds` is then how it is told in tables"""

    def entries(self) -> Iterator[Entry]:
        """Its runs. ValueError where a learning rate has not been chosen."""
        shared = network_of(self.place.network).factors(self.place.setting) | dict(self.factors)
        rates = {
            (kind, arm): self.rate or learning_rate(self.place, arm, kind) for kind in self.kinds for arm in self.arms
        }
        for seed in self.seeds:
            for (kind, arm), rate in rates.items():
                run = Run(setting=self.place.setting, **shared, learning_rate=rate, seed=seed, **arm_of(arm).factors)
                yield Entry(self.variant, kind, arm, self.level, run)

    def chosen(self) -> list[Entry]:
        """Its runs; none as long as a learning rate has not been chosen, or the images that name its place are not here."""
        try:
            return list(self.entries())
        except ValueError:
            return []

    def tuned(self) -> Iterator[tuple[Place, str]]:
        """(place, arm) of every learning rate that it needs."""
        if self.rate:
            return
        base = Place(self.place.setting, self.place.network)
        for kind in self.kinds:
            for arm in self.arms:
                if kind != "default":
                    yield base if kind == "base" else self.place, arm_of(arm).reference if kind == "shared" else arm


def compare(
    cell: Cell,
    arms: Iterable[str],
    *,
    setting: str = "",
    kinds: Iterable[str] = (),
    seeds: int = 0,
    variant: str = "",
    level: float = 0,
    at: Iterable[str] = (),
    rate: float = 0.0,
    **factors: Any,
) -> Comparison:
    """A comparison of arms in a cell; on the cell's own setting, at its kinds of rate and on its seeds unless given.

    At one `rate`, if that is not 0, nothing is tuned, and the kind counts as `default`. `at` names those of the `factors`
    that have learning rates of their own, as the levels of a curve.
    """
    where = setting or cell.setting
    tuned = tuple((name, factors[name]) for name in at if factors[name] != getattr(Run(), name))
    numbers = cell.numbers[: seeds or cell.seeds]
    place = Place(where, cell.network, tuned)
    named = ("default",) if rate else tuple(kinds or cell.kinds)
    return Comparison(place, tuple(arms), numbers, named, variant, level, tuple(factors.items()), rate)


Design = Callable[[Cell], Iterable[Comparison]]


def pilot_seeds(network: str) -> range:
    """Seeds that learning rates are chosen on, on which no verdict rests: ten, or five where all layers are trained."""
    found = network_of(network)
    return range(5) if found.init == "imagenet" and found.trained == "all" else range(10)


def pilot_runs(place: Place, arm: str, grid: Iterable[float], seeds: Iterable[int]) -> list[Run]:
    """The runs that choose an arm's learning rate at a place: every rate of the grid on every pilot seed."""
    shared = network_of(place.network).factors(place.setting) | dict(place.at) | dict(arm_of(arm).factors)
    return [Run(setting=place.setting, **shared, learning_rate=rate, seed=seed) for rate in grid for seed in seeds]
