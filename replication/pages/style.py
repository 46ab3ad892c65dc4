"""How arms and verdicts look, the same on every page: colour, marker, order, shape."""

from dataclasses import dataclass

from replication.claims.claim import (
    CONTRADICTED,
    NOT_ASSESSABLE,
    NOT_RUN,
    REPLICATED,
    UNDECIDED,
)

INK, PAPER = "#111111", "#ffffff"
NO_SKILL = 2 / 3
"""minority F1 of a classifier that always says minority, on a balanced test set of two classes"""


@dataclass(frozen=True)
class Look:
    """The colour and the marker of what is drawn."""

    colour: str
    marker: str


_PLAIN, _LAYER, _REMOVED = "#5b6470", "#d55e00", "#0072b2"
LOOKS: dict[str, Look] = {
    "plain": Look(_PLAIN, "o"),
    "final_bn": Look(_LAYER, "D"),
    "final_bn · bn_removed": Look(_REMOVED, "v"),
    "plain · logit_adjusted": Look(INK, "s"),
    "final_bn_slow": Look("#7b3294", "s"),
    "bn_before": Look("#009e73", "^"),
    "affine": Look("#8c6d1f", "P"),
    "mean_only": Look("#c2568f", "X"),
    "bn_no_affine": Look("#3a9bd1", "p"),
    "layer_norm": Look("#7f7f1f", "h"),
    "bn_shift_0": Look("#b07c00", "<"),
    "bn_shift_0.2": Look("#b07c00", ">"),
    "bn_shift_0.4": Look("#b07c00", "8"),
    "centred": Look("#2a8c82", "d"),
    **{
        f"{norm}_{variant}": Look(colour, marker)
        for variant, marker in (
            ("sigmoid", "p"),
            ("sigmoids", "h"),
            ("class_weighted", "^"),
            ("focal", "<"),
            ("logit_adjusted_loss", ">"),
            ("oversample", "P"),
        )
        for norm, colour in (("plain", _PLAIN), ("final_bn", _LAYER))
    },
    "final_bn · logit_adjusted": Look("#a50f15", "s"),
    "final_bn · bn_folded": Look(_REMOVED, "d"),
    "final_bn · bn_recalibrated": Look(_REMOVED, "p"),
    "final_bn · batch_statistics": Look(_REMOVED, "X"),
}
"""arm, or arm · readout -> its look; the order is that of legends and tables"""
_READOUT_MARKERS = {
    "bn_removed": "v",
    "bn_folded": "d",
    "bn_recalibrated": "p",
    "batch_statistics": "X",
    "logit_adjusted": "s",
    "shifted_by_images": "*",
}

VERDICTS: dict[str, Look] = {
    REPLICATED: Look("#1b7837", "^"),
    CONTRADICTED: Look("#b2182b", "v"),
    UNDECIDED: Look("#7a5c00", "D"),
    NOT_ASSESSABLE: Look("#4b3f72", "o"),
    NOT_RUN: Look("#9aa0a6", "x"),
}
"""verdict -> its colour and shape in figures"""
SIGNS = {REPLICATED: "▲", CONTRADICTED: "▼", UNDECIDED: "◆", NOT_ASSESSABLE: "○", NOT_RUN: "×"}
"""verdict -> the same shape in text"""
CELL_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#7b3294", "#8c6d1f", "#c2568f", "#3a9bd1")
CELL_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""of cells where these are compared, in the order in which they are drawn"""
KIND_FILLS = {"own": "full", "shared": "none", "default": "left", "base": "right", "wide": "top"}
"""kind of learning rate -> how a marker is filled"""


def look(name: str) -> Look:
    """The look of an arm, or of `arm · readout`; a readout without one of its own has its arm's colour."""
    if name in LOOKS:
        return LOOKS[name]
    arm, _, readout = name.partition(" · ")
    return Look(LOOKS[arm].colour, _READOUT_MARKERS[readout])


def no_skill(metric: str, classes: int = 2) -> float | None:
    """The score of always saying minority on a balanced test set of so many classes, one of them the minority."""
    alone = 2 / (classes + 1)
    return {"f1_minority": alone, "f1_macro": alone / classes, "balanced_accuracy": 1 / classes, "roc_auc": 0.5}.get(
        metric
    )
