"""Results as the rows that are published: runs with their kept readouts, pilots, predictions."""

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from replication.analysis.metrics import PUBLISHED_METRICS
from replication.results.kept import CURVES, KEPT_READOUTS
from replication.results.rows import Result
from replication.run import FACTORS, Run

FACT_TYPES = {
    "diverged": "bool",
    "epochs_trained": "int32",
    "updates_made": "int32",
    "n_test": "int32",
    "seconds": "float32",
    "validation_f1_macro": "float32",
    "learned_shift": "float32",
    "predicted_zero": "float32",
    "scale_majority": "float32",
    "scale_minority": "float32",
}
PILOT = ("validation_f1_macro", "validation_nll_train")
"""what is published of a pilot: of its last epoch, on validation images"""


def run_rows(
    results: Iterable[Result], curves: Collection[Run] = (), readouts: Collection[str] = KEPT_READOUTS
) -> pd.DataFrame:
    """One row a (run, readout): key, factors, data, provenance, facts, `readout`, `PUBLISHED_METRICS`, `order`, `cut`.

    The `CURVES` besides, where a run is among `curves`, in the row of `as_trained`. Numbers are float32.
    """
    rows = []
    for r in results:
        shared = {"key": r.key, **vars(r.run), "data": r.data, "provenance": r.provenance, **r.facts}
        for readout in filter(r.scores.__contains__, readouts):
            scores = {name: r.scores[readout].get(name, np.nan) for name in PUBLISHED_METRICS}
            order = r.arrays.get(f"order_{readout}")
            scores |= {"cut": r.scores[readout].get("cut"), "order": None if order is None else order.tobytes()}
            if r.run in curves and readout == "as_trained":
                scores |= {name: r.arrays[name] for name in CURVES if name in r.arrays}
            rows.append(shared | {"readout": readout} | scores)
    return typed(pd.DataFrame(rows)) if rows else pd.DataFrame()


def pilot_rows(results: Iterable[Result]) -> pd.DataFrame:
    """One row a pilot: key, factors, data, provenance and `PILOT`."""
    rows = [
        {"key": r.key, **vars(r.run), "data": r.data, "provenance": r.provenance}
        | dict(zip(PILOT, (r.facts["validation_f1_macro"], float(r.arrays["validation_nll_train"][-1]))))
        for r in results
    ]
    return pd.DataFrame(rows)


def prediction_rows(results: Iterable[Result]) -> pd.DataFrame:
    """Test labels (N,) and final logits (N * K,) of the results that have them, one row per run."""
    rows = [
        {"key": r.key, "labels": r.arrays["labels"], "logits": r.arrays["logits"].astype(np.float32).ravel()}
        for r in results
        if "logits" in r.arrays
    ]
    return pd.DataFrame(rows)


def typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of runs with the types that are published, whatever was joined to make them; in an order that packs well."""
    types = dict.fromkeys(PUBLISHED_METRICS, "float32") | FACT_TYPES | {"cut": "Int32"}
    rows = rows.astype({name: kind for name, kind in types.items() if name in rows})
    return rows.sort_values(["readout", *FACTORS], ignore_index=True)


def unsound(result: Result, provenance: Collection[str]) -> str:
    """What makes a result unfit to be published, empty if nothing does."""
    needed = {"as_trained"} | ({"bn_removed"} if result.run.final_norm == "bn" else set())
    if lacking := needed - result.scores.keys():
        return f"it lacks the readout {min(lacking)}"
    for readout, scores in result.scores.items():
        f1 = scores.get("f1_minority", float("nan"))
        if not 0 <= f1 <= 1:
            return f"minority F1 of {readout} is {f1}, not from 0 to 1"
        if bad := [name for name, value in scores.items() if np.isinf(value)]:
            return f"{bad[0]} of {readout} is infinite"
    if result.provenance not in provenance:
        return f"its provenance {result.provenance!r} is not recorded"
    if lacking := {"diverged", "epochs_trained", "validation_f1_macro"} - result.facts.keys():
        return f"it lacks the fact {min(lacking)}"
    if not result.data:
        return "the digest of its data is empty"
    return ""
