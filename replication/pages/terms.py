"""Links from the words of a page to their definitions in the glossary."""

ENTRIES = (
    "tier",
    "gain",
    "rate-dependent",
    "gone at n epochs",
    "not trained beyond n epochs",
    "attenuated",
    "grid end",
    "after the fact",
    "explored",
    "macro F1",
    "not in macro F1",
)
"""the glossary's entries that computed text links to"""


def term(entry: str, text: str = "") -> str:
    """A word, linked to its entry in the glossary."""
    return f'<a class="term" href="glossary.html#term-{entry.replace(" ", "-")}">{text or entry}</a>'


def qualifier(words: str) -> str:
    """A qualifier, linked to the entry that explains it."""
    short = words.partition(":")[0]
    entry = next((e for e in ENTRIES if short == e or (" n " in e and short.startswith(e.partition(" n ")[0]))), "")
    return term(entry, words) if entry else words
