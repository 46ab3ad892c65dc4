"""The results behind a page: the cells that its parameters ask for, the one that leads, and numbers for sentences."""

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from replication.analysis import statistics as st
from replication.analysis.metrics import log_softmax
from replication.claims import registry
from replication.claims.claim import Claim
from replication.claims.judge import judge
from replication.claims.tiers import NEAREST, TIERS, tier
from replication.claims.verdict import Judgement
from replication.pages import figures, judgements, local
from replication.pages.names import cell_label
from replication.pages.parameters import Parameters
from replication.pages.selection import Missing, Selection, asked_cells, published_rows
from replication.pages.words import NBSP, between, number, signed
from replication.results import published
from replication.results.frame import arm_and_readout
from replication.study.design import PAIR, PRIMARY, Cell

WHERE: dict[str, dict[str, object]] = {
    "base": {"variant": "", "level": 10},
    "training_time": {"level": 10},
    "ratio": {"variant": "minority varied", "level": 10},
    "batch_size": {"variant": "equal epochs", "level": 64},
}
"""where in a design the base pair stands: 1000:10, batches of 64, 10 epochs"""
LEADING = 3
"""cells that a key figure shows at most"""


class Results:
    """A claim, or a question beyond the claims, with the results that a notebook's parameters ask for."""

    def __init__(self, name: str, parameters: Parameters):
        self.name, self.parameters, self.local = name, parameters, parameters.seeds > 0
        self.plan = registry.plan(name)
        cells = asked_cells(name, parameters)
        results = local.trained(self.plan, cells, parameters) if self.local else published_rows(self._sources(cells))
        self.selection = Selection(self.plan, cells, results, self.local)
        self.where = WHERE.get(name, {})

    def _sources(self, cells: Sequence[Cell]) -> tuple[str, ...]:
        """Settings to read, with those below them: a claim on several majority classes has its own below each."""
        return tuple(dict.fromkeys(c.place.setting for cell in cells for c in self.plan.design(cell)))

    @property
    def cells(self) -> list[Cell]:
        """The cells asked for."""
        return self.selection.cells

    @property
    def frame(self) -> pd.DataFrame:
        """The rows of all cells."""
        return self.selection.frame

    @property
    def single(self) -> bool:
        """Whether the page shows other cells than the claim plans."""
        return bool(self.parameters.settings or self.parameters.networks or self.local)

    @functools.cached_property
    def judgement(self) -> Judgement:
        """The claim's verdict on these results."""
        if not isinstance(self.plan, Claim):
            raise TypeError(f"{self.name} is not a claim: nothing is judged there")
        return judge(self.plan, self.frame, self.cells)

    @functools.cached_property
    def lead(self) -> Cell:
        """The cell that the page is about: the headline's, else the first that has been run, else the first."""
        if isinstance(self.plan, Claim) and (found := judgements.focus(self.judgement)):
            return self.judgement_cell(found)
        return next(iter(self.selection.whole(**self.where)), self.cells[0])

    def judgement_cell(self, found) -> Cell:
        """The planned cell behind a judged unit."""
        names = found.cell.setting, found.cell.network
        return next(c for c in self.cells if (c.setting, c.network) == names)

    def leading(self, most: int = LEADING, **where) -> list[Cell]:
        """Cells for a figure that has little room: the lead, one a tier (its primary cell first), then those on other images.

        Beside these `most`, every other cell of the papers' own case.
        """
        whole = list(self.selection.whole(**where))
        chosen = [self.lead] if self.lead in whole else []
        first = sorted(whole, key=lambda c: c.role != PRIMARY)
        chosen += [next((c for c in first if tier(c) == name), None) for name in TIERS]
        chosen += [c for c in whole if c.setting not in {kept.setting for kept in chosen if kept}]
        kept = list(dict.fromkeys(c for c in chosen if c))[:most]
        kept += [c for c in whole if tier(c) in NEAREST and c not in kept]
        return sorted(kept, key=lambda c: list(TIERS).index(tier(c)))

    def another(self, **where) -> Cell:
        """The leading cell after the lead; Missing where there is none."""
        for cell in self.leading(**where):
            if cell != self.lead:
                return cell
        raise Missing(
            self.selection.open([c for c in self.cells if c != self.lead], **where) or "there is no other cell here"
        )

    # --- rows ------------------------------------------------------------------------------------

    def part(self, rate: str = "own", cell: Cell | None = None, **where) -> pd.DataFrame:
        """Rows at one kind of learning rate, of the lead cell unless another is given. Missing while runs are."""
        return self.selection.rows(cell or self.lead, rate, **where)

    def parts(self, cells: Sequence[Cell] | None = None, rate: str = "own", **where) -> dict[str, pd.DataFrame]:
        """The rows of every cell whose runs are all there, by its name for readers."""
        whole = self.selection.whole(rate, **where)
        return {cell_label(c): whole[c] for c in (self.cells if cells is None else cells) if c in whole}

    def among(self, *arms: str, cell: Cell | None = None, **where) -> list[str]:
        """Those of some arms, or of `arm · readout`, that a cell has results of."""
        rows = self.selection.all_rows(cell or self.lead)
        for column, value in where.items():
            rows = rows[rows[column] == value] if len(rows) else rows
        there = set(zip(rows["arm"], rows["readout"])) if "readout" in rows else set()
        return [name for name in arms if arm_and_readout(name) in there]

    def mean(
        self,
        name: str,
        metric: str = "f1_minority",
        cell: Cell | None = None,
        rate: str = "own",
        digits: int = 2,
        **where,
    ) -> str:
        """An arm's mean score, or that of `arm · readout`, as text; `not recorded` where it was not."""
        d = figures.scores(self.part(rate, cell, **(self.where | where)), name, metric)
        return "not recorded" if d is None else number(np.nanmean(d), digits)

    def collapsed(self, name: str, cell: Cell | None = None) -> str:
        """How many runs of an arm, or of `arm · readout`, have minority F1 0.0, in brackets; empty where none has."""
        d = figures.scores(self.part("own", cell, **self.where), name)
        n = 0 if d is None else int((d == 0).sum())
        return f" ({n} of {len(d)} runs at 0.00)" if n else ""

    def contrast(
        self,
        arm: str,
        other: str = "plain",
        metric: str = "f1_minority",
        rate: str = "own",
        digits: int = 2,
        cell: Cell | None = None,
        **where,
    ) -> str:
        """Two arms' means and their paired difference with interval, as words for a sentence."""
        part = self.part(rate, cell, **(self.where | where))
        a, b = (figures.scores(part, name, metric) for name in (arm, other))
        if a is None or b is None:
            return "not recorded"
        d = a - b
        kept = np.isfinite(d)
        interval = between(*st.bca(d[kept]), digits)
        return (
            f"{number(b[kept].mean(), digits)} to {number(a[kept].mean(), digits)} "
            f"(difference {signed(d[kept].mean(), digits)}, 95{NBSP}% interval {interval}, {kept.sum()} seeds)"
        )

    def confidences(self, rate: str = "own") -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Arm -> top-label confidence (S,) and whether it was right (S,), the test predictions of all seeds pooled.

        Missing where no logits were kept.
        """
        part = self.part(rate)
        kept = part[(part["arm"].isin(PAIR)) & (part["readout"] == "as_trained")]
        try:
            body = str(kept["network"].iloc[0])
            rows = local.predictions(set(kept["key"])) if self.local else published.predictions(self.lead.setting, body)
            logits = rows.set_index("key").loc[kept["key"]]
        except (ValueError, KeyError) as error:
            raise Missing(f"no test predictions were kept for {cell_label(self.lead)}") from error
        pooled = {}
        for arm in PAIR:
            rows = logits.loc[kept.loc[kept["arm"] == arm, "key"]]
            p = np.exp(log_softmax(np.stack(rows["logits"].tolist()).reshape(len(rows), -1, 2)))
            right = p.argmax(-1) == np.stack(rows["labels"].tolist())
            pooled[arm] = p.max(-1).ravel(), right.ravel()
        return pooled

    def records(self) -> dict[str, dict]:
        """Provenance of the rows shown, by id."""
        return local.records() if self.local else published.manifest()["provenance"]
