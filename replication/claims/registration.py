"""What is planned, as data: written to `registration.json` and committed before the runs that it names."""

import json
from dataclasses import asdict
from pathlib import Path

from replication.claims.law.predictions import PREDICTIONS
from replication.claims.registry import BEYOND, CLAIMS, PLANS, pilots_of, registered
from replication.claims.tiers import EXPLORED, TIERS, explored, tier
from replication.files import write
from replication.paths import root
from replication.study.design import Cell, Comparison
from replication.study.networks import network as network_of
from replication.study.rates import KINDS

VERSION = 7
"""of what is registered; raised when cells are added"""


CHOICE = (
    "by mean validation macro F1 over the pilot seeds, collapsed runs included; ties go to the least validation NLL at "
    "training prevalence, then to the lower rate; a best rate at an end of those tried extends them by half a decade, "
    "three times at most (once where all layers of a network that knows ImageNet are trained)"
)


def file() -> Path:
    """The committed registration."""
    return root() / "registration.json"


def _levels(comparisons: list[Comparison]) -> list[dict]:
    """What a cell compares, one entry per variant and level."""
    return [
        {
            "variant": c.variant,
            "level": c.level,
            "setting": c.place.setting,
            "arms": list(c.arms),
            "rates": list(c.kinds),
            "seeds": [c.seeds.start, c.seeds.stop - 1],
            "tuned at": dict(c.place.at),
            "factors": dict(c.factors),
        }
        for c in comparisons
    ]


def _cell(name: str, cell: Cell) -> dict:
    comparisons = [c for c in PLANS[name].design(cell) if set(c.kinds) <= set(cell.kinds)]
    return {
        "claim": name,
        "setting": cell.setting,
        "network": cell.network,
        "role": cell.role,
        "version": cell.version,
        "tier": tier(cell),
        "explored": explored(cell),
        "seeds": [cell.numbers.start, cell.numbers.stop - 1],
        "rates": list(cell.kinds),
        "pilots": pilots_of(cell),
        "network's factors": network_of(cell.network).factors(cell.setting),
        "comparisons": _levels(comparisons),
    }


def document() -> dict:
    """All that is registered: the claims' criteria, the cells with their comparisons, the predictions of the law."""
    return {
        "version": VERSION,
        "tiers": TIERS,
        "kinds of learning rate": KINDS,
        "choice of learning rates": CHOICE,
        "explored before registration": {" ".join(key): list(images) for key, images in EXPLORED.items()},
        "claims": {
            c.id: {
                "statement": c.statement,
                "replicated when": c.replicated_when,
                "contradicted when": c.contradicted_when,
            }
            for c in CLAIMS.values()
        },
        "beyond the claims": {p.id: p.title for p in BEYOND.values()},
        "cells": [_cell(name, cell) for name, cell in registered()],
        "predictions": [asdict(prediction) for prediction in PREDICTIONS],
    }


def text() -> str:
    """The file's content, one cell per line."""
    parts = document()
    lines = {
        name: "[\n" + ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in value) + "\n ]"
        if isinstance(value, list)
        else json.dumps(value, ensure_ascii=False, indent=2).replace("\n", "\n ")
        for name, value in parts.items()
    }
    return "{\n" + ",\n".join(f' "{name}": {value}' for name, value in lines.items()) + "\n}\n"


def register() -> Path:
    """Write the registration; it counts from the commit that holds it."""
    write(file(), text())
    return file()
