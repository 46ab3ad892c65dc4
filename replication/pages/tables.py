"""Tables and badges as a page shows them."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from IPython.display import HTML

from replication.analysis import statistics as st
from replication.analysis.effects import BEYOND, INSIDE, Curve
from replication.results.frame import arm_and_readout, values


def effect_table(rows: list[dict]) -> pd.DataFrame:
    """Effects as text for a table: rounded means and intervals, p-values as far as they matter."""
    made = pd.DataFrame(rows)
    if made.empty:
        return made
    interval = [f"{low:+.2f}\u00a0to\u00a0{high:+.2f}" for low, high in zip(made["low"], made["high"])]
    p = {name: [f"{v:.3f}" if v >= 0.001 else "< 0.001" for v in made[name]] for name in ("p above", "p below", "p within")}
    written = pd.DataFrame({
        "cell": made["cell"], "rate": made["rate"], "effect": made["effect"].str.replace("_", " "),
        "n": made["n"], "mean": made["mean"].map("{:+.3f}".format), "95 % interval": interval,
        "median": made["median"].map("{:+.3f}".format), "margin": made["margin"].map("{:g}".format),
        "p above": p["p above"], "p below": p["p below"], "p within": p["p within"],
    })  # fmt: skip
    return written if written["cell"].nunique() > 1 else written.drop(columns="cell")


def badge(verdict: str) -> str:
    """A verdict as HTML, coloured by the book's style sheet."""
    return f'<span class="verdict verdict-{verdict.replace(" ", "-")}">{verdict}</span>'


def shown(rows: pd.DataFrame) -> HTML:
    """A table as HTML, without an index column of numbers."""
    with pd.option_context("display.max_colwidth", None):  # else pandas cuts long reasons short
        text = rows.to_html(index=False, border=0, classes="table", justify="left")
    return HTML(re.sub("`(.*?)`", r"<code>\1</code>", text))


def design_table(entries: Iterable) -> HTML:
    """A design's entries with their (setting, network): what varies, over which seeds, how many runs."""
    rows = {}
    for (setting, network), e in entries:
        key = (f"{setting} / {network}".removesuffix(" / simple_cnn"), e.variant or "base", e.arm)
        row = rows.setdefault(key, {"levels": {}, "seeds": set(), "rates": {}, "runs": set()})
        row["levels"][e.level] = None
        row["seeds"].add(e.run.seed)
        row["rates"][f"{e.run.learning_rate:g}"] = None
        row["runs"].add(e.run)
    made = pd.DataFrame(
        dict(zip(("cell", "variant", "arm"), key))
        | {
            "levels": ", ".join(f"{v:g}" for v in row["levels"]) if len(row["levels"]) > 1 else "",
            "learning rates": ", ".join(row["rates"]),
            "seeds": f"{min(row['seeds'])}–{max(row['seeds'])}",
            "runs": len(row["runs"]),
        }
        for key, row in rows.items()
    )
    return shown(made.drop(columns=[c for c in ("cell", "variant", "levels") if made[c].nunique() == 1]))


def difference_rows(part: pd.DataFrame, pairs: Iterable[tuple[str, str]], metric: str = "f1_minority", **where) -> list[dict]:
    """Paired differences of pairs of arms in one cell, with unadjusted 95 % BCa intervals; one row a pair."""
    rows = []
    for pair in pairs:
        a, b = (values(part, arm, metric, readout, **where) for arm, readout in map(arm_and_readout, pair))
        d = a - b
        low, high = st.bca(d)
        rows.append({"difference": " − ".join(pair), "n": len(d), "from": f"{b.mean():.2f}", "to": f"{a.mean():.2f}",
                     "mean": f"{d.mean():+.3f}", "95 % interval": f"{low:+.2f}\u00a0to\u00a0{high:+.2f}",
                     "median": f"{np.median(d):+.3f}"})  # fmt: skip
    return rows


def pair_rows(cell: str, curve: Curve) -> list[dict]:
    """Every pairwise difference of a curve with its simultaneous interval."""
    p, rows = curve.pairs, []
    for (i, j), d, low, high in zip(p.pairs, p.difference, p.low, p.high):
        apart = low > BEYOND or high < -BEYOND
        rows.append({
            "cell": cell, "levels": f"{curve.levels[i]:g} − {curve.levels[j]:g}",
            "difference": d, "low": low, "high": high,
            "shown": "differ by more than 0.05" if apart else
            "equal within 0.05" if low > -INSIDE and high < INSIDE else "open",
        })  # fmt: skip
    return rows


def rate_table(rates: Mapping[str, Mapping[str, float]], grid: Sequence[float]) -> HTML:
    """Chosen learning rates by place, one row an arm; an asterisk marks one at an end of the grid."""
    ends = min(grid), max(grid)
    made = {place: {arm: f"{rate:g}{' *' * (rate in ends)}" for arm, rate in arms.items()} for place, arms in rates.items()}
    table = pd.DataFrame(made).fillna("").rename_axis("arm").reset_index()
    return shown(table.rename(columns=lambda place: re.sub("([/:])", r" \1 ", place)))  # a wide name may break


def cross_check(measured: dict) -> HTML:
    """The comparison of `benchmarks/fastai_check.py`: means of both codes, their paired difference, seconds a run.

    Only `fastai` is judged to agree or not: its own defaults are other settings.
    """
    rows = []
    for arm, codes in measured["results"].items():
        for code, runs in codes.items():
            if code != "ours":
                n, found = len(runs), measured["comparison"][arm][code]
                f1, auc = found["f1_minority"], found["roc_auc"]
                mean = {who: np.mean([run["f1_minority"] for run in codes[who][:n]]) for who in ("ours", code)}
                seconds = {who: np.median([run["seconds"] for run in codes[who]]) for who in ("ours", code)}
                rows.append({
                    "arm": arm, "fastai": code.replace("_", ", "), "n": n,
                    "F1 ours": f"{mean['ours']:.2f}", "F1 fastai": f"{mean[code]:.2f}",
                    "difference": f"{f1['difference']:+.3f}",
                    "95 % interval": "{:+.2f}\u00a0to\u00a0{:+.2f}".format(*f1["interval"]),
                    "AUC difference": "{:+.3f} ({:+.3f}\u00a0to\u00a0{:+.3f})".format(auc["difference"], *auc["interval"]),
                    "agree": {True: "yes", False: "no"}[found["agree"]] if code == "fastai" else "",
                    "seconds ours": f"{seconds['ours']:.1f}", "seconds fastai": f"{seconds[code]:.1f}",
                })  # fmt: skip
    return shown(pd.DataFrame(rows))
