"""Whether a CPU and a GPU agree where all layers are trained: the pilot seeds on tomato leaves at 3e-4, on both.

    python benchmarks/devices.py train --device cuda --store gpu.sqlite     # on the one machine, and cpu on the other
    python benchmarks/devices.py compare cpu.sqlite gpu.sqlite --out benchmarks/measurements/devices_tomato.json

The rule was set before the runs: a cell may mix devices only where the two means of each arm lie within 0.05.
"""

import argparse
import json
from pathlib import Path

from replication.files import write
from replication.results.store import Store
from replication.running.local import carry_out_all, key_of
from replication.study.design import PAIR, pilot_runs
from replication.study.rates import Place

PLACE, RATE, SEEDS, WITHIN = Place("plantvillage/tomato@128", "resnet_cntk:imagenet"), 3e-4, range(5), 0.05
RUNS = {arm: pilot_runs(PLACE, arm, [RATE], SEEDS) for arm in PAIR}


def hardware(store: Store, provenances: set[str]) -> list[dict]:
    """Where some results were trained."""
    wanted = ("device", "hardware", "versions", "commit")
    found = store.provenance()
    return [{name: found[p][name] for name in wanted if name in found[p]} for p in sorted(provenances)]


def compared(paths: list[Path]) -> dict:
    """Minority F1 on the test images by arm and file, a value a seed, and whether the means agree.

    SystemExit where a file lacks a run.
    """
    found: dict = {"setting": PLACE.setting, "network": PLACE.network, "learning rate": RATE, "seeds": [*SEEDS]}
    scores, places = {}, []
    for path in paths:
        with Store(path, readonly=True) as store:
            table = store.scores({key_of(run) for runs in RUNS.values() for run in runs}).set_index("key")
            places.append(hardware(store, set(table["provenance"])))
        lacking = [run.seed for runs in RUNS.values() for run in runs if key_of(run) not in table.index]
        if lacking:
            raise SystemExit(f"{path} lacks {len(lacking)} of {len(PAIR) * len(SEEDS)} runs: train them first")
        scores[path] = {arm: [float(table.loc[key_of(run), "f1_minority"]) for run in RUNS[arm]] for arm in PAIR}
    found["trained on"] = places
    found["minority F1"] = {arm: [[round(f1, 4) for f1 in scores[path][arm]] for path in paths] for arm in PAIR}
    means = {arm: [sum(scores[path][arm]) / len(SEEDS) for path in paths] for arm in PAIR}
    found["means"] = {arm: [round(mean, 4) for mean in values] for arm, values in means.items()}
    found["means within 0.05"] = all(max(values) - min(values) <= WITHIN for values in means.values())
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    train = verbs.add_parser("train")
    train.add_argument("--device", default="auto")
    train.add_argument("--store", type=Path, required=True)
    train.add_argument("--workers", type=int)
    train.add_argument("--time-budget", type=float)
    compare = verbs.add_parser("compare")
    compare.add_argument("stores", type=Path, nargs=2)
    compare.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    if asked.verb == "train":
        runs = sorted((run for arm in PAIR for run in RUNS[arm]), key=lambda run: run.seed)
        with Store(asked.store) as store:
            carry_out_all(runs, store, asked.device, asked.workers, asked.time_budget)
        return
    found = compared(asked.stores)
    write(asked.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["means"]), "agree" if found["means within 0.05"] else "do not agree")


if __name__ == "__main__":
    main()
