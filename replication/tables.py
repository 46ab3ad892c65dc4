"""Tables and badges as a page shows them."""

import re

import pandas as pd
from IPython.display import HTML


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
