"""From a claim's results to its verdict: families of tests, every kind of rate, and the headline by tier."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from replication.analysis import statistics as st
from replication.analysis.effects import Effect
from replication.claims.claim import (
    NOT_JUDGED,
    NOT_RUN,
    OPPOSITE,
    UNDECIDED,
    Claim,
    Decision,
    Measures,
    Plan,
    assessable,
)
from replication.claims.qualifiers import qualifiers
from replication.claims.tiers import TIERS, tier
from replication.claims.verdict import CellVerdict, Headline, Judgement, Unit
from replication.data.loading import SOURCES
from replication.data.settings import setting as setting_of
from replication.results.frame import complete, frame, seeds_done
from replication.study.design import EXPLORATORY, PRIMARY, SHOWN, Cell
from replication.study.networks import network as network_of
from replication.study.rates import KINDS

GROUP_MAJORITY = 3
"""of the four cells of a part of a claim that has a word of its own, so many must agree"""


def plan_frame(plan: Plan, cells: Iterable[Cell], results: pd.DataFrame) -> pd.DataFrame:
    """The frame of some cells of a plan, see `results.frame.frame`; a cell without learning rates has no rows."""
    wanted = []
    for cell in cells:
        try:
            wanted += [((cell.setting, cell.network), entry) for entry in plan.entries(cell)]
        except ValueError:  # nothing has been tuned there yet
            continue
    return frame(wanted, results)


def units(claim: Claim, cells: Iterable[Cell]) -> list[Unit]:
    """What a claim judges: every cell, by variant where it judges several."""
    found = []
    for cell in cells:
        planned = dict.fromkeys(comparison.variant for comparison in claim.design(cell))
        there = [v for v in claim.variants if v in planned]
        found += [Unit(cell if k == 0 else replace(cell, role=_beside(cell)), v) for k, v in enumerate(there)]
    return found


def _beside(cell: Cell) -> str:
    """The role of a cell's further variants: they set no headline."""
    return cell.role if cell.role != PRIMARY else "secondary"


def family(claim: Claim, unit: Unit) -> tuple:
    """Units of the same family are adjusted together: a primary one is alone, added ones are all in one."""
    cell = unit.cell
    for part, member in claim.groups:
        if member(cell):
            return (part,)
    if cell.role in (PRIMARY, EXPLORATORY, SHOWN):
        return (cell, unit.variant)
    if cell.version == 0:
        return ("after the fact",)
    return ("added",) if cell.version > 1 else ("registered", tier(cell))


def _rows(part: pd.DataFrame, claim: Claim, unit: Unit, kind: str) -> pd.DataFrame:
    """The rows of a unit at one kind of rate: its variant, and those others whose runs are all there."""
    rows = part[part["rate"] == kind]
    judged = rows[rows["variant"] == unit.variant]
    if len(claim.variants) > 1 or not complete(judged):
        return judged if complete(judged) else judged.iloc[:0]
    others = [rows[rows["variant"] == v] for v in rows["variant"].unique() if v != unit.variant]
    levels = [level for other in others for _, level in other.groupby(["variant", "level"])]
    return pd.concat([judged, *(rows for rows in levels if complete(rows))])


def _adjusted(measured: dict[Unit, Measures], planned: int) -> dict[Unit, Measures]:
    """Holm's adjustment of every effect's p-values over a family; a unit that has not been run counts as p = 1."""
    found = {unit: dict(measures) for unit, measures in measured.items()}
    for name in {n for measures in measured.values() for n, e in measures.items() if isinstance(e, Effect)}:
        having = [unit for unit, measures in measured.items() if name in measures]
        missing = [1.0] * (planned - len(having))
        sides = zip(*(measured[unit][name].raw() for unit in having))
        for unit, *ps in zip(having, *(st.holm([*side, *missing]) for side in sides)):
            found[unit][name] = replace(measured[unit][name], adjusted=tuple(map(float, ps)))
    return found


def least_seeds(cell: Cell) -> int:
    """Seeds that a verdict takes: 20 on digits and frozen bodies, 10 elsewhere."""
    return 20 if setting_of(cell.setting).source in SOURCES or network_of(cell.network).trained == "head" else 10


def _decide(claim: Claim, cell: Cell, measures: Measures) -> Decision:
    n, least = measures["gain"].n, least_seeds(cell)
    if n < least:
        return Decision(UNDECIDED, f"a verdict takes at least {least} seeds, found {n}")
    return (assessable(measures) if claim.gated else None) or claim.decide(measures)


def recorded(rows: pd.DataFrame, metric: str) -> bool:
    """Whether rows have a metric: files published earlier may lack it."""
    return metric in rows and bool(rows[metric].notna().all())


def judge_units(claim: Claim, wanted: list[Unit], data: pd.DataFrame) -> list[CellVerdict]:
    """The verdict of every unit on the frame of its claim."""
    groups = {key: part for key, part in data.groupby(["cell_setting", "cell_network"], sort=False)}
    families: dict[tuple, list[Unit]] = {}
    for unit in wanted:
        families.setdefault(family(claim, unit), []).append(unit)
    measured: dict[tuple[Unit, str, str], Measures] = {}
    for members in families.values():
        for kind in KINDS:
            planned = sum(kind in unit.cell.kinds for unit in members)
            for metric in ("f1_minority", "f1_macro"):
                found = {}
                for unit in members:
                    part = groups.get((unit.cell.setting, unit.cell.network))
                    if part is None or kind not in unit.cell.kinds or (metric == "f1_macro" and kind != "own"):
                        continue
                    if len(rows := _rows(part, claim, unit, kind)) and recorded(rows, metric):
                        try:
                            found[unit] = claim.measure(rows, metric, planned)
                        except KeyError as error:  # a claim may rest on what was not kept of runs made for another
                            if "not recorded" not in str(error):
                                raise
                for unit, measures in _adjusted(found, planned).items():
                    measured[unit, kind, metric] = measures
    return [_verdict(claim, unit, groups, measured) for unit in wanted]


def _collapsed(part: pd.DataFrame, unit: Unit) -> dict[str, tuple[int, int]]:
    """Of every arm that has runs which never find the minority at own rates: how many of how many."""
    if "readout" not in part:
        return {}
    rows = part[(part["rate"] == "own") & (part["variant"] == unit.variant) & (part["readout"] == "as_trained")]
    f1 = rows.groupby("arm", sort=False)["f1_minority"]
    return {str(arm): (int((of == 0).sum()), int(of.notna().sum())) for arm, of in f1 if (of == 0).any()}


def _verdict(claim: Claim, unit: Unit, groups: dict, measured: dict) -> CellVerdict:
    cell = unit.cell
    part = groups.get((cell.setting, cell.network))
    done = dict.fromkeys(cell.kinds, 0)
    if part is not None:
        rows = part[part["variant"] == unit.variant]
        done = {kind: seeds_done(rows[rows["rate"] == kind]) for kind in cell.kinds}
    collapsed = _collapsed(part, unit) if part is not None else {}
    by_kind = {kind: m for kind in cell.kinds if (m := measured.get((unit, kind, "f1_minority")))}
    decisions = {
        kind: _decide(claim, cell, by_kind[kind])
        if kind in by_kind
        else Decision(NOT_RUN, f"{n} of {cell.seeds} seeds")
        for kind, n in done.items()
    }
    if cell.role == SHOWN or "own" not in done:
        n = next(iter(done.values()))
        return CellVerdict(
            unit, tier(cell), NOT_JUDGED, f"shown, not judged: {n} of {cell.seeds} seeds", n, {}, by_kind
        )
    verdict = CellVerdict(
        unit, tier(cell), NOT_RUN, decisions["own"].reason, done["own"], decisions, by_kind, collapsed=collapsed
    )
    if "own" not in by_kind:
        return verdict
    own, macro = decisions["own"], measured.get((unit, "own", "f1_macro"), {})
    seen = _macro(claim, own, macro)
    return replace(
        verdict,
        word=own.word,
        reason=own.reason,
        macro=seen,
        qualifiers=tuple(qualifiers(claim, unit, decisions, by_kind["own"], seen)),
    )


def _macro(claim: Claim, own: Decision, macro: Measures) -> str:
    """What macro F1 says of the effects above their margin that a word rests on; empty where it rests on none."""
    if not own.rests_on or not macro:
        return ""
    counterparts = [macro[name] for name in own.rests_on]
    if all(isinstance(e, Effect) for e in counterparts):
        if any(e.below for e in counterparts):
            return "contradicted"
        return "shown" if all(e.above for e in counterparts) else "not shown"
    word = claim.decide(macro).word
    return "shown" if word == own.word else "contradicted" if word == OPPOSITE.get(own.word) else "not shown"


def _part_headline(claim: Claim, part: str, cells: list[CellVerdict]) -> Headline:
    """The word of at least three of four cells; else not run where some have not been, else undecided."""
    counts = Counter(c.word for c in cells)
    reason = ", ".join(f"{word} in {n}" for word, n in counts.items()) + f" of {len(cells)} cells"
    agreed = [word for word, n in counts.items() if n >= GROUP_MAJORITY]
    word = agreed[0] if agreed else NOT_RUN if counts[NOT_RUN] else UNDECIDED
    found = Counter(q.partition(":")[0] for c in cells for q in c.qualifiers)
    some = [q for q in ("rate-dependent", "not in macro F1", "grid end", "after the fact", "explored") if found[q]]
    return Headline(part, word, reason, "", None, tuple(f"{q} in {found[q]} of {len(cells)} cells" for q in some))


def _headline(cells: list[CellVerdict]) -> Headline:
    """The primary cell's verdict in the highest tier where it has all its runs; a registered one before any other."""
    leads = sorted((c for c in cells if c.unit.may_lead), key=lambda c: list(TIERS).index(c.tier))
    whole = [c for c in leads if c.done == c.cell.seeds and c.word != NOT_RUN]
    first = next((c for c in whole if c.cell.version), next(iter(whole), None))
    higher = leads[: leads.index(first)] if first else leads
    beside = tuple(f"{c.tier}: {f'{c.done} of {c.cell.seeds} seeds' if c.done else 'not tested'}" for c in higher)
    if first is None:
        return Headline("", NOT_RUN, "no primary cell has all its runs", "", None, (), beside)
    return Headline("", first.word, first.reason, first.tier, first, first.qualifiers, beside)


def judge(claim: Claim, data: pd.DataFrame, cells: Iterable[Cell] | None = None) -> Judgement:
    """The verdict of a claim on its frame, see `plan_frame`; on its own cells unless others are given."""
    judged = judge_units(claim, units(claim, claim.cells if cells is None else cells), data)
    parts = [(part, [c for c in judged if member(c.cell)]) for part, member in claim.groups]
    headlines = tuple(_part_headline(claim, part, members) for part, members in parts if members)
    return Judgement(claim, headlines or (_headline(judged),), tuple(judged))


def effects(judgement: Judgement) -> Iterator[dict]:
    """Rows for a table of effects: one per cell, kind of rate and effect."""
    for c in judgement.cells:
        for kind, measures in c.measures.items():
            for name, e in measures.items():
                if isinstance(e, Effect) and np.isfinite(e.d).all():
                    low, high = st.bca(e.d)
                    yield {
                        "cell_setting": c.cell.setting,
                        "cell_network": c.cell.network,
                        "images": c.cell.images or setting_of(c.cell.setting).label,
                        "variant": c.unit.variant,
                        "rate": kind,
                        "effect": name,
                        "levels": e.tests,
                        "n": len(e.d),
                        "mean": e.d.mean(),
                        "low": low,
                        "high": high,
                        "median": np.median(e.d),
                        "margin": e.margin,
                        "p above": e.adjusted[0],
                        "p below": e.adjusted[1],
                        "p within": e.adjusted[2],
                    }
