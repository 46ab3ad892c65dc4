"""Probabilities and losses: how confident the networks are, and whether the loss says when to stop."""

import numpy as np
import pandas as pd

from replication.claims.papers.loss_choice import at_least_loss
from replication.pages import figures
from replication.pages.names import METRICS, arm_label, cell_label, cell_phrase
from replication.pages.picture import Picture
from replication.pages.selection import Missing
from replication.pages.stories.outputs import contrasts_picture
from replication.pages.stories.pair import complete, opening
from replication.pages.style import look
from replication.pages.words import estimate, listed, number, signed
from replication.results.frame import seeds, values
from replication.study.design import PAIR

CALIBRATION = (
    "nll",
    "brier",
    "ece",
    "ece_classwise",
    "nll_scaled",
    "ece_scaled",
    "nll_train",
    "brier_train",
    "ece_train",
    "ece_classwise_train",
    "nll_scaled_train",
    "ece_scaled_train",
    "confidence",
    "confidence_right",
    "confidence_wrong",
    "error_auroc",
)
"""measures of the table on calibration"""
LOSSES = {"validation_nll": "the validation images as they are", "validation_nll_train": "training prevalence"}
"""the loss that a training may be stopped by -> what it is taken on"""


def confidence(page) -> list[str]:
    """Confidence, likelihood and Brier score with and without the layer."""
    return [
        f"{opening(cell)} At training prevalence mean confidence goes from "
        f"{page.contrast('final_bn', metric='confidence_train', cell=cell)} and the NLL from "
        f"{page.contrast('final_bn', metric='nll_train', cell=cell)}. On the balanced test set the NLL goes from "
        f"{page.contrast('final_bn', metric='nll', cell=cell)} and the Brier score from "
        f"{page.contrast('final_bn', metric='brier', cell=cell)}."
        for cell in complete(page)
    ]


def confidence_figure(page) -> Picture:
    """Mean confidence at training prevalence."""
    return page.ladder(PAIR, "confidence_train", cells=complete(page))


def reliability_picture(page) -> Picture:
    """How often predictions are right by confidence, in the lead cell; Missing where no test predictions were kept."""
    pooled = page.confidences()
    words = "; ".join(
        f"{arm_label(arm)}: mean confidence {number(c.mean())}, share of right predictions {number(right.mean())}"
        for arm, (c, right) in pooled.items()
    )
    finding = f"Balanced test set of {cell_phrase(page.lead)}: {words}."
    text = (
        f"{finding} Top: share of right predictions by confidence (bins with at least 20 predictions; dashed: as many as the "
        "confidence says). Bottom: how confident the predictions are."
    )
    edges = np.linspace(0.5, 1, 11)
    data = [
        {
            "arm": arm_label(arm),
            "confidence above": low,
            "predictions": int(inside.sum()),
            "right": int(right[inside].sum()),
        }
        for arm, (c, right) in pooled.items()
        for k, low in enumerate(edges[:-1])
        if (inside := np.clip(np.digitize(c, edges) - 1, 0, 9) == k).any()
    ]
    return Picture(figures.reliability(pooled), text, finding, pd.DataFrame(data))


def _stopped(part: pd.DataFrame, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """What `at_least_loss` gives; Missing where the runs were published without their scores by epoch."""
    try:
        return at_least_loss(part, loss)
    except KeyError as error:
        raise Missing(f"scores by epoch were {error.args[0].partition('was ')[2]} for these runs") from None


def loss_choice(page) -> list[str]:
    """What stopping at the least loss costs, for both losses."""
    found = []
    for cell in complete(page):
        for name, words in LOSSES.items():
            d, epoch = _stopped(page.part(cell=cell), name)
            found.append(
                f"{opening(cell)} Stopping at the least loss on {words} (epoch {epoch.mean():.1f} on average) changes "
                f"minority F1 by {estimate(d)}."
            )
    return found


def loss_choice_figure(page) -> Picture:
    """The same as a figure."""
    rows, means, cells = [], [], complete(page)
    for cell in cells:
        for name, words in LOSSES.items():
            part = page.part(cell=cell)
            d = pd.Series(_stopped(part, name)[0], seeds(part))
            rows.append((f"{cell_label(cell)}: loss on {words}", d, look("final_bn")))
            means.append(f"{signed(d.mean())} by the loss on {words}")
    finding = (
        f"Stopping at the least validation loss changes minority F1 on {cell_phrase(cells[0])}: {listed(means[:2])}."
    )
    return contrasts_picture(rows, "F1 at the epoch of least loss minus F1 at the end", finding)


def trajectory_picture(page) -> Picture:
    """Loss and F1 by epoch in the lead cell."""
    part = page.part()
    epoch = {arm: int(np.median([np.nanargmin(v) + 1 for v in values(part, arm, "validation_nll")])) for arm in PAIR}
    finding = (
        f"On {cell_phrase(page.lead)} the median seed has its least validation loss at epoch {epoch['plain']} without and "
        f"{epoch['final_bn']} with the layer; the median loss of an epoch, drawn thick, may be least elsewhere."
    )
    text = f"{finding} Thin: seeds; thick: the median of the seeds at every epoch. Dotted: always saying minority."
    data = [
        {"arm": arm_label(arm), "epoch": n, f"median {METRICS['f1_minority']}": f1, "median validation NLL": nll}
        for arm in PAIR
        for n, (f1, nll) in enumerate(
            zip(
                *(np.nanmedian(np.stack(values(part, arm, c)), axis=0) for c in ("test_f1_minority", "validation_nll"))
            ),
            1,
        )
    ]
    return Picture(figures.trajectories(part), text, finding, pd.DataFrame(data))
