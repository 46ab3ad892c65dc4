"""What a verdict is: of a unit, of a claim by its headlines, and the counts beside them."""

from collections import Counter
from dataclasses import dataclass, field

from replication.claims.claim import UNDECIDED, Claim, Decision, Measures
from replication.claims.tiers import TIERS, identity_of
from replication.study.design import EXPLORATORY, PRIMARY, SHOWN, Cell


@dataclass(frozen=True)
class Unit:
    """What is judged as one: a cell and, where a claim judges several, one variant of its design."""

    cell: Cell
    variant: str = ""

    @property
    def may_lead(self) -> bool:
        """Whether it may set the headline of its tier: added cells move none."""
        return self.cell.role == PRIMARY and self.cell.version <= 1


@dataclass(frozen=True)
class CellVerdict:
    """One unit's verdict, what it rests on, and what has to be said beside it."""

    unit: Unit
    tier: str
    word: str
    reason: str
    done: int
    """seeds of which all runs at own rates (or, without such, at its first kind of rate) have a result"""
    decisions: dict[str, Decision] = field(default_factory=dict)
    """kind of rate -> decision, for every kind that is planned: `not run` where runs are missing"""
    measures: dict[str, Measures] = field(default_factory=dict)
    """kind of rate -> effects and curves, with adjusted p; empty where not run"""
    qualifiers: tuple[str, ...] = ()
    collapsed: dict[str, tuple[int, int]] = field(default_factory=dict)
    """arm -> (runs at own rates with minority F1 0.0, runs that have a result), of the arms that have such runs"""
    macro: str = ""
    """`shown`, `not shown` or `contradicted`: what macro F1 says of the effects that the word rests on; else empty"""

    @property
    def cell(self) -> Cell:
        """Its cell."""
        return self.unit.cell


@dataclass(frozen=True)
class Headline:
    """The word that stands for a claim, or for a part of it."""

    part: str
    """empty, or the part of the claim that has a word of its own"""
    word: str
    reason: str
    tier: str
    lead: CellVerdict | None
    """the cell that it is the verdict of; none where several decide together"""
    qualifiers: tuple[str, ...]
    beside: tuple[str, ...] = ()
    """higher tiers that lack runs, with the seeds that they have"""


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict: one headline, or one per part."""

    claim: Claim
    headlines: tuple[Headline, ...]
    cells: tuple[CellVerdict, ...]

    @property
    def word(self) -> str:
        """The verdict in one word; undecided where several parts differ."""
        words = {headline.word for headline in self.headlines}
        return words.pop() if len(words) == 1 else UNDECIDED

    def counts(self) -> dict[str, Counter]:
        """Tier -> how many cells, apart from the headline's, have which verdict."""
        return {name: Counter(c.word for c in self.counted() if c.tier == name) for name in TIERS}

    def counted(self) -> list[CellVerdict]:
        """The cells that are counted beside the headline's.

        Images, body and trained part count once (the first registered), and not at all where they are the headline's.
        """
        seen = {identity_of(headline.lead.cell) for headline in self.headlines if headline.lead}
        found = []
        for c in sorted(self.cells, key=lambda c: c.cell.version):
            if c.cell.role not in (EXPLORATORY, SHOWN) and identity_of(c.cell) not in seen:
                seen.add(identity_of(c.cell))
                found.append(c)
        return found
