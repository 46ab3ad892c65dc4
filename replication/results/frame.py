"""The frame every verdict, table and figure reads: a design's entries beside the scores of their runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from replication.analysis.metrics import PUBLISHED_METRICS
from replication.run import FACTORS, Run

if TYPE_CHECKING:
    import pandas as pd  # loaded where a table is made: runs are planned and trained where it may be lacking

HISTORIES = tuple(
    f"{part}_{metric}" for part in ("validation", "test") for metric in ("nll", "nll_train", "f1_minority")
)
"""per-epoch columns, lists (E,), in the rows of readout `as_trained`"""


ENTRY = ("cell_setting", "cell_network", "variant", "rate", "arm", "level")
"""columns of a frame that say which part a run plays in a design"""
ALWAYS = ("key", *FACTORS, "data", "provenance", "diverged", "seconds", "readout", "f1_minority")
"""columns that every table of results has"""
MAY_LACK = {"error_auroc"}
"""metrics that runs may lack which did not diverge: where no test image, or every one, is called wrongly"""


def _unrecorded(part: pd.DataFrame, rows: np.ndarray, metric: str) -> bool:
    """Whether none of these runs has the metric, although one that was trained to its end must have it."""
    if "diverged" not in part or part[metric].notna().to_numpy()[rows].any():
        return False
    return bool((part["diverged"].to_numpy()[rows] == False).any())  # noqa: E712  what was not run has none


def results_frame(results: Iterable) -> pd.DataFrame:
    """Results as one row a (run, readout): key, all factors, data, provenance, facts, metrics and histories.

    Without results it has `ALWAYS` alone, the columns of every run.
    """
    import pandas as pd

    rows = []
    for r in results:
        shared = {"key": r.key, **vars(r.run), "data": r.data, "provenance": r.provenance, **r.facts}
        for readout, scores in r.scores.items():
            curves = {n: r.arrays[n] for n in HISTORIES if n in r.arrays} if readout == "as_trained" else {}
            order = {"order": r.arrays[f"order_{readout}"].tobytes()} if f"order_{readout}" in r.arrays else {}
            rows.append(shared | {"readout": readout} | scores | curves | order)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(ALWAYS))


def with_defaults(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with every factor: where one is lacking, as the row is older than the factor, it has the default of `Run`."""
    defaults = {f.name: f.default for f in dataclasses.fields(Run)}
    lacking = {name: default for name, default in defaults.items() if name not in rows}
    empty = [name for name in defaults if name in rows and rows[name].isna().any()]
    return rows.assign(**lacking, **{n: rows[n].fillna(defaults[n]).astype(type(defaults[n])) for n in empty})


def frame(entries: Iterable, results: pd.DataFrame) -> pd.DataFrame:
    """Entries of a design joined with a results table: `cell_setting`, `cell_network`, `variant`, `rate`, `arm`,
    `level`, then the columns of `results_frame`. An entry whose run has no result is one row with NaN scores.

    ValueError where a run has several results, e.g. of two versions of the data: they must not be pooled.
    """
    import pandas as pd

    entries = list(entries)
    if not entries:
        return pd.DataFrame(columns=[*ENTRY, "seed", "f1_minority"])
    wanted = pd.DataFrame(
        {"cell_setting": s, "cell_network": n, "variant": e.variant, "rate": e.kind, "arm": e.arm, "level": e.level}
        | vars(e.run)
        for (s, n), e in entries
    )
    if results.empty:
        results = results_frame(())
    here = results
    for factor in ("setting", "network", "trained", "final_norm"):  # a merge looks at every value of every factor
        here = here[here[factor].isin(wanted[factor].unique())]
    if n := int(here.duplicated([*FACTORS, "readout"]).sum()):
        raise ValueError(f"a run must have one result a readout, found {n} more: keep those of one version of the data")
    return wanted.merge(here, on=list(FACTORS), how="left")


def complete(part: pd.DataFrame) -> bool:
    """Whether every run of a part of a frame has its scores."""
    return len(part) > 0 and bool(part["f1_minority"].notna().all())


def seeds_done(part: pd.DataFrame) -> int:
    """Seeds of which every run in a part of a frame has its scores."""
    return int(part["f1_minority"].notna().groupby(part["seed"]).all().sum())


def arm_and_readout(name: str) -> tuple[str, str]:
    """`arm` or `arm · readout`, as figures and tables write it, as (arm, readout)."""
    arm, _, readout = name.partition(" · ")
    return arm, readout or "as_trained"


def seeds(part: pd.DataFrame, **where) -> np.ndarray:
    """The seeds (n,) of a part of a frame, in the order of `values`; `where` as there."""
    return np.unique(part["seed"].to_numpy()[_among(part, where)])


def _among(part: pd.DataFrame, where: Mapping[str, object]) -> np.ndarray:
    """Whether each row (n,) has these values."""
    here = np.ones(len(part), dtype=bool)
    for column, value in where.items():
        here &= part[column].to_numpy() == value
    return here


def values(
    part: pd.DataFrame, arm: str, metric: str = "f1_minority", readout: str = "as_trained", **where
) -> np.ndarray:
    """A metric of one arm and readout, (n,) in the order of seeds; `where` fixes other columns, e.g. level=64.

    A diverged run has the AUC of a coin, 0.5; its other probabilities stay NaN. KeyError if there is no such row, and
    where the readout or the metric was not recorded of the runs; ValueError unless every seed has exactly one row:
    differences of two arms are paired by this order.
    """
    if metric not in part:
        raise KeyError(f"{metric} was not recorded")
    here = _among(part, where)
    of_arm = here & (part["arm"].to_numpy() == arm)
    readouts = part["readout"].to_numpy()
    rows = np.flatnonzero(of_arm & (readouts == readout))  # arrays, as frames of so many columns are slow to cut
    if not len(rows):
        if part["readout"].notna().to_numpy()[of_arm].any():
            raise KeyError(f"{readout} was not recorded of arm {arm} with {where}")
        raise KeyError(f"no {readout} of arm {arm} with {where}")
    all_seeds = part["seed"].to_numpy()
    seeds = all_seeds[rows]
    if sorted(seeds.tolist()) != sorted(wanted := set(all_seeds[here].tolist())):
        raise ValueError(f"{readout} of arm {arm} must have one row for each of {len(wanted)} seeds, found {len(rows)}")
    found = part[metric].to_numpy()[rows[np.argsort(seeds, kind="stable")]]
    if metric in HISTORIES and part[metric].isna().to_numpy()[rows].any():
        raise KeyError(f"{metric} was not recorded of every run of arm {arm} with {where}")
    if metric in PUBLISHED_METRICS and metric not in MAY_LACK and _unrecorded(part, rows, metric):
        raise KeyError(f"{metric} was not recorded of {readout} of arm {arm} with {where}")
    return np.nan_to_num(found, nan=0.5) if metric == "roc_auc" else found
