"""What every column of the published results means."""

import pandas as pd

_FACTORS = {
    "setting": ("string", "", "data set with its class map"),
    "network": ("string", "", "body of the network"),
    "init": ("string", "", "initial weights: `random`, `imagenet`, a recipe or a checkpoint"),
    "head": ("string", "", "what stands between the body and the final norm"),
    "final_norm": ("string", "", "the layer under study; `none` without one"),
    "output": ("string", "", "`softmax`, `sigmoid` (one logit) or `sigmoids` (one logit per class)"),
    "loss": ("string", "", "loss function"),
    "sampling": ("string", "", "how the images of an epoch are drawn"),
    "n_majority": ("integer", "images", "training images of each majority class"),
    "n_minority": ("integer", "images", "training images of each minority class"),
    "schedule": ("string", "", "course of the learning rate"),
    "learning_rate": ("number", "", "peak learning rate"),
    "epochs": ("integer", "epochs", "passes over the training images that were asked for"),
    "updates": ("integer", "updates", "if not 0, the number of updates instead of epochs"),
    "stop_f1": ("number", "", "if not 0, the minority validation F1 at which training stops early"),
    "batch_size": ("integer", "images", "images of an update"),
    "precision": ("string", "", "number format of the training"),
    "trained": ("string", "", "`all` layers, or the `head` alone"),
    "input_side": ("integer", "pixels", "side of the images as the body sees them; 0: as they are packed"),
    "optimizer": ("string", "", "optimiser"),
    "weight_decay": ("number", "", "weight decay of `adamw` and `sgd`"),
    "shift": ("number", "nats", "fixed shift of `bn_fixed_shift`, minority minus majority"),
    "shift_rate": ("number", "", "learning rate of the final norm's shift, in learning rates"),
    "ghost_batch": ("integer", "images", "if not 0, images over which the final norm takes its batch statistics"),
    "label_smoothing": ("number", "", "share of each label that is spread evenly over the classes"),
    "augmentation": ("string", "", "`setting`: flips and shifts where the setting has them, or `none`"),
    "split_seed": ("integer", "", "if not negative, what the split follows from in place of the seed"),
    "seed": ("integer", "", "split, initial weights, batch order and augmentation follow from it; below 100: pilots"),
}
_NAMES = {
    "arm": ("string", "", "what is compared, by name; empty where the factors are those of no arm"),
    "arm_label": ("string", "", "the arm as the pages call it"),
    "images": ("string", "", "the setting as the pages call it"),
    "body": ("string", "", "the network as the pages call it"),
    "role": ("string", "", "`pilot` or `confirmatory`; in the table of `replication try` only"),
}
_ABOUT = {
    "key": ("string", "", "name of the run: digest of its factors, its data, its initial weights and the protocol"),
    "data": ("string", "", "digest of the data set's images and labels"),
    "provenance": ("string", "", "id of a record in the manifest: commit, versions, hardware, registration"),
    "checkpoint": ("string", "", "digest that stands for the initial weights in the key"),
    "weights": ("string", "", "digest of the very file of initial weights, where a recipe made it"),
    "readout": ("string", "", "how the trained network was read at test time"),
    "diverged": ("boolean", "", "whether a loss or a logit stopped being finite"),
    "epochs_trained": ("integer", "epochs", "epochs trained"),
    "updates_made": ("integer", "updates", "updates made"),
    "seconds": ("number", "s", "duration of the training"),
    "n_test": ("integer", "images", "test images"),
    "validation_f1_macro": ("number", "", "mean F1 over the classes on validation images after the last epoch"),
    "validation_f1_macro_adjusted": ("number", "", "the same after logit adjustment; two classes, not in older runs"),
    "validation_f1_macro_tuned": (
        "number",
        "",
        "the same at thresholds tuned on other validation images; two classes, not in older runs",
    ),
    "learned_shift": ("number", "nats", "the final norm's learned shift, minority minus majority"),
    "predicted_zero": (
        "number",
        "",
        "where zero is predicted to lie between the class means of the raw log-odds, 0 at the majority's and 1 at the "
        "minority's, from the features alone; of linear heads on frozen bodies",
    ),
    "scale_majority": ("number", "", "the final norm's learned scale of the majority's logit"),
    "scale_minority": ("number", "", "the final norm's learned scale of the minority's logit"),
    "order": ("bytes", "", "one bit a test image, by falling log-odds of the minority: whether it is minority"),
    "cut": ("integer", "images", "test images called minority; with two classes the first ones in `order`"),
    "labels": ("list of integers", "", "classes of the test images"),
    "logits": ("list of numbers", "nats", "final logits of the test images, image by image"),
}
_TRAIN = ", images weighted to the prevalence in training"
_METRICS = {
    "f1_minority": ("", "F1 of the minority class, mean over several; 0 where undefined"),
    "precision_minority": ("", "precision of the minority class; 0 where undefined"),
    "recall_minority": ("", "recall of the minority class"),
    "f1_majority": ("", "F1 of the majority class, mean over several"),
    "precision_majority": ("", "precision of the majority class"),
    "recall_majority": ("", "recall of the majority class"),
    "f1_macro": ("", "mean F1 over the classes"),
    "balanced_accuracy": ("", "mean recall over the classes"),
    "f1_minority_at_1": ("", "minority F1 with test images weighted so that 1 % are minority"),
    "tp": ("images", "minority images called minority"),
    "fp": ("images", "majority images called minority"),
    "fn": ("images", "minority images called majority"),
    "tn": ("images", "majority images called majority"),
    "roc_auc": ("", "area under the ROC curve of the minority's log-odds"),
    "average_precision": ("", "average precision of the minority's log-odds"),
    "nll": ("nats", "negative log-likelihood"),
    "brier": ("", "Brier score, summed over classes"),
    "ece": ("", "expected calibration error of the top label, 15 equal bins"),
    "ece_classwise": ("", "expected calibration error, mean over the classes"),
    "nll_train": ("nats", f"negative log-likelihood{_TRAIN}"),
    "brier_train": ("", f"Brier score{_TRAIN}"),
    "ece_train": ("", f"expected calibration error of the top label{_TRAIN}"),
    "ece_classwise_train": ("", f"expected calibration error, mean over the classes{_TRAIN}"),
    "temperature_test": ("", "temperature of least validation NLL at the test set's prevalence"),
    "temperature_train": ("", "temperature of least validation NLL at the prevalence in training"),
    "nll_scaled": ("nats", "negative log-likelihood after temperature scaling"),
    "ece_scaled": ("", "expected calibration error after temperature scaling"),
    "nll_scaled_train": ("nats", f"negative log-likelihood after temperature scaling{_TRAIN}"),
    "ece_scaled_train": ("", f"expected calibration error after temperature scaling{_TRAIN}"),
    "confidence_right": ("", "mean top-label probability where it is right; NaN if never"),
    "confidence_wrong": ("", "mean top-label probability where it is wrong; NaN if never"),
    "confidence": ("", "mean top-label probability"),
    "confidence_train": ("", f"mean top-label probability{_TRAIN}"),
    "error_auroc": ("", "area under the ROC curve of low confidence as a sign of errors; NaN without errors"),
    "mean_log_odds_majority": ("nats", "mean over majority images of logit(minority) - logit(majority)"),
    "mean_log_odds_minority": ("nats", "mean over minority images of logit(minority) - logit(majority)"),
    "f1_minority_tuned": (
        "",
        "minority F1 at the threshold of best validation macro F1, found with as many minority "
        "labels as training has; two classes only",
    ),
    "f1_macro_tuned": ("", "macro F1 at that threshold"),
    "f1_minority_tuned_all": (
        "",
        "minority F1 at the threshold found with all minority validation labels; two classes only",
    ),
    "f1_macro_tuned_all": ("", "macro F1 at that threshold"),
}
_CURVES = {
    f"{part}_{metric}": ("list of numbers", unit, f"{meaning}, on {part} images after every epoch")
    for part in ("validation", "test")
    for metric, unit, meaning in (
        ("nll", "nats", "negative log-likelihood"),
        ("nll_train", "nats", f"negative log-likelihood{_TRAIN}"),
        ("f1_minority", "", "minority F1"),
    )
}


def columns() -> pd.DataFrame:
    """Every column of the published files, `replication.read` and `replication try`: `column`, `type`, `unit`, `meaning`.

    Metrics are of test images and of the row's readout. In the pilots' file `validation_nll_train` is the last epoch's.
    """
    metrics = {name: ("number", unit, meaning) for name, (unit, meaning) in _METRICS.items()}
    rows = [(name, *about) for part in (_NAMES, _ABOUT, _FACTORS, metrics, _CURVES) for name, about in part.items()]
    return pd.DataFrame(rows, columns=["column", "type", "unit", "meaning"])
