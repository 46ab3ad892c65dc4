"""One run's training as tensors on a device: its network, its images, and the draws and rates of every update.

A GPU never waits for the host here, and a run's numbers do not depend on who trains beside it: each has its own modules,
its own draws and its own place in memory.
"""

import numpy as np
import torch

from replication.data.augmentation import draws, reach
from replication.data.splits import Split
from replication.limits import check_known
from replication.run import Run
from replication.training.heads import Dropout, build
from replication.training.loop import (
    PRECISIONS,
    Outcome,
    batches,
    final_norm,
    memory_format,
    outcome,
    scaled,
)
from replication.training.losses import loss_of
from replication.training.optimizers import flattened
from replication.training.readouts import readouts
from replication.training.schedules import schedule

BETA2, EPS = 0.999, 1e-8
REFUSED = {"trained": "all", "optimizer": "adam", "shift_rate": 1.0}
"""factors whose other values only the loop knows"""
HELD_BATCH = 256
"""held-out images at a time, which bounds the memory of a test"""


def moved(images: torch.Tensor, numbers: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Images (N, P, P, C) of some numbers (B,) by their moves (B, 3), as (B, C, P, P), channels last in memory.

    To the bit what `replication.data.augmentation.Augmented` gives, without a padded copy.
    """
    last, side = images.shape[1] - 1, torch.arange(images.shape[1], device=images.device)
    mirrored, *shifts = moves.long()[:, :, None].unbind(1)
    rows, columns = (last - (last - (side + shift - reach(len(side))).abs()).abs() for shift in shifts)
    columns = torch.where(mirrored > 0, last - columns, columns)
    return images[numbers[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def rates_of(run: Run, updates: int) -> np.ndarray:
    """(U, 3) what Adam needs at every update: rate / (1 - beta1^t), 1 - beta1 and sqrt(1 - beta2^t)."""
    rate, beta1 = np.array(schedule(run.schedule, run.learning_rate, updates)).T
    t = np.arange(1, updates + 1)
    return np.stack([rate / (1 - beta1**t), 1 - beta1, np.sqrt(1 - BETA2**t)], axis=1)


def adam_step(
    x: torch.Tensor, gradient: torch.Tensor, moments: torch.Tensor, variances: torch.Tensor, rates: torch.Tensor
) -> None:
    """One update of Adam in place, its constants read from the device: `rates` (..., 3), as `rates_of` gives them."""
    step, weight, correction = rates.unsqueeze(-2).unbind(-1)
    moments.lerp_(gradient, weight)
    variances.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    change = variances.sqrt().div_(correction).add_(EPS)
    x.sub_(torch.div(moments, change, out=change).mul_(step))


class Member:
    """One run's training as tensors on a device. `clock` and `epoch` (1,) count there, so that no call needs the host."""

    def __init__(self, run: Run, split: Split, device: torch.device):
        check_known("precision", run.precision, PRECISIONS)
        if run.stop_f1:
            raise ValueError("runs that stop early are trained one by one: the loop is needed")
        if other := [f"{name} = {value!r}" for name, value in REFUSED.items() if getattr(run, name) != value]:
            raise ValueError(f"only runs with {' and '.join(other)} are trained together: the loop is needed")
        self.run, self.device, self.dtype = run, device, PRECISIONS[run.precision]
        self.layout = memory_format(device, run.precision)
        plan, train = batches(run, split.train.labels), split.train
        self.lengths = [len(epoch) for epoch in plan]

        def there(array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)

        self.images = there(train.images).permute(0, 2, 3, 1).contiguous()  # there, which is many times faster
        self.labels, self.plan = there(train.labels), there(np.concatenate(plan))
        self.moves = None
        if split.augment:
            all_moves = draws(run.seed, len(train.labels), train.images.shape[-1], len(plan))
            self.moves = there(np.concatenate([moves[epoch] for moves, epoch in zip(all_moves, plan)]))
        self.rates = there(rates_of(run, sum(self.lengths)), self.dtype)
        self.held = there(np.concatenate([split.validation.images, split.test.images]))
        self.n_validation = len(split.validation.labels)

        model = build(run, *train.images.shape[1:3], split.n_classes)
        self.model = model.to(device, self.dtype, memory_format=self.layout)
        self.loss = loss_of(run, there(split.train_counts, self.dtype))
        self.parameters = flattened(self.model, self.layout)
        self.moments, self.variances = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        outputs = self.model.head.linear.out_features
        self.total = torch.zeros(1, dtype=self.dtype, device=device)
        self.totals = torch.zeros(len(plan), dtype=self.dtype, device=device)
        self.history = torch.zeros(len(plan), len(self.held), outputs, dtype=self.dtype, device=device)

    def autocast(self) -> torch.autocast:
        """The precision of this run's forward passes."""
        enabled = self.run.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)

    def scaled(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images (N, C, P, P) as the network sees them."""
        return scaled(images, self.dtype, self.device, self.layout)

    def batch(self, clock: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Training images (B, C, P, P) in -1..1 and labels (B,) of an update."""
        numbers = self.plan.index_select(0, clock)[0]
        if self.moves is None:
            images = self.images[numbers].permute(0, 3, 1, 2)
        else:
            images = moved(self.images, numbers, self.moves.index_select(0, clock)[0])
        return self.scaled(images), self.labels[numbers]

    def update(self, clock: torch.Tensor) -> None:
        """One training step."""
        images, labels = self.batch(clock)
        with self.autocast():
            logits = self.model(images)
        loss = self.loss(logits.to(self.dtype), labels)
        loss.backward()
        rates = self.rates.index_select(0, clock)[0]
        adam_step(self.parameters, self.parameters.grad, self.moments, self.variances, rates)
        self.parameters.grad.zero_()
        self.total += loss.detach()

    def test(self, epoch: torch.Tensor) -> None:
        """Note the logits on all held-out images and the epoch's sum of losses."""
        with torch.no_grad(), self.autocast():
            parts = [self.model(self.scaled(x)) for x in self.held.split(HELD_BATCH)]
        self.note(epoch, torch.cat(parts))

    def note(self, epoch: torch.Tensor, logits: torch.Tensor) -> None:
        """Keep an epoch's logits (M + N, C) and begin a new sum of losses."""
        self.history.index_copy_(0, epoch, logits.to(self.dtype)[None])
        self.totals.index_copy_(0, epoch, self.total)
        self.total.zero_()

    def state(self) -> list[torch.Tensor]:
        """All that training changes."""
        return [*self.model.state_dict().values(), self.moments, self.variances, self.total, self.totals, self.history]

    def dropouts(self) -> list[Dropout]:
        """The layers with random masks."""
        return [layer for layer in self.model.modules() if isinstance(layer, Dropout)]

    def outcome(self) -> Outcome:
        """Read the trained network, without its time. Where a run diverged, what follows that
        epoch is cut off, as if it had stopped."""
        finite = torch.isfinite(self.totals) & torch.isfinite(self.history).all(2).all(1)
        history, finite = self.history.cpu().numpy(), finite.cpu().numpy()
        diverged = not finite.all()
        epochs = int(finite.argmin()) + 1 if diverged else len(finite)
        held, train = (self.scaled(x) for x in (self.held, self.images.permute(0, 3, 1, 2)))
        with torch.no_grad(), self.autocast():
            all_readouts = readouts(self.model, held, self.n_validation, train, self.labels)
            read = {name: logits.to(self.dtype).cpu().numpy() for name, logits in all_readouts}
        return outcome(
            self.run,
            self.n_validation,
            history[:epochs],
            read,
            diverged,
            sum(self.lengths[:epochs]),
            0.0,
            final_norm(self.model),
        )
