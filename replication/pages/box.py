"""The key-result box atop a page: the claim, its verdict, the one number, the caveat, the cost, and where the data lie."""

import pandas as pd

from replication.claims.claim import Claim
from replication.pages import judgements, provenance
from replication.pages.names import arm_label, cell_label
from replication.pages.repository import commit_html
from replication.pages.stories.pair import HERO
from replication.pages.stories.told import Story, story
from replication.pages.tables import code, csv_link
from replication.pages.words import NBSP

COLUMNS = ("seed", "arm", "level", "readout", "f1_minority", "f1_macro", "roc_auc", "confidence_train", "nll_train")
MOST_ROWS = 800
"""rows beyond which a page holds those of the networks as trained alone"""
MOST_FILES = 2
"""files that the box links; the provenance at the page's end has all"""


def key_result(page) -> str:
    """The box of a `Page`, as HTML."""
    lines = [_claim(page), *_answer(page, story(page.name)), *_numbers(page)]
    return f"<div class='key-result'>{''.join(lines)}</div>"


def _claim(page) -> str:
    local = (
        ""
        if not page.local
        else (
            f"<p class='local'><strong>Computed on this machine</strong>, {page.parameters.seeds} "
            f"seeds; not the published results.</p>"
        )
    )
    if not isinstance(page.plan, Claim):
        return f"<p class='claim'>{story(page.name).question}</p>{local}"
    return f"<p class='claim'><strong>The claim.</strong> {page.plan.statement} <small>({page.plan.source})</small></p>{local}"


def _answer(page, words: Story) -> list[str]:
    if not isinstance(page.plan, Claim):
        return ["<p class='answer'><span class='qualifier'>exploratory: not judged</span></p>"]
    found = judgements.focus(page.judgement)
    number = judgements.number_of(page.plan, found) if found else ""
    text = f"{number[0].upper()}{number[1:]}" if number else "No result yet"
    where = f" <small>Each arm at its own learning rate.{_predictor_scores(page)}</small>" if found else ""
    caveat = f"<p class='caveat'><strong>Caution.</strong> {words.caveat} {_seeds(page)}</p>"
    return [
        judgements.headlines_html(page.judgement, page.single),
        f"<p class='number'>{text}{where}</p>",
        code(caveat),
    ]


def _predictor_scores(page) -> str:
    """Minority F1 of the network without the layer, with it, and read otherwise, of the claims on the base pair."""
    if page.name not in ("base", "removal", "generality") or not page.selection.has(page.lead, **page.where):
        return ""
    found = [
        f"{arm_label(name)} {value}{page.collapsed(name)}"
        for name in HERO
        if (value := page.mean(name)) != "not recorded"
    ]
    return f" Mean minority F1: {', '.join(found)}."


def _seeds(page) -> str:
    return "" if page.lead.network.count(":") == 0 else judgements.SEED_NOTE


def _numbers(page) -> list[str]:
    took, command = provenance.rerun(page.selection, page.lead, page.records())
    data = _data(page)
    link = f"{csv_link(data, page.name, 'CSV of every seed')} · " if len(data) else ""
    commits = provenance.commits(page.selection.all_rows(page.lead), page.records())
    trained = f" · trained by commit {', '.join(map(commit_html, commits))}" if commits else ""
    files = [] if page.local else provenance.files_of(page.plan, page.lead)
    parquet = f"Parquet: {provenance.file_links(files[:MOST_FILES])} · " if files else ""
    return [
        f"<p class='numbers'><strong>The numbers.</strong> {link}{parquet}code: {provenance.code_link(page.plan)}{trained} · "
        "<a href='#provenance'>all files, commits and machines</a></p>",
        f"<p class='rerun'><strong>Run it again.</strong> <code>{command}</code> "
        f"({cell_label(page.lead)}:{NBSP}{took})</p>",
    ]


def _data(page) -> pd.DataFrame:
    """What the verdict on the lead cell rests on, one row per run and readout: small enough to lie within a page."""
    rows = page.selection.all_rows(page.lead)
    if "f1_minority" not in rows or not len(rows):
        return pd.DataFrame()
    found = judgements.focus(page.judgement) if isinstance(page.plan, Claim) else None
    rows = rows[(rows["rate"] == "own") & rows["f1_minority"].notna()]
    if found:
        rows = rows[rows["variant"] == found.unit.variant]
    if len(rows) > MOST_ROWS:
        rows = rows[rows["readout"] == "as_trained"]
    kept = [c for c in COLUMNS if c in rows]
    return rows[kept].assign(arm=rows["arm"].map(arm_label)).dropna(axis=1, how="all")
