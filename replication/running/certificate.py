"""A certificate of a verification, in the form of CODECHECK's `codecheck.yml`: what was re-run, on what, what agreed."""

import datetime
import json
from dataclasses import dataclass, field

import pandas as pd

from replication.results.reproduction import CELL, TOLERANCE

PAPER = {
    "title": "The Unreasonable Effectiveness of the Final Batch Normalization Layer",
    "authors": ["Veysel Kocaman", "Ofer M. Shir", "Thomas Bäck"],
    "reference": "https://doi.org/10.1007/978-3-030-90436-4_7",
}


@dataclass
class Done:
    """What a verification has done so far."""

    sample: int | None = None
    """seed of the random choice of cells; none where it was not fixed"""
    files: list[str] = field(default_factory=list)
    """published files whose checksums agree"""
    compared: pd.DataFrame = field(default_factory=pd.DataFrame)
    """what `reproduction.compare` gives of the cells trained again"""
    said: list[str] = field(default_factory=list)
    """what was printed, line by line"""
    here: dict = field(default_factory=dict)
    """the provenance record of this machine"""
    agreed: bool = False

    def text(self) -> str:
        """The certificate as YAML; every value is written as JSON, which YAML reads."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        lines = ["---", f"version: {_json('https://codecheck.org.uk/spec/config/1.0/')}", "paper:"]
        lines += [f"  title: {_json(PAPER['title'])}", "  authors:"]
        lines += [f"    - name: {_json(name)}" for name in PAPER["authors"]]
        lines += [f"  reference: {_json(PAPER['reference'])}", "manifest:"]
        lines += [
            f"  - file: {_json(f'results/{name}')}\n    comment: {_json('checksum as in the manifest')}"
            for name in self.files
        ] or ["  []"]
        lines += ["codechecker:", f"  - name: {_json('replication verify, an automatic check; no person has looked')}"]
        lines += [f"summary: {_json(' '.join(self.said))}", f"agreed: {_json(self.agreed)}"]
        lines += [f"tolerance_in_mean_f1: {TOLERANCE}", f"sample: {_json(self.sample)}", f"machine: {_json(self.here)}"]
        lines += (
            ["retrained:", *(f"  - {_json(cell)}" for cell in self._cells())]
            if len(self.compared)
            else ["retrained: []"]
        )
        lines += [f"check_time: {_json(now)}"]
        return "\n".join(lines) + "\n"

    def _cells(self) -> list[dict]:
        varied = [f for f in CELL if self.compared[f].nunique() > 1 or f in ("setting", "network", "init", "trained")]
        kept = [*varied, "seeds", "published", "fresh", "difference", "identical"]
        return json.loads(self.compared[kept].to_json(orient="records"))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
