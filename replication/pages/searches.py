"""Random searches on the page of tuning: the best of k configurations of every remedy, and what smoothed labels do."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from replication.analysis import budget, comparison
from replication.claims.beyond import budgets, search
from replication.claims.claim import Plan
from replication.claims.law.runs import FIXED
from replication.pages.canvas import WIDTH, closed
from replication.pages.names import cell_label
from replication.pages.picture import Picture
from replication.pages.selection import complete_cells
from replication.pages.style import look
from replication.pages.tables import missing_html
from replication.pages.words import listed, number

PLANS = (budgets.PLAN, search.PLAN)
CHOSEN_BY = {
    "plain": ("plain", "as_trained", "validation_f1_macro", "f1_macro"),
    "plain, threshold tuned": ("plain", "as_trained", "validation_f1_macro_tuned", "f1_macro_tuned"),
    "plain, logits adjusted": ("plain", "logit_adjusted", "validation_f1_macro_adjusted", "f1_macro"),
    "logit-adjusted loss": ("plain_logit_adjusted_loss", "as_trained", "validation_f1_macro", "f1_macro"),
    "class weights": ("plain_class_weighted", "as_trained", "validation_f1_macro", "f1_macro"),
    "final BN": ("final_bn", "as_trained", "validation_f1_macro", "f1_macro"),
    "final BN, shift fixed at −0.4": (FIXED[-0.4], "as_trained", "validation_f1_macro", "f1_macro"),
}
"""what readers see -> (arm, readout, validation score by which its configuration is chosen, test score)"""
Searched = dict[tuple[str, str], dict[str, tuple[np.ndarray, ...]]]
_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), "-", "--")
"""of the lines, several of which share a colour, in the order of `CHOSEN_BY`"""


@dataclass
class Searches:
    """What came of the random searches, from published confirmatory rows."""

    results: pd.DataFrame

    @cached_property
    def wide(self) -> Searched:
        """Of six factors."""
        return self._searched(search.PLAN)

    @cached_property
    def earlier(self) -> Searched:
        """Of four."""
        return self._searched(budgets.PLAN)

    def _searched(self, plan: Plan) -> Searched:
        """Validation and test scores (n, m) of n configurations on m seeds, by cell and by what is tuned."""
        found = {}
        for key, part in complete_cells(plan, self.results).items():
            read = {name: of for name, of in part.groupby(["arm", "readout"])}
            found[key] = {
                name: tuple(
                    read[arm, readout].pivot(index="level", columns="seed", values=metric).to_numpy(float)
                    for metric in scores
                )
                for name, (arm, readout, *scores) in CHOSEN_BY.items()
            }
        return found

    def figure(self) -> Picture | HTML:
        """Expected best of k configurations of six factors, k = 1 to all."""
        if not self.wide:
            return missing_html("No figure yet: no cell has all its configurations.")
        found = {key: {name: budget.best_of(*both) for name, both in of.items()} for key, of in self.wide.items()}
        text = "Expected macro F1 of the best of 1, 5 and 20 random configurations. " + " ".join(
            f"{cell_label(cell)}: "
            + "; ".join(
                f"{name} {', '.join(number(float(e.value[k - 1])) for k in (1, 5, 20))}" for name, e in of.items()
            )
            + "."
            for cell, of in found.items()
        )
        data = pd.DataFrame(
            [
                {"setting": s, "remedy": name, "k": k + 1, "macro F1": e.value[k], "low": e.low[k], "high": e.high[k]}
                for (s, _), of in found.items()
                for name, e in of.items()
                for k in range(len(e.value))
            ]
        )
        return Picture(
            best_figure({cell_label(cell): of for cell, of in found.items()}),
            f"{text} AdamW; rate, weight decay, batch size, epochs, label smoothing and augmentation are drawn at random. "
            "Bands: 95 % over configurations and seeds.",
            text,
            data,
        )

    def sentence(self) -> Markdown:
        """What every remedy comes to with all configurations, a line a cell and search; and what smoothing labels does."""
        searches = (
            (self.wide, "six factors"),
            (self.earlier, "an earlier search over four: no label smoothing, always the setting's augmentation"),
        )
        lines = [
            f"- {cell_label(cell)} ({words}): {_ends(of)}."
            for searched, words in searches
            for cell, of in searched.items()
        ]
        if not lines:
            return Markdown("*Not run yet.*")
        tried = [next(iter(of.values()))[0].shape for searched, _ in searches for of in searched.values()]
        configurations, seeds = (listed([str(n) for n in sorted(set(sizes))], "or") for sizes in zip(*tried))
        start = (
            f"Expected macro F1 with {configurations} configurations, {seeds} seeds; differences within the figure's bands say "
            "little:"
        )
        return Markdown("\n".join([start, "", *lines, "", self._smoothing()]))

    def _smoothing(self) -> str:
        """Mean macro F1 with and without smoothed labels, by remedy, in the first cell of the wider search."""
        if not self.wide:
            return ""
        cell, of = next(iter(self.wide.items()))
        smoothed = np.array([c["label_smoothing"] > 0 for c in search.configurations()])
        told = [
            f"{name} {number(of[name][1][smoothed].mean())} against {number(of[name][1][~smoothed].mean())}"
            for name in ("logit-adjusted loss", "plain, logits adjusted", "final BN")
        ]
        return (
            f"{smoothed.sum()} of the {len(smoothed)} configurations smooth labels. On {cell_label(cell)}, mean macro F1 of "
            f"these against the others: {listed(told)}. Other factors differ between them too."
        )


def _ends(of: Mapping[str, tuple[np.ndarray, ...]]) -> str:
    """Expected score of every remedy with all configurations, the highest first, in words."""
    ends = {name: float(budget.expected_best(*(s.mean(1) for s in both))[-1]) for name, both in of.items()}
    return ", ".join(f"{name} {number(value)}" for name, value in sorted(ends.items(), key=lambda pair: -pair[1]))


@closed
def best_figure(found: Mapping[str, Mapping[str, comparison.Estimate]]) -> Figure:
    """Expected best of k, one panel per cell."""
    fig, axes = plt.subplots(len(found), 1, figsize=(WIDTH, 1.2 + 2.3 * len(found)), layout="constrained", sharex=True)
    for ax, (title, of) in zip(np.atleast_1d(axes), found.items()):
        for (name, e), dash in zip(of.items(), _DASHES, strict=True):
            colour = look(CHOSEN_BY[name][0]).colour
            k = np.arange(1, len(e.value) + 1)
            ax.plot(k, e.value, color=colour, ls=dash, label=name)
            ax.fill_between(k, e.low, e.high, color=colour, alpha=0.1, lw=0)
        ax.set_title(title.replace(" · ", "\n", 1), loc="left")
        ax.set_ylabel("macro F1")
    np.atleast_1d(axes)[-1].set_xlabel("random configurations tried, k")
    np.atleast_1d(axes)[-1].set_xticks([1, 5, 10, 15, 20])
    handles, labels = np.atleast_1d(axes)[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper left", ncols=2, fontsize=8.5)
    return fig
