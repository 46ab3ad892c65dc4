"""Do a CPU and a GPU agree where all layers are trained? Published GPU runs of the close tier, trained again on a CPU.

    python benchmarks/devices.py --store cpu.sqlite --out benchmarks/measurements/devices_tomato.json

Trains what the store lacks, seed by seed, on the device asked for, and compares it with the published runs. The rule was
set before the runs: a cell may mix devices only where the two means of each arm lie within 0.05. Five seeds of the
primary cell of tier close, each arm at its own rate: the pilots' test scores, which the rule first named, are not published.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from replication.claims import registry
from replication.files import write
from replication.results import published
from replication.results.frame import results_frame
from replication.results.store import Store
from replication.run import Run
from replication.running.local import carry_out_all, key_of

SETTING, NETWORK, SEEDS, WITHIN = "plantvillage/tomato@128", "resnet_cntk:imagenet", 5, 0.05
TOLD = ("f1_minority", "f1_macro", "roc_auc", "learned_shift")
"""what is compared beside the rule's minority F1"""


def runs() -> dict[Run, str]:
    """The runs with their arms, seed by seed."""
    (cell,) = (c for c in registry.plan("base").cells if (c.setting, c.network) == (SETTING, NETWORK))
    wanted = replace(cell, seeds=SEEDS, kinds=("own",))
    found = {e.run: e.arm for c in registry.plan("base").design(wanted) if not c.variant for e in c.entries()}
    return dict(sorted(found.items(), key=lambda item: item[0].seed))


def compared(ours: pd.DataFrame, theirs: pd.DataFrame, arms: dict[str, str], records: dict) -> dict:
    """Scores (n,) by arm, seed by seed, of rows trained here and of published ones; `arms` by key.

    ValueError where either lacks a run, and where published ones were not trained on a GPU.
    """
    found: dict = {"setting": SETTING, "network": NETWORK, "seeds": SEEDS, "runs": {}, "means": {}}
    sides = {"here": ours, "published": theirs}
    for side, rows in sides.items():
        rows = rows[rows["readout"] == "as_trained"].set_index("key")
        if lacking := sorted(arms.keys() - set(rows.index)):
            raise ValueError(f"{len(lacking)} of {len(arms)} runs are missing {side}: train them first")
        sides[side] = rows.loc[list(arms)]
    kinds = {records[p]["device"] for p in sides["published"]["provenance"]}
    if kinds != {"cuda"}:
        raise ValueError(f"published runs of a GPU are needed: found {', '.join(sorted(kinds))}")
    for arm in dict.fromkeys(arms.values()):
        keys = [key for key, of in arms.items() if of == arm]
        both = {side: rows.loc[keys] for side, rows in sides.items()}
        found["runs"][arm] = {
            name: {side: [round(float(v), 4) for v in rows[name]] for side, rows in both.items()}
            for name in TOLD
            if all(rows[name].notna().all() for rows in both.values())  # plain has no shift
        }
        found["means"][arm] = {side: round(float(rows["f1_minority"].mean()), 4) for side, rows in both.items()}
    found["means within 0.05"] = all(abs(m["here"] - m["published"]) <= WITHIN for m in found["means"].values())
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--time-budget", type=float)
    asked = parser.parse_args()
    wanted = runs()
    arms = {key_of(run): arm for run, arm in wanted.items()}
    with Store(asked.store) as store:
        carry_out_all(list(wanted), store, asked.device, asked.workers, asked.time_budget)
        ours, here = results_frame(store.results(arms)), store.provenance()
    records = published.manifest()["provenance"]
    found = compared(ours, published.read((SETTING,)), arms, records)
    told = ("device", "hardware", "versions", "commit")
    found["trained here"] = [{name: r[name] for name in told if name in r} for r in here.values()]
    found["seconds"] = [round(float(s), 1) for s in ours[ours["readout"] == "as_trained"]["seconds"]]
    write(asked.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["means"]), "agree" if found["means within 0.05"] else "do not agree")


if __name__ == "__main__":
    main()
