"""Where things lie: the repository, and what this machine keeps for itself beside it."""

import os
from pathlib import Path


def root() -> Path:
    """The repository the package is run from: its own where it is a checkout, else the working directory."""
    checkout = Path(__file__).parents[1]
    return checkout if (checkout / "results").is_dir() else Path.cwd()


def is_checkout() -> bool:
    """Whether the package is run from a checkout of the book."""
    return (root() / "_toc.yml").is_file() and (root() / "book").is_dir()


def check_checkout(verb: str, or_results: bool = False) -> None:
    """ValueError where a verb is used outside a checkout of the book, unless results elsewhere do as well and are named."""
    if is_checkout() or or_results and os.environ.get("REPLICATION_RESULTS"):
        return
    instead = ", or set REPLICATION_RESULTS to a folder of published results" if or_results else ""
    raise ValueError(
        f"`replication {verb}` needs the book, and {root()} is no checkout of it: run this in one{instead}"
    )


def home() -> Path:
    """Where this machine keeps its runs, packs, downloads and learning rates: `REPLICATION_HOME`, else `.replication`.

    That lies in the checkout; outside one in the user's home, so that a command resumes from any working folder, unless
    the working folder has one.
    """
    if named := os.environ.get("REPLICATION_HOME"):
        return Path(named)
    here = root() / ".replication"
    return here if is_checkout() or here.is_dir() else Path.home() / ".replication"
