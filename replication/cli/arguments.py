"""What an argument of the command line may be; argparse turns what is refused into the usage and one sentence."""

import argparse
import re
from pathlib import Path

from replication.running import sharding


def shard(text: str) -> tuple[int, int]:
    """Which part of how many: `I/N`."""
    try:
        return sharding.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def counts(text: str) -> tuple[int, int]:
    """Two numbers of images: `N:M`."""
    many, _, few = text.partition(":")
    if not (many.isascii() and many.isdigit() and few.isascii() and few.isdigit() and int(many) and int(few)):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: two numbers of images such as 1000:10")
    return int(many), int(few)


def names(text: str) -> list[str]:
    """Comma-separated names, or a JSON list, each once."""
    from replication.data import settings  # which takes numpy along

    try:
        listed = settings.names(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not listed:
        raise argparse.ArgumentTypeError("it names nothing: leave it out, or give comma-separated names")
    return list(dict.fromkeys(listed))


def path(text: str) -> Path:
    """A file or folder."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("it names no file or folder: leave it out, or give a path")
    return Path(text)


def whole(text: str) -> int:
    """A whole number in the digits 0 to 9."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):  # int() takes digits of all scripts, and 1_0
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number in the digits 0 to 9")
    return int(text)


def number(text: str) -> float:
    """A number in the digits 0 to 9."""
    if not text.isascii() or "_" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number in the digits 0 to 9")
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
