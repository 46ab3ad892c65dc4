"""The advice page's table over all images: every remedy, tuned, and what the rate does to adjusted logits."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from IPython.display import HTML, Markdown

from replication.analysis.statistics import MARGIN
from replication.claims.beyond import rate_profile, untuned
from replication.claims.beyond.untuned import Remedy
from replication.pages.names import arm_label, cell_label, setting_label
from replication.pages.selection import published_rows
from replication.pages.spread import whole
from replication.pages.tables import missing_html, shown
from replication.pages.words import listed, number, rate_text
from replication.results.frame import values
from replication.run import CONFIRMATORY

PLANS = (untuned.PLAN, rate_profile.PLAN)
FIXED: Remedy = (untuned.CANDIDATE, "as_trained", "f1_macro")
PLAIN: Remedy = ("plain", "as_trained", "f1_macro")
LAYER: Remedy = ("final_bn", "as_trained", "f1_macro")
LOSS: Remedy = ("plain_logit_adjusted_loss", "as_trained", "f1_macro")
ADJUSTED: Remedy = ("plain", "logit_adjusted", "f1_macro")


def remedy_label(remedy: Remedy) -> str:
    """What readers call a remedy (arm, readout, measure)."""
    arm, readout, metric = remedy
    name = arm_label(arm if readout == "as_trained" else f"{arm} · {readout}")
    return f"{name} with a tuned threshold" if "tuned" in metric else name


@dataclass
class Everywhere:
    """Mean macro F1 of every remedy in the cells that have all of them."""

    @cached_property
    def results(self) -> pd.DataFrame:
        """Published confirmatory rows of these cells' settings."""
        rows = published_rows(tuple(dict.fromkeys(c.setting for plan in PLANS for c in plan.cells)))
        return rows[rows["seed"] >= CONFIRMATORY] if len(rows) else rows

    @cached_property
    def means(self) -> dict[tuple[str, str], dict[str, float]]:
        """(setting, network) -> remedy's name -> mean macro F1: each arm at its own rate, the fixed shift untuned besides."""
        found = {}
        for cell, part in whole(untuned.PLAN, self.results).items():
            tuned = untuned.scores(part, variant="tuned")
            found[cell] = {remedy_label(remedy): float(score.mean()) for remedy, score in tuned.items()}
            for at in untuned.RATES:
                name = f"{remedy_label(FIXED)}, untuned at {rate_text(at)}"
                found[cell][name] = float(untuned.scores(part, (FIXED,), variant="untuned", level=at)[FIXED].mean())
        return found

    def sentence(self) -> Markdown:
        """How often each remedy is about as good as the best of all, and its lowest score."""
        if not self.means:
            return Markdown("*Not run yet.*")
        told = []
        for name in dict.fromkeys(name for of in self.means.values() for name in of):
            here = {cell: of for cell, of in self.means.items() if name in of}
            near = sum(of[name] >= max(of.values()) - MARGIN for of in here.values())
            far = min(of[name] - max(of.values()) for of in here.values())
            told.append((near / len(here), f"- {name}: {near} of {len(here)}, at worst {number(-far)} below the best"))
        lines = [line for _, line in sorted(told, key=lambda pair: -pair[0])]
        return Markdown(
            f"In how many cells a remedy's mean macro F1 is within {MARGIN} of the best of all; means, without a test:\n\n"
            + "\n".join(lines)
        )

    def line(self) -> Markdown:
        """What to do, in a line, for the front page."""
        if not self.means:
            return Markdown("")
        n = len(self.means)
        names = [remedy_label(r) for r in (LOSS, LAYER, ADJUSTED)]
        loss, layer, adjusted = (
            sum(of[name] >= max(of.values()) - MARGIN for of in self.means.values()) for name in names
        )
        return Markdown(
            f"**In one line**: of all remedies, each tuned, training with the logit-adjusted loss has a mean macro F1 within "
            f"{MARGIN} of the best in {loss} of {n} cells, the layer in {layer}, and plain with its logits adjusted afterwards, "
            f"at the rate that suits plain, in {adjusted}. [Should I add this layer?](advice.ipynb)"
        )

    def table(self) -> HTML:
        """The means, a row a cell."""
        if not self.means:
            return missing_html("Not run yet.")
        names = dict.fromkeys(name for of in self.means.values() for name in of)
        rows = [
            {"images and network": cell_label(cell)}
            | {name: number(of[name]) if name in of else "not recorded" for name in names}
            for cell, of in self.means.items()
        ]
        return shown(pd.DataFrame(rows), "Mean macro F1 of every remedy, each arm at its own learning rate unless said")

    @cached_property
    def profiles(self) -> pd.DataFrame:
        """Macro F1 below the layer at its best rate, of adjusted logits at their own best rate and at plain's, by cell."""
        rows = []
        for (setting, network), part in whole(rate_profile.PLAN, self.results).items():
            by_rate = {
                remedy: {
                    rate: float(values(part, arm, metric, readout, level=rate).mean())
                    for rate in sorted(part["level"].unique())
                }
                for remedy in (PLAIN, ADJUSTED, LAYER)
                for arm, readout, metric in [remedy]
            }
            best = {remedy: max(of, key=lambda rate: of[rate]) for remedy, of in by_rate.items()}
            layer = by_rate[LAYER][best[LAYER]]
            rows.append(
                {
                    "setting": setting,
                    "network": network,
                    "own rate": layer - by_rate[ADJUSTED][best[ADJUSTED]],
                    "rate of plain": layer - by_rate[ADJUSTED][best[PLAIN]],
                }
            )
        return pd.DataFrame(rows)

    def adjusted(self) -> str:
        """What the rate does to adjusted logits, in a sentence: plain's best rate is not theirs. Empty without profiles."""
        found = self.profiles
        if found.empty:
            return ""
        images = listed(list(dict.fromkeys(setting_label(s).partition(",")[0] for s in found["setting"])))
        return (
            f"In {len(found)} profiles over the learning rate ({images}), macro F1 at the rate that is best for adjusted logits "
            f"is {span(found['own rate'])} below that of the layer at its best; at the rate that is best for plain it is "
            f"{span(found['rate of plain'])} below (rates picked by test scores, for all alike)."
        )


def span(found: pd.Series) -> str:
    """Least and largest of some sizes, in words."""
    low, high = number(found.min()), number(found.max())
    return low if low == high else f"{low} to {high}"
