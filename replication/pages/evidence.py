"""The evidence of a page, over all its cells: forest plots, ladders of scores, tables of differences and effects."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from IPython.display import HTML

from replication.analysis import statistics as st
from replication.analysis.effects import Curve, Effect
from replication.claims.judge import effects
from replication.claims.tiers import TIERS, tier
from replication.pages import figures, judgements
from replication.pages.names import METRICS, arm_label, cell_label, effect_label
from replication.pages.page_results import LEADING, Results
from replication.pages.picture import Picture
from replication.pages.selection import Missing
from replication.pages.tables import difference_rows, effect_table, folded, missing_html, pair_rows, shown, table_html
from replication.pages.words import between, number, signed
from replication.results.frame import seeds
from replication.study.design import PAIR, Cell

DRAWN = 10
"""rows of a ladder at most: a figure that fits a screen"""
LISTED = 120
"""effects that a page lists at every kind of rate; with more it lists those at own rates"""


class Evidence(Results):
    """Figures and tables of the results that a page was asked for."""

    def drawn(self, draw: Callable) -> Picture | HTML:
        """What `draw` gives, or a line that says which results it waits for."""
        try:
            return draw()
        except Missing as missing:
            return missing_html(f"No figure yet: {missing}.")

    def forest(self, effect: str = "", label: str = "", margin: bool = True) -> Picture | HTML:
        """One effect in every cell that has it, at every kind of rate; by default the one that the criterion turns on."""
        name = effect or self.plan.headline[0]
        words = label or effect_label(name)
        rows, data = [], []
        for c in self.judgement.cells:
            by_kind = {
                kind: e.d
                for kind, measures in c.measures.items()
                if isinstance(e := measures.get(name), Effect)
                and np.isfinite(e.d).all()
                and kind in ("own", "shared", "default")
            }
            if "own" in by_kind:
                rows.append(figures.Row(judgements.unit_label(c), by_kind, c.word))
                data += [
                    {"cell": rows[-1].label, "rate": kind, "seed": n, words: v}
                    for kind, d in by_kind.items()
                    for n, v in zip(c.cell.numbers, d, strict=True)
                ]
        if not rows:
            return missing_html(f"No figure yet: {self.selection.open(**self.where)}.")
        above = sum(float(row.by_kind["own"].mean()) > 0 for row in rows)
        finding = f"{words[0].upper()}{words[1:]}: the mean is above zero in {above} of {len(rows)} cells at each arm's own rate."
        shade = f" Shaded: smaller than {st.MARGIN}." if margin else ""
        return Picture(
            figures.forest(rows, words, margin),
            f"{finding} Shape and colour are the cell's verdict.{shade}",
            finding,
            pd.DataFrame(data),
        )

    def ladder(
        self,
        arms: Sequence[str],
        metric: str = "f1_minority",
        cells: Sequence[Cell] | None = None,
        finding: str = "",
        **where,
    ) -> Picture | HTML:
        """The arms' scores in every cell that has been run, one row per cell, those nearest to the papers first."""

        def draw() -> Picture:
            nearest_first = sorted(self.cells if cells is None else cells, key=lambda c: list(TIERS).index(tier(c)))
            parts = self.parts(nearest_first, **(self.where | where))
            if not parts:
                raise Missing(f"no complete results: {self.selection.open(**(self.where | where))}")
            label = METRICS.get(metric, metric)
            text = (
                finding
                or f"{label[0].upper()}{label[1:]}: "
                + "; ".join(
                    f"{name}: "
                    + ", ".join(
                        f"{arm_label(arm)} {number(np.nanmean(d))}"
                        for arm in arms
                        if (d := figures.scores(part, arm, metric)) is not None
                    )
                    for name, part in list(parts.items())[: None if cells else LEADING]
                )
                + "."
            )
            line = " Dotted: always saying minority." if metric in ("f1_minority", "f1_macro") else ""
            near = dict(list(parts.items())[:DRAWN])
            if beyond := len(parts) - len(near):
                line += f" The figure shows the {len(near)} cells nearest to the papers; the CSV has {beyond} more."
            data = [
                {"cell": name, "arm": arm_label(arm), "seed": n, label: v}
                for name, part in parts.items()
                for arm in arms
                if (d := figures.scores(part, arm, metric)) is not None
                for n, v in zip(seeds(part), d, strict=True)
            ]
            return Picture(
                figures.ladder(near, arms, metric), f"{text} Every dot is a seed.{line}", text, pd.DataFrame(data)
            )

        return self.drawn(draw)

    def by_cell(
        self,
        pairs: Sequence[tuple[str, str]],
        rates: Sequence[str] = ("own", "shared", "default"),
        metric: str = "f1_minority",
        caption: str = "",
        **where,
    ) -> HTML:
        """Pairs of arms in every cell whose runs are all there: means, mean difference and its interval, by rate."""
        rows = [
            {"images and network": name, "learning rate": rate, **row}
            for rate in rates
            for name, part in self.parts(rate=rate, **(self.where | where)).items()
            for row in difference_rows(part, pairs, metric)
        ]
        if not rows:
            return missing_html(f"No table yet: {self.selection.open(**(self.where | where))}.")
        return shown(pd.DataFrame(rows), caption or f"{METRICS.get(metric, metric)}, paired by seed", sortable=True)

    def differences(self, pairs: Sequence[tuple[str, str]], caption: str, rate: str = "own", **where) -> HTML:
        """Pairs of arms in the lead cell, with unadjusted 95 % intervals."""
        try:
            return shown(pd.DataFrame(difference_rows(self.part(rate, **where), pairs)), caption)
        except Missing as missing:
            return missing_html(f"No table yet: {missing}.")

    def metric_table(self, metrics: Sequence[str], rate: str = "own") -> HTML:
        """Means over seeds of some metrics of `plain` and `final_bn` in the lead cell, where they were recorded."""
        rows = []
        for metric in metrics:
            a, b = (figures.scores(self.part(rate), arm, metric) for arm in PAIR)
            if a is None or b is None:
                continue
            kept = np.isfinite(b - a)
            d = (b - a)[kept]
            rows.append(
                {
                    "measure": METRICS[metric],
                    "plain": number(a[kept].mean(), 3),
                    "final BN": number(b[kept].mean(), 3),
                    "difference": signed(d.mean(), 3),
                    "95 % interval": between(*st.bca(d), 3),
                    "seeds": len(d),
                }
            )
        return shown(pd.DataFrame(rows), f"{cell_label(self.lead)}: confidence and calibration")

    def effects(self) -> HTML:
        """Every effect measured, folded: n, mean, 95 % interval, adjusted one-sided p."""
        rows = list(effects(self.judgement))
        if not rows:
            return folded("Table of effects", "<p><em>No results to show yet.</em></p>")
        near = [row for row in rows if row["rate"] == "own"] if len(rows) > LISTED else rows
        caption = "Every effect in every cell" + (
            ", at each arm's own rate; the CSV has every kind" if near != rows else ""
        )
        table = table_html(effect_table(near), caption, sortable=True, data=pd.DataFrame(rows))
        return folded("Table of effects", table)

    def pairs(self, name: str, caption: str, most: int = 8) -> HTML:
        """The largest pairwise differences of a curve in every cell, with simultaneous intervals, folded."""
        rows = [
            row
            for c in self.judgement.cells
            if isinstance(curve := c.measures.get("own", {}).get(name), Curve)
            for row in sorted(pair_rows(cell_label(c.cell), curve), key=lambda r: -r["size"])[:most]
        ]
        table = pd.DataFrame(rows).drop(columns="size", errors="ignore")
        return folded(caption, table_html(table, caption)) if rows else HTML("")
