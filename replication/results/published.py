"""Published results: numbers only, as Parquet files under `results/` with a manifest of checksums and provenance."""

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from replication.files import check_folder
from replication.paths import root
from replication.results import shelf
from replication.results.compact import PILOT, pilot_rows, prediction_rows, run_rows, unsound
from replication.results.frame import results_frame, with_defaults
from replication.results.kept import KEPT_READOUTS
from replication.results.rows import Result
from replication.results.shelf import Group
from replication.results.store import Store
from replication.run import CONFIRMATORY, Run

__all__ = [
    "check",
    "folder",
    "keys",
    "manifest",
    "pilots",
    "prediction_rows",
    "predictions",
    "publish",
    "read",
    "set_aside",
]


def folder() -> Path:
    """Where published results lie: `REPLICATION_RESULTS`, else `results/` in the repository."""
    return Path(os.environ.get("REPLICATION_RESULTS") or root() / "results")


def manifest(where: Path | None = None) -> dict:
    """The manifest: files with SHA-256 and rows, provenance records by id; empty where nothing is published.

    ValueError for a file that is not a manifest.
    """
    return shelf.manifest(where or folder())


def check(where: Path | None = None) -> list[str]:
    """Compare every published file with the manifest and return their names.

    What a publishing that was stopped left behind is no part of the results. ValueError for a file that is missing,
    changed or unknown to the manifest, a changed manifest, and another protocol.
    """
    return shelf.check(where or folder())


def _parts(
    where: Path, kind: str, settings: Iterable[str] = (), columns: list[str] | None = None
) -> list[pd.DataFrame]:
    wanted = tuple(settings)
    files = shelf.manifest(where)["files"]
    return [
        pd.read_parquet(where / name, columns=columns)
        for name in check(where)
        if (group := shelf.group_of(name, files[name])).kind == kind
        and (not wanted or group.setting in wanted or group.setting.startswith(tuple(f"{s}/" for s in wanted)))
    ]


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Parts of different age as one: factors that one lacks have their defaults, all else that it lacks is NaN."""
    whole = pd.concat([with_defaults(part) for part in parts], ignore_index=True)
    return whole.astype(dict.fromkeys(whole.columns[whole.dtypes == "float32"], "float64"))


def read(settings: Iterable[str] = (), where: Path | None = None) -> pd.DataFrame:
    """Published rows, one a (run, readout), of the settings given (with their sub-settings) or all.

    What was not recorded of a run is NaN. Pilots are here only where they are as old as the first files, see `pilots`.
    Errors: as `check`.
    """
    parts = _parts(where or folder(), "runs", settings)
    return _joined(parts) if parts else results_frame(())


def pilots(settings: Iterable[str] = (), where: Path | None = None) -> pd.DataFrame:
    """Published pilots, one row each, by which learning rates are chosen: key, factors, data, provenance and `PILOT`.

    Errors: as `check`.
    """
    where, wanted = where or folder(), tuple(settings)
    parts = _parts(where, "pilots")
    old = read(wanted, where)
    old = old[(old["seed"] < CONFIRMATORY) & (old["readout"] == "as_trained")] if len(old) else old
    if len(old):  # their files have histories, which not every setting's have
        nll = [history[-1] for history in old["validation_nll_train"]]
        parts.append(old.assign(validation_nll_train=nll))
    if not parts:
        return pilot_rows(())
    whole = _joined(parts)
    if wanted:
        whole = whole[whole["setting"].str.startswith(tuple(f"{s}/" for s in wanted)) | whole["setting"].isin(wanted)]
    kept = ["key", *(f for f in vars(Run())), "data", "provenance", *PILOT]
    return whole[kept].astype(dict.fromkeys(PILOT, float)).reset_index(drop=True)


def predictions(setting: str, network: str, where: Path | None = None) -> pd.DataFrame:
    """Published test labels (N,) and final logits (N * K,) of the base design: columns `key`, `labels`, `logits`.

    ValueError where none are published, and as `check`.
    """
    where = where or folder()
    files = shelf.manifest(where)["files"]
    wanted = Group("predictions", setting, network)
    parts = [pd.read_parquet(where / n) for n in check(where) if shelf.group_of(n, files[n]) == wanted]
    if not parts:
        raise ValueError(f"no predictions are published for {setting} / {network}")
    return pd.concat(parts, ignore_index=True)


def keys(where: Path | None = None) -> set[str]:
    """Keys of all published runs, pilots included. Errors: as `check`."""
    where = where or folder()
    return {key for kind in ("runs", "pilots") for part in _parts(where, kind, columns=["key"]) for key in part["key"]}


def _digests(where: Path) -> dict[str, set[str]]:
    """Setting -> digests of the data that its published runs were trained on."""
    found: dict[str, set[str]] = {}
    for kind in ("runs", "pilots"):
        for part in _parts(where, kind, columns=["setting", "data"]):
            for setting, data in part.drop_duplicates().itertuples(index=False):
                found.setdefault(setting, set()).add(data)
    return found


def _check_fit(results: list[Result], records: dict, where: Path) -> None:
    """Everything that a reader relies on. ValueError, in one sentence, for the first result that is unfit."""
    for r in results:
        if reason := unsound(r, records):
            raise ValueError(f"run {r.key} of {r.run.setting} cannot be published: {reason}; nothing was published")
    digests = _digests(where)
    for r in results:
        known = digests.setdefault(r.run.setting, {r.data})
        if known != {r.data}:
            raise ValueError(
                f"run {r.key} of {r.run.setting} was trained on data {r.data}, but {where} holds results on "
                f"{', '.join(sorted(known))}: results on other data are never mixed, publish them to a folder of their own "
                "(--to FOLDER)"
            )


def publish(
    store: Store,
    wanted: Iterable[Run],
    where: Path | None = None,
    *,
    curves: Iterable[Run] = (),
    predictions: Iterable[Run] = (),
    readouts: Iterable[str] = KEPT_READOUTS,
    replace: bool = False,
) -> int:
    """Write the store's results of the wanted runs to `results/` and return how many were written.

    Confirmatory runs are published as `compact.run_rows`, with per-epoch curves where they are among `curves`, and with
    predictions where they are among `predictions` and the store has their logits; pilots as `compact.pilot_rows`. A run
    that is published already stays as it is unless it is to be replaced. Everything is checked before anything is
    written, and all becomes valid at once. Publishers wait for one another.
    ValueError for a result that is unfit: numbers out of range, data other than that of the published results of the
    setting, unknown provenance, a readout that is missing; and as `check`.
    """
    where = where or folder()
    check_folder(where)
    where.mkdir(parents=True, exist_ok=True)
    wanted, curves, predicted = set(wanted), set(curves), set(predictions)
    with shelf.alone(where):
        known = keys(where)
        results = [r for r in store.results(None if replace else store.keys() - known) if r.run in wanted]
        if not results:
            return 0
        records = store.provenance()
        _check_fit(results, records, where)
        groups: dict[Group, pd.DataFrame] = {}
        confirmatory = [r for r in results if r.run.seed >= CONFIRMATORY]
        cells = dict.fromkeys((r.run.setting, r.run.network) for r in confirmatory)
        for cell in cells:
            members = [r for r in confirmatory if (r.run.setting, r.run.network) == cell]
            groups[Group("runs", *cell)] = run_rows(members, curves, tuple(readouts))
            groups[Group("predictions", *cell)] = prediction_rows(r for r in members if r.run in predicted)
        groups[Group("pilots")] = pilot_rows(r for r in results if r.run.seed < CONFIRMATORY)
        used = {r.provenance for r in results}
        shelf.commit(
            where,
            {group: rows for group, rows in groups.items() if len(rows)},
            {r.key for r in results} & known,
            {id: record for id, record in records.items() if id in used},
        )
        return len(results)


def set_aside(keys: Iterable[str], where: Path | None = None, reason: str = "") -> int:
    """Take published runs out of the results: their rows are moved to `set-aside/`; returns the number of runs.

    ValueError for a key that is not published, and as `check`.
    """
    where, unfit = where or folder(), set(keys)
    with shelf.alone(where):
        parts = [part for kind in ("runs", "pilots") for part in _parts(where, kind, columns=["key"])]
        if unknown := unfit - {key for part in parts for key in part["key"]}:
            raise ValueError(f"run {min(unknown)} is not published in {where}: nothing was set aside")
        shelf.commit(where, {}, unfit, {}, aside=reason or "set aside by hand")
    return len(unfit)
