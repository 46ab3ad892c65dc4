"""Verification: a random sample of published cells trained again on this machine and compared."""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from replication.files import write
from replication.results import published, reproduction
from replication.results.frame import results_frame
from replication.results.provenance import record
from replication.results.store import Store
from replication.run import FACTORS, Run
from replication.running.certificate import Done
from replication.running.expectation import in_words
from replication.running.local import at_hand, carry_out_all, device_of


def verify(
    cells: int,
    seeds: int,
    sample: int | None,
    device: str,
    workers: int | None,
    tell: Callable[[str], None] = print,
    certificate: Path | None = None,
) -> None:
    """Check the published files' sums and train `seeds` seeds of `cells` random cells of at most 10 epochs again.

    On the same kind of machine every run must come out to the bit, elsewhere every cell's mean F1 within
    `reproduction.TOLERANCE`; ValueError where it does not, and where the data here is another version. What was done is
    written to `certificate`, see `replication.running.certificate`, whether it agreed or not.
    """
    done = Done(sample=sample)
    try:
        _verify(cells, seeds, device, workers, tell, done)
        done.agreed = True
    except ValueError as error:
        done.said.append(f"DISAGREED: {error}")
        raise
    finally:
        if certificate:
            done.here = record(device_of(device))
            write(certificate, done.text())
            tell(f"certificate written to {certificate}")


def _verify(
    cells: int, seeds: int, device: str, workers: int | None, report: Callable[[str], None], done: Done
) -> None:
    def tell(line: str) -> None:
        done.said.append(line)
        report(line)

    files = published.check()
    done.files = files
    if not files:
        raise ValueError(
            f"there are no published results at {published.folder()}: run this in a checkout of the book, or set "
            "REPLICATION_RESULTS to a folder that has a manifest.json"
        )
    tell(f"{len(files)} results files agree with the manifest")
    if not cells:
        return
    rows = published.read()
    rows = rows[(rows["readout"] == "as_trained") & (rows["epochs_trained"] <= 10)]
    absent = [name for name in rows["setting"].unique() if not at_hand(name)]
    if absent:
        tell(f"not retrained, as their images are not here: {', '.join(absent)}")
        rows = rows[~rows["setting"].isin(absent)]
    if rows.empty:
        raise ValueError(
            "no published cell can be trained again here, as the images of none are at hand: name their folder in "
            "REPLICATION_DATA, or ask for no cells (--cells 0)"
        )
    groups = list(rows.groupby(reproduction.CELL, sort=True))
    chosen = random.Random(done.sample).sample(groups, min(cells, len(groups)))
    runs = [Run(**row) for _, part in chosen for row in part[list(FACTORS)].head(seeds).to_dict("records")]
    with tempfile.TemporaryDirectory() as scratch, Store(Path(scratch) / "store.sqlite") as store:
        report(f"{len(runs)} runs are trained again{in_words(runs, store, device_of(device), workers)}")
        carry_out_all(runs, store, device, workers)
        fresh = results_frame(store.results())
    compared = done.compared = reproduction.compare(rows, fresh)
    here, records = record(device_of(device)), published.manifest()["provenance"]
    used = [records[id] for _, part in chosen for id in part["provenance"].unique()]
    same = all(r[k] == here[k] for r in used for k in ("versions", "hardware", "device"))
    same = same and not reproduction.other_weights(rows, fresh)
    tell(
        f"retrained {len(runs)} runs ({'the same kind of machine' if same else 'another machine'}): "
        + reproduction.summary(compared)
    )
    if len(compared) < len(chosen):
        raise ValueError("the data here is another version than that of the published results")
    if not same and (compared["difference"].abs() > reproduction.TOLERANCE).any():
        raise ValueError(f"a cell's mean F1 differs by more than {reproduction.TOLERANCE} from the published one")
    if same and not compared["identical"].all():
        raise ValueError("a run differs from the published one although the versions and the hardware are the same")
