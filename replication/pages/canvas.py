"""What all figures share: paper, sizes that a phone can read, dots of seeds, means with intervals, reference lines."""

import functools
from collections.abc import Callable, Iterable

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from replication.analysis import statistics as st
from replication.pages.names import arm_label
from replication.pages.style import INK, Look, look, no_skill

WIDTH = 5.0
"""inches: a column that a phone shows nearly at full size, so that text stays legible"""
LOOK = {
    "axes.edgecolor": "#555555",
    "grid.color": "#dddddd",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
RC = seaborn.axes_style("whitegrid", LOOK) | {
    "grid.linewidth": 0.7,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "figure.dpi": 110,
}


def closed(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the book's look and close what was drawn: a notebook then shows the returned figure once, not twice."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        with plt.rc_context(RC):
            fig = draw(*args, **kwargs)
        plt.close(fig)
        fig.drawn_by = f"{draw.__module__}.{draw.__name__}"  # for the link below the figure
        return fig

    return drawn


def jitter(n: int, width: float) -> np.ndarray:
    """Evenly spread offsets (n,), the same at every call, so that points of equal value stay apart."""
    order = np.random.default_rng(0).permutation(n)
    return (order - (n - 1) / 2) / max(n - 1, 1) * 2 * width


def points(
    ax: Axes, at: float, d: np.ndarray, style: Look, *, horizontal: bool = True, width: float = 0.09, fill: str = "full"
) -> None:
    """All seeds as faint dots, their mean and BCa interval as a marker with a bar, at a position of the category axis."""
    d = d[np.isfinite(d)]
    if not len(d):
        return
    low, high = st.bca(d) if len(d) > 1 else (d[0], d[0])
    mean, spread = d.mean(), at + jitter(len(d), width)
    error = np.abs([[mean - low], [high - mean]])
    mark = {
        "fmt": style.marker,
        "ms": 7,
        "color": style.colour,
        "mec": INK if fill == "full" else style.colour,
        "mew": 0.8,
        "ecolor": style.colour,
        "elinewidth": 1.6,
        "capsize": 0,
        "zorder": 5,
        "fillstyle": fill,
        "markerfacecoloralt": "white",
    }
    x, y = (d, spread) if horizontal else (spread, d)
    ax.scatter(x, y, s=7, alpha=0.28, color=style.colour, linewidths=0)
    if horizontal:
        ax.errorbar([mean], [at], xerr=error, **mark)
    else:
        ax.errorbar([at], [mean], yerr=error, **mark)


def margin_band(ax: Axes, horizontal: bool = True) -> None:
    """Zero, and the band of effects smaller than the smallest that counts."""
    line, span = (ax.axvline, ax.axvspan) if horizontal else (ax.axhline, ax.axhspan)
    line(0, color=INK, lw=0.9, zorder=1)
    span(-st.MARGIN, st.MARGIN, color=INK, alpha=0.08, lw=0, zorder=0)


def no_skill_line(ax: Axes, metric: str, horizontal: bool = True) -> None:
    """The score of always saying minority, where the metric has one."""
    if (value := no_skill(metric)) is not None:
        (ax.axvline if horizontal else ax.axhline)(value, color=INK, ls=":", lw=1.3, zorder=1)


def handles(names: Iterable[str]) -> list[Line2D]:
    """Legend entries of some arms, or of `arm · readout`."""
    return [
        Line2D(
            [],
            [],
            marker=(s := look(name)).marker,
            color=s.colour,
            mec=INK,
            mew=0.8,
            ls="",
            ms=7,
            label=arm_label(name),
        )
        for name in names
    ]


def always_minority() -> Line2D:
    """Legend entry of the no-skill line."""
    return Line2D([], [], color=INK, ls=":", lw=1.3, label="always saying minority")


def row_label(ax: Axes, y: float, text: str) -> None:
    """The name of a row, above it: a label beside it would take half of a phone's width."""
    ax.text(
        0.0,
        y,
        text,
        transform=ax.get_yaxis_transform(),
        ha="left",
        va="center",
        fontsize=min(9.5, 9.5 * 64 / len(text)),
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
    )


def rows_axis(ax: Axes, n: int) -> None:
    """A category axis of n rows that have their names inside, see `row_label`."""
    ax.set_ylim(n - 0.35, -0.75)
    ax.set_yticks([])
    ax.grid(axis="y", visible=False)
    for y in range(1, n):
        ax.axhline(y - 0.62, color="#eeeeee", lw=1, zorder=0)


def height(rows: float, each: float) -> float:
    """Inches for so many rows, legend and axis included."""
    return 1.15 + rows * each
