"""Learning rates: the grids that tuning chooses from, and what has been chosen where for every arm."""

import functools
import hashlib
import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from replication.data.settings import joined
from replication.data.settings import setting as setting_of
from replication.data.splits import data_digest
from replication.paths import home, root
from replication.study.arms import arm as arm_of
from replication.study.networks import network as network_of

RATE_GRID = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""learning rates that tuning chooses from where the head, or a small network, is trained"""
PILOT_RATES = (*RATE_GRID, 3e-1)
"""those of the pilots published first: one beyond the grid shows what the grid leaves out"""
FINE_TUNING_GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
"""learning rates that tuning chooses from where all layers of a network that knows ImageNet are trained"""
LADDER = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
"""half decades, by which a grid is extended where its end is the best"""
DEFAULT_RATE = 1e-3
"""Adam's, which most people leave as it is"""
KINDS = {
    "own": "each arm's own best learning rate",
    "shared": "both arms at plain's best",
    "default": f"both arms at {DEFAULT_RATE:g}, Adam's default",
    "base": "each arm's best at 1000:10 and batches of 64",
    "wide": "each arm's best of all pilot rates",
}
"""kinds of learning rate that a comparison is made at; the verdict is that at `own`"""


@dataclass(frozen=True)
class Place:
    """Where learning rates are chosen: a setting, a network and, in curves, the level."""

    setting: str
    network: str
    at: tuple[tuple[str, int], ...] = ()
    """factors of a level that has rates of its own, e.g. (("n_minority", 40),)"""

    def __str__(self) -> str:
        return " ".join([f"{self.setting}/{self.network}", *(f"{name}={value}" for name, value in self.at)])

    @property
    def name(self) -> str:
        """Its name in files of rates: a folder of one's own counts by its content, not by where it lies.

        ValueError where such a folder is not there.
        """
        if not setting_of(self.setting).own:
            return str(self)
        return str(replace(self, setting=f"folder:{data_digest(self.setting)}"))

    @property
    def source(self) -> str:
        """Where the rates of all settings of a data set were chosen at first; a folder of one's own has its own alone."""
        s = setting_of(self.setting)
        return self.name if s.own else f"{s.source}/{self.network}"


class NoRate(ValueError):
    """No learning rate has been chosen for an arm at a place; the message has the command that chooses one."""

    def __init__(self, place: Place, arm: str, claim: str = "base"):
        self.place, self.arm = place, arm
        command = shlex.join(
            [
                "replication",
                "tune",
                claim,
                "--settings",
                joined([place.setting]),
                "--networks",
                place.network,
                "--arms",
                arm,
            ]
        )
        super().__init__(f"no learning rate chosen for arm {arm!r} on {str(place)!r}: `{command}` chooses one")


def grid_of(network: str) -> tuple[float, ...]:
    """The learning rates that tuning of a network begins with, see `study.networks.network`."""
    found = network_of(network)
    return FINE_TUNING_GRID if found.init == "imagenet" and found.trained == "all" else RATE_GRID


def extended(grid: tuple[float, ...], best: float) -> tuple[float, ...]:
    """A grid with half a decade more at the end that was the best; the same where the best is inside."""
    at = LADDER.index
    if best == max(grid) and best < LADDER[-1]:
        return (*grid, LADDER[at(best) + 1])
    if best == min(grid) and best > LADDER[0]:
        return (LADDER[at(best) - 1], *grid)
    return grid


def published_rates() -> Path:
    """The file of the rates that the published pilots have chosen."""
    return root() / "results" / "rates.json"


def own_rates() -> Path:
    """The file of the rates that this machine has chosen for places of its own, such as a folder of images."""
    return home() / "rates.json"


def rates_digest(rates: dict) -> str:
    """SHA-256 of what a file of rates holds besides it."""
    rest = {name: value for name, value in rates.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


@functools.cache
def _read(path: Path, changed: int) -> dict[str, dict[str, dict[str, float]]]:
    try:
        found = json.loads(path.read_text())
        if not all(isinstance(arms, dict) for kind in ("grid", "wide") for arms in found[kind].values()):
            raise ValueError("a place without arms")
        if unknown := found.keys() - {"grid", "wide", "tried", "sha256"}:
            raise ValueError(f"{min(unknown)!r} is no part of such a file")
        tried = found.get("tried", {})
        if not all(isinstance(rates, list) and rates for arms in tried.values() for rates in arms.values()):
            raise ValueError("an arm without the rates that were tried for it")
        rates = [rate for kind in ("grid", "wide") for arms in found[kind].values() for rate in arms.values()]
        rates += [rate for arms in tried.values() for of in arms.values() for rate in of]
        if bad := [
            rate for rate in rates if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1e3
        ]:
            raise ValueError(f"{bad[0]!r} is not a learning rate")
        if "sha256" in found and found["sha256"] != rates_digest(found):
            raise ValueError("they were changed since they were chosen, as their checksum is another")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} holds no learning rates: {error}; delete it, or get it back, and tune again"
        ) from error
    return found


def rates_in(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """`grid` and `wide` rates in a file, by place and arm, and those `tried`; none where there is no file."""
    return _read(path, path.stat().st_mtime_ns) if path.exists() else {"grid": {}, "wide": {}}


def chosen_rates(rates: str = "grid") -> dict[str, dict[str, float]]:
    """Learning rates chosen on the pilot seeds (`replication tune`): place -> arm -> rate.

    The best of the `grid`, or `wide`: of all pilot rates. Published ones go before this machine's own.
    """
    return rates_in(own_rates()).get(rates, {}) | rates_in(published_rates()).get(rates, {})


def learning_rate(place: Place, arm: str, kind: str = "own") -> float:
    """The learning rate of an arm at a place, `kind` as in `KINDS`; ValueError if none has been chosen for it."""
    if kind == "default":
        return DEFAULT_RATE
    rates = chosen_rates("wide" if kind == "wide" else "grid")
    if kind == "base":
        place = Place(place.setting, place.network)
    name = arm_of(arm).reference if kind == "shared" else arm
    for where in (place.name, *([] if place.at else [place.source])):
        if name in rates.get(where, {}):
            return rates[where][name]
    raise NoRate(place, name)


def is_published(place: Place, arm: str) -> bool:
    """Whether the published file has a rate of its own for an arm at a place: runs rest on it."""
    return arm in rates_in(published_rates()).get("grid", {}).get(place.name, {})


def at_grid_end(place: Place, arm: str) -> bool:
    """Whether an arm's best rate is at an end of the rates that were tried there."""
    for where in (place.name, place.source):
        if arm in chosen_rates().get(where, {}):
            tried = chosen_rates("tried").get(where, {}).get(arm, list(RATE_GRID))
            return chosen_rates()[where][arm] in (min(tried), max(tried))
    return False
