"""fastai's `fine_tune`: its rates and layers against numbers worked out by hand, and against fastai where it is installed."""

import numpy as np
import pytest
import torch
from test_engine import photographs
from torch import nn

from replication.run import Run
from replication.training import loop, optimizers
from replication.training.heads import build

RUN = Run(
    setting="plantvillage/apple",
    network="resnet18",
    head="fastai",
    schedule="fine_tune",
    learning_rate=2e-3,
    epochs=3,
    batch_size=8,
)
PER_EPOCH = 5


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(RUN, 3, 16, 2).double()


class Recorded(torch.optim.AdamW):
    """AdamW that notes every group's rate, momentum and decay at each step."""

    seen: list = []

    def step(self, closure=None):
        self.seen.append([(g["lr"], g["betas"][0], g["weight_decay"], len(g["params"])) for g in self.param_groups])
        return super().step(closure)


@pytest.fixture(scope="module")
def steps():
    model = network()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Recorded)
        return trained(model)


def trained(model: nn.Module):
    """What every step was given, the parameters that the first epoch moved, and the network."""
    update = optimizers.fine_tune_updates(model, RUN, 4 * PER_EPOCH)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    moved = []
    for number in range(4 * PER_EPOCH):
        logits = model(torch.randn(8, 3, 16, 16, dtype=torch.float64))
        nn.functional.cross_entropy(logits, torch.arange(8) % 2).backward()
        update()
        if number == PER_EPOCH - 1:
            moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    return Recorded.seen, moved, model


def test_first_epoch_trains_the_head_and_the_bodys_norms(steps):
    seen, moved, model = steps
    norms = {name for name, m in model.named_modules() if isinstance(m, optimizers.NORMS)}
    body = [name for name in moved if name.startswith("body")]
    assert body and all(name.rpartition(".")[0] in norms for name in body)
    assert {name for name, _ in model.named_parameters() if name.startswith("head")} <= set(moved)
    rates = {group[0] for group in seen[0]}
    assert sorted(rates) == pytest.approx([2e-3 / 25 / 10, 2e-3 / 25])  # the norms at a tenth


def test_then_all_layers_train_at_rates_of_their_own(steps):
    seen, _, model = steps
    later = seen[PER_EPOCH:]
    assert sum(group[3] for group in later[0]) == len(list(model.parameters()))
    assert sorted({group[0] for group in later[0]}) == pytest.approx([1e-3 / 5 / 100, 1e-3 / 5 / 10, 1e-3 / 5])
    peaks = np.array([max(group[0] for group in groups) for groups in later])
    expected = [6e-4 - 4e-4 * np.cos(np.pi * k / 4.5) for k in range(5)]  # 15 updates, 30 % of them rise
    assert peaks[:5] == pytest.approx(expected) and peaks.argmax() in (4, 5) and peaks[-1] < peaks[5]
    momenta = [groups[0][1] for groups in later]
    assert momenta[0] == 0.95 and min(momenta) == pytest.approx(0.85, abs=0.01) and momenta[-1] > 0.94
    assert {group[2] for group in later[0]} == {0.0, 0.01}


def test_weight_decay_falls_on_weights_alone(steps):
    seen, _, model = steps
    weights = [
        name
        for name, p in model.named_parameters()
        if p.dim() > 1  # of norms and biases none has more than one dimension
    ]
    assert sum(group[3] for group in seen[-1] if group[2]) == len(weights)


@pytest.mark.parametrize(
    ("name", "parts"), [("resnet18", 3), ("resnet_cntk", 3), ("vgg19_bn", 3), ("vgg19", 2), ("simple_cnn", 2)]
)
def test_every_parameter_lies_in_one_group(name, parts):
    model = build(Run(setting="plantvillage/apple", network=name, head="fastai"), 3, 32, 2)
    groups = optimizers.layer_groups(model)
    found = [id(p) for group in groups for part in group for p in part.parameters()]
    assert len(groups) == parts and sorted(found) == sorted(id(p) for p in model.parameters())


def test_a_run_by_the_recipe_has_one_epoch_more_and_is_the_same_again():
    run, parts = Run(setting="plantvillage/apple", head="fastai", schedule="fine_tune", epochs=2), photographs(16)
    one, two = loop.train(run, parts), loop.train(run, parts)
    assert one.epochs == 3 and np.array_equal(one.test, two.test) and not one.diverged
    assert not np.array_equal(one.test[0], one.test[1])


@pytest.mark.parametrize("changed", [{"updates": 7}, {"trained": "head", "network": "resnet18"}])
def test_what_the_recipe_cannot_do_is_said(changed):
    run = Run(setting="plantvillage/apple", head="fastai", schedule="fine_tune", **changed)
    with pytest.raises(ValueError, match="trains all layers over whole epochs: found"):
        loop.train(run, photographs(16))


def test_updates_are_fastais():
    """The same layers on the same batches, by fastai's Learner: equal weights after both stages."""
    fastai = pytest.importorskip("fastai.vision.all", reason="fastai is not installed (extra `peers`)")
    ours, theirs = network(), network()
    draws = torch.Generator().manual_seed(1)
    batches = [
        (torch.randn(8, 3, 16, 16, generator=draws, dtype=torch.float64), torch.arange(8) % 2) for _ in range(PER_EPOCH)
    ]
    update = optimizers.fine_tune_updates(ours, RUN, 4 * PER_EPOCH)
    for model in (ours, theirs):
        for m in model.modules():
            if isinstance(m, nn.Dropout) or type(m).__name__ == "Dropout":
                m.p = 0.0
    for _ in range(4):
        for x, y in batches:
            nn.functional.cross_entropy(ours(x), y).backward()
            update()

    class Loader(list):
        device, n = torch.device("cpu"), 8 * PER_EPOCH

        def one_batch(self):
            return self[0]

    loaders = fastai.DataLoaders(Loader(batches), Loader(batches[:1]))
    learner = fastai.Learner(
        loaders,
        theirs,
        loss_func=nn.CrossEntropyLoss(),
        splitter=lambda model: [
            [p for part in group for p in part.parameters()] for group in optimizers.layer_groups(model)
        ],
        train_bn=True,
    )
    learner.remove_cb(fastai.Recorder)  # it smooths the loss in single precision
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(RUN.epochs, RUN.learning_rate)
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters()):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7), (name, (a - b).abs().max())
