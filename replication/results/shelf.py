"""The folder of published files: a manifest points at files named by their content, and one rename commits."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from replication.files import clear, sha256_of, write
from replication.results.compact import typed
from replication.results.frame import with_defaults
from replication.run import PROTOCOL

try:
    import fcntl
except ImportError:  # not a POSIX system: publishers do not wait for one another there
    fcntl = None

PREDICTIONS = "predictions.parquet"
ASIDE = "set-aside"
SMALL = 3000
"""rows: a file with fewer is written anew with what is added to its group, a larger one stays for ever"""
_OURS = re.compile(r"-([0-9a-f]{8})\.parquet$")


@dataclass(frozen=True)
class Group:
    """Rows that lie in the same files."""

    kind: str
    """`runs`, `predictions` or `pilots`"""
    setting: str = ""
    network: str = ""

    def stem(self) -> str:
        """The start of its files' names, a relative path."""
        name = {"runs": "", "predictions": ".predictions", "pilots": "pilots"}[self.kind]
        path = "/".join(filter(None, (self.setting, self.network))) + name
        return "/".join(
            "_" if part in ("", ".", "..") else re.sub(r"[^\w@.,+:=-]", "_", part) for part in path.split("/")
        )


def group_of(name: str, entry: dict) -> Group:
    """The group of a published file; those of the first files follow from their names."""
    if "kind" in entry:
        return Group(entry["kind"], entry["setting"], entry["network"])
    setting, _, network = name.rpartition("/")
    kind = "predictions" if name.endswith(PREDICTIONS) else "runs"
    return Group(kind, setting, network.removesuffix(".parquet").removesuffix(".predictions"))


def manifest(where: Path) -> dict:
    """The manifest of a folder, empty where there is none; ValueError for a file that is not a manifest."""
    path = where / "manifest.json"
    empty = {"protocol": PROTOCOL, "files": {}, "provenance": {}}
    if not path.exists():
        return empty
    try:
        found = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is not a manifest: {error}") from error
    if lacking := empty.keys() - (found if isinstance(found, dict) else {}):
        raise ValueError(f"{path} is not a manifest: it lacks {', '.join(sorted(lacking))}")
    for part in ("files", "provenance"):
        if not isinstance(found[part], dict) or not all(isinstance(entry, dict) for entry in found[part].values()):
            raise ValueError(f"{path} is not a manifest: its {part} must be objects by name")
    for name, entry in found["files"].items():
        if not isinstance(entry.get("sha256"), str) or not isinstance(entry.get("rows"), int):
            raise ValueError(f"{path} is not a manifest: {name} must have a sha256 and a number of rows")
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{path} is not a manifest: {name} lies outside of {where}")
    return found


def _sum(listed: dict) -> str:
    """SHA-256 of a manifest without its own."""
    rest = {name: value for name, value in listed.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def check(where: Path) -> list[str]:
    """Names of the published files, all compared with the manifest; see `published.check`."""
    listed = manifest(where)
    if listed["protocol"] != PROTOCOL:
        raise ValueError(f"{where} holds results of protocol {listed['protocol']}: this package reads {PROTOCOL} only")
    if "sha256" in listed and listed["sha256"] != _sum(listed):
        raise ValueError(f"{where / 'manifest.json'} was changed: its checksum is another, restore the file")
    for name, entry in listed["files"].items():
        if not (where / name).is_file():
            raise ValueError(f"results file {name} is in the manifest but not in {where}")
        if (seen := sha256_of(where / name)) != entry["sha256"]:
            raise ValueError(f"results file {name} has checksum {seen[:12]}: the manifest has {entry['sha256'][:12]}")
    found = {path.relative_to(where).as_posix() for path in where.rglob("*.parquet")}
    left = {name for name in found if _OURS.search(name) or name.startswith(f"{ASIDE}/")}
    if unknown := found - left - set(listed["files"]) - set(listed.get("superseded", ())):
        raise ValueError(f"results file {min(unknown)} is not in the manifest of {where}")
    return sorted(listed["files"])


@contextmanager
def alone(where: Path) -> Iterator[None]:
    """Wait until nobody else publishes to a folder. The lock ends with the process, whatever ends it."""
    if fcntl is None:
        yield
        return
    here = os.open(where, os.O_RDONLY)
    try:
        fcntl.flock(here, fcntl.LOCK_EX)
        yield
    finally:
        os.close(here)


def _write(where: Path, stem: str, rows: pd.DataFrame) -> tuple[str, dict]:
    """A file of rows, named by its content: its name and what the manifest tells of it."""
    raw = rows.to_parquet(None, index=False, compression="zstd", compression_level=19)
    digest = hashlib.sha256(raw).hexdigest()
    name = f"{stem}-{digest[:8]}.parquet"
    write(where / name, raw)
    return name, {"sha256": digest, "rows": len(rows)}


def commit(where: Path, added: dict[Group, pd.DataFrame], gone: set[str], records: dict, aside: str = "") -> None:
    """Add rows to their groups, and take out those of the keys `gone`, kept under `set-aside/` where a reason is given.

    Files are written first, under names that nobody reads yet; the manifest's rename makes all valid at once; then
    files that are no longer read are removed, and what a stopped publishing left behind.
    """
    listed = manifest(where)
    files = dict(listed["files"])
    set_aside = dict(listed.get("set_aside", {}))
    added = dict(added)
    for name, entry in listed["files"].items():
        group = group_of(name, entry)
        joins = group in added and "kind" in entry and entry["rows"] < SMALL
        out = gone and pd.read_parquet(where / name, columns=["key"])["key"].isin(gone)
        if not joins and (not gone or not out.any()):
            continue
        rows = pd.read_parquet(where / name)
        del files[name]
        if gone and aside and out.any():
            to, about = _write(where, f"{ASIDE}/{group.stem()}", rows[out])
            set_aside[to] = about | {"from": name, "reason": aside}
        rest = rows[~out] if gone else rows
        if joins:
            if group.kind != "predictions":  # a factor that an older file lacks has its default, which NaN is not
                rest = with_defaults(rest)
            rest = pd.concat([rest, added[group]], ignore_index=True)
            added[group] = typed(rest) if group.kind == "runs" else rest
        elif len(rest):
            new, about = _write(where, group.stem(), rest)
            files[new] = about | _about(group)
    for group, rows in added.items():
        name, about = _write(where, group.stem(), rows)
        files[name] = about | _about(group)
    provenance = listed["provenance"] | records
    new = {"protocol": PROTOCOL, "files": dict(sorted(files.items())), "provenance": provenance}
    old = {n for n in {*listed["files"], *listed.get("superseded", ())} - set(files) if not _OURS.search(n)}
    if old:
        new["superseded"] = sorted(old)
    if set_aside:
        new["set_aside"] = set_aside
    write(where / "manifest.json", json.dumps(new | {"sha256": _sum(new)}, indent=1) + "\n")
    _tidy(where, new)


def _about(group: Group) -> dict:
    return {"kind": group.kind, "setting": group.setting, "network": group.network}


def _tidy(where: Path, listed: dict) -> None:
    """Remove files of ours that the manifest does not name: those replaced, and those never finished."""
    for path in where.rglob("*.parquet"):
        name = path.relative_to(where).as_posix()
        if name in listed["files"] or name in listed.get("set_aside", ()):
            continue
        ours = _OURS.search(name)
        if name in listed.get("superseded", ()) or (ours and sha256_of(path).startswith(ours[1])):
            path.unlink(missing_ok=True)
    clear(where)
