"""What readers see instead of names in code: settings, networks, arms, readouts, measures, kinds of learning rate."""

import pandas as pd

from replication.claims.papers.training_time import CAP_EPOCHS
from replication.data.settings import setting
from replication.results.frame import arm_and_readout
from replication.run import Run
from replication.study.arms import ARMS
from replication.study.design import Cell
from replication.study.networks import SMALL_BODIES, Network, network

READOUTS = {
    "as_trained": "as trained",
    "bn_removed": "the layer removed",
    "bn_folded": "the layer folded in",
    "bn_recalibrated": "re-estimated statistics",
    "batch_statistics": "the test set's statistics",
    "logit_adjusted": "adjusted logits",
    "shifted_by_images": "a threshold by the training images",
}
METRICS = {
    "f1_minority": "minority F1",
    "f1_majority": "majority F1",
    "f1_macro": "macro F1",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "ROC AUC",
    "confidence_train": "mean confidence at training prevalence",
    "confidence": "mean confidence",
    "confidence_right": "mean confidence of right predictions",
    "confidence_wrong": "mean confidence of wrong predictions",
    "nll": "NLL",
    "nll_train": "NLL at training prevalence",
    "nll_scaled": "NLL after temperature scaling",
    "nll_scaled_train": "NLL at training prevalence after temperature scaling",
    "brier": "Brier score",
    "brier_train": "Brier score at training prevalence",
    "ece": "calibration error",
    "ece_train": "calibration error at training prevalence",
    "ece_scaled": "calibration error after temperature scaling",
    "ece_scaled_train": "calibration error at training prevalence after temperature scaling",
    "ece_classwise": "class-wise calibration error",
    "ece_classwise_train": "class-wise calibration error at training prevalence",
    "error_auroc": "AUROC of confidence for errors",
}
KINDS = {
    "own": "each arm's own rate",
    "shared": "plain's best rate",
    "default": "Adam's default rate, 0.001",
    "base": "the rate chosen at 1000:10",
    "wide": "the best of all pilot rates",
}
EFFECTS = {
    "gain": "gain",
    "gain_30_epochs": "gain at 30 epochs",
    "gain_100_epochs": "gain at 100 epochs",
    "auc_gain": "gain in ROC AUC",
    "over_logit_adjusted": "layer minus plain with adjusted logits",
    "removed_minus_plain": "layer removed minus plain, F1",
    "more_than_half_kept": "F1 left above half of the gain",
    "gain_two_majorities": "gain with two majority classes",
    "one_minus_two": "gain with one majority class minus gain with two",
    "gain_sigmoid": "gain with one sigmoid logit",
    "softmax_minus_sigmoid": "gain with softmax minus gain with one sigmoid logit",
    "gain_sigmoids": "gain with one sigmoid per class",
    "softmax_minus_sigmoids": "gain with softmax minus gain with one sigmoid per class",
    "f1_at_least_loss_minus_last": "F1 at the epoch of least loss minus F1 at the end",
    "f1_at_least_loss_minus_last_train": "F1 at the epoch of least loss at training prevalence minus F1 at the end",
    "epochs_saved": f"mean epochs saved (runs capped at {CAP_EPOCHS})",
    "censored": "share of runs that never reached the target, mean of both arms",
}


def setting_label(name: str) -> str:
    """A setting for readers, such as `apple leaves, 160 px`."""
    return getattr(setting(name), "label", "") or name


def network_label(name: str) -> str:
    """A network for readers, such as `EfficientNet-Lite0, ImageNet, frozen`."""
    return network(name).label


def cell_label(cell: Cell | tuple[str, str]) -> str:
    """A cell for readers: its images and its network."""
    setting, network = (cell.setting, cell.network) if isinstance(cell, Cell) else cell
    return f"{_images(cell) or setting_label(setting)} · {network_label(network)}"


def _images(cell: Cell | tuple[str, str]) -> str:
    return cell.images if isinstance(cell, Cell) else ""


def cell_phrase(cell: Cell | tuple[str, str]) -> str:
    """A cell within a sentence: `tomato leaves (160 px) with a frozen EfficientNet-Lite0`."""
    images, name = (cell.setting, cell.network) if isinstance(cell, Cell) else cell
    found = network(name)
    label = network_label(found.body if found.body in SMALL_BODIES else f"{found.body}:random").partition(", ")[0]
    before = "frozen " if found.trained == "head" else "fine-tuned " if found.init == "imagenet" else ""
    after = {"imagenet": "", "other_crops": " that knows other crops' leaves"}.get(found.init, " from random weights")
    if found.body in SMALL_BODIES:
        after = ""
    elif found.init not in ("imagenet", "random", "other_crops"):
        after = " from a checkpoint of one's own"
    words = f"{before}{label}{after}" + (" and fastai's head" if found.head == "fastai" else "")
    article = "" if found.body == "logistic" else "an " if words[0] in "AEIOU" else "a "
    of = _images(cell) or setting_label(images)
    named = len(of.removesuffix(f", {setting(images).pixels} px")) if setting(images).own else 0  # may have commas
    what, _, which = of[named:].partition(", ")
    what = of[:named] + what
    return f"{what}{f' ({which})' if which else ''} with {article}{words}"


def arm_label(name: str) -> str:
    """An arm, or `arm · readout`, for readers: `plain`, `final BN`, `plain with adjusted logits`."""
    arm, readout = arm_and_readout(name)
    label = ARMS[arm].label
    return label if readout == "as_trained" else f"{label} with {READOUTS.get(readout, readout)}"


def effect_label(name: str, levels: int = 1) -> str:
    """An effect that a verdict rests on for readers, a change of a measure if nothing else; the clearest of so many `levels`
    is called that."""
    label = EFFECTS.get(name) or (f"change of {METRICS[name]}" if name in METRICS else name.replace("_", " "))
    return label + (
        f" where it is clearest of {levels} levels (interval not adjusted for that choice)" if levels > 1 else ""
    )


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """A results table with names before its columns: `arm`, and for readers `arm_label`, `images` and `body`.

    `arm` and its label are empty where the factors are those of no arm.
    """
    factors = sorted({factor for arm in ARMS.values() for factor in arm.factors})
    arms = {tuple(arm.factors.get(f, getattr(Run(), f)) for f in factors): name for name, arm in ARMS.items()}
    arm = [arms.get(key, "") for key in zip(*(rows[f] for f in factors))]
    whole = list(zip(*(rows[f] for f in ("network", "init", "trained", "head"))))
    bodies = {key: Network(*key).label for key in set(whole)}
    images = {name: setting_label(name) for name in rows["setting"].unique()}
    found = {
        "arm": arm,
        "arm_label": [ARMS[name].label if name else "" for name in arm],
        "images": rows["setting"].map(images),
        "body": [bodies[key] for key in whole],
    }
    return pd.concat([pd.DataFrame(found, index=rows.index), rows], axis=1)


def remedy_label(remedy: tuple[str, str, str]) -> str:
    """What readers call a remedy (arm, readout, measure)."""
    arm, readout, metric = remedy
    name = arm_label(arm if readout == "as_trained" else f"{arm} · {readout}")
    return f"{name} with a tuned threshold" if "tuned" in metric else name
