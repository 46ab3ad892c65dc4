"""The local store: one SQLite row a finished run, safe against a kill at any moment."""

import dataclasses
import json
import os
import sqlite3
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from replication.paths import home
from replication.results.rows import COLUMNS, HEAD, ROW_ERRORS, Arrays, Result, head_of, result_of, row_of, sealed
from replication.run import FACTORS, PROTOCOL, Run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Arrays", "Result", "Store", "default_path"]

SCHEMA = 2
WAIT = 600
"""seconds for which a call waits while another process writes"""
_OLD = ("key", "factors", "data", "protocol", "provenance", "facts", "scores", "arrays")
"""columns of schema version 1, which is read, and rewritten where it may be"""
_RUNS = """
    key TEXT{primary}, factors TEXT NOT NULL, data TEXT NOT NULL, protocol INTEGER NOT NULL, provenance TEXT NOT NULL,
    f1_minority REAL, weights TEXT, head BLOB NOT NULL,
    facts TEXT NOT NULL, scores BLOB NOT NULL, arrays BLOB NOT NULL, checksum BLOB NOT NULL"""
_TABLES = f"""
CREATE TABLE IF NOT EXISTS provenance (id TEXT PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE runs ({_RUNS.format(primary=" PRIMARY KEY")});
CREATE INDEX heads ON runs ({", ".join(HEAD)});
CREATE TABLE damaged ({_RUNS.format(primary="").replace(" NOT NULL", "")}, reason TEXT);
"""
_INSERT = f"INTO runs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


class Store:
    """Finished runs in one SQLite file (WAL; several processes may write). Every run is one transaction.

    Every row has a checksum. A damaged row is named in a warning and set aside in the table `damaged`; the rest is used.
    Where the file or its folder may not be written, or with `readonly`, it is only read. A store of schema version 1 is
    rewritten when opened, or read as it is.
    ValueError for a file that is no store or damaged, or one of another schema version; OSError for one that cannot be
    opened or written.
    """

    def __init__(self, path: Path | str, readonly: bool = False):
        self.path = Path(path)
        if self.path.exists() and not (self.path.is_file() or self.path.is_dir()):
            raise OSError(f"{self.path} cannot be opened: it is a device or a pipe, and no file")
        self.readonly = readonly or (self.path.exists() and not _writable(self.path))
        try:
            if self.readonly:
                self.db = _read_only(self.path)
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.db = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            # tables before version: another process may create both in between
            tables = self.db.execute("SELECT name FROM sqlite_master").fetchall()
            self.version = self.db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} is not a results store: {error}") from error
        if tables and self.version not in (1, SCHEMA):
            raise ValueError(
                f"{self.path} was written by schema version {self.version}: this package reads 1 and {SCHEMA} only"
            )
        if self.readonly:
            if not tables:  # nothing was written yet
                self.db.close()
                self.db, self.version = sqlite3.connect(":memory:", isolation_level=None), SCHEMA
                self.db.executescript(_TABLES)
            return
        if self.version != SCHEMA:
            self._renew()
        with suppress(sqlite3.OperationalError):  # another process is switching it at this moment
            self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")

    def _renew(self) -> None:
        """Make the tables, or those of schema version 1 anew with checksums, unless another process just did."""
        with self._writing():
            self.db.execute("BEGIN IMMEDIATE")
            self.version = self.db.execute("PRAGMA user_version").fetchone()[0]
            if self.version == SCHEMA:
                return
            if self.version == 1:
                self.db.execute("ALTER TABLE runs RENAME TO old")
            for statement in filter(str.strip, _TABLES.split(";")):
                self.db.execute(statement)
            if self.version == 1:
                rows = self.db.execute(f"SELECT {', '.join(_OLD)} FROM old")
                self.db.executemany(f"INSERT {_INSERT}", (sealed(*row) for row in rows))
                self.db.execute("DROP TABLE old")
            self.db.execute(f"PRAGMA user_version = {SCHEMA}")
            self.version = SCHEMA

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_) -> None:
        self.db.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self.readonly:
            raise OSError(f"cannot write to {self.path}: it was opened to be read only")
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

    def _rows(self) -> Iterator[tuple]:
        """All rows of `COLUMNS`, by key."""
        if self.version == SCHEMA:
            yield from self._select(f"SELECT {', '.join(COLUMNS)} FROM runs ORDER BY key")
        else:
            yield from (sealed(*row) for row in self._select(f"SELECT {', '.join(_OLD)} FROM runs ORDER BY key"))

    def keys(self) -> set[str]:
        """Keys of all finished runs."""
        return {key for (key,) in self._select("SELECT key FROM runs")}

    def add(self, result: Result) -> None:
        """Keep a finished run; one with the same key replaces it. OSError where there is no room."""
        with self._writing():
            self.db.execute(f"INSERT OR REPLACE {_INSERT}", row_of(result))

    def add_all(self, results: Iterable[Result]) -> int:
        """Keep finished runs, all or none of them; returns their number. OSError where there is no room."""
        rows = [row_of(result) for result in results]
        with self._writing():
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany(f"INSERT OR REPLACE {_INSERT}", rows)
        return len(rows)

    def add_provenance(self, record: dict) -> str:
        """Keep a provenance record and return its id. OSError where there is no room."""
        with self._writing():
            self.db.execute("INSERT OR IGNORE INTO provenance VALUES (?, ?)", (record["id"], json.dumps(record)))
        return record["id"]

    def provenance(self) -> dict[str, dict]:
        """All provenance records by id; one that is damaged is left out, with a warning."""
        found = {}
        for id, text in self._select("SELECT id, json FROM provenance"):
            try:
                found[id] = json.loads(text)
                if not isinstance(found[id], dict) or found[id].get("id") != id:
                    raise ValueError("it is another's")
            except (TypeError, ValueError) as error:
                found.pop(id, None)
                warnings.warn(f"provenance {id} in {self.path} is damaged ({error}) and left out", stacklevel=2)
        return found

    def results(self, keys: Iterable[str] | None = None) -> Iterator[Result]:
        """All results of this protocol, or those with the given keys, by key; a damaged row is set aside."""
        wanted = None if keys is None else set(keys)
        bad: list[tuple[str, str]] = []
        try:
            for row in self._rows():
                if wanted is not None and row[0] not in wanted:
                    continue
                try:
                    result = result_of(row)
                except ROW_ERRORS as error:
                    bad.append((row[0], str(error)))
                    continue
                if result.protocol == PROTOCOL:
                    yield result
        finally:
            self._set_aside(bad)

    def durations(self) -> Iterator[tuple[dict, float]]:
        """Factors that differ from their defaults, and seconds of training, of every run of this protocol that can be read."""
        for factors, facts in self._select("SELECT factors, facts FROM runs WHERE protocol = ?", PROTOCOL):
            with suppress(*ROW_ERRORS):
                yield json.loads(factors), float(json.loads(facts)["seconds"])

    def scores(self, keys: Iterable[str] | None = None) -> "pd.DataFrame":
        """Minority F1 as trained of all results of this protocol, or of those with the given keys; quick and small.

        Columns: `key`, the factors, `data`, `provenance`, `weights` (digest or None), `readout` (`as_trained`) and
        `f1_minority`, as in `frame.results_frame`. A damaged row is set aside.
        """
        import pandas as pd  # machines that only train may lack it

        wanted = None if keys is None else set(keys)
        if self.version == SCHEMA:
            heads = self._select(f"SELECT {', '.join(HEAD)} FROM runs INDEXED BY heads")
        else:
            heads = (row[: len(HEAD)] for row in self._rows())
        fields = [(f.name, f.default) for f in dataclasses.fields(Run)]
        allowed, bad = set(FACTORS), []
        columns: dict[str, list] = {
            name: [] for name in ("key", *FACTORS, "data", "provenance", "weights", "f1_minority")
        }
        adders = [columns[name].append for name, _ in fields]
        for row in heads:
            if wanted is not None and row[0] not in wanted:
                continue
            try:
                changed, f1 = head_of(row)
                if not changed.keys() <= allowed:
                    raise ValueError(f"unknown factor {min(changed.keys() - allowed)}")
            except ROW_ERRORS as error:
                bad.append((row[0], str(error)))
                continue
            if row[3] != PROTOCOL:
                continue
            for add, (name, default) in zip(adders, fields):
                value = changed.get(name, default)
                add(sys.intern(value) if isinstance(value, str) else value)
            columns["key"].append(row[0])
            columns["data"].append(sys.intern(row[2]))
            columns["provenance"].append(sys.intern(row[4]))
            columns["weights"].append(row[6] and sys.intern(row[6]))
            columns["f1_minority"].append(f1)
        self._set_aside(bad)
        found = pd.DataFrame({name: columns.pop(name) for name in list(columns)})
        return found.assign(readout="as_trained")

    def _set_aside(self, bad: list[tuple[str, str]]) -> None:
        """Warn of damaged rows, and move them into the table `damaged` where this store may be written."""
        for key, reason in bad:
            warnings.warn(
                f"run {key} in {self.path} is damaged ({reason}): it is set aside, run it again", stacklevel=3
            )
        if bad and not self.readonly:
            with self._writing():
                self.db.execute("BEGIN IMMEDIATE")
                for key, reason in bad:
                    self.db.execute("INSERT INTO damaged SELECT *, ? FROM runs WHERE key = ?", (reason, key))
                    self.db.execute("DELETE FROM runs WHERE key = ?", (key,))

    def damaged(self) -> dict[str, str]:
        """Keys of the rows that were set aside, and why."""
        return dict(self._select("SELECT key, reason FROM damaged")) if self.version == SCHEMA else {}

    def merge(self, other: Path | str) -> int:
        """Add every run of another store that this one lacks, all or none; returns their number.

        The other store is only read; what is damaged there is named in a warning and left. Errors: as for opening and
        adding.
        """
        if not Path(other).is_file():
            raise ValueError(f"no results file to merge at {other}")
        with Store(other, readonly=True) as source, self._writing():
            self.db.execute("BEGIN IMMEDIATE")
            records = [(id, json.dumps(record)) for id, record in source.provenance().items()]
            self.db.executemany("INSERT OR IGNORE INTO provenance VALUES (?, ?)", records)
            before = self.db.total_changes
            self.db.executemany(f"INSERT OR IGNORE {_INSERT}", source._sound())
            return self.db.total_changes - before

    def _sound(self) -> Iterator[tuple]:
        """Rows that can be read; the others are named."""
        for row in self._rows():
            try:
                result_of(row)
            except ROW_ERRORS as error:
                warnings.warn(f"run {row[0]} in {self.path} is damaged ({error}): it is left out", stacklevel=2)
                continue
            yield row


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _read_only(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing, not even beside the file; OperationalError where there is no file.

    Where nothing may be written beside it, a file with runs that only its log holds yet cannot be read whole.
    """
    address = path.absolute().as_uri()
    db = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=WAIT, isolation_level=None)
    try:
        db.execute("SELECT name FROM sqlite_master").fetchall()
        return db
    except sqlite3.OperationalError:
        db.close()
        log = path.with_name(path.name + "-wal")
        if not path.is_file() or (log.exists() and log.stat().st_size):
            raise
        return sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True, isolation_level=None)


def default_path() -> Path:
    """Where this machine's runs are kept: `REPLICATION_STORE`, else `store.sqlite` in this machine's own folder."""
    return Path(os.environ.get("REPLICATION_STORE") or home() / "store.sqlite")
