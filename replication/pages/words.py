"""Numbers as readers see them: one form for signs, intervals, p-values and times on every page."""

from collections.abc import Collection

import numpy as np

from replication.analysis import statistics as st
from replication.running.expectation import duration as duration

MINUS, NBSP = "\u2212", "\u00a0"


def number(value: float, digits: int = 2) -> str:
    """A value with so many digits and a true minus; zero has no sign, and what is not a number reads `not defined`."""
    if not np.isfinite(value):
        return "not defined"
    text = f"{abs(value):,.{digits}f}"
    return MINUS + text if value < 0 and float(text.replace(",", "")) else text


def signed(value: float, digits: int = 2) -> str:
    """A difference: as `number`, with a plus where it is above zero."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and text.strip("0.,") else text


def between(low: float, high: float, digits: int = 2) -> str:
    """An interval of differences, unbroken."""
    return f"{signed(low, digits)}{NBSP}to{NBSP}{signed(high, digits)}"


def estimate(d: np.ndarray, digits: int = 2) -> str:
    """A mean difference (n,) with its 95 % interval and the number of seeds."""
    return f"{signed(d.mean(), digits)} (95{NBSP}% interval {between(*st.bca(d), digits)}, {len(d)} seeds)"


def span(found: Collection[float], digits: int = 2) -> str:
    """Least and largest of some sizes, in words; one where they read alike."""
    low, high = (number(size, digits) for size in (min(found), max(found)))
    return low if low == high else f"{low} to {high}"


def p_value(p: float) -> str:
    """A p-value as far as it matters."""
    return f"{p:.3f}" if p >= 0.001 else "below 0.001"


def rate_text(value: float) -> str:
    """A learning rate, written out."""
    return np.format_float_positional(value, trim="-")


def listed(words: list[str], last: str = "and") -> str:
    """Words as a list in a sentence."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""
