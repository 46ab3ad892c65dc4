"""Where the spread of macro F1 comes from, how stable the chosen rates are, and some smaller questions."""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from IPython.display import HTML

from replication.analysis import budget, variance
from replication.analysis import statistics as st
from replication.claims.beyond import fastai_head, ghost, untuned
from replication.claims.beyond import variance as crossed
from replication.pages.names import arm_label, cell_label, setting_label
from replication.pages.selection import complete_cells
from replication.pages.tables import folded, missing_html, shown, table_html
from replication.pages.words import between, number, rate_text, signed
from replication.results import published
from replication.results.frame import values
from replication.run import FACTORS
from replication.study.design import PAIR, Cell, pilot_runs, pilot_seeds
from replication.study.rates import LADDER, Place, learning_rate


@dataclass
class Spread:
    """Tables from published confirmatory rows."""

    results: pd.DataFrame

    def flips(self) -> HTML:
        """How often pilots drawn anew choose another rate."""
        rows, flips, there = [], [], complete_cells(untuned.PLAN, self.results)
        for cell in (c for c in untuned.PLAN.cells if (c.setting, c.network) in there):
            for arm in (*PAIR, untuned.CANDIDATE):
                scores = _pilot_scores(cell, arm)
                if scores is None:
                    continue
                share = budget.choices(scores.to_numpy())
                kept = share[list(scores.index).index(learning_rate(Place(cell.setting, cell.network), arm))]
                flips.append(1 - kept)
                rows.append(
                    {
                        "images and network": cell_label(cell),
                        "arm": arm_label(arm),
                        "chosen": rate_text(learning_rate(Place(cell.setting, cell.network), arm)),
                        "another rate is chosen": f"{number(100 * (1 - kept), 0)} %",
                        "rates chosen in 5 % or more": ", ".join(
                            rate_text(r) for r, s in zip(scores.index, share) if s >= 0.05
                        ),
                    }
                )
        if not rows:
            return missing_html("Not run yet.")
        caption = "If the ten pilot seeds are drawn again, with replacement, is the same rate chosen?"
        often = sum(share > 0.25 for share in flips)
        text = (
            f"<p>If the pilot seeds are drawn again, with replacement, another learning rate is chosen in "
            f"{number(100 * float(np.median(flips)), 0)} % of the draws (median over {len(flips)} choices), and in more than a "
            f"quarter of the draws for {often} of them.</p>"
        )
        return HTML(text + folded("Every choice", table_html(pd.DataFrame(rows), caption)).data)

    def shares(self) -> pd.DataFrame:
        """Variance of macro F1 by source, one row per cell and arm; shares of the sum."""
        rows = []
        for (setting, network), part in complete_cells(crossed.PLAN, self.results).items():
            cell = next(c for c in crossed.PLAN.cells if (c.setting, c.network) == (setting, network))
            for arm in PAIR:
                of = part[(part["arm"] == arm) & (part["readout"] == "as_trained")]
                table = of.pivot(index="level", columns="seed", values="f1_macro").to_numpy(float)
                found = variance.crossed(table)
                noise = min(variance.noise_of_test(*counted(of)), found.split)
                minority = _between_classes(setting, self.results, of.iloc[0])
                minority = np.minimum(minority, found.split - noise)
                sources = {
                    "test images": noise,
                    "minority class": minority,
                    "which images train": found.split - noise - np.nan_to_num(minority),
                    "seed of the training": found.seed + found.rest,
                    "choice of the rate": _rate_choice(cell, arm),
                }
                total = np.nansum(list(sources.values()))
                rows.append(
                    {"setting": setting, "network": network, "arm": arm, "deviation": total**0.5}
                    | {name: value / total if total else np.nan for name, value in sources.items()}
                )
        return pd.DataFrame(rows)

    def table(self) -> HTML:
        """Shares of the variance."""
        found = self.shares()
        if found.empty:
            return missing_html("Not run yet.")
        sources = list(found.columns[4:])
        rows = pd.DataFrame(
            {
                "images": found["setting"].map(setting_label),
                "arm": found["arm"].map(arm_label),
                "standard deviation": found["deviation"].map(number),
            }
            | {
                name: found[name].map(lambda v: f"{number(100 * v, 0)} %" if np.isfinite(v) else "—")
                for name in sources
            }
        )
        return shown(rows, "Variance of macro F1, frozen EfficientNet-Lite0: shares of its sources", data=found)

    def ghosts(self) -> HTML:
        """Statistics over parts of a batch."""
        rows = []
        for (setting, _), part in complete_cells(ghost.PLAN, self.results).items():
            full = values(part, "final_bn", level=64)
            for size in ghost.PARTS:
                d = values(part, "final_bn", level=size) - full
                low, high = st.bca(d)
                rows.append(
                    {
                        "images": setting_label(setting),
                        "images per part": size,
                        "minority F1 minus that at 64": signed(d.mean(), 3),
                        "95 % interval": between(low, high),
                        "seeds": len(d),
                    }
                )
        if not rows:
            return missing_html("Not run yet.")
        caption = "Ghost batches within batches of 64, with the same number of updates and the same S"
        return shown(pd.DataFrame(rows), caption)

    def behind_fastai(self) -> HTML:
        """ROC AUC behind fastai's head and its variants."""
        found = complete_cells(fastai_head.PLAN, self.results)
        if not found:
            return missing_html("Behind fastai's head with parts taken out: planned, not run yet.")
        (part,) = found.values()
        rows = [
            {
                "head": variant.replace("_", " "),
                "arm": arm_label(arm),
                "ROC AUC": number(float(np.mean(values(of, arm, "roc_auc"))), 3),
                "macro F1": number(float(np.mean(values(of, arm, "f1_macro")))),
            }
            for variant, of in part.groupby("variant", sort=False)
            for arm in of["arm"].unique()
        ]
        return shown(pd.DataFrame(rows), "Behind fastai's head, rate 0.001, tomato leaves")


def counted(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """tp, fp, fn and tn (n,) of runs with two classes, from the recalls on a test set of as many images of either."""
    each, recall = rows["n_test"].to_numpy(float) / 2, rows["recall_minority"].to_numpy(float)
    hits = np.rint(each * recall)
    right = np.rint(each * (2 * rows["balanced_accuracy"].to_numpy(float) - recall))
    return hits, each - right, each - hits, right


@functools.lru_cache(1)
def _pilots(setting: str) -> pd.DataFrame:
    return published.pilots((setting,))


def _pilot_scores(cell: Cell, arm: str) -> pd.DataFrame | None:
    """Validation macro F1 of an arm's published pilots, learning rates x seeds; none where some are missing."""
    runs = pilot_runs(Place(cell.setting, cell.network), arm, LADDER, pilot_seeds(cell.network))
    wanted = pd.DataFrame(map(vars, runs))
    found = _pilots(cell.setting).merge(wanted, on=list(wanted.columns))
    table = found.pivot_table(index="learning_rate", columns="seed", values="validation_f1_macro").dropna()
    chosen = learning_rate(Place(cell.setting, cell.network), arm)
    return table if chosen in table.index and table.shape[1] == len(pilot_seeds(cell.network)) else None


def _rate_choice(cell: Cell, arm: str) -> float:
    """Variance of the pilots' mean score at the chosen rate when the pilots that choose it are drawn anew."""
    scores = _pilot_scores(cell, arm)
    if scores is None:
        return 0.0
    share, means = budget.choices(scores.to_numpy()), scores.mean(1).to_numpy()
    return float(share @ means**2 - (share @ means) ** 2)


def _between_classes(setting: str, results: pd.DataFrame, run: pd.Series) -> float:
    """Variance between minority classes from the runs of the base pair; NaN where the seed does not pick the class."""
    if setting.partition("/")[0] not in ("digits", "cifar10"):
        return float("nan")
    here = results["readout"] == "as_trained"
    for name in FACTORS:
        if name not in ("seed", "split_seed"):
            here &= results[name] == run[name]
    rows = results[here & (results["split_seed"] < 0)]
    return variance.between(rows["f1_macro"].to_numpy(float), rows["seed"].to_numpy() % 10)
