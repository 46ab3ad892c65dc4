"""The figures: every seed visible, means with intervals, one look for all pages, text that a phone can show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from replication.analysis import statistics as st
from replication.pages.canvas import (
    WIDTH,
    always_minority,
    closed,
    handles,
    height,
    margin_band,
    no_skill_line,
    points,
    row_label,
    rows_axis,
)
from replication.pages.names import KINDS, METRICS, READOUTS, arm_label
from replication.pages.style import INK, KIND_FILLS, LOOKS, SIGNS, VERDICTS, Look, look
from replication.pages.words import rate_text
from replication.results.frame import arm_and_readout, values
from replication.study.design import PAIR

GREY, ORANGE = LOOKS["plain"].colour, LOOKS["final_bn"].colour
FIGSIZE = (8.0, 4.2)
"""of the figures on speed"""


def scores(part: pd.DataFrame, name: str, metric: str = "f1_minority", **where) -> np.ndarray | None:
    """A metric (n,) of an arm or of `arm · readout`; nothing where a part has no such readout or metric."""
    arm, readout = arm_and_readout(name)
    if metric not in part:
        return None
    try:
        found = values(part, arm, metric, readout, **where)
    except KeyError:
        return None
    return found if np.isfinite(found).any() else None


@closed
def ladder(parts: Mapping[str, pd.DataFrame], arms: Sequence[str], metric: str = "f1_minority", **where) -> Figure:
    """One row per part, by name: the arms' scores on one axis, every seed, mean and interval, and the no-skill line."""
    fig, ax = plt.subplots(figsize=(WIDTH, height(len(parts), 0.28 + 0.12 * len(arms))), layout="constrained")
    for y, (label, part) in enumerate(parts.items()):
        row_label(ax, y - 0.47, label)
        for k, name in enumerate(arms):
            if (d := scores(part, name, metric, **where)) is not None:
                points(ax, y - 0.25 + 0.55 * k / max(len(arms) - 1, 1), d, look(name), width=0.05)
    rows_axis(ax, len(parts))
    if metric in ("f1_minority", "f1_macro", "f1_majority", "roc_auc", "balanced_accuracy"):
        ax.set_xlim(-0.02, 1.02)
    no_skill_line(ax, metric)
    ax.set_xlabel(METRICS.get(metric, metric) + (" (balanced test)" if "f1" in metric else ""))
    line = [always_minority()] if metric in ("f1_minority", "f1_macro") else []
    fig.legend(handles=[*handles(arms), *line], loc="outside upper left", ncols=2, columnspacing=1.2, handletextpad=0.4)
    return fig


@dataclass(frozen=True)
class Row:
    """One row of a forest plot: an effect at each kind of learning rate that it was measured at, and its verdict."""

    label: str
    by_kind: Mapping[str, np.ndarray]
    verdict: str


@closed
def forest(rows: Sequence[Row], label: str, margin: bool = True) -> Figure:
    """One row an effect: every seed, mean and interval in the look of its verdict; other rates as open markers."""
    kinds = [k for k in KIND_FILLS if any(k in row.by_kind for row in rows)]
    fig, ax = plt.subplots(figsize=(WIDTH, height(len(rows), 0.34 + 0.13 * len(kinds))), layout="constrained")
    for y, row in enumerate(rows):
        style = VERDICTS[row.verdict]
        row_label(ax, y - 0.48, f"{SIGNS[row.verdict]} {row.label}")
        for k, kind in enumerate(kinds):
            if kind in row.by_kind:
                points(
                    ax,
                    y - 0.2 + 0.5 * k / max(len(kinds), 2),
                    row.by_kind[kind],
                    style,
                    width=0.05,
                    fill=KIND_FILLS[kind],
                )
    rows_axis(ax, len(rows))
    if margin:
        margin_band(ax)
    else:
        ax.axvline(0, color=INK, lw=0.9)
    ax.set_xlabel(label)
    words = [
        Line2D([], [], marker=s.marker, ls="", color=s.colour, mec=INK, ms=7, label=word)
        for word, s in VERDICTS.items()
        if any(row.verdict == word for row in rows)
    ]
    rates = [
        Line2D(
            [],
            [],
            marker="o",
            ls="",
            color="#555555",
            fillstyle=KIND_FILLS[k],
            markerfacecoloralt="white",
            ms=7,
            label=KINDS[k],
        )
        for k in kinds
    ]
    fig.legend(
        handles=[*words, *(rates if len(kinds) > 1 else [])], loc="outside upper left", ncols=2, columnspacing=1.2
    )
    return fig


@closed
def contrasts(rows: Sequence[tuple[str, np.ndarray, Look]], label: str) -> Figure:
    """One row per paired difference (label, d (n,), look): every seed, mean and interval."""
    fig, ax = plt.subplots(figsize=(WIDTH, height(len(rows), 0.5) - 0.35), layout="constrained")
    for y, (text, d, style) in enumerate(rows):
        row_label(ax, y - 0.42, text)
        points(ax, y, d, style)
    rows_axis(ax, len(rows))
    margin_band(ax)
    ax.set_xlabel(label)
    return fig


@closed
def curve(part: pd.DataFrame, variant: str, label: str, arms: Sequence[str] = PAIR) -> Figure:
    """Top: minority F1 of the arms over the levels of a variant; bottom: the layer's gain, every seed and its interval."""
    part = part[part["variant"] == variant]
    levels = sorted(part.loc[part["arm"] == "plain", "level"].unique())
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(WIDTH, 5.6), sharex=True, layout="constrained")
    for name in arms:
        found = [scores(part, name, level=n) for n in levels]
        here = [k for k, d in enumerate(found) if d is not None]
        if not here:
            continue
        style, means = look(name), [found[k].mean() for k in here]
        low, high = np.transpose([st.bca(found[k]) for k in here])
        top.plot(here, means, ms=6, color=style.colour, marker=style.marker, mec=INK, mew=0.6, lw=1.6)
        top.fill_between(here, low, high, color=style.colour, alpha=0.15, lw=0)
    no_skill_line(top, "f1_minority", horizontal=False)
    for x, n in enumerate(levels):
        points(
            bottom,
            x,
            values(part, "final_bn", level=n) - values(part, "plain", level=n),
            look("final_bn"),
            horizontal=False,
            width=0.14,
        )
    margin_band(bottom, horizontal=False)
    bottom.set_xticks(range(len(levels)), [f"{n:g}" for n in levels])
    bottom.set(xlabel=label, ylabel="gain in minority F1")
    top.set(ylim=(-0.03, 1.03), ylabel="minority F1")
    fig.legend(handles=[*handles(arms), always_minority()], loc="outside upper left", ncols=2, columnspacing=1.2)
    return fig


@closed
def arms(part: pd.DataFrame, shown: Sequence[str], **where) -> Figure:
    """One row per arm (or `arm · readout`): minority F1 filled, majority F1 open; every seed, mean and interval."""
    fig, ax = plt.subplots(figsize=(WIDTH, height(len(shown), 0.56)), layout="constrained")
    for y, name in enumerate(shown):
        row_label(ax, y - 0.45, arm_label(name))
        for k, (metric, fill) in enumerate((("f1_minority", "full"), ("f1_majority", "none"))):
            if (d := scores(part, name, metric, **where)) is not None:
                points(ax, y - 0.1 + 0.25 * k, d, look(name), width=0.06, fill=fill)
    rows_axis(ax, len(shown))
    no_skill_line(ax, "f1_minority")
    ax.set(xlim=(-0.02, 1.02), xlabel="F1 (balanced test)")
    keys = [
        Line2D([], [], marker="o", ls="", color="#555555", fillstyle=fill, ms=7, label=label)
        for fill, label in (("full", "minority F1"), ("none", "majority F1"))
    ]
    fig.legend(handles=[*keys, always_minority()], loc="outside upper left", ncols=2, columnspacing=1.2)
    return fig


@closed
def rates(part: pd.DataFrame, names: Sequence[str], metric: str = "f1_minority") -> Figure:
    """The metric over learning rates (the frame's `level`): every seed as a dot, mean and interval, one line per arm."""
    fig, ax = plt.subplots(figsize=(WIDTH, 4.4), layout="constrained")
    levels = sorted(part["level"].unique())
    for k, name in enumerate(names):
        found = {n: d for n in levels if (d := scores(part, name, metric, level=n)) is not None}
        if not found:
            continue
        style, shift = look(name), 1.07 ** (k - (len(names) - 1) / 2)
        x, means = np.array(list(found)) * shift, [d.mean() for d in found.values()]
        low, high = np.transpose([st.bca(d) for d in found.values()])
        for at, d in zip(x, found.values()):
            ax.scatter(np.full(len(d), at), d, s=8, alpha=0.3, color=style.colour, linewidths=0)
        error = np.abs([np.subtract(means, low), np.subtract(high, means)])
        ax.errorbar(x, means, yerr=error, color=style.colour, marker=style.marker, mec=INK, mew=0.6, ms=6, lw=1.6)
    no_skill_line(ax, metric, horizontal=False)
    ax.set(xscale="log", xlabel="peak learning rate", ylabel=METRICS[metric], ylim=(-0.03, 1.03))
    ax.set_xticks(levels, [rate_text(n) for n in levels], rotation=35, ha="right", rotation_mode="anchor")
    ax.minorticks_off()
    fig.legend(handles=[*handles(names), always_minority()], loc="outside upper left", ncols=2, columnspacing=1.2)
    return fig


@closed
def pilots_beside(found: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """Validation macro F1 over learning rates, a panel a cell (title -> arm -> pilots): seeds as dots, means as lines."""
    size = (WIDTH, 1.3 + 2.1 * len(found))
    fig, axes = plt.subplots(len(found), 1, figsize=size, layout="constrained", squeeze=False, sharex=True)
    for ax, (title, by_arm) in zip(axes[:, 0], found.items()):
        for arm, pilots in by_arm.items():
            style, of = look(arm), pilots.groupby("learning_rate")["validation_f1_macro"].mean()
            ax.scatter(
                pilots["learning_rate"], pilots["validation_f1_macro"], s=8, alpha=0.35, color=style.colour, lw=0
            )
            ax.plot(of.index, of, color=style.colour, marker=style.marker, mec=INK, mew=0.6, ms=6, lw=1.6)
        ax.set(xscale="log", ylabel="validation macro F1", ylim=(-0.03, 1.03))
        ax.set_title(title.replace(" · ", "\n", 1), loc="left", fontsize=9.5)
        ax.minorticks_off()
    levels = sorted(
        {rate for by_arm in found.values() for pilots in by_arm.values() for rate in pilots["learning_rate"]}
    )
    axes[-1, 0].set_xticks(levels, [rate_text(n) for n in levels], rotation=35, ha="right", rotation_mode="anchor")
    axes[-1, 0].set_xlabel("peak learning rate")
    fig.legend(handles=handles(list(next(iter(found.values())))), loc="outside upper left", ncols=2)
    return fig


@closed
def reached(hitting: Mapping[str, np.ndarray], cap: int) -> Figure:
    """Share of runs that have reached the target by each epoch; `hitting` epochs (n,) by arm, NaN for never."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3.8), layout="constrained")
    epochs = np.arange(cap + 1)
    for arm, hit in hitting.items():
        share = (np.nan_to_num(hit, nan=np.inf)[:, None] <= epochs).mean(axis=0)
        style = look(arm)
        ax.step(epochs, share, where="post", color=style.colour, lw=2)
        ax.plot(epochs[::10], share[::10], ls="", marker=style.marker, color=style.colour, mec=INK, ms=6)
    ax.set(xlabel="epoch", ylabel="share of runs at the target", ylim=(-0.02, 1.02), xscale="symlog", xlim=(0, cap))
    ax.set_xticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"])
    fig.legend(handles=handles(hitting), loc="outside upper left", ncols=2)
    return fig


@closed
def trajectories(part: pd.DataFrame, **where) -> Figure:
    """Validation loss (top) and test F1 (bottom) by epoch: every seed thin, the median thick, both arms."""
    fig, axes = plt.subplots(2, 1, figsize=(WIDTH, 5.4), sharex=True, layout="constrained")
    panels = (("validation_nll", "validation NLL"), ("test_f1_minority", "minority test F1"))
    for ax, (name, label) in zip(axes, panels):
        for arm in ("plain", "final_bn"):
            curves = np.stack([np.asarray(c) for c in values(part, arm, name, **where)])
            epochs, style = np.arange(1, curves.shape[1] + 1), look(arm)
            ax.plot(epochs, curves.T, color=style.colour, alpha=0.12, lw=0.7)
            ax.plot(
                epochs, np.nanmedian(curves, axis=0), color=style.colour, lw=2.2, marker=style.marker, mec=INK, ms=6
            )
        ax.set_ylabel(label)
    axes[0].set_yscale("log")
    axes[1].set_xlabel("epoch")
    no_skill_line(axes[1], "f1_minority", horizontal=False)
    fig.legend(handles=[*handles(("plain", "final_bn")), always_minority()], loc="outside upper left", ncols=2)
    return fig


@closed
def reliability(probabilities: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Top: share of right predictions by confidence; bottom: how confident predictions are, pooled over seeds.

    `probabilities`: arm -> top-label confidence (S,) and whether the prediction was right (S,).
    """
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(WIDTH, 5.6), sharex=True, layout="constrained")
    edges = np.linspace(0.5, 1, 11)
    for arm, (confidence, right_answer) in probabilities.items():
        bins = np.clip(np.digitize(confidence, edges) - 1, 0, 9)
        kept = [b for b in range(10) if (bins == b).sum() >= 20]
        x = [confidence[bins == b].mean() for b in kept]
        y = [right_answer[bins == b].mean() for b in kept]
        top.plot(x, y, color=look(arm).colour, marker=look(arm).marker, mec=INK, ms=6)
    confidences, colours = [c for c, _ in probabilities.values()], [look(arm).colour for arm in probabilities]
    bottom.hist(confidences, bins=edges, color=colours, weights=[np.full(len(c), 1 / len(c)) for c in confidences])
    top.plot([0.5, 1], [0.5, 1], "--", color=INK, lw=1)
    top.set(ylabel="share of right predictions", ylim=(0, 1.03))
    bottom.set(xlabel="confidence", ylabel="share of predictions")
    fig.legend(handles=handles(probabilities), loc="outside upper left", ncols=2)
    return fig


def readout_names(arm: str, readouts: Sequence[str] = tuple(READOUTS)) -> list[str]:
    """An arm in several readouts, as figures name them."""
    return [arm if readout == "as_trained" else f"{arm} · {readout}" for readout in readouts]
