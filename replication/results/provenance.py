"""Where results come from: commit, package versions, hardware. Beside a result, never in its key."""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

from replication.paths import root

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip() if done.returncode == 0 else ""


def commit() -> str:
    """The commit of the code that runs: from `REPLICATION_COMMIT` or git, `+` behind it where files were changed."""
    if given := os.environ.get("REPLICATION_COMMIT"):
        return given
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "replication") if head else ""
    except OSError:
        return "unknown"
    return (head or "unknown") + ("+" if changed else "")


def model_of(cpuinfo: str) -> str:
    """The processor in the text of `/proc/cpuinfo`, with family and model: a virtual machine's name hides the generation.

    Results agree to the bit on one generation alone. Empty where the text names none.
    """
    told = dict(
        reversed([[part.strip() for part in line.split(":", 1)] for line in cpuinfo.splitlines() if ":" in line])
    )
    numbers = ", ".join(
        f"{name} {told[key]}" for name, key in (("family", "cpu family"), ("model", "model")) if key in told
    )
    name = told.get("model name", "")
    return f"{name} ({numbers})" if name and numbers else name


def processor() -> str:
    """Model of the processor and its number of cores in use."""
    try:
        model = model_of(Path("/proc/cpuinfo").read_text())
    except OSError:
        model = ""
    return f"{model or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, those installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def registration() -> str:
    """SHA-256 of `registration.json`, in which is written what is planned; empty where there is none.

    Or `REPLICATION_REGISTRATION`, by which a cluster's driver tells its nodes.
    """
    if (given := os.environ.get("REPLICATION_REGISTRATION")) is not None:
        return given
    path = root() / "registration.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def record(device: str, engine: str = "loop", accelerator: str = "") -> dict:
    """The provenance of everything trained by this process on that device, with an id that is a digest of it."""
    hardware = ", ".join(filter(None, (accelerator, processor())))
    facts = {
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware,
        "device": device,
        "engine": engine,
        "registration": registration(),
    }
    return {"id": hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12], **facts}
