"""What is said beside a verdict's word: other rates, macro F1, ends of a grid, and what was known before."""

from collections.abc import Iterator
from dataclasses import replace

from replication.claims.claim import OPPOSITE, Claim, Decision, Measures
from replication.claims.tiers import explored
from replication.claims.verdict import Unit
from replication.study.design import Comparison
from replication.study.rates import KINDS, at_grid_end


def qualifiers(claim: Claim, unit: Unit, decisions: dict[str, Decision], m: Measures, macro: str) -> Iterator[str]:
    """What has to be said beside a unit's verdict at own rates, including what only its claim says."""
    cell, own = unit.cell, decisions["own"]
    if opposite := [kind for kind, d in decisions.items() if d.word == OPPOSITE.get(own.word)]:
        yield f"rate-dependent: {OPPOSITE[own.word]} at {' and '.join(KINDS[kind] for kind in opposite)}"
    yield from claim.qualify(own, m)
    if macro == "contradicted":
        yield "not in macro F1"
    if ends := grid_ends(claim, unit):
        yield f"grid end: the best rate of {' and '.join(ends)} lies at an end of those tried"
    if cell.version == 0:
        yield "after the fact"
    elif explored(cell):
        yield "explored"


def judged_comparisons(claim: Claim, unit: Unit) -> Iterator[Comparison]:
    """The comparisons of a unit that its word rests on."""
    return (comparison for comparison in claim.design(unit.cell) if comparison.variant == unit.variant)


def grid_ends(claim: Claim, unit: Unit) -> list[str]:
    """Arms whose best learning rate lies at an end of those tried, at any place that the word rests on."""
    pairs = {pair for c in judged_comparisons(claim, unit) for pair in replace(c, kinds=("own",)).tuned()}
    return sorted({arm for place, arm in pairs if at_grid_end(place, arm)})
