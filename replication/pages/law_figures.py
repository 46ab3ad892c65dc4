"""The figures on the page of the law: the curve beside all runs, and what the layer does to the logits."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from replication.analysis import law
from replication.claims.law.rules import Check
from replication.pages.canvas import WIDTH, closed
from replication.pages.figures import GREY, ORANGE
from replication.pages.names import cell_label
from replication.pages.picture import Picture
from replication.pages.style import CELL_COLOURS, CELL_MARKERS, INK
from replication.pages.words import number, rate_text
from replication.run import Run


def simulated(points: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """S and the shift (points,) at 1000:10, batches of 64 and 10 epochs, over learning rates from 1e-5 to 3e-1."""
    runs = [law.predicted(Run(final_norm="bn", learning_rate=float(lr))) for lr in np.geomspace(1e-5, 3e-1, points)]
    return np.array([r.S for r in runs]), np.array([r.shift for r in runs])


@closed
def curve(checks: Sequence[Check]) -> Figure:
    """Shift against the sum of the learning rates: the simulation as a line, every level of every cell as a marker."""
    fig, ax = plt.subplots(figsize=(WIDTH, 4.4), layout="constrained")
    S, shift = simulated()
    ax.plot(S, shift, color=INK, lw=1.5, zorder=2, label="simulation, not fitted")
    cells = list(dict.fromkeys((c.setting, c.network) for c in checks))
    for k, cell in enumerate(cells):
        own = [c for c in checks if (c.setting, c.network) == cell]
        ax.plot(
            [c.S for c in own],
            [c.observed for c in own],
            ls="",
            marker=CELL_MARKERS[k % 7],
            color=CELL_COLOURS[k % 7],
            mec=INK,
            mew=0.5,
            ms=6,
            alpha=0.85,
            zorder=3,
            label=cell_label(cell),
        )
    ax.axhline(np.log(0.01), color=INK, ls=":", lw=1.2, label="log prior at 1000:10")
    ax.set_xscale("log")
    ax.set_ylim(-4.9, 0.15)
    ax.set_xlabel("S, the sum of the learning rates of all updates")
    ax.set_ylabel("learned shift (nats)")
    fig.legend(loc="outside upper left", ncols=1, fontsize=7.8, handletextpad=0.5)
    return fig


def logits_picture(learning_rate: float = 3e-3) -> Picture:
    """A drawing of what the layer does to the log-odds of a made-up network."""
    shift = law.predicted(Run(final_norm="bn", learning_rate=learning_rate)).shift
    text = (
        f"Before the layer the log-odds may lie anywhere. Behind it their mean over a batch "
        "equals the difference of the shifts, "
        f"which is {number(shift)} at a rate of {rate_text(learning_rate)}. Most of the minority then lies beyond zero."
    )
    drawn = pd.DataFrame(
        [{"panel": title, **dict(zip(("class", "mean", "spread"), c))} for title, *c in _panels(shift)]
    )
    note = "A drawing with made-up normal scores, 1000 majority and 10 minority images."
    return Picture(_logits(shift), f"{text} {note}", text, drawn)


def _panels(shift: float) -> list[tuple[str, str, float, float]]:
    """(panel, class, mean, spread) of normal log-odds: four units apart, before the layer and behind it."""
    prior, gap, pi = np.log(0.01), 4.0, 10 / 1010
    mean, sd = prior + pi * gap, np.sqrt(1 + pi * (1 - pi) * gap**2)
    before, behind = "without the layer: all weights learn the log prior", "behind the layer: mean zero, plus the shift"
    centres = {"majority": prior, "minority": prior + gap, "mean over a batch": mean}
    return [(before, name, z, 1.0) for name, z in centres.items()] + [
        (behind, name, (z - mean) / sd + shift, 1 / sd) for name, z in centres.items()
    ]


@closed
def _logits(shift: float) -> Figure:
    fig, axes = plt.subplots(2, 1, figsize=(WIDTH, 3.9), layout="constrained", sharex=True)
    colours, x, panels = {"majority": GREY, "minority": ORANGE}, np.linspace(-9, 6, 500), _panels(shift)
    for ax, title in zip(axes, dict.fromkeys(title for title, *_ in panels)):
        for _, name, at, width in (panel for panel in panels if panel[0] == title):
            if name not in colours:
                ax.axvline(at, color=INK, lw=1.1, ls="--")
                continue
            density = np.exp(-((x - at) ** 2) / 2 / width**2)
            ax.fill_between(x, density, color=colours[name], alpha=0.35, lw=0)
            ax.plot(x, density, color=colours[name], lw=1.4)
        ax.axvline(0, color=INK, lw=1.1)
        ax.set_title(title, loc="left")
        ax.set_yticks([])
    axes[1].set_xlabel("log-odds of the minority; right of zero, images are called minority")
    lines = [Line2D([], [], color=c, lw=4, alpha=0.5, label=n) for n, c in colours.items()]
    lines.append(Line2D([], [], color=INK, ls="--", lw=1.1, label="mean over a batch"))
    fig.legend(handles=lines, loc="outside upper left", ncols=3)
    return fig
