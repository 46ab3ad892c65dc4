"""The arms: what is compared, as the factors in which each differs from `plain`, and the arm that each is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from replication.limits import check_known


@dataclass(frozen=True)
class Arm:
    """One way to train, beside the one that it is compared with."""

    name: str
    label: str
    """what readers see"""
    factors: Mapping[str, Any] = field(default_factory=dict)
    """the factors of a run in which it differs from `plain`"""
    reference: str = "plain"
    """the arm that it is compared with: the same output, loss and sampling without any final norm"""


NORMS = (
    Arm("plain", "plain"),
    Arm("final_bn", "final BN", {"final_norm": "bn"}),
    Arm("final_bn_slow", "final BN, momentum 0.01", {"final_norm": "bn_slow"}),
    Arm("bn_before", "BN before the linear layer", {"final_norm": "bn_before"}),
    Arm("bn_no_affine", "final BN without scale and shift", {"final_norm": "bn_no_affine"}),
    Arm("affine", "scale and shift alone", {"final_norm": "affine"}),
    Arm("mean_only", "centring alone", {"final_norm": "mean_only"}),
    Arm("layer_norm", "LayerNorm", {"final_norm": "layer_norm"}),
)
"""`plain`, and the forms of the layer that the mechanism page takes apart"""
SHIFTS = (
    Arm("bn_shift_0", "final BN, shift fixed at 0", {"final_norm": "bn_fixed_shift"}),
    Arm("bn_shift_0.2", "final BN, shift fixed at −0.2", {"final_norm": "bn_fixed_shift", "shift": -0.2}),
    Arm("bn_shift_0.4", "final BN, shift fixed at −0.4", {"final_norm": "bn_fixed_shift", "shift": -0.4}),
    Arm("centred", "centred features", {"final_norm": "centred"}),
)
"""interventions on the shift, and features centred over the batch instead of any layer"""
_VARIANTS = {
    "sigmoid": ({"output": "sigmoid"}, "one sigmoid logit"),
    "sigmoids": ({"output": "sigmoids"}, "one sigmoid a class"),
    "class_weighted": ({"loss": "class_weighted"}, "class weights"),
    "focal": ({"loss": "focal"}, "focal loss"),
    "logit_adjusted_loss": ({"loss": "logit_adjusted"}, "logit-adjusted loss"),
    "oversample": ({"sampling": "oversample"}, "oversampling"),
}


def _variants(norm: Arm) -> list[Arm]:
    return [
        Arm(f"{norm.name}_{name}", f"{norm.label}, {label}", {**norm.factors, **factors}, f"plain_{name}")
        for name, (factors, label) in _VARIANTS.items()
    ]


ARMS: dict[str, Arm] = {
    arm.name: arm for arm in (*NORMS, *SHIFTS, *(arm for pair in zip(*map(_variants, NORMS[:2])) for arm in pair))
}
"""arm by name"""


def arm(name: str) -> Arm:
    """The arm of that name. ValueError names those there are."""
    check_known("arm", name, ARMS)
    return ARMS[name]
