"""Where the numbers of a page come from: commits, versions, machines, seeds, files, and what it takes to re-run them."""

import shlex
from collections.abc import Sequence
from urllib.parse import quote

import pandas as pd

from replication.claims.claim import Plan
from replication.data.settings import joined
from replication.pages.repository import commit_html
from replication.pages.selection import Selection
from replication.pages.words import duration
from replication.results import published, shelf
from replication.study.design import Cell
from replication.study.networks import network as network_of


def files_of(plan: Plan, cell: Cell) -> list[str]:
    """The published files that hold the runs of a cell, below `results/`."""
    body = network_of(cell.network).body
    settings = {cell.setting} | {comparison.place.setting for comparison in plan.design(cell)}
    listed = published.manifest()["files"]
    groups = {name: shelf.group_of(name, entry) for name, entry in listed.items()}
    return [n for n, g in groups.items() if g.kind == "runs" and g.network == body and g.setting in settings]


def file_links(names: Sequence[str]) -> str:
    """Links to published files, as the built book carries them beside its pages."""
    return ", ".join(f'<a href="results/{quote(name)}"><code>{name}</code></a>' for name in names)


def module_of(plan: Plan) -> str:
    """The module that states, measures and decides a claim, or plans a question."""
    return plan.design.__module__


def code_link(plan: Plan) -> str:
    """A link to that module's source within the book."""
    name = module_of(plan)
    return f'<a href="_modules/{name.replace(".", "/")}.html"><code>{name.replace(".", "/")}.py</code></a>'


def commits(rows: pd.DataFrame, records: dict[str, dict]) -> list[str]:
    """The commits whose code trained some rows, each once."""
    ids = rows["provenance"].dropna().unique() if "provenance" in rows else []
    return list(dict.fromkeys(str(records.get(i, {}).get("commit", "unknown")) for i in ids))


def trained_on(rows: pd.DataFrame, records: dict[str, dict]) -> str:
    """What some rows were timed on: one core, or one of the processes that shared a GPU."""
    ids = rows["provenance"].dropna().unique() if "provenance" in rows else []
    devices = {str(records.get(i, {}).get("device", "cpu")).partition(":")[0] for i in ids}
    return "one core" if devices <= {"cpu"} else "one process among those that share a GPU"


def rerun(selection: Selection, cell: Cell, records: dict[str, dict]) -> tuple[str, str]:
    """(what it took, the command that trains a cell again); `records` of the rows' provenance."""
    rows = (
        selection.all_rows(cell).drop_duplicates("key").dropna(subset=["key"])
        if len(selection.frame)
        else pd.DataFrame()
    )
    where = trained_on(rows, records)
    took = f"{len(rows)} runs, {duration(selection.seconds(cell))} on {where}" if len(rows) else "not run yet"
    command = shlex.join(
        ["replication", "run", selection.plan.id, "--settings", joined([cell.setting]), "--networks", cell.network]
    )
    return took, command


def list_html(selection: Selection, records: dict[str, dict]) -> str:
    """One line a provenance record of the rows shown."""
    if "provenance" not in selection.frame or selection.frame.empty:
        return "<p><em>No results to show yet.</em></p>"
    rows = selection.frame.drop_duplicates(["key"]).dropna(subset=["key"])
    lines = []
    for id, part in rows.groupby("provenance"):
        record = records.get(id, {})
        versions = ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items())
        registered = f"; registration <code>{record['registration'][:12]}</code>" if record.get("registration") else ""
        lines.append(
            f"<li>{len(part)} runs, seeds {int(part['seed'].min())} to {int(part['seed'].max())}, "
            f"{duration(part['seconds'].sum())} of training, {int(part['diverged'].sum())} diverged; "
            f"commit {commit_html(record.get('commit', 'unknown'))}{registered}; {versions}; "
            f"{record.get('hardware', 'unknown')} ({record.get('device', '')})</li>"
        )
    files = sorted(
        {name for cell in selection.cells if selection.tuned(cell) for name in files_of(selection.plan, cell)}
    )
    where = (
        ""
        if selection.local or not files
        else f"<p>Parquet files: {file_links(files)}. The <a href='status.html'>status page</a> has their checksums.</p>"
    )
    return f"<ul>{''.join(lines)}</ul>{where}" if lines else "<p><em>No results to show yet.</em></p>"
