"""The page of tuning: the fixed shift untuned against tuned remedies, the best of k configurations, the spread's sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from replication.analysis import budget, comparison
from replication.analysis import statistics as st
from replication.claims.beyond import budgets, fastai_head, ghost, search, untuned
from replication.claims.beyond import variance as crossed
from replication.claims.claim import Plan
from replication.claims.law.runs import FIXED
from replication.pages.canvas import WIDTH, closed
from replication.pages.everywhere import remedy_label
from replication.pages.names import cell_label
from replication.pages.parameters import Parameters, parameters
from replication.pages.picture import Picture
from replication.pages.selection import published_rows
from replication.pages.spread import Cells, Spread, counted, whole
from replication.pages.style import look
from replication.pages.tables import folded, missing_html, shown, table_html
from replication.pages.words import between, listed, number, rate_text, signed
from replication.run import CONFIRMATORY

PLANS = (untuned.PLAN, budgets.PLAN, search.PLAN, ghost.PLAN, crossed.PLAN, fastai_head.PLAN)
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
MOST = 3
"""comparisons that the box names"""
_DASHES = ("-", "--", "-.", ":", "-", "--")
_SEARCHED = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), "-", "--")
"""of lines whose arms share a colour, in the order in which they are drawn: of the profiles and of the searches"""


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
        return whole(untuned.PLAN, self.results)

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
        caption = "Macro F1 of the fixed shift, untuned, minus that of the best tuned remedy"
        return folded("Every comparison", table_html(pd.DataFrame(rows), caption))

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
            f"over {len(self.remedies)} cells (95 % interval, stratified bootstrap)",
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
            + "; ".join(
                f"{remedy_label(r)} {number(float(tau[np.searchsorted(-e.value, -0.9)]))}" for r, e in by.items()
            )
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

    # --- budgets ---------------------------------------------------------------------------------------

    def searched(self, plan: Plan) -> Searched:
        """Validation and test scores (n, m) of n configurations on m seeds, by cell and by what is tuned."""
        found = {}
        for key, part in whole(plan, self.results).items():
            read = {name: of for name, of in part.groupby(["arm", "readout"])}
            found[key] = {
                name: tuple(
                    read[arm, readout].pivot(index="level", columns="seed", values=metric).to_numpy(float)
                    for metric in scores
                )
                for name, (arm, readout, *scores) in CHOSEN_BY.items()
            }
        return found

    def budget_figure(self) -> Picture | HTML:
        """Expected best of k, k = 1 to 20."""
        searched = self.searched(search.PLAN)
        if not searched:
            return missing_html("No figure yet: no cell has all its configurations.")
        found = {key: {name: budget.best_of(*both) for name, both in of.items()} for key, of in searched.items()}
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
            budget_figure({cell_label(cell): of for cell, of in found.items()}),
            f"{text} AdamW; rate, weight decay, batch size, epochs, label smoothing and augmentation are drawn at random. "
            "Bands: 95 % over configurations and seeds.",
            text,
            data,
        )

    def sentence(self) -> Markdown:
        """What every remedy comes to with all configurations, a line a cell and search; and what smoothing labels does."""
        searches = (
            (search.PLAN, "six factors"),
            (budgets.PLAN, "an earlier search over four: no label smoothing, always the setting's augmentation"),
        )
        lines = [
            f"- {cell_label(cell)} ({words}): {_ends(of)}."
            for plan, words in searches
            for cell, of in self.searched(plan).items()
        ]
        if not lines:
            return Markdown("*Not run yet.*")
        start = "Expected macro F1 with 20 configurations, five seeds; the bands of the figure are wider than most differences:"
        return Markdown("\n".join([start, "", *lines, "", self._smoothing()]))

    def _smoothing(self) -> str:
        """Mean macro F1 with and without smoothed labels, by remedy, in the first cell of the wider search."""
        found = self.searched(search.PLAN)
        if not found:
            return ""
        cell, of = next(iter(found.items()))
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


def open_tuning(namespace: Mapping[str, object]) -> TuningPage:
    """The notebook's first call: check its parameters, read the published results, which `seeds` does not replace."""
    return TuningPage(parameters(namespace))


def precision_at(rows: pd.DataFrame, prevalence: float = 0.01) -> np.ndarray:
    """Precision (n,) where that share of the images is minority, from the rates on the balanced test; 0 without alarms."""
    tp, fp, fn, tn = counted(rows)
    hit, alarm = prevalence * tp / (tp + fn), (1 - prevalence) * fp / (fp + tn)
    return np.divide(hit, hit + alarm, out=np.zeros_like(hit), where=hit + alarm > 0)


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


@closed
def budget_figure(found: Mapping[str, Mapping[str, comparison.Estimate]]) -> Figure:
    """Expected best of k, one panel per cell."""
    fig, axes = plt.subplots(len(found), 1, figsize=(WIDTH, 1.2 + 2.3 * len(found)), layout="constrained", sharex=True)
    for ax, (title, of) in zip(np.atleast_1d(axes), found.items()):
        for (name, e), dash in zip(of.items(), _SEARCHED, strict=True):
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
