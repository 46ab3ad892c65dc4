"""The page on reliability: counts of deliberate faults; the cost of work at scale, measured and projected."""

import json

import pandas as pd
from IPython.display import HTML, Markdown

from replication.claims.registry import CLAIMS
from replication.pages.tables import shown
from replication.pages.words import duration, listed, number
from replication.paths import root

NODES, DEVICES, RUNS = 10, 8, 1_000_000
"""of the projection: nodes, GPUs per node, runs"""
SECONDS = (100.0, 10.0, 1.0, 0.1)
"""seconds of training a run that the projection goes through"""
GOALS = {"reproduced": 60, "peak": 2000, "size": 5000, "page": 5}
"""for a million rows: seconds and megabytes of `reproduced`, bytes per row of the store; seconds of any page"""
FAULTS = {
    "kills": "a writer killed",
    "flips": "a bit flipped in a file, or the file cut short",
    "fuzz": "the command line called with nonsense",
    "full disk": "a disk that is full (two checks a case)",
    "read-only": "everything read by a user who may write nothing",
    "at once": "four processes that write the same at once",
}
COUNTED = {
    "kills": "killed writers",
    "flips": "damaged files",
    "fuzz": "nonsensical commands",
    "full disk": "writes to a full disk",
    "read-only": "readings without the right to write",
    "at once": "simultaneous writes",
}
OUTCOMES = {
    "kept": "all that was finished is there",
    "found": "noticed, and said in one sentence",
    "harmless": "read as before, as what was damaged is not read",
    "survived": "damaged rows set aside and named, the others read as before",
    "refused": "refused in one sentence",
    "done": "carried out",
    "wrong": "<strong>wrong</strong>",
}
STEPS = {
    "add": "runs stored one by one, each its own transaction",
    "keys": "`run` looks for what is missing",
    "scores": "scores read",
    "reproduced": "`reproduced` compares the store with as many published results",
}


class Reliability:
    """Counts of faults and measurements at scale, as `benchmarks/faults.py` and `benchmarks/scale.py` left them."""

    def __init__(self, faults: dict, scale: dict):
        self.faults, self.scale = faults, scale
        self.steps = self._part("rows")

    def _part(self, name: str) -> list[dict]:
        return self.scale[name]["measured"] if name in self.scale else []

    def _said(self, name: str) -> str:
        """Where and how busy a part was measured."""
        part = self.scale[name]
        return f"{part['hardware']}, load {part['load']:g}"

    def _busy(self, name: str) -> str:
        """What other work on the machine does to a part's seconds; empty where there was none."""
        other = self.scale[name]["load"] > 1
        return " The machine was also doing other work, so its seconds are upper bounds." if other else ""

    # --- Faults ---------------------------------------------------------------------------------------

    def cases(self, kind: str) -> int:
        """How many cases of a kind of fault were tried; on a full disk each gives two outcomes, of writer and reader."""
        n = sum(n for outcome, n in self.faults["counts"][kind].items() if outcome in OUTCOMES)
        return n // 2 if kind == "full disk" else n

    def verdict(self) -> Markdown:
        """All counts in one sentence."""
        counts, wrong = self.faults["counts"], self.faults["wrong"]
        what = listed([f"{self.cases(kind):,} {COUNTED[kind]}" for kind in counts])
        end = "No finished work was lost, and nothing was misread without notice."
        return Markdown(
            f"The following were tried: {what}. "
            + (f"**In {wrong} of these cases something went wrong.**" if wrong else end)
        )

    def counts(self) -> HTML:
        """What became of every kind of fault."""
        made = []
        for kind, counts in self.faults["counts"].items():
            when = [f"{n:,} {name}" for name, n in counts.items() if name not in OUTCOMES]
            made.append(
                {
                    "fault": FAULTS[kind] + (f" ({', '.join(when)})" if when else ""),
                    "cases": f"{self.cases(kind):,}",
                    "outcomes": "; ".join(
                        f"{counts[name]:,} {words}" for name, words in OUTCOMES.items() if counts.get(name)
                    ),
                    "wrong": counts.get("wrong", 0),
                }
            )
        return shown(pd.DataFrame(made), f"Deliberate faults, {self.faults['hardware']}, seed {self.faults['seed']}")

    # --- The store ------------------------------------------------------------------------------------

    def measured(self, step: str, what: str) -> dict[int, float]:
        """A measurement of a step by rows of the store, the smallest store first."""
        return dict(sorted((row["rows"], row[what]) for row in self.steps if row["step"] == step))

    def store(self) -> HTML:
        """Every step at every size."""
        made = []
        for step, words in STEPS.items():
            if step == "add":
                continue
            for what, unit, digits in (("seconds", "s", 1), ("peak_mb", "MB at most", 0)):
                goal = GOALS[{"seconds": step, "peak_mb": "peak"}[what]] if step == "reproduced" else None
                values = {f"{n:,} rows": number(v, digits) for n, v in self.measured(step, what).items()}
                made.append({"what": f"{words}, {unit}"} | values | {"goal": "" if goal is None else f"{goal:,}"})
        sizes = {f"{n:,} rows": f"{v:,}" for n, v in self.measured("size", "bytes_per_row").items()}
        made.append({"what": "the store, bytes per row"} | sizes | {"goal": f"{GOALS['size']:,}"})
        return shown(pd.DataFrame(made), f"The local store at scale, {self._said('rows')}")

    def rows_per_second(self) -> float:
        """Rows a second that one driver stores, the slower of its measurements."""
        return min(row["rows"] / row["seconds"] for row in self.steps if row["step"] == "add")

    def goals(self) -> Markdown:
        """Whether the largest store keeps to the goals, in sentences."""
        rows, seconds = max(self.measured("reproduced", "seconds").items())
        peak, size = self.measured("reproduced", "peak_mb")[rows], self.measured("size", "bytes_per_row")[rows]
        hold = {
            f"{seconds:.0f} s of `reproduced` (goal {GOALS['reproduced']} s)": seconds <= GOALS["reproduced"],
            f"{peak / 1000:.1f} GB of memory (goal {GOALS['peak'] / 1000:g} GB)": peak <= GOALS["peak"],
            f"{size / 1000:.1f} kB a row on the disk (goal {GOALS['size'] / 1000:g} kB)": size <= GOALS["size"],
        }
        met, missed = ([text for text, met in hold.items() if met == kind] for kind in (True, False))
        parts = [
            f"{word}: {listed(texts)}" for word, texts in (("within the goal", met), ("beyond it", missed)) if texts
        ]
        return Markdown(f"With {rows:,} rows, {'; '.join(parts)}.{self._busy('rows')}")

    # --- Backends -------------------------------------------------------------------------------------

    def added(self, backend: str) -> tuple[float, float] | None:
        """Seconds that a backend adds to every run, and once: what a call takes beyond training; None if not measured."""
        rows = sorted((r for r in self._part("backends") if r["backend"] == backend), key=lambda r: r["runs"])
        if len(rows) < 2:
            return None
        (few, many), (least, most) = rows, (row["seconds"] - row["training"] for row in rows)
        each = max(0.0, (most - least) / (many["runs"] - few["runs"]))
        return each, max(0.0, least - few["runs"] * each)

    def backends(self) -> HTML:
        """What each way of carrying out runs adds to their training."""
        names = {"local": "this machine's processes; a shard of a job array is the same", "ray": "Ray, on this machine"}
        many = max(row["runs"] for row in self._part("backends"))
        made = []
        for backend, words in names.items():
            each, once = self.added(backend) or (None, None)
            made.append(
                {
                    "backend": words,
                    "added to every run, s": "not measured" if each is None else number(each, 3),
                    "added once, s": "not measured" if once is None else number(once, 1),
                }
            )
        caption = f"What a backend adds to training, from calls of few runs and of {many}, {self._said('backends')}"
        return shown(pd.DataFrame(made), caption)

    # --- The model ------------------------------------------------------------------------------------

    @property
    def overhead(self) -> float:
        """Seconds added to every run in the model: Ray's, or where that was not measured those of a process."""
        return (self.added("ray") or self.added("local") or (0.0, 0.0))[0]

    def hours(self, seconds: float, devices: int = NODES * DEVICES, runs: int = RUNS) -> tuple[float, float]:
        """Hours that devices need for all runs, and the one driver for storing them; the longer one counts."""
        return runs * (seconds + self.overhead) / devices / 3600, runs / self.rows_per_second() / 3600

    def breaks_at(self, devices: int = NODES * DEVICES) -> float:
        """Seconds per run, all included, below which the driver is the limit."""
        return devices / self.rows_per_second()

    def projection(self) -> HTML:
        """The model's hours for a million runs on ten nodes of eight GPUs."""
        made = []
        for seconds in SECONDS:
            devices, driver = self.hours(seconds)
            made.append(
                {
                    "training a run takes, s": f"{seconds:g}",
                    "the GPUs, hours": number(devices, 1),
                    "the driver, hours": number(driver, 1),
                    "the whole, hours": number(max(devices, driver), 1),
                    "limited by": "the GPUs" if devices >= driver else "the driver",
                }
            )
        return shown(
            pd.DataFrame(made), f"{RUNS:,} runs on {NODES} nodes of {DEVICES} GPUs, by the model; not measured"
        )

    def breaks(self) -> Markdown:
        """Where the model says that one driver no longer suffices."""
        whose = "Ray" if self.added("ray") else "a process of ours (Ray's own was not measured)"
        return Markdown(
            f"One driver stored {self.rows_per_second():.0f} rows per second. It is therefore the limit where "
            f"{NODES * DEVICES} GPUs finish a run in less than **{number(self.breaks_at())} s** each, "
            f"including what is added to training ({number(self.overhead, 3)} s by {whose}). "
            "Below that, job arrays are the better choice, because every shard writes its own store."
        )

    # --- Pages ----------------------------------------------------------------------------------------

    def pages(self) -> HTML:
        """Seconds from the start of a process to the last cell of a page, with the results published now."""
        made = [
            {
                "page": CLAIMS[row["page"]].title if row["page"] in CLAIMS else row["page"],
                "seconds": number(row["seconds"], 1),
                "processor seconds": number(row["cpu"], 1),
            }
            for row in self._part("pages")
        ]
        return shown(pd.DataFrame(made), f"From an empty process to a page's last cell, {self._said('pages')}")

    def pages_goal(self) -> Markdown:
        """How many pages keep to their goal."""
        cpu = [row["cpu"] for row in self._part("pages")]
        within = sum(seconds <= GOALS["page"] for seconds in cpu)
        return Markdown(
            f"The goal is {GOALS['page']} s for any page. {within} of {len(cpu)} pages keep to it in processor time; the "
            f"slowest uses {duration(max(cpu))}.{self._busy('pages')}"
        )


def open_reliability() -> Reliability:
    """The page's first call. ValueError where something was not measured."""
    found = []
    for name, maker in (("faults", "make faults"), ("scale", "python benchmarks/scale.py")):
        path = root() / "benchmarks" / f"{name}.json"
        if not path.is_file():
            raise ValueError(f"no measurements at {path}: `{maker}` makes them")
        found.append(json.loads(path.read_text()))
    return Reliability(*found)
