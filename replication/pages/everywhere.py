"""Every remedy on all images, tuned and not: the advice page's tables, its first sentences, and the front page's line."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from IPython.display import HTML

from replication.analysis.statistics import MARGIN
from replication.claims.beyond import rate_profile, untuned
from replication.claims.beyond.untuned import Remedy
from replication.pages.names import KINDS, cell_label, remedy_label, setting_label
from replication.pages.selection import complete_cells, published_rows
from replication.pages.stories.pair import fastai_means, recipe_images
from replication.pages.tables import folded, missing_html, shown, table_html
from replication.pages.words import listed, number, rate_text, span
from replication.results.frame import values
from replication.run import CONFIRMATORY
from replication.study.networks import network as network_of

PLANS = (untuned.PLAN, rate_profile.PLAN)
ADJUSTED: Remedy = ("plain", "logit_adjusted", "f1_macro")
LOSS: Remedy = ("plain_logit_adjusted_loss", "as_trained", "f1_macro")
LAYER: Remedy = ("final_bn", "as_trained", "f1_macro")
FIXED_SHIFT: Remedy = (untuned.CANDIDATE, "as_trained", "f1_macro")
OWN_RATE = 0.0
"""stands for each arm's own learning rate, where the others are numbers"""


@dataclass
class Everywhere:
    """Mean macro F1 of every remedy in the cells that have all of them."""

    @cached_property
    def results(self) -> pd.DataFrame:
        """Published confirmatory rows of these cells' settings."""
        rows = published_rows(tuple(dict.fromkeys(c.setting for plan in PLANS for c in plan.cells)))
        return rows[rows["seed"] >= CONFIRMATORY] if len(rows) else rows

    @cached_property
    def means(self) -> pd.DataFrame:
        """One row a cell, remedy and learning rate (`rate`, `OWN_RATE` or a number): mean macro F1, and how far it is `below`
        the best of all remedies that are tuned, the fixed shift, which is to need no tuning, not among these."""
        rows = []
        for (setting, network), part in complete_cells(untuned.PLAN, self.results).items():
            for rate in (OWN_RATE, *untuned.RATES):
                where = {"variant": "untuned", "level": rate} if rate else {"variant": "tuned"}
                for remedy, score in untuned.scores(part, (*untuned.TUNED, FIXED_SHIFT), **where).items():
                    if remedy != FIXED_SHIFT or rate:
                        about = {"setting": setting, "network": network, "remedy": remedy, "rate": rate}
                        rows.append(about | {"mean": float(score.mean()), "seeds": len(score)})
        if not rows:
            return pd.DataFrame()
        found = pd.DataFrame(rows)
        best = found[found["rate"] == OWN_RATE].groupby(["setting", "network"])["mean"].max().rename("best")
        found = found.join(best, on=["setting", "network"])
        return found.assign(below=found["best"] - found["mean"])

    @property
    def cells(self) -> list[tuple[str, str]]:
        """(setting, network) of the cells."""
        return list(dict.fromkeys(zip(self.means["setting"], self.means["network"]))) if len(self.means) else []

    def below(self, remedy: Remedy, rate: float = OWN_RATE) -> pd.Series:
        """By cell, how far a remedy's mean macro F1 is below the best tuned one's; empty where it was not run."""
        found = self.means
        return found.loc[(found["remedy"] == remedy) & (found["rate"] == rate), "below"]

    def near(self, remedy: Remedy, rate: float = OWN_RATE) -> int:
        """In how many cells that is no more than the margin."""
        return int((self.below(remedy, rate) <= MARGIN).sum())

    @property
    def scope(self) -> str:
        """What the counts are over, in words."""
        frozen = sum(network_of(network).trained == "head" for _, network in self.cells)
        rest = len(self.cells) - frozen
        others = f" and {rest} networks with all layers trained" if rest else ""
        seeds = span(self.means["seeds"], 0)
        return f"{len(self.cells)} cells: {frozen} heads on frozen bodies{others}; {seeds} seeds each, means without a test"

    # --- tables ----------------------------------------------------------------------------------------

    def counts(self) -> HTML:
        """In how many cells every remedy is near the best tuned one, by learning rate."""
        if self.means.empty:
            return missing_html("Not run yet.")
        rows = []
        for remedy in sorted(dict.fromkeys(self.means["remedy"]), key=lambda remedy: -self.near(remedy)):
            row = {"remedy": remedy_label(remedy)}
            for rate in (OWN_RATE, *untuned.RATES):
                found = self.below(remedy, rate)
                told = f"{self.near(remedy, rate)} of {len(found)} ({number(found.max())})" if len(found) else "—"
                row[f"at {rate_text(rate)}" if rate else "tuned"] = told
            rows.append(row)
        caption = (
            f"In how many cells mean macro F1 is within {MARGIN} of that of the best tuned remedy, and in brackets how far below "
            f"it at worst ({self.scope}). In the column tuned, adjusted logits and a tuned threshold have plain's rate, and the "
            "removed layer has the layer's"
        )
        return shown(pd.DataFrame(rows), caption)

    def table(self) -> HTML:
        """The means where each arm is tuned, a row a cell."""
        if self.means.empty:
            return missing_html("Not run yet.")
        rows = []
        for cell in self.cells:
            of = self.means[(self.means["setting"] == cell[0]) & (self.means["network"] == cell[1])]
            tuned = of[of["rate"] == OWN_RATE].set_index("remedy")["mean"]
            row = {"images and network": cell_label(cell)}
            for remedy in untuned.TUNED:
                row[remedy_label(remedy)] = number(tuned[remedy]) if remedy in tuned.index else "not recorded"
            for rate in untuned.RATES:
                fixed = of[(of["remedy"] == FIXED_SHIFT) & (of["rate"] == rate)]["mean"]
                row[f"{remedy_label(FIXED_SHIFT)}, at {rate_text(rate)}"] = number(float(fixed.iloc[0]))
            rows.append(row)
        caption = (
            "Mean macro F1 of every remedy, tuned, and of the fixed shift at two rates without tuning; all rates as CSV"
        )
        data = self.means.assign(
            remedy=self.means["remedy"].map(remedy_label),
            rate=[rate or KINDS["own"] for rate in self.means["rate"]],
        )
        return folded("Every cell", table_html(pd.DataFrame(rows), caption, data=data))

    # --- sentences -------------------------------------------------------------------------------------

    def line(self) -> str:
        """What to do, in a line, for the front page; empty without results."""
        if self.means.empty:
            return ""
        low, networks = min(untuned.RATES), [network_of(network) for _, network in self.cells]
        fine = "" if any(n.trained == "all" and n.init == "imagenet" for n in networks) else ", none fine-tuned"
        return (
            f"**In one line**: the logit-adjusted loss at Adam's default rate has a mean macro F1 within {MARGIN} of the best "
            f"tuned remedy's in {self.near(LOSS, low)} of {len(self.cells)} cells{fine}; the layer, tuned, in {self.near(LAYER)} "
            "([advice](advice.html))."
        )

    def first(self) -> str:
        """The advice page's first sentences: the loss and the adjustment."""
        low, high = untuned.RATES
        return (
            "**Train with the logit-adjusted loss, or adjust the logits afterwards.** Both take the class shares out of the "
            f"logits. Of {len(self.cells)} cells the loss is within {MARGIN} mean macro F1 of the best tuned remedy in "
            f"{self.near(LOSS)} if it is tuned, in {self.near(LOSS, low)} at {rate_text(low)} and in {self.near(LOSS, high)} at "
            f"{rate_text(high)}. Adjusting comes after training, but plain must then be trained at a rate that suits it: at "
            f"the rate that is best for plain it is as near in {self.near(ADJUSTED)}, at {rate_text(high)} in "
            f"{self.near(ADJUSTED, high)}, at {rate_text(low)} in {self.near(ADJUSTED, low)}. {self.adjusted()}{self.recipe()}"
        )

    def recipe(self) -> str:
        """What adjusting does after fastai's recipe, in a sentence; empty while runs are missing."""
        if not (means := fastai_means()):
            return ""
        return (
            f" After fastai's recipe on {recipe_images()}, which tunes nothing, adjusted logits have a minority F1 of "
            f"{means[3]}, the layer {means[1]} ([the gain](base.html#fastai-s-recipe))."
        )

    def second(self) -> str:
        """The second: the layer and its rate."""
        low, high = untuned.RATES
        return (
            f"**If you add the layer, tune the learning rate for it.** Tuned it is within {MARGIN} of the best in "
            f"{self.near(LAYER)} of {len(self.cells)} cells, at {rate_text(low)} in {self.near(LAYER, low)}, at "
            f"{rate_text(high)} in {self.near(LAYER, high)}."
        )

    def third(self) -> str:
        """The third: the fixed shift."""
        low, high = untuned.RATES
        return (
            "**If neither loss nor outputs nor the rate can be changed, fix the layer's shift.** At −0.4 it is within "
            f"{MARGIN} of the best tuned remedy in {self.near(FIXED_SHIFT, low)} of {len(self.cells)} cells at "
            f"{rate_text(low)} and in {self.near(FIXED_SHIFT, high)} at {rate_text(high)}, by its means; the logit-adjusted "
            f"loss, which needs no layer, in {self.near(LOSS, low)} and {self.near(LOSS, high)}."
        )

    def adjusted(self) -> str:
        """How near adjusted logits come to the layer at a rate of their own, in a sentence; empty without rate profiles."""
        below, settings = [], []
        for (setting, _), part in complete_cells(rate_profile.PLAN, self.results).items():
            best = [
                max(
                    float(values(part, arm, metric, readout, level=rate).mean())
                    for rate in sorted(part["level"].unique())
                )
                for arm, readout, metric in (LAYER, ADJUSTED)
            ]
            below.append(best[0] - best[1])
            settings.append(setting_label(setting).partition(",")[0])
        if not below:
            return ""
        return (
            f"In {len(below)} sweeps of the learning rate ({listed(list(dict.fromkeys(settings)))}), adjusted logits at "
            f"their best rate are {span(below)} below the layer at its best (rates picked by test scores, for both)."
        )
