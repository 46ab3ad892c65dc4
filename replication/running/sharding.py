"""Shards: the parts of a selection of runs that the tasks of a job array carry out."""

import re
from collections.abc import Sequence

from replication.run import Run


def parse(text: str) -> tuple[int, int]:
    """`I/N` as (i, n), i from 1 to n. ValueError for anything else."""
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"shard {text!r} is not allowed: I/N with I from 1 to N, e.g. 1/8")
    return int(found[1]), int(found[2])


def shard(runs: Sequence[Run], i: int, n: int) -> list[Run]:
    """Every n-th run from the i-th on, i from 1: all shards together are the whole, each ordered by worth as the whole is."""
    return list(runs[i - 1 :: n])
