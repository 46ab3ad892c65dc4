"""Published results: numbers only, as Parquet files under `results/` with a manifest of checksums and provenance."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from replication.results.frame import table, with_defaults
from replication.results.store import Result, Store
from replication.paths import root
from replication.run import PROTOCOL, Run

PREDICTIONS = "predictions.parquet"


def folder() -> Path:
    """Where published results lie: `REPLICATION_RESULTS`, else `results/` in the repository."""
    return Path(os.environ.get("REPLICATION_RESULTS") or root() / "results")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest(where: Path | None = None) -> dict:
    """The manifest: files with SHA-256 and rows, provenance records by id; empty where nothing is published.

    ValueError for a file that is no manifest.
    """
    path = (where or folder()) / "manifest.json"
    empty = {"protocol": PROTOCOL, "files": {}, "provenance": {}}
    if not path.exists():
        return empty
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no manifest: {error}") from error
    if lacking := empty.keys() - (found if isinstance(found, dict) else {}):
        raise ValueError(f"{path} is no manifest: it lacks {', '.join(sorted(lacking))}")
    return found


def check(where: Path | None = None) -> list[str]:
    """Compare every published file with the manifest and return their names.

    ValueError for a file that is missing, changed or unknown to the manifest, and for another protocol.
    """
    where = where or folder()
    listed = manifest(where)
    if listed["protocol"] != PROTOCOL:
        raise ValueError(f"{where} holds results of protocol {listed['protocol']}: this package reads {PROTOCOL} only")
    found = {path.relative_to(where).as_posix() for path in where.rglob("*.parquet")}
    for name, entry in listed["files"].items():
        if name not in found:
            raise ValueError(f"results file {name} is in the manifest but not in {where}")
        if (seen := _sha256(where / name)) != entry["sha256"]:
            raise ValueError(f"results file {name} has checksum {seen[:12]}: the manifest has {entry['sha256'][:12]}")
    if unknown := found - set(listed["files"]):
        raise ValueError(f"results file {min(unknown)} is not in the manifest of {where}")
    return sorted(listed["files"])


def read(settings: Iterable[str] = (), where: Path | None = None) -> pd.DataFrame:
    """Published rows, one a (run, readout), of the settings given (with their sub-settings) or all.

    Errors: as `check`.
    """
    where = where or folder()
    wanted = tuple(settings)
    parts = [
        pd.read_parquet(where / name)
        for name in check(where)
        if not name.endswith(PREDICTIONS) and (not wanted or name.startswith(tuple(f"{s}/" for s in wanted)))
    ]
    return with_defaults(pd.concat(parts, ignore_index=True)) if parts else table(())


def predictions(setting: str, network: str, where: Path | None = None) -> pd.DataFrame:
    """Published test labels (N,) and final logits (N * K,) of the base design: columns `key`, `labels`, `logits`.

    ValueError where none are published, and as `check`.
    """
    where = where or folder()
    name = f"{setting}/{network}.{PREDICTIONS}"
    if name not in check(where):
        raise ValueError(f"no predictions are published for {setting} / {network}")
    return pd.read_parquet(where / name)


def prediction_rows(results: Iterable[Result]) -> pd.DataFrame:
    """Test labels (N,) and final logits (N * K,) of some results, one row a run."""
    rows = [
        {"key": r.key, "labels": r.arrays["labels"], "logits": r.arrays["logits"].astype(np.float32).ravel()}
        for r in results
    ]
    return pd.DataFrame(rows)


def _staged(frame: pd.DataFrame, path: Path) -> Path:
    """What is to replace the file at `path`: its other rows and those of the frame, in a file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        old = pd.read_parquet(path)
        frame = pd.concat([old[~old["key"].isin(frame["key"])], frame], ignore_index=True)
    order = [c for c in ("key", "readout") if c in frame]
    temporary = path.with_suffix(".tmp")
    frame.sort_values(order).to_parquet(temporary, index=False, compression="zstd", compression_level=19)
    return temporary


def publish(store: Store, wanted: Iterable[Run], base: Iterable[Run], where: Path | None = None) -> int:
    """Write the store's results of the wanted runs to `results/`, predictions of the base design too.

    A run that is published already is replaced; others stay. Returns the number of runs written. Nothing is put in
    place before everything is written, and the manifest last.
    """
    where = where or folder()
    where.mkdir(parents=True, exist_ok=True)
    check(where)
    wanted, base = set(wanted), set(base)
    results = [r for r in store.results() if r.run in wanted]
    groups: dict[tuple[str, str], list[Result]] = {}
    for r in results:
        groups.setdefault((r.run.setting, r.run.network), []).append(r)
    staged: dict[Path, Path] = {}
    for (setting, network), members in groups.items():
        path = where / setting / f"{network}.parquet"
        staged[path] = _staged(table(members), path)
        if kept := [r for r in members if r.run in base]:
            path = where / setting / f"{network}.{PREDICTIONS}"
            staged[path] = _staged(prediction_rows(kept), path)
    files = {}
    for path in sorted({*where.rglob("*.parquet"), *staged}):
        new = staged.get(path, path)
        rows = len(pd.read_parquet(new, columns=["key"]))
        files[path.relative_to(where).as_posix()] = {"sha256": _sha256(new), "rows": rows}
    used = {r.provenance for r in results}
    records = manifest(where)["provenance"] | {k: v for k, v in store.provenance().items() if k in used}
    text = json.dumps({"protocol": PROTOCOL, "files": files, "provenance": records}, indent=1) + "\n"
    path = where / "manifest.json"
    staged[path] = path.with_suffix(".tmp")
    staged[path].write_text(text)
    for path, new in staged.items():
        new.replace(path)
    return len(results)
