"""The optimizers of networks whose layers are all trained: Adam in one vector, torch's AdamW and SGD, fastai's `fine_tune`."""

import math
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import nn
from torch.optim.adam import adam

from replication.limits import check_known
from replication.run import FINE_TUNE, OPTIMIZERS, Run
from replication.training.schedules import schedule

FASTAI = {"beta2": 0.99, "eps": 1e-5, "weight_decay": 0.01, "betas": (0.95, 0.85, 0.95), "div_final": 1e5}
"""fastai's Adam and one-cycle schedule where its users change nothing"""
MOMENTUM = 0.9
"""of SGD, at every rate"""
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)  # torch has no public name for all batch norms


def check(run: Run) -> None:
    """ValueError for an unknown optimizer, and for a decay that it does not know."""
    check_known("optimizer", run.optimizer, OPTIMIZERS)
    if run.weight_decay and run.optimizer == "adam":
        raise ValueError(f"weight_decay = {run.weight_decay:g} needs optimizer 'adamw' or 'sgd': found 'adam'")


def flattened(model: nn.Module, layout: torch.memory_format = torch.channels_last) -> torch.Tensor:
    """Lay all trained parameters out in one vector (P,), gradients likewise, and return it; kernels in that layout.

    The parameters become views of it, so that an update is one operation however many layers there are. Adam works
    element by element: the result is the same to the bit.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    last = [p.dim() == 4 and layout == torch.channels_last for p in trained]
    flat = torch.cat([(p.movedim(1, -1) if moved else p).detach().reshape(-1) for p, moved in zip(trained, last)])
    flat.grad = torch.zeros_like(flat)
    sizes = [p.numel() for p in trained]
    for p, moved, values, gradient in zip(trained, last, flat.split(sizes), flat.grad.split(sizes)):
        shape = (p.shape[0], *p.shape[2:], p.shape[1]) if moved else p.shape
        p.data, p.grad = (v.view(shape).movedim(-1, 1) if moved else v.view(shape) for v in (values, gradient))
    return flat


def adam_step(flat: torch.Tensor, state: list[torch.Tensor], rate: float, beta1: float) -> None:
    """One update of torch's fused Adam (beta2 0.999, eps 1e-8) in place, without the optimizer object's overhead.

    `state` holds both moments (P,) and the number of updates so far.
    """
    moments, variances, count = state
    adam(
        [flat],
        [flat.grad],
        [moments],
        [variances],
        [],
        [count],
        fused=True,
        amsgrad=False,
        beta1=beta1,
        beta2=0.999,
        lr=rate,
        weight_decay=0.0,
        eps=1e-8,
        maximize=False,
    )


def adam_updates(model: nn.Module, run: Run, updates: int, layout: torch.memory_format) -> Callable[[], None]:
    """A function that carries out the next update of a run by the gradients that stand, and sets them to 0."""
    parameters = flattened(model, layout)
    device = parameters.device
    state = [torch.zeros_like(parameters), torch.zeros_like(parameters), torch.zeros((), device=device)]
    rates = iter(schedule(run.schedule, run.learning_rate, updates))

    def update() -> None:
        adam_step(parameters, state, *next(rates))
        parameters.grad.zero_()

    return update


def torch_updates(model: nn.Module, run: Run, updates: int) -> Callable[[], None]:
    """As `adam_updates`, by torch's AdamW or SGD (momentum 0.9); weight decay falls on weights alone, as in the heads."""
    trained = [p for p in model.parameters() if p.requires_grad]
    given = [
        {"params": [p for p in trained if (p.dim() > 1) is decays], "weight_decay": run.weight_decay if decays else 0.0}
        for decays in (True, False)
    ]
    sgd = run.optimizer == "sgd"
    optimizer = torch.optim.SGD(given, lr=0.0, momentum=MOMENTUM) if sgd else torch.optim.AdamW(given, lr=0.0)
    rates = iter(schedule(run.schedule, run.learning_rate, updates))

    def update() -> None:
        rate, beta1 = next(rates)
        for group in optimizer.param_groups:
            group["lr"] = rate
            if not sgd:
                group["betas"] = (beta1, 0.999)
        optimizer.step()
        optimizer.zero_grad()

    return update


def layer_groups(model: nn.Module) -> list[list[nn.Module]]:
    """The parts that fastai's `vision_learner` gives a learning rate each, from the images to the head.

    A ResNet is cut behind its second stage, VGG-19 with BatchNorm before its last convolutions; of others the body is
    one part (fastai's `vision.learner.model_meta`).
    """
    children = dict(model.body.named_children())
    if "layer3" in children:
        names = list(children)
        cut = names.index("layer3")
        parts = [[children[n] for n in names[:cut]], [children[n] for n in names[cut:]]]
    elif isinstance(layers := children.get("features"), nn.Sequential) and any(isinstance(m, NORMS) for m in layers):
        parts = [list(layers[:22]), list(layers[22:])]
    else:
        parts = [[model.body]]
    # torch declares what a module holds as tensor or module
    return cast(list[list[nn.Module]], [*parts, [model.head]])


def cosine(start: float, end: float, part: float) -> float:
    """From `start` to `end` along half a cosine, at `part` of the way (0..1)."""
    return start + (1 + math.cos(math.pi * (1 - part))) * (end - start) / 2


def fastai_one_cycle(peak: float, div: float, warm: float, updates: int) -> Iterator[tuple[float, float]]:
    """(learning rate, beta1) of every update of fastai's `fit_one_cycle`; `warm` is the part that rises to the peak."""
    low, high, last = FASTAI["betas"]
    for number in range(updates):
        part = number / updates
        if part < warm:
            yield cosine(peak / div, peak, part / warm), cosine(low, high, part / warm)
        else:
            rest = (part - warm) / (1 - warm)
            yield cosine(peak, peak / FASTAI["div_final"], rest), cosine(high, last, rest)


def fine_tune_updates(model: nn.Module, run: Run, updates: int) -> Callable[[], None]:
    """The updates of fastai's `fine_tune(epochs, base_lr)` after `create_head`: as `adam_updates`, for that recipe.

    One epoch trains the head at the rate, and the body's norms, which fastai never freezes, at a tenth of it. Then all
    layers train at half the rate, those nearest to the images at a hundredth of that, with a fresh Adam. Weight decay
    (0.01, decoupled) falls on weights alone. The first of `run.epochs + 1` epochs is the frozen one.
    """
    first = updates // (run.epochs + 1)
    groups = layer_groups(model)
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    modules = [[m for part in group for m in part.modules()] for group in groups]

    def parameters(group: int, norms_alone: bool) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Those that weight decay falls on, and the others."""
        plain, spared = [], []
        for module in modules[group]:
            for name, p in module.named_parameters(recurse=False):
                if id(p) not in trained or (norms_alone and not isinstance(module, NORMS)):
                    continue
                (spared if isinstance(module, NORMS) or name == "bias" else plain).append(p)
        return plain, spared

    def stage(frozen: bool, shares: list[float], rates: Iterator[tuple[float, float]]) -> Iterator[None]:
        """One `fit_one_cycle`; `shares` are the groups' rates as parts of the head's."""
        given = []
        for number, share in enumerate(shares):
            decayed, spared = parameters(number, frozen and number < len(groups) - 1)
            for some, decay in ((decayed, FASTAI["weight_decay"]), (spared, 0.0)):
                given += [{"params": some, "weight_decay": decay, "share": share}] * bool(some)
        chosen = {id(p) for group in given for p in group["params"]}
        for p in model.parameters():
            p.requires_grad_(id(p) in chosen)
            p.grad = None
        optimizer = torch.optim.AdamW(given, lr=0.0, eps=FASTAI["eps"])
        for rate, beta1 in rates:
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = rate * group["share"], (beta1, FASTAI["beta2"])
            yield
            optimizer.step()
            optimizer.zero_grad()

    def stages() -> Iterator[None]:
        body = len(groups) - 1
        peak = run.learning_rate
        yield from stage(True, [0.1] * body + [1.0], fastai_one_cycle(peak, 25.0, 0.99, first))
        apart = [100 ** (number / body - 1) for number in range(body + 1)]
        yield from stage(False, apart, fastai_one_cycle(peak / 2, 5.0, 0.3, updates - first))

    steps = stages()
    next(steps)  # the first stage's layers are frozen before the first gradient

    def update() -> None:
        next(steps, None)

    return update


def updates_of(model: nn.Module, run: Run, updates: int, layout: torch.memory_format) -> Callable[[], None]:
    """The function that carries out a run's updates one by one, by its schedule and optimizer."""
    if run.schedule == FINE_TUNE:
        return fine_tune_updates(model, run, updates)
    if run.optimizer != "adam":
        return torch_updates(model, run, updates)
    return adam_updates(model, run, updates, layout)
