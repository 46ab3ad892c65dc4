"""A finished run as one row of the store: packed, with checksums, and checked when it is read."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from replication.run import PROTOCOL, Run

COLUMNS = (
    *("key", "factors", "data", "protocol", "provenance", "f1_minority", "weights", "head"),
    *("facts", "scores", "arrays", "checksum"),
)
"""of a row, in order: what a quick look needs up to its own checksum `head`, then the rest and the checksum of all"""
HEAD = COLUMNS[:8]
ROW_ERRORS = (TypeError, ValueError, KeyError, OSError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error)


class Arrays(Mapping):
    """Arrays by name, unpacked when one is asked for."""

    def __init__(self, packed: bytes):
        self.packed = packed
        self._found: dict[str, np.ndarray] | None = None

    def _all(self) -> dict[str, np.ndarray]:
        if self._found is None:
            self._found = unpack(self.packed)
        return self._found

    def __getitem__(self, name: str) -> np.ndarray:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


@dataclass(frozen=True)
class Result:
    """A finished run as it is stored."""

    run: Run
    data: str
    """digest of the data set"""
    provenance: str
    """id of the provenance record: commit, versions, hardware"""
    facts: dict
    """`diverged`, `epochs_trained`, `updates_made`, `seconds`, `validation_f1_macro`, `n_test`, `checkpoint` and
    `weights` (digests, if any), and what a training tells besides"""
    scores: dict[str, dict[str, float]]
    """readout -> metric -> value"""
    arrays: Mapping[str, np.ndarray]
    """by name: per-epoch histories (E,), `order_READOUT` (bits of the test labels in the order of their scores) and, of
    some runs, labels (N,) and final test logits (N, K)"""
    protocol: int = PROTOCOL

    @property
    def key(self) -> str:
        """The run's key, see `Run.key`."""
        return self.run.key(self.data, self.facts.get("checkpoint", ""))


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as bytes: zlib over a line of JSON with names, types and shapes, and the raw numbers."""
    raw = {name: np.asarray(array) for name, array in arrays.items()}
    about = {name: [array.dtype.str, list(array.shape)] for name, array in raw.items()}
    return zlib.compress(json.dumps(about).encode() + b"\n" + b"".join(array.tobytes() for array in raw.values()), 6)


def unpack(packed: bytes) -> dict[str, np.ndarray]:
    """The arrays of `pack`, and of stores of schema version 1 (zip files of numpy). One of `ROW_ERRORS` if damaged."""
    if packed[:2] == b"PK":
        with np.load(io.BytesIO(packed)) as stored:
            return dict(stored)
    about, _, raw = zlib.decompress(packed).partition(b"\n")
    found, at = {}, 0
    for name, (dtype, shape) in json.loads(about).items():
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        found[name] = np.frombuffer(raw[at : at + size], kind).reshape(shape)
        at += size
    if at != len(raw):
        raise ValueError(f"arrays of {at} bytes were expected, found {len(raw)}")
    return found


def _digest(values: tuple) -> bytes:
    """16 bytes of SHA-256 over values, each with its type and length."""
    found = hashlib.sha256()
    for value in values:
        raw = value if isinstance(value, bytes) else repr(value).encode()
        found.update(f"{type(value).__name__}{len(raw)}:".encode() + raw)
    return found.digest()[:16]


def sealed(key: str, factors: str, data: str, protocol: int, provenance: str, facts, scores, arrays) -> tuple:
    """A row of `COLUMNS` from what schema version 1 kept of a run; its own F1 and weights stay empty if unreadable."""
    try:
        f1, weights = (
            float(_object(scores, "scores")["as_trained"]["f1_minority"]),
            _object(facts, "facts").get("weights"),
        )
    except ROW_ERRORS:
        f1, weights = None, None
    return _row((key, factors, data, protocol, provenance), f1, weights, (facts, scores, arrays))


def _row(about: tuple, f1: float | None, weights: object, content: tuple) -> tuple:
    """A row of `COLUMNS` with its two checksums, of what is read often and of all."""
    f1 = None if f1 is not None and f1 != f1 else f1  # SQLite has no NaN
    head = (*about, f1, weights if isinstance(weights, str) else None)
    row = (*head, _digest(head), *content)
    return (*row, _digest(row))


def row_of(result: Result) -> tuple:
    """A result as a row of `COLUMNS`."""
    scores = zlib.compress(json.dumps(result.scores).encode(), 6)
    arrays = result.arrays.packed if isinstance(result.arrays, Arrays) else pack(result.arrays)
    f1 = result.scores.get("as_trained", {}).get("f1_minority")
    return _row(
        (result.key, json.dumps(result.run.changed()), result.data, result.protocol, result.provenance),
        None if f1 is None else float(f1),
        result.facts.get("weights"),
        (json.dumps(result.facts), scores, arrays),
    )


def _object(text: str | bytes, name: str) -> dict:
    found = json.loads(zlib.decompress(text) if isinstance(text, bytes) else text)
    if not isinstance(found, dict):
        raise ValueError(f"{name} must be a JSON object, found {type(found).__name__}")
    return found


def head_of(row: tuple) -> tuple[dict, float]:
    """Factors that differ from their defaults, and minority F1, of the columns `HEAD`; one of `ROW_ERRORS` if damaged."""
    if _digest(row[:7]) != row[7]:
        raise ValueError("its checksum is another")
    return _object(row[1], "factors"), float("nan") if row[5] is None else row[5]


def result_of(row: tuple) -> Result:
    """The result in a row of `COLUMNS`; one of `ROW_ERRORS` if it is damaged."""
    key, factors, data, protocol, provenance, *_, facts, scores, arrays, checksum = row
    if _digest(row[:-1]) != checksum:
        raise ValueError("its checksum is another")
    found = _object(scores, "scores")
    for readout, values in found.items():
        if not isinstance(values, dict) or not all(isinstance(v, (int, float)) for v in values.values()):
            raise ValueError(f"scores of {readout} must be numbers by name")
    result = Result(
        Run(**_object(factors, "factors")), data, provenance, _object(facts, "facts"), found, Arrays(arrays), protocol
    )
    if arrays[:2] == b"PK":  # older than checksums: whether it can be read is not yet known
        result.arrays["labels"]
    if protocol == PROTOCOL and result.key != key:
        raise ValueError(f"its factors and data have the key {result.key}")
    return result
