"""The claims: what the papers state, and the criterion of each. Committed before the runs that they judge."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from replication.claims import criteria
from replication.claims.criteria import Decision, Measures

CLAIMED_F1 = (0.29, 0.95)
"""minority F1 without and with the layer, VGG19 on PlantVillage at 1 % (abstract of arXiv:2011.06319)"""
CLAIMED_GAIN = round(CLAIMED_F1[1] - CLAIMED_F1[0], 2)


@dataclass(frozen=True)
class Claim:
    """What the papers state, how it is judged, and the functions that judge it."""

    id: str
    title: str
    statement: str
    source: str
    replicated_when: str
    contradicted_when: str
    measure: Callable[[pd.DataFrame, int], Measures]
    """one cell's rows at one rate, and the number of cells -> its effects and curves"""
    decide: Callable[[Measures], Decision]
    """effects with adjusted p -> verdict and reason; every cell of `cell` columns by itself"""
    cell: tuple[str, ...] = ("cell_setting", "cell_network")


K20, K21 = "Kocaman, Shir and Bäck 2020", "Kocaman, Shir and Bäck 2021"

CLAIMS = {
    c.id: c
    for c in (
        Claim(
            "base", "The gain itself",
            "One BatchNorm layer between the last linear layer and the softmax lifts the minority class's test F1 from "
            "0.29 to 0.95 when training on 99 % healthy and 1 % unhealthy leaves.", K20,
            "the gain of a VGG19 or ResNet34 fine-tuned on PlantVillage from ImageNet's weights exceeds 0.05, at 10 epochs and "
            "still at 30 and 100 (else *partly*); every other cell is an analogue",
            "the gain lies below 0.05",
            criteria.measure_base, criteria.decide_base,
        ),
        Claim(
            "removal", "Removing the layer at inference",
            "The gain is kept when the added BatchNorm layer is removed again at inference.", K21,
            "without the layer F1 exceeds `plain` by more than 0.05 and by more than half of the gain",
            "either lies below",
            criteria.measure_removal, criteria.gated(criteria.decide_removal),
        ),
        Claim(
            "ratio", "The imbalance ratio",
            "There is a threshold of the imbalance ratio at which the gain of the final BatchNorm peaks.", K21,
            "the gain at some inner ratio exceeds that at both ends of the grid by more than 0.05 (simultaneously)",
            "all pairs of ratios differ by less than 0.05",
            criteria.measure_ratio, criteria.gated(criteria.decide_ratio),
        ),
        Claim(
            "batch_size", "The batch size",
            "The batch size affects the outcome of the final BatchNorm.", K21,
            "some pair of batch sizes differs in gain by more than 0.05 (simultaneously), at equal epochs and at equal "
            "numbers of updates (only the former: *partly*)",
            "all pairs differ by less than 0.05",
            criteria.measure_batch_size, criteria.gated(criteria.decide_batch_size),
        ),
        Claim(
            "generality", "Other data, simpler networks",
            "The effect shows on other data sets and with much simpler architectures.", K21,
            "the gain exceeds 0.05 in more than half of the cells outside PlantVillage and of the simple CNN's cells",
            "it lies below 0.05 in more than half",
            criteria.measure_generality, criteria.decide_generality,
        ),
        Claim(
            "majorities", "One majority class or two",
            "The effect occurs only with a single majority class; with two majority classes nothing improves.", K21,
            "one majority class gains more than 0.05, two gain less than 0.05, and their difference exceeds 0.05",
            "with two majority classes the gain exceeds 0.05",
            criteria.measure_majorities, criteria.gated(criteria.decide_majorities), ("cell_setting", "cell_network", "variant"),
        ),
        Claim(
            "sigmoid", "A sigmoid output",
            "With a sigmoid output the layer has almost no impact under strong imbalance.", K21,
            "softmax gains more than 0.05, the sigmoid's gain is absent (equivalent within 0.05, large gains rare), and "
            "the difference exceeds 0.05",
            "with a sigmoid output the gain exceeds 0.05",
            criteria.measure_sigmoid, criteria.gated(criteria.decide_sigmoid),
        ),
        Claim(
            "uncertainty", "Softmax as uncertainty",
            "The layer undermines softmax output as an uncertainty measure: the network does better while less "
            "confident, and a lower loss does not mean a better minority F1.", K20 + " and " + K21,
            "F1 up while, at training prevalence, confidence is lower and NLL worse, and within `final_bn` the test F1 "
            "at the epoch of least validation loss lies more than 0.05 below that of the last epoch",
            "NLL and Brier score are better at both prevalences and that loss of F1 is within 0.05",
            criteria.measure_uncertainty, criteria.gated(criteria.decide_uncertainty),
        ),
        Claim(
            "training_time", "Training time",
            "The layer cuts the training time (epochs) needed for the minority class.", K20,
            "restricted mean epochs to a validation F1 of 0.8 fall by more than one",
            "they fall by less than one",
            criteria.measure_training_time, criteria.gated(criteria.decide_training_time),
        ),
    )
}  # fmt: skip
