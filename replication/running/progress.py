"""How far a batch of runs is: a bar on a terminal, one line every half minute in a log file."""

import sys
import time

from tqdm import tqdm

LOG_EVERY = 30
"""seconds between two lines of a log"""


class _Lines:
    """A stream for tqdm where nobody can see a bar redrawn: every state becomes a line."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def bar(total: int, unit: str, what: str, **options) -> tqdm:
    """A bar on standard error where somebody can see it redrawn, else lines of a log."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        unit=unit,
        desc=what,
        file=None if terminal else _Lines(),
        mininterval=0.5 if terminal else LOG_EVERY,
        maxinterval=LOG_EVERY,
        ascii=None if terminal else True,
        **options,
    )


class Progress:
    """Runs done of all, runs/s, images/s and time left, on standard error."""

    def __init__(self, runs: int):
        self.bar = bar(runs, "run", "training", smoothing=0.05)
        self.images, self.start = 0, time.monotonic()

    def trained(self, images: int) -> None:
        """So many more training images have gone through a network."""
        self.images += images
        self.bar.set_postfix_str(f"{self.images / (time.monotonic() - self.start):,.0f} images/s", refresh=False)

    def done(self) -> None:
        """One more run is finished and kept."""
        self.bar.update()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()
