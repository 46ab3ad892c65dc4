"""Heads on features of a frozen body: linear ones many at a time, others one by one; equal to the loop over images."""

import dataclasses
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from replication.run import Run
from replication.training.engines.examples import Examples
from replication.training.engines.linear import LinearHeads
from replication.training.engines.updates import Part, Updates
from replication.training.heads import SHIFTED, head_of
from replication.training.loop import PRECISIONS, Outcome, final_norm, minority_f1, outcome, settle
from replication.training.losses import as_softmax, loss_of
from replication.training.optimizers import check
from replication.training.readouts import in_parts, readouts


def refuse(run: Run) -> None:
    """ValueError in one sentence for factors that a head on a frozen body cannot have."""
    if run.precision not in ("float32", "float64"):
        raise ValueError(f"precision {run.precision!r} is not for frozen bodies: allowed are float32 and float64")
    if run.shift_rate != 1 and run.final_norm not in SHIFTED:
        raise ValueError(
            f"shift_rate = {run.shift_rate:g} needs a final norm whose shift is trained ({', '.join(SHIFTED)}): found "
            f"{run.final_norm!r}"
        )
    check(run)


def form(run: Run) -> tuple:
    """What runs stacked together share beside the lengths of their epochs."""
    kind = run.final_norm if run.final_norm in ("layer_norm", "bn_before") else "logits"
    one_logit, sgd = run.output == "sigmoid", run.optimizer == "sgd"
    return kind, one_logit, run.ghost_batch, sgd, run.schedule, run.precision, run.batch_size


def stacks(runs: Sequence[Run], examples: Sequence[Examples]) -> Iterator[list[list[int]]]:
    """Numbers of the runs that go together, by seed: as many for each, those with the same rates side by side."""
    forms: dict[tuple, dict[int, list[int]]] = {}
    for number, (run, e) in enumerate(zip(runs, examples)):
        shape = (*map(len, e.plan), e.held.shape, e.n_validation, len(e.counts))
        forms.setdefault(form(run) + shape, {}).setdefault(id(e), []).append(number)
    for of_seed in forms.values():
        sizes: dict[int, list[list[int]]] = {}
        for numbers in of_seed.values():
            numbers.sort(key=lambda i: (runs[i].learning_rate, runs[i].weight_decay, runs[i].shift_rate))
            sizes.setdefault(len(numbers), []).append(numbers)
        yield from sizes.values()


def train_heads(runs: Sequence[Run], examples: Sequence[Examples], device: str = "cpu") -> list[Outcome]:
    """Train and read the heads of runs on the examples of each; runs that share the very same object share batches.

    Outcomes as `replication.training.loop.train` over images gives them, within rounding. ValueError as in
    the loop, and see `refuse`.
    """
    where = torch.device(device)
    settle(where)
    for run in runs:
        refuse(run)
    found: dict[int, Outcome] = {}
    stacked = [i for i, run in enumerate(runs) if run.head == "linear"]
    for rows in stacks([runs[i] for i in stacked], [examples[i] for i in stacked]):
        start, numbers = time.perf_counter(), [[stacked[i] for i in row] for row in rows]
        heads = LinearHeads([[runs[i] for i in row] for row in numbers], [examples[row[0]] for row in numbers], where)
        outcomes = heads.train_all()
        seconds = (time.perf_counter() - start) / sum(map(len, numbers))
        for row, of_seed in zip(numbers, outcomes):
            found |= {i: dataclasses.replace(o, seconds=seconds) for i, o in zip(row, of_seed)}
    for i in sorted(set(range(len(runs))) - set(stacked)):
        found[i] = train_alone(runs[i], examples[i], where)
    return [found[i] for i in range(len(runs))]


def on_features(run: Run, examples: Examples) -> nn.Sequential:
    """The network of a run without its body and its pooling over places: features (N, F) in, logits out."""
    width = examples.held.shape[1]
    head = head_of(run, width // 2 if run.head.startswith("fastai") else width, len(examples.counts))
    pool: Any = head.pool  # a Sequential
    head.pool = pool[1:] if run.head.startswith("fastai") else nn.Identity()
    return nn.Sequential(OrderedDict(body=nn.Identity(), head=head))


def train_alone(run: Run, examples: Examples, device: torch.device) -> Outcome:
    """One head, layer by layer, as the loop does it."""
    start, dtype = time.perf_counter(), PRECISIONS[run.precision]

    def there(array: np.ndarray, to: torch.dtype | None = None) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, to)

    model = on_features(run, examples).to(device, dtype)
    loss_function = loss_of(run, there(examples.counts, dtype))
    train, held = there(examples.train, dtype).flatten(0, 1), there(examples.held, dtype)
    labels, numbers = there(examples.labels), there(examples.rows())
    parts = []
    for name, p in model.named_parameters():
        if p.requires_grad:
            p.grad = torch.zeros_like(p)
            parts.append(Part(p.detach()[None, None], p.grad[None, None], p.dim() > 1, name == "head.final_norm.bias"))
    updates = Updates([[run]], parts, len(numbers))
    history, n, made, reached, diverged = [], examples.n_validation, 0, 0, False
    validation_labels = torch.from_numpy(examples.validation_labels)
    for epoch in examples.plan:
        model.train()
        total = torch.zeros((), dtype=dtype, device=device)
        for number, rows in enumerate(numbers[made : made + len(epoch)], made):
            loss = loss_function(model(train[rows]), labels[rows % len(labels)])
            loss.backward()
            updates.step(number)
            # private: one launch for all; the public zero_grad() is an optimiser's, which these slices are not given to
            torch._foreach_zero_([part.gradient for part in parts])
            total += loss.detach()
        made += len(epoch)
        model.eval()
        with torch.no_grad():
            logits = in_parts(model, held)
        history.append(logits.cpu().numpy())
        diverged = not bool(torch.isfinite(total) & torch.isfinite(logits).all())
        if diverged:
            break
        if run.stop_f1:
            seen = torch.from_numpy(as_softmax(history[-1][:n], run.output))
            f1 = minority_f1(seen, validation_labels, examples.minorities)
            reached = reached + 1 if f1 >= run.stop_f1 else 0
            if reached == 2:
                break
    with torch.no_grad():
        plain = train[: len(labels)]
        read = {name: logits.cpu().numpy() for name, logits in readouts(model, held, n, plain, labels)}
    seconds, norm = time.perf_counter() - start, final_norm(model)
    return outcome(run, n, np.stack(history), read, diverged, made, seconds, norm)
