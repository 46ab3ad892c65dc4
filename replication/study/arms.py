"""The arms: what is compared, as the factors in which each differs from `plain`."""

NORMS = {
    "plain": {},
    "final_bn": {"final_norm": "bn"},
    "final_bn_slow": {"final_norm": "bn_slow"},
    "bn_before": {"final_norm": "bn_before"},
    "bn_no_affine": {"final_norm": "bn_no_affine"},
    "affine": {"final_norm": "affine"},
    "mean_only": {"final_norm": "mean_only"},
    "layer_norm": {"final_norm": "layer_norm"},
}
"""`plain`, and every form of the layer"""
_VARIANTS = {
    "sigmoid": {"output": "sigmoid"},
    "sigmoids": {"output": "sigmoids"},
    "class_weighted": {"loss": "class_weighted"},
    "focal": {"loss": "focal"},
    "logit_adjusted_loss": {"loss": "logit_adjusted"},
    "oversample": {"sampling": "oversample"},
}
ARMS: dict[str, dict] = NORMS | {
    f"{norm}_{name}": NORMS[norm] | factors for name, factors in _VARIANTS.items() for norm in ("plain", "final_bn")
}
"""arm -> the factors in which it differs from `plain`"""


def reference(arm: str) -> str:
    """The arm that an arm is compared with: the same output, loss and sampling without any final norm."""
    for name in _VARIANTS:
        if arm.endswith(f"_{name}"):
            return f"plain_{name}"
    return "plain"
