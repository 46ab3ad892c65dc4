"""What is measured in a cell: paired mean differences against a margin, and curves over levels."""

from dataclasses import dataclass

import numpy as np

from replication.analysis import statistics as st

# Curves keep a tie with the margin a tie, as the tests of single effects do.
INSIDE, BEYOND = st.MARGIN - st.TINY, st.MARGIN + st.TINY


@dataclass
class Effect:
    """A mean difference over paired seeds, tested against a margin in both directions and for equivalence."""

    d: np.ndarray
    margin: float = st.MARGIN
    adjusted: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Holm-adjusted p that the mean lies above the margin, below it, and within ±|margin|"""
    tests: int = 1
    """how many effects of its cell this one was picked from as the clearest; Bonferroni's factor"""

    def raw(self) -> tuple[float, float, float]:
        """The same p-values before adjustment over cells; all 1 where a difference is not a number."""
        if not np.isfinite(self.d).all():
            return 1.0, 1.0, 1.0
        # TOST is one test: adjusting its two sides apart would allow twice the errors over cells.
        ps = st.p_above(self.d, self.margin), st.p_below(self.d, self.margin), st.tost(self.d, abs(self.margin))
        return tuple(min(1.0, self.tests * p) for p in ps)

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.d)

    @property
    def above(self) -> bool:
        """Whether the mean lies above the margin."""
        return self.adjusted[0] < st.ALPHA

    @property
    def below(self) -> bool:
        """Whether the mean lies below the margin."""
        return self.adjusted[1] < st.ALPHA

    @property
    def within(self) -> bool:
        """Whether the mean lies within ±|margin|."""
        return self.adjusted[2] < st.ALPHA


@dataclass
class Curve:
    """Gains of the same seeds at every level (n, G), compared pair by pair with simultaneous intervals."""

    levels: list[float]
    D: np.ndarray
    pairs: st.Pairwise
    tests: int = 1
    """cells of its family; Bonferroni's factor"""

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.D)

    def all_below(self) -> bool:
        """Whether the gain is shown to lie below the margin at every level: each is tested, all must hold."""
        return all(self.tests * st.p_below(d) < st.ALPHA for d in self.D.T)

    def end_as_good(self) -> bool:
        """Whether there are inner levels, and one end is shown to lie no more than the margin below each of them."""
        last = len(self.levels) - 1
        return last > 1 and any(all(self._difference(k, end)[1] < INSIDE for k in range(1, last)) for end in (0, last))

    def all_within(self) -> bool:
        """Whether there are pairs and every difference is shown to lie within the margin."""
        within = (self.pairs.low > -INSIDE) & (self.pairs.high < INSIDE)
        return len(within) > 0 and bool(within.all())

    def some_apart(self) -> bool:
        """Whether some pair is shown to differ by more than the margin."""
        return bool((self.pairs.low > BEYOND).any() or (self.pairs.high < -BEYOND).any())

    def _difference(self, i: int, j: int) -> tuple[float, float]:
        """Simultaneous interval of the gain at level i minus that at level j."""
        a, b = min(i, j), max(i, j)
        at = int(np.flatnonzero((self.pairs.pairs == (a, b)).all(axis=1))[0])
        low, high = float(self.pairs.low[at]), float(self.pairs.high[at])
        return (low, high) if i < j else (-high, -low)

    def exceeds(self, i: int, j: int) -> bool:
        """Whether the gain at level i is shown to exceed that at level j by more than the margin."""
        return self._difference(i, j)[0] > BEYOND

    def peaks(self) -> list[float]:
        """Inner levels whose gain exceeds that at both ends by more than the margin."""
        last = len(self.levels) - 1
        return [self.levels[k] for k in range(1, last) if self.exceeds(k, 0) and self.exceeds(k, last)]
