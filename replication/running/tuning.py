"""Which learning rate each arm gets: the best validation macro F1 on the pilot seeds."""

from collections import defaultdict
from collections.abc import Iterable
from math import inf, isfinite
from statistics import fmean


def choose(scores: Iterable[tuple[str, str, float, float, float]]) -> dict[str, dict[str, float]]:
    """From (place, arm, rate, validation macro F1, validation NLL) of one seed each to place -> arm -> rate.

    The rate with the highest mean F1 over seeds wins. Among equals, such as rates that all leave the minority unfound,
    it is that of the least mean NLL at training prevalence (the loss that is trained), then the lowest.
    """
    by_rate: dict[tuple[str, str], dict[float, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for place, arm, rate, f1, nll in scores:
        by_rate[place, arm][rate].append((f1, -nll if isfinite(nll) else -inf))
    chosen: dict[str, dict[str, float]] = defaultdict(dict)
    for (place, arm), rates in by_rate.items():
        chosen[place][arm] = max(sorted(rates), key=lambda rate: tuple(map(fmean, zip(*rates[rate]))))
    return dict(chosen)
