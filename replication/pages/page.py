"""What a notebook of the book shows: checked parameters in, tables, figures and verdicts out."""

import contextlib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from replication.study import designs
from replication.claims.claims import CLAIMED_F1, CLAIMED_GAIN, CLAIMS
from replication.claims.criteria import at_least_loss, epochs_to_target, reading
from replication.pages import figures
from replication.results import published
from replication.analysis import statistics as st
from replication.analysis.effects import Curve, Effect
from replication.results.frame import arm_and_readout, complete, frame, table, values
from replication.analysis.metrics import log_softmax
from replication.pages.parameters import Parameters, parameters
from replication.pages.tables import badge, design_table, difference_rows, effect_table, pair_rows, shown
from replication.claims.verdicts import Judgement, effects, judge


@functools.cache
def _read(manifest: Path, changed: int, settings: tuple[str, ...]) -> pd.DataFrame:
    return published.read(settings)


def _published(settings: tuple[str, ...]) -> pd.DataFrame:
    """What `published.read` gives, read once as long as it does not change."""
    manifest = published.folder() / "manifest.json"
    return _read(manifest, manifest.stat().st_mtime_ns if manifest.exists() else 0, settings)


PAGE_OF = {"training_time": "base"}
"""claims that share a notebook with another"""


def cell_name(cell: Sequence[str]) -> str:
    """A cell in words: its setting, its network where not the simple CNN, and its variant."""
    return " / ".join(part for part in cell if part not in ("", "simple_cnn"))


class Page:
    """One claim (or a design beyond the claims) with the results that the notebook's parameters ask for."""

    def __init__(self, name: str, asked: Parameters):
        self.name, self.asked, self.local = name, asked, asked.seeds > 0
        settings, networks = (tuple(filter(None, text.split(","))) for text in (asked.settings, asked.networks))
        if self.local and not settings and designs.planned(name, "digits"):
            settings = ("digits",)  # what every machine has, and trains in minutes
        seeds = asked.seeds or None
        self.entries = designs.entries(name, settings, networks, seeds)
        self.results = self._trained(settings, networks, seeds) if self.local else _published(settings)
        self.frame = frame(self.entries, self.results)

    def _trained(self, settings, networks, seeds) -> pd.DataFrame:
        from replication.running.local import carry_out_all, key_of
        from replication.results.store import Store, default_path

        runs = designs.runs([self.name], settings, networks, seeds)
        with Store(default_path()) as store:
            carry_out_all(runs, store, self.asked.device)
            return table(store.results({key_of(run) for run in runs}))

    def claim(self) -> Markdown:
        """The claim in one sentence, with its source."""
        c = CLAIMS[self.name]
        return Markdown(f"> **The claim.** {c.statement} ({c.source})")

    def source(self) -> Markdown:
        """Which results the page shows, and how to show others."""
        if self.local:
            text = f"**Computed on this machine**, the first {self.asked.seeds} confirmatory seeds; not the published results."
        else:
            text = "**Published results**, from `results/`."
        return Markdown(f"{text} Initial weights: {', '.join(sorted({e.run.init for _, e in self.entries}))}.")

    def design(self) -> HTML:
        """The design as a table: what varies, over which seeds, how many runs."""
        return design_table(self.entries)

    @property
    def complete(self) -> bool:
        """Whether every planned run has its result."""
        return complete(self.frame)

    @property
    def places(self) -> list[tuple[str, str]]:
        """(setting, network) of every cell."""
        return list(dict.fromkeys(place for place, _ in self.entries))

    @property
    def first(self) -> str:
        """The setting of the first cell, as words for a sentence."""
        return f"`{self.places[0][0]}`"

    def among(self, *arms: str) -> list[str]:
        """Those of some arms that the first cell's design has."""
        there = {e.arm for place, e in self.entries if place == self.places[0]}
        return [arm for arm in arms if arm_and_readout(arm)[0] in there]

    def part(self, rate: str = "own", **where) -> pd.DataFrame:
        """Rows of the frame at one learning rate, of the first cell unless `where` names another; for figures.

        ValueError while runs are missing.
        """
        setting, network = self.places[0]
        asked = {"cell_setting": setting, "cell_network": network} | where
        rows = self.frame[self.frame["rate"] == rate]
        for column, value in asked.items():
            rows = rows[rows[column] == value]
        if not complete(rows):
            what = "runs are missing" if self.local else "nothing is published; with seeds > 0 it is trained here"
            raise ValueError(
                f"no complete results of {self.name} for {asked['cell_setting']} / {asked['cell_network']}: {what}"
            )
        return rows

    def parts(self, rate: str = "own", **where) -> dict[str, pd.DataFrame]:
        """The rows of `part` for every cell whose runs are all there, by its name, see `cell_name`."""
        found = {}
        for setting, network in self.places:
            with contextlib.suppress(ValueError):
                found[cell_name((setting, network))] = self.part(rate, cell_setting=setting, cell_network=network, **where)
        return found

    def draw(self, figure: Callable, *arguments, rate: str = "own", setting: str, **where) -> Figure | HTML:
        """A figure of one setting's part (simple CNN), or a line that says that there are no results of it here."""
        try:
            return figure(self.part(rate, cell_setting=setting, cell_network="simple_cnn", **where), *arguments)
        except ValueError as error:
            return HTML(f"<p><em>No figure here: {error}.</em></p>")

    def contrast(self, arm: str, other: str = "plain", metric: str = "f1_minority", rate: str = "own",
                 digits: int = 2, **where) -> str:  # fmt: skip
        """Two arms' means and their paired difference with interval, as words for a sentence.

        An arm may be named with a readout, e.g. `plain · logit_adjusted`.
        """
        part = self.part(rate, **where)
        a, b = (values(part, name, metric, readout) for name, readout in map(arm_and_readout, (arm, other)))
        d = a - b
        mean, low, high = (f"{v:+.{digits}f}" for v in (d.mean(), *st.bca(d)))
        return f"{b.mean():.{digits}f} to {a.mean():.{digits}f} (difference {mean}, {low} to {high}, n = {len(d)})"

    def means(self, variant: str, rate: str = "own") -> dict[float, float]:
        """Mean gain of `final_bn` over `plain` at every level of a variant."""
        part = self.part(rate, variant=variant)
        levels = sorted(part.loc[part["arm"] == "plain", "level"].unique())
        return {n: float(np.mean(values(part, "final_bn", level=n) - values(part, "plain", level=n))) for n in levels}

    def differences(self, pairs: list[tuple[str, str]], rate: str = "own", **where) -> HTML:
        """Paired differences in minority F1 of pairs of arms, with unadjusted 95 % BCa intervals.

        An arm may be named with a readout, e.g. `plain · logit_adjusted`.
        """
        return shown(pd.DataFrame(difference_rows(self.part(rate, **where), pairs)))

    def by_cell(
        self, pairs: list[tuple[str, str]], rates: Sequence[str] = ("own", "shared"), metric: str = "f1_minority", **where
    ) -> HTML:
        """The same for every cell whose runs are all there, side by side: means, mean difference and its interval."""
        made: dict[tuple[str, str], dict] = {}
        for rate in rates:
            for cell, part in self.parts(rate, **where).items():
                for row in difference_rows(part, pairs, metric):
                    entry = made.setdefault(
                        (cell, row["difference"]), {"cell": cell, "difference": row["difference"], "n": row["n"]}
                    )
                    entry[rate] = f"{row['from']}\u00a0→\u00a0{row['to']}, {row['mean']}\u00a0({row['95 % interval']})"
        table_ = pd.DataFrame(made.values())
        return shown(table_.drop(columns=["difference"] if len(pairs) == 1 and len(table_) else []).fillna(""))

    def forest(self, effect: str, label: str, rate: str = "own", margin: bool = True) -> Figure | HTML:
        """One effect of the verdict in every cell: every seed, mean and interval in the colour of the cell's verdict."""
        rows = [
            {"label": cell_name(c.cell), "d": e.d, "verdict": c.verdict}
            for c in self.judgement.cells
            if isinstance(e := c.measures.get(rate, {}).get(effect), Effect) and np.isfinite(e.d).all()
        ]
        return figures.forest(rows, label, margin) if rows else HTML("<p><em>No results to show yet.</em></p>")

    def metric_table(self, metrics: tuple[str, ...], rate: str = "own") -> HTML:
        """Means over seeds of some metrics of `plain` and `final_bn`, and the seeds where they are defined."""
        part, rows = self.part(rate), []
        for metric in metrics:
            a, b = (values(part, arm, metric) for arm in ("plain", "final_bn"))
            d = (b - a)[np.isfinite(b - a)]
            low, high = st.bca(d) if len(d) else (np.nan, np.nan)
            rows.append({"metric": metric, "plain": f"{np.nanmean(a):.3f}", "final_bn": f"{np.nanmean(b):.3f}",
                         "difference": f"{d.mean():+.3f}", "95 % interval": f"{low:+.3f} to {high:+.3f}",
                         "seeds": len(d)})  # fmt: skip
        return shown(pd.DataFrame(rows))

    def against_claim(self, rate: str = "own", **where) -> str:
        """Whether the gain that the papers report lies in the interval of ours, as words for a sentence."""
        part = self.part(rate, level=10, **where)
        low, high = st.bca(values(part, "final_bn") - values(part, "plain"))
        where = "inside" if low <= CLAIMED_GAIN <= high else "outside"
        return f"{CLAIMED_F1[0]} to {CLAIMED_F1[1]}, a gain of {CLAIMED_GAIN}, which lies {where} the interval of ours"

    def reading(self) -> str:
        """Whether the base gain is one of representation or of threshold, see `criteria.reading`."""
        measures = self.judgement.cells[0].measures
        return reading(measures["own"]) if measures else "undecided"

    def readings(self) -> HTML:
        """The same for every cell and learning rate."""
        rows = [
            {"cell": cell_name(c.cell)} | {rate: reading(measures) for rate, measures in c.measures.items()}
            for c in self.judgement.cells
            if c.measures
        ]
        return shown(pd.DataFrame(rows))

    def least_loss(self, rate: str = "own") -> HTML:
        """What stopping at the least validation loss costs, for the loss as it is and at training prevalence, by cell."""
        rows = []
        for cell, part in self.parts(rate).items():
            for name, label in (("validation_nll", "validation set"), ("validation_nll_train", "training")):
                d, epoch = at_least_loss(part, name)
                low, high = st.bca(d)
                rows.append({"cell": cell, "prevalence of the loss": label, "n": len(d), "mean": f"{d.mean():+.3f}",
                             "95 % interval": f"{low:+.2f}\u00a0to\u00a0{high:+.2f}",
                             "mean epoch": f"{epoch.mean():.1f}"})  # fmt: skip
        return shown(pd.DataFrame(rows))

    def hitting(self, rate: str = "own") -> dict[str, np.ndarray]:
        """Epochs to the target of the training-time design (n,) by arm, NaN where it was never reached."""
        return {arm: epochs_to_target(self.part(rate), arm) for arm in designs.PAIR}

    def confidences(self, rate: str = "own") -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Arm -> top-label confidence (S,) and whether it was right (S,), the test predictions of all seeds pooled."""
        part = self.part(rate)
        logits = self._predictions(*self.places[0]).set_index("key")
        pooled = {}
        for arm in designs.PAIR:
            rows = logits.loc[part.loc[(part["arm"] == arm) & (part["readout"] == "as_trained"), "key"]]
            p = np.exp(log_softmax(np.stack(rows["logits"].tolist()).reshape(len(rows), -1, 2)))
            right = p.argmax(-1) == np.stack(rows["labels"].tolist())
            pooled[arm] = p.max(-1).ravel(), right.ravel()
        return pooled

    def _predictions(self, setting: str, network: str) -> pd.DataFrame:
        if not self.local:
            return published.predictions(setting, network)
        from replication.results.store import Store, default_path

        with Store(default_path()) as store:
            return published.prediction_rows(store.results(set(self.frame["key"])))

    def say(self, text: str) -> Markdown:
        """Prose with computed numbers in it."""
        return Markdown(text)

    @functools.cached_property
    def judgement(self) -> Judgement:
        """The claim's verdict on these results."""
        return judge(self.name, self.frame)

    def verdict(self) -> HTML:
        """The verdict as a badge with its reason, the criterion behind it and every cell's verdict."""
        j = self.judgement
        cells = "".join(
            f"<tr><td>{' / '.join(filter(None, c.cell))}</td><td>{badge(c.verdict)}</td><td>{c.reason}</td></tr>"
            for c in j.cells
        )
        text = (
            f"<p>{badge(j.verdict)} {j.reason}.</p><p><em>Replicated when</em> {j.claim.replicated_when}; "
            f"<em>contradicted when</em> {j.claim.contradicted_when}.</p>"
            f"<table><thead><tr><th>cell</th><th>verdict</th><th>why</th></tr></thead><tbody>{cells}</tbody></table>"
        )
        return HTML(re.sub("`(.*?)`", r"<code>\1</code>", text.replace("*partly*", "<em>partly</em>")))

    def effects(self) -> HTML:
        """Every effect the verdict rests on: n, mean, 95 % BCa interval, Holm-adjusted one-sided p."""
        return shown(effect_table(list(effects(self.judgement))))

    def pairs(self, name: str, rate: str = "own", most: int = 15) -> HTML:
        """The largest pairwise differences of a curve, with simultaneous intervals."""
        rows = [
            row
            for c in self.judgement.cells
            if isinstance(curve := c.measures.get(rate, {}).get(name), Curve)
            for row in pair_rows(" / ".join(c.cell), curve)
        ]
        made = pd.DataFrame(rows)
        if len(made):
            made = made.sort_values("difference", key=np.abs, ascending=False, kind="stable").head(most).round(3)
        return shown(made)

    def provenance(self) -> HTML:
        """Commit, versions, hardware, seeds, number of runs and run time of the results shown."""
        rows = self.frame.drop_duplicates(["key"]).dropna(subset=["key"])
        if rows.empty:
            return HTML("<p><em>No results to show yet.</em></p>")
        records = self._records()
        lines = []
        for id, part in rows.groupby("provenance"):
            record = records.get(id, {})
            versions = ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items())
            lines.append(
                f"<li>{len(part)} runs, seeds {int(part['seed'].min())}–{int(part['seed'].max())}, "
                f"{part['seconds'].sum() / 60:.1f} core-minutes of training, {int(part['diverged'].sum())} diverged; "
                f"commit <code>{record.get('commit', 'unknown')}</code>; {versions}; "
                f"{record.get('hardware', 'unknown')} ({record.get('device', '')})</li>"
            )
        kind = "Computed on this machine" if self.local else "Published results"
        again = f"papermill book/{PAGE_OF.get(self.name, self.name)}.ipynb out.ipynb -p seeds 3"
        return HTML(
            f"<p><strong>{kind}.</strong> To run this page on your machine: <code>{again}</code></p>"
            f"<ul>{''.join(lines)}</ul>"
        )

    def _records(self) -> dict[str, dict]:
        if not self.local:
            return published.manifest()["provenance"]
        from replication.results.store import Store, default_path

        with Store(default_path()) as store:
            return store.provenance()


def pilots(arms: tuple[str, ...], place: tuple[str, str] = ("digits", "simple_cnn")) -> pd.DataFrame:
    """Published pilot runs of some arms: the frame's columns, `level` being the learning rate."""
    setting, network = place
    rows = published.read([setting])
    chosen = [
        ((setting, network), designs.Entry("pilot", "own", arm, run.learning_rate, run))
        for _, arm, run in designs.pilots([setting], [network])
        if arm in {arm_and_readout(name)[0] for name in arms}
    ]
    return frame(chosen, rows)


def open_page(name: str, namespace: Mapping[str, object]) -> Page:
    """A notebook's first call: check its parameters, read or train the results, return the page."""
    return Page(name, parameters(namespace))
