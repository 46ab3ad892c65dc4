"""What may be asked for: names, numbers and times are refused here, each in one sentence that says what is allowed."""

import time
from collections.abc import Iterable
from math import inf

SEEDS = (1, 1000)
"""how many seeds may be asked for"""
WORKERS = (1, 1024)
"""how many processes"""
SIDES = (8, 1024)
"""least and largest side of square images, in pixels"""


def check_known(kind: str, name: str, allowed: Iterable[str], more: str = "") -> None:
    """ValueError unless a name is one of those allowed; `more` is said behind them."""
    names = list(allowed)
    if name not in names:
        raise ValueError(f"unknown {kind} {name!r}: allowed are {', '.join(names)}{more}")


def check_within(least: float, most: float | None = None, **given: float | None) -> None:
    """ValueError, which tells the limits, for the first of some numbers that lies outside; None is not given."""
    for name, value in given.items():
        if value is not None and (value < least or (most is not None and value > most)):
            limits = f"at least {least}" + (f" and at most {most}" if most is not None else "")
            raise ValueError(f"{name} = {value} is not allowed: {limits}")


def deadline(time_budget: float | None) -> float:
    """When so many seconds are over, on the clock of `time.monotonic`; never without a budget.

    ValueError for a negative number, and for one that is none.
    """
    if time_budget is None:
        return inf
    if not time_budget >= 0:  # nan too
        raise ValueError(f"time budget {time_budget:g} s is not allowed: at least 0")
    return time.monotonic() + time_budget
