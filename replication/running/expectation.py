"""How long trainings will take, by what those like them took on this machine."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from replication.results.store import Store
from replication.run import Run
from replication.running.processes import cores

ALIKE = (
    *("setting", "network", "init", "head", "trained", "input_side", "n_majority", "n_minority"),
    *("epochs", "updates", "batch_size", "precision"),
)
"""factors on which a training's time hangs"""


def _form(run: Run) -> tuple:
    return tuple(getattr(run, name) for name in ALIKE)


def expected(runs: Sequence[Run], store: Store, device: str, workers: int | None = None) -> float | None:
    """Seconds that these runs take on a device, or None where the store has none like some of them.

    By the mean time of the store's runs that share `ALIKE`; features of a frozen body, which come before, are not
    counted, nor is a time budget. On a CPU the work is shared by `workers` processes (default: one per core).
    """
    wanted = {_form(run) for run in runs}
    took: dict[tuple, list[float]] = defaultdict(list)
    for factors, seconds in store.durations():
        try:
            form = _form(Run(**factors))
        except TypeError:  # a factor of a later version
            continue
        if form in wanted:
            took[form].append(seconds)
    if not took.keys() >= wanted:
        return None
    return sum(fmean(took[_form(run)]) for run in runs) / ((workers or cores()) if device == "cpu" else 1)


def of_published(runs: Sequence[Run]) -> float | None:
    """Seconds of one core or device that published runs like these took elsewhere, or None where none are like some."""
    try:
        from replication.results import published
    except ImportError:  # training takes less than reading results
        return None
    rows = published.read(dict.fromkeys(run.setting for run in runs))
    if not len(rows):
        return None
    took = rows[rows["readout"] == "as_trained"].groupby(list(ALIKE))["seconds"].mean()
    forms = [_form(run) for run in runs]
    return sum(float(took[form]) for form in forms) if set(forms) <= set(took.index) else None


def in_words(runs: Sequence[Run], store: Store, device: str, workers: int | None = None) -> str:
    """How long runs will take, as it is said behind their number: here, else what such runs took elsewhere."""
    if seconds := expected(runs, store, device, workers):
        return f", about {duration(seconds)} on this machine"
    if seconds := of_published(runs):
        return f"; such runs took {duration(seconds)} of one core or device where they were published"
    return ""


def duration(seconds: float) -> str:
    """A time in words: seconds below two minutes, then minutes, then hours."""
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
