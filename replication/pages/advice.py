"""The advice page: five computed sentences and one figure for someone with a rare class."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from replication.analysis import law
from replication.analysis.statistics import MARGIN
from replication.claims.law import judge as law_judge
from replication.claims.law.runs import FIXED
from replication.pages.canvas import (
    WIDTH,
    always_minority,
    closed,
    handles,
    height,
    no_skill_line,
    points,
    row_label,
    rows_axis,
)
from replication.pages.everywhere import Everywhere
from replication.pages.names import arm_label, cell_label, cell_phrase
from replication.pages.parameters import Parameters, parameters
from replication.pages.picture import Picture
from replication.pages.selection import published_rows
from replication.pages.style import NO_SKILL, look
from replication.pages.tables import missing_html
from replication.pages.tuning import TuningPage
from replication.pages.words import listed, number, rate_text, signed, span
from replication.results.frame import arm_and_readout, seeds, values
from replication.run import CONFIRMATORY, Run

TUNED = ("plain", "plain · logit_adjusted", "final_bn", "final_bn · bn_removed")
"""arms at their own learning rates"""
UNTUNED = FIXED[-0.4]
"""the arm that is to need no tuning"""
Scores = dict[str, np.ndarray]


@dataclass
class AdvicePage:
    """What to do about a rare class, from the published results of heads on frozen bodies."""

    parameters: Parameters

    @cached_property
    def results(self) -> pd.DataFrame:
        """Published confirmatory rows."""
        rows = published_rows(law_judge.settings())
        return rows[rows["seed"] >= CONFIRMATORY] if len(rows) else rows

    @cached_property
    def cells(self) -> dict[tuple[str, str], pd.DataFrame]:
        """The base pair at own rates and the fixed shift without tuning, of every cell that has the former."""
        found = {}
        pair = law_judge.law_frame("matched_positives", self.results)
        fixed = law_judge.law_frame("fixed_shift", self.results)
        for key, part in pair.groupby(["cell_setting", "cell_network"], sort=False):
            if part["f1_minority"].notna().all():
                own = fixed[
                    (fixed["cell_setting"] == key[0])
                    & (fixed["cell_network"] == key[1])
                    & (fixed["variant"] == "untuned")
                ]
                whole = len(own) > 0 and own["f1_minority"].notna().all()
                found[key] = pd.concat([part, own]) if whole else part
        return found

    def scores(self, part: pd.DataFrame, metric: str = "f1_macro") -> dict[str, np.ndarray]:
        """A metric of every arm of a cell that was run, (n,) each; the fixed shift by its learning rate."""
        found: Scores = {}
        for name in TUNED:
            arm, readout = arm_and_readout(name)
            found[name] = values(part[part["variant"] == ""], arm, metric, readout)
        fixed = part[part["variant"] == "untuned"]
        for at in sorted(fixed["level"].unique()):
            found[f"{UNTUNED} at {rate_text(at)}"] = values(fixed[fixed["level"] == at], UNTUNED, metric)
        return found

    def figure(self) -> Picture | HTML:
        """The decision figure: macro F1 of each remedy in every cell."""
        if not self.cells:
            return missing_html("No figure yet: no cell has all its runs.")
        shown = {cell_label(cell): self.scores(part) for cell, part in self.cells.items()}
        text = (
            "Mean macro F1: "
            + "; ".join(
                f"{name}: " + ", ".join(f"{_label(arm)} {number(np.nanmean(d))}" for arm, d in of.items())
                for name, of in shown.items()
            )
            + "."
        )
        data = pd.DataFrame(
            [
                {"cell": cell_label(cell), "arm": _label(arm), "seed": n, "macro F1": v}
                for cell, part in self.cells.items()
                for arm, d in shown[cell_label(cell)].items()
                for n, v in zip(seeds(part, variant="untuned" if arm.startswith(UNTUNED) else ""), d, strict=True)
            ]
        )
        return Picture(decision(shown), f"{text} One dot per seed. Dotted: always saying minority.", text, data)

    def sentences(self) -> Markdown:
        """The five sentences."""
        lines = [*self._findings(), self._rate(), self._never_both()]
        return Markdown("\n".join(f"{k}. {line}" for k, line in enumerate(lines, 1)))

    def _findings(self) -> list[str]:
        """The first three, over all images."""
        found = Everywhere()
        if found.means.empty:
            start = (
                "**Train with the logit-adjusted loss, or adjust the logits**",
                "**The layer**",
                "**The fixed shift**",
            )
            return [f"{words}: *not run yet.*" for words in start]
        return [found.first(), found.second(), found.third() + self._where_it_fails()]

    def _where_it_fails(self) -> str:
        """Where the fixed shift is not shown to be as good as the best tuned remedy, over more images than these."""
        contests = TuningPage(self.parameters).contests
        worse = [c for c in contests if not c.noninferior]
        if not worse:
            return ""
        far = min(worse, key=lambda c: c.d.mean())
        where = f"furthest off: {signed(far.d.mean())} on {cell_phrase((far.setting, far.network))} at {rate_text(far.rate)}"
        return (
            f" **It does not suffice everywhere**: in {len(worse)} of {len(contests)} comparisons with the best of all tuned "
            f"remedies it is not shown to be within {MARGIN} macro F1 ({where}; [How much tuning?](tuning.html))."
        )

    def _rate(self) -> str:
        """What the law says of the learning rate."""
        at = {lr: law.predicted(Run(final_norm="bn", learning_rate=lr)).shift for lr in (1e-3, 3e-3, 1e-2, 3e-2)}
        said = listed([f"{number(shift)} nats at {rate_text(lr)}" for lr, shift in at.items()])
        return (
            "**Otherwise choose the rate by the shift that it gives.** The [law](law.html) says how far the threshold moves. "
            f"With Adam, 10 epochs of 1010 images and batches of 64 it moves by {said}."
        )

    def _never_both(self) -> str:
        """What happens where both are used."""
        start = "**Never use the layer and logit adjustment together.**"
        if not self.cells:
            return f"{start} *not run yet.*"
        f1, all_minority = [], []
        for part in self.cells.values():
            d = values(part[part["variant"] == ""], "final_bn", "f1_minority", "logit_adjusted")
            f1.append(d.mean())
            all_minority.append(np.abs(d - NO_SKILL) < 0.005)
        share = np.concatenate(all_minority).mean()
        return (
            f"{start} The layer already leaves the class shares out of the logits, and adjusting subtracts them once more. "
            f"Minority F1 is then {span(f1)} ({len(f1)} cells); always saying minority scores {number(NO_SKILL)}, and "
            f"{number(100 * share, 0)} % of the runs do just that."
        )


def open_advice(namespace: Mapping[str, object]) -> AdvicePage:
    """The notebook's first call: check its parameters, read the published results, which `seeds` does not replace."""
    return AdvicePage(parameters(namespace))


def _arm(name: str) -> str:
    return name.partition(" at ")[0]


def _label(name: str) -> str:
    arm, _, at = name.partition(" at ")
    return arm_label(arm) + (f", rate {at}" if at else "")


@closed
def decision(cells: Mapping[str, Scores]) -> Figure:
    """One row per cell: macro F1 of every arm, every seed, mean and interval."""
    arms = list(dict.fromkeys(name for of in cells.values() for name in of))
    fig, ax = plt.subplots(figsize=(WIDTH, height(len(cells), 0.28 + 0.105 * len(arms))), layout="constrained")
    for y, (label, of) in enumerate(cells.items()):
        row_label(ax, y - 0.47, label)
        for k, name in enumerate(arms):
            if name in of:
                last = name != f"{_arm(name)} at 0.001"
                points(
                    ax,
                    y - 0.2 + 0.62 * k / max(len(arms) - 1, 1),
                    of[name],
                    look(_arm(name)),
                    width=0.05,
                    fill="full" if last else "none",
                )
    rows_axis(ax, len(cells))
    ax.set_xlim(-0.02, 1.02)
    no_skill_line(ax, "f1_macro")
    ax.set_xlabel("macro F1 (balanced test)")
    fig.legend(
        handles=[*handles(dict.fromkeys(map(_arm, arms))), always_minority()],
        loc="outside upper left",
        ncols=2,
        columnspacing=1.2,
        handletextpad=0.4,
    )
    return fig
