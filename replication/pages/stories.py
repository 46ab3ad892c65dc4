"""What each page leads with and tells: its key figure, its findings as computed sentences, and its caveat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from IPython.display import HTML

from replication.claims import registry
from replication.claims.base import CLAIMED_F1, CLAIMED_GAIN
from replication.claims.loss_choice import at_least_loss
from replication.claims.majorities import VARIANTS
from replication.claims.tiers import tier
from replication.claims.training_time import CAP_EPOCHS, epochs_to_target
from replication.pages import figures
from replication.pages.names import arm_label, cell_label
from replication.pages.picture import Picture
from replication.pages.selection import (
    Missing,
    Selection,
    names,
    pilots,
    published_rows,
)
from replication.pages.style import look
from replication.pages.tables import difference_rows, shown
from replication.pages.words import estimate, number, signed
from replication.results.frame import values
from replication.study.design import PAIR, Cell

REMOVED, ADJUSTED = "final_bn · bn_removed", "plain · logit_adjusted"
HERO = ("plain", "final_bn", REMOVED, ADJUSTED)
"""the four readings that most pages compare"""


@dataclass(frozen=True)
class Story:
    """One page: how it opens and what it finds."""

    question: str
    caveat: str
    figure: Callable
    """page -> its key figure; Missing where no cell has all its runs"""
    found: Callable
    """page -> Markdown lines; Missing likewise"""


def _gain(page, cell: Cell, **where) -> np.ndarray:
    part = page.part(cell=cell, **(page.where | where))
    return values(part, "final_bn") - values(part, "plain")


def _whole(page, **where) -> list[Cell]:
    cells = page.leading(**(page.where | where))
    if not cells:
        raise Missing(page.selection.open(**(page.where | where)) or "nothing is planned here")
    return cells


def _scores(page, cell: Cell, metric: str = "f1_minority") -> str:
    found = [
        f"{arm_label(name)} {value}" for name in HERO if (value := page.mean(name, metric, cell)) != "not recorded"
    ]
    return ", ".join(found)


def _pair_story(page) -> list[str]:
    lines = []
    for cell in _whole(page):
        auc = page.contrast("final_bn", metric="roc_auc", cell=cell)
        lines.append(
            f"- **{cell_label(cell)}** (tier *{tier(cell)}*). Minority F1 goes from {page.contrast('final_bn', cell=cell)}. "
            f"All readings, minority F1: {_scores(page, cell)}; macro F1: {_scores(page, cell, 'f1_macro')}. "
            f"The ROC AUC, which no threshold moves, goes from {auc}."
        )
    return lines


def _base(page) -> list[str]:
    low, high = CLAIMED_F1
    return [
        f"The papers report {low} without the layer and {high} with it, a gain of {CLAIMED_GAIN}, for a fine-tuned VGG-19.",
        "",
        *_pair_story(page),
    ]


def _hero(page) -> Picture:
    return page.ladder(HERO, cells=_whole(page))


def _removal(page) -> list[str]:
    lines = []
    for cell in _whole(page):
        lines.append(
            f"- **{cell_label(cell)}** (tier *{tier(cell)}*). Without the layer minority F1 goes from "
            f"{page.contrast(REMOVED, 'final_bn', cell=cell)}; from plain to the network without its layer it goes from "
            f"{page.contrast(REMOVED, cell=cell)}. Balanced accuracy, 0.5 for saying one class only: "
            f"{_scores(page, cell, 'balanced_accuracy')}. Macro F1: {_scores(page, cell, 'f1_macro')}."
        )
    return lines


def _removal_figure(page) -> Picture:
    return page.ladder(("plain", "final_bn", REMOVED), "f1_macro", cells=_whole(page))


def _at_least_loss(part: pd.DataFrame, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """What `at_least_loss` gives; Missing where the runs were published without their scores by epoch."""
    try:
        return at_least_loss(part, loss)
    except KeyError as error:
        raise Missing(f"scores by epoch were {error.args[0].partition('was ')[2]} of these runs") from None


def _levels(page, cell: Cell, variant: str) -> dict[float, float]:
    part = page.part(cell=cell, variant=variant)
    return {n: float(_gain(page, cell, variant=variant, level=n).mean()) for n in sorted(part["level"].unique())}


def curve_picture(page, variant: str, label: str, cell: Cell | None = None, rate: str = "own") -> Picture:
    """The arms' F1 and the gain over the levels of a variant in one cell; Missing where runs are."""
    cell = cell or page.lead
    part = page.part(rate, cell, variant=variant)
    arms = [name for name in ("plain", "final_bn", ADJUSTED) if name.partition(" · ")[0] in set(part["arm"])]
    means = {
        n: float((values(part, "final_bn", level=n) - values(part, "plain", level=n)).mean())
        for n in sorted(part["level"].unique())
    }
    best, least = max(means, key=means.get), min(means, key=means.get)
    finding = (
        f"{cell_label(cell)}: the mean gain is largest at {best:g} ({signed(means[best])}) and smallest at {least:g} "
        f"({signed(means[least])})."
    )
    text = f"{finding} Top: minority F1 with 95 % intervals; bottom: the gain, every seed a dot. Shaded: smaller than 0.05."
    return Picture(figures.curve(part, variant, label, arms), text, finding)


def _curve_story(page, variants: dict[str, str]) -> list[str]:
    lines = []
    for cell in page.leading(variant=next(iter(variants))) or _whole(page):
        for variant, words in variants.items():
            if page.selection.has(cell, variant=variant):
                means = ", ".join(f"{n:g}: {signed(v)}" for n, v in _levels(page, cell, variant).items())
                lines.append(f"- **{cell_label(cell)}** (tier *{tier(cell)}*). Mean gain {words}: {means}.")
    return lines


def _ratio(page) -> list[str]:
    return _curve_story(
        page,
        {
            "minority varied": "by minority images beside 1000 majority images",
            "majority varied": "by majority images beside 10 minority images (fewer images also mean fewer updates)",
        },
    )


def _batch(page) -> list[str]:
    lines = _curve_story(
        page,
        {
            "equal epochs": "by batch size at 10 epochs (judged; larger batches make fewer updates)",
            "equal updates": "by batch size at 150 updates (beside it; larger batches see more epochs)",
        },
    )
    for cell in page.leading(variant="equal updates"):
        levels = sorted(page.part(cell=cell, variant="equal updates")["level"].unique())
        f1 = {n: page.mean("final_bn", cell=cell, variant="equal updates", level=n) for n in (levels[0], 64)}
        lines.append(
            f"- **{cell_label(cell)}**. At equal updates minority F1 with the layer itself is "
            + " and ".join(f"{v} at batch {n:g}" for n, v in f1.items())
            + ". No cause is read out of the comparison of gains."
        )
    return lines


def _majorities(page) -> list[str]:
    lines = []
    for cell in _whole(page, variant=VARIANTS[0]):
        one, two = (page.contrast("final_bn", cell=cell, variant=VARIANTS[0], level=k) for k in (1, 2))
        lines.append(
            f"- **{cell_label(cell)}** (tier *{tier(cell)}*). One minority class, majority images fixed in total: "
            f"minority F1 goes from {one} with one majority class and from {two} with two."
        )
    return lines


def _majorities_figure(page) -> Picture:
    rows, words = [], []
    for cell in _whole(page, variant=VARIANTS[0]):
        for k in (1, 2):
            d = _gain(page, cell, variant=VARIANTS[0], level=k)
            rows.append(
                (
                    f"{cell_label(cell)}: {'one majority class' if k == 1 else 'two majority classes'}",
                    d,
                    look("final_bn"),
                )
            )
            words.append(f"{signed(d.mean())} with {'one' if k == 1 else 'two'}")
    finding = (
        f"Gain in minority F1: {cell_label(_whole(page, variant=VARIANTS[0])[0])}: "
        f"{' and '.join(words[:2])} majority classes."
    )
    return Picture(
        figures.contrasts(rows, "gain in minority F1"),
        f"{finding} Every dot is a seed. Shaded: smaller than 0.05.",
        finding,
    )


OUTPUTS = (("softmax", ""), ("one sigmoid logit", "_sigmoid"), ("one sigmoid per class", "_sigmoids"))


def _sigmoid(page) -> list[str]:
    lines = []
    for cell in _whole(page):
        words = [f"from {page.contrast(f'final_bn{o}', f'plain{o}', cell=cell)} with {label}" for label, o in OUTPUTS]
        lines.append(f"- **{cell_label(cell)}** (tier *{tier(cell)}*). Minority F1 goes {'; '.join(words)}.")
    return lines


def _sigmoid_figure(page) -> Picture:
    rows, words = [], []
    for cell in _whole(page)[:3]:
        part = page.part(cell=cell)
        for label, o in OUTPUTS:
            d = values(part, f"final_bn{o}") - values(part, f"plain{o}")
            rows.append((f"{cell_label(cell)}: {label}", d, look(f"final_bn{o}")))
            words.append(f"{signed(d.mean())} with {label}")
    finding = f"Gain in minority F1, {cell_label(_whole(page)[0])}: {', '.join(words[:3])}."
    return Picture(
        figures.contrasts(rows, "gain in minority F1"),
        f"{finding} Every dot is a seed. Shaded: smaller than 0.05.",
        finding,
    )


def _confidence(page) -> list[str]:
    return [
        f"- **{cell_label(cell)}** (tier *{tier(cell)}*). At training prevalence mean confidence goes from "
        f"{page.contrast('final_bn', metric='confidence_train', cell=cell)} and the NLL from "
        f"{page.contrast('final_bn', metric='nll_train', cell=cell)}. On the balanced test set the NLL goes from "
        f"{page.contrast('final_bn', metric='nll', cell=cell)} and the Brier score from "
        f"{page.contrast('final_bn', metric='brier', cell=cell)}."
        for cell in _whole(page)
    ]


def _confidence_figure(page) -> Picture:
    return page.ladder(PAIR, "confidence_train", cells=_whole(page))


def _loss(page) -> list[str]:
    lines = []
    for cell in _whole(page):
        part = page.part(cell=cell)
        for name, words in (
            ("validation_nll", "the validation images' own prevalence"),
            ("validation_nll_train", "training prevalence"),
        ):
            d, epoch = _at_least_loss(part, name)
            lines.append(
                f"- **{cell_label(cell)}** (tier *{tier(cell)}*). Stopping at the epoch of least loss, at {words} "
                f"(on average epoch {epoch.mean():.1f}), changes minority F1 by {estimate(d)}."
            )
    return lines


def _loss_figure(page) -> Picture:
    rows, words = [], []
    for cell in _whole(page):
        for name, label in (
            ("validation_nll", "validation images' prevalence"),
            ("validation_nll_train", "training prevalence"),
        ):
            d = _at_least_loss(page.part(cell=cell), name)[0]
            rows.append((f"{cell_label(cell)}: {label}", d, look("final_bn")))
            words.append(f"{signed(d.mean())} by loss at {label}")
    finding = (
        f"Stopping at the least validation loss changes minority F1, {cell_label(_whole(page)[0])}: "
        f"{' and '.join(words[:2])}."
    )
    label = "F1 at the epoch of least loss minus F1 at the end"
    return Picture(figures.contrasts(rows, label), f"{finding} Shaded: smaller than 0.05.", finding)


def _timed(page) -> Cell:
    cells = page.leading(level=CAP_EPOCHS)
    if not cells:
        raise Missing(page.selection.open(level=CAP_EPOCHS))
    return page.lead if page.lead in cells else cells[0]


def _hitting(page) -> dict[str, np.ndarray]:
    return {arm: epochs_to_target(page.part(cell=_timed(page)), arm) for arm in PAIR}


def _time(page) -> list[str]:
    hit, words = _hitting(page), []
    for arm, epochs in hit.items():
        median = np.median(np.nan_to_num(epochs, nan=np.inf))
        reached = f"{median:g} epochs" if np.isfinite(median) else f"more than {CAP_EPOCHS} epochs"
        words.append(f"{arm_label(arm)}: median {reached}, {np.isnan(epochs).mean():.0%} never reached it")
    return [
        f"{cell_label(_timed(page))}: "
        + "; ".join(words)
        + f". The mean counts a run that never reached it as {CAP_EPOCHS} epochs, so it depends on that cap; the medians do not."
    ]


def _time_figure(page) -> Picture:
    hit = _hitting(page)
    means = {arm: np.nan_to_num(epochs, nan=CAP_EPOCHS).mean() for arm, epochs in hit.items()}
    finding = (
        f"{cell_label(_timed(page))}: a validation F1 of 0.8 takes {number(means['plain'], 0)} epochs without the layer and "
        f"{number(means['final_bn'], 0)} with it on average, capped at {CAP_EPOCHS}."
    )
    return Picture(
        figures.reached(hit, CAP_EPOCHS), f"{finding} Share of runs that have reached it by each epoch.", finding
    )


def rows_picture(page, arms: Sequence[str]) -> Picture:
    """Minority and majority F1 of some arms, or of `arm · readout`, in the lead cell; Missing where runs are."""
    part, here = page.part(), page.among(*arms)
    if not here:
        raise Missing(f"none of these arms was run on {cell_label(page.lead)}")
    f1 = ", ".join(f"{arm_label(name)} {page.mean(name)}" for name in here)
    finding = f"{cell_label(page.lead)}, minority F1: {f1}."
    text = f"{finding} Filled: minority F1; open: majority F1. Dotted: always saying minority."
    return Picture(figures.arms(part, here), text, finding)


NORM_ARMS = ("plain", "affine", "mean_only", "bn_no_affine", "layer_norm", "bn_before", "final_bn_slow", "final_bn")
REMEDIES = ("class_weighted", "focal", "logit_adjusted_loss", "oversample")
REMEDY_ARMS = (
    "plain",
    ADJUSTED,
    "final_bn",
    "final_bn · logit_adjusted",
    *(f"{norm}_{r}" for r in REMEDIES for norm in PAIR),
)


def _mechanism(page) -> list[str]:
    words = (
        ("mean_only", "Centring alone"),
        ("bn_no_affine", "Normalising without scale and shift"),
        ("affine", "Scale and shift alone"),
        ("final_bn", "The whole layer"),
    )
    page.part()
    return [f"- {text} takes minority F1 from {page.contrast(arm)}." for arm, text in words if page.among(arm)]


def _remedies(page) -> list[str]:
    page.part()
    lines = [
        f"- Adjusting plain's logits after training, which costs nothing, takes minority F1 from {page.contrast(ADJUSTED)}.",
        f"- From there to the layer it goes from {page.contrast('final_bn', ADJUSTED)}.",
    ]
    if page.among("final_bn · logit_adjusted"):
        both = page.contrast("final_bn · logit_adjusted", "final_bn")
        lines.append(
            f"- Both at once shift the threshold twice: from the layer to the layer with adjusted logits F1 goes from {both}."
        )
    return lines


def _controls(page) -> list[str]:
    lines = []
    for cell in _whole(page):
        lines.append(
            f"- **{cell_label(cell)}**: ROC AUC of plain {page.mean('plain', 'roc_auc', cell)}; minority F1 goes from "
            f"{page.contrast('final_bn', cell=cell)}."
        )
    return lines


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


def reliability_picture(page) -> Picture:
    """How often predictions are right by confidence, in the lead cell; Missing where no test predictions were kept."""
    pooled = page.confidences()
    words = "; ".join(
        f"{arm_label(arm)}: mean confidence {number(c.mean())}, right {number(right.mean())}"
        for arm, (c, right) in pooled.items()
    )
    finding = f"{cell_label(page.lead)}, balanced test: {words}."
    text = f"{finding} Top: share of right predictions by confidence (bins of 20 or more); bottom: how confident predictions are."
    return Picture(figures.reliability(pooled), text, finding)


def trajectory_picture(page) -> Picture:
    """Loss and F1 by epoch in the lead cell."""
    part = page.part()
    epoch = {arm: int(np.median([np.nanargmin(v) + 1 for v in values(part, arm, "validation_nll")])) for arm in PAIR}
    finding = (
        f"{cell_label(page.lead)}: the validation loss is least at epoch {epoch['plain']} without and {epoch['final_bn']} "
        "with the layer (medians)."
    )
    return Picture(
        figures.trajectories(part), f"{finding} Seeds thin, medians thick. Dotted: always saying minority.", finding
    )


def forms(page) -> HTML:
    """Other forms of the layer against the judged one, in every cell that has them."""
    rows = [
        {"images and network": cell_label(cell), **row}
        for cell in page.selection.whole(variant="forms", level=10)
        for part in [page.part(cell=cell, level=10)]
        for row in difference_rows(part, [("final_bn_slow", "final_bn"), ("bn_before", "final_bn")])
    ]
    caption = "Minority F1: other forms of the layer against the judged one"
    return (
        shown(pd.DataFrame(rows), caption)
        if rows
        else HTML("<p class='missing'><em>Other forms were not run here.</em></p>")
    )


def profile(page) -> Picture:
    """Minority F1 against the learning rate on the page's images: confirmatory seeds where run, never trained by a page."""
    settings, networks = names(page.asked.settings), names(page.asked.networks)
    planned = [
        c
        for c in registry.plan("rate_profile").cells
        if (not settings or c.setting in settings) and (not networks or c.network in networks)
    ]
    if not planned:
        raise Missing("no rate profile is planned for these images and networks")
    selection = Selection(registry.plan("rate_profile"), planned, published_rows(tuple({c.setting for c in planned})))
    whole = selection.whole("default")
    if not whole:
        raise Missing(f"the rate profile is not run yet ({selection.open(rate='default')})")
    cell, part = next(iter(whole.items()))
    return _rates_picture(part, cell_label(cell), "confirmatory seeds")


def pilot_picture(setting: str, network: str, arms: tuple[str, ...] = ("plain", "final_bn", ADJUSTED)) -> Picture:
    """The same from the published pilots, which chose the rates; Missing where there are none."""
    part = pilots([name.partition(" · ")[0] for name in arms], setting, network)
    return _rates_picture(part, cell_label((setting, network)), "pilot seeds", arms)


def _rates_picture(part, label: str, seeds: str, arms: tuple[str, ...] = HERO) -> Picture:
    levels = sorted(part["level"].unique())
    shown = [a for a in arms if any(figures.scores(part, a, level=n) is not None for n in levels)]
    best = {a: max((d.mean(), n) for n in levels if (d := figures.scores(part, a, level=n)) is not None) for a in shown}
    words = ", ".join(f"{arm_label(a)} {number(v)} at {n:g}" for a, (v, n) in best.items())
    finding = f"{label}: best mean minority F1 over the learning rates: {words}."
    return Picture(
        figures.rates(part, shown),
        f"{finding} Every dot is one of the {seeds}. Dotted: always saying minority.",
        finding,
    )


_UNIT = 'Minority F1 rewards saying "minority": always saying it scores 0.67 on a balanced test of two classes.'


def story(name: str) -> Story:
    """What the page of that name shows and tells of itself; one without an entry has the pair's figure and lines."""
    return STORIES.get(name, Story("", "", _hero, _pair_story))


STORIES: dict[str, Story] = {
    "base": Story(
        "", f"{_UNIT} Look at macro F1 and at plain with adjusted logits, which costs nothing.", _hero, _base
    ),
    "removal": Story("", f"{_UNIT} The figure shows macro F1, for which it scores 0.33.", _removal_figure, _removal),
    "ratio": Story(
        "",
        "The number of updates is the same along the curve only where the majority is fixed.",
        lambda page: curve_picture(page, "minority varied", "minority images beside 1000 majority images"),
        _ratio,
    ),
    "batch_size": Story(
        "",
        "No design varies the batch size and nothing else: at equal epochs the number of updates changes too.",
        lambda page: curve_picture(page, "equal epochs", "batch size, 10 epochs"),
        _batch,
    ),
    "generality": Story(
        "", f"{_UNIT} A gain from an F1 of 0 may be no more than saying minority at all.", _hero, _pair_story
    ),
    "majorities": Story(
        "",
        "Always naming one minority class scores 0.67 with one majority class and 0.50 with two.",
        _majorities_figure,
        _majorities,
    ),
    "sigmoid": Story(
        "",
        "A sigmoid output may mean one logit, which is judged, or one per class, which stands beside it.",
        _sigmoid_figure,
        _sigmoid,
    ),
    "confidence": Story(
        "",
        "Confidence and loss are taken at training prevalence, 1 % minority; at balance they may differ.",
        _confidence_figure,
        _confidence,
    ),
    "loss_choice": Story(
        "",
        "Which loss is least depends on the prevalence it is taken at; both stand in the figure.",
        _loss_figure,
        _loss,
    ),
    "training_time": Story(
        "", "The papers' measure is not known to us; the target, a validation F1 of 0.8, is ours.", _time_figure, _time
    ),
    "mechanism": Story(
        "A final BatchNorm centres the logits, scales them, and trains a scale and a shift. Which part does it?",
        "",
        lambda page: rows_picture(page, NORM_ARMS),
        _mechanism,
    ),
    "remedies": Story(
        "Imbalance has older remedies. How does the layer compare, and does it add to them?",
        "",
        lambda page: rows_picture(page, REMEDY_ARMS),
        _remedies,
    ),
    "controls": Story(
        "How much of a leaf result is leaf, and how much its background or a neighbouring photograph?",
        "",
        _hero,
        _controls,
    ),
    "performance": Story("What does a replication with ten or more seeds in every cell cost?", "", _hero, _pair_story),
    "rate_profile": Story("What does the layer do at every learning rate?", "", profile, _pair_story),
}
