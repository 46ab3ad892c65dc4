"""From a claim's frame to its verdict: Holm over cells, both learning rates, all cells together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from replication.claims.claims import CLAIMS, Claim
from replication.claims.criteria import (
    CONTRADICTED,
    DECIDED,
    INCONCLUSIVE,
    NOT_ASSESSABLE,
    NOT_RUN,
    PARTLY,
    REPLICATED,
    Measures,
    least_seeds,
)
from replication.study.designs import body
from replication.analysis import statistics as st
from replication.analysis.effects import Effect
from replication.results.frame import complete

Cell = tuple[str, ...]
AT = {
    "own": "each arm's own best learning rate", "shared": "plain's best", "wide": "each arm's best of all pilot rates",
}  # fmt: skip


@dataclass(frozen=True)
class CellVerdict:
    """One cell's verdict at both learning rates together, and at each."""

    cell: Cell
    verdict: str
    reason: str
    by_rate: dict[str, tuple[str, str]]
    """rate -> (verdict, reason)"""
    measures: dict[str, Measures]
    """rate -> effects and curves, with adjusted p; empty where not run"""


@dataclass(frozen=True)
class Judgement:
    """A claim's verdict over all its cells."""

    claim: Claim
    verdict: str
    reason: str
    cells: list[CellVerdict]


def _holm(cells: dict[Cell, Measures], planned: int) -> dict[Cell, Measures]:
    """Adjust every effect's p-values over all planned cells.

    One that has not been run counts as p = 1: no cell that is decided can be undone when others arrive.
    """
    adjusted = {cell: dict(measures) for cell, measures in cells.items()}
    names = {name for measures in cells.values() for name, e in measures.items() if isinstance(e, Effect)}
    for name in names:
        having = [cell for cell, measures in cells.items() if name in measures]
        missing = [1.0] * (planned - len(having))
        sides = zip(*(cells[cell][name].raw() for cell in having))
        for cell, *ps in zip(having, *(st.holm([*side, *missing]) for side in sides)):
            adjusted[cell][name] = replace(cells[cell][name], adjusted=tuple(map(float, ps)))
    return adjusted


def _decide(claim: Claim, cell: Cell, measures: Measures) -> tuple[str, str]:
    """The verdict at one learning rate; inconclusive with fewer seeds than any verdict takes."""
    n, least = min(e.n for e in measures.values()), least_seeds(cell[0])
    if n < least:
        return INCONCLUSIVE, f"a verdict takes at least {least} seeds, found {n}"
    return claim.decide(measures)


def _combine(by_rate: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """A verdict holds if it is the same at every kind of learning rate; else, if any is decided, it is partly."""
    verdicts = {verdict for verdict, _ in by_rate.values()}
    if len(verdicts) == 1:
        return next(iter(by_rate.values()))
    words = ", ".join(f"{verdict} at {AT[rate]} ({reason})" for rate, (verdict, reason) in by_rate.items())
    return (PARTLY if verdicts & set(DECIDED) else INCONCLUSIVE), words


def judge_cells(claim: Claim, frame: pd.DataFrame) -> list[CellVerdict]:
    """The verdict of every cell in a claim's frame; cells with a missing run are `not run`."""
    groups = {cell: part for cell, part in frame.groupby(list(claim.cell), sort=False)}
    present = {cell for cell, part in groups.items() if complete(part)}
    measures: dict[str, dict[Cell, Measures]] = {}
    rates = [rate for rate in AT if rate in set(frame["rate"])]
    for rate in rates:
        parts = {c: groups[c][groups[c]["rate"] == rate] for c in groups if c in present}
        measures[rate] = _holm({c: claim.measure(part, len(groups)) for c, part in parts.items()}, len(groups))
    found = []
    for cell in groups:
        if cell not in present:
            by_rate = dict.fromkeys(rates, (NOT_RUN, "some of the planned runs have no result"))
            found.append(CellVerdict(cell, *_combine(by_rate), by_rate, {}))
            continue
        by_rate = {rate: _decide(claim, cell, measures[rate][cell]) for rate in rates}
        found.append(CellVerdict(cell, *_combine(by_rate), by_rate, {rate: measures[rate][cell] for rate in rates}))
    return found


def _plantvillage(cell: Cell) -> bool:
    return cell[0].startswith("plantvillage")


def _over_cells(cells: list[CellVerdict]) -> tuple[str, str]:
    """All decided cells agree: that verdict. Mixed: partly. None decided: inconclusive, or why not even that."""
    decided = [c for c in cells if c.verdict in DECIDED]
    if not decided:
        kinds = {c.verdict for c in cells}
        if kinds == {NOT_RUN} or not cells:
            return NOT_RUN, "no cell has all its runs"
        if kinds <= {NOT_ASSESSABLE, NOT_RUN}:
            return NOT_ASSESSABLE, "no cell shows the gain in the first place"
        return INCONCLUSIVE, cells[0].reason if len(cells) == 1 else "no cell is decided"
    if len(cells) == 1:
        return decided[0].verdict, decided[0].reason
    counts = {v: sum(c.verdict == v for c in decided) for v in DECIDED if any(c.verdict == v for c in decided)}
    words = ", ".join(f"{v} in {n}" for v, n in counts.items()) + f" of {len(cells)} cells"
    if len(counts) == 1:
        return next(iter(counts)), f"{words}, the first: {decided[0].reason}"
    somewhere = sum(REPLICATED in {verdict for verdict, _ in c.by_rate.values()} for c in cells)
    return PARTLY, f"{words}; at some learning rate replicated in {somewhere}"


K20_NETWORKS = ("vgg19", "vgg19_bn", "resnet34")


def _as_in_k20(frame: pd.DataFrame) -> set[Cell]:
    """Cells with the identity of K20: a VGG19 or ResNet34, fine-tuned on PlantVillage from ImageNet's weights.

    Other weights that were trained before, such as `other_crops`, make an analogue: they know leaves.
    """
    fine_tuned = (frame["init"] == "imagenet").groupby([frame["cell_setting"], frame["cell_network"]]).all()
    return {c for c in fine_tuned[fine_tuned].index if _plantvillage(c) and body(c[1])["network"] in K20_NETWORKS}


def _over_base(cells: list[CellVerdict], identical: set[Cell]) -> tuple[str, str]:
    """Judged on cells with the identity of K20 alone; every other one is an analogue, counted in the reason."""
    analogues = [c for c in cells if c.cell not in identical]
    verdict, reason = _over_cells([c for c in cells if c.cell in identical])
    if verdict == NOT_RUN:
        reason = "no VGG19 or ResNet34 fine-tuned on PlantVillage from ImageNet's weights has all its runs"
        verdict = NOT_RUN if all(c.verdict == NOT_RUN for c in analogues) else INCONCLUSIVE
    counts = {v: sum(c.verdict == v for c in analogues) for v in dict.fromkeys(c.verdict for c in analogues)}
    words = ", ".join(f"{v} in {n}" for v, n in counts.items())
    told = [f"{words} of {len(analogues)} analogue{'s' * (len(analogues) > 1)}"] if analogues else []
    return verdict, "; ".join((reason, *told))


def _over_generality(cells: list[CellVerdict]) -> tuple[str, str]:
    """More than half of the cells run outside PlantVillage, and of those of the simple CNN; else as elsewhere."""
    outside = [c for c in cells if not _plantvillage(c.cell) and c.verdict != NOT_RUN]
    simple = [c for c in cells if c.cell[1] == "simple_cnn" and c.verdict != NOT_RUN]
    if not outside or not simple:
        return NOT_RUN, f"no cell {'of the simple CNN' if outside else 'outside PlantVillage'} has all its runs"

    def most(group: list[CellVerdict], verdict: str) -> bool:
        return sum(c.verdict == verdict for c in group) > len(group) / 2

    sets = len({c.cell[0] for c in outside})
    more, less = (sum(c.verdict == v for c in outside) for v in (REPLICATED, CONTRADICTED))
    some = sum(c.verdict == PARTLY for c in outside)
    words = (
        f"the gain exceeds 0.05 at every kind of rate in {more}, only at some in {some}, and lies below it in {less} of "
        f"{len(outside)} cells outside PlantVillage ({sets} data set{'s' * (sets > 1)})"
    )
    if most(outside, REPLICATED) and most(simple, REPLICATED):
        return REPLICATED, words
    if most(outside, CONTRADICTED):
        return CONTRADICTED, words
    decided = {c.verdict for c in outside + simple} & set(DECIDED)
    return (PARTLY if len(decided) > 1 or PARTLY in decided else INCONCLUSIVE), words


def judge(claim_id: str, frame: pd.DataFrame) -> Judgement:
    """The verdict of a claim on the frame of its design (see `evidence.frame.frame`)."""
    claim = CLAIMS[claim_id]
    cells = judge_cells(claim, frame)
    if claim_id == "base":
        overall = _over_base(cells, _as_in_k20(frame))
    else:
        overall = (_over_generality if claim_id == "generality" else _over_cells)(cells)
    return Judgement(claim, *overall, cells)


def effects(judgement: Judgement) -> Iterator[dict]:
    """Rows for a table of effects: one a cell, learning rate and effect."""
    for c in judgement.cells:
        for rate, measures in c.measures.items():
            for name, e in measures.items():
                if isinstance(e, Effect) and np.isfinite(e.d).all():
                    low, high = st.bca(e.d)
                    yield {
                        "cell": " / ".join(filter(None, c.cell)), "rate": rate, "effect": name, "n": len(e.d),
                        "mean": e.d.mean(), "low": low, "high": high, "median": np.median(e.d), "margin": e.margin,
                        "p above": e.adjusted[0], "p below": e.adjusted[1], "p within": e.adjusted[2],
                    }  # fmt: skip
