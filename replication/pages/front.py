"""The first page: what was found in three sentences, the one figure, and the claims."""

from collections.abc import Mapping

import numpy as np
from IPython.display import HTML, Markdown

from replication.analysis.statistics import MARGIN
from replication.claims.tiers import CONCEPTUAL, TIERS, tier
from replication.pages import figures
from replication.pages.names import network_label, setting_label
from replication.pages.page import Page
from replication.pages.parameters import parameters
from replication.pages.picture import Picture
from replication.pages.scoreboard import Scoreboard
from replication.pages.stories import ADJUSTED, HERO, REMOVED
from replication.pages.words import listed, signed
from replication.results.frame import values
from replication.study.design import Cell

MOST = 8
"""rows of the figure"""


def _place(cell: Cell) -> str:
    """A cell for a sentence, e.g. `digits with a small CNN`."""
    label = network_label(cell.network)
    return f"{setting_label(cell.setting)} with {'an' if label[0] in 'AEIOU' else 'a'} {label}"


class Front:
    """The claims' judgements and the cells of the base pair."""

    def __init__(self, namespace: Mapping[str, object]):
        asked = parameters(namespace)
        self.board, self.base = Scoreboard(asked), Page("base", asked)

    def shown(self) -> list[Cell]:
        """The cells of the figure: those that know ImageNet first, then the others; of each images and network once."""
        whole = list(self.base.selection.whole(**self.base.where))
        transfer = [c for c in whole if tier(c) != CONCEPTUAL]
        others = [c for c in whole if tier(c) == CONCEPTUAL and c.network == "simple_cnn" and "@" not in c.setting]
        room = max(MOST - len(transfer), 2)
        return sorted(transfer[:MOST] + others[:room], key=lambda c: list(TIERS).index(tier(c)))

    def sentences(self) -> Markdown:
        """What the layer does to the best evidence at hand, why that may be, and what is untested: three sentences."""
        lead = self.base.lead
        if not self.base.selection.has(lead, **self.base.where):
            return Markdown(self.base.nothing())
        mean = {name: self.base.mean(name, cell=lead) for name in HERO}
        words = {h.word for h in self.board.judgements["removal"].headlines}
        others = [c for c in self.base.leading(**self.base.where) if c != lead and c.network.count(":")]
        more = "".join(
            f" On {_place(c)} it goes from {self.base.mean('plain', cell=c)} to {self.base.mean('final_bn', cell=c)}, and "
            f"{self.base.mean(REMOVED, cell=c)} remains."
            for c in others[:1]
        )
        first = (
            f"**On {_place(lead)}**, with 10 images of the rare class "
            f"beside 1000, the layer takes its F1 from {mean['plain']} to {mean['final_bn']}; with the layer removed again "
            f"{mean[REMOVED]} remains (that claim: {listed(sorted(words))}).{more}"
        )
        auc = values(self.base.part(cell=lead, **self.base.where), "final_bn", "roc_auc") - values(
            self.base.part(cell=lead, **self.base.where), "plain", "roc_auc"
        )
        second = (
            f"**Moving the threshold does as much**: adjusting the logits of the plain network "
            f"after training, which costs nothing, "
            f"gives {mean[ADJUSTED]}, and the ROC AUC changes by {signed(auc.mean())}."
            if self._threshold(lead)
            else f"**It is not the threshold alone**: adjusting the logits of the plain network after "
            f"training gives {mean[ADJUSTED]}, "
            f"and the ROC AUC changes by {signed(auc.mean())}."
        )
        return Markdown(f"{first} {second} {self._untested()}")

    def _threshold(self, cell: Cell) -> bool:
        part = self.base.part(cell=cell, **self.base.where)
        layer, adjusted = (figures.scores(part, name) for name in ("final_bn", ADJUSTED))
        return adjusted is not None and float(np.mean(layer) - np.mean(adjusted)) < MARGIN

    def _untested(self) -> str:
        open_tiers = [b.partition(":")[0] for h in self.board.judgements["base"].headlines for b in h.beside]
        if not open_tiers:
            return "**Every tier has been tested**, the papers' own networks included."
        return f"**Not complete yet**, nearer to the papers: tier {listed(open_tiers)}."

    def hero(self) -> Picture | HTML:
        """Macro F1 of the four readings on every setting and network."""
        cells = self.shown()
        gains = {c: self._macro_gain(c) for c in cells}
        up = sum(g > MARGIN for g in gains.values())
        finding = (
            f"Macro F1: the layer lies more than {MARGIN} above the plain network in {up} of {len(cells)} rows; plain with "
            f"adjusted logits is at least as good as the layer in {sum(map(self._adjusted_wins, cells))}."
        )
        return self.base.ladder(HERO, "f1_macro", cells, finding)

    def _macro_gain(self, cell: Cell) -> float:
        part = self.base.part(cell=cell, **self.base.where)
        return float((values(part, "final_bn", "f1_macro") - values(part, "plain", "f1_macro")).mean())

    def _adjusted_wins(self, cell: Cell) -> bool:
        part = self.base.part(cell=cell, **self.base.where)
        layer, adjusted = (figures.scores(part, name, "f1_macro") for name in ("final_bn", ADJUSTED))
        return adjusted is not None and bool(adjusted.mean() >= layer.mean())

    def claims(self) -> HTML:
        """The claims with their verdicts."""
        return self.board.html(plain=True)


def open_front(namespace: Mapping[str, object]) -> Front:
    """The first page's first call."""
    return Front(namespace)
