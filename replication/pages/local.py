"""Training what a page asks for and this machine lacks; its results are never pooled with published ones."""

from dataclasses import replace

import pandas as pd

from replication.claims.claim import Plan
from replication.pages.parameters import Parameters
from replication.results.frame import results_frame
from replication.results.store import Store, default_path
from replication.run import Run
from replication.study.design import Cell
from replication.study.rates import NoRate


def wanted(plan: Plan, cells: list[Cell], named: bool) -> list[Run]:
    """Every run of some cells, each once, seed by seed; cells without learning rates are left out unless `named`.

    ValueError where learning rates have not been chosen for a cell that was named.
    """
    runs: dict[Run, None] = {}
    for cell in cells:
        try:
            runs |= dict.fromkeys(entry.run for entry in plan.entries(cell))
        except NoRate as error:
            if named:
                raise NoRate(error.place, error.arm, plan.id) from None
    return sorted(runs, key=lambda run: run.seed)


def trained(plan: Plan, cells: list[Cell], parameters: Parameters) -> pd.DataFrame:
    """The results of some cells from this machine's store, trained first where it lacks them."""
    from replication.running.local import carry_out_all, key_of

    runs = wanted(plan, cells, bool(parameters.settings or parameters.networks))
    with Store(default_path()) as store:
        carry_out_all(runs, store, parameters.device)
        by_key = {key_of(run): run for run in runs}  # a folder of one's own may have lain elsewhere then
        return results_frame(replace(result, run=by_key[result.key]) for result in store.results(set(by_key)))


def records() -> dict[str, dict]:
    """Provenance of this machine's runs, by id."""
    with Store(default_path()) as store:
        return store.provenance()


def predictions(keys: set[str]) -> pd.DataFrame:
    """Test labels and logits of this machine's runs, see `published.prediction_rows`."""
    from replication.results import published

    with Store(default_path()) as store:
        return published.prediction_rows(store.results(keys))
