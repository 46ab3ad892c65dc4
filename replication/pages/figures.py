"""The figures: every seed visible, means with intervals, one look for all pages."""

import functools
import textwrap
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from replication.analysis import statistics as st
from replication.results.frame import arm_and_readout, values

GREY, ORANGE, BLUE = "#6b7280", "#d55e00", "#0072b2"
COLOURS = {
    "plain": GREY, "final_bn": ORANGE, "final_bn_slow": "#7b3294", "bn_before": BLUE,
    "affine": "#8c6d1f", "mean_only": "#00795c", "bn_no_affine": "#c2568f",
    "plain · logit_adjusted": "black", "plain_sigmoid": GREY, "final_bn_sigmoid": ORANGE,
}  # fmt: skip
"""arms that share an axis as lines; the same arm has the same colour on every page"""
MARKERS = dict(zip(COLOURS, "oDvsP^X*oD"))
VERDICT_COLOURS = {
    "replicated": "#1b7837", "partly": "#b8860b", "inconclusive": "#6b7280", "contradicted": "#b2182b",
    "not assessable": "#9ca3af", "not run": "#d1d5db",
}  # fmt: skip
ALWAYS_MINORITY = 2 / 3
"""F1 of a classifier that always says minority, on a balanced test set of two classes"""
FIGSIZE = (8.0, 4.2)

sns.set_theme(style="whitegrid", context="notebook", rc={"figure.dpi": 110, "axes.titlesize": 11, "axes.labelsize": 10})


def closed(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Close what was drawn: a notebook then shows the returned figure once, not twice."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        fig = draw(*args, **kwargs)
        plt.close(fig)
        return fig

    return drawn


def _jitter(n: int, width: float = 0.12) -> np.ndarray:
    """Evenly spread offsets (n,), the same at every call, so that points of equal value stay apart."""
    order = np.random.default_rng(0).permutation(n)
    return (order - (n - 1) / 2) / max(n - 1, 1) * 2 * width


def _points(ax, x: float, d: np.ndarray, colour: str, horizontal: bool = False) -> None:
    """All seeds as dots, their mean and BCa interval as a marker with a bar, at position x of the category axis."""
    low, high = st.bca(d)
    spread, mean = x + _jitter(len(d)), d.mean()
    error = np.abs([[mean - low], [high - mean]])
    seeds = {"s": 12, "alpha": 0.35, "color": colour, "linewidths": 0}
    mark = {"fmt": "D", "ms": 6, "color": colour, "mec": "black", "ecolor": "black", "capsize": 4, "zorder": 5}
    if horizontal:
        ax.scatter(d, spread, **seeds)
        ax.errorbar([mean], [x], xerr=error, **mark)
    else:
        ax.scatter(spread, d, **seeds)
        ax.errorbar([x], [mean], yerr=error, **mark)


def _gain_axis(ax, label: str = "gain in minority F1", horizontal: bool = False) -> None:
    line, span, name = (ax.axvline, ax.axvspan, ax.set_xlabel) if horizontal else (ax.axhline, ax.axhspan, ax.set_ylabel)
    line(0, color="black", lw=0.8)
    span(-st.MARGIN, st.MARGIN, color="black", alpha=0.08, lw=0)
    name(label)


def _colour(arm: str) -> str:
    return ORANGE if arm.startswith("final_bn") else GREY if arm.startswith("plain") else BLUE


def _line(arm: str) -> dict[str, str]:
    return {"color": COLOURS.get(arm, _colour(arm)), "marker": MARKERS.get(arm, "o")}


@closed
def paired(frame: pd.DataFrame, shown: Sequence[tuple[str, str]], metric: str = "f1_minority", **where) -> Figure:
    """Left: the metric of every (arm, readout) with each seed's values joined; right: their difference to the first."""
    columns = [values(frame, arm, metric, readout, **where) for arm, readout in shown]
    names = [arm if readout == "as_trained" else f"{arm}\n{readout}" for arm, readout in shown]
    fig, (left, right) = plt.subplots(1, 2, figsize=FIGSIZE, width_ratios=(1.2, 1), layout="constrained")
    for seed in np.stack(columns, axis=1):
        left.plot(seed, color="black", alpha=0.08, lw=0.8, zorder=0)
    for x, ((arm, _), column) in enumerate(zip(shown, columns)):
        _points(left, x, column, _colour(arm))
    tilt = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if len(names) > 3 else {}
    left.set_xticks(range(len(names)), names, fontsize=9, **tilt)
    left.set(ylim=(-0.03, 1.03), ylabel="minority F1 (balanced test)", title="every seed")
    for x, ((arm, _), column) in enumerate(zip(shown[1:], columns[1:])):
        _points(right, x, column - columns[0], _colour(arm))
    right.set_xticks(range(len(names) - 1), names[1:], fontsize=9, **tilt)
    right.set_title(f"difference to {names[0]}, paired by seed")
    _gain_axis(right)
    right.margins(x=0.25)
    return fig


@closed
def curve(
    frame: pd.DataFrame, variants: Sequence[str], label: str, arms: Sequence[str] = ("plain", "final_bn")
) -> Figure:
    """Top: F1 of the arms over the levels of every variant; bottom: the gain, every seed and pointwise intervals.

    An arm may be named with a readout, e.g. `plain · logit_adjusted`.
    """
    fig, axes = plt.subplots(
        2, len(variants), figsize=(max(6.5, 4.2 * len(variants)), 6), sharex="col", sharey="row", layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for column, variant in enumerate(variants):
        part = frame[frame["variant"] == variant]
        levels = sorted(part.loc[part["arm"] == "plain", "level"].unique())
        top, bottom = axes[:, column]
        for arm in arms:
            name, readout = arm_and_readout(arm)
            d = np.stack([values(part, name, readout=readout, level=n) for n in levels], axis=1)
            low, high = np.transpose([st.bca(x) for x in d.T])
            line = _line(arm)
            top.plot(range(len(levels)), d.mean(axis=0), ms=5, label=arm, **line)
            top.fill_between(range(len(levels)), low, high, color=line["color"], alpha=0.15, lw=0)
        for x, n in enumerate(levels):
            _points(bottom, x, values(part, "final_bn", level=n) - values(part, "plain", level=n), ORANGE)
        _gain_axis(bottom, "gain of final_bn in minority F1" if column == 0 else "")
        bottom.set_xticks(range(len(levels)), [f"{n:g}" for n in levels])
        bottom.set_xlabel(label)
        top.set(title=variant, ylim=(-0.03, 1.03), ylabel="minority F1" if column == 0 else "")
    axes[0, 0].legend(frameon=True, fontsize=9)
    return fig


@closed
def rows(
    frame: pd.DataFrame, shown: Sequence[tuple[str, str]], metrics: Sequence[str] = ("f1_minority", "f1_majority"), **where
) -> Figure:
    """One row an (arm, readout), one panel a metric: every seed, mean and interval."""
    fig, axes = plt.subplots(
        1, len(metrics), figsize=(8.5, 0.9 + 0.38 * len(shown)), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, metric in zip(axes[0], metrics):
        for y, (arm, readout) in enumerate(shown):
            _points(ax, y, values(frame, arm, metric, readout, **where), _colour(arm), horizontal=True)
        ax.set(xlabel=metric.replace("_", " of the ").replace("f1", "F1"), xlim=(-0.03, 1.03))
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    first = axes[0, 0]
    if metrics[0] == "f1_minority":
        first.axvline(ALWAYS_MINORITY, color="black", ls=":", lw=1)
    first.set_yticks(range(len(shown)), [arm if r == "as_trained" else f"{arm} · {r}" for arm, r in shown], fontsize=9)
    first.invert_yaxis()
    return fig


@closed
def rates(frame: pd.DataFrame, arms: Sequence[str], metric: str = "f1_minority") -> Figure:
    """The metric over learning rates (the frame's `level`), every seed, mean and interval, one line an arm.

    An arm may be named with a readout, e.g. `plain · logit_adjusted`.
    """
    fig, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
    levels = sorted(frame["level"].unique())
    for k, arm in enumerate(arms):
        name, readout = arm_and_readout(arm)
        d = np.stack([values(frame, name, metric, readout, level=n) for n in levels], axis=1)
        x = np.array(levels) * 1.06 ** (k - (len(arms) - 1) / 2)
        low, high = np.transpose([st.bca(v) for v in d.T])
        line = _line(arm)
        ax.scatter(np.tile(x, len(d)), d.ravel(), s=10, alpha=0.3, color=line["color"], linewidths=0)
        error = [d.mean(axis=0) - low, high - d.mean(axis=0)]
        ax.errorbar(x, d.mean(axis=0), yerr=error, capsize=3, label=arm, ms=5, **line)
    ax.set(xscale="log", xlabel="peak learning rate", ylabel="minority F1 (balanced test)", ylim=(-0.03, 1.03))
    ax.set_xticks(levels, [f"{n:g}" for n in levels])
    ax.minorticks_off()
    ax.legend(frameon=True, fontsize=9)
    return fig


@closed
def gains(frame: pd.DataFrame, comparisons: Sequence[tuple[str, str, str, dict]]) -> Figure:
    """Gains of several comparisons, side by side or, if many, in rows: each (label, arm, reference, columns fixed)."""
    many = len(comparisons) > 4
    size = (8, 0.9 + 0.45 * len(comparisons)) if many else (max(6.5, 1.25 * len(comparisons)), 4.2)
    fig, ax = plt.subplots(figsize=size, layout="constrained")
    for x, (_, arm, plain, where) in enumerate(comparisons):
        _points(ax, x, values(frame, arm, **where) - values(frame, plain, **where), _colour(arm), horizontal=many)
    labels = [label for label, *_ in comparisons]
    if many:
        wrapped = [textwrap.fill(label.replace("\n", ", "), 34) for label in labels]
        ax.set_yticks(range(len(labels)), wrapped, fontsize=9)
        ax.invert_yaxis()
        _gain_axis(ax, horizontal=True)
    else:
        ax.set_xticks(range(len(labels)), labels, fontsize=9)
        _gain_axis(ax)
    return fig


@closed
def cells(parts: dict[str, pd.DataFrame], arms: Sequence[str], metric: str = "f1_minority", **where) -> Figure:
    """The metric of some arms in several cells, in rows: every seed, mean and interval; `parts` by the cell's name."""
    fig, ax = plt.subplots(figsize=(8, 1 + 0.3 * len(parts) * len(arms)), layout="constrained")
    labels = []
    for cell, part in parts.items():
        for arm in arms:
            name, readout = arm_and_readout(arm)
            colour = COLOURS.get(arm, _colour(arm))
            _points(ax, len(labels), values(part, name, metric, readout, **where), colour, horizontal=True)
            labels.append(f"{cell}: {arm}")
    ax.set_yticks(range(len(labels)), labels, fontsize=9)
    ax.invert_yaxis()
    ax.axvline(ALWAYS_MINORITY, color="black", ls=":", lw=1)
    ax.set(xlabel="minority F1 (dotted: always saying minority)", xlim=(-0.03, 1.03))
    return fig


@closed
def reached(hitting: dict[str, np.ndarray], cap: int) -> Figure:
    """Share of runs that have reached the target by each epoch; `hitting` epochs (n,) by arm, NaN for never."""
    fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    epochs = np.arange(cap + 1)
    for arm, hit in hitting.items():
        share = (np.nan_to_num(hit, nan=np.inf)[:, None] <= epochs).mean(axis=0)
        ax.step(epochs, share, where="post", color=_colour(arm), label=f"{arm} (n = {len(hit)})", lw=2)
    ax.set(xlabel="epoch", ylabel="share of runs at the target", ylim=(-0.02, 1.02), xscale="symlog", xlim=(0, cap))
    ax.set_xticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"])
    ax.legend(frameon=True)
    return fig


@closed
def trajectories(frame: pd.DataFrame, **where) -> Figure:
    """Validation loss and test F1 by epoch: every seed thin, the median thick, both arms."""
    fig, axes = plt.subplots(1, 2, figsize=FIGSIZE, layout="constrained")
    panels = (("validation_nll", "validation NLL"), ("test_f1_minority", "minority test F1"))
    for ax, (name, label) in zip(axes, panels):
        for arm in ("plain", "final_bn"):
            curves = np.stack([np.asarray(c) for c in values(frame, arm, name, **where)])
            epochs = np.arange(1, curves.shape[1] + 1)
            ax.plot(epochs, curves.T, color=_colour(arm), alpha=0.12, lw=0.7)
            ax.plot(epochs, np.nanmedian(curves, axis=0), color=_colour(arm), lw=2.5, label=f"{arm} (median)")
        ax.set(xlabel="epoch", ylabel=label)
    axes[0].set_yscale("log")
    axes[0].legend(frameon=True, fontsize=9, loc="lower left")
    return fig


@closed
def reliability(probabilities: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Left: share of right predictions by confidence; right: how confident predictions are, pooled over seeds.

    `probabilities`: arm -> top-label confidence (S,) and whether the prediction was right (S,).
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=FIGSIZE, layout="constrained")
    edges = np.linspace(0.5, 1, 11)
    for arm, (confidence, right_answer) in probabilities.items():
        bins = np.clip(np.digitize(confidence, edges) - 1, 0, 9)
        kept = [b for b in range(10) if (bins == b).sum() >= 20]
        x = [confidence[bins == b].mean() for b in kept]
        y = [right_answer[bins == b].mean() for b in kept]
        left.plot(x, y, "o-", color=_colour(arm), label=arm)
    confidences, colours = [c for c, _ in probabilities.values()], [_colour(arm) for arm in probabilities]
    right.hist(confidences, bins=edges, color=colours, weights=[np.full(len(c), 1 / len(c)) for c in confidences])
    left.plot([0.5, 1], [0.5, 1], "--", color="black", lw=1)
    left.set(xlabel="confidence", ylabel="share of right predictions", title="reliability (bins of 20 or more)", ylim=(0, 1.03))
    right.set(xlabel="confidence", ylabel="share of predictions", title="how confident")
    left.legend(frameon=True)
    return fig


@closed
def forest(effects: Sequence[dict], label: str = "difference in minority F1 (shaded: smaller than 0.05)",
           margin: bool = True) -> Figure:  # fmt: skip
    """One row an effect with keys `label`, `d` (n,), `verdict`: every seed, mean and interval in the verdict's colour."""
    fig, ax = plt.subplots(figsize=(8, 0.9 + 0.4 * len(effects)), layout="constrained")
    for y, e in enumerate(effects):
        _points(ax, y, e["d"], VERDICT_COLOURS[e["verdict"]], horizontal=True)
    ax.set_yticks(range(len(effects)), [e["label"] for e in effects], fontsize=9)
    ax.invert_yaxis()
    if margin:
        _gain_axis(ax, label, horizontal=True)
    else:
        ax.axvline(0, color="black", lw=0.8)
        ax.set_xlabel(label)
    present = list(dict.fromkeys(e["verdict"] for e in effects))
    handles = [plt.Line2D([], [], marker="D", ls="", color=VERDICT_COLOURS[v], label=v) for v in present]
    fig.legend(handles=handles, fontsize=9, frameon=False, loc="outside upper center", ncols=len(handles))
    return fig
