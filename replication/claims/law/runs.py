"""The runs that test the law's predictions: each prediction's design, as a plan like that of a claim.

What varies, where, and over how many seeds stands in the registered `law.PREDICTIONS`; what they leave open is fixed
here: factors other than the rate vary at `BASE_RATE`, and equal S at other batch sizes is had by scaling the rate.
"""

from collections.abc import Callable, Iterator

from replication.analysis.law import predicted, simulate
from replication.claims.claim import Plan
from replication.claims.law.predictions import PREDICTIONS, Prediction
from replication.run import Run
from replication.study.design import EXPLORATORY, PAIR, Cell, Comparison, compare

BASE_RATE = 3e-3
"""at which factors other than the rate vary: the default of `Run`, and the exploration's"""
LAYER = ("final_bn",)
REMEDIES = ("plain", "final_bn", "plain_class_weighted", "plain_focal", "plain_logit_adjusted_loss", "plain_oversample")
"""arms that the fixed shift is compared with, each tuned; read as trained, with the layer removed, adjusted or cut anew"""
REMEDY_SCORES = (
    ("final_bn", "as_trained", "f1_macro"),
    ("final_bn", "bn_removed", "f1_macro"),
    ("plain", "logit_adjusted", "f1_macro"),
    ("plain", "as_trained", "f1_macro_tuned"),
    ("plain_logit_adjusted_loss", "as_trained", "f1_macro"),
    ("plain_class_weighted", "as_trained", "f1_macro"),
    ("plain_focal", "as_trained", "f1_macro"),
    ("plain_oversample", "as_trained", "f1_macro"),
)
"""(arm, readout, measure) of every tuned remedy that the fixed shift is compared with"""
FIXED = {0.0: "bn_shift_0", -0.2: "bn_shift_0.2", -0.4: "bn_shift_0.4"}
"""fixed shift -> its arm"""


def at(
    cell: Cell, arms: tuple[str, ...], rate: float, variant: str = "", level: float = 0, **factors: object
) -> Comparison:
    """Some arms of a cell at one learning rate."""
    return compare(cell, arms, variant=variant, level=level, rate=rate, **factors)


def levels(id: str) -> dict[str, tuple]:
    """The registered levels of a prediction, by factor."""
    return dict(prediction(id).factors)


def prediction(id: str) -> Prediction:
    """The registered prediction of that id. ValueError names those there are."""
    for found in PREDICTIONS:
        if found.id == id:
            return found
    raise ValueError(f"unknown prediction {id!r}: allowed are {', '.join(p.id for p in PREDICTIONS)}")


def fixed_at(rate: float) -> float:
    """The shift that the law predicts for a learning rate at 1000:10, batches of 64 and 10 epochs, to four digits."""
    return round(predicted(Run(final_norm="bn", learning_rate=rate)).shift, 4)


def scaled_rate(batch_size: int) -> float:
    """The rate at which ten epochs in batches of another size have the S of batches of 64 at `BASE_RATE`, to four digits."""
    unit = [simulate(1.0, 10 * (1010 // n)).S for n in (64, batch_size)]
    return float(f"{BASE_RATE * unit[0] / unit[1]:.4g}")


def _shift(cell: Cell) -> Iterator[Comparison]:
    for name, values in levels("shift").items():
        for value in values:
            if name == "learning_rate":
                yield at(cell, LAYER, value, name, value)
            else:
                yield at(cell, LAYER, BASE_RATE, name, value, **{name: value})


def _optimizer(cell: Cell) -> Iterator[Comparison]:
    for optimizer in levels("optimizer")["optimizer"]:
        for rate in levels("optimizer")["learning_rate"]:
            yield at(cell, LAYER, rate, optimizer, rate, optimizer=optimizer)


def _over_rates(id: str, arms: tuple[str, ...]) -> Callable[[Cell], Iterator[Comparison]]:
    def design(cell: Cell) -> Iterator[Comparison]:
        for rate in levels(id)["learning_rate"]:
            yield at(cell, arms, rate, "learning_rate", rate)

    return design


def _rate_acts(cell: Cell) -> Iterator[Comparison]:
    varied = levels("rate_acts_through_shift")
    for r in varied["r"]:
        yield at(cell, LAYER, r, "layer", r)
        for rate in varied["learning_rate"]:
            yield at(cell, (FIXED[0.0],), rate, f"shift of {r:g}", rate, shift=fixed_at(r))


def _shift_rate(cell: Cell) -> Iterator[Comparison]:
    varied = levels("shift_rate")
    for multiple in varied["shift_rate"]:
        for rate in varied["learning_rate"]:
            yield at(cell, LAYER, rate, f"times {multiple:g}", rate, shift_rate=multiple)


def _batch_size(cell: Cell) -> Iterator[Comparison]:
    for n in levels("batch_size")["batch_size"]:
        yield at(cell, LAYER, scaled_rate(n), "equal S", n, batch_size=n)


def _ratio_peak(cell: Cell) -> Iterator[Comparison]:
    for n in levels("ratio_peak")["n_minority"]:
        yield compare(cell, PAIR, kinds=("default",), level=n, n_minority=n)


def _fixed_shift(cell: Cell) -> Iterator[Comparison]:
    for rate in levels("fixed_shift")["learning_rate"]:
        yield at(cell, tuple(FIXED[shift] for shift in levels("fixed_shift")["shift"]), rate, "untuned", rate)
    yield compare(cell, REMEDIES, kinds=("own",), variant="tuned")


def _two_majorities(cell: Cell) -> Iterator[Comparison]:
    (n,) = levels("two_majorities")["n_majority"]
    for rate in levels("two_majorities")["learning_rate"]:
        yield at(cell, LAYER, rate, "learning_rate", rate, n_majority=n)


def _matched(cell: Cell) -> Iterator[Comparison]:
    yield compare(cell, PAIR, kinds=("own",))


DESIGNS: dict[str, Callable[[Cell], Iterator[Comparison]]] = {
    "shift": _shift,
    "optimizer": _optimizer,
    "log_odds": _over_rates("log_odds", LAYER),
    "mean_confidence": _over_rates("mean_confidence", LAYER),
    "rate_acts_through_shift": _rate_acts,
    "shift_rate": _shift_rate,
    "batch_size": _batch_size,
    "sigmoid": _over_rates("sigmoid", ("final_bn", "final_bn_sigmoid")),
    "ratio_peak": _ratio_peak,
    "centred_features": _over_rates("centred_features", ("final_bn", "centred")),
    "fixed_shift": _fixed_shift,
    "matched_positives": _matched,
    "removed_zero": _over_rates("removed_zero", LAYER),
    "two_majorities": _two_majorities,
}
"""the design of every prediction"""


PLANS: dict[str, Plan] = {
    f"law_{p.id}": Plan(
        f"law_{p.id}",
        p.statement,
        DESIGNS[p.id],
        tuple(Cell(s, n, EXPLORATORY, p.seeds, ("own", "default")) for s, n in p.cells),
    )
    for p in PREDICTIONS
}
"""the plan of every prediction, by `law_` and its id"""
