"""Where things lie: the repository, and what this machine keeps for itself beside it."""

import os
from pathlib import Path


def root() -> Path:
    """The repository the package is run from: its own where it is a checkout, else the working directory."""
    checkout = Path(__file__).parents[1]
    return checkout if (checkout / "results").is_dir() else Path.cwd()


def home() -> Path:
    """Where this machine keeps its runs, packs, downloads and learning rates: `REPLICATION_HOME`, else `.replication`."""
    return Path(os.environ.get("REPLICATION_HOME") or root() / ".replication")
