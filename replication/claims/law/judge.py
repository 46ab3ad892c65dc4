"""Whether the law's predictions hold: each judged by its registered rule on every cell and level that was run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from replication.claims.law.predictions import Prediction
from replication.claims.law.rules import CHECKS, NEEDED, Check
from replication.claims.law.runs import PLANS, prediction
from replication.results.frame import frame
from replication.run import FACTORS
from replication.study.design import Cell

PASSED, FAILED, NOT_RUN, UNDECIDABLE = "passed", "failed", "not run", "cannot be judged"


@dataclass(frozen=True)
class PredictionVerdict:
    """A prediction with what came of it."""

    prediction: Prediction
    word: str
    checks: tuple[Check, ...]
    done: int
    """runs of those planned that have a result, with what the rule needs of it; each once, however many levels it serves"""
    wanted: int

    @property
    def judged(self) -> tuple[Check, ...]:
        """The checks that the rule decides on, those on the same runs once: the base of several factors is a level of each."""
        found = {
            (c.setting, c.network, c.expected, c.observed, c.low, c.high): c for c in self.checks if c.holds is not None
        }
        return tuple(found.values())

    @property
    def status(self) -> str:
        """The word, with how much was run where that is not all."""
        return self.word if self.done == self.wanted else f"{self.word} ({self.done:,} of {self.wanted:,} runs)"

    @property
    def mean_deviation(self) -> float:
        """Mean size of the deviations that are judged."""
        return float(np.mean([abs(c.deviation) for c in self.judged])) if self.judged else float("nan")

    @property
    def largest_deviation(self) -> float:
        """Size of the largest deviation that is judged."""
        return max((abs(c.deviation) for c in self.judged), default=float("nan"))

    @property
    def largest(self) -> Check | None:
        """The check with the largest deviation in margins, of those that do not hold if there are any."""
        return max(self.judged, key=lambda c: (not c.holds, abs(c.deviation) / c.margin), default=None)


def law_frame(id: str, results: pd.DataFrame, cells: Sequence[Cell] = ()) -> pd.DataFrame:
    """The rows of a prediction's runs, see `results.frame.frame`; comparisons without learning rates have none."""
    wanted, cells = [], cells or PLANS[f"law_{id}"].cells
    for cell in cells:
        for comparison in PLANS[f"law_{id}"].design(cell):
            wanted += [((cell.setting, cell.network), entry) for entry in comparison.chosen()]
    return frame(wanted, results)


def runs_without_rates(id: str, cells: Sequence[Cell] = ()) -> int:
    """Runs that a prediction asks for whose learning rates have not been chosen yet."""
    plan = PLANS[f"law_{id}"]
    comparisons = [c for cell in cells or plan.cells for c in plan.design(cell)]
    return sum(len(c.seeds) * len(c.arms) for c in comparisons if not c.chosen())


def settings() -> tuple[str, ...]:
    """Every setting that a prediction names."""
    return tuple(dict.fromkeys(cell.setting for plan in PLANS.values() for cell in plan.cells))


def judge(id: str, results: pd.DataFrame, cells: Sequence[Cell] = ()) -> PredictionVerdict:
    """Judge one prediction by its registered rule on results (`results.frame.results_frame`), in its cells or others.

    *passed*: all its runs have results and every check holds; *failed*: a check of complete runs does not hold, whatever
    else is missing; *not run*: neither, and runs are missing; *cannot be judged*: all runs have results, and the rule says
    nothing of them. ValueError for an unknown prediction.
    """
    found = prediction(id)
    rows = law_frame(id, results, cells)
    entries = rows.drop_duplicates(["cell_setting", "cell_network", "variant", "level", "arm", "seed"])
    found_of = entries["f1_minority"].notna()
    if id in NEEDED:
        found_of &= entries[NEEDED[id]].notna() if NEEDED[id] in entries else False
    once = ~entries.duplicated(list(FACTORS))
    done, wanted = int((found_of & once).sum()), int(once.sum()) + runs_without_rates(id, cells)
    checks = tuple(CHECKS[id](rows)) if done else ()
    failed = any(c.holds is False for c in checks)
    whole = done == wanted and any(c.holds for c in checks)
    rest = UNDECIDABLE if done == wanted else NOT_RUN
    return PredictionVerdict(found, FAILED if failed else PASSED if whole else rest, checks, done, wanted)


def outcomes(results: pd.DataFrame) -> list[PredictionVerdict]:
    """All predictions, judged in the order of their registration."""
    return [judge(id.removeprefix("law_"), results) for id in PLANS]
