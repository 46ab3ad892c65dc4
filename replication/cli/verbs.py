"""What each verb of the command line calls, and what it prints; its docstring is its help."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from replication.limits import SEEDS, SIDES, WORKERS, check_within, deadline
from replication.paths import check_checkout


def _store(path: Path | None = None):
    from replication.results.store import Store, default_path

    return Store(path or default_path())


def _announce(wanted: list, store, a: argparse.Namespace) -> None:
    """Say how many trainings are left and about how long they take; a log has the progress itself."""
    from replication.running import expectation, local

    if sys.stderr.isatty() and (todo := local.missing(wanted, store)):
        time = expectation.in_words(todo, store, local.device_of(a.device), a.workers)
        print(f"{len(todo)} of {len(wanted)} trainings are to be done{time}", file=sys.stderr, flush=True)


def run(a: argparse.Namespace) -> None:
    """Train what the claims need and the store lacks; published results are not consulted."""
    from replication.claims import registry
    from replication.running import local
    from replication.running.initial import check_here
    from replication.running.sharding import shard

    check_within(*SEEDS, seeds=a.seeds)
    check_within(*WORKERS, workers=a.workers)
    deadline(a.time_budget)
    check_here(a.settings, a.networks)
    wanted = registry.runs(a.claims, a.settings, a.networks, a.seeds, a.rates)
    if a.shard:
        wanted = shard(wanted, *a.shard)
    if a.unpublished:
        from replication.results import published

        known = published.keys()
        wanted = [run for run in wanted if local.key_of(run) not in known]
    with _store(a.out) as store:
        _announce(wanted, store, a)
        if a.on is None:
            done = local.carry_out_all(wanted, store, a.device, a.workers, a.time_budget, a.engine)
        else:
            from replication.running.cluster import address_of, carry_out_on

            done = carry_out_on(wanted, store, address_of(a.on), a.device, a.workers, a.time_budget, a.engine)
        left = len(local.missing(wanted, store))
        print(f"{done} runs trained, {len(wanted) - left} of {len(wanted)} in {store.path}")


def tune(a: argparse.Namespace) -> None:
    """Choose every arm's learning rate on the pilot seeds."""
    from replication.claims import registry
    from replication.run import CONFIRMATORY
    from replication.running import local, tuning
    from replication.running.initial import check_here
    from replication.study.arms import arm as arm_of
    from replication.study.design import pilot_seeds
    from replication.study.rates import is_published

    check_within(1, CONFIRMATORY, seeds=a.seeds)  # pilot seeds end where the confirmatory ones begin
    check_within(*WORKERS, workers=a.workers)
    check_here(a.settings, a.networks)
    for name in a.arms:
        arm_of(name)
    wanted = [(place, arm) for place, arm in registry.searches(a.claims, a.settings, a.networks)]
    wanted = [(place, arm) for place, arm in wanted if not a.arms or arm in a.arms]
    planned = set(registry.searches())
    for place, arm in wanted:
        if a.seeds and (place, arm) in planned and a.seeds != len(pilot_seeds(place.network)):
            raise ValueError(
                f"--seeds {a.seeds} is not allowed on {place}: its learning rates are the book's, chosen on "
                f"{len(pilot_seeds(place.network))} seeds: leave --seeds out, or name settings and networks of your own"
            )
    if not wanted:
        raise ValueError(
            "no learning rates are wanted there: name claims, settings and networks, such as base on digits"
        )
    if not a.again and (kept := [(place, arm) for place, arm in wanted if is_published(place, arm)]):
        wanted = [pair for pair in wanted if pair not in kept]
        print(f"{len(kept)} published learning rates are kept; --again chooses them anew")
    if not wanted:
        return
    with _store(a.out) as store:
        known = tuning.published_scores() if a.unpublished else {}
        train = local.within(a.time_budget, store, a.device, a.workers, a.engine)
        begun = [run for place, arm in wanted for run in tuning.Search.begin(place, arm, a.seeds).runs()]
        _announce([run for run in begun if not known or local.key_of(run) not in known], store, a)
        settled, short = tuning.tune(wanted, store, train, a.seeds, known)
    for path in tuning.write_all_rates(settled, planned):
        print(f"chosen learning rates written to {path}")
    for search in settled:
        end_of = " (an end of those tried)" if search.rate in (min(search.rates), max(search.rates)) else ""
        print(f"{search.place} {search.arm}: {search.rate:g}{end_of}")
    if short:
        print(f"{len(short)} of {len(wanted)} learning rates are not chosen yet: the same command resumes")


def try_images(a: argparse.Namespace) -> None:
    """Does the layer help on your images? one page and one table from a folder of them."""
    import time

    from replication.pages.trial import open_trial
    from replication.pages.trial_report import make
    from replication.pages.words import duration
    from replication.running import local, trial, trial_files
    from replication.running.trial_time import expected
    from replication.study.networks import network

    check_within(*SEEDS, seeds=a.seeds)
    check_within(*WORKERS, workers=a.workers)
    check_within(*SIDES, pixels=a.pixels or None)
    deadline(a.time_budget)
    began, device = time.monotonic(), local.device_of(a.device)
    wanted = network(a.network)
    if a.finetune:
        wanted = dataclasses.replace(wanted, trained="all")
    out = trial_files.results_folder(a.path, a.out)
    made, seen = trial.prepare(a.path, a.majority, str(wanted), a.seeds, a.pixels, a.train)
    print(
        f"{wanted.label}: {len(trial.ARMS)} ways to train are tuned on pilot seeds and trained on {a.seeds} more; "
        f"this takes about {duration(expected(made, device))} on this machine, less what it has done before",
        flush=True,
    )
    with _store() as store:
        left = None if a.time_budget is None else max(0.0, a.time_budget - (time.monotonic() - began))
        whole = trial.carry_out(made, store, device, a.workers, left)
        some = trial_files.keep(made, seen, store, out, device, time.monotonic() - began)
    print(f"all rows: {out / trial_files.RESULTS}")
    if some:
        print(f"page: {make(out)}")
        print(open_trial(out).sentence())
    if not whole:
        print("not all of it is done: the same command resumes")


def pretrain(a: argparse.Namespace) -> None:
    """Train a network's body on other images, for runs whose init is the file's path."""
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


def bench(a: argparse.Namespace) -> None:
    """Time this package beside commonly used alternatives; resumes where an earlier call stopped."""
    from replication.bench.measurements import bench
    from replication.running import local

    done = bench(a.out, a.workloads, a.peers, a.rounds, local.device_of(a.device), a.curves, a.time_budget)
    print(f"{done} measurements more in {a.out}")


def _from_here(name: str, value: str) -> str:
    """A parameter's value in which folders and checkpoints of one's own are absolute: notebooks run in a folder of theirs."""
    from replication.data.settings import joined, names, setting
    from replication.study.networks import network

    if name == "settings":
        return joined(setting(one).name if one.startswith("folder:") else one for one in names(value))
    if name == "networks":
        return joined(
            str(dataclasses.replace(found, init=str(Path(found.init).resolve())))
            if (found := network(one)).init not in ("random", "imagenet") and Path(found.init).is_file()
            else one
            for one in names(value)
        )
    return value


def execute(a: argparse.Namespace) -> None:
    """Execute the notebooks with papermill, several at a time."""
    from replication.pages.notebooks import execute

    check_within(*WORKERS, workers=a.workers)
    check_checkout("execute")
    parameters = [text for name, value in a.parameter for text in ("-p", name, _from_here(name, value))]
    print(execute(a.notebooks, a.out, a.in_place, a.workers, parameters, a.changed))


def verdicts(a: argparse.Namespace) -> None:
    """Print the scoreboard."""
    from replication.data.settings import joined
    from replication.pages import judgements
    from replication.pages.scoreboard import open_scoreboard

    if not a.seeds:
        check_checkout("verdicts", or_results=True)
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


def publish(a: argparse.Namespace) -> None:
    """Write the local store's results of the claims to results/ with a manifest."""
    from replication.claims import registry
    from replication.results.published import folder, publish

    if not a.to:
        check_checkout("publish", or_results=True)
    where = a.to or folder()
    confirmatory = registry.confirmatory_runs()
    with _store() as store:
        # elsewhere: whatever this machine has trained, of one's own images too
        wanted = {result.run for result in store.results()} if a.to else confirmatory | registry.pilots()
        curves, predictions = (
            (wanted, wanted) if a.to else (registry.runs_with_curves(), registry.runs_with_predictions())
        )
        n = publish(store, wanted, where, curves=curves, predictions=predictions)
    print(f"{n} runs published to {where}")
    if not a.to:
        from replication.pages.verdict_file import write_claims

        print(f"verdicts written to {write_claims(where)}")


def set_aside(a: argparse.Namespace) -> None:
    """Take published runs out of the results, into results/set-aside/."""
    from replication.results.published import folder, set_aside

    print(f"{set_aside(a.keys, reason=a.reason)} runs moved to {folder() / 'set-aside'}")


def weights(a: argparse.Namespace) -> None:
    """Read ImageNet's weights of a network once, so that its runs have keys."""
    from replication.training import weights

    if a.out:
        print(f"weights of {a.network}, digest {weights.save(a.network, a.out)}, written to {a.out}")
    else:
        print(f"weights of {a.network}: digest {weights.digest_of(a.network)}")


def register(a: argparse.Namespace) -> None:
    """Write registration.json from the claims' files, to be committed before any run."""
    from replication.claims.registration import register

    check_checkout("register")
    print(f"{register()} written: it counts from the commit that holds it")


def reproduced(a: argparse.Namespace) -> None:
    """Compare the local store with the published results, cell by cell."""
    from replication.results import published, reproduction

    check_checkout("reproduced", or_results=True)
    with _store() as store:
        fresh = store.scores()
    cells = reproduction.compare(published.read(), fresh)
    if a.cells:
        shown = cells.loc[:, cells.nunique() > 1]
        print(shown.round(4).to_string(index=False))
    print("reproduced on this machine: " + reproduction.summary(cells))


def verify(a: argparse.Namespace) -> None:
    """Check the manifest's sums and retrain a random sample of published cells."""
    from replication.running import verification

    check_within(0, cells=a.cells)
    check_within(1, seeds=a.seeds)
    verification.verify(a.cells, a.seeds, a.sample, a.device, a.workers, certificate=a.certificate)


def merge(a: argparse.Namespace) -> None:
    """Add the runs of another store, such as one written by `run --out`."""
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


def data_list(a: argparse.Namespace) -> None:
    """What is here, its size, settings, licence and citation."""
    from replication.data.inventory import report

    print("\n".join(report()))


def data_fetch(a: argparse.Namespace) -> None:
    """Get sets of images from their official sources, as one folder per class."""
    from replication.data import catalogue
    from replication.data.fetch import official
    from replication.data.inventory import count
    from replication.data.packs import classes_of

    for name in map(catalogue.data_set, a.names):
        folder = official.get(name.name, a.all)
        counts = [count(path) for path in classes_of(name.name).values()]
        print(f"{name.name}: {sum(counts)} images of {len(counts)} classes in {folder}")


def data_pack(a: argparse.Namespace) -> None:
    """Decode a set of images once into a memory-mapped array."""
    from replication.data.packs import classes_of, folder_of, open_pack, pack, pack_folder

    classes_of(a.name)
    where = pack(folder_of(a.name), a.pixels, pack_folder(a.name, a.pixels), a.skip_broken)
    source = open_pack(where)
    left_out = json.loads((where / "pack.json").read_text())["broken"]
    print(
        f"{len(source.images)} images of {source.n_labels} classes packed in {where}, digest {source.digest}"
        + (f"; {len(left_out)} broken files left out" if left_out else "")
    )
