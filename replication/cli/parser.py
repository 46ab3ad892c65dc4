"""The verbs and options of the command line."""

import argparse
import textwrap
from pathlib import Path

from replication.cli import arguments, verbs
from replication.version import __version__


def parser() -> argparse.ArgumentParser:
    """The command line as an argparse parser."""
    top = argparse.ArgumentParser(prog="replication", description="Train, tune, judge, publish and check.")
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs_of = top.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, action, into=verbs_of) -> argparse.ArgumentParser:
        text = textwrap.dedent(action.__doc__ or "").strip()
        sub = into.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        return sub

    def machine(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
        sub.add_argument("--workers", type=arguments.whole, help="processes (default: one per core)")

    def data_option(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--data", type=arguments.path, metavar="PATH", help="folder of the image sets (default: REPLICATION_DATA)"
        )

    def cell_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--settings",
            type=arguments.names,
            default=(),
            help="comma-separated, or a JSON list where a name has a comma",
        )
        sub.add_argument("--networks", type=arguments.names, default=(), help="comma-separated, e.g. simple_cnn,mlp")
        plain = sub.format_help
        sub.format_help = lambda: plain() + _what_there_is()
        data_option(sub)
        machine(sub)

    run = verb("run", verbs.run)
    run.add_argument("claims", nargs="*", metavar="CLAIM", help="e.g. base ratio (default: all)")
    cell_options(run)
    run.add_argument(
        "--engine", default="auto", help="auto (default), loop, streams or stacked: one by one or many at a time"
    )
    run.add_argument(
        "--seeds", type=arguments.whole, help="confirmatory seeds of every cell (default: each claim's own number)"
    )
    run.add_argument("--unpublished", action="store_true", help="leave out the runs that are published already")
    run.add_argument("--time-budget", type=arguments.number, metavar="SECONDS", help="start no run after this time")
    run.add_argument("--out", type=arguments.path, metavar="FILE", help="store to write instead of the local one")

    run.add_argument(
        "--shard", type=arguments.shard, metavar="I/N", help="the i-th of n parts, for job arrays, e.g. 1/8"
    )
    run.add_argument(
        "--on", metavar="WHERE", help="ray, or ray://HOST:PORT: a Ray cluster instead of this machine's processes"
    )
    run.add_argument(
        "--rates", type=arguments.names, default=(), help="kinds of learning rate, e.g. own,shared (default: all)"
    )

    tune = verb("tune", verbs.tune)
    tune.add_argument("claims", nargs="*", metavar="CLAIM", help="whose arms (default: all)")
    cell_options(tune)
    tune.add_argument(
        "--arms", type=arguments.names, default=(), help="comma-separated, e.g. plain,final_bn (default: all)"
    )
    tune.add_argument(
        "--seeds", type=arguments.whole, help="pilot seeds (default: 10, or 5 where all layers are trained)"
    )
    tune.add_argument("--again", action="store_true", help="choose anew what the published rates have; rewrites them")
    tune.add_argument("--unpublished", action="store_true", help="count published pilots and train the others alone")
    tune.add_argument("--engine", default="auto", help="as of run")
    tune.add_argument("--time-budget", type=arguments.number, metavar="SECONDS", help="start no run after this time")
    tune.add_argument("--out", type=arguments.path, metavar="FILE", help="store to write instead of the local one")
    verb("register", verbs.register)

    own = verb("try", verbs.try_images)
    own.add_argument(
        "path",
        type=arguments.path,
        metavar="PATH",
        help="a folder with one folder of images per class (or train/ and test/ with "
        "these), or a table (.csv) with columns file, label and perhaps split",
    )
    own.add_argument("--majority", default="", metavar="CLASS", help="the majority class (default: the largest)")
    own.add_argument("--network", default="efficientnet_lite0:imagenet:head", help="default: %(default)s")
    own.add_argument(
        "--finetune", action="store_true", help="train all layers instead of the head alone, which takes hours"
    )
    own.add_argument(
        "--seeds", type=arguments.whole, default=20, help="trainings of every choice beside the pilots (default 20)"
    )
    own.add_argument(
        "--train",
        type=arguments.counts,
        metavar="N:M",
        help="images of the majority and of the minority to train "
        "with (default: 1000:10 where they last, or all training images of your own split)",
    )
    own.add_argument(
        "--pixels", type=arguments.whole, default=0, help="side of the square images (default 160, with --finetune 128)"
    )
    own.add_argument(
        "--time-budget", type=arguments.number, metavar="SECONDS", help="start no training after this time"
    )
    own.add_argument(
        "--out", type=arguments.path, metavar="FOLDER", help="for the page and the table (default: try-NAME here)"
    )
    machine(own)

    pretrain = verb("pretrain", verbs.pretrain)
    pretrain.add_argument("network", metavar="NETWORK", help="e.g. resnet34")
    pretrain.add_argument(
        "--sources", type=arguments.names, required=True, help="comma-separated, e.g. plantvillage,cifar10"
    )
    pretrain.add_argument(
        "--without", type=arguments.names, default=(), help="leave out classes that begin so, e.g. Apple"
    )
    pretrain.add_argument("--pixels", type=arguments.whole, default=64, help="side of the square images (default 64)")
    pretrain.add_argument("--epochs", type=arguments.whole, default=10, help="passes over the images (default 10)")
    pretrain.add_argument(
        "--learning-rate", type=arguments.number, default=1e-3, help="peak rate of AdamW (default 0.001)"
    )
    pretrain.add_argument("--precision", default="float32", help="float32 (default) or bfloat16")
    pretrain.add_argument("--seed", type=arguments.whole, default=0, help="initial weights and order (default 0)")
    pretrain.add_argument("--out", type=arguments.path, required=True, metavar="FILE", help="checkpoint to write")
    pretrain.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    data_option(pretrain)

    bench = verb("bench", verbs.bench)
    bench.add_argument(
        "--workloads", type=arguments.names, default=(), help="comma-separated, e.g. digits,apple64 (default: all)"
    )
    bench.add_argument(
        "--peers", type=arguments.names, default=(), help="comma-separated, e.g. ours,fastai (default: all)"
    )
    bench.add_argument("--rounds", type=arguments.whole, default=1, help="turns of every peer (default 1)")
    bench.add_argument("--curves", action="store_true", help="cost against runs and against image size too")
    bench.add_argument(
        "--time-budget", type=arguments.number, metavar="SECONDS", help="measure nothing after this time"
    )
    bench.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    bench.add_argument(
        "--out", type=arguments.path, default=Path("bench.json"), metavar="FILE", help="default: bench.json"
    )
    data_option(bench)

    execute = verb("execute", verbs.execute)
    execute.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="e.g. base ratio (default: all)")
    execute.add_argument("--in-place", action="store_true", help="rewrite the committed outputs in book/")
    execute.add_argument("--out", type=arguments.path, metavar="FOLDER", help="default: book/_build/executed")
    execute.add_argument(
        "--changed", action="store_true", help="take pages as they are that were made from just what is here now"
    )
    execute.add_argument("-p", dest="parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    data_option(execute)
    execute.add_argument("--workers", type=arguments.whole, help="notebooks at a time (default: one per core)")

    verdicts = verb("verdicts", verbs.verdicts)
    verdicts.add_argument(
        "--seeds", type=arguments.whole, default=0, help="train and judge so many seeds here (default: published)"
    )
    verdicts.add_argument(
        "--settings", type=arguments.names, default=(), help="of these alone, your own folder:PATH too"
    )
    verdicts.add_argument("--networks", type=arguments.names, default=(), help="of these alone")
    verdicts.add_argument(
        "--results", type=arguments.path, metavar="FOLDER", help="a results folder that `publish --to` has written"
    )
    verdicts.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    data_option(verdicts)

    publish = verb("publish", verbs.publish)
    publish.add_argument(
        "--to", type=arguments.path, metavar="FOLDER", help="another results folder: gets all that the store has"
    )

    aside = verb("set-aside", verbs.set_aside)
    aside.add_argument("keys", nargs="+", metavar="KEY", help="16 hex digits each")
    aside.add_argument("--reason", default="", help="kept beside them")

    weights = verb("weights", verbs.weights)
    weights.add_argument("network", metavar="NETWORK", help="e.g. resnet34, vgg19, timm/resnet50")
    weights.add_argument(
        "--out", type=arguments.path, metavar="FILE", help="write them as a dict of tensors, to carry elsewhere"
    )

    reproduced = verb("reproduced", verbs.reproduced)
    reproduced.add_argument("--cells", action="store_true", help="print every cell")

    verify = verb("verify", verbs.verify)
    verify.add_argument("--cells", type=arguments.whole, default=3, help="cells to retrain (default 3; 0: sums only)")
    verify.add_argument("--seeds", type=arguments.whole, default=10, help="seeds of each (default 10)")
    verify.add_argument(
        "--sample", type=arguments.whole, help="seed of the random choice (default: a new one every time)"
    )
    verify.add_argument(
        "--certificate", type=arguments.path, metavar="FILE", help="write what was checked, in CODECHECK's form"
    )
    data_option(verify)
    machine(verify)

    merge = verb("merge", verbs.merge)
    merge.add_argument("files", nargs="+", type=arguments.path, metavar="FILE")

    sets = verbs_of.add_parser("data", help="The data sets.", description="The data sets.")
    data = sets.add_subparsers(required=True, metavar="COMMAND")
    data_option(verb("list", verbs.data_list, into=data))
    fetch = verb("fetch", verbs.data_fetch, into=data)
    fetch.add_argument("names", nargs="+", metavar="NAME", help="plantvillage, cracks, skin or cifar10")
    fetch.add_argument("--all", action="store_true", help="take every image, not only those that are listed")
    data_option(fetch)
    pack = verb("pack", verbs.data_pack, into=data)
    pack.add_argument("name", metavar="NAME", help="plantvillage, cracks, skin, cifar10, or folder:PATH")
    pack.add_argument("--pixels", type=arguments.whole, default=32, help="side of the square images (default 32)")
    pack.add_argument("--skip-broken", action="store_true", help="leave out files that are not complete images")
    data_option(pack)
    return top


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
