"""The command `replication`: train, tune, judge, publish and check."""

import argparse
import json
import random
import sys
from pathlib import Path


def _store(path: Path | None = None):
    from replication.evidence.store import Store, default_path

    return Store(path or default_path())


def _within(least: int, most: int | None = None, **given: int | None) -> None:
    for name, value in given.items():
        if value is not None and (value < least or most is not None and value > most):
            limits = f"at least {least}" + (f" and at most {most}" if most is not None else "")
            raise ValueError(f"{name} = {value} is not allowed: {limits}")


def _run(a: argparse.Namespace) -> None:
    from replication import backends, designs

    _within(1, 1000, seeds=a.seeds)
    wanted = designs.runs(a.claims, a.settings, a.networks, a.seeds)
    if a.unpublished:
        from replication.evidence import published

        known = set(published.read().get("key", ()))
        wanted = [run for run in wanted if backends.key_of(run) not in known]
    with _store(a.out) as store:
        done = backends.carry_out_all(wanted, store, a.device, a.workers, a.time_budget)
        left = len(backends.missing(wanted, store))
        print(f"{done} runs trained, {len(wanted) - left} of {len(wanted)} in {store.path}")


def _tune(a: argparse.Namespace) -> None:
    from replication import arms, backends, designs
    from replication.evidence.tuning import choose

    pilots = designs.pilots(a.settings, a.networks)
    with _store() as store:
        backends.carry_out_all([run for *_, run in pilots], store, a.device, a.workers)
        by_run = {
            r.run: (r.facts["validation_f1_macro"], float(r.arrays["validation_nll_train"][-1])) for r in store.results()
        }
    scored = [(place, arm, run.learning_rate, *by_run[run]) for place, arm, run in pilots]
    chosen = {"grid": choose(row for row in scored if row[2] in arms.RATE_GRID), "wide": choose(scored)}
    planned = {place for place, *_ in designs.pilots()}
    for path, mine in ((arms.PUBLISHED_RATES, False), (arms.own_rates(), True)):
        new = {k: {p: rates for p, rates in v.items() if (p not in planned) == mine} for k, v in chosen.items()}
        if any(new.values()):
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({k: old | new[k] for k, old in arms.rates_in(path).items()}, indent=1)
            path.write_text(text + "\n")
            print(f"chosen learning rates written to {path}")


def _execute(a: argparse.Namespace) -> None:
    from replication.execution import execute

    _within(1, workers=a.workers)
    parameters = [text for pair in a.parameter for text in ("-p", *pair)]
    print(execute(a.notebooks, a.out, a.in_place, a.workers, parameters))


def _verdicts(a: argparse.Namespace) -> None:
    from replication.scoreboard import open_scoreboard

    board = open_scoreboard({"seeds": a.seeds, "device": a.device})
    print(f"computed on this machine, {a.seeds} seeds" if a.seeds else "published results")
    for row in board.rows().to_dict("records"):
        print(f"{row['claim']:<28} {row['verdict'].upper():<15} {row['found']}")


def _publish(a: argparse.Namespace) -> None:
    from replication import designs
    from replication.evidence.published import folder, publish

    wanted = [*designs.runs(), *(run for *_, run in designs.pilots())]
    with _store() as store:
        n = publish(store, wanted, designs.runs(["base"]))
    print(f"{n} runs published to {folder()}")


def _reproduced(a: argparse.Namespace) -> None:
    from replication.evidence import published, reproduction
    from replication.evidence.frame import table

    with _store() as store:
        fresh = table(store.results())
    cells = reproduction.compare(published.read(), fresh)
    if a.cells:
        shown = cells.loc[:, cells.nunique() > 1]
        print(shown.round(4).to_string(index=False))
    print("reproduced on this machine: " + reproduction.summary(cells))


def _verify(a: argparse.Namespace) -> None:
    import tempfile

    from replication import backends
    from replication.evidence import published, reproduction
    from replication.evidence.frame import table
    from replication.evidence.provenance import record
    from replication.runs import FACTORS, Run

    _within(0, cells=a.cells)
    _within(1, seeds=a.seeds)
    files = published.check()
    print(f"{len(files)} results files agree with the manifest")
    if not a.cells or not files:
        return
    rows = published.read()
    rows = rows[(rows["readout"] == "as_trained") & (rows["epochs_trained"] <= 10)]
    groups = list(rows.groupby(reproduction.CELL, sort=True))
    chosen = random.Random(a.sample).sample(groups, min(a.cells, len(groups)))
    runs = [Run(**row) for _, part in chosen for row in part[list(FACTORS)].head(a.seeds).to_dict("records")]
    with tempfile.TemporaryDirectory() as scratch, _store(Path(scratch) / "store.sqlite") as store:
        backends.carry_out_all(runs, store, a.device, a.workers)
        fresh = table(store.results())
    cells = reproduction.compare(rows, fresh)
    here = record(backends.device_of(a.device))
    records = published.manifest()["provenance"]
    used = [records[id] for _, part in chosen for id in part["provenance"].unique()]
    same = all(r[k] == here[k] for r in used for k in ("versions", "hardware", "device"))
    print(f"retrained {len(runs)} runs ({'the same kind of machine' if same else 'another machine'}): "
          + reproduction.summary(cells))  # fmt: skip
    if len(cells) < len(chosen):
        raise ValueError("the data here is another version than that of the published results")
    if not same and (cells["difference"].abs() > reproduction.TOLERANCE).any():
        raise ValueError(f"a cell's mean F1 differs by more than {reproduction.TOLERANCE} from the published one")
    if same and not cells["identical"].all():
        raise ValueError("a run differs from the published one although the versions and the hardware are the same")


def _merge(a: argparse.Namespace) -> None:
    with _store() as store:
        print(f"{store.merge(a.file)} runs added to {store.path}")


def _data_list(a: argparse.Namespace) -> None:
    from replication.data.catalogue import DATA_SETS
    from replication.data.packs import classes
    from replication.data.settings import SETTINGS
    from replication.data.sources import SOURCES, load

    for name in SOURCES:
        source = load(name)
        print(f"{name}: {len(source.images)} images of {source.images.shape[-1]} px, {source.images.nbytes / 1e6:.1f} MB")
        print(f"  settings: {', '.join(s.name for s in SETTINGS.values() if s.source == name)}")
        print(f"  digest {source.digest}; licence: {source.licence}\n  {source.citation}")
    for data_set in DATA_SETS.values():
        try:
            found = classes(data_set.folder())
            size = sum(f.stat().st_size for path in found.values() for f in (path.rglob("*") if path.is_dir() else [path]))
            print(f"{data_set.name}: {len(found)} classes, {size / 1e6:.1f} MB in {data_set.folder()}; no setting uses it yet")
        except ValueError as error:
            print(f"{data_set.name}: not here ({error})")
        print(f"  licence: {data_set.licence}\n  {data_set.citation}")


def _data_pack(a: argparse.Namespace) -> None:
    from replication.data.catalogue import DATA_SETS
    from replication.data.packs import open_pack, pack
    from replication.evidence.store import default_path

    if a.name not in DATA_SETS and not a.name.startswith("folder:"):
        raise ValueError(f"unknown data set {a.name!r}: allowed are {', '.join(DATA_SETS)} and folder:PATH")
    folder = Path(a.name.removeprefix("folder:")) if a.name not in DATA_SETS else DATA_SETS[a.name].folder()
    where = default_path().parent / "packs" / f"{folder.name}-{a.pixels}"
    source = open_pack(pack(folder, a.pixels, where, a.skip_broken))
    print(f"{len(source.images)} images of {source.n_labels} classes packed in {where}, digest {source.digest}")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def parser() -> argparse.ArgumentParser:
    """The command line as an argparse parser."""
    top = argparse.ArgumentParser(prog="replication", description=__doc__)
    verbs = top.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, action, text: str, into=verbs) -> argparse.ArgumentParser:
        sub = into.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        return sub

    def machine(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
        sub.add_argument("--workers", type=int, help="processes (default: one a core)")

    def places(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--settings", type=_names, default=(), help="comma-separated, e.g. digits")
        sub.add_argument("--networks", type=_names, default=(), help="comma-separated, e.g. simple_cnn,mlp")
        machine(sub)

    run = verb("run", _run, "train what the claims need and the store lacks; published results are not consulted")
    run.add_argument("claims", nargs="*", metavar="CLAIM", help="e.g. base ratio (default: all)")
    places(run)
    run.add_argument("--seeds", type=int, help="confirmatory seeds of every cell (default: each claim's own number)")
    run.add_argument("--unpublished", action="store_true", help="leave out the runs that are published already")
    run.add_argument("--time-budget", type=float, metavar="SECONDS", help="start no run after this time")
    run.add_argument("--out", type=Path, metavar="FILE", help="store to write instead of the local one")

    places(verb("tune", _tune, "choose every arm's learning rate on the pilot seeds"))

    execute = verb("execute", _execute, "execute the notebooks with papermill, several at a time")
    execute.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="e.g. base ratio (default: all)")
    execute.add_argument("--in-place", action="store_true", help="rewrite the committed outputs in book/")
    execute.add_argument("--out", type=Path, metavar="FOLDER", help="default: book/_build/executed")
    execute.add_argument("-p", dest="parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    execute.add_argument("--workers", type=int, help="notebooks at a time (default: one a core)")

    verdicts = verb("verdicts", _verdicts, "print the scoreboard")
    verdicts.add_argument("--seeds", type=int, default=0, help="train and judge so many seeds here (default: published)")
    verdicts.add_argument("--device", default="auto", help="auto (default), cpu or cuda")

    verb("publish", _publish, "write the local store's results of the designs to results/ with a manifest")

    reproduced = verb("reproduced", _reproduced, "compare the local store with the published results, cell by cell")
    reproduced.add_argument("--cells", action="store_true", help="print every cell")

    verify = verb("verify", _verify, "check the manifest's sums and retrain a random sample of published cells")
    verify.add_argument("--cells", type=int, default=3, help="cells to retrain (default 3; 0: sums only)")
    verify.add_argument("--seeds", type=int, default=10, help="seeds of each (default 10)")
    verify.add_argument("--sample", type=int, help="seed of the random choice (default: a new one every time)")
    machine(verify)

    merge = verb("merge", _merge, "add the runs of another store, such as one written by `run --out`")
    merge.add_argument("file", type=Path)

    data = verb("data", None, "the data sets").add_subparsers(required=True, metavar="COMMAND")
    verb("list", _data_list, "what is here, its size, licence and citation", into=data)
    pack = verb("pack", _data_pack, "decode a set of images once into a memory-mapped array", into=data)
    pack.add_argument("name", metavar="NAME", help="plantvillage, cracks, skin, cifar10, or folder:PATH")
    pack.add_argument("--pixels", type=int, default=32, help="side of the square images (default 32)")
    pack.add_argument("--skip-broken", action="store_true", help="leave out files that are no whole images")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Carry out one command; errors that a user can mend are one sentence on stderr and exit status 2."""
    a = parser().parse_args(arguments)
    try:
        a.action(a)
    except (ValueError, OSError) as error:
        print(f"replication: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"replication: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("replication: interrupted; every finished run is kept", file=sys.stderr)
        return 130
    return 0
