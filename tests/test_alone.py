"""A notebook opened alone, in an environment that has Jupyter and nothing else, shows the published results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ["index", "base", "law", "summary"]


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory) -> Path:
    """A fresh environment with Jupyter alone."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin/pip", "install", "--quiet", "nbconvert", "ipykernel"], check=True)
    return venv / "bin"


@pytest.mark.skipif(not os.environ.get("REPLICATION_WEEKLY"), reason="weekly: it installs an environment")
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_opened_alone_shows_published_results(jupyter, tmp_path, name):
    (tmp_path / "page.ipynb").write_bytes((ROOT / "book" / f"{name}.ipynb").read_bytes())
    unset = ("PYTHONPATH", "REPLICATION_HOME", "REPLICATION_RESULTS")
    environment = {k: v for k, v in os.environ.items() if k not in unset} | {"REPLICATION_SOURCE": f"file://{ROOT}"}
    command = [
        jupyter / "jupyter",
        "nbconvert",
        "--execute",
        "--to",
        "notebook",
        "--output",
        "done.ipynb",
        "page.ipynb",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    shown, published = (texts(path) for path in (tmp_path / "done.ipynb", ROOT / "book" / f"{name}.ipynb"))
    assert shown == published
    torch = subprocess.run([jupyter / "python", "-c", "import torch"], capture_output=True)
    assert torch.returncode != 0, "torch was installed, which showing results does not need"


def texts(path: Path) -> list[str]:
    """The computed sentences of a notebook."""
    outputs = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", ())]
    return ["".join(o["data"]["text/markdown"]) for o in outputs if "text/markdown" in o.get("data", {})]
