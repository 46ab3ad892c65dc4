"""Which learning rate each arm gets: the best validation macro F1 on the pilot seeds."""

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean


def choose(scores: Iterable[tuple[str, str, float, float]]) -> dict[str, dict[str, float]]:
    """From (place, arm, rate, validation macro F1 of one seed) to place -> arm -> rate.

    The rate with the highest mean over seeds wins; among equals the lowest.
    """
    by_rate: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for place, arm, rate, f1 in scores:
        by_rate[place, arm][rate].append(f1)
    chosen: dict[str, dict[str, float]] = defaultdict(dict)
    for (place, arm), rates in by_rate.items():
        chosen[place][arm] = max(sorted(rates), key=lambda rate: fmean(rates[rate]))
    return dict(chosen)
