"""Which results a page shows: the cells asked for, their rows, and how many seeds of each are there."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from replication.claims import registry
from replication.claims.claim import Plan
from replication.claims.judge import plan_frame
from replication.data.settings import names
from replication.pages.names import cell_label
from replication.pages.parameters import Parameters
from replication.results import published
from replication.results.frame import ENTRY, complete, frame, seeds_done
from replication.run import FACTORS
from replication.study.design import Cell, Entry, pilot_runs, pilot_seeds
from replication.study.networks import SMALL_BODIES
from replication.study.networks import network as network_of
from replication.study.rates import LADDER, Place

HERE = "digits"
"""the setting that every machine has, on which a page trains unless told otherwise"""


Cells = dict[tuple[str, str], pd.DataFrame]
"""(setting, network) -> its rows"""


class Missing(ValueError):
    """Results that a page would show and that are not there."""


@functools.cache
def _read(where: Path, changed: tuple[int, ...], settings: tuple[str, ...]) -> pd.DataFrame:
    return published.read(settings)


def published_rows(settings: tuple[str, ...] = ()) -> pd.DataFrame:
    """What `published.read` gives, read once as long as none of its files changes."""
    where = published.folder()
    files = [path for path in (where / "manifest.json", *sorted(where.rglob("*.parquet"))) if path.exists()]
    return _read(where, tuple(path.stat().st_mtime_ns for path in files), settings)


def asked_cells(name: str, parameters: Parameters) -> list[Cell]:
    """The cells that a notebook's parameters ask for; where it trains here, what needs no files unless it is named."""
    settings, networks, seeds = names(parameters.settings), names(parameters.networks), parameters.seeds or None
    if not parameters.seeds or settings:
        return registry.cells(name, settings, networks, seeds)
    planned = registry.cells(name, (), networks, seeds)
    here = [c for c in planned if c.setting == HERE and (networks or network_of(c.network).body in SMALL_BODIES)]
    return here or planned


@dataclass
class Selection:
    """Some cells of a plan with the results at hand."""

    plan: Plan
    cells: list[Cell]
    results: pd.DataFrame
    local: bool = False
    """whether the results were trained here"""

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The rows of all cells, see `results.frame.frame`."""
        if not any(map(self.tuned, self.cells)):
            scored = [c for c in ("readout", "f1_minority", "key", "seconds", "provenance") if c not in self.results]
            return pd.DataFrame(columns=[*ENTRY, *FACTORS, *(c for c in self.results if c not in FACTORS), *scored])
        return plan_frame(self.plan, self.cells, self.results)

    def tuned(self, cell: Cell) -> bool:
        """Whether the learning rates of a cell have been chosen."""
        try:
            return bool(self.plan.entries(cell))
        except ValueError:
            return False

    @functools.cached_property
    def _by_cell(self) -> dict[tuple[str, str], pd.DataFrame]:
        cells = self.frame.groupby(["cell_setting", "cell_network"], sort=False)
        return {(str(setting), str(network)): part for (setting, network), part in cells}

    def all_rows(self, cell: Cell) -> pd.DataFrame:
        """Every row of a cell, whether its run has a result or not; none where no learning rate has been chosen."""
        return self._by_cell.get((cell.setting, cell.network), self.frame.iloc[:0])

    def rows(self, cell: Cell, rate: str = "own", **where) -> pd.DataFrame:
        """The rows of a cell at one kind of learning rate; `where` fixes other columns, e.g. variant="" or level=10.

        Missing while any of these runs is.
        """
        rows = self.all_rows(cell)
        for column, value in ({"rate": rate} | where).items():
            rows = rows[rows[column] == value] if len(rows) else rows
        if not complete(rows):
            raise Missing(f"no complete results of {self.plan.id} for {cell_label(cell)}: {self._why()}")
        return rows

    def _why(self) -> str:
        return "runs are missing" if self.local else "nothing is published; with seeds > 0 it is trained here"

    def has(self, cell: Cell, rate: str = "own", **where) -> bool:
        """Whether all of these runs have their results."""
        try:
            return len(self.rows(cell, rate, **where)) > 0
        except Missing:
            return False

    def whole(self, rate: str = "own", **where) -> dict[Cell, pd.DataFrame]:
        """The rows of every cell that has all of them."""
        return {cell: self.rows(cell, rate, **where) for cell in self.cells if self.has(cell, rate, **where)}

    def seeds_done(self, cell: Cell, rate: str = "own", **where) -> int:
        """Seeds of which all runs have a result."""
        rows = self.all_rows(cell)
        for column, value in ({"rate": rate} | where).items():
            rows = rows[rows[column] == value]
        return seeds_done(rows)

    def open(self, cells: Sequence[Cell] = (), rate: str = "own", **where) -> str:
        """What has not been run yet, as words: `tomato leaves · …: 12 of 60 seeds`; empty where all is there."""
        return "; ".join(
            f"{cell_label(cell)}: {self.seeds_done(cell, rate, **where)} of {cell.seeds} seeds"
            for cell in cells or self.cells
            if not self.has(cell, rate, **where)
        )

    def seconds(self, cell: Cell) -> float:
        """What the training of a cell's runs took, in seconds of one core or device."""
        rows = self.all_rows(cell)
        return float(rows.drop_duplicates("key")["seconds"].sum()) if "seconds" in rows else 0.0


def pilots(arms: Sequence[str], setting: str, network: str) -> pd.DataFrame:
    """Published pilot runs of some arms: the frame's columns, `level` being the learning rate, on those seeds alone
    that every arm has at that rate. Missing where there are none."""
    place, rows = Place(setting, network), published_rows((setting,))
    entries = [
        ((setting, network), Entry("pilot", "own", arm, run.learning_rate, run))
        for arm in dict.fromkeys(arms)
        for run in pilot_runs(place, arm, LADDER, pilot_seeds(network))
    ]
    found = frame(entries, rows).dropna(subset=["f1_minority"])
    both = found[found["readout"] == "as_trained"].groupby(["level", "seed"])["arm"].nunique()
    kept = both.index[both == len(set(arms))]
    found = found[found.set_index(["level", "seed"]).index.isin(kept)]
    if found.empty:
        raise Missing(f"no pilot runs are published for {cell_label((setting, network))}")
    return found


def complete_cells(plan: Plan, results: pd.DataFrame) -> Cells:
    """The rows of every cell of a plan that has all its runs, by (setting, network)."""
    found = {(cell.setting, cell.network): plan_frame(plan, [cell], results) for cell in plan.cells}
    return {cell: part for cell, part in found.items() if complete(part)}
