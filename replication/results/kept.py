"""What is kept of a run: which readouts, curves and predictions, in the local store and among the published results."""

from replication.run import Run

KEPT_READOUTS = ("as_trained", "bn_removed", "logit_adjusted", "shifted_by_images")
"""published of every confirmatory run that has them; `publish` may be asked for more"""
CURVES = ("validation_nll", "validation_nll_train", "validation_f1_minority", "test_f1_minority")
"""per-epoch columns that a rule or a page needs, published of some runs"""
ORDERED = ("as_trained", "bn_removed")
"""readouts whose order of the test labels is kept (that of `logit_adjusted` is `as_trained`'s, cut elsewhere)"""


def keeps_everything(run: Run) -> bool:
    """Whether the local store keeps all metrics of `as_trained`: where all layers are trained, a run is dear."""
    return run.trained == "all"


def keeps_logits(run: Run) -> bool:
    """Whether the local store keeps the final test logits: of the base design's arms, for reliability diagrams."""
    return keeps_everything(run) and (run.final_norm, run.output, run.loss, run.sampling) in (
        ("none", "softmax", "cross_entropy", "shuffle"),
        ("bn", "softmax", "cross_entropy", "shuffle"),
    )
