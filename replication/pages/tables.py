"""Tables and badges as a page shows them: every one has a caption, long ones are folded."""

import base64
import gzip
import html
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from IPython.display import HTML

from replication.analysis import statistics as st
from replication.analysis.effects import BEYOND, INSIDE, Curve
from replication.pages.names import KINDS, arm_label, cell_label, effect_label, network_label
from replication.pages.style import SIGNS
from replication.pages.words import between, number, p_value, rate_text, signed
from replication.results.frame import arm_and_readout, values
from replication.study.design import Cell, Entry
from replication.study.rates import RATE_GRID, Place, at_grid_end, chosen_rates


def code(text: str) -> str:
    """Names between backticks as code."""
    return re.sub("`(.*?)`", r"<code>\1</code>", text)


def badge(verdict: str) -> str:
    """A verdict as HTML: its shape and word, coloured by the book's style sheet."""
    shape = f'<span aria-hidden="true">{SIGNS[verdict]}</span>'
    return f'<span class="verdict verdict-{verdict.replace(" ", "-")}">{shape} {verdict}</span>'


def table_html(rows: pd.DataFrame, caption: str = "", sortable: bool = False, data: pd.DataFrame | None = None) -> str:
    """A table as HTML text without an index column; cells may hold HTML.

    Its caption ends with a link to the same as CSV: `data` where that says more, or the table's own text.
    A table without a caption stands below one of the page's own.
    """
    with pd.option_context("display.max_colwidth", None):  # else pandas cuts long reasons short
        classes = "table sortable" if sortable else "table"
        text = compact(rows.to_html(index=False, border=0, classes=classes, justify="left", escape=False))
    if caption:
        heading = f"<caption>{caption} ({csv_link(rows.map(plain) if data is None else data, slug(caption))})</caption>"
        text = re.sub(r"(<table[^>]*>)", lambda found: found[1] + heading, text, count=1)
    return code(text.replace("<th>", '<th scope="col">'))


def compact(text: str) -> str:
    """A table's HTML with one line per row: indented, one cell per line, it takes half of a notebook's size."""
    return re.sub(r"\n\s*(?=<)", "", text).replace("<tr", "\n<tr")


def shown(rows: pd.DataFrame, caption: str, sortable: bool = False, data: pd.DataFrame | None = None) -> HTML:
    """A table on a page."""
    return HTML(table_html(rows, caption, sortable, data))


def missing_html(text: str) -> HTML:
    """A line in place of a figure or table whose results are not there."""
    return HTML(f"<p class='missing'><em>{text}</em></p>")


def folded(summary: str, content: str) -> HTML:
    """What is there for those who open it."""
    return HTML(f"<details class='folded'><summary>{summary}</summary>{content}</details>")


def plain(value: object) -> object:
    """A cell of a table without its HTML."""
    return html.unescape(re.sub(r"<[^>]+>", " ", value)).strip() if isinstance(value, str) else value


def slug(text: str) -> str:
    """A caption as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", str(plain(text)).lower()).strip("-")[:60].rstrip("-")


LARGEST_CSV = 6_000
"""bytes beyond which a table is handed out compressed"""


def csv_link(rows: pd.DataFrame, name: str, text: str = "CSV") -> str:
    """A link that saves a table; the table lies within the page, so that it works offline."""
    content, kind, suffix = rows.to_csv(index=False, float_format="%.5g").encode(), "text/csv", "csv"
    if len(content) > LARGEST_CSV:  # a page and its notebook hold it: a compressed file is a fifth of the size
        content, kind, suffix = gzip.compress(content, mtime=0), "application/gzip", "csv.gz"
    data = base64.b64encode(content).decode()
    return f'<a download="{html.escape(name)}.{suffix}" href="data:{kind};base64,{data}">{text}</a>'


def effect_table(rows: list[dict]) -> pd.DataFrame:
    """Effects as text for a table: rounded means and intervals, p-values as far as they matter."""
    made = pd.DataFrame(rows)
    if made.empty:
        return made
    return pd.DataFrame(
        {
            "cell": [f"{images} · {network_label(name)}" for images, name in zip(made["images"], made["cell_network"])],
            "variant": made["variant"],
            "learning rate": made["rate"].map(KINDS),
            "effect": list(map(effect_label, made["effect"], made["levels"])),
            "seeds": made["n"],
            "mean": made["mean"].map(lambda v: signed(v, 3)),
            "95 % interval": [between(*pair) for pair in zip(made["low"], made["high"])],
            "median": made["median"].map(lambda v: signed(v, 3)),
            "margin": made["margin"].map(lambda v: signed(v).lstrip("+")),
            "p above": made["p above"].map(p_value),
            "p below": made["p below"].map(p_value),
            "p within": made["p within"].map(p_value),
        }
    ).pipe(lambda t: t.drop(columns=[c for c in ("cell", "variant") if t[c].nunique() == 1 and len(t) > 1]))


def design_table(entries: Iterable[tuple[Cell, Place, Entry]]) -> pd.DataFrame:
    """A design's entries with their cells and the place of their learning rates: what varies, over which seeds, how many runs.

    An asterisk marks an arm's own learning rate that lies at an end of those tried.
    """
    rows: dict[tuple, dict] = {}
    for cell, place, e in entries:
        row = rows.setdefault(
            (cell_label(cell), e.variant or "base", arm_label(e.arm)),
            {"levels": {}, "seeds": set(), "rates": {}, "runs": set()},
        )
        row["levels"][e.level] = None
        row["seeds"].add(e.run.seed)
        row["rates"][rate_text(e.run.learning_rate) + "*" * (e.kind == "own" and at_grid_end(place, e.arm))] = None
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
    return made.drop(columns=[c for c in ("variant", "levels") if c in made and made[c].nunique() == 1])


def difference_rows(
    part: pd.DataFrame, pairs: Iterable[tuple[str, str]], metric: str = "f1_minority", **where
) -> list[dict]:
    """Paired differences of pairs of arms in one cell, with unadjusted 95 % BCa intervals; one row a pair.

    A pair is left out where the cell lacks one of its readouts or the metric.
    """
    rows = []
    for pair in pairs:
        try:
            a, b = (values(part, arm, metric, readout, **where) for arm, readout in map(arm_and_readout, pair))
        except KeyError:
            continue
        d = a - b
        both = np.isfinite(d)
        if not both.any():
            continue
        kept = d[both]
        rows.append(
            {
                "difference": f"{arm_label(pair[0])} − {arm_label(pair[1])}",
                "seeds": len(kept),
                "from": number(b[both].mean()),
                "to": number(a[both].mean()),
                "mean": signed(kept.mean(), 3),
                "95 % interval": between(*st.bca(kept)),
                "median": signed(np.median(kept), 3),
            }
        )
    return rows


def pair_rows(cell: str, curve: Curve) -> list[dict]:
    """Every pairwise difference of a curve with its simultaneous interval."""
    p, rows = curve.pairs, []
    for (i, j), d, low, high in zip(p.pairs, p.difference, p.low, p.high):
        apart = low > BEYOND or high < -BEYOND
        rows.append(
            {
                "cell": cell,
                "levels": f"{curve.levels[i]:g} against {curve.levels[j]:g}",
                "size": abs(d),
                "difference in gain": signed(d, 3),
                "simultaneous interval": between(low, high),
                "shown": "differ by more than 0.05"
                if apart
                else "equal within 0.05"
                if low > -INSIDE and high < INSIDE
                else "open",
            }
        )
    return rows


def rate_table(
    rates: Mapping[str, Mapping[str, float]], ends: Sequence[tuple[str, str]] = (), caption: str = ""
) -> HTML:
    """Chosen learning rates by place, one row an arm; an asterisk marks (place, arm) at an end of the rates tried."""
    made = {
        place: {arm_label(arm): f"{rate_text(value)}{' *' * ((place, arm) in ends)}" for arm, value in arms.items()}
        for place, arms in rates.items()
    }
    table = pd.DataFrame(made).fillna("").rename_axis("arm").reset_index()
    broken = table.rename(columns=lambda place: re.sub("([/:])", r"\1<wbr>", place))  # a wide name may break
    return shown(broken, caption, data=table)


def ends_of(rates: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    """(place, arm) of the rates chosen at an end of those tried."""
    tried = chosen_rates("tried")
    grid = {place: {arm: tried.get(place, {}).get(arm) or RATE_GRID for arm in arms} for place, arms in rates.items()}
    return [
        (place, arm)
        for place, arms in rates.items()
        for arm, value in arms.items()
        if value in (min(grid[place][arm]), max(grid[place][arm]))
    ]


def cross_check(measured: dict) -> HTML:
    """The comparison of `benchmarks/fastai_check.py`: means of both codes, their paired difference, seconds per run.

    Only `fastai` is judged to agree or not: its own defaults are other settings.
    """
    rows = []
    for arm, codes in measured["results"].items():
        for name, runs in codes.items():
            if name != "ours":
                n, found = len(runs), measured["comparison"][arm][name]
                f1, auc = found["f1_minority"], found["roc_auc"]
                mean = {who: np.mean([run["f1_minority"] for run in codes[who][:n]]) for who in ("ours", name)}
                seconds = {who: np.median([run["seconds"] for run in codes[who]]) for who in ("ours", name)}
                rows.append(
                    {
                        "arm": arm_label(arm),
                        "fastai": name.replace("_", ", "),
                        "seeds": n,
                        "F1 ours": number(mean["ours"]),
                        "F1 fastai": number(mean[name]),
                        "difference": signed(f1["difference"], 3),
                        "95 % interval": between(*f1["interval"]),
                        "AUC difference": f"{signed(auc['difference'], 3)} ({between(*auc['interval'], 3)})",
                        "agree": {True: "yes", False: "no"}[found["agree"]] if name == "fastai" else "",
                        "seconds ours": f"{seconds['ours']:.1f}",
                        "seconds fastai": f"{seconds[name]:.1f}",
                    }
                )
    return shown(pd.DataFrame(rows), "Our code and fastai on the same cell: minority F1, ROC AUC and seconds per run")
