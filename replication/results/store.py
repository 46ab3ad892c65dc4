"""The local store: one SQLite row a finished run, safe against a kill at any moment."""

import io
import json
import os
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from replication.paths import home
from replication.run import PROTOCOL, Run

SCHEMA = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS provenance (id TEXT PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    key TEXT PRIMARY KEY, factors TEXT NOT NULL, data TEXT NOT NULL, protocol INTEGER NOT NULL,
    provenance TEXT NOT NULL, facts TEXT NOT NULL, scores TEXT NOT NULL, arrays BLOB NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Result:
    """A finished run as it is stored."""

    run: Run
    data: str
    """digest of the data set"""
    provenance: str
    """id of the provenance record: commit, versions, hardware"""
    facts: dict
    """`diverged`, `epochs_trained`, `updates_made`, `seconds`, `validation_f1_macro`, `checkpoint` and `weights`
    (digests, if any)"""
    scores: dict[str, dict[str, float]]
    """readout -> metric -> value"""
    arrays: dict[str, np.ndarray]
    """per-epoch histories (E,), labels (N,) and final test logits (N, K), by name"""
    protocol: int = PROTOCOL

    @property
    def key(self) -> str:
        """The run's key, see `Run.key`."""
        return self.run.key(self.data, self.facts.get("checkpoint", ""))


def _pack(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _unpack(blob: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(blob)) as stored:
        return dict(stored)


class Store:
    """Finished runs in one SQLite file (WAL; several processes may write). Every run is one transaction.

    ValueError for a file that is no store or damaged, or one of another schema version; OSError for one that cannot be
    written.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            # tables before version: another process may create both in between
            tables = self.db.execute("SELECT name FROM sqlite_master").fetchall()
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} is no results store: {error}") from error
        if tables and version != SCHEMA:
            raise ValueError(f"{self.path} was written by schema version {version}: this package reads {SCHEMA} only")
        if not tables:
            with self._writing():
                self.db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")
        with suppress(sqlite3.OperationalError):  # another process is switching it at this moment
            self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_) -> None:
        self.db.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self.db:  # commits or rolls back a transaction that was begun inside
                yield
        except sqlite3.DatabaseError as error:
            raise OSError(f"cannot write to {self.path}: {error}; every run finished before is kept") from error

    def _select(self, query: str, *values: object) -> Iterator[tuple]:
        try:
            yield from self.db.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} cannot be read: {error}") from error

    def keys(self) -> set[str]:
        """Keys of all finished runs."""
        return {key for (key,) in self._select("SELECT key FROM runs")}

    def add(self, result: Result) -> None:
        """Keep a finished run; one with the same key replaces it. OSError where there is no room."""
        row = (
            result.key,
            json.dumps(result.run.changed()),
            result.data,
            result.protocol,
            result.provenance,
            json.dumps(result.facts),
            json.dumps(result.scores),
            _pack(result.arrays),
        )
        with self._writing():
            self.db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def add_provenance(self, record: dict) -> str:
        """Keep a provenance record and return its id. OSError where there is no room."""
        with self._writing():
            self.db.execute("INSERT OR IGNORE INTO provenance VALUES (?, ?)", (record["id"], json.dumps(record)))
        return record["id"]

    def provenance(self) -> dict[str, dict]:
        """All provenance records by id."""
        return {id: json.loads(text) for id, text in self._select("SELECT id, json FROM provenance")}

    def results(self, keys: Iterable[str] | None = None) -> Iterator[Result]:
        """All results of this protocol, or those with the given keys; ValueError for one that is damaged."""
        columns = "factors, data, provenance, facts, scores, arrays, protocol"
        wanted = None if keys is None else set(keys)
        for key, *row in self._select(f"SELECT key, {columns} FROM runs WHERE protocol = ? ORDER BY key", PROTOCOL):
            if wanted is None or key in wanted:
                factors, data, provenance, facts, scores, arrays, protocol = row
                try:
                    result = Result(
                        Run(**json.loads(factors)), data, provenance, json.loads(facts), json.loads(scores),
                        _unpack(arrays), protocol,
                    )  # fmt: skip
                except (TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
                    raise ValueError(f"run {key} in {self.path} cannot be read: {error}") from error
                yield result

    def merge(self, other: Path | str) -> int:
        """Add every run of another store that this one lacks, all or none; returns their number.

        Errors: as for opening and adding.
        """
        if not Path(other).is_file():
            raise ValueError(f"no results file to merge at {other}")
        with Store(other) as source, self._writing():
            self.db.execute("BEGIN IMMEDIATE")
            records = [(id, json.dumps(record)) for id, record in source.provenance().items()]
            self.db.executemany("INSERT OR IGNORE INTO provenance VALUES (?, ?)", records)
            before = self.db.total_changes
            self.db.executemany(
                "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", source._select("SELECT * FROM runs")
            )
            return self.db.total_changes - before


def default_path() -> Path:
    """Where this machine's runs are kept: `REPLICATION_STORE`, else `store.sqlite` in this machine's own folder."""
    return Path(os.environ.get("REPLICATION_STORE") or home() / "store.sqlite")
