"""The command `replication`: train, tune, judge, publish and check."""

import argparse
import json
import sys
from pathlib import Path


def _run(a: argparse.Namespace) -> None:
    from replication import backends, designs
    from replication.evidence.store import Store, default_path

    wanted = designs.runs(a.claims, a.settings, a.networks, a.seeds)
    with Store(a.out or default_path()) as store:
        done = backends.carry_out_all(wanted, store, a.device, a.workers, a.time_budget)
        left = len(backends.missing(wanted, store))
        print(f"{done} runs trained, {len(wanted) - left} of {len(wanted)} in {store.path}")


def _tune(a: argparse.Namespace) -> None:
    from replication import backends, designs
    from replication.evidence.store import Store, default_path
    from replication.evidence.tuning import choose

    pilots = designs.pilots(a.settings, a.networks)
    with Store(default_path()) as store:
        backends.carry_out_all([run for *_, run in pilots], store, a.device, a.workers)
        by_run = {result.run: result.facts["validation_f1_macro"] for result in store.results()}
    chosen = choose((place, arm, run.learning_rate, by_run[run]) for place, arm, run in pilots)
    path = Path(designs.__file__).with_name("rates.json")
    path.write_text(json.dumps(designs.chosen_rates() | chosen, indent=1) + "\n")
    print(path.read_text())


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def parser() -> argparse.ArgumentParser:
    """The command line as an argparse parser."""
    top = argparse.ArgumentParser(prog="replication", description=__doc__)
    verbs = top.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, action, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        return sub

    def training(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--settings", type=_names, default=(), help="comma-separated, e.g. digits")
        sub.add_argument("--networks", type=_names, default=(), help="comma-separated, e.g. simple_cnn,mlp")
        sub.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
        sub.add_argument("--workers", type=int, help="processes (default: one a core)")

    run = verb("run", _run, "train what the claims need and the local store lacks")
    run.add_argument("claims", nargs="*", metavar="CLAIM", help="e.g. base ratio (default: all)")
    training(run)
    run.add_argument("--seeds", type=int, help="confirmatory seeds of every cell (default: each claim's own number)")
    run.add_argument("--time-budget", type=float, metavar="SECONDS", help="start no run after this time")
    run.add_argument("--out", type=Path, metavar="FILE", help="store to write instead of the local one")

    training(verb("tune", _tune, "choose every arm's learning rate on the pilot seeds"))
    return top


def main(arguments: list[str] | None = None) -> int:
    """Carry out one command; errors that a user can mend are one sentence on stderr and exit status 2."""
    a = parser().parse_args(arguments)
    try:
        a.action(a)
    except (ValueError, OSError) as error:
        print(f"replication: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("replication: interrupted; every finished run is kept", file=sys.stderr)
        return 130
    return 0
