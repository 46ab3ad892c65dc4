"""The whole in one paragraph, for the front page: what the law and its remedy have shown, and what they have not."""

from IPython.display import Markdown

from replication.claims.law.judge import FAILED, NOT_RUN, PASSED, UNDECIDABLE
from replication.claims.law.rules import LARGEST_S
from replication.pages.law import TITLES, LawPage
from replication.pages.parameters import Parameters
from replication.pages.tuning import TuningPage
from replication.pages.words import listed, number


def statement(law: LawPage | None = None, tuning: TuningPage | None = None) -> Markdown:
    """The paragraph, computed from published results; it claims only what passed, and names what failed."""
    law, tuning = law or LawPage(Parameters()), tuning or TuningPage(Parameters())
    return Markdown(" ".join(filter(None, (_shift(law), _predictions(law), _remedy(tuning)))))


def _shift(law: LawPage) -> str:
    found = law.outcome("shift")
    if found is None or not found.judged:
        return "Why the layer acts as it does is not known yet: no shift has been measured."
    held, cells = sum(bool(c.holds) for c in found.judged), {(c.setting, c.network) for c in found.judged}
    return (
        "By the law of this book, with two classes only the shifts of a final BatchNorm learn how rare a class is, and for a "
        f"given optimiser the sum S of the learning rates sets how far they move. Up to S = {LARGEST_S:g}, to which the rule "
        f"applies, the learned shift is within its margin in {held} of {len(found.judged)} different levels measured, in "
        f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'} ({number(found.mean_deviation, 3)} nats off on average, "
        f"nothing fitted; {found.done:,} of {found.wanted:,} runs)."
    )


def _predictions(law: LawPage) -> str:
    words = {PASSED: "passed", FAILED: "failed", NOT_RUN: "lack runs", UNDECIDABLE: "cannot be judged by the rule"}
    by_word = {word: [_small(TITLES[o.prediction.id]) for o in law.outcomes if o.word == word] for word in words}
    told = [f"{len(names)} {words[word]} ({', '.join(names)})" for word, names in by_word.items() if names]
    return f"Of {len(law.outcomes)} predictions registered before their runs, {listed(told)}."


def _remedy(tuning: TuningPage) -> str:
    if not tuning.contests:
        return ""
    good = sum(c.noninferior for c in tuning.contests)
    cells = {(c.setting, c.network) for c in tuning.contests}
    bad = {(c.setting, c.network) for c in tuning.contests if not c.noninferior}
    text = (
        f"With its shift fixed at −0.4 and nothing tuned, the layer is shown to be within 0.05 macro F1 of the best tuned "
        f"remedy in {good} of {len(tuning.contests)} comparisons (two rates a cell)"
    )
    return text + (f"; in {len(bad)} of {len(cells)} cells not at both." if bad else ".")


def _small(title: str) -> str:
    return title[0].lower() + title[1:]
