"""The base pair: a network with and without the layer, read as trained, without its layer, and with adjusted logits."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import HTML

from replication.claims.beyond import fastai_recipe
from replication.claims.judge import plan_frame
from replication.claims.papers.base import CLAIMED_F1, CLAIMED_GAIN
from replication.claims.tiers import explored, tier
from replication.pages import figures
from replication.pages.names import METRICS, arm_label, cell_label, cell_phrase
from replication.pages.picture import Picture
from replication.pages.selection import Missing, published_rows
from replication.pages.tables import difference_rows, missing_html, shown
from replication.pages.words import number
from replication.results.frame import complete as complete_rows
from replication.results.frame import seeds, seeds_done, values
from replication.study.design import Cell

REMOVED, ADJUSTED = "final_bn · bn_removed", "plain · logit_adjusted"
HERO = ("plain", "final_bn", REMOVED, ADJUSTED)
"""the four predictors that most pages compare"""
RECIPE = ("plain", "final_bn_slow", "final_bn_slow · bn_removed", ADJUSTED)
"""the same after fastai's recipe, whose layer has a momentum of its own"""


def gain(page, cell: Cell, **where) -> np.ndarray:
    """The gain of every seed (n,) in a cell."""
    part = page.part(cell=cell, **(page.where | where))
    return values(part, "final_bn") - values(part, "plain")


def complete(page, **where) -> list[Cell]:
    """The leading cells that have all their runs; Missing where there is none."""
    cells = page.leading(**(page.where | where))
    if not cells:
        raise Missing(page.selection.open(**(page.where | where)) or "nothing is planned here")
    return cells


def opening(cell: Cell) -> str:
    """How a line about a cell begins."""
    phrase = cell_phrase(cell)
    seen = ", explored beforehand" if cell.version and explored(cell) else ""
    return f"- **{phrase[0].upper()}{phrase[1:]}** (tier *{tier(cell)}*{seen})."


def scores(page, cell: Cell, metric: str = "f1_minority") -> str:
    """The mean score of each of the four predictors that was recorded, as words."""
    found = [
        f"{arm_label(name)} {value}{page.collapsed(name, cell) if metric == 'f1_minority' else ''}"
        for name in HERO
        if (value := page.mean(name, metric, cell)) != "not recorded"
    ]
    return ", ".join(found)


def lines(page) -> list[str]:
    """The pair in every leading cell."""
    return [
        f"{opening(cell)} The layer takes minority F1 from {page.contrast('final_bn', cell=cell)}. "
        f"Mean minority F1: {scores(page, cell)}. Mean macro F1: {scores(page, cell, 'f1_macro')}. "
        f"ROC AUC, which no threshold changes, goes from {page.contrast('final_bn', metric='roc_auc', cell=cell)}."
        for cell in complete(page)
    ]


def generality(page) -> list[str]:
    """The pair with its balanced accuracy, which a shifted threshold alone does not raise."""
    return [
        f"{line} Balanced accuracy, where 0.5 is chance, goes from "
        f"{page.contrast('final_bn', metric='balanced_accuracy', cell=cell)}."
        for line, cell in zip(lines(page), complete(page))
    ]


def base(page) -> list[str]:
    """The same, after what the papers report."""
    low, high = CLAIMED_F1
    return [
        f"The papers report {low} without the layer and {high} with it, a gain of {CLAIMED_GAIN}, for a fine-tuned VGG-19.",
        "",
        *lines(page),
        *([] if page.single else recipe_line()),
    ]


def hero(page) -> Picture:
    """The four readings in the leading cells."""
    return page.ladder(HERO, cells=complete(page))


def removal(page) -> list[str]:
    """What is left when the layer is taken out."""
    return [
        f"{opening(cell)} Taking the layer out moves minority F1 from {page.contrast(REMOVED, 'final_bn', cell=cell)}. "
        f"Compared with plain, the network without its layer takes it from {page.contrast(REMOVED, cell=cell)}. "
        f"Balanced accuracy, which is 0.5 for always giving one answer: {scores(page, cell, 'balanced_accuracy')}. "
        f"Macro F1: {scores(page, cell, 'f1_macro')}."
        for cell in complete(page)
    ]


def removal_figure(page) -> Picture:
    """Macro F1 without the layer, with it, and with it taken out."""
    return page.ladder(("plain", "final_bn", REMOVED), "f1_macro", cells=complete(page))


def controls(page) -> list[str]:
    """The pair beside plain's ROC AUC."""
    return [
        f"{opening(cell)} ROC AUC of plain: {page.mean('plain', 'roc_auc', cell)}. Minority F1 goes from "
        f"{page.contrast('final_bn', cell=cell)}."
        for cell in complete(page)
    ]


def rows_picture(page, arms: Sequence[str]) -> Picture:
    """Minority and majority F1 of some arms, or of `arm · readout`, in the lead cell; Missing where runs are."""
    part, here = page.part(), page.among(*arms)
    if not here:
        raise Missing(f"none of these arms was run on {cell_phrase(page.lead)}")
    f1 = ", ".join(f"{arm_label(name)} {page.mean(name)}" for name in here)
    phrase = cell_phrase(page.lead)
    finding = f"Mean minority F1 on {phrase}: {f1}."
    text = f"{finding} Filled: minority F1; open: majority F1. Dotted: always saying minority."
    data = [
        {"arm": arm_label(name), "measure": metric, "seed": n, "value": v}
        for name in here
        for metric in ("f1_minority", "f1_majority")
        if (d := figures.scores(part, name, metric)) is not None
        for n, v in zip(seeds(part), d, strict=True)
    ]
    return Picture(figures.arms(part, here), text, finding, pd.DataFrame(data))


def forms(page) -> HTML:
    """Other forms of the layer against the judged one, in every cell that has them."""
    rows = [
        {"images and network": cell_label(cell), **row}
        for cell in page.selection.whole(variant="forms", level=10)
        for part in [page.part(cell=cell, level=10)]
        for row in difference_rows(part, [("final_bn_slow", "final_bn"), ("bn_before", "final_bn")])
    ]
    if not rows:
        return missing_html("Other forms of the layer were not run here.")
    return shown(pd.DataFrame(rows), "Minority F1: other forms of the layer against the judged one")


def _recipe_part() -> pd.DataFrame:
    """The published rows of fastai's recipe; Missing while runs are."""
    [cell] = fastai_recipe.PLAN.cells
    part = plan_frame(fastai_recipe.PLAN, [cell], published_rows((cell.setting,)))
    if not complete_rows(part):
        raise Missing(f"fastai's recipe on {cell_phrase(cell)}: {seeds_done(part)} of {cell.seeds} seeds have been run")
    return part


def fastai_means() -> list[str]:
    """Mean minority F1 of the four predictors after fastai's recipe, in the order of `HERO`; none while runs are missing."""
    try:
        part = _recipe_part()
    except Missing:
        return []
    found = [figures.scores(part, name) for name in RECIPE]
    return ["not recorded" if d is None else number(np.nanmean(d)) for d in found]


def recipe_images() -> str:
    """The images that fastai's recipe was run on, in a sentence: `tomato leaves (128 px)`."""
    [cell] = fastai_recipe.PLAN.cells
    return cell_phrase(cell).partition(" with ")[0]


def recipe_line() -> list[str]:
    """What fastai's recipe gives, in a line; none while runs are missing."""
    if not (means := fastai_means()):
        return []
    [cell], part = fastai_recipe.PLAN.cells, _recipe_part()
    plain, layer, removed, adjusted = means
    before, after = (number(np.nanmean(figures.scores(part, arm, "roc_auc"))) for arm in RECIPE[:2])
    where = recipe_images()
    return [
        f"- **{where[0].upper()}{where[1:]} by fastai's recipe, its rates and its layer of momentum 0.01** (shown, not judged; "
        f"{cell.seeds} seeds). Mean minority F1: plain {plain}, final BN {layer}, final BN with the layer removed {removed}, "
        f"plain with adjusted logits {adjusted}. ROC AUC goes from {before} to {after}."
    ]


def recipe() -> HTML:
    """fastai's `fine_tune` as its users run it, without and with its final BatchNorm, as published."""
    [cell] = fastai_recipe.PLAN.cells
    try:
        part = _recipe_part()
    except Missing as missing:
        return missing_html(f"{missing}.")
    compared = {
        "f1_minority": RECIPE[1:],
        "f1_macro": RECIPE[1:],
        "roc_auc": RECIPE[1:-1],
    }  # a threshold changes no AUC
    rows = [
        {"measure": METRICS[metric], **row}
        for metric, names in compared.items()
        for row in difference_rows(part, [(name, "plain") for name in names], metric)
    ]
    return shown(pd.DataFrame(rows), f"fastai's fine_tune at its own rates, shown, not judged: {cell_label(cell)}")
