"""Training time: epochs until the minority is found."""

import numpy as np
import pandas as pd

from replication.analysis import statistics as st
from replication.claims.papers.training_time import CAP_EPOCHS, epochs_to_target
from replication.pages import figures
from replication.pages.names import KINDS, arm_label, cell_phrase
from replication.pages.picture import Picture
from replication.pages.selection import Missing
from replication.pages.stories.pair import opening
from replication.pages.words import number, signed
from replication.results.frame import seeds
from replication.study.design import PAIR, Cell


def _timed(page) -> Cell:
    cells = page.leading(level=CAP_EPOCHS)
    if not cells:
        raise Missing(page.selection.open(level=CAP_EPOCHS))
    return page.lead if page.lead in cells else cells[0]


def _hitting(page) -> dict[str, np.ndarray]:
    return {arm: epochs_to_target(page.part(cell=_timed(page)), arm) for arm in PAIR}


def training_time(page) -> list[str]:
    """Medians, and how many runs never reach the target."""
    words = []
    for arm, epochs in _hitting(page).items():
        median = np.median(np.nan_to_num(epochs, nan=np.inf))
        reached = f"{median:g} epochs" if np.isfinite(median) else f"more than {CAP_EPOCHS} epochs"
        words.append(f"{arm_label(arm)}: median {reached}, {np.isnan(epochs).mean():.0%} of the runs never reach it")
    return [
        f"{opening(_timed(page))} Epochs to a validation F1 of 0.8: {'; '.join(words)}. The mean counts a run that never "
        f"reaches it as {CAP_EPOCHS} epochs, so it depends on that cap. The medians do not.{_elsewhere(page)}"
    ]


def _elsewhere(page) -> str:
    """What the layer saves at the other kinds of learning rate, in a sentence; empty where nothing was run at them."""
    said = []
    for kind in ("shared", "default"):
        if page.selection.has(_timed(page), kind, level=CAP_EPOCHS):
            part = page.part(kind, _timed(page), level=CAP_EPOCHS)
            plain, layer = (st.restricted(epochs_to_target(part, arm), CAP_EPOCHS) for arm in PAIR)
            said.append(f"{signed((plain - layer).mean(), 1)} at {KINDS[kind]}")
    return f" Mean epochs saved at other rates: {'; '.join(said)}." if said else ""


def training_time_figure(page) -> Picture:
    """The share of runs at the target by epoch."""
    hit = _hitting(page)
    means = {arm: np.nan_to_num(epochs, nan=CAP_EPOCHS).mean() for arm, epochs in hit.items()}
    finding = (
        f"On {cell_phrase(_timed(page))} a validation F1 of 0.8 takes {number(means['plain'], 0)} epochs without the layer and "
        f"{number(means['final_bn'], 0)} with it on average, capped at {CAP_EPOCHS}."
    )
    data = [
        {"arm": arm_label(arm), "seed": n, "epochs to the target": v}
        for arm, epochs in hit.items()
        for n, v in zip(seeds(page.part(cell=_timed(page))), epochs, strict=True)
    ]
    text = f"{finding} Share of runs that have reached it by each epoch."
    return Picture(figures.reached(hit, CAP_EPOCHS), text, finding, pd.DataFrame(data))
