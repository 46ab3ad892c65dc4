"""Many runs of one tiny network as one network: all weights stacked, convolutions grouped (torch.func.vmap does it)."""

from collections.abc import Callable, Sequence

import torch
from torch.func import functional_call, grad, stack_module_state, vmap

from replication.run import FACTORS
from replication.training.engines.member import HELD_BATCH, Member, adam_step

OWN = (
    *("seed", "split_seed", "init", "sampling", "augmentation"),  # a member's weights and batches
    *("learning_rate", "schedule", "epochs", "updates", "shift"),  # its rates and its norm's fixed shift
)
"""factors in which stacked runs may differ"""
FORM = tuple(name for name in FACTORS if name not in OWN)
"""factors that stacked runs share: all others, so one added later is shared until it is shown to be a member's own"""


class Stacked:
    """Members of one form whose weights lie in one matrix (E, P), one row a member.

    ValueError in one sentence for members of different forms, for half precision (vmap has no mixed BatchNorm) and for
    random masks, which each draw for themselves.
    """

    name = "stacked"

    def __init__(self, members: Sequence[Member]):
        forms = {tuple(getattr(member.run, factor) for factor in FORM) for member in members}
        if len(forms) > 1:
            raise ValueError(f"runs of {len(forms)} forms cannot be stacked: they must share {', '.join(FORM)}")
        if members[0].dropouts():
            raise ValueError(f"head {members[0].run.head!r} has dropout: runs with it cannot be stacked")
        if members[0].run.precision == "bfloat16":
            raise ValueError("precision 'bfloat16' cannot be stacked: allowed are float32, float64")
        self.members, self.base = members, members[0].model
        everything, self.buffers = stack_module_state([member.model for member in members])
        trained = [name for name, parameter in self.base.named_parameters() if parameter.requires_grad]
        self.fixed = {name: tensor.detach().contiguous() for name, tensor in everything.items() if name not in trained}
        shapes = {name: everything[name].shape[1:] for name in trained}
        self.matrix = torch.cat([everything[name].detach().reshape(len(members), -1) for name in trained], 1)
        parts = self.matrix.split([shape.numel() for shape in shapes.values()], 1)
        self.weights = {
            name: part.unflatten(1, shape) if shape else part[:, 0]
            for (name, shape), part in zip(shapes.items(), parts)
        }
        self.moments, self.variances = torch.zeros_like(self.matrix), torch.zeros_like(self.matrix)
        self.rates = torch.stack([member.rates for member in members], 1)  # (U, E, 3)

    def _losses(self) -> Callable:
        member = self.members[0]

        def of_one(weights, fixed, buffers, images, labels):
            logits = functional_call(self.base, {**weights, **fixed, **buffers}, (images,))
            loss = member.loss(logits, labels)
            return loss, loss.detach()

        return vmap(grad(of_one, has_aux=True))

    def update(self, clock: torch.Tensor) -> None:
        """One training step of every member."""
        images, labels = (torch.stack(parts) for parts in zip(*(member.batch(clock) for member in self.members)))
        images = images.contiguous()  # vmap knows no channels last
        gradients, losses = self._losses()(self.weights, self.fixed, self.buffers, images, labels)
        gradient = torch.cat(
            [
                gradients[name].flatten(1) if gradients[name].dim() > 1 else gradients[name][:, None]
                for name in self.weights
            ],
            1,
        )
        adam_step(self.matrix, gradient, self.moments, self.variances, self.rates.index_select(0, clock)[0])
        for member, loss in zip(self.members, losses):
            member.total += loss

    def test(self, epoch: torch.Tensor) -> None:
        """A test of every member."""
        first = self.members[0]

        def of_one(weights, fixed, buffers, images):
            return functional_call(self.base, {**weights, **fixed, **buffers}, (images,))

        with torch.no_grad():
            held = zip(*(member.held.split(HELD_BATCH) for member in self.members))
            parts = [
                vmap(of_one)(
                    self.weights, self.fixed, self.buffers, torch.stack([*map(first.scaled, images)]).contiguous()
                )
                for images in held
            ]
        for member, logits in zip(self.members, torch.cat(parts, 1)):
            member.note(epoch, logits)

    def mode(self, training: bool) -> None:
        """Training or evaluation, for what follows."""
        self.base.train(training)

    def state(self) -> list[torch.Tensor]:
        """All that training changes."""
        own = [tensor for member in self.members for tensor in (member.total, member.totals, member.history)]
        return [self.matrix, self.moments, self.variances, *self.buffers.values(), *own]

    def finish(self) -> None:
        """Bring every member's network up to date."""
        with torch.no_grad():
            for i, member in enumerate(self.members):
                own = {**dict(member.model.named_parameters()), **dict(member.model.named_buffers())}
                for name, stacked in {**self.weights, **self.buffers}.items():
                    own[name].copy_(stacked[i])
                member.model.train(self.base.training)
