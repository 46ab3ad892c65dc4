"""Published against fresh results, cell by cell: do the numbers come out again?"""

import pandas as pd

from replication.run import FACTORS

TOLERANCE = 0.02
"""largest difference of a cell's mean F1 between two machines"""
CELL = [f for f in FACTORS if f != "seed"]


def compare(published: pd.DataFrame, fresh: pd.DataFrame) -> pd.DataFrame:
    """One row per cell (all factors but the seed) of the runs in both tables, on the seeds in both.

    Columns: the factors, `seeds`, `published` and `fresh` (mean minority F1), `difference`, `identical` (whether
    every seed's F1 is the same to the bit, or to the published number's precision). Runs are matched by their keys, so
    that data or initial weights with another digest are not compared.
    """
    if published.empty or fresh.empty:
        return pd.DataFrame(columns=[*CELL, "seeds", "published", "fresh", "difference", "identical"])
    here, there = (
        rows.loc[rows["readout"] == "as_trained", columns]
        for rows, columns in ((fresh, ["key", "f1_minority"]), (published, ["key", *FACTORS, "f1_minority"]))
    )
    pairs = there.merge(here, on="key", suffixes=("_published", "_fresh"))
    told, found = pairs["f1_minority_published"], pairs["f1_minority_fresh"]
    pairs["identical"] = (told == found) | (told == found.astype("float32"))
    cells = (
        pairs.groupby(CELL, sort=False)
        .agg(
            seeds=("seed", "count"),
            published=("f1_minority_published", "mean"),
            fresh=("f1_minority_fresh", "mean"),
            identical=("identical", "all"),
        )
        .reset_index()
    )
    cells["difference"] = cells["fresh"] - cells["published"]
    return cells


def other_weights(published: pd.DataFrame, fresh: pd.DataFrame) -> bool:
    """Whether a fresh run starts from weights, made by a recipe, that no published one starts from."""
    known, new = (set(rows["weights"].dropna()) if "weights" in rows else set() for rows in (published, fresh))
    return not new <= known


def summary(cells: pd.DataFrame) -> str:
    """One sentence: how many cells agree, and how well."""
    if cells.empty:
        return "nothing to compare yet: no published run has been trained on this machine (make book trains the first seeds)"
    within = int((cells["difference"].abs() <= TOLERANCE).sum())
    return (
        f"{within} of {len(cells)} cells have the published mean F1 within {TOLERANCE} "
        f"({int(cells['identical'].sum())} to the bit; mean absolute difference {cells['difference'].abs().mean():.4f}, "
        f"largest {cells['difference'].abs().max():.4f}, {int(cells['seeds'].sum())} runs)"
    )
