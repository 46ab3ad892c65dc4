"""Where things lie: the repository, and what this machine keeps for itself beside it."""

import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write a file that is there whole or as it was, whatever happens meanwhile; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def root() -> Path:
    """The repository the package is run from: its own where it is a checkout, else the working directory."""
    checkout = Path(__file__).parents[1]
    return checkout if (checkout / "results").is_dir() else Path.cwd()


def home() -> Path:
    """Where this machine keeps its runs, packs, downloads and learning rates: `REPLICATION_HOME`, else `.replication`."""
    return Path(os.environ.get("REPLICATION_HOME") or root() / ".replication")
