"""Where the repository is published: one address, in `_config.yml`; while it is a placeholder nothing links to it."""

import re

from replication.paths import root


def address() -> str:
    """The repository's address, as `repository: url:` in `_config.yml` has it; empty where there is none yet (example.org)."""
    config = root() / "_config.yml"
    found = (
        re.search(r'^repository:\n(?:[ #].*\n)*?  url: *"?([^"\s#]*)', config.read_text(), re.M)
        if config.is_file()
        else None
    )
    return found[1].rstrip("/") if found and "//example.org" not in found[1] else ""


def commit_html(commit: str) -> str:
    """A commit, linked where the repository has an address."""
    short, here = f"<code>{commit}</code>", address()
    return f'<a href="{here}/commit/{commit.rstrip("+")}">{short}</a>' if here and commit != "unknown" else short
