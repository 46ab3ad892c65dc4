"""Tables and figures of the performance page, and the goals that the measurements are held against."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from replication.analysis.statistics import bca
from replication.bench.derived import measured_times
from replication.bench.peers import peers
from replication.bench.workloads import WORKLOADS
from replication.pages.figures import FIGSIZE, GREY, ORANGE, closed
from replication.pages.page import Page
from replication.pages.picture import Picture
from replication.pages.tables import shown
from replication.pages.words import between, signed
from replication.results.frame import values


@dataclass(frozen=True)
class Goal:
    """Something the engines should reach, fixed before the measurement."""

    device: str
    workload: str
    least: float
    peer: str = ""
    """the peer by whose runs per hour ours are divided; without one, the share of the measured peak counts"""

    def __str__(self) -> str:
        if self.peer:
            return f"{self.least:g} times the runs per hour of `{self.peer}`, {self.workload}"
        return f"{100 * self.least:g} % of the measured peak, {self.workload}"

    def values(self, rows: pd.DataFrame, ours: str) -> np.ndarray:
        """What every round gave (R,), from a table of measurements; empty where something was not measured."""
        here = rows[rows["workload"] == self.workload]
        by = here.pivot(index="round", columns="peer", values="runs/hour" if self.peer else "share")
        if ours not in by or self.peer not in (*by, ""):
            return np.array([])
        return (by[ours] / by[self.peer] if self.peer else by[ours]).dropna().to_numpy()


GOALS = (
    *(Goal("cpu", workload, 4, "fastai") for workload in ("digits", "apple32", "apple64")),
    *(Goal("cpu", workload, 3, "dataloader") for workload in ("digits", "apple32", "apple64")),
    Goal("cpu", "resnet_cntk", 1, "fastai"),
    Goal("cpu", "resnet_cntk", 1, "dataloader"),
    Goal("cuda", "resnet34", 30, "fastai"),
    Goal("cuda", "vgg19_bn", 0.35),
    Goal("cuda", "resnet34", 0.25),
)


def _median_and_range(rounds: np.ndarray) -> str:
    if not len(rounds):
        return "not measured"
    return f"{np.median(rounds):.3g}" + (f" ({rounds.min():.3g}\u2013{rounds.max():.3g})" if len(rounds) > 1 else "")


def goals(contents: list[dict]) -> HTML:
    """Every goal with what was measured in either precision: median, which counts, and range over rounds."""
    measured = pd.concat(
        [measured_times(content).assign(device=content["provenance"]["device"]) for content in contents]
    )
    rows = []
    for goal in GOALS:
        here = measured[measured["device"] == goal.device]
        single, half = (goal.values(here, name) for name in ("ours", "ours_bfloat16"))
        met = [
            name
            for name, found in (("yes", single), ("in bfloat16 only", half))
            if len(found) and np.median(found) >= goal.least
        ]
        rows.append(
            {
                "device": goal.device,
                "goal: at least": str(goal),
                "float32": _median_and_range(single),
                "bfloat16": _median_and_range(half),
                "met": (met or ["no"])[0] if len(single) or len(half) else "",
            }
        )
    return shown(pd.DataFrame(rows), "Goals for speed, set before anything was measured: median and range over rounds")


RUN_GOALS = {
    ("apple32", "ours"): 8,
    ("apple32", "ours_bfloat16"): 5,
    ("apple64", "ours"): 50,
    ("apple64", "ours_bfloat16"): 25,
}
"""(workload, peer) -> seconds that one run may take one core"""


def seconds(content: dict, packing: dict) -> HTML:
    """Goals in seconds: one run on one core, median and slowest round; and what comes before a run, decoding its images."""
    rows, found = measured_times(content), []
    for (work, peer), most in RUN_GOALS.items():
        took = rows.loc[(rows["workload"] == work) & (rows["peer"] == peer), "one run"]
        found.append((f"a run of {work} by `{peer}`", most, took.to_numpy()))
    for name, most in packing["goals"].items():
        found.append((name, most, np.array([once["wall"] for once in packing["seconds"][name]])))
    return shown(
        pd.DataFrame(
            {
                "what": what,
                "goal: at most, s": f"{most:g}",
                "median, s": f"{np.median(took):.2g}" if len(took) else "not measured",
                "slowest, s": f"{took.max():.2g}" if len(took) else "",
                "met": "" if not len(took) else "yes" if took.max() <= most else "no",
            }
            for what, most, took in found
        ),
        f"Goals in seconds, and what was measured: runs on {_where(content)}, decoding on {_where(packing)}",
    )


def _where(content: dict) -> str:
    return f"{content['provenance']['hardware']} (commit {content['provenance']['commit']})"


def machine(content: dict) -> Markdown:
    """Where a file was measured, and what that machine can do at best."""
    best, facts = pd.DataFrame(content["ceilings"]).max(), content["provenance"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    rates = {name: f"{best[name] / 1e9:,.0f}" for name in best.index}
    return Markdown(
        f"Measured on {facts['hardware']} ({facts['device']}), commit {facts['commit']}, with {versions}. Its ceilings, "
        f"best of {len(content['ceilings'])} measurements of all cores, in GFLOP/s: {rates['float32 product']} in float32 "
        f"for matrix products and {rates['float32 convolution']} for convolutions, {rates['bfloat16 product']} and "
        f"{rates['bfloat16 convolution']} in bfloat16; a copy runs at {rates['copy']} GB/s. "
        "Shares below refer to the larger of the two."
    )


def short(value: float) -> str:
    """A positive number to three digits, or whole from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def comparison(content: dict, workload: str) -> HTML:
    """Every peer on a workload: medians over rounds, and the ratio to ours with its range; cold and warm of ten runs."""
    rows = measured_times(content)
    rows = rows[rows["workload"] == workload]
    by_peer = rows.groupby("peer", sort=False)
    median = by_peer.median(numeric_only=True)
    ratio = by_peer["ratio"].agg(["median", "min", "max", "size"])
    made = pd.DataFrame(
        {
            "peer": [f"`{name}`" for name in median.index],
            "time, ours = 1": ["1" if name == "ours" else f"{r['median']:.2f}" for name, r in ratio.iterrows()],
            "range": [
                f"{r['min']:.2f}\u2013{r['max']:.2f}" if r["size"] > 1 and name != "ours" else ""
                for name, r in ratio.iterrows()
            ],
            "cold, s": median["cell cold"].map(short),
            "warm, s": median["cell warm"].map(short),
            "runs per hour": median["runs/hour"].map("{:,.0f}".format),
            "images/s": median["images/s"].map("{:,.0f}".format),
            "share of peak": [f"{100 * v:.0f}\u00a0%" if v >= 0.01 else "below 1\u00a0%" for v in median["share"]],
            "GB": median["GB"].map("{:.1f}".format, na_action="ignore").fillna("not known"),
        }
    )
    made = made.loc[:, (made != "").any()]  # no range of a single round
    return shown(
        made.iloc[np.argsort(median["run"].to_numpy())], f"`{workload}`: every peer, the fastest first", data=rows
    )


def ratios(contents: list[dict]) -> Picture:
    """Time of a run by that of `ours` in the same round, every peer, workload and round of files of one device."""
    rows = pd.concat(map(measured_times, contents))
    others = rows[~rows["peer"].str.startswith("ours")].groupby("workload", sort=False)["ratio"].median()
    finding = "Time of a run relative to ours, median over the peers and rounds: " + ", ".join(
        f"{value:.1f} on {work}" for work, value in others.items()
    )
    text = f"{finding}. Every peer, workload and round; right of the line is slower than ours."
    return Picture(ratio_dots(rows), text, f"{finding}.", rows[["workload", "peer", "round", "ratio"]])


@closed
def ratio_dots(rows: pd.DataFrame) -> Figure:
    """One panel per workload, one row per peer, one dot per round; `ours` in the layer's colour."""
    works = [name for name in WORKLOADS if name in set(rows["workload"])]
    peers = list(dict.fromkeys(rows.sort_values("ratio")["peer"]))
    fig, axes = plt.subplots(
        1, len(works), figsize=(FIGSIZE[0], 0.32 * len(peers) + 1), sharex=True, sharey=True, layout="constrained"
    )
    for ax, work in zip(np.atleast_1d(axes), works):
        here = rows[rows["workload"] == work]
        mine = here["peer"].str.startswith("ours")
        for part, colour in ((here[mine], ORANGE), (here[~mine], GREY)):
            ax.scatter(part["ratio"], part["peer"].map(peers.index), color=colour, s=28, alpha=0.8, linewidths=0)
        ax.axvline(1, color="black", lw=0.8)
        ax.set(xscale="log", title=work, yticks=range(len(peers)), yticklabels=peers, xticks=[1, 3, 10, 30])
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
    fig.supxlabel("time of a run (ours = 1, logarithmic)", fontsize=10)
    return fig


def costs(content: dict) -> Picture:
    """Seconds against runs, and seconds an epoch against pixels."""
    rows = pd.DataFrame(content["curves"]).sort_values("x")
    ends = [rows[rows["curve"] == curve].iloc[[0, -1]][["x", "seconds"]].to_numpy() for curve in ("runs", "side")]
    (n, few), (many, long) = ends[0]
    (small, quick), (large, slow) = ends[1]
    finding = (
        f"{n:.0f} run takes {few:.0f} s and {many:.0f} take {long:.0f} s; an epoch takes {quick:.2g} s at {small:.0f} pixels "
        f"and {slow:.2g} s at {large:.0f}."
    )
    text = f"{finding} Left: from the start of the process to the last result. Right: an epoch of 1,010 images."
    return Picture(cost_lines(rows), text, finding, rows)


@closed
def cost_lines(rows: pd.DataFrame) -> Figure:
    """Left: seconds against runs, with a line of slope 1 through the last; right: seconds an epoch against pixels."""
    fig, axes = plt.subplots(1, 2, figsize=(FIGSIZE[0], 3.4), layout="constrained")
    for ax, curve, label, slope in zip(
        axes,
        ("runs", "side"),
        ("runs on digits, from the start of the process", "side of the images (pixels), one core"),
        (1, 2),
    ):
        part = rows[rows["curve"] == curve]
        x, y = part["x"].to_numpy(float), part["seconds"].to_numpy()
        ax.plot(x, y[-1] * (x / x[-1]) ** slope, color="black", lw=0.8, ls="--", label=f"slope {slope}")
        ax.plot(x, y, "o-", color=ORANGE, label="measured")
        ax.set(
            xscale="log", yscale="log", xlabel=label, xticks=x, ylabel="seconds" if slope == 1 else "seconds per epoch"
        )
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.legend(fontsize=9)
    return fig


def line(content: dict) -> Markdown:
    """How the cost of runs grows: seconds per run beyond the first, and how far a straight line is off."""
    part = pd.DataFrame(content["curves"])
    part = part[part["curve"] == "runs"].sort_values("x")
    x, y = part["x"].to_numpy(float), part["seconds"].to_numpy()
    slope = (y[-1] - y[0]) / (x[-1] - x[0])
    off = np.abs(y - (y[0] + slope * (x - x[0]))) / y
    return Markdown(
        f"{x[-1]:,.0f} runs took {y[-1]:.0f} s, one {y[0]:.1f} s: {slope:.3f} s for each further one. A straight line "
        f"through these two is off by {100 * off.max():.0f} % at most in between."
    )


def precisions(page: Page) -> HTML:
    """The design `performance`: F1 in float32 and bfloat16 and their difference paired by seed, of both arms and the gain."""
    rows = []
    for rate in ("own", "shared"):
        single, half = (page.part(rate, variant=variant) for variant in ("float32", "bfloat16"))
        f1 = {arm: [values(part, arm) for part in (single, half)] for arm in ("plain", "final_bn")}
        f1["gain"] = [a - b for a, b in zip(f1["final_bn"], f1["plain"])]
        for name, (a, b) in f1.items():
            low, high = bca(b - a)
            rows.append(
                {
                    "rate": rate,
                    "F1 of": name,
                    "n": len(a),
                    "float32": f"{a.mean():.3f}",
                    "bfloat16": f"{b.mean():.3f}",
                    "difference": signed((b - a).mean(), 3),
                    "95 % interval": between(low, high, 3),
                }
            )
    return shown(pd.DataFrame(rows), "Minority F1 in float32 and in bfloat16, paired by seed")


def unmeasured(contents: list[dict]) -> HTML:
    """What has no measurement, and why."""
    rows, done = [], {"cpu": set(), "cuda": set()}
    for content in contents:
        device = content["provenance"]["device"]
        done[device] |= {(row["workload"], row["peer"]) for row in content["measurements"]}
        rows += [
            {"device": device, "workload": row["workload"], "peers": f"`{row['peer']}`", "why": row["state"]}
            for row in content["measurements"]
            if row["state"] != "measured" and row["round"] == 0
        ]
    for device, known in done.items():
        if not known:
            why = "no GPU was available" if device == "cuda" else "not run"
            rows.append({"device": device, "workload": "all", "peers": "all", "why": why})
            continue
        for work in WORKLOADS:
            if left := [f"`{name}`" for name in peers(device) if (work, name) not in known]:
                rows.append({"device": device, "workload": work, "peers": ", ".join(left), "why": "not run"})
    return shown(pd.DataFrame(rows), "What has not been measured, and why")
