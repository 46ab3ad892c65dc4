"""The command `replication`: train, tune, judge, publish and check."""

import argparse
import os
import sys

from replication.cli import verbs
from replication.cli.parser import parser

__all__ = ["main", "parser"]


FOLDERS = {"data": "REPLICATION_DATA", "results": "REPLICATION_RESULTS"}
"""options that stand for a variable of the environment: worker processes and kernels inherit it"""


def _set_folders(a: argparse.Namespace) -> None:
    """Put the folders given by options into the environment. ValueError where there is nothing to be read."""
    if (data := getattr(a, "data", None)) and a.action is not verbs.data_fetch and not data.is_dir():
        raise ValueError(f"--data {data} is not a folder: it should hold one folder per data set, such as cracks/")
    if (results := getattr(a, "results", None)) and not (results / "manifest.json").is_file():
        raise ValueError(
            f"--results {results} holds no published results: `replication publish --to {results}` makes it"
        )
    os.environ.update(
        {name: str(given.resolve()) for option, name in FOLDERS.items() if (given := getattr(a, option, None))}
    )


def main(arguments: list[str] | None = None) -> int:
    """Carry out one command; errors that a user can mend are one sentence on stderr and exit status 2."""
    for stream in (sys.stdout, sys.stderr):  # a locale that lacks a letter must not cost a result
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    a = parser().parse_args(arguments)
    try:
        _set_folders(a)
        a.action(a)
    except (ValueError, OSError) as error:
        print(f"replication: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"replication: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision", "timm", "jupyter_book", "papermill"):
            raise
        print(
            f"replication: {error.name} is not installed: `make setup` installs everything, outside a checkout "
            "`pip install 'final-batchnorm-replication[train,book]'`",
            file=sys.stderr,
        )
        return 1
    except MemoryError as error:
        print(
            f"replication: the memory does not suffice ({error or 'no more said'}): ask for less at a time; every "
            "finished run is kept",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("replication: interrupted; every finished run is kept", file=sys.stderr)
        return 130
    return 0
