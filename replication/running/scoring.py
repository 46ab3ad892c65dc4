"""From a training's outcome to the result that is stored: scores of every readout, histories, facts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from replication.study import recipes
from replication.data.splits import Split
from replication.analysis import metrics
from replication.results.store import Result
from replication.run import Run

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
    """Score every readout on the test images and every epoch on both parts."""
    n, of = len(labels.validation), {"minorities": labels.minorities, "train_counts": labels.train_counts}

    def score(logits: np.ndarray) -> dict[str, float]:
        return metrics.score(logits[n:], labels.test, validation=(logits[:n], labels.validation), **of)

    scores = {name: score(logits) for name, logits in outcome.readouts.items()}
    if run.output == "softmax":
        scores["logit_adjusted"] = score(metrics.adjust(outcome.readouts["as_trained"], labels.train_counts))
    on_validation = metrics.score(outcome.validation[-1], labels.validation, **of)
    histories = {
        f"{name}_{metric}": values.astype(np.float32)
        for name, logits, truth in (
            ("validation", outcome.validation, labels.validation),
            ("test", outcome.test, labels.test),
        )
        for metric, values in metrics.history(logits, truth, **of).items()
    }
    facts = {
        "diverged": outcome.diverged,
        "epochs_trained": outcome.epochs,
        "updates_made": outcome.updates,
        "seconds": round(outcome.seconds, 4),
        "validation_f1_macro": on_validation["f1_macro"],
    }
    facts |= recipes.facts(run)
    arrays = {"labels": labels.test.astype(np.int8), "logits": outcome.test[-1].astype(np.float16)}
    return Result(run, labels.digest, provenance, facts, scores, histories | arrays)
