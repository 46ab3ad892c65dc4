"""The page of tuning: the fixed shift, untuned, against every remedy, tuned; with it the searches and the spread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from replication.analysis import comparison
from replication.analysis import statistics as st
from replication.claims.beyond import fastai_head, ghost, untuned
from replication.claims.beyond import variance as crossed
from replication.claims.law.runs import FIXED
from replication.pages import searches
from replication.pages.canvas import WIDTH, closed
from replication.pages.names import cell_label, cell_phrase, remedy_label
from replication.pages.parameters import Parameters, parameters
from replication.pages.picture import Picture
from replication.pages.searches import Searches
from replication.pages.selection import Cells, complete_cells, published_rows
from replication.pages.spread import Spread, counted
from replication.pages.style import look
from replication.pages.tables import folded, missing_html, shown, table_html
from replication.pages.words import between, listed, number, rate_text, signed
from replication.run import CONFIRMATORY

PLANS = (untuned.PLAN, *searches.PLANS, ghost.PLAN, crossed.PLAN, fastai_head.PLAN)
MOST = 3
"""comparisons that the box names"""
_DASHES = ("-", "--", "-.", ":", "-", "--")
"""of lines whose arms share a colour, in the order in which they are drawn"""


@dataclass
class TuningPage:
    """What tuning is worth, on published results; nothing is trained here."""

    parameters: Parameters

    @cached_property
    def results(self) -> pd.DataFrame:
        """Published confirmatory rows of all settings that the page's plans name."""
        rows = published_rows(tuple(dict.fromkeys(c.setting for plan in PLANS for c in plan.cells)))
        return rows[rows["seed"] >= CONFIRMATORY] if len(rows) else rows

    @cached_property
    def remedies(self) -> Cells:
        """Cells in which every remedy was run, tuned and untuned."""
        return complete_cells(untuned.PLAN, self.results)

    # --- the fixed shift, untuned ---------------------------------------------------------------------

    @cached_property
    def contests(self) -> list[untuned.Contest]:
        """The fixed shift against the best tuned remedy, by cell and rate."""
        return untuned.contests(pd.concat(self.remedies.values())) if self.remedies else []

    def answer(self) -> HTML:
        """The box atop the page: is the fixed shift, untuned, as good as the best tuned remedy?"""
        if not self.contests:
            return HTML("<div class='key-result'><p class='answer'>Not run yet.</p></div>")
        good = [c for c in self.contests if c.noninferior]
        bad = [c for c in self.contests if not c.noninferior]
        lacking = [cell_label(c) for c in untuned.PLAN.cells if (c.setting, c.network) not in self.remedies]
        word = "No" if bad else "Yes, where it was run" if lacking else "Yes"
        far = sorted(bad, key=lambda c: c.d.mean())
        where = listed([f"{_contest_label(c)} ({signed(c.d.mean())})" for c in far[:MOST]])
        where += f" and {len(bad) - MOST} more, listed below" if len(bad) > MOST else ""
        missing = f" Not run in full: {'; '.join(lacking)}." if lacking else ""
        return HTML(
            "<div class='key-result'><p class='claim'>Is the layer with its shift fixed at −0.4 and no tuning within 0.05 macro "
            f"F1 of the best tuned remedy?</p><p class='answer'>{word}: shown in {len(good)} of {len(self.contests)} "
            f"comparisons.</p>"
            + (f"<p class='number'>Not shown: {where}.</p>" if bad else "")
            + f"<p class='caveat'><strong>Caution.</strong> The rule was fixed before the runs: {untuned.RULE}. "
            "The cells are exploratory: no verdict of the papers' claims rests on them. "
            "Adjusted logits and the tuned threshold are read from plain at "
            f"plain's own rate.{missing}</p></div>"
        )

    def contest_table(self) -> HTML:
        """Every comparison with its interval."""
        rows = [
            {
                "images and network": cell_label((c.setting, c.network)),
                "untuned rate": rate_text(c.rate),
                "best tuned remedy": remedy_label(c.best),
                "fixed shift minus that": signed(c.d.mean(), 3),
                "90 % interval": between(-st.upper_limit(-c.d), st.upper_limit(c.d), 3),
                "seeds": len(c.d),
                "above −0.05": "shown" if c.noninferior else "not shown",
            }
            for c in self.contests
        ]
        caption = f"Macro F1 of the fixed shift, untuned, minus that of the best tuned remedy{self._lacking()}"
        return folded("Every comparison", table_html(pd.DataFrame(rows), caption))

    def _lacking(self) -> str:
        """Tuned remedies that were not recorded of a cell, as the end of a caption; empty where all were."""
        found = [
            f"{remedy_label(remedy)} was not recorded on {cell_phrase(key)}"
            for remedy in untuned.TUNED
            for key, part in self.remedies.items()
            if remedy not in untuned.scores(part, variant="tuned")
        ]
        return f"; {listed(found)}" if found else ""

    def scores(self, of: Sequence[untuned.Remedy], **where: object) -> dict[untuned.Remedy, list[np.ndarray]]:
        """Macro F1 of remedies in every cell, those that every cell has."""
        found = [untuned.scores(part, tuple(of), **where) for part in self.remedies.values()]
        return {remedy: [cell[remedy] for cell in found] for remedy in of if all(remedy in cell for cell in found)}

    def shifts_table(self) -> HTML:
        """Macro F1 of every fixed shift, untuned, by cell."""
        rows = []
        for key, part in self.remedies.items():
            for at in untuned.RATES:
                found = untuned.scores(part, untuned.FIXED_SHIFTS, variant="untuned", level=at)
                rows.append(
                    {"images and network": cell_label(key), "rate": rate_text(at)}
                    | {
                        remedy_label(r): number(float(found[r].mean())) if r in found else "not recorded"
                        for r in untuned.FIXED_SHIFTS
                    }
                )
        return folded(
            "Every fixed shift", table_html(pd.DataFrame(rows), "Mean macro F1 of the fixed shifts, nothing tuned")
        )

    def improvement_table(self) -> HTML:
        """Probability of improvement of the fixed shift, untuned, over every remedy, tuned."""
        if not self.remedies:
            return missing_html("Not run yet.")
        tuned, rows = self.scores(untuned.TUNED, variant="tuned"), []
        for remedy, theirs in tuned.items():
            row = {"tuned remedy": remedy_label(remedy)}
            for at in untuned.RATES:
                candidate = (untuned.CANDIDATE, "as_trained", "f1_macro")
                ours = self.scores([candidate], variant="untuned", level=at)[candidate]
                e = comparison.improvement(ours, theirs)
                row[f"fixed shift at {rate_text(at)}"] = f"{number(e.value)} ({number(e.low)} to {number(e.high)})"
            rows.append(row)
        return shown(
            pd.DataFrame(rows),
            f"Probability that a run with the fixed shift, untuned, has a higher macro F1 than one with the tuned remedy, mean "
            f"over {len(self.remedies)} cells (95 % interval, stratified bootstrap){self._lacking()}",
        )

    def profiles(self) -> Picture | HTML:
        """Performance profiles of untuned remedies, at both rates."""
        if not self.remedies:
            return missing_html("No figure yet.")
        tau = np.linspace(0.3, 1, 71)
        of = [
            ("final_bn", "as_trained", "f1_macro"),
            ("plain", "logit_adjusted", "f1_macro"),
            ("plain_logit_adjusted_loss", "as_trained", "f1_macro"),
            ("plain_class_weighted", "as_trained", "f1_macro"),
            (untuned.CANDIDATE, "as_trained", "f1_macro"),
            (FIXED[0.0], "shifted_by_images", "f1_macro"),
        ]
        found = {
            at: {r: comparison.profile(s, tau) for r, s in self.scores(of, variant="untuned", level=at).items()}
            for at in untuned.RATES
        }
        text = "Macro F1 that 90 % of the runs exceed without tuning. " + " ".join(
            f"At {rate_text(at)}: "
            + "; ".join(f"{remedy_label(r)} {_exceeded(tau, e.value)}" for r, e in by.items())
            + "."
            for at, by in found.items()
        )
        data = pd.concat(
            [
                pd.DataFrame({"rate": at, "macro F1": tau} | {remedy_label(r): e.value for r, e in by.items()})
                for at, by in found.items()
            ]
        )
        cells = f"{len(self.remedies)} equally weighted cells"
        return Picture(
            profile_figure(tau, found), f"{text} Performance profiles over {cells}; bands: 95 %.", text, data
        )

    def cost_table(self) -> HTML:
        """What remedies cost where 1 % of the images are minority."""
        rows = []
        remedies = (
            ("plain", "as_trained", "tuned", 0),
            ("plain", "logit_adjusted", "tuned", 0),
            ("plain_logit_adjusted_loss", "as_trained", "tuned", 0),
            ("final_bn", "as_trained", "tuned", 0),
            ("final_bn", "bn_removed", "tuned", 0),
            *((untuned.CANDIDATE, "as_trained", "untuned", at) for at in untuned.RATES),
        )
        for arm, readout, variant, level in remedies:
            parts = [_rows(part, arm, readout, variant, level) for part in self.remedies.values()]
            if not parts or any(part.empty for part in parts):
                continue
            precision = [precision_at(part).mean() for part in parts]
            ece = [part["ece_train"].mean() for part in parts]
            rows.append(
                {
                    "remedy": remedy_label((arm, readout, ""))
                    + (f", untuned at {rate_text(level)}" if level else ", tuned"),
                    "precision at 1 %": number(np.mean(precision)),
                    "lowest and highest cell": f"{number(min(precision))} to {number(max(precision))}",
                    "recall": number(np.mean([part["recall_minority"].mean() for part in parts])),
                    "calibration error at training prevalence": number(np.nanmean(ece)),
                }
            )
        return shown(pd.DataFrame(rows), "Where 1 % of the test images are minority: means over cells")

    @cached_property
    def spread(self) -> Spread:
        """Where the spread comes from, and smaller questions."""
        return Spread(self.results)

    @cached_property
    def searches(self) -> Searches:
        """The best of k random configurations."""
        return Searches(self.results)


def open_tuning(namespace: Mapping[str, object]) -> TuningPage:
    """The notebook's first call: check its parameters, read the published results, which `seeds` does not replace."""
    return TuningPage(parameters(namespace))


def precision_at(rows: pd.DataFrame, prevalence: float = 0.01) -> np.ndarray:
    """Precision (n,) where that share of the images is minority, from the rates on the balanced test; 0 without alarms."""
    tp, fp, fn, tn = counted(rows)
    hit, alarm = prevalence * tp / (tp + fn), (1 - prevalence) * fp / (fp + tn)
    return np.divide(hit, hit + alarm, out=np.zeros_like(hit), where=hit + alarm > 0)


def _exceeded(scores: np.ndarray, share: np.ndarray) -> str:
    """The highest of some scores (T,) that 90 % of the runs exceed, by the share that exceeds each."""
    found = scores[share >= 0.9]
    return number(float(found.max())) if len(found) else f"less than {number(float(scores.min()))}"


def _contest_label(c: untuned.Contest) -> str:
    return f"{cell_label((c.setting, c.network))} at {rate_text(c.rate)}"


def _rows(part: pd.DataFrame, arm: str, readout: str, variant: str, level: float) -> pd.DataFrame:
    here = (part["arm"] == arm) & (part["readout"] == readout) & (part["variant"] == variant)
    return part[here & (part["level"] == level)]


# --- drawing -----------------------------------------------------------------------------------------


@closed
def profile_figure(tau: np.ndarray, found: Mapping[float, Mapping[untuned.Remedy, comparison.Estimate]]) -> Figure:
    """Share of runs above every macro F1, one panel per learning rate."""
    size = (WIDTH, 1.6 + 2.4 * len(found))
    fig, axes = plt.subplots(len(found), 1, figsize=size, layout="constrained", sharex=True, squeeze=False)
    for ax, (at, of) in zip(axes[:, 0], found.items()):
        for (remedy, e), dash in zip(of.items(), _DASHES[: len(of)], strict=True):
            arm, readout, _ = remedy
            colour = look(arm if readout == "as_trained" else f"{arm} · {readout}").colour
            ax.plot(tau, e.value, color=colour, ls=dash, label=remedy_label(remedy))
            ax.fill_between(tau, e.low, e.high, color=colour, alpha=0.12, lw=0)
        ax.set_title(f"untuned, at {rate_text(at)}", loc="left")
        ax.set_ylabel("share of runs above")
        ax.set_ylim(0, 1.02)
    axes[-1, 0].set_xlabel("macro F1 (balanced test)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=1, fontsize=8.5)
    return fig
