"""The command `replication`: train, tune, judge, publish and check."""

import argparse
import dataclasses
import json
import os
import re
import sys
import textwrap
from pathlib import Path

from replication import __version__
from replication.limits import check_within, deadline


def _store(path: Path | None = None):
    from replication.results.store import Store, default_path

    return Store(path or default_path())


def _there(settings: list[str], networks: list[str]) -> None:
    """ValueError for images or a checkpoint of one's own that are not there, before anybody is told to tune for them."""
    from replication.data.packs import place
    from replication.data.settings import setting
    from replication.study.networks import network
    from replication.study.recipes import RECIPES

    for s in map(setting, settings):
        if s.own and not Path(s.source.removeprefix("folder:")).exists() and not place(s.source, s.pixels).is_dir():
            raise ValueError(f"no images at {s.source.removeprefix('folder:')}: name a folder with one folder a class")
    for n in map(network, networks):
        if n.init not in ("random", "imagenet", *RECIPES) and not Path(n.init).is_file():
            raise ValueError(f"no checkpoint at {n.init}: name a file that `replication pretrain` has written")


def _say_how_long(wanted: list, store, a: argparse.Namespace) -> None:
    """Print how many trainings are left and about how long they take, where this machine knows trainings like them."""
    from replication.running import local
    from replication.running.expectation import expected

    if not sys.stderr.isatty() or not (todo := local.missing(wanted, store)):  # a log has the progress itself
        return
    seconds = expected(todo, store, local.device_of(a.device), a.workers)
    about = (
        ""
        if seconds is None
        else (
            f", about {seconds:.0f} s on this machine"
            if seconds < 120
            else f", about {seconds / 60:.0f} minutes on this machine"
        )
    )
    print(f"{len(todo)} of {len(wanted)} trainings are to be done{about}", file=sys.stderr, flush=True)


def _run(a: argparse.Namespace) -> None:
    from replication.claims import registry
    from replication.running import local
    from replication.running.sharding import shard

    check_within(1, 1000, seeds=a.seeds)
    check_within(1, 1024, workers=a.workers)
    deadline(a.time_budget)
    _there(a.settings, a.networks)
    wanted = registry.runs(a.claims, a.settings, a.networks, a.seeds, a.rates)
    if a.shard:
        wanted = shard(wanted, *a.shard)
    if a.unpublished:
        from replication.results import published

        known = published.keys()
        wanted = [run for run in wanted if local.key_of(run) not in known]
    with _store(a.out) as store:
        _say_how_long(wanted, store, a)
        if a.on is None:
            done = local.carry_out_all(wanted, store, a.device, a.workers, a.time_budget, a.engine)
        else:
            from replication.running.cluster import address_of, carry_out_on

            done = carry_out_on(wanted, store, address_of(a.on), a.device, a.workers, a.time_budget, a.engine)
        left = len(local.missing(wanted, store))
        print(f"{done} runs trained, {len(wanted) - left} of {len(wanted)} in {store.path}")


def _tune(a: argparse.Namespace) -> None:
    import time

    from replication.claims import registry
    from replication.running import local, tuning
    from replication.study.rates import own_rates, published_rates

    check_within(1, 1024, workers=a.workers)
    _there(a.settings, a.networks)
    places = registry.places(a.claims, a.settings, a.networks)
    if a.arms:
        places = [(place, arm) for place, arm in places if arm in a.arms]
    if not places:
        raise ValueError(
            "no learning rates are wanted there: name claims, settings and networks, such as base on digits"
        )
    end = deadline(a.time_budget)
    with _store(a.out) as store:

        def carry_out(runs) -> None:
            left = None if a.time_budget is None else max(0.0, end - time.monotonic())
            local.carry_out_all(runs, store, a.device, a.workers, left, a.engine)

        _say_how_long([run for place, arm in places for run in tuning.Search.begin(place, arm).runs()], store, a)
        settled, short = tuning.tune(places, store, carry_out)
    planned = set(registry.places())
    for path, mine in ((published_rates(), False), (own_rates(), True)):
        if new := [search for search in settled if ((search.place, search.arm) not in planned) == mine]:
            tuning.record(new, path)
            print(f"chosen learning rates written to {path}")
    for search in settled:
        end_of = " (an end of those tried)" if search.rate in (min(search.rates), max(search.rates)) else ""
        print(f"{search.place} {search.arm}: {search.rate:g}{end_of}")
    if short:
        print(f"{len(short)} of {len(places)} learning rates are not chosen yet: the same command goes on")


def _try(a: argparse.Namespace) -> None:
    import time

    from replication.pages import trial as page
    from replication.pages.words import duration
    from replication.running import local, trial
    from replication.study.networks import network

    check_within(1, 1000, seeds=a.seeds)
    deadline(a.time_budget)
    began, device = time.monotonic(), local.device_of(a.device)
    wanted = network(a.network)
    if a.finetune:
        wanted = dataclasses.replace(wanted, trained="all")
    out = trial.place_of_results(a.path, a.out)
    made, seen = trial.prepare(a.path, a.majority, str(wanted), a.seeds, a.pixels, a.train)
    print(
        f"{wanted.label}: {len(trial.ARMS)} ways to train are tuned on pilot seeds and trained on {a.seeds} more; "
        f"this takes about {duration(trial.expected(made, device))} on this machine, less what it has done before",
        flush=True,
    )
    with _store() as store:
        left = None if a.time_budget is None else max(0.0, a.time_budget - (time.monotonic() - began))
        whole = trial.carry_out(made, store, device, a.workers, left)
        some = trial.keep(made, seen, store, out, device, time.monotonic() - began)
    print(f"all rows: {out / trial.RESULTS}")
    if some:
        print(f"page: {page.make(out)}")
        print(page.open_trial(out).sentence())
    if not whole:
        print("not all of it is done: the same command resumes")


def _pretrain(a: argparse.Namespace) -> None:
    from replication.running import local
    from replication.running.pretraining import pretrain

    told = pretrain(
        a.network,
        a.sources,
        a.without,
        a.pixels,
        a.epochs,
        a.out,
        local.device_of(a.device),
        a.learning_rate,
        precision=a.precision,
        seed=a.seed,
    )
    print(
        f"{told['network']} tells {len(told['classes'])} classes apart with validation accuracy "
        f"{told['validation_accuracy']:.3f}, written to {a.out}"
    )


def _bench(a: argparse.Namespace) -> None:
    from replication.bench.record import bench
    from replication.running import local

    done = bench(a.out, a.workloads, a.peers, a.rounds, local.device_of(a.device), a.curves, a.time_budget)
    print(f"{done} measurements more in {a.out}")


def _execute(a: argparse.Namespace) -> None:
    from replication.pages.notebooks import execute

    check_within(1, 1024, workers=a.workers)
    parameters = [text for pair in a.parameter for text in ("-p", *pair)]
    print(execute(a.notebooks, a.out, a.in_place, a.workers, parameters))


def _verdicts(a: argparse.Namespace) -> None:
    from replication.data.settings import joined
    from replication.pages import judgements
    from replication.pages.scoreboard import open_scoreboard

    if a.results:
        if not (a.results / "manifest.json").is_file():
            raise ValueError(
                f"--results {a.results} holds no published results: `replication publish --to {a.results}` makes it"
            )
        os.environ["REPLICATION_RESULTS"] = str(a.results.resolve())
    board = open_scoreboard(
        {
            "seeds": a.seeds,
            "device": a.device,
            "settings": joined(a.settings),
            "networks": joined(a.networks),
        }
    )
    print(f"computed on this machine, {a.seeds} seeds" if a.seeds else "published results")
    if a.settings or a.networks:  # cells beyond the plan have no part in headlines
        for j in board.judgements.values():
            for c in judgements.cells_frame(j).to_dict("records"):
                found = "; ".join(filter(None, (c["found"], c["beside it"], c["why"])))
                print(
                    f"{j.claim.title:<38} {c['verdict'].upper():<15} {c['images and network']}, {c['seeds']} seeds: {found}"
                )
    else:
        print("\n".join(board.lines()))


def _publish(a: argparse.Namespace) -> None:
    from replication.claims import registry
    from replication.results.published import folder, publish

    where = a.to or folder()
    confirmatory = registry.confirmatory_runs()
    with _store() as store:
        # elsewhere: whatever this machine has trained, of one's own images too
        wanted = {result.run for result in store.results()} if a.to else confirmatory | registry.pilots()
        n = publish(store, wanted, where=where, curves=wanted if a.to else registry.runs_with_curves())
    print(f"{n} runs published to {where}")
    if not a.to:
        from replication.pages.verdict_file import write_claims

        print(f"verdicts written to {write_claims(where)}")


def _set_aside(a: argparse.Namespace) -> None:
    from replication.results.published import folder, set_aside

    print(f"{set_aside(a.keys, reason=a.reason)} runs moved to {folder() / 'set-aside'}")


def _weights(a: argparse.Namespace) -> None:
    from replication.training import weights

    if a.out:
        print(f"weights of {a.network}, digest {weights.save(a.network, a.out)}, written to {a.out}")
    else:
        print(f"weights of {a.network}: digest {weights.digest_of(a.network)}")


def _register(a: argparse.Namespace) -> None:
    from replication.claims.registration import register

    print(f"{register()} written: it counts from the commit that holds it")


def _reproduced(a: argparse.Namespace) -> None:
    from replication.results import published, reproduction

    with _store() as store:
        fresh = store.scores()
    cells = reproduction.compare(published.read(), fresh)
    if a.cells:
        shown = cells.loc[:, cells.nunique() > 1]
        print(shown.round(4).to_string(index=False))
    print("reproduced on this machine: " + reproduction.summary(cells))


def _verify(a: argparse.Namespace) -> None:
    from replication.results import published
    from replication.running.verification import verify

    check_within(0, cells=a.cells)
    check_within(1, seeds=a.seeds)
    if not (published.folder() / "manifest.json").is_file():  # before torch is loaded
        raise ValueError(
            f"there are no published results at {published.folder()}: run this in a checkout of the book, or set "
            "REPLICATION_RESULTS to a folder that has a manifest.json"
        )
    verify(a.cells, a.seeds, a.sample, a.device, a.workers, certificate=a.certificate)


def _merge(a: argparse.Namespace) -> None:
    added, failed = 0, []
    with _store() as store:
        for file in a.files:  # a bad one must not cost the others
            try:
                added += store.merge(file)
            except (ValueError, OSError) as error:
                failed.append((file, error))
        if len(failed) < len(a.files):
            print(f"{added} runs added to {store.path}")
    if failed and len(a.files) == 1:
        raise failed[0][1]
    if failed:
        told = "; ".join(f"{file} ({error})" for file, error in failed)
        raise ValueError(f"{len(failed)} of {len(a.files)} files were not merged, all others were: {told}")


def _data_list(a: argparse.Namespace) -> None:
    from replication.data.inventory import report

    print("\n".join(report()))


def _data_fetch(a: argparse.Namespace) -> None:
    from replication.data import catalogue
    from replication.data.fetch import official
    from replication.data.inventory import count
    from replication.data.packs import classes_of

    for name in map(catalogue.data_set, a.names):
        folder = official.get(name.name, a.all)
        counts = [count(path) for path in classes_of(name.name).values()]
        print(f"{name.name}: {sum(counts)} images of {len(counts)} classes in {folder}")


def _data_pack(a: argparse.Namespace) -> None:
    from replication.data.packs import classes_of, folder_of, open_pack, pack, place

    classes_of(a.name)
    where = pack(folder_of(a.name), a.pixels, place(a.name, a.pixels), a.skip_broken)
    source = open_pack(where)
    left_out = json.loads((where / "pack.json").read_text())["broken"]
    print(
        f"{len(source.images)} images of {source.n_labels} classes packed in {where}, digest {source.digest}"
        + (f"; {len(left_out)} broken files left out" if left_out else "")
    )


def _what_there_is() -> str:
    """The claims, settings and networks, as lines below a help text; looked up when that is printed and not before."""
    from replication.claims.registry import PLANS
    from replication.data.settings import SETTINGS
    from replication.study.networks import IMAGENET_BODIES, SMALL_BODIES

    lists = {
        "claims": list(PLANS),
        "settings": [*SETTINGS, "NAME@PIXELS", "folder:PATH"],
        "networks": [*SMALL_BODIES, *IMAGENET_BODIES, "timm/NAME", "NAME:imagenet:head (frozen body)", "NAME+fastai"],
    }
    return (
        "".join(
            "\n"
            + textwrap.fill(
                f"{kind}: {', '.join(names)}",
                78,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            for kind, names in lists.items()
        )
        + "\n"
    )


def _shard(text: str) -> tuple[int, int]:
    from replication.running.sharding import parse

    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _counts(text: str) -> tuple[int, int]:
    many, _, few = text.partition(":")
    if not (many.isascii() and many.isdigit() and few.isascii() and few.isdigit() and int(many) and int(few)):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: two numbers of images such as 1000:10")
    return int(many), int(few)


def _names(text: str) -> list[str]:
    from replication.data.settings import names

    try:
        found = names(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not found:
        raise argparse.ArgumentTypeError("it names nothing: leave it out, or give comma-separated names")
    return list(dict.fromkeys(found))


def _path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("it names no file or folder: leave it out, or give a path")
    return Path(text)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):  # int() takes digits of all scripts, and 1_0
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number in the digits 0 to 9")
    return int(text)


def _number(text: str) -> float:
    if not text.isascii() or "_" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no number in the digits 0 to 9")
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def parser() -> argparse.ArgumentParser:
    """The command line as an argparse parser."""
    top = argparse.ArgumentParser(prog="replication", description=__doc__)
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = top.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, action, text: str, into=verbs) -> argparse.ArgumentParser:
        sub = into.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        return sub

    def machine(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
        sub.add_argument("--workers", type=_whole, help="processes (default: one a core)")

    def data_option(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--data", type=_path, metavar="PATH", help="folder of the image sets (default: REPLICATION_DATA)"
        )

    def places(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--settings", type=_names, default=(), help="comma-separated, or a JSON list where a name has a comma"
        )
        sub.add_argument("--networks", type=_names, default=(), help="comma-separated, e.g. simple_cnn,mlp")
        plain = sub.format_help
        sub.format_help = lambda: plain() + _what_there_is()
        data_option(sub)
        machine(sub)

    run = verb("run", _run, "train what the claims need and the store lacks; published results are not consulted")
    run.add_argument("claims", nargs="*", metavar="CLAIM", help="e.g. base ratio (default: all)")
    places(run)
    run.add_argument(
        "--engine", default="auto", help="auto (default), loop, streams or stacked: one by one or many at a time"
    )
    run.add_argument("--seeds", type=_whole, help="confirmatory seeds of every cell (default: each claim's own number)")
    run.add_argument("--unpublished", action="store_true", help="leave out the runs that are published already")
    run.add_argument("--time-budget", type=_number, metavar="SECONDS", help="start no run after this time")
    run.add_argument("--out", type=_path, metavar="FILE", help="store to write instead of the local one")

    run.add_argument("--shard", type=_shard, metavar="I/N", help="the i-th of n parts, for job arrays, e.g. 1/8")
    run.add_argument(
        "--on", metavar="WHERE", help="ray, or ray://HOST:PORT: a Ray cluster instead of this machine's processes"
    )
    run.add_argument("--rates", type=_names, default=(), help="kinds of learning rate, e.g. own,shared (default: all)")

    tune = verb("tune", _tune, "choose every arm's learning rate on the pilot seeds")
    tune.add_argument("claims", nargs="*", metavar="CLAIM", help="whose arms (default: all)")
    places(tune)
    tune.add_argument("--arms", type=_names, default=(), help="comma-separated, e.g. plain,final_bn (default: all)")
    tune.add_argument("--engine", default="auto", help="as of run")
    tune.add_argument("--time-budget", type=_number, metavar="SECONDS", help="start no run after this time")
    tune.add_argument("--out", type=_path, metavar="FILE", help="store to write instead of the local one")
    verb("register", _register, "write registration.json from the claims' files, to be committed before any run")

    own = verb("try", _try, "does the layer help on your images? one page and one table from a folder of them")
    own.add_argument(
        "path",
        metavar="PATH",
        help="a folder with one folder of images a class (or train/ and test/ with "
        "these), or a table (.csv) with columns file, label and perhaps split",
    )
    own.add_argument("--majority", default="", metavar="CLASS", help="the majority class (default: the largest)")
    own.add_argument("--network", default="efficientnet_lite0:imagenet:head", help="default: %(default)s")
    own.add_argument(
        "--finetune", action="store_true", help="train all layers instead of the head alone, which takes hours"
    )
    own.add_argument(
        "--seeds", type=_whole, default=20, help="trainings of every choice beside the pilots (default 20)"
    )
    own.add_argument(
        "--train",
        type=_counts,
        metavar="N:M",
        help="images of the majority and of the minority to train "
        "with (default: 1000:10 where they last, or all training images of your own split)",
    )
    own.add_argument(
        "--pixels", type=_whole, default=0, help="side of the square images (default 160, with --finetune 128)"
    )
    own.add_argument("--time-budget", type=_number, metavar="SECONDS", help="start no training after this time")
    own.add_argument("--out", type=_path, metavar="FOLDER", help="for the page and the table (default: try-NAME here)")
    machine(own)

    pretrain = verb(
        "pretrain", _pretrain, "train a network's body on other images, for runs whose init is the file's path"
    )
    pretrain.add_argument("network", metavar="NETWORK", help="e.g. resnet34")
    pretrain.add_argument("--sources", type=_names, required=True, help="comma-separated, e.g. plantvillage,cifar10")
    pretrain.add_argument("--without", type=_names, default=(), help="leave out classes that begin so, e.g. Apple")
    pretrain.add_argument("--pixels", type=_whole, default=64, help="side of the square images (default 64)")
    pretrain.add_argument("--epochs", type=_whole, default=10, help="passes over the images (default 10)")
    pretrain.add_argument("--learning-rate", type=_number, default=1e-3, help="peak rate of AdamW (default 0.001)")
    pretrain.add_argument("--precision", default="float32", help="float32 (default) or bfloat16")
    pretrain.add_argument("--seed", type=_whole, default=0, help="initial weights and order (default 0)")
    pretrain.add_argument("--out", type=_path, required=True, metavar="FILE", help="checkpoint to write")
    pretrain.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    data_option(pretrain)

    bench = verb("bench", _bench, "time this package beside what people use; goes on where an earlier call stopped")
    bench.add_argument(
        "--workloads", type=_names, default=(), help="comma-separated, e.g. digits,apple64 (default: all)"
    )
    bench.add_argument("--peers", type=_names, default=(), help="comma-separated, e.g. ours,fastai (default: all)")
    bench.add_argument("--rounds", type=_whole, default=1, help="turns of every peer (default 1)")
    bench.add_argument("--curves", action="store_true", help="cost against runs and against image size too")
    bench.add_argument("--time-budget", type=_number, metavar="SECONDS", help="measure nothing after this time")
    bench.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    bench.add_argument("--out", type=_path, default=Path("bench.json"), metavar="FILE", help="default: bench.json")
    data_option(bench)

    execute = verb("execute", _execute, "execute the notebooks with papermill, several at a time")
    execute.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="e.g. base ratio (default: all)")
    execute.add_argument("--in-place", action="store_true", help="rewrite the committed outputs in book/")
    execute.add_argument("--out", type=_path, metavar="FOLDER", help="default: book/_build/executed")
    execute.add_argument("-p", dest="parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    data_option(execute)
    execute.add_argument("--workers", type=_whole, help="notebooks at a time (default: one a core)")

    verdicts = verb("verdicts", _verdicts, "print the scoreboard")
    verdicts.add_argument(
        "--seeds", type=_whole, default=0, help="train and judge so many seeds here (default: published)"
    )
    verdicts.add_argument("--settings", type=_names, default=(), help="of these alone, your own folder:PATH too")
    verdicts.add_argument("--networks", type=_names, default=(), help="of these alone")
    verdicts.add_argument(
        "--results", type=_path, metavar="FOLDER", help="a results folder that `publish --to` has written"
    )
    verdicts.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    data_option(verdicts)

    publish = verb("publish", _publish, "write the local store's results of the claims to results/ with a manifest")
    publish.add_argument(
        "--to", type=_path, metavar="FOLDER", help="another results folder: gets all that the store has"
    )

    aside = verb("set-aside", _set_aside, "take published runs out of the results, into results/set-aside/")
    aside.add_argument("keys", nargs="+", metavar="KEY", help="16 hex digits each")
    aside.add_argument("--reason", default="", help="kept beside them")

    weights = verb("weights", _weights, "read ImageNet's weights of a network once, so that its runs have keys")
    weights.add_argument("network", metavar="NETWORK", help="e.g. resnet34, vgg19, timm/resnet50")
    weights.add_argument(
        "--out", type=_path, metavar="FILE", help="write them as a dict of tensors, to carry elsewhere"
    )

    reproduced = verb("reproduced", _reproduced, "compare the local store with the published results, cell by cell")
    reproduced.add_argument("--cells", action="store_true", help="print every cell")

    verify = verb("verify", _verify, "check the manifest's sums and retrain a random sample of published cells")
    verify.add_argument("--cells", type=_whole, default=3, help="cells to retrain (default 3; 0: sums only)")
    verify.add_argument("--seeds", type=_whole, default=10, help="seeds of each (default 10)")
    verify.add_argument("--sample", type=_whole, help="seed of the random choice (default: a new one every time)")
    verify.add_argument("--certificate", type=_path, metavar="FILE", help="write what was checked, in CODECHECK's form")
    data_option(verify)
    machine(verify)

    merge = verb("merge", _merge, "add the runs of another store, such as one written by `run --out`")
    merge.add_argument("files", nargs="+", type=_path, metavar="FILE")

    data = verb("data", None, "the data sets").add_subparsers(required=True, metavar="COMMAND")
    data_option(verb("list", _data_list, "what is here, its size, settings, licence and citation", into=data))
    fetch = verb(
        "fetch", _data_fetch, "get sets of images from their official sources, as one folder a class", into=data
    )
    fetch.add_argument("names", nargs="+", metavar="NAME", help="plantvillage, cracks, skin or cifar10")
    fetch.add_argument("--all", action="store_true", help="take every image, not only those that are listed")
    data_option(fetch)
    pack = verb("pack", _data_pack, "decode a set of images once into a memory-mapped array", into=data)
    pack.add_argument("name", metavar="NAME", help="plantvillage, cracks, skin, cifar10, or folder:PATH")
    pack.add_argument("--pixels", type=_whole, default=32, help="side of the square images (default 32)")
    pack.add_argument("--skip-broken", action="store_true", help="leave out files that are no whole images")
    data_option(pack)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Carry out one command; errors that a user can mend are one sentence on stderr and exit status 2."""
    for stream in (sys.stdout, sys.stderr):  # a locale that lacks a letter must not cost a result
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    a = parser().parse_args(arguments)
    try:
        if getattr(a, "data", None):
            if a.action is not _data_fetch and not a.data.is_dir():
                raise ValueError(f"--data {a.data} is no folder: it holds one folder a data set, such as cracks/")
            os.environ["REPLICATION_DATA"] = str(
                a.data.resolve()
            )  # what worker processes and kernels inherit, read in data.catalogue alone
        a.action(a)
    except (ValueError, OSError) as error:
        print(f"replication: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"replication: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision", "timm", "jupyter_book", "papermill"):
            raise
        print(f"replication: {error.name} is not installed: `make setup` installs everything", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(
            f"replication: the memory does not suffice ({error or 'no more said'}): ask for less at a time; every "
            "finished run is kept",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("replication: interrupted; every finished run is kept", file=sys.stderr)
        return 130
    return 0
