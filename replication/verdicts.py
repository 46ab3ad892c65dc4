"""From a claim's frame to its verdict: Holm over cells, both learning rates, all cells together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from replication.claims import CLAIMS, Claim
from replication.criteria import (
    CONTRADICTED,
    DECIDED,
    INCONCLUSIVE,
    NOT_ASSESSABLE,
    NOT_RUN,
    PARTLY,
    REPLICATED,
    Measures,
)
from replication.designs import RATES
from replication.evidence import statistics as st
from replication.evidence.effects import Effect
from replication.evidence.frame import complete

Cell = tuple[str, ...]


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


def _holm(cells: dict[Cell, Measures]) -> dict[Cell, Measures]:
    """Adjust every effect's two p-values over the cells that share it."""
    adjusted = {cell: dict(measures) for cell, measures in cells.items()}
    names = {name for measures in cells.values() for name, e in measures.items() if isinstance(e, Effect)}
    for name in names:
        having = [cell for cell, measures in cells.items() if name in measures]
        # an effect may come with p-values adjusted within its own cell (the best of several levels)
        raw = np.array([np.minimum(cells[c][name].raw(), 1.0) for c in having])
        own = np.array([cells[c][name].adjusted for c in having])
        raw = np.where(own < 1.0, own, raw)
        ps = np.stack([st.holm(raw[:, side]) for side in (0, 1)], axis=1)
        for cell, p in zip(having, ps):
            adjusted[cell][name] = replace(cells[cell][name], adjusted=(float(p[0]), float(p[1])))
    return adjusted


def _combine(by_rate: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """A verdict holds if it is the same at the arm's own learning rate and at plain's; else it is partly."""
    own, shared = by_rate["own"], by_rate["shared"]
    if own[0] == shared[0]:
        return own
    verdicts = {own[0], shared[0]}
    if verdicts & {NOT_RUN}:
        return NOT_RUN, "some of the planned runs have no result"
    words = f"{own[0]} at each arm's own best learning rate ({own[1]}), {shared[0]} at plain's ({shared[1]})"
    return (PARTLY if verdicts & set(DECIDED) else INCONCLUSIVE), words


def judge_cells(claim: Claim, frame: pd.DataFrame) -> list[CellVerdict]:
    """The verdict of every cell in a claim's frame; cells with a missing run are `not run`."""
    groups = {cell: part for cell, part in frame.groupby(list(claim.cell), sort=False)}
    present = {cell for cell, part in groups.items() if complete(part)}
    measures: dict[str, dict[Cell, Measures]] = {}
    for rate in RATES:
        parts = {c: groups[c][groups[c]["rate"] == rate] for c in groups if c in present}
        measures[rate] = _holm({c: claim.measure(part, len(parts)) for c, part in parts.items()})
    found = []
    for cell in groups:
        if cell not in present:
            by_rate = dict.fromkeys(RATES, (NOT_RUN, "some of the planned runs have no result"))
            found.append(CellVerdict(cell, *_combine(by_rate), by_rate, {}))
            continue
        by_rate = {rate: claim.decide(measures[rate][cell]) for rate in RATES}
        found.append(CellVerdict(cell, *_combine(by_rate), by_rate, {rate: measures[rate][cell] for rate in RATES}))
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
    return (next(iter(counts)) if len(counts) == 1 else PARTLY), words


def _over_base(cells: list[CellVerdict]) -> tuple[str, str]:
    """Judged on PlantVillage alone; every other data set is an analogue, named in the reason."""
    analogues = [c for c in cells if not _plantvillage(c.cell)]
    verdict, reason = _over_cells([c for c in cells if _plantvillage(c.cell)])
    if verdict == NOT_RUN:
        reason = "PlantVillage has not been run yet"
    also = "; ".join(f"analogue {' / '.join(c.cell)}: {c.verdict}" for c in analogues)
    return (INCONCLUSIVE if verdict == NOT_RUN and analogues else verdict), "; ".join(filter(None, (reason, also)))


def _over_generality(cells: list[CellVerdict]) -> tuple[str, str]:
    """More than half of the assessable cells outside PlantVillage, and of those of the simple CNN."""
    outside = [c for c in cells if not _plantvillage(c.cell) and c.verdict not in (NOT_RUN, NOT_ASSESSABLE)]
    simple = [c for c in cells if c.cell[1] == "simple_cnn" and c.verdict not in (NOT_RUN, NOT_ASSESSABLE)]
    if not outside or not simple:
        return NOT_RUN, "no cell outside PlantVillage has all its runs"

    def most(group: list[CellVerdict], verdict: str) -> bool:
        return sum(c.verdict == verdict for c in group) > len(group) / 2

    sets = len({c.cell[0] for c in outside})
    count = sum(c.verdict == REPLICATED for c in outside)
    words = f"the gain exceeds 0.05 in {count} of {len(outside)} cells outside PlantVillage ({sets} data set{'s' * (sets > 1)})"
    if most(outside, REPLICATED) and most(simple, REPLICATED):
        return REPLICATED, words
    return (CONTRADICTED if most(outside, CONTRADICTED) else INCONCLUSIVE), words


_OVER = {"base": _over_base, "generality": _over_generality}


def judge(claim_id: str, frame: pd.DataFrame) -> Judgement:
    """The verdict of a claim on the frame of its design (see `evidence.frame.frame`)."""
    claim = CLAIMS[claim_id]
    cells = judge_cells(claim, frame)
    return Judgement(claim, *_OVER.get(claim_id, _over_cells)(cells), cells)


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
                        "p above": e.adjusted[0], "p below": e.adjusted[1],
                    }  # fmt: skip
