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

FAR = 0.75
"""of the way from the majority's mean to the minority's: beyond it zero counts as far"""
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
    """How far the prediction holds, and what F1 each place of zero gives, in words."""
    groups = [of for _, of in found.groupby(["setting", "network", "rate"])]
    order = pd.Series([of["predicted"].corr(of["place"], method="spearman") for of in groups])
    drawn_anew = [s for s in found["setting"].unique() if s.partition("/")[0] in ("digits", "cifar10")]
    parts = {
        f"beyond the majority's mean in {{n}} of {len(found)} runs": found["place"] < 0,
        f"between that and {FAR} of the way to the minority's in {{n}}": found["place"].between(0, FAR),
        "further in {n}": found["place"] > FAR,
    }
    told = [
        f"{words.format(n=which.sum())} (mean minority F1 {number(found.loc[which, 'minority F1'].mean())})"
        for words, which in parts.items()
        if which.any()
    ]
    lost = found[found["place"] < 0]
    where = (
        f", {lost['setting'].isin(drawn_anew).sum()} of the first on images whose classes the seed picks"
        if len(lost)
        else ""
    )
    return (
        f"Without the layer zero lies {listed(told)}{where}. Seed by seed, the rank correlation of the predicted and the found "
        f"place is {number(order.min())} to {number(order.max())} in {len(groups)} cells and rates."
    )


def removed(results: pd.DataFrame) -> Picture | HTML:
    """Minority F1 of the removed network against the place of zero, a marker a run."""
    found = places(results)
    if found.empty:
        return missing_html("Where zero lies without the layer: planned, not run yet.")
    text = finding(found)
    seeds = found.groupby(["setting", "network", "rate"]).size().max()
    note = (
        f"0 is the majority's mean and 1 the minority's. {seeds} seeds at each of two learning rates, which share a marker. "
        "What lies beyond the ends of the axis is drawn there."
    )
    return Picture(drawn(found), f"{text} {note}", text, found)


@closed
def drawn(found: pd.DataFrame) -> Figure:
    """Minority F1 over the place of zero, cells by colour and marker."""
    fig, ax = plt.subplots(figsize=(WIDTH, 5.2), layout="constrained")
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
