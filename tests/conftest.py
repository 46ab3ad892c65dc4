"""Shared by all tests: a store of their own, and results that nobody trained."""

import os
import zlib
from unittest import mock

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def own_store(tmp_path):
    """No test reads or writes the store of this machine, and none leaves its environment (`--data`) to the next."""
    with mock.patch.dict(os.environ, REPLICATION_STORE=str(tmp_path / "store.sqlite")):
        yield tmp_path / "store.sqlite"


@pytest.fixture
def made_up():
    """A function from a run to a result of the right form with numbers drawn from the run's own name."""
    from replication.analysis.metrics import METRICS
    from replication.data.loading import load
    from replication.results.frame import HISTORIES
    from replication.results.store import Result

    def result(run, provenance="made up", data=load("digits").digest, **facts):
        rng = np.random.default_rng(zlib.crc32(run.key(data).encode()))
        scores = {name: dict(zip(METRICS, rng.random(len(METRICS)).tolist())) for name in ("as_trained", "bn_removed")}
        arrays = {name: rng.random(2).astype(np.float32) for name in HISTORIES}
        arrays |= {
            "labels": np.arange(6, dtype=np.int8) % 2,
            "logits": rng.normal(size=(6, 2)).astype(np.float16),
        }
        facts = {
            "diverged": False,
            "epochs_trained": 2,
            "updates_made": 6,
            "seconds": 0.5,
            "validation_f1_macro": rng.random(),
        } | facts
        return Result(run, data, provenance, facts, scores, arrays)

    return result
