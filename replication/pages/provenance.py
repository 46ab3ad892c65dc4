"""Where the numbers of a page come from: commits, versions, machines, seeds, files, and what it takes to re-run them."""

import shlex

import pandas as pd

from replication.claims.claim import Plan
from replication.data.settings import joined
from replication.pages.selection import Selection
from replication.pages.words import duration
from replication.results import published
from replication.study.design import Cell
from replication.study.networks import network as network_of


def parquet_of(cell: Cell) -> str:
    """The published file that holds a cell's runs."""
    return f"results/{cell.setting}/{network_of(cell.network).body}.parquet"


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


def rerun(selection: Selection, cell: Cell) -> tuple[str, str]:
    """(what it took, the command that trains a cell again)."""
    rows = selection.all_rows(cell).drop_duplicates("key").dropna(subset=["key"]) if len(selection.frame) else ()
    took = f"{len(rows)} runs, {duration(selection.seconds(cell))} of one core" if len(rows) else "not run yet"
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
            f"commit <code>{record.get('commit', 'unknown')}</code>{registered}; {versions}; "
            f"{record.get('hardware', 'unknown')} ({record.get('device', '')})</li>"
        )
    files = sorted(
        {parquet_of(cell) for cell in selection.cells} & {f"results/{n}" for n in published.manifest()["files"]}
    )
    where = (
        ""
        if selection.local or not files
        else (
            "<p>Files: "
            + ", ".join(f"<code>{name}</code>" for name in files)
            + " (their checksums are on the <a href='status.html'>status page</a>).</p>"
        )
    )
    return f"<ul>{''.join(lines)}</ul>{where}" if lines else "<p><em>No results to show yet.</em></p>"
