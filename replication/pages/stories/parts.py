"""Parts of the layer, and other remedies for imbalance."""

from replication.claims.beyond.remedies import LOSSES
from replication.pages.stories.pair import ADJUSTED
from replication.study.design import PAIR

NORM_ARMS = ("plain", "affine", "mean_only", "bn_no_affine", "layer_norm", "bn_before", "final_bn_slow", "final_bn")
REMEDY_ARMS = (
    "plain",
    ADJUSTED,
    "final_bn",
    "final_bn · logit_adjusted",
    *(f"{norm}_{r}" for r in LOSSES for norm in PAIR),
)


def mechanism(page) -> list[str]:
    """What each part of the layer does alone."""
    words = (
        ("mean_only", "Centring alone"),
        ("bn_no_affine", "Normalising without scale and shift"),
        ("affine", "Scale and shift alone"),
        ("final_bn", "The whole layer"),
    )
    page.part()
    return [f"- {text} takes minority F1 from {page.contrast(arm)}." for arm, text in words if page.among(arm)]


def remedies(page) -> list[str]:
    """The layer beside adjusted logits, and both together."""
    page.part()
    lines = [
        f"- Adjusting plain's logits after training, which costs nothing, takes minority F1 from {page.contrast(ADJUSTED)}.",
        f"- Using the layer instead takes it from {page.contrast('final_bn', ADJUSTED)}.",
    ]
    if page.among("final_bn · logit_adjusted"):
        both = page.contrast("final_bn · logit_adjusted", "final_bn")
        lines.append(
            f"- Using both shifts the threshold twice: adding adjusted logits to the layer takes minority F1 from {both}."
        )
    return lines
