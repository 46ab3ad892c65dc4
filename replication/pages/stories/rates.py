"""Minority F1 against the learning rate: on seeds of its own, and on the pilots that chose the rates."""

import pandas as pd
from IPython.display import HTML

from replication.claims import cells, registry
from replication.data.settings import names
from replication.pages import figures
from replication.pages.names import arm_label, cell_label, cell_phrase
from replication.pages.picture import Picture
from replication.pages.selection import Missing, Selection, pilots, published_rows
from replication.pages.stories.pair import ADJUSTED, HERO
from replication.pages.tables import table_html
from replication.pages.words import listed, number, rate_text
from replication.results import published
from replication.results.frame import seeds as seeds_of
from replication.run import CONFIRMATORY
from replication.study.design import PAIR, Cell, pilot_runs
from replication.study.rates import LADDER, Place

BODY_FROZEN_AND_TRAINED = tuple(
    (cell.setting, network) for cell in cells.close()[:2] for network in (cells.RESNET, cells.FINE_TUNED)
)
"""the same body, once frozen and once with all layers trained, on the images of the first cells of tier close"""


def profile(page) -> Picture | HTML:
    """Minority F1 against the learning rate on the page's images, on confirmatory seeds; a page never trains these.

    On images that were asked for and have no such profile: from their own published pilots.
    """
    settings, networks = names(page.parameters.settings), names(page.parameters.networks)
    planned = [
        c
        for c in registry.plan("rate_profile").cells
        if (not settings or c.setting in settings) and (not networks or c.network in networks)
    ]
    if not planned and page.single and page.name != "rate_profile":
        try:
            return pilot_picture(page.lead.setting, page.lead.network)
        except Missing:
            return _validated(page.lead)
    if not planned:
        raise Missing("no rate profile is planned for these images and networks")
    selection = Selection(registry.plan("rate_profile"), planned, published_rows(tuple({c.setting for c in planned})))
    whole = selection.whole("default")
    if not whole:
        raise Missing(f"the rate profile is not run yet ({selection.open(rate='default')})")
    cell, part = next(iter(whole.items()))
    return _picture(part, cell_phrase(cell), "confirmatory seeds")


def pilot_picture(setting: str, network: str, arms: tuple[str, ...] = ("plain", "final_bn", ADJUSTED)) -> Picture:
    """The same from the published pilots, which chose the rates; Missing where there are none."""
    part = pilots([name.partition(" · ")[0] for name in arms], setting, network)
    return _picture(part, cell_phrase((setting, network)), "pilot seeds", arms)


def beside(of: tuple[tuple[str, str], ...]) -> Picture:
    """Pilots of some cells (setting, network) side by side; Missing where one of them has none."""
    found = {cell: validated(Cell(*cell)) for cell in of}
    data = pd.concat(
        [
            seen.assign(setting=setting, network=network, arm=arm)
            for (setting, network), by_arm in found.items()
            for arm, seen in by_arm.items()
        ]
    ).rename(columns={"validation_f1_macro": "validation macro F1", "learning_rate": "learning rate"})
    said = []
    for cell, by_arm in found.items():
        best = []
        for arm, seen in by_arm.items():
            means = seen.groupby("learning_rate")["validation_f1_macro"].mean()
            at = {n: means[n] for n in (1e-4, 1e-3) if n in means.index}
            told = ", ".join(f"{number(v)} at {rate_text(n)}" for n, v in at.items())
            best.append(f"{arm_label(arm)} {told}, at best {number(means.max())} at {rate_text(means.idxmax())}")
        said.append(f"{cell_label(cell)}: {'; '.join(best)}")
    text = f"Macro F1 on validation images over the learning rate. {'. '.join(said)}."
    seeds = listed([str(max(seen["seed"].nunique() for seen in by_arm.values())) for by_arm in found.values()])
    note = (
        f"Dots: the pilot seeds ({seeds}, by panel); lines: their means. By these scores the rates are chosen, so that the "
        "best is somewhat too good."
    )
    titles = {cell_label(cell): by_arm for cell, by_arm in found.items()}
    return Picture(figures.pilots_beside(titles), f"{text} {note}", text, data)


def validated(cell: Cell) -> dict[str, pd.DataFrame]:
    """The published pilots of the base pair in a cell (`learning_rate`, `seed`, `validation_f1_macro`), by arm; Missing."""
    place, found = Place(cell.setting, cell.network), published.pilots((cell.setting,))
    by_arm = {}
    for arm in PAIR:
        wanted = pd.DataFrame(map(vars, pilot_runs(place, arm, LADDER, range(CONFIRMATORY))))
        here = found.merge(wanted, on=list(wanted.columns))
        if len(here):
            by_arm[arm] = here[["learning_rate", "seed", "validation_f1_macro"]]
    if not by_arm:
        raise Missing(f"no pilot runs are published for {cell_label(cell)}")
    return by_arm


def _validated(cell: Cell) -> HTML:
    """The pilots of a cell of which only validation scores are published: these by rate, as a table; Missing if none."""
    means = {
        arm_label(arm): seen.groupby("learning_rate")["validation_f1_macro"].agg(
            lambda d: f"{number(d.mean())} ({len(d)})"
        )
        for arm, seen in validated(cell).items()
    }
    rows = pd.DataFrame(means).sort_index().fillna("").rename_axis("learning rate").reset_index()
    rows["learning rate"] = rows["learning rate"].map(rate_text)
    caption = f"Pilots on {cell_phrase(cell)}: mean macro F1 on validation images (seeds), by which rates are chosen"
    return HTML(table_html(rows, caption))


def _picture(part: pd.DataFrame, phrase: str, seeds: str, arms: tuple[str, ...] = HERO) -> Picture:
    levels = sorted(part["level"].unique())
    found = {a: {n: d for n in levels if (d := figures.scores(part, a, level=n)) is not None} for a in arms}
    found = {a: by_rate for a, by_rate in found.items() if by_rate}
    best = {a: max((d.mean(), n) for n, d in by_rate.items()) for a, by_rate in found.items()}
    words = ", ".join(f"{arm_label(a)} {number(v)} at {rate_text(n)}" for a, (v, n) in best.items())
    finding = f"Best mean minority F1 over the learning rates on {phrase}: {words}."
    data = [
        {"learning rate": n, "arm": arm_label(a), "seed": k, "minority F1": v}
        for a, by_rate in found.items()
        for n, d in by_rate.items()
        for k, v in zip(seeds_of(part, level=n), d, strict=True)
    ]
    text = f"{finding} Every dot is one of the {seeds}. Dotted: always saying minority."
    return Picture(figures.rates(part, list(found)), text, finding, pd.DataFrame(data))
