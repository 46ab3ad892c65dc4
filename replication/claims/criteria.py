"""The criteria: what is measured in one cell of a claim, and which verdict follows. Committed before the runs judged."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from replication.analysis import statistics as st
from replication.analysis.effects import Curve, Effect
from replication.results.frame import values

REPLICATED, PARTLY, INCONCLUSIVE, CONTRADICTED = "replicated", "partly", "inconclusive", "contradicted"
NOT_ASSESSABLE, NOT_RUN = "not assessable", "not run"
VERDICTS = (REPLICATED, PARTLY, INCONCLUSIVE, CONTRADICTED, NOT_ASSESSABLE, NOT_RUN)
DECIDED = (REPLICATED, PARTLY, CONTRADICTED)

AUC_MARGIN = 0.02
CAP_EPOCHS = 100
LONGER = (30, 100)
"""epochs at which a gain at 10 epochs must still be there"""
MARGIN_EPOCHS = 1.0

Measures = dict[str, Effect | Curve]
Decision = tuple[str, str]


def least_seeds(setting: str) -> int:
    """Seeds that a verdict takes: 20 on digits, 10 on real images."""
    return 20 if setting.startswith("digits") else 10


def _gain(part: pd.DataFrame, arm: str = "final_bn", plain: str = "plain", **where) -> Effect:
    return Effect(values(part, arm, **where) - values(part, plain, **where))


def _curve(part: pd.DataFrame, variant: str, m: int) -> Curve:
    levels = sorted(part.loc[part["variant"] == variant, "level"].unique())
    D = np.stack([_gain(part, variant=variant, level=n).d for n in levels], axis=1)
    return Curve(levels, D, st.pairwise(D, 1 - st.ALPHA / m))


def _best_level(curve: Curve) -> Effect:
    """The gain at the level where it is shown most clearly, its p-values adjusted over the levels."""
    best = min(curve.D.T, key=st.p_above)
    return Effect(best, tests=len(curve.levels))


def gated(decide: Callable[[Measures], Decision]) -> Callable[[Measures], Decision]:
    """Not assessable where the softmax gain itself is not above the margin: two arms at F1 0 are no equivalence."""

    def after_gate(m: Measures) -> Decision:
        if not m["gain"].above:
            return NOT_ASSESSABLE, "the gain itself is not shown to exceed 0.05 here, so there is nothing to explain"
        return decide(m)

    return after_gate


def measure_base(part: pd.DataFrame, m: int) -> Measures:
    longer = {f"gain_{n}_epochs": _gain(part, level=n) for n in LONGER if n in set(part["level"])}
    at = {"level": 10}
    return {"gain": _gain(part, **at)} | longer | {
        "auc_gain": Effect(
            values(part, "final_bn", "roc_auc", **at) - values(part, "plain", "roc_auc", **at), AUC_MARGIN
        ),
        "over_logit_adjusted": Effect(
            values(part, "final_bn", **at) - values(part, "plain", readout="logit_adjusted", **at)
        ),
    }


def decide_base(m: Measures) -> Decision:
    gain = m["gain"]
    if gain.below:
        return CONTRADICTED, "the gain lies below 0.05"
    if not gain.above:
        return INCONCLUSIVE, gain.needed()
    trained = [n for n in LONGER if f"gain_{n}_epochs" in m]
    lost = [n for n in trained if not m[f"gain_{n}_epochs"].above]
    if lost:
        epochs = " and ".join(map(str, lost))
        return PARTLY, f"a gain above 0.05 at 10 epochs is not shown at {epochs} epochs: a matter of speed"
    if left := [n for n in LONGER if n not in trained]:
        shown = " and ".join(map(str, [10, *trained]))
        return PARTLY, f"the gain exceeds 0.05 at {shown} epochs; {' and '.join(map(str, left))} were not trained here"
    return REPLICATED, "the gain exceeds 0.05 at 10, 30 and 100 epochs"


def reading(m: Measures) -> str:
    """Which of two things a base gain is: `representation`, `threshold`, or `undecided` (also without a gain)."""
    auc, over = m["auc_gain"], m["over_logit_adjusted"]
    if not m["gain"].above:
        return "undecided"
    if st.p_above(auc.d, AUC_MARGIN) < st.ALPHA:
        return "representation"
    if st.tost(auc.d, AUC_MARGIN) < st.ALPHA and st.upper_limit(over.d) < st.MARGIN:
        return "threshold"
    return "undecided"


def measure_removal(part: pd.DataFrame, m: int) -> Measures:
    plain, trained = values(part, "plain"), values(part, "final_bn")
    removed = values(part, "final_bn", readout="bn_removed")
    return {
        "gain": Effect(trained - plain),
        "removed_minus_plain": Effect(removed - plain),
        "more_than_half_kept": Effect(removed - plain - (trained - plain) / 2, margin=0.0),
    }


def decide_removal(m: Measures) -> Decision:
    kept, half = m["removed_minus_plain"], m["more_than_half_kept"]
    if kept.below or half.below:
        return CONTRADICTED, "without the layer " + (
            "less than half of the gain is left" if half.below else "the gain lies below 0.05"
        )
    if kept.above and half.above:
        return REPLICATED, "without the layer more than half of the gain is left, and more than 0.05"
    open_one = half if kept.above else kept
    return INCONCLUSIVE, open_one.needed()


def measure_ratio(part: pd.DataFrame, m: int) -> Measures:
    curve = _curve(part, "minority varied", m)
    return {"gain": _best_level(curve), "curve": curve, "other": _curve(part, "majority varied", m)}


def decide_ratio(m: Measures) -> Decision:
    curve = m["curve"]
    if peaks := curve.peaks():
        return REPLICATED, f"the gain at {', '.join(f'{p:g}' for p in peaks)} of 1000 exceeds that at both ends"
    if curve.all_within():
        return CONTRADICTED, "the gain is the same at all ratios within 0.05"
    if curve.some_apart():
        low, high = curve.D.mean(axis=0).argsort()[[0, -1]]
        levels = curve.levels
        return INCONCLUSIVE, (
            f"edge: the gain changes with the ratio (highest at {levels[high]:g}, lowest at {levels[low]:g} of 1000), "
            "but no inner ratio exceeds both ends of the grid"
        )
    return INCONCLUSIVE, "neither differences nor their absence are shown between ratios"


def measure_batch_size(part: pd.DataFrame, m: int) -> Measures:
    epochs = _curve(part, "equal epochs", m)
    return {"gain": _best_level(epochs), "epochs": epochs, "updates": _curve(part, "equal updates", m)}


def decide_batch_size(m: Measures) -> Decision:
    epochs, updates = m["epochs"], m["updates"]
    if epochs.some_apart() and updates.some_apart():
        return REPLICATED, "the gain differs between batch sizes at equal epochs and at equal updates"
    if epochs.some_apart():
        return PARTLY, (
            "the gain differs between batch sizes at equal epochs, which is not shown at equal updates: "
            "through the number of updates"
        )
    if epochs.all_within() and updates.all_within():
        return CONTRADICTED, "the gain is the same at all batch sizes within 0.05"
    if updates.some_apart():
        return INCONCLUSIVE, "the gain differs between batch sizes at equal updates, which is not shown at equal epochs"
    return INCONCLUSIVE, "neither differences nor their absence are shown between batch sizes"


def measure_generality(part: pd.DataFrame, m: int) -> Measures:
    return {"gain": _gain(part)}


def decide_generality(m: Measures) -> Decision:
    gain = m["gain"]
    if gain.above:
        return REPLICATED, "the gain exceeds 0.05"
    return (CONTRADICTED, "the gain lies below 0.05") if gain.below else (INCONCLUSIVE, gain.needed())


def measure_majorities(part: pd.DataFrame, m: int) -> Measures:
    one, two = _gain(part, level=1), _gain(part, level=2)
    return {"gain": one, "gain_two_majorities": two, "one_minus_two": Effect(one.d - two.d)}


def decide_majorities(m: Measures) -> Decision:
    two, difference = m["gain_two_majorities"], m["one_minus_two"]
    if two.above:
        return CONTRADICTED, "with two majority classes the gain exceeds 0.05 as well"
    if two.below and difference.above:
        return REPLICATED, "the gain exceeds 0.05 with one majority class only"
    return INCONCLUSIVE, (difference if two.below else two).needed()


def measure_sigmoid(part: pd.DataFrame, m: int) -> Measures:
    gain = _gain(part)
    found: Measures = {"gain": gain}
    for output in ("sigmoid", "sigmoids"):
        effect = _gain(part, f"final_bn_{output}", f"plain_{output}")
        found |= {f"gain_{output}": effect, f"softmax_minus_{output}": Effect(gain.d - effect.d)}
    return found


def decide_sigmoid(m: Measures) -> Decision:
    def verdict(output: str) -> Decision:
        gain, difference = m[f"gain_{output}"], m[f"softmax_minus_{output}"]
        if gain.above:
            return CONTRADICTED, "with a sigmoid output the gain exceeds 0.05 as well"
        if gain.within and difference.above:
            if replace(st.absent(gain.d), p_tost=gain.adjusted[2]):
                return REPLICATED, "with a sigmoid output the gain is absent"
            return INCONCLUSIVE, "the sigmoid's gain is within 0.05 on average, but large ones are not shown to be rare"
        return INCONCLUSIVE, (difference if gain.within else gain).needed()

    one, each = verdict("sigmoid"), verdict("sigmoids")
    if one[0] in DECIDED and each[0] in DECIDED and one[0] != each[0]:
        return PARTLY, f"one sigmoid logit: {one[0]}; one sigmoid a class: {each[0]}"
    return one


def measure_uncertainty(part: pd.DataFrame, m: int) -> Measures:
    def difference(metric: str) -> Effect:
        return Effect(values(part, "final_bn", metric) - values(part, "plain", metric), margin=0.0)

    stopped, _ = at_least_loss(part, "validation_nll")
    return {
        "gain": _gain(part),
        **{name: difference(name) for name in ("confidence_train", "nll_train", "nll", "brier_train", "brier")},
        "f1_at_least_loss_minus_last": Effect(stopped, margin=-st.MARGIN),
    }


def at_least_loss(part: pd.DataFrame, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Within `final_bn`: test F1 at the epoch of least validation loss minus that of the last epoch, and that epoch.

    Both (n,). `loss`: `validation_nll`, of the validation images as they are, or `validation_nll_train`, of these
    weighted to training prevalence. F1 0 where no epoch has a finite loss.
    """
    losses, f1 = (values(part, "final_bn", name) for name in (loss, "test_f1_minority"))
    least = [int(np.nanargmin(v)) if np.isfinite(v).any() else -1 for v in losses]
    difference = [(f[k] if k >= 0 else 0.0) - f[-1] for f, k in zip(f1, least)]
    return np.array(difference), np.array(least) + 1


def decide_uncertainty(m: Measures) -> Decision:
    stopped = m["f1_at_least_loss_minus_last"]
    if m["confidence_train"].below and m["nll_train"].above and stopped.below:
        return REPLICATED, "better F1 with lower confidence and worse NLL, and the least loss is not the best F1"
    better = all(m[name].below for name in ("nll", "nll_train", "brier", "brier_train"))
    if better and stopped.within:
        return CONTRADICTED, "NLL and Brier score are better at both prevalences, and the least loss costs no F1"
    sides = {
        "confidence": m["confidence_train"], "NLL at training prevalence": m["nll_train"],
        "NLL": m["nll"], "Brier score": m["brier"],
    }  # fmt: skip
    words = [f"{name} {'higher' if e.above else 'lower' if e.below else 'undecided'}" for name, e in sides.items()]
    words.append("stopping at the least loss " + (
        "costs F1" if stopped.below else "costs no F1" if stopped.within else "undecided"
    ))
    return INCONCLUSIVE, "neither criterion is met in full: " + ", ".join(words)


def measure_training_time(part: pd.DataFrame, m: int) -> Measures:
    hit = {arm: epochs_to_target(part, arm) for arm in ("plain", "final_bn")}
    saved = st.restricted(hit["final_bn"], CAP_EPOCHS) - st.restricted(hit["plain"], CAP_EPOCHS)
    return {
        "gain": _gain(part, level=10),
        "epochs_saved": Effect(-saved, margin=MARGIN_EPOCHS),
        "final_bn_censored": Effect(np.isnan(hit["final_bn"]).astype(float), margin=0.5),
    }


def epochs_to_target(part: pd.DataFrame, arm: str) -> np.ndarray:
    """Epoch at which validation F1 was at least the target twice in a row, (n,); NaN where it never was."""
    columns = (values(part, arm, name, level=CAP_EPOCHS) for name in ("validation_f1_minority", "stop_f1"))
    hit = []
    for curve, target in zip(*columns):
        twice = (np.asarray(curve)[1:] >= target) & (np.asarray(curve)[:-1] >= target)
        hit.append(np.flatnonzero(twice)[0] + 2 if twice.any() else np.nan)
    return np.array(hit, dtype=float)


def decide_training_time(m: Measures) -> Decision:
    saved, censored = m["epochs_saved"], m["final_bn_censored"]
    if censored.d.mean() > 0.5:
        return INCONCLUSIVE, "more than half of the final_bn runs never reached the target within 100 epochs"
    if saved.above:
        return REPLICATED, "the layer saves more than one epoch on the way to a validation F1 of 0.8"
    if saved.below:
        return CONTRADICTED, "the layer saves less than one epoch on the way to a validation F1 of 0.8"
    return INCONCLUSIVE, saved.needed()
