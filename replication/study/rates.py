"""Learning rates: the grids that tuning chooses from, and what has been chosen for every arm."""

import functools
import json
from pathlib import Path

from replication.data.settings import setting as setting_of
from replication.paths import home
from replication.study.arms import reference

RATE_GRID = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""learning rates that tuning chooses from"""
PILOT_RATES = (*RATE_GRID, 3e-1)
"""learning rates of the pilots: one beyond the grid shows what the grid leaves out"""


def place(setting: str, network: str) -> str:
    """Where the book's learning rates are chosen: `source/network`, for all settings of a source."""
    return f"{setting_of(setting).source}/{network}"


def own_place(setting: str, network: str) -> str:
    """Where this machine chooses further ones: `setting/network`, which go before those of the source."""
    return f"{setting}/{network}"


PUBLISHED_RATES = Path(__file__).with_name("rates.json")


def own_rates() -> Path:
    """The file of the rates that this machine has chosen for places of its own, such as a folder of images."""
    return home() / "rates.json"


@functools.cache
def _read(path: Path, changed: int) -> dict[str, dict[str, dict[str, float]]]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} holds no learning rates: {error}; delete it, or get it back, and tune again") from error


def rates_in(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """`grid` and `wide` rates in a file, by place and arm; none where there is no file."""
    return _read(path, path.stat().st_mtime_ns) if path.exists() else {"grid": {}, "wide": {}}


def chosen_rates(rates: str = "grid") -> dict[str, dict[str, float]]:
    """Learning rates chosen on the pilot seeds (`replication tune`): place -> arm -> rate.

    The best of the `grid`, or `wide`: of all pilot rates. Published ones go before this machine's own.
    """
    return rates_in(own_rates())[rates] | rates_in(PUBLISHED_RATES)[rates]


def learning_rate(setting: str, network: str, arm: str, rate: str = "own") -> float:
    """The learning rate of an arm, `rate` as in `designs.Entry`; ValueError if none has been chosen for it."""
    rates = chosen_rates("wide" if rate == "wide" else "grid")
    where = own_place(setting, network)
    if where not in rates:
        where = place(setting, network)
    name = reference(arm) if rate == "shared" else arm
    if name not in rates.get(where, {}):
        raise ValueError(f"no learning rate chosen for arm {name!r} on {where!r}: `replication tune` chooses one")
    return rates[where][name]
