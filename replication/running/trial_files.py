"""The files of a trial: where they go, all rows of its runs, and what its page says of them."""

import dataclasses
import json
from pathlib import Path

import pandas as pd

from replication.analysis.choices import ARMS
from replication.data.folders import resolved
from replication.data.settings import setting as setting_of
from replication.data.splits import data_digest
from replication.data.survey import Survey
from replication.files import check_folder, write
from replication.results.frame import results_frame
from replication.results.store import Store
from replication.run import CONFIRMATORY, Run
from replication.running import tuning
from replication.running.local import device_of, key_of
from replication.running.trial import Trial
from replication.study.design import pilot_seeds
from replication.study.networks import network as network_of
from replication.study.rates import at_grid_end, learning_rate, own_rates
from replication.version import __version__

RESULTS, ABOUT = "results.parquet", "trial.json"


def results_folder(path: Path | str, out: Path | None) -> Path:
    """Where the page and the table go: `out`, else `try-NAME` here, or beside the images where this is among them.

    ValueError where they would lie among the images, as a class of them, and where no folder can be made.
    """
    images = resolved(path)
    inside = [images] if images.is_dir() else []
    if out is None:
        here = Path.cwd().resolve()
        base = images.parent if any(here.is_relative_to(folder) for folder in inside) else here
        out = base / f"try-{images.stem if images.is_file() else images.name}"
    elif any(resolved(out).is_relative_to(folder) for folder in inside):
        raise ValueError(f"--out {out} lies among the images in {images}: name a folder elsewhere")
    check_folder(out)
    return out


def results(trial: Trial, store: Store) -> pd.DataFrame:
    """Every run of the trial that the store has, pilots too, as `results.frame.results_frame` with `arm` and `role`.

    `role` is `pilot` or `confirmatory`; the setting is where the images lie now.
    """
    wanted: dict[str, tuple[str, Run]] = {}
    for arm in ARMS:
        search = tuning.Search.begin(trial.place, arm)
        tried = json.loads(own_rates().read_text())["tried"].get(trial.place.name, {}) if own_rates().exists() else {}
        search.rates = tuple(tried.get(arm, search.rates))
        for run in [*search.runs(), *(trial.runs(arm) if arm in tried else [])]:
            wanted[key_of(run)] = arm, run
    found = [dataclasses.replace(r, run=wanted[r.key][1]) for r in store.results(set(wanted))]
    rows = results_frame(found)
    if rows.empty:
        return rows.assign(arm=[], role=[])
    rows.insert(0, "arm", [wanted[key][0] for key in rows["key"]])
    rows.insert(1, "role", ["pilot" if seed < CONFIRMATORY else "confirmatory" for seed in rows["seed"]])
    return rows


def keep(trial: Trial, seen: Survey, store: Store, out: Path, device: str, seconds: float) -> bool:
    """Write all rows (`RESULTS`) and what the page says of them (`ABOUT`) to a folder; whether one seed has every arm."""
    rows = results(trial, store)
    write(out / RESULTS, rows.to_parquet(None, index=False))
    done = rows[rows["role"] == "confirmatory"]
    records = store.provenance()
    known = {arm: learning_rate(trial.place, arm) for arm in ARMS} if len(done) else {}
    about = {
        "path": str(trial.path),
        "setting": trial.setting,
        "network": trial.network,
        "seeds": trial.seeds,
        "label": network_of(trial.network).label,
        "data": data_digest(trial.setting),
        "survey": seen.lines(setting_of(trial.setting).majority),
        "shares": trial.shares,
        "sizes": trial.sizes.sentence,
        "ratio": trial.ratio(),
        "train": [trial.sizes.n_majority, trial.sizes.n_minority],
        "test": trial.sizes.test,
        "validation": list(trial.sizes.validation),
        "fixed": trial.fixed,
        "pixels": setting_of(trial.setting).pixels,
        "rates": known,
        "ends": [arm for arm in known if at_grid_end(trial.place, arm)],
        "pilots": len(pilot_seeds(trial.network)),
        "command": trial.command(),
        "device": device_of(device),
        "seconds": round(seconds),
        "version": __version__,
        "provenance": [records[id] for id in dict.fromkeys(rows["provenance"]) if id in records] if len(rows) else [],
    }
    write(out / ABOUT, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return len(done) > 0 and int(done.groupby("seed")["arm"].nunique().max()) == len(ARMS)
