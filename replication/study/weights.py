"""ImageNet's weights by their digests, for the keys of runs: those committed, and those this machine has read."""

import json
import os
from pathlib import Path

from replication.files import write
from replication.paths import home

COMMITTED: dict[str, str] = json.loads(Path(__file__).with_name("imagenet.json").read_text())
"""network -> digest of the weights that this study uses, see `replication.training.weights.digest`"""


def folder() -> Path | None:
    """Where the user keeps weights: `REPLICATION_WEIGHTS`, which goes before what libraries keep."""
    named = os.environ.get("REPLICATION_WEIGHTS")
    return Path(named) if named else None


def saved(network: str) -> Path | None:
    """The file `NETWORK.pt` in that folder, if it is there."""
    path = folder() and folder() / f"{network}.pt"
    return path if path and path.is_file() else None


def _state_of(file: Path | None) -> list:
    """What changes when a file does: path, bytes, time of change. Libraries that tell no file have none."""
    if file is None:
        return ["", 0, 0]
    try:
        told = file.stat()
    except OSError:
        return [str(file), -1, -1]
    return [str(file), told.st_size, told.st_mtime_ns]


def _notes() -> dict[str, dict]:
    try:
        found = json.loads((home() / "weights.json").read_text())
        return {
            name: note for name, note in found.items() if isinstance(note["digest"], str) and len(note["file"]) == 3
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # not there, or damaged: they are noted anew
        return {}


def check_unchanged(network: str, digest: str, file: Path | None) -> None:
    """ValueError where a file has other weights than were noted although its size and time are those noted."""
    noted = _notes().get(network)
    if file and noted and noted["file"] == _state_of(file) and noted["digest"] != digest:
        raise ValueError(
            f"the weights in {file} have changed since they were noted (digest {digest}, not {noted['digest']}): get the "
            f"file again, or run `replication weights {network}` after deleting {home() / 'weights.json'}"
        )


def note(network: str, digest: str, file: Path | None) -> None:
    """Remember the digest of weights that were read from a file, in `weights.json` of this machine's own folder."""
    notes, new = _notes(), {"digest": digest, "file": _state_of(file)}
    if notes.get(network) != new:
        write(home() / "weights.json", json.dumps(notes | {network: new}, indent=1, sort_keys=True) + "\n")


def digest_of(network: str) -> str:
    """The digest of the ImageNet weights that a network starts from, without reading them.

    Of a network in `COMMITTED` the one committed; else the one noted when the weights were last read on this machine.
    ValueError where none is, and where the file has changed since or another one goes before it.
    """
    if network in COMMITTED:
        return COMMITTED[network]
    noted = _notes().get(network)
    if noted:
        first = saved(network) or (Path(noted["file"][0]) if noted["file"][0] else None)
        if noted["file"] == _state_of(first):
            return noted["digest"]
    raise ValueError(
        f"the ImageNet weights of network {network!r} {'have changed' if noted else 'are not known'} on this machine: "
        f"run `replication weights {network}`, which reads them and notes their digest for the keys of runs"
    )
