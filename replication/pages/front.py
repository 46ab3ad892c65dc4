"""The first page: what was found in three sentences, the one figure, and the claims."""

from collections.abc import Mapping

from IPython.display import HTML, Markdown

from replication.analysis.statistics import MARGIN
from replication.claims.tiers import CONCEPTUAL, IDENTITY, NEAREST, TIERS, explored, tier
from replication.pages import figures
from replication.pages.everywhere import Everywhere
from replication.pages.names import cell_phrase
from replication.pages.page import Page
from replication.pages.parameters import parameters
from replication.pages.picture import Picture
from replication.pages.scoreboard import Scoreboard
from replication.pages.stories.pair import ADJUSTED, HERO, REMOVED, fastai_means, recipe_images
from replication.pages.whole import statement
from replication.pages.words import estimate, listed, signed
from replication.results.frame import values
from replication.study.design import Cell

PAPERS_OWN = "the papers' own networks"
MOST = 8
"""rows of the figure"""


class Front:
    """The claims' judgements and the cells of the base pair."""

    def __init__(self, namespace: Mapping[str, object]):
        wanted = parameters(namespace)
        self.board, self.base = Scoreboard(wanted), Page("base", wanted)

    def cells(self) -> list[Cell]:
        """The cells of the figure: those that know ImageNet first, then the others; of each images and network once."""
        whole = list(self.base.selection.whole(**self.base.where))
        transfer = [c for c in whole if tier(c) != CONCEPTUAL]
        others = [c for c in whole if tier(c) == CONCEPTUAL and c.network == "simple_cnn" and "@" not in c.setting]
        room = max(MOST - len(transfer), 2)
        return sorted(transfer[:MOST] + others[:room], key=lambda c: list(TIERS).index(tier(c)))

    def sentences(self) -> Markdown:
        """What the layer does to the best evidence at hand, what moving the threshold does, and what is untested."""
        lead = self.base.lead
        if not self.base.selection.has(lead, **self.base.where):
            return Markdown(self.base.nothing())
        words = {h.word for h in self.board.judgements["removal"].headlines}
        others = [c for c in self.base.leading(**self.base.where) if c != lead and c.network.count(":")]
        first = (
            f"**On {cell_phrase(lead)}**, trained on 1000 images and 10 of a rare class, the layer takes "
            f"the rare class's F1 from {self._mean('plain', lead)} to {self._mean('final_bn', lead)}. Taking the layer out "
            f"after training leaves {self._mean(REMOVED, lead)} "
            f"(whether the gain is kept: *{listed(sorted(words))}*)."
        )
        more = self._beside(others)
        line = "" if self.base.local else f"\n\n{Everywhere().line()}"  # that is of published results alone
        return Markdown(f"{first} {self._threshold(lead)}{more} {self._untested()}{line}")

    def _beside(self, others: list[Cell]) -> str:
        """The four predictors in the other cells of the papers' own case and after fastai's recipe, else in the next tier."""
        cells = [c for c in others if tier(c) in NEAREST]
        recipe = [] if self.base.local else fastai_means()
        cells += [] if recipe else [c for c in others if c not in cells][:1]
        found = [
            f"on {self._where(c)}{', explored beforehand,' if explored(c) else ''} {listed([self._mean(n, c) for n in HERO])}"
            for c in cells
        ]
        if recipe:
            found.append(f"on {recipe_images()} by fastai's recipe (untuned, not judged) {listed(recipe)}")
        return f" F1 of plain, layer, layer out, adjusted: {'; '.join(found)}." if found else ""

    def _where(self, cell: Cell) -> str:
        """A further cell in words, its network once."""
        same = cell.network == self.base.lead.network
        return f"{cell_phrase(cell).partition(' with ')[0]} with the same network" if same else cell_phrase(cell)

    def _mean(self, name: str, cell: Cell) -> str:
        return self.base.mean(name, cell=cell)

    def _threshold(self, cell: Cell) -> str:
        """What adjusting the logits of the plain network gives in comparison."""
        part = self.base.part(cell=cell, **self.base.where)
        layer, adjusted = (figures.scores(part, name) for name in ("final_bn", ADJUSTED))
        if adjusted is None:
            return "Plain with adjusted logits was not recorded there."
        auc = values(part, "final_bn", "roc_auc") - values(part, "plain", "roc_auc")
        return (
            f"**Without the layer**, adjusting plain's logits after training gives "
            f"{self._mean(ADJUSTED, cell)}; the layer's F1 differs from that by {estimate(layer - adjusted)}. The layer "
            f"changes ROC AUC, which no threshold affects, by {signed(auc.mean())}."
        )

    def _untested(self) -> str:
        open_tiers = [b.partition(":")[0] for h in self.board.judgements["base"].headlines for b in h.beside]
        if not open_tiers:
            return "**Every tier has been tested**, the papers' own networks included."
        told = [f"{PAPERS_OWN if name == IDENTITY else TIERS[name]} (tier *{name}*)" for name in open_tiers]
        return f"**Open**: {'; '.join(told)}."

    def hero(self) -> Picture | HTML:
        """Macro F1 of the four predictors on every setting and network."""
        cells = self.cells()
        gains = {c: self._macro_gain(c) for c in cells}
        up = sum(g > MARGIN for g in gains.values())
        finding = (
            f"Mean macro F1: the layer is more than {MARGIN} above the plain network in {up} of {len(cells)} rows. Plain with "
            f"adjusted logits is at least as good as the layer in {sum(map(self._adjusted_wins, cells))} of them."
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

    def why(self) -> Markdown:
        """What the law and its remedy have shown, in one paragraph."""
        return statement()


def open_front(namespace: Mapping[str, object]) -> Front:
    """The first page's first call."""
    return Front(namespace)
