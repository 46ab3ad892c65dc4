"""The same cell trained by this package and by fastai: do the two agree within the noise of the seeds?

Run: python benchmarks/fastai_check.py [--setting NAME] [--seeds 10] [--default-seeds 5] [--rate 3e-3] [--json FILE]
With --checks only what needs no seeds is done again (seconds, not minutes); FILE keeps its trainings.

Three trainings of every arm and pilot seed, in turn, in one process with one thread, from the same initial weights and
the same split:

- `ours`: `replication.training.loop.train`;
- `fastai`: fastai's DataBlock, Learner and fit_one_cycle, its Adam and its cycle set to our constants, its own item
  transforms for the flips and shifts. Batch order and moves come from fastai's random numbers; its cycle counts
  updates from 0 to n, ours from 1 to n - 1, so that rates part by less than one update;
- `fastai_default`: the same images, but `Learner(dls, model).fit_one_cycle(10, rate)` with all its defaults.

Verdict, fixed before the first run: an arm agrees if the 95 % BCa interval of the paired difference in the minority's
test F1, ours minus `fastai`, includes 0 or lies within 0.1 of it. `fastai_default` is measured, not judged;
its `agree` in the JSON, by the same rule,
is no part of the verdict.

Beside it, free of the seeds' noise: one epoch, a whole cycle of rates, in double precision, where fastai's Learner is
fed with our batches, moves and rates. Its test logits must equal ours to 1e-9. (Not more epochs, not single precision:
training is chaotic, rounding grows up to a thousandfold an epoch.) And the heads' layers, one by one.
"""

import argparse
import json
import re
import statistics
import time
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from fastai.callback.schedule import ParamScheduler
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.core import DataLoaders
from fastai.data.transforms import IndexSplitter, Normalize
from fastai.learner import Learner, Recorder
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import Adam
from fastai.torch_core import set_seed
from fastai.vision.augment import CropPad, FlipItem, PadMode, RandomCrop
from fastai.vision.core import PILImage, PILImageBW
from fastai.vision.data import ImageBlock
from fastai.vision.learner import vision_learner
from torch import nn
from torchvision.models import resnet18

from replication.analysis.metrics import score
from replication.analysis.statistics import bca
from replication.data.augmentation import reach
from replication.data.splits import Split, split
from replication.results.provenance import record
from replication.run import CONFIRMATORY, Run
from replication.training.heads import build, head
from replication.training.loop import batches, inputs, scaled, train
from replication.training.schedules import schedule

ARMS = {"plain": "none", "final_bn": "bn", "final_bn_slow": "bn_slow"}
WITHIN, ROUNDING = 0.1, 1e-9
CPU = torch.device("cpu")
OUR_ADAM = partial(Adam, sqr_mom=0.999, eps=1e-8, wd=0.0)
OUR_CYCLE = {"pct_start": 0.3, "div_final": 25e4}  # div and momenta are fastai's defaults too


def loaders(run: Run, parts: Split) -> tuple[DataLoaders, range]:
    """fastai's loaders of training and validation images, and the item numbers of the test images."""
    images = np.concatenate([p.images for p in (parts.train, parts.validation, parts.test)]).transpose(0, 2, 3, 1)
    labels = np.concatenate([p.labels for p in (parts.train, parts.validation, parts.test)])
    n, held = len(parts.train.labels), len(parts.train.labels) + len(parts.validation.labels)
    channels, pixels = images.shape[-1], images.shape[1]
    shift = [CropPad(pixels + 2 * reach(pixels), pad_mode=PadMode.Reflection), RandomCrop(pixels)]
    block = DataBlock(
        blocks=(ImageBlock(PILImage if channels == 3 else PILImageBW), CategoryBlock(list(range(parts.n_classes)))),
        get_x=lambda i: images[i] if channels == 3 else images[i, ..., 0],
        get_y=lambda i: labels[i],
        splitter=IndexSplitter(range(n, held)),
        item_tfms=[FlipItem(), *shift] if parts.augment else None,
        batch_tfms=Normalize.from_stats([0.5] * channels, [0.5] * channels, cuda=False),
    )
    dls = block.dataloaders(range(held), bs=run.batch_size, num_workers=0, device=CPU)
    return dls, range(held, len(labels))


def ours(run: Run, parts: Split) -> np.ndarray:
    """Test logits (N, K) by `train`, which also reads validation and test images every epoch and all readouts."""
    return train(run, parts).test[-1]


def fastai(run: Run, parts: Split, defaults: bool = False) -> np.ndarray:
    """Test logits (N, K) by fastai's Learner, which reads the validation images every epoch."""
    set_seed(run.seed, reproducible=True)
    dls, test = loaders(run, parts)
    model = build(run, *parts.train.images.shape[1:3], parts.n_classes)
    optimizer, cycle = (Adam, {}) if defaults else (OUR_ADAM, OUR_CYCLE)
    learn = Learner(dls, model, loss_func=CrossEntropyLossFlat(), opt_func=optimizer)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(run.epochs, run.learning_rate, **cycle)
        logits, _ = learn.get_preds(dl=dls.test_dl(test), act=lambda z: z)
    return logits.numpy()


VARIANTS = {"ours": ours, "fastai": fastai, "fastai_default": partial(fastai, defaults=True)}


def same_pixels(run: Run, parts: Split) -> None:
    """ValueError unless fastai's pipeline hands the network the validation images that ours does, to float noise."""
    dls, _ = loaders(run, parts)
    theirs = torch.cat([x.as_subclass(torch.Tensor) for x, _ in dls.valid])
    if not torch.allclose(theirs, scaled(parts.validation.images, torch.float32, CPU), atol=1e-6):
        raise ValueError("fastai's validation images differ from ours")


def same_draws(run: Run, parts: Split) -> float:
    """Largest difference of the test logits after one epoch of fastai's Learner on our batches, moves and rates."""
    run, dtype = replace(run, epochs=1, precision="float64"), torch.float64
    plan, y = batches(run, parts.train.labels), torch.from_numpy(parts.train.labels)
    images = inputs(run, parts, dtype, CPU, len(plan))
    fed = [(images(e, b), y[b]) for e, epoch in enumerate(plan) for b in torch.from_numpy(epoch)]
    rates = schedule(run.schedule, run.learning_rate, len(fed))
    given = ParamScheduler({h: lambda p, i=i: rates[round(p * len(fed))][i] for i, h in enumerate(("lr", "mom"))})
    model = build(run, *parts.train.images.shape[1:3], parts.n_classes).to(dtype)
    loss = nn.CrossEntropyLoss()  # CrossEntropyLossFlat rounds double precision to single, and Recorder refuses it
    learn = Learner(DataLoaders(fed, []), model, loss_func=loss, opt_func=OUR_ADAM, cbs=given).remove_cbs(Recorder)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    with torch.no_grad():
        logits = model.eval()(scaled(parts.test.images, dtype, CPU)).numpy()
    return float(np.abs(logits - train(run, parts).test[-1]).max())


def layers(module: nn.Module) -> list[str]:
    """The layers of a head behind its pooling, each with its shape and constants."""
    kept = (m for m in module.modules() if isinstance(m, (nn.Linear, nn.BatchNorm1d, nn.Dropout, nn.ReLU)))
    return [re.sub(r"(, )?inplace=\w+", "", str(m)) for m in kept]


def heads(dls: DataLoaders) -> dict:
    """Layers of the head of fastai's vision_learner with and without `bn_final`, beside those of our head `fastai`."""
    found = {}
    for final_norm, bn_final in (("none", False), ("bn_slow", True)):
        learn = vision_learner(dls, resnet18, pretrained=False, bn_final=bn_final)
        theirs = layers(learn.model[1])
        try:
            mine = layers(head("fastai", final_norm, 512, 2))
        except ValueError as error:
            mine = str(error)
        found[f"bn_final={bn_final}"] = {"fastai": theirs, "ours": mine}
    return found


def compared(results: dict[str, list[dict]], variant: str) -> dict:
    """Paired differences, ours minus a variant, over the seeds that both have: mean, 95 % interval, agreement in F1."""
    told = {}
    for measure in ("f1_minority", "roc_auc"):
        d = [a[measure] - b[measure] for a, b in zip(results["ours"], results[variant])]
        low, high = bca(d)
        told[measure] = {"n": len(d), "difference": statistics.mean(d), "interval": [low, high]}
    low, high = told["f1_minority"]["interval"]
    return told | {"agree": low <= 0 <= high or (low >= -WITHIN and high <= WITHIN)}


def measured(runs: dict[str, Run], seeds: int, default_seeds: int) -> dict[str, dict[str, list[dict]]]:
    """F1, AUC and seconds of CPU time by arm, variant and seed; the variants take turns."""
    results: dict[str, dict[str, list[dict]]] = {arm: {name: [] for name in VARIANTS} for arm in runs}
    for seed in range(seeds):
        for arm, run in runs.items():
            run = replace(run, seed=seed)
            parts = split(run)
            for name, f in VARIANTS.items():
                if name == "fastai_default" and seed >= default_seeds:
                    continue
                start = time.process_time()
                logits = f(run, parts)
                seconds = time.process_time() - start
                scores = score(logits, parts.test.labels, minorities=parts.minorities, train_counts=parts.train_counts)
                found = {m: scores[m] for m in ("f1_minority", "roc_auc")} | {"seconds": seconds}
                print(f"seed {seed}, {arm}, {name}:", *(f"{m} {v:.3f}" for m, v in found.items()), flush=True)
                results[arm][name].append(found)
    return results


def report(told: dict) -> None:
    """Print each arm's means and spreads over seeds, differences and verdicts."""
    for arm, of in told["results"].items():
        for name, values in of.items():
            f1, auc, seconds = ([v[m] for v in values] for m in ("f1_minority", "roc_auc", "seconds"))
            line = (
                f"{arm:<13} {name:<14} n {len(values):>2}, F1 {statistics.mean(f1):.3f} ± {statistics.stdev(f1):.3f}, "
                f"AUC {statistics.mean(auc):.3f} ± {statistics.stdev(auc):.3f}, {statistics.median(seconds):.1f} s"
            )
            for measure, found in told["comparison"][arm].get(name, {}).items():
                if measure != "agree":
                    low, high = found["interval"]
                    line += f"; ours minus it, {measure} {found['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
            if name == "fastai":
                line += ": agree" if told["comparison"][arm][name]["agree"] else ": DISAGREE"
            print(line)


def report_checks(told: dict) -> None:
    """Print what needs no seeds."""
    for arm, apart in told["same_draws"].items():
        print(f"{arm:<13} fed with our draws: logits {apart:.1e} apart: {'agree' if apart <= ROUNDING else 'DISAGREE'}")
    for name, of in told["heads"].items():
        print(f"head with {name}:", "the same layers" if of["fastai"] == of["ours"] else of)


def main() -> None:
    """Train in turns, compare, print and record."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--setting", default="plantvillage/apple")
    arguments.add_argument("--seeds", type=int, default=10, help="how many pilot seeds, from 0")
    arguments.add_argument("--default-seeds", type=int, default=5, help="how many of them fastai's defaults train too")
    arguments.add_argument("--rate", type=float, default=3e-3, help="peak learning rate of all")
    arguments.add_argument("--checks", action="store_true", help="do only again what needs no seeds")
    arguments.add_argument("--json", type=Path, help="write the measurements here")
    a = arguments.parse_args()
    if not 2 <= a.default_seeds <= a.seeds <= CONFIRMATORY:
        arguments.error(f"allowed are 2 <= default seeds <= seeds <= {CONFIRMATORY}, the pilot seeds")
    torch.set_num_threads(1)
    provenance = record("cpu")
    provenance["versions"] |= {name: version(name) for name in ("fastai", "fastcore")}
    runs = {arm: Run(setting=a.setting, final_norm=norm, learning_rate=a.rate, seed=0) for arm, norm in ARMS.items()}
    first = split(runs["plain"])
    same_pixels(runs["plain"], first)
    told = json.loads(a.json.read_text()) if a.checks and a.json and a.json.exists() else {}
    told["checks"] = {
        "same_draws": {arm: same_draws(run, first) for arm, run in runs.items()},  # warms up, too
        "heads": heads(loaders(runs["plain"], first)[0]),
        "provenance": provenance,
    }
    report_checks(told["checks"])
    if not a.checks:
        results = measured(runs, a.seeds, a.default_seeds)
        told |= {
            "setting": a.setting,
            "learning_rate": a.rate,
            "results": results,
            "comparison": {arm: {v: compared(of, v) for v in VARIANTS if v != "ours"} for arm, of in results.items()},
            "provenance": provenance,
        }
        report(told)
    if a.json:
        a.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
