"""Tables of what transfer costs, and whether a CPU and a GPU agree: frozen bodies, and all layers trained."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown

from replication.bench.derived import measured_times, peaks
from replication.bench.tables import short
from replication.pages.names import METRICS, network_label, setting_label
from replication.pages.tables import shown
from replication.pages.words import listed
from replication.study.arms import arm as arm_of

SEEDS = 60
"""of the pair whose whole time is held against fastai's, which trains two runs per seed"""

SIDES = {"here": "CPU", "published": "GPU"}
MEASURES = METRICS | {"learned_shift": "learned shift"}


@dataclass(frozen=True)
class _Goal:
    what: str
    least: float
    values: np.ndarray
    """one per round; none where it was not measured"""
    unit: str = ""

    def row(self) -> dict[str, str]:
        """What a reader sees of it."""
        v = self.values
        spread = f" ({short(v.min())}\u2013{short(v.max())})" if len(v) > 1 else ""
        return {
            "goal: at least": f"{self.what}: {self.least:g}{self.unit}",
            "measured": f"{short(np.median(v))}{spread}{self.unit}" if len(v) else "not measured",
            "met": ("yes" if np.median(v) >= self.least else "no") if len(v) else "",
        }


def _goals(content: dict) -> list[_Goal]:
    peak, networks = content["ceilings, one core"], content["networks"]

    def rounds(network: str, *names: str) -> np.ndarray:
        found = networks.get(network, {})
        for name in names:
            found = found.get(name, {})
        return np.atleast_1d(np.array(found, float)) if not isinstance(found, dict) else np.array([])

    found = []
    for network in networks:
        speed = rounds(network, "linear head", "heads a second, one core")
        found.append(_Goal(f"linear heads a second and core, `{network}`", 50, speed))
    for network in networks:
        speed, work = (rounds(network, "fastai's head", name) for name in ("heads a second, one core", "flops a head"))
        share = 100 * speed * work / peak["float32 product"] if len(work) else work
        found.append(_Goal(f"fastai's head, share of the product peak, `{network}`", 50, share, "\u00a0%"))
    for network in networks:
        ours, loop = (rounds(network, "features, one core", name) for name in ("ours", "plain loop"))
        work = rounds(network, "features, one core", "flops an image")
        if network == "resnet_cntk":
            share = 100 * ours * work / peak["float32 convolution"] if len(work) else work
            found.append(_Goal(f"features, share of the convolution peak, `{network}`", 50, share, "\u00a0%"))
        else:
            found.append(_Goal(f"features, times timm's plain loop, `{network}`", 1.3, ours / loop))
    for network in networks:
        own = rounds(network, f"pair of {SEEDS} seeds with features, s")
        theirs = rounds(network, "fastai, s a run") * 2 * SEEDS
        times = theirs / own if len(own) and len(theirs) else np.array([])
        found.append(_Goal(f"a pair of {SEEDS} seeds, times as fast as fastai's, `{network}`", 200, times))
    return found


def goals(content: dict) -> HTML:
    """The goals for frozen bodies with what was measured: the median counts, the range over rounds stands beside it."""
    return shown(
        pd.DataFrame(goal.row() for goal in _goals(content)),
        "Goals for frozen bodies: median and range over rounds",
    )


def costs(content: dict) -> HTML:
    """Seconds of every step on a frozen body."""
    rows = []
    for network, of in content["networks"].items():
        linear, fastai = of.get("linear head", {}), of.get("fastai's head", {})
        rows.append(
            {
                "body": f"`{network}`",
                "features: images a second": f"{np.median(of['features, one core']['ours']):.0f}",
                "plain loop's": f"{np.median(of['features, one core']['plain loop']):.0f}",
                "a linear head, ms": f"{1000 / np.median(linear['heads a second, one core']):.1f}",
                "scoring it, ms": f"{1000 * linear['scoring, s']:.1f}",
                "storing it, ms": f"{1000 * linear['storing, s']:.1f}",
                "fastai's head, s": f"{1 / np.median(fastai['heads a second, one core']):.2f}",
                f"pair of {SEEDS} seeds, s": _seconds(of.get(f"pair of {SEEDS} seeds with features, s")),
                "one run of fastai's, s": _seconds(of.get("fastai, s a run")),
            }
        )
    return shown(
        pd.DataFrame(rows),
        "One core, 160 pixels, 1,010 training images, 10 epochs; the pair and fastai's run have all cores",
    )


def frozen_machine(content: dict) -> Markdown:
    """Where the frozen bodies were measured, and the peaks of one core that the shares refer to."""
    facts, peak = content["provenance"], content["ceilings, one core"]
    return Markdown(
        f"Measured on {facts['hardware']}, commit {facts['commit']}. Peaks of one core, in GFLOP/s of float32: "
        f"{peak['float32 product'] / 1e9:.0f} for products and {peak['float32 convolution'] / 1e9:.0f} for convolutions."
    )


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0f}"


def fine_tuned_on_gpu(session: dict) -> Markdown:
    """What the fine-tuned cells took on a GPU, and what its tests found, in sentences."""
    cells = "; ".join(f"{cell['what']}: {cell['seconds']} s" for cell in session["fine-tuned cells"])
    tests, speed = session["tests"], session["images a second"]
    return Markdown(
        f"**Fine-tuned cells** ({session['hardware']}, torch {session['versions']['torch']}, commit {session['commit']}). "
        f"{session['run']}. {cells}; at best {max(speed.values()):,} images per second, tests included. No peer was timed on "
        f"this workload. Of the tests marked `gpu` {tests['passed']} passed and {tests['failed']} failed: "
        f"{'; '.join(tests['failures'])}. Their bound has been mended since and not been tried on a GPU again."
    )


def two_devices(content: dict) -> HTML:
    """Runs of a GPU trained again on a CPU: the means of every arm, and by how much single seeds differ."""
    rows = []
    for arm, of in content["runs"].items():
        apart = {name: np.abs(np.subtract(both["here"], both["published"])).max() for name, both in of.items()}
        means = content["means"][arm]
        rows.append(
            {"arm": arm_of(arm).label}
            | {f"mean minority F1, {where}": f"{means[side]:.3f}" for side, where in SIDES.items()}
            | {f"largest difference of a seed: {MEASURES[name]}": f"{value:.4f}" for name, value in apart.items()}
        )
    caption = (
        f"{network_label(content['network'])}, {setting_label(content['setting'])}, each arm at its own rate, "
        f"{content['seeds']} seeds"
    )
    return shown(pd.DataFrame(rows).fillna(""), caption)


def whether_devices_agree(content: dict) -> Markdown:
    """The rule on mixing devices, what the comparison said, and what it was computed on."""
    apart = max(abs(means["here"] - means["published"]) for means in content["means"].values())
    machines = list(dict.fromkeys(f"{r['hardware']}, torch {r['versions']['torch']}" for r in content["trained here"]))
    commits = list(dict.fromkeys(r["commit"] for r in content["trained here"]))
    return Markdown(
        f"The rule, set before the runs: a cell may have runs of both only where the means of each arm lie within 0.05. Here "
        f"they are at most {apart:.3f} apart, so {'it may' if content['means within 0.05'] else 'it may not'}. The rule first "
        "named the pilot seeds, whose test scores are not published. "
        f"(`python benchmarks/devices.py` on {listed(machines)}; {'commits' if len(commits) > 1 else 'commit'} "
        f"{listed(commits)}; a run took {np.median(content['seconds']):.0f} s of one core.)"
    )


def photographs_on_gpu(content: dict) -> Markdown:
    """What the peers took on photographs on a GPU, in a sentence: mean seconds a run, warm."""
    times = measured_times(content).groupby(["workload", "peer"], sort=False)["run"].median().reset_index()
    [workload] = times["workload"].unique()
    told = listed([f"{short(value)} s by `{peer}`" for peer, value in zip(times["peer"], times["run"])])
    return Markdown(
        f"Workload `{workload}`, in one round of the same visit: a run takes, on average while many are trained, {told}."
    )


def gpu_peaks(content: dict) -> Markdown:
    """Where the peers were timed on a GPU, and what it can do."""
    best, facts = peaks(content), content["provenance"]
    return Markdown(
        f"Measured on {facts['hardware']}, commit {facts['commit']}, torch {facts['versions']['torch']}, one round. Peaks in "
        f"the same call: {best['float32'] / 1e12:.0f} TFLOP/s in float32 without TF32, {best['bfloat16'] / 1e12:.0f} in "
        f"bfloat16, copies at {best['copy'] / 1e9:,.0f} GB/s."
    )
