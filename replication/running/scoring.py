"""From a training's outcome to the result that is stored: scores of every readout, histories, facts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from replication.analysis import metrics
from replication.analysis.readings import held_out, read_all
from replication.data.splits import Split
from replication.results.kept import ORDERED, keeps_everything, keeps_logits
from replication.results.store import Result
from replication.run import FACTORS, Run
from replication.study import recipes

if TYPE_CHECKING:
    from replication.training.loop import Outcome


@dataclass(frozen=True)
class Labels:
    """What scoring needs of a split: no images, so that it travels lightly between processes."""

    validation: np.ndarray
    """(M,) class indices"""
    test: np.ndarray
    """(N,) class indices"""
    minorities: tuple[int, ...]
    train_counts: np.ndarray
    """(K,) training images of each class"""
    digest: str
    """of the data"""

    @classmethod
    def of(cls, split: Split) -> "Labels":
        """The labels of a split."""
        return cls(split.validation.labels, split.test.labels, split.minorities, split.train_counts, split.digest)


def scored(run: Run, labels: Labels, outcome: "Outcome", provenance: str) -> Result:
    """Score every readout on the test images and every epoch on both parts.

    What an outcome tells besides, as a dict `outcome.facts`, is passed on: numbers and words by name, a learned quantity
    that bears a factor's name as `learned_NAME`.
    """
    of = {"minorities": labels.minorities, "train_counts": labels.train_counts}
    readouts = dict(outcome.readouts)
    if run.output == "softmax":
        readouts["logit_adjusted"] = metrics.adjust(readouts["as_trained"], labels.train_counts)
    read = read_all(readouts, labels.validation, labels.test, **of)
    scores = {name: reading.scores for name, reading in read.items()}
    if keeps_everything(run):
        held, seen = np.split(outcome.readouts["as_trained"], [len(labels.validation)])
        scores["as_trained"] |= metrics.score(seen, labels.test, validation=(held, labels.validation), **of)
    arrays = {
        f"{name}_{metric}": values.astype(np.float32)
        for name, logits, truth in (
            ("validation", outcome.validation, labels.validation),
            ("test", outcome.test, labels.test),
        )
        for metric, values in metrics.history(logits, truth, **of).items()
    }
    for name in ORDERED:
        if name in read:
            scores[name] |= {"cut": read[name].cut}
            arrays[f"order_{name}"] = np.frombuffer(read[name].order, np.uint8)
    if keeps_logits(run):
        arrays |= {"labels": labels.test.astype(np.int8), "logits": outcome.test[-1].astype(np.float16)}
    facts = {
        "diverged": outcome.diverged,
        "epochs_trained": outcome.epochs,
        "updates_made": outcome.updates,
        "seconds": round(outcome.seconds, 4),
        "validation_f1_macro": metrics.f1_macro(outcome.validation[-1], labels.validation),
        "n_test": len(labels.test),
    }
    if run.output == "softmax" and len(labels.train_counts) == 2:
        held = outcome.readouts["as_trained"][: len(labels.validation)]
        facts |= held_out(held, labels.validation, labels.minorities, labels.train_counts)
    told = getattr(outcome, "facts", None) or {}
    facts |= recipes.facts(run) | {
        f"learned_{name}" if name in FACTORS else name: value for name, value in told.items()
    }
    return Result(run, labels.digest, provenance, facts, scores, arrays)
