"""All claims at a glance: verdicts, headline effects, what it took, and whether this machine reproduces it."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from replication.claims.claims import CLAIMS
from replication.claims.criteria import CONTRADICTED, INCONCLUSIVE, NOT_ASSESSABLE, NOT_RUN, PARTLY, REPLICATED
from replication.results import published
from replication.results import reproduction
from replication.analysis import statistics as st
from replication.analysis.effects import Curve, Effect
from replication.results.frame import table
from replication.pages.page import PAGE_OF, Page
from replication.pages.parameters import Parameters, parameters
from replication.pages.tables import badge
from replication.claims.verdicts import CellVerdict

HEADLINES = {
    "base": ("gain", "gain"),
    "removal": ("more_than_half_kept", "gain kept − half of the gain"),
    "ratio": ("curve", "gain over the ratios"),
    "batch_size": ("epochs", "gain over the batch sizes"),
    "generality": ("gain", "gain"),
    "majorities": ("gain_two_majorities", "gain with two majority classes"),
    "sigmoid": ("gain_sigmoid", "gain with one sigmoid logit"),
    "uncertainty": ("f1_at_least_loss_minus_last", "F1 at the epoch of least loss − F1 at the end"),
    "training_time": ("epochs_saved", "epochs saved"),
}
"""claim -> the effect or curve that its criterion turns on, and what it is called"""


def _in_words(cell: CellVerdict, name: str, label: str) -> str:
    measure = cell.measures.get("own", {}).get(name)
    if isinstance(measure, Curve):
        means = measure.D.mean(axis=0)
        return f"{label} {means.min():+.2f} to {means.max():+.2f} (n = {measure.n} each)"
    if isinstance(measure, Effect) and np.isfinite(measure.d).all():
        low, high = st.bca(measure.d)
        return f"{label} {measure.d.mean():+.2f} [{low:+.2f}, {high:+.2f}] (n = {measure.n})"
    return f"{label}: no result"


SHOWN = ("digits", "plantvillage/apple")
"""settings whose cells stand for a claim where there is no room for all"""


def _by_rate(cell: CellVerdict) -> str:
    """Which verdict a cell that is partly has at which kinds of learning rate; empty where they agree."""
    rates: dict[str, list[str]] = {}
    for rate, (verdict, _) in cell.by_rate.items():
        rates.setdefault(verdict, []).append(rate)
    return "; ".join(f"{', '.join(r)}: {v}" for v, r in rates.items()) if cell.verdict == PARTLY and len(rates) > 1 else ""


def _linked(name: str, title: str) -> str:
    return f'<a href="{PAGE_OF.get(name, name)}.html">{title}</a>'


def _html_table(heads: tuple[str, ...], lines: str) -> HTML:
    head = "".join(f"<th>{text}</th>" for text in heads)
    return HTML(f'<table class="table"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>')


class Scoreboard:
    """Every claim's judgement on the published results, or on runs of this machine if `seeds` asks for them."""

    def __init__(self, asked: Parameters):
        self.asked = asked
        self.judgements = {name: Page(name, asked).judgement for name in CLAIMS}

    def rows(self) -> pd.DataFrame:
        """One row a claim: what it says, the verdict, what was found in its first cell on digits and on apple, and why."""

        def found(name: str, cells: list[CellVerdict]) -> str:
            first = {c.cell[0]: c for c in reversed(cells) if c.measures}
            here = [s for s in SHOWN if s in first] or list(first)[:1]
            return "; ".join(f"{s}: {_in_words(first[s], *HEADLINES[name])}" for s in here) or "no result"

        return pd.DataFrame(
            {
                "claim": j.claim.title,
                "verdict": j.verdict,
                "found": found(name, j.cells),
                "cells": len(j.cells),
                "why": j.reason,
            }
            for name, j in self.judgements.items()
        )

    def html(self) -> HTML:
        """The rows as an HTML table for the index, each claim linked to its page, each verdict a badge."""
        lines = "".join(
            f'<tr><td>{_linked(name, row["claim"])}</td>'
            f"<td>{badge(row['verdict'])}</td><td>{row['found']}</td><td>{row['why']}</td></tr>"
            for name, row in zip(self.judgements, self.rows().to_dict("records"))
        )
        return _html_table(("claim", "verdict", "found", "why"), lines)

    def by_verdict(self) -> HTML:
        """Claims by verdicts: which cells have which, each with the mean of the effect that the criterion turns on."""
        columns = (REPLICATED, PARTLY, CONTRADICTED, INCONCLUSIVE, f"{NOT_ASSESSABLE}, {NOT_RUN}")

        def chips(name: str, cells: list[CellVerdict]) -> str:
            found: dict[str, dict[str, list[float]]] = {}
            for c in cells:
                label = c.cell[0].removeprefix("plantvillage/") + (f" {c.cell[1]}" if c.cell[1] != "simple_cnn" else "")
                label = re.sub("([:_])", "\\1\u200b", label)  # where a long name may break
                label += " (not run)" if c.verdict == NOT_RUN else ""
                effect = c.measures.get("own", {}).get(HEADLINES[name][0])
                means = found.setdefault(_by_rate(c), {}).setdefault(label, [])
                means += [effect.d.mean()] if isinstance(effect, Effect) else []
            lines = []
            for pattern, labels in found.items():
                lines += [f"<em>{pattern}</em>"] if pattern else []
                lines += [label + (": " + ", ".join(f"{v:+.2f}" for v in means) if means else "") for label, means in labels.items()]
            return "<br>".join(lines)

        lines = ""
        for name, j in self.judgements.items():
            cells = ([c for c in j.cells if c.verdict in head.split(", ")] for head in columns)
            entries = "".join(f"<td>{chips(name, part)}</td>" for part in cells)
            lines += f"<tr><td>{_linked(name, j.claim.title)}</td>{entries}</tr>"
        return _html_table(("claim", *columns), lines)

    def cells(self) -> pd.DataFrame:
        """One row a cell of a claim: its verdict and the headline effect at each arm's own learning rate."""
        return pd.DataFrame(
            {
                "claim": j.claim.title,
                "cell": " / ".join(filter(None, c.cell)),
                "verdict": c.verdict,
                "found": _in_words(c, *HEADLINES[name]),
            }
            for name, j in self.judgements.items()
            for c in j.cells
        )

    def by_digit(self) -> pd.DataFrame:
        """The headline effects on digits with the ten minority digits, not the seeds, as the units.

        The seed picks the digit, so that seeds are no independent draws of a task; this shows what rests on them
        being treated as such. p-values are not adjusted.
        """
        rows = []
        for name, j in self.judgements.items():
            for c in j.cells:
                for rate, measures in c.measures.items():
                    e = measures.get(HEADLINES[name][0])
                    if isinstance(e, Effect) and c.cell[0].startswith("digits") and e.n % 10 == 0:
                        digits = e.d.reshape(-1, 10).mean(axis=0)  # consecutive seeds walk through the digits
                        rows.append({
                            "claim": j.claim.title, "cell": " / ".join(filter(None, c.cell[1:])), "rate": rate,
                            "mean": f"{e.d.mean():+.2f}", "over digits": f"{digits.min():+.2f} to {digits.max():+.2f}",
                            **{f"p {side} ({unit})": f"{p(d, e.margin):.3f}" for unit, d in (("seeds", e.d), ("digits", digits))
                               for side, p in (("above", st.p_above), ("below", st.p_below))},
                        })  # fmt: skip
        return pd.DataFrame(rows)

    def figure(self) -> Figure:
        """The headline effects on digits and apple, every seed visible; curves and epochs have figures of their own."""
        from replication.pages.figures import forest

        rows = []
        for name, j in self.judgements.items():
            effect, label = HEADLINES[name]
            for c in j.cells:
                e = c.measures.get("own", {}).get(effect)
                shown = c.cell[0] in SHOWN and isinstance(e, Effect) and np.isfinite(e.d).all()
                if shown and effect != "epochs_saved":
                    where = ", ".join(part for part in c.cell if part not in ("", "simple_cnn"))
                    rows.append({"label": f"{name}: {label}\n({where})", "d": e.d,
                                 "verdict": c.verdict})  # fmt: skip
        return forest(rows)


def open_scoreboard(namespace: Mapping[str, object]) -> Scoreboard:
    """The scoreboard notebook's first call: check its parameters and judge every claim."""
    return Scoreboard(parameters(namespace))


def status() -> pd.DataFrame:
    """What the published results took: one row a setting and network, with runs, seeds, hours and divergences."""
    runs = published.read().drop_duplicates("key")
    if runs.empty:
        return runs
    made = runs.groupby(["setting", "network"]).agg(
        runs=("key", "count"), seeds=("seed", "nunique"), diverged=("diverged", "sum"),
        core_minutes=("seconds", lambda s: round(s.sum() / 60, 1)),
        slowest_run_s=("seconds", lambda s: round(s.max(), 1)),
    )  # fmt: skip
    return made.reset_index()


def reproduced() -> tuple[str, pd.DataFrame]:
    """Whether the runs in this machine's store agree with the published ones: a sentence, and one row a cell."""
    from replication.results.store import Store, default_path

    if not default_path().exists():
        return reproduction.summary(pd.DataFrame()), pd.DataFrame()
    with Store(default_path()) as store:
        fresh = table(store.results())
    cells = reproduction.compare(published.read(), fresh)
    return reproduction.summary(cells), cells
