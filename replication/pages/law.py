"""The page of the law: what the layer does to the logits, the curve beside the runs, and what came of each prediction."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown

from replication.analysis import law
from replication.claims.claim import CONTRADICTED, NOT_ASSESSABLE, REPLICATED
from replication.claims.law import judge as law_judge
from replication.claims.law.judge import FAILED, NOT_RUN, PASSED, UNDECIDABLE, PredictionVerdict
from replication.claims.law.runs import PLANS
from replication.data.settings import names
from replication.pages import local
from replication.pages.first_updates import first_updates
from replication.pages.law_figures import curve
from replication.pages.names import arm_label, cell_label
from replication.pages.parameters import Parameters, parameters
from replication.pages.picture import Picture
from replication.pages.removed_zero import removed
from replication.pages.selection import HERE, published_rows
from replication.pages.style import SIGNS
from replication.pages.tables import folded, missing_html, shown, table_html
from replication.pages.words import number, rate_text, signed
from replication.run import CONFIRMATORY, Run
from replication.study.design import EXPLORATORY, Cell

TITLES = {
    "shift": "The size of the shift",
    "optimizer": "Other optimisers",
    "log_odds": "Mean log-odds",
    "mean_confidence": "Mean confidence",
    "rate_acts_through_shift": "The rate acts through the shift alone",
    "shift_rate": "A rate of its own for the shift",
    "batch_size": "Batch size at equal S",
    "sigmoid": "One sigmoid logit",
    "ratio_peak": "The ratio of the largest gain",
    "centred_features": "Centred features instead of the layer",
    "fixed_shift": "A fixed shift needs no tuning",
    "matched_positives": "Plain at as many positives",
    "removed_zero": "Where zero lies once the layer is removed",
    "two_majorities": "Two majority classes",
}
"""prediction -> what readers call it"""
_LIKE = {PASSED: REPLICATED, FAILED: CONTRADICTED, NOT_RUN: NOT_RUN, UNDECIDABLE: NOT_ASSESSABLE}
"""word -> the verdict whose shape and colour it has"""
FACTOR_WORDS = {
    "n_minority": "minority images:",
    "learning_rate": "rate",
    "batch_size": "batches of",
    "epochs": "epochs:",
    "times": "shift's own rate times",
}
"""first word of a check's level -> what readers see"""


@dataclass
class LawPage:
    """The law's page on the published results, or on the small CNN trained here if `seeds` asks for it."""

    parameters: Parameters

    @cached_property
    def outcomes(self) -> list[PredictionVerdict]:
        """Every prediction with what came of it; trained here, those that need the layer at four learning rates alone."""
        if self.parameters.seeds:
            settings, networks = (
                names(self.parameters.settings) or [HERE],
                names(self.parameters.networks) or ["simple_cnn"],
            )
            cells = [Cell(s, n, EXPLORATORY, self.parameters.seeds, ("default",)) for s in settings for n in networks]
            results = local.trained(PLANS["law_log_odds"], cells, self.parameters)
            return [law_judge.judge(id, results, cells) for id in ("shift", "log_odds", "mean_confidence")]
        return law_judge.outcomes(self.published)

    @cached_property
    def published(self) -> pd.DataFrame:
        """The published confirmatory rows of all settings that a prediction names."""
        rows = published_rows(law_judge.settings())
        if len(rows):
            kept = rows["readout"].isin(("as_trained", "bn_removed", "logit_adjusted")) & (rows["seed"] >= CONFIRMATORY)
            rows = rows[kept]
        return rows

    def removed(self) -> Picture | HTML:
        """Where zero lies once the layer is taken out, and what F1 that gives, as published."""
        return removed(self.published)

    def first_updates(self) -> Picture | HTML:
        """Recall of both classes over the first updates, as published."""
        return first_updates(self.published)

    def outcome(self, id: str) -> PredictionVerdict | None:
        """What came of one prediction; nothing where it is not looked at."""
        return next((o for o in self.outcomes if o.prediction.id == id), None)

    # --- text and tables -----------------------------------------------------------------------------

    def key_result(self) -> HTML:
        """The box atop the page."""
        here = (
            ""
            if not self.parameters.seeds
            else (
                f"<p class='local'><strong>Computed on this machine</strong>, {self.parameters.seeds} "
                f"seeds; not the published results.</p>"
            )
        )
        claim = (
            "Where there are two classes, only the layer's shifts can learn how rare one is. Adam moves them by about the "
            "learning rate per step, so the sum of the learning rates says how far the decision threshold ends up."
        )
        return HTML(
            f"<div class='key-result'><p class='claim'>{claim}</p>{here}<p class='answer'>{self._counts()}</p>"
            f"<p class='number'>{self.finding()}</p><p class='caveat'><strong>Caution.</strong> "
            "Exploration on apple and pepper leaves, cracks, skin and digits suggested the law. Its predictions were registered "
            "before the runs shown here, most of which use other images or other networks. Seeds vary only the split, the "
            "initial weights and the order.</p></div>"
        )

    def _counts(self) -> str:
        words = [o.word for o in self.outcomes]
        return " ".join(f"{_badge(word)} {words.count(word)} of {len(words)}" for word in _LIKE if word in words)

    def finding(self) -> str:
        """The one number, in words."""
        found = self.outcome("shift")
        if found is None or not found.judged:
            return "No shift has been measured yet."
        cells = len({(c.setting, c.network) for c in found.judged})
        inside = sum(bool(c.holds) for c in found.judged)
        return (
            f"The learned shift is within its margin in {inside} of {len(found.judged)} different levels measured ({cells} "
            f"{'cell' if cells == 1 else 'cells'}); the deviation is {number(found.mean_deviation, 3)} nats on average and "
            f"{number(found.largest_deviation, 3)} at most."
        )

    def predictions(self) -> HTML:
        """The table of predictions: what must be seen, and what came of it."""
        rows = pd.DataFrame(
            [
                {
                    "prediction": f"<strong>{TITLES[o.prediction.id]}.</strong> {o.prediction.statement}",
                    "outcome": _outcome(o)
                    + ("" if o.done == o.wanted else f"<br><small>{o.done:,} of {o.wanted:,} runs</small>"),
                    "what was found": said(o),
                    "rule": f"<small>{rule(o)}</small>",
                }
                for o in self.outcomes
            ]
        )
        caption = "Predictions registered before their runs, and what came of them; the CSV has every number"
        return shown(rows, caption, data=self.data())

    def data(self) -> pd.DataFrame:
        """Every number that a rule asked for."""
        return pd.DataFrame(
            [
                {
                    "prediction": o.prediction.id,
                    "setting": c.setting,
                    "network": c.network,
                    "what": c.what,
                    "S": c.S,
                    "expected": c.expected,
                    "found": c.observed,
                    "low": c.low,
                    "high": c.high,
                    "seeds": c.seeds,
                    "margin": c.margin,
                    "holds": "" if c.holds is None else c.holds,
                }
                for o in self.outcomes
                for c in o.checks
            ]
        )

    def details(self, id: str) -> HTML:
        """All checks of one prediction, folded."""
        found = self.outcome(id)
        if found is None or not found.checks:
            return folded(TITLES[id], "<p><em>Not run yet.</em></p>")
        rows = pd.DataFrame(
            [
                {
                    "images and network": cell_label((c.setting, c.network)),
                    "level": level(c.what),
                    "expected": number(c.expected, 3),
                    "found": number(c.observed, 3),
                    "interval": f"{number(c.low, 3)} to {number(c.high, 3)}",
                    "seeds": c.seeds,
                    "within the rule": {True: "yes", False: "no", None: "not judged"}[c.holds],
                }
                for c in found.checks
            ]
        )
        return folded(f"{TITLES[id]}: every level", table_html(rows, TITLES[id], sortable=True))

    # --- figures -------------------------------------------------------------------------------------

    def curve(self) -> Picture | HTML:
        """The simulated shift over S, and the shifts of all runs."""
        checks = [
            c
            for id in ("shift", "optimizer", "shift_rate")
            if (o := self.outcome(id))
            for c in o.checks
            if not c.what.startswith("sgd")
        ]
        if not checks:
            return missing_html("No figure yet: no run with a learned shift is published.")
        text = (
            "Up to S = 2.5 the learned shift lies on the curve that was simulated from the learning rates alone; the rule says "
            f"nothing of larger sums. {self.finding()}"
        )
        data = pd.DataFrame(
            [
                {
                    "setting": c.setting,
                    "network": c.network,
                    "level": c.what,
                    "S": c.S,
                    "simulated": c.expected,
                    "found": c.observed,
                    "seeds": c.seeds,
                }
                for c in checks
            ]
        )
        return Picture(
            curve(checks),
            f"{text} Line: the simulation at 1000:10, batches of 64, 10 epochs; nothing is fitted. "
            "Markers: means over seeds.",
            text,
            data,
        )


def open_law(namespace: Mapping[str, object]) -> LawPage:
    """The notebook's first call: check its parameters, read or train the results."""
    return LawPage(parameters(namespace))


def _badge(word: str, said: str = "") -> str:
    like = _LIKE[word]
    shape = f'<span aria-hidden="true">{SIGNS[like]}</span> '
    return f'<span class="verdict verdict-{like.replace(" ", "-")}">{shape}{said or word}</span>'


def _outcome(o: PredictionVerdict) -> str:
    """The badge of a prediction; what lacks runs and has not failed so far is called incomplete."""
    unfailed = o.word == NOT_RUN and o.judged and all(c.holds for c in o.judged)
    return _badge(o.word, "incomplete, none failed" if unfailed else "")


def level(what: str) -> str:
    """A check's level for readers: arms and factors by their names."""
    text = re.sub(r"(\w+) · (\w+)", lambda m: arm_label(m[1] if m[2] == "as_trained" else m[0]), what)
    text = re.sub(r"^(times \S+) ", r"\1, rate ", text)
    return re.sub(r"^\w+", lambda m: FACTOR_WORDS.get(m[0], m[0]), text)


def rule(o: PredictionVerdict) -> str:
    """The registered rule of a prediction, spelt out where it names another's."""
    text = o.prediction.rule
    return law_judge.prediction("shift").rule if text == "as `shift`" else text


def said(o: PredictionVerdict) -> str:
    """What was found, in a sentence."""
    if o.prediction.id == "ratio_peak":
        return "Cannot be judged: the law says how the layer's F1 depends on the ratio, but the gain also depends on plain's F1."
    if not o.judged:
        return "Nothing yet."
    held = sum(bool(c.holds) for c in o.judged)
    far = o.largest
    where = f"{cell_label((far.setting, far.network))}, {level(far.what)}"
    missed = o.word == FAILED or held < len(o.judged)
    lead = "Nearest to its margin" if not missed else "Clearest failure"
    return (
        f"{held} of {len(o.judged)} checks hold; mean deviation {number(o.mean_deviation, 3)}. {lead}: {where}: "
        f"{signed(far.deviation, 3)} (margin {number(far.margin)}; interval of what was found {number(far.low, 3)} to "
        f"{number(far.high, 3)}, expected {number(far.expected, 3)})."
    )


def told(
    learning_rate: float, epochs: int = 10, batch_size: int = 64, n_minority: int = 10, optimizer: str = "adam"
) -> Markdown:
    """What the law says of a training of one's own, in words: 1000 majority images, one-cycle schedule."""
    run = Run(
        final_norm="bn",
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        n_minority=n_minority,
        optimizer=optimizer,
    )
    found, prior = law.predicted(run), np.log(n_minority / run.n_majority)
    return Markdown(
        f"With {optimizer} at a peak rate of {rate_text(learning_rate)}, {epochs} epochs and batches of {batch_size} there are "
        f"{len(found.shifts)} updates, and the rates sum to S = {number(found.S)}. The shift ends at **{number(found.shift)}** "
        f"nats; the log prior is {number(prior)}. Mean confidence at training prevalence is then "
        f"{number(law.confidence(found.shift))}."
    )
