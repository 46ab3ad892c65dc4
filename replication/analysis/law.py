"""The law of the shift: what a final BatchNorm's shifts learn if nothing else in the network learns the class prior.

A final BatchNorm gives every class's logit a mean of zero over the batch, whatever the weights do. A constant added to
the logits of all images, which is how a linear layer learns the prior, can then come from the layer's shifts b alone.
With all logits equal but for the shifts, cross-entropy has the gradient softmax(b) - pi, where pi are the class shares
in training. The optimiser on these few numbers is all that is simulated; nothing is fitted to any run.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replication.data.settings import setting
from replication.limits import check_known
from replication.run import FINE_TUNE, OPTIMIZERS, SCHEDULES, Run

Floats = NDArray[np.float64]

BETA2, EPS = 0.999, 1e-8
"""of Adam and AdamW"""
MOMENTUM = 0.9
"""of SGD"""
SHIFTED = ("bn", "bn_slow", "mean_only", "bn_log_prior_scale")
"""final norms that centre over the batch and train a shift of every logit"""


def one_cycle(peak: float, updates: int) -> tuple[Floats, Floats]:
    """Learning rate and beta1 of every update, (U,) each: torch's OneCycleLR with its defaults, in closed form.

    Over the first 30 % of the updates the rate rises from peak / 25 to the peak along a cosine, and beta1 falls from
    0.95 to 0.85; then the rate falls to peak / 250,000 and beta1 rises again (Smith and Topin 2018, arXiv:1708.07120).
    """
    step, top = np.arange(updates, dtype=float), 0.3 * updates - 1
    rising = step <= top
    with np.errstate(divide="ignore", invalid="ignore"):  # a rise of length 0 is at its end at once
        up = np.where(rising, step / top, 0.0) if top else np.ones(updates)
        down = (step - top) / (updates - 1 - top)

    def course(start: float, middle: float, end: float) -> Floats:
        rise = middle + (start - middle) / 2 * (1 + np.cos(np.pi * up))
        fall = end + (middle - end) / 2 * (1 + np.cos(np.pi * down))
        return np.where(rising, rise, fall)

    return course(peak / 25, peak, peak / 25 / 1e4), course(0.95, 0.85, 0.95)


def schedule(name: str, peak: float, updates: int) -> tuple[Floats, Floats]:
    """Learning rate and beta1 of every update, as `training.schedules.schedule` has them. ValueError for an unknown name."""
    check_known("schedule", name, SCHEDULES)
    if name == FINE_TUNE:
        raise ValueError(f"schedule {name!r} has several rates at a time: allowed are one_cycle, constant")
    if name == "constant":
        return np.full(updates, peak), np.full(updates, 0.9)
    return one_cycle(peak, updates)


@dataclass(frozen=True)
class Trajectory:
    """The shift after every update."""

    shifts: Floats
    """(U,) the last class's shift minus the first's, in nats; one sigmoid logit's shift is its own"""
    rates: Floats
    """(U,) the shifts' learning rate at every update"""

    @property
    def shift(self) -> float:
        """The shift after training."""
        return float(self.shifts[-1]) if len(self.shifts) else 0.0

    @property
    def S(self) -> float:
        """The sum of the shifts' learning rates over all updates."""
        return float(self.rates.sum())


@functools.lru_cache(1024)
def simulate(
    learning_rate: float,
    updates: int,
    counts: tuple[int, ...] = (1000, 10),
    *,
    optimizer: str = "adam",
    schedule_name: str = "one_cycle",
    shift_rate: float = 1.0,
    one_logit: bool = False,
) -> Trajectory:
    """Train the shifts of C classes alone, all logits equal but for them, on the class shares of `counts` (C,).

    The gradient is the expected one of cross-entropy, softmax(b) - pi; with `one_logit` (two classes) that of a sigmoid,
    sigmoid(b) - pi of the last class. `shift_rate` multiplies the rate. AdamW is Adam here, since shifts do not decay.
    ValueError for an unknown optimiser or schedule, and for one logit over more than two classes.
    """
    check_known("optimizer", optimizer, OPTIMIZERS)
    if one_logit and len(counts) != 2:
        raise ValueError(f"one sigmoid logit is for two classes: found {len(counts)}")
    shares = np.asarray(counts, dtype=float) / np.sum(counts)
    rates, betas = schedule(schedule_name, learning_rate, updates)
    rates = rates * shift_rate
    b = np.zeros(1 if one_logit else len(shares))
    moments, variances, shifts = np.zeros_like(b), np.zeros_like(b), np.empty(updates)
    for step, (rate, beta1) in enumerate(zip(rates, betas), 1):
        gradient = _sigmoid(b) - shares[1:] if one_logit else _softmax(b) - shares
        if optimizer == "sgd":
            moments = MOMENTUM * moments + gradient
            b = b - rate * moments
        else:  # torch corrects the bias by the beta1 of the moment, though it varies
            moments = beta1 * moments + (1 - beta1) * gradient
            variances = BETA2 * variances + (1 - BETA2) * gradient**2
            spread = np.sqrt(variances / (1 - BETA2**step)) + EPS
            b = b - rate * (moments / (1 - beta1**step)) / spread
        shifts[step - 1] = b[-1] if one_logit else b[-1] - b[0]
    return Trajectory(shifts, rates)


def predicted(run: Run) -> Trajectory:
    """What the law says of a run's shifts, from its factors alone: neither images nor network matter.

    ValueError for a run without a trained shift behind batch statistics, and for another loss or sampling than those
    that the law is stated for.
    """
    if run.final_norm not in SHIFTED:
        raise ValueError(
            f"the law is about a trained shift ({', '.join(SHIFTED)}): found final norm {run.final_norm!r}"
        )
    usual = (run.loss, run.sampling, run.label_smoothing) == ("cross_entropy", "shuffle", 0)
    if not usual or run.output == "sigmoids":
        raise ValueError(
            "the law is about cross-entropy on shuffled images and labels as they are, softmax or one sigmoid logit: found "
            f"{run.output}, {run.loss}, {run.sampling}, label smoothing {run.label_smoothing:g}"
        )
    counts = training_counts(run)
    updates = run.updates or run.epochs * (sum(counts) // run.batch_size)
    return simulate(
        run.learning_rate,
        updates,
        counts,
        optimizer=run.optimizer,
        schedule_name=run.schedule,
        shift_rate=run.shift_rate,
        one_logit=run.output == "sigmoid",
    )


def predicted_zero(features: Floats, minority: NDArray[np.bool_]) -> float:
    """Where zero lies between the class means of the raw log-odds: 0 at the majority's mean, 1 at the minority's.

    Raw log-odds are those of a linear layer on features (n, F) that was trained behind a BatchNorm with Adam, read
    without it; `minority` (n,) says which training images are minority. Taken is that a batch's gradient is the sum of
    x - mean over its minority images alone, since a BatchNorm cancels what all images share, and that Adam divides the
    mean of these by their root mean square, feature by feature. That is the direction of the weights; their size cancels.
    What it leaves out: initial weights, the spread of the majority, and that a minority once told apart pulls less.
    NaN where no feature tells the classes apart.
    """
    x = np.asarray(features, float)
    deviations = x[minority] - x.mean(0)
    size = np.sqrt((deviations**2).mean(0))
    weights = np.divide(deviations.mean(0), size, out=np.zeros_like(size), where=size > 0)
    majority, rare = (weights @ x[which].mean(0) for which in (~minority, minority))
    return float(-majority / (rare - majority)) if rare > majority else float("nan")


def training_counts(run: Run) -> tuple[int, ...]:
    """Training images of every class, majority classes first, (C,)."""
    s = setting(run.setting)
    return (run.n_majority,) * s.majorities + (run.n_minority,) * s.minorities


def confidence(shift: float) -> float:
    """Mean confidence at training prevalence by the law: the sigmoid of the shift's size."""
    return float(_sigmoid(np.array(abs(shift))))


def _softmax(b: Floats) -> Floats:
    e = np.exp(b - b.max())
    return e / e.sum()


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))
