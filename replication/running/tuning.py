"""Tuning: every arm's learning rate, chosen on the pilot seeds by validation macro F1, on a grid that grows at its ends."""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from statistics import fmean

from replication.files import write
from replication.paths import is_checkout
from replication.results import published
from replication.results.store import Store
from replication.run import Run
from replication.running.local import key_of
from replication.study import rates
from replication.study.design import pilot_runs, pilot_seeds
from replication.study.networks import network as network_of
from replication.study.rates import Place, extended, grid_of, rates_digest, rates_in

Score = tuple[float, float]
"""validation macro F1, and validation NLL at training prevalence"""


def best(scores: dict[float, list[Score]]) -> float:
    """The rate with the highest mean validation macro F1 over seeds, collapsed runs included.

    Among equals, such as rates that all leave the minority unfound, it is that of the least mean NLL at training
    prevalence (the loss that is trained), then the lowest.
    """

    def worth(rate: float) -> tuple[float, float]:
        f1, nll = zip(*scores[rate])
        return fmean(f1), -fmean(v if isfinite(v) else inf for v in nll)

    return max(sorted(scores), key=worth)


@dataclass
class Search:
    """The search for one arm's rate at one place."""

    place: Place
    arm: str
    rates: tuple[float, ...]
    seeds: range
    extensions: int
    """how often the grid may still grow"""
    rate: float | None = None
    """the best so far; settled when the grid grows no more"""

    @classmethod
    def begin(cls, place: Place, arm: str, seeds: int | None = None) -> "Search":
        """A search on the usual grid: it may grow three times, once where all layers of a large network are trained.

        On the pilot seeds, or the first so many.
        """
        network = network_of(place.network)
        times = 1 if network.init == "imagenet" and network.trained == "all" else 3
        return cls(place, arm, grid_of(place.network), range(seeds) if seeds else pilot_seeds(place.network), times)

    def runs(self) -> list[Run]:
        """The pilots of the grid as it is."""
        return pilot_runs(self.place, self.arm, self.rates, self.seeds)

    def grown(self, scores: dict[float, list[Score]]) -> bool:
        """Take the best rate; whether the grid has grown, as that lies at an end of it and it may."""
        self.rate = best(scores)
        wider = extended(self.rates, self.rate)
        if wider == self.rates or not self.extensions:
            return False
        self.rates, self.extensions = wider, self.extensions - 1
        return True


def pilot_scores(store: Store, runs: Iterable[Run]) -> dict[Run, Score]:
    """What tuning knows of those pilots that the store has."""
    wanted = {key_of(run): run for run in runs}  # a folder of one's own may have lain elsewhere then
    return {
        wanted[r.key]: (r.facts["validation_f1_macro"], float(r.arrays["validation_nll_train"][-1]))
        for r in store.results(set(wanted))
    }


def published_scores() -> dict[str, Score]:
    """What tuning knows of the published pilots, by key. Errors: as `published.check`."""
    rows = published.pilots()
    return dict(zip(rows["key"], zip(rows["validation_f1_macro"], rows["validation_nll_train"])))


def tune(
    pairs: Iterable[tuple[Place, str]],
    store: Store,
    carry_out: Callable[[Sequence[Run]], object],
    seeds: int | None = None,
    known: Mapping[str, Score] | None = None,
) -> tuple[list[Search], list[Search]]:
    """Choose the rate of every (place, arm) and return the searches that are settled, and those that are not.

    On the pilot seeds, or on the first so many `seeds`.

    `carry_out` trains those runs that the store lacks; where it stops early (a time budget), what is whole is settled.
    Pilots that are `known` by their keys, such as published ones (`published_scores`), are not trained.
    """
    known = known or {}
    searching = [Search.begin(place, arm, seeds) for place, arm in pairs]
    settled: list[Search] = []
    while searching:
        wanted = [run for search in searching for run in search.runs()]
        scores = {run: known[key] for run in dict.fromkeys(wanted) if (key := key_of(run)) in known}
        carry_out(sorted((run for run in dict.fromkeys(wanted) if run not in scores), key=lambda run: run.seed))
        scores = pilot_scores(store, wanted) | scores
        growing, short = [], []
        for search in searching:
            runs = search.runs()
            if not all(run in scores for run in runs):
                short.append(search)
                continue
            by_rate: dict[float, list[Score]] = defaultdict(list)
            for run in runs:
                by_rate[run.learning_rate].append(scores[run])
            (growing if search.grown(by_rate) else settled).append(search)
        if short:
            return settled, growing + short
        searching = growing
    return settled, []


def write_rates(settled: Iterable[Search], path: Path) -> None:
    """Add chosen rates, and the rates that were tried for them, to a file of rates."""
    known = rates_in(path)
    chosen = {
        kind: {place: dict(arms) for place, arms in known.get(kind, {}).items()} for kind in ("grid", "wide", "tried")
    }
    for search in settled:
        chosen["grid"].setdefault(search.place.name, {})[search.arm] = search.rate
        chosen["tried"].setdefault(search.place.name, {})[search.arm] = list(search.rates)
    write(path, json.dumps(chosen | {"sha256": rates_digest(chosen)}, indent=1) + "\n")


def write_all_rates(settled: Iterable[Search], planned: Collection[tuple[Place, str]]) -> list[Path]:
    """Add the rates that a claim plans to the published file of a checkout, others to this machine's own; the files written."""
    files: dict[Path, list[Search]] = {}
    for search in settled:
        of_book = is_checkout() and (search.place, search.arm) in planned
        path = rates.published_rates() if of_book else rates.own_rates()
        files.setdefault(path, []).append(search)
    for path, searches in files.items():
        write_rates(searches, path)
    return list(files)
