"""The picture of a trial: every seed of every choice."""

import base64
import html

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from replication.analysis.choices import CHOICE_OF, CHOICES, Comparison
from replication.pages.canvas import INK, always_minority, closed, height, no_skill_line, points, row_label, rows_axis
from replication.pages.names import METRICS
from replication.pages.picture import Picture
from replication.pages.style import LOOKS, Look
from replication.pages.words import number

WIDTH = 4.6
"""inches of the figures: narrower than the book's, as a phone shows nothing beside them"""
LOOKS_OF = {choice.name: LOOKS.get(choice.name, Look(LOOKS["plain"].colour, "d")) for choice in CHOICES}


@closed
def _drawn(comparison: Comparison, exact: bool, metric: str) -> Figure:
    fig, ax = plt.subplots(figsize=(WIDTH, height(len(CHOICES), 0.45)), layout="constrained")
    for y, choice in enumerate(CHOICES):
        row_label(ax, y - 0.36, choice.label)
        of = comparison.rows.loc[comparison.rows["choice"] == choice.name, metric].to_numpy()
        if exact:
            points(ax, y, of, LOOKS_OF[choice.name])
        else:
            ax.scatter(of, np.full(len(of), y), s=9, alpha=0.4, color=LOOKS_OF[choice.name].colour, linewidths=0)
            ax.plot([of.mean()], [y], LOOKS_OF[choice.name].marker, color=LOOKS_OF[choice.name].colour, mec=INK, ms=7)
    no_skill_line(ax, metric)
    rows_axis(ax, len(CHOICES))
    ax.set_xlabel(METRICS[metric])
    keys: list[Line2D] = [always_minority()]
    fig.legend(handles=keys, loc="outside lower right")
    return fig


def choices_picture(comparison: Comparison, exact: bool, metric: str) -> HTML:
    """Every seed of every choice with its mean, and with its interval where that is `exact`."""
    best = CHOICE_OF[comparison.recommended]
    said = f"{METRICS[metric]}: " + ", ".join(f"{c.label} {number(comparison.mean(c.name, metric))}" for c in CHOICES)
    caption = (
        f"{METRICS[metric][0].upper()}{METRICS[metric][1:]} on test images, one dot per seed"
        + (", the mean and its own 95 % interval" if exact else ", and the mean")
        + f". Recommended: {best.label}."
    )
    picture = Picture(_drawn(comparison, exact, metric), caption, said, comparison.rows)
    image = base64.b64encode(picture.png()).decode()
    return HTML(
        f"<figure><img alt='{html.escape(said, quote=True)}' src='data:image/png;base64,{image}'>"
        f"<figcaption>{caption}</figcaption></figure>"
    )
