"""The rate profile: what the layer does at every learning rate, instead of at the best one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from replication.claims import cells
from replication.claims.claim import Plan
from replication.study.design import EXPLORATORY, PAIR, Cell, Comparison, Entry, compare
from replication.study.rates import Place, grid_of

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


@dataclass(frozen=True)
class AtRate(Comparison):
    """A comparison of arms at one learning rate, whichever would be best."""

    def entries(self) -> Iterator[Entry]:
        """Its runs; the level is the learning rate."""
        for entry in replace(self, kinds=("default",)).as_comparison().entries():
            yield replace(entry, run=replace(entry.run, learning_rate=self.level))

    def as_comparison(self) -> Comparison:
        """The same arms at Adam's default rate."""
        return Comparison(self.place, self.arms, self.seeds, self.kinds, self.variant, self.level, self.factors)

    def tuned(self) -> Iterator[tuple[Place, str]]:
        """Nothing: no rate is chosen."""
        yield from ()


def design(cell: Cell) -> Iterator[Comparison]:
    """The base pair at every rate."""
    rates = RATES if ":head" in cell.network else grid_of(cell.network)
    for rate in rates:
        c = compare(cell, PAIR, kinds=("default",), level=rate)
        yield AtRate(c.place, c.arms, c.seeds, c.kinds, c.variant, c.level, c.factors)


PLAN = Plan(
    "rate_profile",
    "The rate profile",
    design,
    tuple(
        Cell(f"plantvillage/{crop}@160", network, EXPLORATORY, 60, ("default",))
        for crop in ("tomato", "apple")
        for network in (cells.LITE, cells.RESNET)
    ),
)
