"""One majority class or two, and a sigmoid instead of the softmax: gains side by side."""

import pandas as pd

from replication.claims.papers.majorities import VARIANTS
from replication.pages import figures
from replication.pages.names import cell_label, cell_phrase
from replication.pages.picture import Picture
from replication.pages.stories.pair import complete, gain, opening
from replication.pages.style import Look, look
from replication.pages.words import listed, signed
from replication.results.frame import seeds, values

OUTPUTS = (("softmax", ""), ("one sigmoid logit", "_sigmoid"), ("one sigmoid per class", "_sigmoids"))
Rows = list[tuple[str, pd.Series, Look]]
"""(what is compared, its differences by seed, how it looks)"""


def contrasts_picture(rows: Rows, label: str, finding: str) -> Picture:
    """Paired differences, one row each, with their data."""
    data = [{"row": text, "seed": n, label: v} for text, d, _ in rows for n, v in d.items()]
    text = f"{finding} One dot per seed. Shaded: smaller than 0.05."
    return Picture(
        figures.contrasts([(text, d.to_numpy(), style) for text, d, style in rows], label),
        text,
        finding,
        pd.DataFrame(data),
    )


def majorities(page) -> list[str]:
    """The gain with one majority class and with two."""
    found = []
    for cell in complete(page, variant=VARIANTS[0]):
        one, two = (page.contrast("final_bn", cell=cell, variant=VARIANTS[0], level=k) for k in (1, 2))
        found.append(
            f"{opening(cell)} One minority class, and the same number of majority images in total: minority F1 goes from "
            f"{one} with one majority class, and from {two} with two."
        )
    return found


def majorities_figure(page) -> Picture:
    """The same as a figure."""
    rows, means, cells = [], [], complete(page, variant=VARIANTS[0])
    for cell in cells:
        for k, words in ((1, "one majority class"), (2, "two majority classes")):
            where = {"variant": VARIANTS[0], "level": k}
            d = pd.Series(gain(page, cell, **where), seeds(page.part(cell=cell, **where)))
            rows.append((f"{cell_label(cell)}: {words}", d, look("final_bn")))
            means.append(f"{signed(d.mean())} with {words}")
    finding = f"Mean gain in minority F1 on {cell_phrase(cells[0])}: {listed(means[:2])}."
    return contrasts_picture(rows, "gain in minority F1", finding)


def sigmoid(page) -> list[str]:
    """The gain with each output."""
    found = []
    for cell in complete(page):
        words = [f"from {page.contrast(f'final_bn{o}', f'plain{o}', cell=cell)} with {label}" for label, o in OUTPUTS]
        found.append(f"{opening(cell)} Minority F1 goes {'; '.join(words)}.")
    return found


def sigmoid_figure(page) -> Picture:
    """The same as a figure."""
    rows, means, cells = [], [], complete(page)
    for cell in cells:
        part = page.part(cell=cell)
        for label, o in OUTPUTS:
            d = pd.Series(values(part, f"final_bn{o}") - values(part, f"plain{o}"), seeds(part))
            rows.append((f"{cell_label(cell)}: {label}", d, look(f"final_bn{o}")))
            means.append(f"{signed(d.mean())} with {label}")
    finding = f"Mean gain in minority F1 on {cell_phrase(cells[0])}: {listed(means[:3])}."
    return contrasts_picture(rows, "gain in minority F1", finding)
