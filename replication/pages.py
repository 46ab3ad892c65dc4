"""What a notebook of the book shows: checked parameters in, tables, figures and verdicts out."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from replication import designs
from replication.claims import CLAIMS
from replication.data.settings import SETTINGS
from replication.evidence import published
from replication.evidence.effects import Curve, Effect
from replication.evidence.frame import frame, table
from replication.evidence import statistics as st
from replication.verdicts import Judgement, effects, judge


class Parameters(BaseModel):
    """The parameters of every notebook, as papermill's `-p NAME VALUE` sets them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    settings: str = Field("", description="comma-separated settings, or empty for all that are published")
    networks: str = Field("", description="comma-separated networks, or empty for all that are published")
    seeds: int = Field(0, ge=0, le=1000, description="0 shows published results; n trains n seeds here")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")

    @field_validator("settings")
    @classmethod
    def _known_settings(cls, names: str) -> str:
        if unknown := [n for n in names.split(",") if n and n not in SETTINGS]:
            raise ValueError(f"unknown setting {unknown[0]!r}, allowed are {', '.join(designs.CELL_SETTINGS)}")
        return names

    @field_validator("networks")
    @classmethod
    def _known_networks(cls, names: str) -> str:
        known = {n for by_setting in designs.NETWORKS.values() for ns in by_setting.values() for n in ns} | {"simple_cnn"}
        if unknown := [n for n in names.split(",") if n and n not in known]:
            raise ValueError(f"unknown network {unknown[0]!r}, allowed are {', '.join(sorted(known))}")
        return names


def parameters(namespace: Mapping[str, object]) -> Parameters:
    """The parameters a notebook was given: every plain value it has defined so far.

    ValueError in one sentence that names the parameter and what is allowed, for an unknown name as for a bad value:
    papermill itself only warns of a name it does not know.
    """
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and isinstance(value, str | int | float | bool | list | dict | None)
        and name not in ("In", "Out")
    }  # fmt: skip
    try:
        return Parameters(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise ValueError(f"unknown parameter {name!r}: allowed are {', '.join(Parameters.model_fields)}") from None
        about = Parameters.model_fields[name].description
        reason = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"parameter {name} = {given[name]!r} is not allowed: {reason} ({about})") from None


@functools.cache
def _published(settings: tuple[str, ...]) -> pd.DataFrame:
    return published.read(settings)


class Page:
    """One claim (or a design beyond the claims) with the results that the notebook's parameters ask for."""

    def __init__(self, name: str, asked: Parameters):
        self.name, self.asked, self.local = name, asked, asked.seeds > 0
        settings, networks = (tuple(filter(None, text.split(","))) for text in (asked.settings, asked.networks))
        seeds = asked.seeds or None
        self.entries = designs.entries(name, settings, networks, seeds)
        self.results = self._trained(settings, networks, seeds) if self.local else _published(settings)
        self.frame = frame(self.entries, self.results)

    def _trained(self, settings, networks, seeds) -> pd.DataFrame:
        from replication.backends import carry_out_all
        from replication.evidence.store import Store, default_path

        runs = designs.runs([self.name], settings, networks, seeds)
        with Store(default_path()) as store:
            carry_out_all(runs, store, self.asked.device)
            wanted = set(runs)
            return table(r for r in store.results() if r.run in wanted)

    def source(self) -> Markdown:
        """Which results the page shows, and how to show others."""
        if self.local:
            text = f"**Computed on this machine**, the first {self.asked.seeds} confirmatory seeds; not the published results."
        else:
            text = "**Published results.** `papermill book/{0}.ipynb out.ipynb -p seeds 3` trains three seeds on your machine and shows those instead.".format(self.name)
        return Markdown(text)

    def design(self) -> pd.DataFrame:
        """The design as a table: what varies, over which seeds, how many runs."""
        rows = {}
        for (setting, network), e in self.entries:
            key = (setting, network, e.variant or "base", e.arm)
            row = rows.setdefault(key, {"levels": {}, "seeds": set(), "rates": {}, "runs": set()})
            row["levels"][e.level] = None
            row["seeds"].add(e.run.seed)
            row["rates"][f"{e.run.learning_rate:g}"] = None
            row["runs"].add(e.run)
        made = [
            dict(zip(("setting", "network", "variant", "arm"), key))
            | {
                "levels": ", ".join(f"{v:g}" for v in row["levels"]) if len(row["levels"]) > 1 else "",
                "learning rates": ", ".join(row["rates"]),
                "seeds": f"{min(row['seeds'])}–{max(row['seeds'])}",
                "runs": len(row["runs"]),
            }
            for key, row in rows.items()
        ]
        return _shown(pd.DataFrame(made))

    def part(self, rate: str = "own", **where) -> pd.DataFrame:
        """Rows of the frame at one learning rate; `where` fixes other columns."""
        rows = self.frame[self.frame["rate"] == rate]
        for column, value in where.items():
            rows = rows[rows[column] == value]
        return rows

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
        return HTML(
            f'<p>{badge(j.verdict)} {j.reason}.</p><p><em>Replicated when</em> {j.claim.replicated_when}; '
            f"<em>contradicted when</em> {j.claim.contradicted_when}.</p>".replace("*partly*", "<em>partly</em>")
            + f"<table><thead><tr><th>cell</th><th>verdict</th><th>why</th></tr></thead><tbody>{cells}</tbody></table>"
        )

    def effects(self) -> pd.DataFrame:
        """Every effect the verdict rests on: n, mean, 95 % BCa interval, Holm-adjusted one-sided p."""
        return _shown(effect_table(list(effects(self.judgement))))

    def pairs(self, name: str, rate: str = "own") -> pd.DataFrame:
        """The pairwise differences of a curve with simultaneous intervals, those beyond the margin first."""
        rows = []
        for c in self.judgement.cells:
            curve = c.measures.get(rate, {}).get(name)
            if not isinstance(curve, Curve):
                continue
            p = curve.pairs
            for (i, j), d, low, high in zip(p.pairs, p.difference, p.low, p.high):
                shown = low > st.MARGIN or high < -st.MARGIN
                rows.append({
                    "cell": " / ".join(c.cell), "levels": f"{curve.levels[i]:g} − {curve.levels[j]:g}",
                    "difference": d, "low": low, "high": high,
                    "shown": "differ by more than 0.05" if shown else
                    "equal within 0.05" if low > -st.MARGIN and high < st.MARGIN else "open",
                })  # fmt: skip
        made = pd.DataFrame(rows)
        if made.empty:
            return made
        return _shown(made.sort_values("difference", key=np.abs, ascending=False, kind="stable").round(3))

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
        return HTML(f"<p><strong>{kind}</strong></p><ul>{''.join(lines)}</ul>")

    def _records(self) -> dict[str, dict]:
        if not self.local:
            return published.manifest()["provenance"]
        from replication.evidence.store import Store, default_path

        with Store(default_path()) as store:
            return store.provenance()


def effect_table(rows: list[dict]) -> pd.DataFrame:
    """Effects as text for a table: rounded means and intervals, p-values as far as they matter."""
    made = pd.DataFrame(rows)
    if made.empty:
        return made
    interval = [f"{low:+.2f} to {high:+.2f}" for low, high in zip(made["low"], made["high"])]
    p = {name: [f"{v:.3f}" if v >= 0.001 else "< 0.001" for v in made[name]] for name in ("p above", "p below")}
    return pd.DataFrame({
        "cell": made["cell"], "learning rate": made["rate"], "effect": made["effect"].str.replace("_", " "),
        "n": made["n"], "mean": made["mean"].map("{:+.3f}".format), "95 % interval": interval,
        "median": made["median"].map("{:+.3f}".format), "margin": made["margin"].map("{:g}".format),
        "p (above margin)": p["p above"], "p (below margin)": p["p below"],
    })  # fmt: skip


def badge(verdict: str) -> str:
    """A verdict as HTML, coloured by the book's style sheet."""
    return f'<span class="verdict verdict-{verdict.replace(" ", "-")}">{verdict}</span>'


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """A table without an index column of numbers."""
    return rows.set_index(rows.columns[0]) if len(rows.columns) else rows


def open_page(name: str, namespace: Mapping[str, object]) -> Page:
    """A notebook's first call: check its parameters, read or train the results, return the page."""
    return Page(name, parameters(namespace))
