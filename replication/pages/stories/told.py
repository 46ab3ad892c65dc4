"""The pages by name: each with its question, its key figure, its findings and its caveat."""

from collections.abc import Callable
from dataclasses import dataclass

from replication.pages.stories import curves, epochs, outputs, pair, parts, probabilities, rates


@dataclass(frozen=True)
class Story:
    """One page: how it opens and what it finds."""

    figure: Callable
    """page -> its key figure; Missing where no cell has all its runs"""
    found: Callable
    """page -> Markdown lines; Missing where no cell has all its runs"""
    caveat: str = ""
    question: str = ""
    """what a page asks that judges no claim"""


_UNIT = 'Minority F1 rewards saying "minority": always saying it scores 0.67 on a balanced test set of two classes.'


def story(name: str) -> Story:
    """What the page of that name shows and says; one without an entry has the pair's figure and lines."""
    return STORIES.get(name, Story(pair.hero, pair.lines))


STORIES: dict[str, Story] = {
    "base": Story(
        pair.hero, pair.base, f"{_UNIT} Look at macro F1, and at plain with adjusted logits, which costs nothing."
    ),
    "removal": Story(
        pair.removal_figure,
        pair.removal,
        f"{_UNIT} The figure shows macro F1, where always saying minority scores 0.33.",
    ),
    "ratio": Story(
        lambda page: curves.curve_picture(page, "minority varied", "minority images beside 1000 majority images"),
        curves.ratio,
        "The number of updates is constant along the curve only where the majority is fixed.",
    ),
    "batch_size": Story(
        lambda page: curves.curve_picture(page, "equal epochs", "batch size, 10 epochs"),
        curves.batch_size,
        "No design varies the batch size alone: at equal epochs the number of updates changes too.",
    ),
    "generality": Story(
        pair.hero, pair.generality, f"{_UNIT} A gain from an F1 of 0 may mean no more than saying minority at all."
    ),
    "majorities": Story(
        outputs.majorities_figure,
        outputs.majorities,
        "Always naming one minority class scores 0.67 with one majority class and 0.50 with two.",
    ),
    "sigmoid": Story(
        outputs.sigmoid_figure,
        outputs.sigmoid,
        "A sigmoid output may mean one logit, which is judged, or one per class, which is shown beside it.",
    ),
    "confidence": Story(
        probabilities.confidence_figure,
        probabilities.confidence,
        "Confidence and loss are taken at training prevalence, 1 % minority. On a balanced set they may differ.",
    ),
    "loss_choice": Story(
        probabilities.loss_choice_figure,
        probabilities.loss_choice,
        "Which epoch has the least loss depends on the minority share at which the loss is taken. The figure shows two.",
    ),
    "training_time": Story(
        epochs.training_time_figure,
        epochs.training_time,
        "We do not know the papers' measure. The target, a validation F1 of 0.8, is ours.",
    ),
    "mechanism": Story(
        lambda page: pair.rows_picture(page, parts.NORM_ARMS),
        parts.mechanism,
        question="A final BatchNorm centres the logits, scales them, and trains a scale and a shift. Which part does it?",
    ),
    "remedies": Story(
        lambda page: pair.rows_picture(page, parts.REMEDY_ARMS),
        parts.remedies,
        question="There are older remedies for imbalance. How does the layer compare, and does it add to them?",
    ),
    "controls": Story(
        pair.hero,
        pair.controls,
        question="How much of a result on leaves is the leaf, and how much its background or a neighbouring photograph?",
    ),
    "performance": Story(
        pair.hero, pair.lines, question="What does a replication with ten or more seeds in every cell cost?"
    ),
    "rate_profile": Story(rates.profile, pair.lines, question="What does the layer do at every learning rate?"),
}
