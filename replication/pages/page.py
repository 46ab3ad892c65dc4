"""What a notebook of the book shows: checked parameters in; key result, figures, tables and verdicts out."""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown

from replication.analysis import statistics as st
from replication.analysis.effects import Curve, Effect
from replication.analysis.metrics import log_softmax
from replication.claims import registry
from replication.claims.claim import Claim
from replication.claims.judge import effects, judge
from replication.claims.tiers import TIERS, tier
from replication.claims.verdict import Judgement
from replication.pages import figures, judgements, local, provenance
from replication.pages.box import key_result
from replication.pages.names import METRICS, arm_label, cell_label, effect_label
from replication.pages.parameters import Parameters, parameters
from replication.pages.picture import Picture
from replication.pages.selection import Missing, Selection, asked_cells, published_rows
from replication.pages.stories import story
from replication.pages.tables import (
    csv_link,
    design_table,
    difference_rows,
    effect_table,
    folded,
    pair_rows,
    shown,
    table_html,
)
from replication.pages.words import between, number, signed
from replication.results import published
from replication.results.frame import arm_and_readout
from replication.study.design import PAIR, Cell

WHERE: dict[str, dict[str, object]] = {
    "base": {"variant": "", "level": 10},
    "training_time": {"level": 10},
    "ratio": {"variant": "minority varied", "level": 10},
    "batch_size": {"variant": "equal epochs", "level": 64},
}
"""where in a design the base pair stands: 1000:10, batches of 64, 10 epochs"""
LEADING = 3
"""cells that a key figure shows at most"""


class Page:
    """A claim, or a question beyond the claims, with the results that a notebook's parameters ask for."""

    def __init__(self, name: str, asked: Parameters):
        self.name, self.asked, self.local = name, asked, asked.seeds > 0
        self.plan = registry.plan(name)
        cells = asked_cells(name, asked)
        results = local.trained(self.plan, cells, asked) if self.local else published_rows(self._sources(cells))
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
        return bool(self.asked.settings or self.asked.networks or self.local)

    @functools.cached_property
    def judgement(self) -> Judgement:
        """The claim's verdict on these results."""
        if not isinstance(self.plan, Claim):
            raise TypeError(f"{self.name} is no claim: nothing is judged there")
        return judge(self.plan, self.frame, self.cells)

    @functools.cached_property
    def lead(self) -> Cell:
        """The cell that the page is about: the headline's, else the first that has been run, else the first."""
        if isinstance(self.plan, Claim) and (found := judgements.focus(self.judgement)):
            return self.judgement_cell(found)
        return next(iter(self.selection.whole(**self.where)), self.cells[0])

    def judgement_cell(self, found) -> Cell:
        """The planned cell behind a judged unit."""
        place = found.cell.setting, found.cell.network
        return next(c for c in self.cells if (c.setting, c.network) == place)

    def leading(self, most: int = LEADING, **where) -> list[Cell]:
        """Cells for a figure that has little room: the lead, then one a tier, then those on other images."""
        whole = list(self.selection.whole(**where))
        chosen = [self.lead] if self.lead in whole else []
        chosen += [next((c for c in whole if tier(c) == name), None) for name in TIERS]
        chosen += [c for c in whole if c.setting not in {kept.setting for kept in chosen if kept}]
        kept = list(dict.fromkeys(c for c in chosen if c))[:most]
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
        kept = d[np.isfinite(d)]
        interval = between(*st.bca(kept), digits)
        return (
            f"{number(np.nanmean(b), digits)} to {number(np.nanmean(a), digits)} "
            f"(difference {signed(kept.mean(), digits)}, {interval}, {len(kept)} seeds)"
        )

    # --- what every page shows -------------------------------------------------------------------

    def key_result(self) -> HTML:
        """The box atop a page: claim, verdict, number, caveat, what a re-run takes, and where the numbers lie."""
        return HTML(key_result(self))

    def key_figure(self) -> Picture | HTML:
        """The one figure of a page, see `stories`."""
        return self.drawn(lambda: story(self.name).figure(self))

    def found(self) -> Markdown:
        """What was found, in computed sentences."""
        try:
            return Markdown("\n".join(story(self.name).found(self)) or self.nothing())
        except Missing as missing:
            return Markdown(f"*Not run yet: {missing}.*")

    def nothing(self) -> str:
        """What a page says where no cell has all its runs."""
        return f"*Not run yet.* {self.selection.open(**self.where) or 'Nothing is planned here'}."

    def drawn(self, draw: Callable) -> Picture | HTML:
        """What `draw` gives, or a line that says which results it waits for."""
        try:
            return draw()
        except Missing as missing:
            return HTML(f"<p class='missing'><em>No figure yet: {missing}.</em></p>")

    def say(self, text: str) -> Markdown:
        """Prose with computed numbers in it."""
        return Markdown(text)

    def source(self) -> Markdown:
        """Which results the page shows."""
        if self.local:
            return Markdown(
                f"**Computed on this machine**, the first {self.asked.seeds} confirmatory seeds; "
                "these are not the published results."
            )
        return Markdown("**Published results**, from `results/`.")

    def design(self) -> HTML:
        """The design, folded: what varies, over which seeds, how many runs."""
        entries = []
        for cell in self.cells:
            try:
                entries += [((cell.setting, cell.network), entry) for entry in self.plan.entries(cell)]
            except ValueError:  # nothing has been tuned there yet
                continue
        rows = design_table(entries) if entries else pd.DataFrame()
        text = table_html(rows, "What is compared, at which learning rates, over which seeds") if len(rows) else ""
        waiting = [cell_label(c) for c in self.cells if not self.selection.tuned(c)]
        more = f"<p>Learning rates are not chosen yet for: {'; '.join(waiting)}.</p>" if waiting else ""
        return folded("The design", text + more)

    def verdict(self) -> HTML:
        """How the verdict came about: rule, tests of the lead cell, and every cell with its word."""
        j = self.judgement
        return HTML(
            judgements.headlines_html(j, self.single)
            + judgements.rule_html(j)
            + judgements.p_values_html(j)
            + judgements.cells_html(j)
            + f"<p><small>{judgements.SEED_NOTE} {judgements.same_images(j)}</small></p>"
        )

    def forest(self, effect: str = "", label: str = "", margin: bool = True) -> Picture | HTML:
        """One effect in every cell that has it, at every kind of rate; by default the one that the criterion turns on."""
        name = effect or self.plan.headline[0]
        rows, data = [], []
        for c in self.judgement.cells:
            by_kind = {
                kind: e.d
                for kind, m in c.measures.items()
                if isinstance(e := m.get(name), Effect)
                and np.isfinite(e.d).all()
                and kind in ("own", "shared", "default")
            }
            if "own" in by_kind:
                rows.append(figures.Row(judgements.unit_label(c), by_kind, c.word))
                data += [
                    {"cell": rows[-1].label, "rate": kind, "seed": n, effect_label(name): v}
                    for kind, d in by_kind.items()
                    for n, v in enumerate(d)
                ]
        if not rows:
            return HTML(f"<p class='missing'><em>No figure yet: {self.selection.open(**self.where)}.</em></p>")
        words = label or effect_label(name)
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
        """The arms' scores in every cell that has been run, one row a cell."""

        def draw() -> Picture:
            parts = self.parts(cells, **(self.where | where))
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
                    for name, part in list(parts.items())[:LEADING]
                )
                + "."
            )
            line = " Dotted: always saying minority." if metric in ("f1_minority", "f1_macro") else ""
            data = [
                {"cell": name, "arm": arm_label(arm), "seed": n, label: v}
                for name, part in parts.items()
                for arm in arms
                if (d := figures.scores(part, arm, metric)) is not None
                for n, v in enumerate(d)
            ]
            return Picture(
                figures.ladder(parts, arms, metric), f"{text} Every dot is a seed.{line}", text, pd.DataFrame(data)
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
            return HTML(f"<p class='missing'><em>No table yet: {self.selection.open(**(self.where | where))}.</em></p>")
        title = caption or f"{METRICS.get(metric, metric)}, paired by seed"
        return shown(
            pd.DataFrame(rows), f"{title} ({csv_link(pd.DataFrame(rows), f'{self.name}-{metric}')})", sortable=True
        )

    def differences(self, pairs: Sequence[tuple[str, str]], caption: str, rate: str = "own", **where) -> HTML:
        """Pairs of arms in the lead cell, with unadjusted 95 % intervals."""
        try:
            return shown(pd.DataFrame(difference_rows(self.part(rate, **where), pairs)), caption)
        except Missing as missing:
            return HTML(f"<p class='missing'><em>No table yet: {missing}.</em></p>")

    def metric_table(self, metrics: Sequence[str], rate: str = "own") -> HTML:
        """Means over seeds of some metrics of `plain` and `final_bn` in the lead cell, where they were recorded."""
        rows = []
        for metric in metrics:
            a, b = (figures.scores(self.part(rate), arm, metric) for arm in PAIR)
            if a is None or b is None:
                continue
            d = (b - a)[np.isfinite(b - a)]
            rows.append(
                {
                    "measure": METRICS[metric],
                    "plain": number(np.nanmean(a), 3),
                    "final BN": number(np.nanmean(b), 3),
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
        link = csv_link(pd.DataFrame(rows), f"{self.name}-effects")
        return folded(
            "Table of effects", table_html(effect_table(rows), f"Every effect in every cell ({link})", sortable=True)
        )

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

    def provenance(self) -> HTML:
        """Commit, versions, hardware, seeds, files and run time of the results shown."""
        kind = "Computed on this machine" if self.local else "Published results"
        again = f"papermill book/{self.name}.ipynb out.ipynb -p seeds 3"
        return HTML(
            f"<p><strong>{kind}.</strong> To run this page on your machine: <code>{again}</code></p>"
            + provenance.list_html(self.selection, self.records())
        )


def open_page(name: str, namespace: Mapping[str, object]) -> Page:
    """A notebook's first call: check its parameters, read or train the results, return the page."""
    return Page(name, parameters(namespace))
