"""All claims at a glance: verdicts by tier and cell, those of the first rules beside them, and the time it took."""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
from IPython.display import HTML

from replication.analysis import statistics as st
from replication.analysis.effects import Effect
from replication.claims import registry
from replication.claims.claim import NOT_RUN, UNDECIDED, WORDS
from replication.claims.judge import judge
from replication.claims.tiers import TIERS
from replication.claims.verdict import Judgement
from replication.pages import judgements, local
from replication.pages.names import KINDS, setting_label
from replication.pages.parameters import Parameters, parameters
from replication.pages.selection import Selection, asked_cells, published_rows
from replication.pages.tables import badge, folded, shown, table_html
from replication.pages.tables import plain as stripped
from replication.pages.words import duration, p_value, signed
from replication.paths import root
from replication.results import published, reproduction
from replication.run import CONFIRMATORY


def _short(qualifier: str) -> str:
    """A qualifier without its explanation."""
    return qualifier if qualifier.startswith("macro F1") else qualifier.partition(":")[0]


def linked(name: str, title: str) -> str:
    """A claim's title as a link to its page."""
    return f'<a href="{name}.html">{title}</a>'


class Scoreboard:
    """Every claim's judgement on the published results, or on runs of this machine if `seeds` asks for them."""

    def __init__(self, parameters: Parameters):
        self.parameters = parameters
        self.judgements: dict[str, Judgement] = {}
        for name, claim in registry.CLAIMS.items():
            cells = asked_cells(name, parameters)
            results = local.trained(claim, cells, parameters) if parameters.seeds else published_rows()
            self.judgements[name] = judge(claim, Selection(claim, cells, results, parameters.seeds > 0).frame, cells)

    def rows(self) -> pd.DataFrame:
        """One row per claim, or per part with its own verdict: verdict, tier, qualifiers, number, reason."""
        return pd.DataFrame(
            {
                "claim": j.claim.title + (f", {h.part}" if h.part else ""),
                "verdict": h.word,
                "tier": h.tier,
                "qualifiers": "; ".join(judgements.headline_notes(h)),
                "number": judgements.number_of(j.claim, h.lead) if h.lead else "",
                "nearer": judgements.nearer(h),
                "why": h.reason,
                "id": name,
            }
            for name, j in self.judgements.items()
            for h in j.headlines
        )

    def lines(self) -> list[str]:
        """The same as text for a terminal."""
        return [
            f"{r['claim']:<38} {r['verdict'].upper():<15} {r['tier'] or '-':<11} "
            + "; ".join(
                filter(None, (r["number"], r["qualifiers"], r["nearer"] and f"nearer to the papers: {r['nearer']}"))
            )
            for r in self.rows().to_dict("records")
        ]

    def html(self, plain: bool = False) -> HTML:
        """The rows as a table, each claim linked to its page; `plain`: with the papers' statement, for the first page."""
        rows, made = self.rows(), []
        for r in rows.to_dict("records"):
            claim = registry.CLAIMS[r["id"]]
            said = (
                f"{linked(r['id'], r['claim'])}<br><small>{claim.statement}</small>"
                if plain
                else linked(r["id"], r["claim"])
            )
            qualifiers = judgements.qualifier_html(
                [_short(q) if plain else q for q in r["qualifiers"].split("; ") if q]
            )
            made.append(
                {
                    "claim": said,
                    "verdict": judgements.evidence(badge(r["verdict"]), r["id"]),
                    "tier": r["tier"] or "",
                    "number": r["number"]
                    + (f"<br><small>{r['why']}</small>" if plain and r["verdict"] == UNDECIDED else "")
                    if r["number"]
                    else r["why"],
                    "reservations": qualifiers,
                    **({} if plain else {"nearer to the papers": r["nearer"], "why": r["why"]}),
                }
            )
        return shown(pd.DataFrame(made), "The claims and their verdicts", sortable=not plain, data=rows)

    def by_tier(self) -> HTML:
        """Claims by tiers: how many cells have which word, each images, body and trained part once."""
        made = []
        for name, j in self.judgements.items():
            counts, row = j.counts(), {"claim": linked(name, j.claim.title)}
            for tier in TIERS:
                heads = [f"{badge(h.word)} <strong>headline</strong>" for h in j.headlines if h.tier == tier]
                others = [f"{counts[tier][word]} {badge(word)}" for word in WORDS if counts[tier][word]]
                row[tier] = "<br>".join(heads + others)
            made.append(row)
        return shown(
            pd.DataFrame(made),
            "Headlines, and how many other cells have which verdict, by tier; the nearest to the papers on the left",
        )

    def cells(self) -> HTML:
        """One row per cell of a claim, sortable, linked to its evidence."""
        frames = [
            judgements.cells_frame(j).assign(claim=linked(name, j.claim.title), page=name)
            for name, j in self.judgements.items()
        ]
        rows = pd.concat(frames, ignore_index=True)
        done = rows[rows["verdict"] != NOT_RUN]
        words = [judgements.evidence(badge(word), page) for word, page in zip(done["verdict"], done["page"])]
        kept = done.assign(verdict=words)[["claim", "images and network", "tier", "verdict", "found", "beside it"]]
        caption = f"{len(done)} of {len(rows)} cells have been run; the CSV has all"
        return shown(kept, caption, sortable=True, data=rows.assign(claim=rows["claim"].map(stripped)))

    def open_cells(self) -> HTML:
        """The cells that wait for runs, by claim."""
        rows = [
            {
                "claim": j.claim.title,
                "images and network": judgements.unit_label(c),
                "tier": c.tier,
                "seeds": f"{c.done} of {c.cell.seeds}",
            }
            for j in self.judgements.values()
            for c in j.cells
            if c.word == NOT_RUN
        ]
        caption = f"{len(rows)} cells are planned but not complete"
        return folded(caption, table_html(pd.DataFrame(rows), caption, sortable=True))

    def by_digit(self) -> HTML:
        """The criteria's effects on digits with the ten minority digits, not the seeds, as the units.

        The seed picks the digit, so seeds are not independent draws of a task; this shows what depends on
        treating them as such. p-values are not adjusted.
        """
        rows = []
        for j in self.judgements.values():
            for c in j.cells:
                for kind, measures in c.measures.items():
                    e = measures.get(j.claim.headline[0])
                    if isinstance(e, Effect) and c.cell.setting == "digits" and e.n % 10 == 0:
                        digits = e.d.reshape(-1, 10).mean(axis=0)  # consecutive seeds walk through the digits
                        rows.append(
                            {
                                "claim": j.claim.title,
                                "cell": judgements.unit_label(c),
                                "learning rate": KINDS[kind],
                                "mean": signed(e.d.mean()),
                                "over digits": f"{signed(digits.min())} to {signed(digits.max())}",
                                **{
                                    f"p {side} ({unit})": p_value(p(d, e.margin))
                                    for unit, d in (("seeds", e.d), ("digits", digits))
                                    for side, p in (("above", st.p_above), ("below", st.p_below))
                                },
                            }
                        )
        caption = "Seeds or digits as the units of the tests"
        return folded(caption, table_html(pd.DataFrame(rows), caption, sortable=True))


def open_scoreboard(namespace: Mapping[str, object]) -> Scoreboard:
    """The scoreboard notebook's first call: check its parameters and judge every claim."""
    return Scoreboard(parameters(namespace))


def first_rules(board: Scoreboard) -> HTML:
    """The words of the first rules beside those of the second, claim by claim."""
    old = json.loads((root() / "results" / "verdicts-v1.json").read_text())
    rows = []
    for name, j in board.judgements.items():
        before = old.get(name) or old["uncertainty"]
        word = before["verdict"]
        rows.append(
            {
                "claim": linked(name, j.claim.title),
                "first rules": word,
                "second rules": ", ".join(f"{h.part + ': ' if h.part else ''}{badge(h.word)}" for h in j.headlines),
                "tier": ", ".join(filter(None, (h.tier for h in j.headlines))),
                "cells with a verdict, first rules": len(before["cells"]),
                "second": sum(c.word != NOT_RUN for c in j.cells),
            }
        )
    note = "; the one claim `uncertainty` became two" if "uncertainty" in old else ""
    return shown(pd.DataFrame(rows), f"Verdicts under the first and the second set of rules{note}")


def status() -> pd.DataFrame:
    """What the published confirmatory runs took: one row per setting and network, with runs, seeds, time and divergences.

    Pilots have no seconds. Those of heads on frozen bodies are the heads' own: features are computed once for all.
    """
    runs = published_rows().drop_duplicates("key")
    if runs.empty:
        return runs
    runs = runs[runs["seed"] >= CONFIRMATORY]
    made = (
        runs.groupby(["setting", "network", "init", "trained"])
        .agg(
            runs=("key", "count"),
            seeds=("seed", "nunique"),
            diverged=("diverged", "sum"),
            time=("seconds", "sum"),
            slowest=("seconds", "max"),
        )
        .reset_index()
    )
    made.insert(0, "images", made.pop("setting").map(setting_label))
    made["trained"] = made["trained"].map({"all": "all layers", "head": "the head"})
    return made.assign(time=made["time"].map(duration), slowest=made["slowest"].map("{:.1f} s".format)).rename(
        columns={"init": "initial weights", "slowest": "slowest run"}
    )


def reproduced() -> tuple[str, pd.DataFrame]:
    """Whether the runs in this machine's store agree with the published ones: a sentence, and one row per cell."""
    from replication.results.store import Store, default_path

    if not default_path().exists():
        return reproduction.summary(pd.DataFrame()), pd.DataFrame()
    with Store(default_path()) as store:
        fresh = store.scores()  # all that is compared, a fraction of what a result holds
    cells = reproduction.compare(published.read(), fresh)
    return reproduction.summary(cells), cells


def fresh_beside_published(cells: pd.DataFrame) -> HTML:
    """The same cell by cell, with those factors that differ; nothing where no run has been trained here."""
    if cells.empty:
        return HTML("")
    varied = [c for c in cells if c not in reproduction.CELL or cells[c].nunique() > 1]
    return shown(cells[varied].round(3), "Fresh and published means, cell by cell")


def gpu_reproduction(rows: pd.DataFrame) -> str:
    """What the committed comparison of a GPU's cells with the published ones says, as a sentence."""
    difference = rows["difference"].abs()
    within = int((difference <= reproduction.TOLERANCE).sum())
    return (
        f"{within} of {len(rows)} cells have the published mean F1 within {reproduction.TOLERANCE} "
        f"(mean absolute difference {difference.mean():.4f}, largest {np.max(difference):.4f}, {int(rows['seeds'].sum())} runs)"
    )
