"""The first updates on the page of the law: how many images of each class are found while training has hardly begun."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from replication.analysis.law import MOMENTUM
from replication.claims.beyond.first_updates import PLAN, RATES
from replication.pages.canvas import WIDTH, closed
from replication.pages.names import arm_label, cell_label
from replication.pages.picture import Picture
from replication.pages.selection import complete_cells
from replication.pages.style import INK, look
from replication.pages.tables import missing_html
from replication.pages.words import listed, rate_text, span
from replication.study.design import PAIR

OPTIMIZERS = {"adam": "Adam", "sgd": "SGD"}
SOON = 30
"""updates after which balanced accuracy is told"""
Recalls = dict[tuple[tuple[str, str], str, str], pd.DataFrame]


def recalls(results: pd.DataFrame) -> Recalls:
    """(cell, optimiser, arm) -> mean recall of both classes (columns `minority`, `majority`) by number of updates."""
    found: Recalls = {}
    for cell, part in complete_cells(PLAN, results).items():
        read = part[part["readout"] == "as_trained"]
        for (optimizer, arm), of in read.groupby(["variant", "arm"], sort=False):
            both = pd.DataFrame(
                {
                    "updates": of["level"],
                    "minority": of["recall_minority"],
                    "majority": 2 * of["balanced_accuracy"] - of["recall_minority"],
                }
            )
            found[cell, optimizer, arm] = both.groupby("updates").mean()
    return found


def sentence(found: Recalls) -> str:
    """How low the minority's recall falls and how far both classes have come, by optimiser and arm, in words."""
    counts = next(iter(found.values())).index
    cells = list(dict.fromkeys(cell_label(cell) for cell, *_ in found))
    lowest, balanced = [], []
    for optimizer, name in OPTIMIZERS.items():
        low, both = [], []
        for arm in PAIR:
            of = [table for (_, o, a), table in found.items() if (o, a) == (optimizer, arm)]
            low.append(f"{span([t['minority'].min() for t in of])} for {arm_label(arm)}")
            both.append(f"{span([t.loc[SOON].mean() for t in of])} for {arm_label(arm)}")
        lowest.append(f"with {name} {' and '.join(low)}")
        balanced.append(f"with {name} {' and '.join(both)}")
    return (
        f"Lowest mean recall of the minority at {len(counts)} numbers of updates from {counts[0]:g} to {counts[-1]:g}: "
        f"{'; '.join(lowest)}. Balanced accuracy after {SOON}: {'; '.join(balanced)}. On {' and '.join(cells)}."
    )


def first_updates(results: pd.DataFrame) -> Picture | HTML:
    """Recall of both classes over the first updates, by cell and optimiser."""
    found = recalls(results)
    if not found:
        return missing_html("The first updates: planned, not run yet.")
    rates = listed([f"{OPTIMIZERS[name]} at {rate_text(rate)}" for name, rate in RATES.items()])
    data = pd.concat(
        [
            of.reset_index().assign(setting=cell[0], network=cell[1], optimizer=optimizer, arm=arm)
            for (cell, optimizer, arm), of in found.items()
        ]
    )
    text = sentence(found)
    note = (
        f"Constant rates, {rates} (momentum {MOMENTUM}), tuned for no arm; means over {PLAN.cells[0].seeds} seeds, balanced "
        "test. In the first updates the layer is read with running statistics that have not caught up yet (momentum 0.1)."
    )
    return Picture(drawn(found), f"{text} {note}", text, data)


@closed
def drawn(found: Mapping[tuple[tuple[str, str], str, str], pd.DataFrame]) -> Figure:
    """Recall over updates: cells in rows, optimisers in columns."""
    cells = list(dict.fromkeys(cell for cell, *_ in found))
    fig, axes = plt.subplots(
        *(len(cells), len(RATES)),
        figsize=(WIDTH, 0.9 + 2.1 * len(cells)),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for row, cell in zip(axes, cells):
        for ax, optimizer in zip(row, RATES):
            for arm in PAIR:
                of, style = found[cell, optimizer, arm], look(arm)
                ax.plot(of.index, of["minority"], color=style.colour, marker=style.marker, ms=4.5, mec=INK, mew=0.4)
                ax.plot(of.index, of["majority"], color=style.colour, ls=":", lw=1.3)
            ax.set_title(f"{cell_label(cell).split(' · ')[0]}, {OPTIMIZERS[optimizer]}", loc="left", fontsize=9.5)
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_ylim(-0.03, 1.03)
    fig.supxlabel("updates", fontsize=10)
    fig.supylabel("recall", fontsize=10)
    lines = [
        Line2D(
            [], [], color=look(arm).colour, marker=look(arm).marker, ms=5, mec=INK, label=f"{arm_label(arm)}, minority"
        )
        for arm in PAIR
    ]
    lines += [Line2D([], [], color=look(arm).colour, ls=":", label=f"{arm_label(arm)}, majority") for arm in PAIR]
    fig.legend(handles=lines, loc="outside upper left", ncols=2, fontsize=8.5)
    return fig
