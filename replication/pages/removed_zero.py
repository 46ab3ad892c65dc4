"""The layer taken out again, on the page of the law: where zero lies between the classes, and what F1 that gives."""

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from replication.claims.law.judge import law_frame
from replication.pages.canvas import WIDTH, closed
from replication.pages.names import cell_label
from replication.pages.picture import Picture
from replication.pages.style import CELL_COLOURS, CELL_MARKERS, INK, NO_SKILL
from replication.pages.tables import missing_html
from replication.pages.words import listed, number
from replication.results.frame import complete

MIDDLE = (0.25, 0.75)
"""where zero lies in the middle half between the class means"""
ENDS = (-0.5, 1.5)
"""of the axis; what lies beyond is drawn and counted there"""


def places(results: pd.DataFrame) -> pd.DataFrame:
    """Where zero lies without the layer (`place`), what was predicted, and minority F1: one row a run."""
    rows = law_frame("removed_zero", results)
    if rows.empty or "predicted_zero" not in rows:
        return pd.DataFrame()
    kept = [part for _, part in rows.groupby(["cell_setting", "cell_network"], sort=False) if complete(part)]
    if not kept:
        return pd.DataFrame()
    of = pd.concat(kept)
    of = of[of["readout"] == "bn_removed"]
    gap = of["mean_log_odds_minority"] - of["mean_log_odds_majority"]
    return pd.DataFrame(
        {
            "setting": of["cell_setting"],
            "network": of["cell_network"],
            "rate": of["level"],
            "seed": of["seed"],
            "predicted": of["predicted_zero"],
            "place": -of["mean_log_odds_majority"] / gap,
            "minority F1": of["f1_minority"],
        }
    ).reset_index(drop=True)


def finding(found: pd.DataFrame) -> str:
    """Whether it is luck, in words: how much of the spread is between seeds, and what F1 each place of zero gives."""
    groups = found.assign(shown=found["place"].clip(*ENDS)).groupby(["setting", "network", "rate"])
    medians = groups[["predicted", "place"]].median()
    order = medians["predicted"].corr(medians["place"], method="spearman")
    within, all_of = groups["shown"].var(ddof=0).mean(), found["place"].clip(*ENDS).var(ddof=0)
    parts = {
        f"in the middle half between the class means in {{n}} of {len(found)} runs": found["place"].between(*MIDDLE),
        "beyond the majority's mean in {n}": found["place"] < 0,
        "elsewhere in {n}": ~found["place"].between(*MIDDLE) & (found["place"] >= 0),
    }
    told = [
        f"{words.format(n=which.sum())} (mean minority F1 {number(found.loc[which, 'minority F1'].mean())})"
        for words, which in parts.items()
        if which.any()
    ]
    return (
        f"Without the layer zero lies {listed(told)}. {number(100 * within / all_of, 0)} % of the spread in place is between "
        "seeds, the rest between images, bodies and rates. Predicted and found medians have a rank correlation of "
        f"{number(order)}."
    )


def removed(results: pd.DataFrame) -> Picture | HTML:
    """Minority F1 of the removed network against the place of zero, a marker a run."""
    found = places(results)
    if found.empty:
        return missing_html("Where zero lies without the layer: planned, not run yet.")
    text = finding(found)
    note = "0 is the majority's mean and 1 the minority's; two learning rates; beyond the ends of the axis at its ends."
    return Picture(drawn(found), f"{text} {note}", text, found)


@closed
def drawn(found: pd.DataFrame) -> Figure:
    """Minority F1 over the place of zero, cells by colour and marker."""
    fig, ax = plt.subplots(figsize=(WIDTH, 5.2), layout="constrained")
    ax.axvspan(*MIDDLE, color="#eeeeee", lw=0, zorder=0)
    for k, (cell, of) in enumerate(found.groupby(["setting", "network"], sort=False)):
        style = {"marker": CELL_MARKERS[k % 7], "color": CELL_COLOURS[k % 7], "ls": ""}
        at = of["place"].clip(*ENDS)
        ax.plot(
            at,
            of["minority F1"],
            **style,
            ms=5,
            mec=INK,
            mew=0.3,
            alpha=0.75,
            label=cell_label(cell),
        )
    ax.axhline(NO_SKILL, color=INK, ls=":", lw=1.2, label="always minority")
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("where zero lies between the class means, layer removed")
    ax.set_ylabel("minority F1, layer removed")
    fig.legend(loc="outside upper left", ncols=1, fontsize=7.6, handletextpad=0.3)
    return fig
