"""All claims and all further questions, by name, and the runs that they need."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from operator import attrgetter
from pkgutil import iter_modules
from types import ModuleType

from replication.claims import beyond, papers
from replication.claims.claim import Claim, Plan
from replication.claims.law.runs import PLANS as LAW
from replication.data.settings import setting as setting_of
from replication.limits import check_known, check_within
from replication.run import Run
from replication.study.design import EXPLORATORY, Cell, Entry, pilot_runs, pilot_seeds
from replication.study.networks import network as network_of
from replication.study.rates import LADDER, PILOT_RATES, NoRate, Place, grid_of


def _modules(folder: ModuleType) -> list[ModuleType]:
    """Every module of a folder of claims or questions: a new file is a new entry."""
    return [import_module(f"{folder.__name__}.{found.name}") for found in iter_modules(folder.__path__)]


CLAIMS: dict[str, Claim] = {
    claim.id: claim for claim in sorted((module.CLAIM for module in _modules(papers)), key=attrgetter("order"))
}
"""the papers' claims, in the order of the book"""
BEYOND: dict[str, Plan] = {
    plan.id: plan for plan in sorted((module.PLAN for module in _modules(beyond)), key=attrgetter("order"))
}
"""further questions, which are not judged"""
PLANS: dict[str, Plan] = CLAIMS | BEYOND
FIRST_TUNED = (
    {("plantvillage", name): "plantvillage/apple" for name in ("simple_cnn", "resnet34:random", "resnet34:other_crops")}
    | {("digits", name): "digits" for name in ("simple_cnn", "mlp", "logistic")}
    | {(source, "simple_cnn"): source for source in ("cracks", "skin", "cifar10")}
)
"""(data set, network) -> the setting on which the first rules chose the learning rates of all settings of the data set"""
UNPLANNED_SEEDS = 20
"""confirmatory seeds of a cell that no claim plans, unless told otherwise"""


def plan(name: str) -> Plan:
    """The claim or question of that name. ValueError names those there are."""
    known = PLANS | LAW
    check_known("claim", name, known)
    return known[name]


def cells(
    name: str, settings: Sequence[str] = (), networks: Sequence[str] = (), seeds: int | None = None
) -> list[Cell]:
    """The cells of a claim on some settings and networks, or all that it plans; of each the first `seeds` seeds.

    A setting or network beyond the plan is allowed where it exists and makes a cell outside counts; networks alone mean
    the planned settings. ValueError for what does not exist, for fewer than one seed, and where nothing is left.
    """
    check_within(1, seeds=seeds)
    names = [setting_of(setting).name for setting in settings]
    wanted = [str(network_of(network)) for network in networks]
    planned = plan(name).cells
    found = [c for c in planned if (not names or c.setting in names) and (not wanted or c.network in wanted)]
    known = {(c.setting, c.network) for c in found}
    if names:
        usual = wanted or ([] if found else ["simple_cnn"])
        found += [
            Cell(s, n, EXPLORATORY, UNPLANNED_SEEDS, ("own", "shared", "default"))
            for s in names
            for n in usual
            if (s, n) not in known
        ]
    if not found:
        raise ValueError(f"claim {name!r} has no cell of network {', '.join(wanted)}: name settings too")
    return [replace(c, seeds=seeds) for c in found] if seeds else found


def runs(
    claims: Sequence[str] = (),
    settings: Sequence[str] = (),
    networks: Sequence[str] = (),
    seeds: int | None = None,
    kinds: Sequence[str] = (),
) -> list[Run]:
    """Every run the claims need, each once, ordered so that whatever is finished first is worth most: seed by seed.

    Without a claim: what all claims plan, on the settings and networks given, less the cells whose learning rates have
    not been chosen yet, which a warning names. Errors: as `cells`, and ValueError where a claim is named and a rate has
    not been chosen.
    """
    for name in claims:
        plan(name)  # all names before the first cell that has not been tuned
    found: dict[Run, None] = {}
    left_out = []
    for name in claims or PLANS:
        for cell in _wanted_cells(name, bool(claims), settings, networks, seeds):
            wanted = replace(cell, kinds=tuple(kind for kind in cell.kinds if not kinds or kind in kinds))
            try:
                found |= dict.fromkeys(entry.run for entry in plan(name).entries(wanted))
            except NoRate as error:
                if claims:
                    raise NoRate(error.place, error.arm, name) from None
                left_out.append(f"{name} on {cell.setting}/{cell.network}")
    if left_out:
        warnings.warn(f"left out, as their learning rates have not been chosen: {'; '.join(left_out)}", stacklevel=2)
    return sorted(found, key=lambda run: run.seed)


def _wanted_cells(
    name: str, by_name: bool, settings: Sequence[str], networks: Sequence[str], seeds: int | None
) -> list[Cell]:
    """The cells of a claim; of one not asked for by name only what it plans."""
    if by_name:
        return cells(name, settings, networks, seeds)
    names, wanted = {setting_of(s).name for s in settings}, {str(network_of(n)) for n in networks}
    here = [c for c in plan(name).cells if (not names or c.setting in names) and (not wanted or c.network in wanted)]
    return [replace(c, seeds=seeds) for c in here] if seeds else here


def searches(
    claims: Sequence[str] = (), settings: Sequence[str] = (), networks: Sequence[str] = ()
) -> list[tuple[Place, str]]:
    """(place, arm) of every learning rate that the cells of some claims need, each once."""
    found: dict[tuple[Place, str], None] = {}
    for name in claims or PLANS | LAW:
        for cell in _wanted_cells(name, bool(claims), settings, networks, None):
            for comparison in plan(name).design(cell):
                found |= dict.fromkeys(comparison.tuned())
    return list(found)


def registered() -> Iterator[tuple[str, Cell]]:
    """(claim, cell) of every cell that was registered before its runs.

    Of a cell published before there was a registration: with the kinds of rate that have come to it since, if any.
    """
    for name, p in PLANS.items():
        for cell in p.cells:
            kinds = cell.kinds if cell.version else tuple(kind for kind in cell.kinds if kind == "default")
            if kinds:
                yield name, replace(cell, kinds=kinds)


def predicted() -> Iterator[tuple[str, Cell]]:
    """(plan, cell) of every cell that a prediction of the law names: it is registered as the prediction is."""
    for name, p in LAW.items():
        for cell in p.cells:
            yield name, cell


def pilots_of(cell: Cell) -> dict[str, list]:
    """How the learning rates of a cell are chosen: the rates tried first, and the seeds."""
    return {"rates": list(grid_of(cell.network)), "seeds": list(pilot_seeds(cell.network))}


def confirmatory_runs() -> set[Run]:
    """Every run that a claim or question plans, of the comparisons whose learning rates have been chosen."""
    return {entry.run for p in (*PLANS.values(), *LAW.values()) for entry in _chosen(p)}


def runs_with_curves() -> set[Run]:
    """The runs whose scores by epoch a rule or a page needs."""
    return {entry.run for p in PLANS.values() if p.curves for entry in _chosen(p) if entry.arm in p.curves}


def runs_with_predictions() -> set[Run]:
    """The runs whose test predictions a page draws."""
    plans = [p for p in PLANS.values() if p.predictions]
    return {e.run for p in plans for e in _chosen(p) if e.kind == "own" and e.arm in p.predictions}


def _chosen(p: Plan) -> Iterator[Entry]:
    for cell in p.cells:
        for comparison in p.design(cell):
            yield from comparison.chosen()


def pilots() -> set[Run]:
    """Every run that may have had a part in choosing the learning rates that are planned."""
    return {run for place, arm in searches() for run in pilot_runs(place, arm, LADDER, pilot_seeds(place.network))} | {
        run
        for place, arm in searches()
        if not place.at and (home := FIRST_TUNED.get((setting_of(place.setting).source, place.network)))
        for run in pilot_runs(replace(place, setting=home), arm, PILOT_RATES, range(10))
    }
