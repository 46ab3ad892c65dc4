"""The verdicts as data: `results/claims.json`, written whenever results are published, for those who cite or compare."""

import json
from pathlib import Path

import numpy as np

from replication.analysis import statistics as st
from replication.analysis.effects import Curve, Effect
from replication.claims.verdict import CellVerdict, Headline, Judgement
from replication.files import write
from replication.pages import judgements
from replication.pages.parameters import Parameters
from replication.pages.scoreboard import Scoreboard

NAME = "claims.json"
FORM = 1
"""raised when the file's form changes"""


def _number(j: Judgement, c: CellVerdict) -> dict | None:
    """The effect that the criterion turns on, or the range of a curve's mean gains."""
    name, label = j.claim.headline
    measure = c.measures.get("own", {}).get(name)
    if isinstance(measure, Curve):
        means = measure.D.mean(axis=0)
        return {"what": label, "least": _round(means.min()), "largest": _round(means.max()), "seeds": int(measure.n)}
    if isinstance(measure, Effect) and np.isfinite(measure.d).all():
        low, high = st.bca(measure.d)
        interval = [_round(low), _round(high)]
        return {"what": label, "mean": _round(measure.d.mean()), "interval_95": interval, "seeds": int(measure.n)}
    return None


def _round(value: float) -> float:
    return round(float(value), 4)


def _headline(j: Judgement, h: Headline) -> dict:
    cell = {"setting": h.lead.cell.setting, "network": h.lead.cell.network} if h.lead else None
    return {
        "part": h.part,
        "verdict": h.word,
        "tier": h.tier,
        "cell": cell,
        "qualifiers": list(judgements.headline_notes(h)),
        "number": _number(j, h.lead) if h.lead else None,
        "why": h.reason,
        "nearer_tiers": list(h.beside),
    }


def claims(board: Scoreboard) -> dict:
    """Every claim with its criterion, headlines and cells."""
    return {
        "form": FORM,
        "claims": {
            name: {
                "title": j.claim.title,
                "statement": j.claim.statement,
                "source": j.claim.source,
                "replicated_when": j.claim.replicated_when,
                "contradicted_when": j.claim.contradicted_when,
                "headlines": [_headline(j, h) for h in j.headlines],
                "cells": [
                    {
                        "setting": c.cell.setting,
                        "network": c.cell.network,
                        "variant": c.unit.variant,
                        "tier": c.tier,
                        "verdict": c.word,
                        "qualifiers": list(judgements.notes(c)),
                        "seeds": [int(c.done), int(c.cell.seeds)],
                        "number": _number(j, c),
                    }
                    for c in j.cells
                ],
            }
            for name, j in board.judgements.items()
        },
    }


def write_claims(where: Path) -> Path:
    """Judge the published results and write the file into their folder."""
    path = where / NAME
    text = json.dumps(claims(Scoreboard(Parameters())), indent=1, ensure_ascii=False)
    write(path, text + "\n")
    return path
