"""One environment told alike by pyproject.toml, requirements.lock, environment.yml, Makefile and CI."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import replication
from replication.claims import registry
from replication.cli.parser import parser

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED = ("train", "book", "test", "onnx")
"""extras that the lock pins beside what the package itself needs"""
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
DIRECT = RUNTIME + list(dict.fromkeys(Requirement(text) for extra in LOCKED for text in EXTRAS[extra]))


def pins(name: str) -> list[Requirement]:
    """The lock's entries for a package: more than one where versions differ by Python or platform."""
    lines = [line.rstrip("\\ ") for line in LOCK.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    return [pin for pin in map(Requirement, lines) if canonicalize_name(pin.name) == canonicalize_name(name)]


def version(pin: Requirement) -> str:
    return str(pin.specifier).removeprefix("==")


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda wanted: wanted.name)
def test_direct_dependency_is_pinned_within_its_range(wanted):
    assert pins(wanted.name)
    assert all(str(pin.specifier).startswith("==") for pin in pins(wanted.name))
    assert all(version(pin) in wanted.specifier for pin in pins(wanted.name))


@pytest.mark.parametrize("name", [wanted.name for wanted in DIRECT])
def test_installed_version_is_the_locked_one(name):
    [locked] = [version(pin) for pin in pins(name) if pin.marker is None or pin.marker.evaluate()]
    assert importlib.metadata.version(name).split("+")[0] == locked


def test_lock_is_hashed_and_names_no_index():
    entries = re.split(r"\n(?=[A-Za-z0-9])", LOCK.strip())
    assert len(entries) > len(DIRECT)
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"--index-url|--extra-index-url|--find-links|https?:|\+cpu|\+cu\d", LOCK)


def test_lock_is_made_of_the_package_and_the_extras_that_tests_need():
    [recipe] = re.findall(r"^lock:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert tuple(re.findall(r"--extra (\S+)", recipe)) == LOCKED
    assert not any(pins(Requirement(text).name) for text in EXTRAS["peers"])


def test_readers_need_no_tools_of_the_tests():
    tools = {
        "pytest",
        "pytest-xdist",
        "hypothesis",
        "torchmetrics",
        "import-linter",
        "selenium",
        "axe-playwright-python",
        "ruff",
        "pyright",
        "pandas-stubs",
        "onnx",
    }
    assert tools <= {Requirement(text).name for text in EXTRAS["test"]}
    assert not tools & {wanted.name for wanted in RUNTIME}
    assert not {"torch", "torchvision", "timm", "jupyter-book", "papermill"} & {wanted.name for wanted in RUNTIME}


def test_python_range_is_told_alike():
    wanted = SpecifierSet(PROJECT["requires-python"])
    [conda] = [line for line in environment()["dependencies"] if str(line).startswith("python")]
    assert SpecifierSet(conda.removeprefix("python")) == wanted
    makefile = (ROOT / "Makefile").read_text()
    [bounds] = re.findall(r"\((3, \d+)\) <= sys.version_info\[:2\] < \((3, \d+)\)", makefile)
    assert SpecifierSet(">={},<{}".format(*(bound.replace(", ", ".") for bound in bounds))) == wanted
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        versions = re.findall(r'"(3\.\d+)"', workflow.read_text())
        assert versions and all(f"{version}.99" in wanted for version in versions), workflow.name


def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def test_conda_installs_the_lock():
    assert {"pip": ["-r requirements.lock"]} in environment()["dependencies"]


def test_binder_installs_locked_versions_without_torch():
    """repo2docker knows one Python version, and no range; what it installs is held to the lock's versions."""
    wanted = yaml.safe_load((ROOT / "binder/environment.yml").read_text())["dependencies"]
    [python] = [str(line) for line in wanted if str(line).startswith("python")]
    assert re.fullmatch(r"python=3\.1[123]", python) and "pip" in wanted
    script = ROOT / "binder/postBuild"
    assert os.access(script, os.X_OK) and not (ROOT / "postBuild").exists()
    [command] = re.findall(r"^sed .*? requirements.lock", script.read_text(), re.M)
    held = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    assert {canonicalize_name(Requirement(line).name) for line in held} >= {canonicalize_name(w.name) for w in RUNTIME}
    assert not any("--hash" in line for line in held) and "[train]" not in script.read_text()


def test_version_is_told_alike():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    deposit = json.loads((ROOT / ".zenodo.json").read_text())
    assert citation["version"] == deposit["version"] == PROJECT["version"] == replication.__version__
    assert (citation["title"], citation["license"]) == (deposit["title"], deposit["license"])
    assert f"## {replication.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_import_contracts():
    done = subprocess.run([BIN / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def loaded(module: str) -> set[str]:
    """The heavy libraries in memory after importing a module in a fresh interpreter."""
    code = f"import sys, {module}; print(*{{'torch', 'torchvision', 'pandas', 'numpy'}} & set(sys.modules))"
    return set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())


@pytest.mark.parametrize("module", ["replication", "replication.cli"])
def test_import_is_light(module):
    assert not loaded(module)


@pytest.mark.parametrize(
    "module", ["replication.claims.registry", "replication.study.design", "replication.running.local"]
)
def test_import_needs_no_torch(module):
    assert not loaded(module) & {"torch", "torchvision"}


def commands() -> list[str]:
    """The commands in the README's code blocks that this project itself answers."""
    blocks = re.findall(r"```(?:bash|sh|console)?\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if re.match(r"make |(\.venv/bin/)?replication ", line)]


def test_readme_names_the_two_commands():
    assert {"make book", "make test"} <= set(commands())


def test_readme_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for command in commands():
        verb = command.split()[1]
        if command.startswith("make "):
            assert re.search(rf"^{verb}:", makefile, re.MULTILINE), command
        else:
            help_ = [sys.executable, "-m", "replication", verb, "--help"]
            assert subprocess.run(help_, cwd=ROOT, capture_output=True).returncode == 0, command


def make(*arguments, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """`make` as a user calls it, also where make runs this test."""
    inherited = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    clean = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(["make", *arguments], cwd=cwd, env=clean, capture_output=True, text=True)


def test_make_help_lists_every_target():
    [phony] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {line.split()[0] for line in make("help").stdout.splitlines()} == set(phony.split())


@pytest.mark.parametrize("target", ["book", "test"])
def test_make_refuses_an_unfit_python_in_one_sentence(target, tmp_path):
    for name in ["Makefile", "requirements.lock", "pyproject.toml", "_config.yml", "_toc.yml"]:
        shutil.copy(ROOT / name, tmp_path)
    for name in ["book", "replication"]:
        (tmp_path / name).mkdir()
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1 && exit 0\nexit 1\n')
    python.chmod(0o755)
    done = make(target, f"PYTHON={python}", cwd=tmp_path)
    assert done.returncode != 0
    [sentence] = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert sentence.startswith("The book needs Python 3.11, 3.12 or 3.13; found Python 3.9.1")


def test_make_book_trains_the_first_seeds_of_the_claims_digits_cells():
    """All but those of the ResNet, whose weights are a file of their own."""
    recipe = make("--dry-run", "--old-file=.venv/installed", "--always-make", "book/_build/trained-5").stdout
    trained = set()
    for line in re.findall(r"replication run (.+)", recipe.replace("\\\n", " ")):
        a = parser().parse_args(["run", *line.split()])
        trained |= set(registry.runs(a.claims, a.settings, a.networks, a.seeds, a.rates or ()))
    wanted = {
        run
        for name, claim in registry.CLAIMS.items()
        for cell in claim.cells
        if cell.setting == "digits" and not cell.network.startswith("resnet_cntk")
        for run in registry.runs([name], [cell.setting], [cell.network], 5)
    }
    assert wanted and wanted <= trained
