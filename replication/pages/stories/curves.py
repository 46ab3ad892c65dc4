"""The two curves: the gain over the imbalance ratio, and over the batch size."""

import pandas as pd

from replication.pages import figures
from replication.pages.names import arm_label, cell_phrase
from replication.pages.picture import Picture
from replication.pages.stories.pair import ADJUSTED, complete, gain, opening
from replication.pages.words import signed
from replication.results.frame import seeds, values
from replication.study.design import Cell


def curve_picture(page, variant: str, label: str, cell: Cell | None = None, rate: str = "own") -> Picture:
    """The arms' F1 and the gain over the levels of a variant in one cell; Missing where runs are."""
    cell = cell or page.lead
    part = page.part(rate, cell, variant=variant)
    arms = [name for name in ("plain", "final_bn", ADJUSTED) if name.partition(" · ")[0] in set(part["arm"])]
    levels = sorted(part["level"].unique())
    gains = {n: values(part, "final_bn", level=n) - values(part, "plain", level=n) for n in levels}
    means = {n: float(d.mean()) for n, d in gains.items()}
    best, least = max(means, key=means.get), min(means, key=means.get)
    phrase = cell_phrase(cell)
    finding = (
        f"On {phrase} the mean gain is largest at {best:g} ({signed(means[best])}) and smallest at {least:g} "
        f"({signed(means[least])})."
    )
    text = (
        f"{finding} Top: minority F1 with 95 % intervals; dotted: always saying minority. Bottom: the gain, one dot per "
        "seed; shaded: smaller than 0.05."
    )
    data = [
        {"level": n, "arm": arm_label(name), "seed": k, "minority F1": v}
        for n in levels
        for name in arms
        if (d := figures.scores(part, name, level=n)) is not None
        for k, v in zip(seeds(part, level=n), d, strict=True)
    ]
    return Picture(figures.curve(part, variant, label, arms), text, finding, pd.DataFrame(data))


def _lines(page, variants: dict[str, str]) -> list[str]:
    found = []
    for cell in page.leading(variant=next(iter(variants))) or complete(page):
        for variant, words in variants.items():
            if page.selection.has(cell, variant=variant):
                levels = sorted(page.part(cell=cell, variant=variant)["level"].unique())
                means = {n: gain(page, cell, variant=variant, level=n).mean() for n in levels}
                said = ", ".join(f"{signed(v)} at {n:g}" for n, v in means.items())
                found.append(f"{opening(cell)} Mean gain {words}: {said}.")
    return found


def ratio(page) -> list[str]:
    """The gains over the ratio."""
    return _lines(
        page,
        {
            "minority varied": "by the number of minority images beside 1000 majority images",
            "majority varied": "by the number of majority images beside 10 minority images (fewer images, fewer updates)",
        },
    )


def batch_size(page) -> list[str]:
    """The gains over the batch size, and the layer's own F1 at equal updates."""
    found = _lines(
        page,
        {
            "equal epochs": "by batch size at 10 epochs (judged; larger batches make fewer updates)",
            "equal updates": "by batch size at 150 updates (not judged; larger batches see more epochs)",
        },
    )
    for cell in page.leading(variant="equal updates"):
        levels = sorted(page.part(cell=cell, variant="equal updates")["level"].unique())
        f1 = {n: page.mean("final_bn", cell=cell, variant="equal updates", level=n) for n in (levels[0], 64)}
        found.append(
            f"{opening(cell)} At equal updates minority F1 with the layer is "
            + " and ".join(f"{v} at batch {n:g}" for n, v in f1.items())
            + ". The comparison of gains says nothing about the cause."
        )
    return found
