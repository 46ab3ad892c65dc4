"""The paper's architectures: torchvision's and timm's bodies, fastai's head, what they start from, and pretraining."""

import copy
import dataclasses
import shutil
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.transforms.functional import normalize

from replication import cli
from replication.data.augmentation import draws
from replication.data.sources import Source, digest
from replication.data.splits import Part, Split, split
from replication.run import Run
from replication.running import pretraining
from replication.running.pretraining import pooled, pretrain, tenth
from replication.study.networks import IMAGENET_BODIES, SMALL_BODIES
from replication.training import loop, schedules, weights
from replication.training.bodies import NETWORKS, TORCHVISION, body
from replication.training.heads import CENTRING, FINAL_NORMS, Dropout, MaxAvgPool, build, head
from replication.training.readouts import readouts

RNG = np.random.default_rng(3)
CPU = torch.device("cpu")
PARAMETERS = {"resnet18": 11_176_512, "resnet34": 21_284_672, "vgg19_bn": 20_035_392, "vgg19": 20_024_384}
"""torchvision's own counts without the classifiers"""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def at_random() -> dict[str, nn.Module]:
    """torchvision's bodies, at random."""
    torch.manual_seed(0)
    return {name: body(name, 3, 32)[0] for name in TORCHVISION}


def close(found, wanted, tolerance=1e-5):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(wanted), rtol=tolerance, atol=tolerance)


def refused(call, *arguments, **named) -> str:
    """The one sentence of a ValueError."""
    with pytest.raises(ValueError) as error:
        call(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- Bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_32nd_of_the_side_remains(at_random, name):
    with torch.no_grad():
        for pixels in (32, 64, 128):
            x = torch.randn(1, 3, pixels, pixels).contiguous(memory_format=torch.channels_last)
            assert at_random[name].eval()(x).shape == (1, 512, pixels // 32, pixels // 32)


@pytest.mark.parametrize("name", TORCHVISION)
def test_body_is_torchvisions_without_its_classifier(at_random, name):
    with torch.device("meta"):  # no weights are made
        theirs = getattr(models, name)().state_dict()
    kept = {key: value.shape for key, value in theirs.items() if not key.startswith(("fc.", "classifier."))}
    ours = at_random[name].state_dict()
    assert {key: value.shape for key, value in ours.items()} == kept and len(kept) < len(theirs)
    assert sum(p.numel() for p in at_random[name].parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", TORCHVISION)
def test_convolutions_start_as_torchvision_draws_them(at_random, name):
    layers = [m for m in at_random[name].modules() if isinstance(m, nn.Conv2d)]
    assert len(layers) == {"resnet18": 20, "resnet34": 36}.get(name, 16)  # three shortcuts beside the 17 and the 33
    for layer in layers:
        wanted = (2 / (layer.out_channels * layer.kernel_size[0] ** 2)) ** 0.5  # Kaiming, by fan-out
        assert float(layer.weight.detach().std()) == pytest.approx(wanted, rel=0.1)
        if layer.bias is not None:
            assert not layer.bias.any()
            assert layer.bias.requires_grad == (name == "vgg19"), "frozen where a BatchNorm cancels it"


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_grey_image_is_one_of_three_equal_channels(name):
    runs = [build(Run(network=name), channels, 32, 2).eval() for channels in (1, 3)]
    one, three = ({key: value.shape for key, value in run.state_dict().items()} for run in runs)
    assert one == three
    x = torch.rand(2, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        close(runs[0](x), runs[1](x.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("resnet34", 4, 64), "network 'resnet34' has no form for images of 4 channels: allowed are 1 and 3"),
        (("vgg19", 2, 64), "network 'vgg19' has no form for images of 2 channels: allowed are 1 and 3"),
        (("vgg19_bn", 3, 31), "network 'vgg19_bn' leaves nothing of images of 31 pixels: allowed are 32 and more"),
        (
            ("vgg16", 3, 32),
            "unknown network 'vgg16': allowed are simple_cnn, mlp, logistic, resnet18, resnet34, vgg19_bn, "
            "vgg19, efficientnet_lite0, resnet_cntk, timm/NAME",
        ),
    ],
)
def test_what_a_body_cannot_take_is_said(arguments, words):
    assert refused(body, *arguments) == words


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_trained_parameter_gets_a_gradient(name):
    model = build(Run(network=name, head="fastai", final_norm="bn"), 3, 32, 2).train()
    logits = model(torch.rand(6, 3, 32, 32) * 2 - 1)
    nn.functional.cross_entropy(logits, torch.arange(6) % 2).backward()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert [key for key, p in trained.items() if p.grad is None or not p.grad.any()] == []
    frozen = set(dict(model.named_parameters())) - set(trained)
    assert len(frozen) == (16 if name == "vgg19_bn" else 0) and all(key.endswith("bias") for key in frozen)


# --- The head of fastai ---------------------------------------------------------------------------


def described(module: nn.Module) -> list[str]:
    """The layers of a head, with what tells them apart."""
    told = []
    for m in module.modules():
        if isinstance(m, nn.Linear):
            told.append(f"linear {m.in_features}->{m.out_features}" + (" with bias" if m.bias is not None else ""))
        elif isinstance(m, nn.BatchNorm1d):
            told.append(f"bn {m.num_features} momentum {m.momentum} eps {m.eps}")
        elif isinstance(m, nn.Dropout):
            told.append(f"dropout {m.p}")
        elif not list(m.children()):
            told.append(type(m).__name__)
    return told


# What fastai 2.8.12's create_head(512, 2) builds; its bn_final=True appends the last line of the second assertion.
FASTAI = [
    "MaxAvgPool",
    "bn 1024 momentum 0.1 eps 1e-05",
    "dropout 0.25",
    "linear 1024->512",
    "ReLU",
    "bn 512 momentum 0.1 eps 1e-05",
    "dropout 0.5",
    "linear 512->2",
]


def test_fastai_head_has_fastais_layers():
    assert described(head("fastai", "none", 512, 2)) == FASTAI
    assert described(head("fastai", "bn_slow", 512, 2)) == [*FASTAI, "bn 2 momentum 0.01 eps 1e-05"]
    before = described(head("fastai", "bn_before", 512, 2))
    assert before == [*FASTAI[:-1], "bn 512 momentum 0.1 eps 1e-05", FASTAI[-1]]
    assert described(head("linear", "none", 512, 2)) == ["AdaptiveAvgPool2d", "Flatten", "linear 512->2 with bias"]


def test_parts_of_fastais_head_are_taken_out():
    layers = {name: head(name, "none", 512, 2) for name in ("fastai", "fastai_no_dropout", "fastai_torch_init")}
    assert described(layers["fastai_torch_init"]) == FASTAI
    assert described(layers["fastai_no_dropout"]) == ["dropout 0.0" if x.startswith("dropout") else x for x in FASTAI]
    hidden = {
        name: next(m for m in of.modules() if isinstance(m, nn.Linear)).weight.std().item()
        for name, of in layers.items()
    }
    assert hidden["fastai"] == pytest.approx(hidden["fastai_no_dropout"], rel=0.02)
    assert hidden["fastai_torch_init"] == pytest.approx(
        float(hidden["fastai"]) / 6**0.5, rel=0.05
    )  # uniform, a = sqrt(5)


def test_fastai_head_starts_as_fastais():
    torch.manual_seed(0)
    parts = head("fastai", "bn_slow", 512, 40)
    for layer in (m for m in parts.modules() if isinstance(m, nn.Linear)):
        assert float(layer.weight.detach().std()) == pytest.approx((2 / layer.in_features) ** 0.5, rel=0.05)
    first, second = (m for m in parts.pool if isinstance(m, nn.BatchNorm1d))
    assert torch.cat([first.bias, second.bias]).eq(1e-3).all() and torch.cat([first.weight, second.weight]).eq(1).all()
    assert not parts.final_norm.bias.any() and parts.final_norm.weight.eq(1).all()


def test_pooling_is_largest_then_mean():
    x = torch.randn(2, 3, 4, 5)
    close(MaxAvgPool()(x), torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1))


@pytest.mark.parametrize("norm", [name for name in FINAL_NORMS if name != "none"])
def test_arms_with_a_fastai_head_share_initial_weights(norm):
    run = Run(network="mlp", head="fastai")
    plain = build(run, 1, 8, 2).state_dict()
    arm = build(dataclasses.replace(run, final_norm=norm), 1, 8, 2).state_dict()
    assert set(plain) <= set(arm) and all(key.startswith("head.final_norm") for key in set(arm) - set(plain))
    assert all(torch.equal(plain[key], arm[key]) for key in plain)


def test_layers_shared_by_outputs_and_heads_start_alike():
    run = Run(network="mlp", head="fastai")
    softmax, sigmoid, linear = (
        build(r, 1, 8, 2).state_dict() for r in (run, dataclasses.replace(run, output="sigmoid"), Run(network="mlp"))
    )
    assert [key for key in softmax if not torch.equal(softmax[key], sigmoid[key])] == ["head.linear.weight"]
    assert all(torch.equal(softmax[key], linear[key]) for key in softmax if key.startswith("body."))


# --- Dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_dropout_has_the_statistics_of_torchs(p):
    x = torch.full((400, 500), 3.0, requires_grad=True)
    torch.manual_seed(0)
    theirs = nn.Dropout(p)(x)
    ours = Dropout(p, seed=100, number=0)(x)
    assert set(ours.unique().tolist()) == set(theirs.unique().tolist())
    for dropped in (ours == 0, theirs == 0):
        for axis, n in ((0, 400), (1, 500)):  # no column or row is favoured
            z = (dropped.double().mean(axis) - p) * (n / (p * (1 - p))) ** 0.5
            assert 0.8 < float(z.std()) < 1.2 and abs(float(z.mean())) < 5 / len(z) ** 0.5
    (gradient,) = torch.autograd.grad(ours.sum(), x)
    close(gradient, (ours != 0) / (1 - p))
    assert Dropout(p, 100, 0).eval()(x) is x


def test_masks_follow_from_seed_and_layer_alone():
    x = torch.ones(64, 128)
    layer = Dropout(0.5, 100, 0)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    other, again = Dropout(0.5, 101, 0), Dropout(0.5, 100, 0)
    torch.manual_seed(5)
    state, found = torch.get_rng_state(), []
    for _ in range(2):  # in turn with another run, from another global generator
        found.append(again(x))
        assert not torch.equal(found[-1], other(x))
    assert torch.equal(torch.stack(found), torch.stack([first, second]))
    assert torch.equal(torch.get_rng_state(), state), "torch's own generator is left alone"
    assert not torch.equal(Dropout(0.5, 100, 1)(x), first)
    layer.start(CPU)
    assert torch.equal(layer(x), first)
    assert torch.equal(copy.deepcopy(layer)(x), second)


def test_masks_are_the_same_at_every_precision_and_unbiased():
    x = torch.ones(64, 128)
    masks = [Dropout(0.25, 7, 0)(x.to(dtype)) for dtype in (torch.float32, torch.float64, torch.bfloat16)]
    assert [m.dtype for m in masks] == [torch.float32, torch.float64, torch.bfloat16]
    assert all(torch.equal(m != 0, masks[0] != 0) for m in masks)
    with torch.autocast("cpu", torch.bfloat16):
        logits = build(Run(head="fastai", network="mlp"), 1, 8, 2)(torch.rand(8, 1, 8, 8))
    assert logits.dtype == torch.bfloat16 and logits.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_dropout_draws_on_the_gpu():
    x = torch.ones(400, 500, device="cuda")
    layer = Dropout(0.25, 100, 0)
    first = layer(x)
    assert abs(float((first == 0).double().mean()) - 0.25) < 5 * (0.1875 / x.numel()) ** 0.5
    assert torch.equal(Dropout(0.25, 100, 0)(x), first) and not torch.equal(layer(x), first)
    with torch.autocast("cuda", torch.bfloat16):
        logits = build(Run(head="fastai", network="mlp"), 1, 8, 2).cuda()(torch.rand(8, 1, 8, 8, device="cuda"))
    assert logits.isfinite().all()


def small(**factors) -> Run:
    """210 digits, 3 updates an epoch."""
    return Run(**{"network": "mlp", "head": "fastai", "n_majority": 200, "epochs": 2} | factors)


def test_a_run_with_dropout_is_the_same_whatever_ran_before():
    run = small(final_norm="bn")
    alone = loop.train(run, split(run))
    loop.train(small(seed=3), split(small(seed=3)))
    torch.manual_seed(1)
    again = loop.train(run, split(run))
    assert np.array_equal(alone.test, again.test) and np.isfinite(alone.test).all()


# --- Readouts and the loop ------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["bn", "bn_slow", "bn_no_affine"])
def test_folding_into_a_linear_layer_without_bias(norm):
    run = small(final_norm=norm)
    read = loop.train(run, split(run)).readouts
    close(read["bn_folded"], read["as_trained"], 1e-4)
    assert np.abs(read["bn_removed"] - read["as_trained"]).max() > 0.01
    assert set(read) == {"as_trained", "bn_removed", "bn_recalibrated", "batch_statistics", "bn_folded"}


def test_fastai_head_is_read_with_every_norm():
    x = torch.rand(12, 1, 8, 8)
    for norm in FINAL_NORMS:
        model = build(small(final_norm=norm), 1, 8, 2)
        with torch.no_grad():
            found = dict(readouts(model, x, 4, x))
        assert all(logits.shape == (12, 2) and logits.isfinite().all() for logits in found.values())
        assert ("bn_folded" in found) == (norm in CENTRING and norm != "mean_only")


def random_images(pixels: int = 32) -> Split:
    """12 training images, 4 validation and 4 test images of noise, in colour."""

    def part(n: int) -> Part:
        return Part(RNG.integers(0, 256, (n, 3, pixels, pixels), dtype=np.uint8), np.arange(n) % 4 // 3)

    return Split(part(12), part(4), part(4), (1,), "noise", augment=True)


@pytest.mark.parametrize("name", TORCHVISION)
def test_two_updates_in_the_loop_are_those_of_the_plain_twin(name):
    run = Run(network=name, final_norm="bn", batch_size=4, updates=2, precision="float64", learning_rate=1e-3)
    parts = random_images()
    outcome = loop.train(run, parts)
    model = build(run, 3, 32, 2).double()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    images = loop.inputs(run, parts, torch.float64, CPU, 1)
    for batch, (rate, beta1) in zip(loop.batches(run, parts.train.labels)[0], schedules.schedule("one_cycle", 1e-3, 2)):
        optimizer.param_groups[0].update(lr=rate, betas=(beta1, 0.999))
        optimizer.zero_grad()
        batch = torch.from_numpy(batch)
        nn.functional.cross_entropy(model(images(0, batch)), torch.from_numpy(parts.train.labels)[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        held = [loop.scaled(p.images, torch.float64, CPU) for p in (parts.validation, parts.test)]
        close(outcome.readouts["as_trained"], model.eval()(torch.cat(held)), 1e-7)
    moved = [key for key, p in model.named_parameters() if not torch.equal(p, before[key])]
    assert len(moved) == len([p for p in model.parameters() if p.requires_grad])


# --- Initial weights ------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch's hub cache, empty, no network, and no weights of the user's own."""

    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.delenv("REPLICATION_WEIGHTS", raising=False)
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    weights._read.cache_clear()
    yield tmp_path / "hub" / "checkpoints"
    weights._read.cache_clear()


@pytest.mark.parametrize("channels", [3, 1])
def test_imagenet_weights_see_images_as_imagenet_was_normalised(hub, channels):
    """A file in torch's cache is enough. torchvision's whole network is the oracle, on images as it wants them."""
    theirs = models.resnet34().eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}  # as of old
    hub.mkdir(parents=True)
    torch.save(state, hub / "resnet34-b627a593.pth")
    ours = build(Run(network="resnet34", init="imagenet"), channels, 32, 2).body.eval()
    images = RNG.integers(0, 256, (2, channels, 32, 32), dtype=np.uint8)
    seen = []
    theirs.avgpool.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    pixels = torch.from_numpy(images).expand(-1, 3, -1, -1) / 255
    with torch.no_grad():
        theirs(normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        found = ours(loop.scaled(images, torch.float32, CPU))
        unlike = ours[1:](loop.scaled(images, torch.float32, CPU).expand(-1, 3, -1, -1))
    scale = float(seen[0].abs().max())
    assert float((found - seen[0]).abs().max()) < 1e-4 * scale
    assert float((unlike - seen[0]).abs().max()) > 1e-2 * scale, "it matters"
    assert set(ours.state_dict()) == set(body("resnet34", channels, 32)[0].state_dict())


@pytest.mark.parametrize("name", ["vgg19_bn", "vgg19"])
def test_imagenet_weights_of_a_vgg_without_their_classifier(hub, at_random, monkeypatch, name):
    state = {key: torch.randn_like(value.float()) for key, value in at_random[name].state_dict().items()}
    whole = state | {"classifier.0.weight": torch.ones(1)}
    monkeypatch.setattr(models.get_model_weights(name), "get_state_dict", lambda *_, **__: whole)
    found = build(Run(network=name, init="imagenet"), 3, 32, 2).body
    own = found.state_dict()
    assert own.keys() == state.keys() and all(torch.equal(own[key], state[key].to(own[key])) for key in own)
    assert list(dict(found.named_children())) == ["colours", "features"]


def test_arms_share_imagenet_weights(hub, at_random, monkeypatch):
    state = at_random["vgg19"].state_dict()
    monkeypatch.setattr(models.VGG19_Weights, "get_state_dict", lambda *_, **__: state)
    one, other = (
        build(Run(network="vgg19", init="imagenet", **arm), 3, 32, 2).state_dict()
        for arm in ({}, {"final_norm": "bn", "head": "linear"})
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
    fresh = build(Run(network="vgg19"), 3, 32, 2).state_dict()
    assert torch.equal(one["head.linear.weight"], fresh["head.linear.weight"]), "the head's stream is its own"


def test_imagenet_offline_says_what_would_help(hub):
    for name, file in (
        ("resnet34", "resnet34-b627a593.pth"),
        ("vgg19_bn", "vgg19_bn-c79401a0.pth"),
        ("vgg19", "vgg19-dcbb9e9d.pth"),
    ):
        assert refused(build, Run(network=name, init="imagenet"), 3, 32, 2) == (
            f"no ImageNet weights for network {name!r} (<urlopen error no route to host>): allowed are a connection to "
            f"the internet, once, the file {hub / file}, or the file {name}.pt in the folder that REPLICATION_WEIGHTS names"
        )
    (hub / "vgg19-dcbb9e9d.pth").write_bytes(b"half a fi")
    said = refused(body, "vgg19", 3, 32, "imagenet")
    assert said.startswith("no ImageNet weights for network 'vgg19' (") and str(hub / "vgg19-dcbb9e9d.pth") in said


def test_small_networks_have_no_imagenet_weights():
    assert refused(body, "mlp", 1, 8, "imagenet") == (
        "unknown init 'imagenet': allowed are random and a checkpoint's path for network 'mlp', imagenet for resnet18, "
        "resnet34, vgg19_bn, vgg19, efficientnet_lite0, resnet_cntk, timm/NAME"
    )


def checkpoint(path: Path, **changed) -> str:
    """A checkpoint of a simple CNN for colour images of 16 pixels and more, with what is changed in it."""
    features, _ = body("simple_cnn", 3, 32)
    torch.save({"network": "simple_cnn", "body": features.state_dict(), "provenance": {}} | changed, path)
    return str(path)


def test_what_is_no_fitting_checkpoint_is_said(tmp_path):
    path = checkpoint(tmp_path / "c.pt")
    body("simple_cnn", 3, 64, path)
    assert refused(body, "mlp", 3, 8, path) == (
        f"init = {path!r} is a checkpoint for network 'simple_cnn': one for 'mlp' is needed"
    )
    assert refused(body, "simple_cnn", 1, 32, path) == (
        f"init = {path!r} does not fit these images: 0.weight is (32, 3, 3, 3) there, (32, 1, 3, 3) is needed"
    )
    assert "10.bias is (128,) there, nothing is needed" in refused(body, "simple_cnn", 3, 8, path)
    assert refused(body, "simple_cnn", 3, 32, str(tmp_path / "no.pt")) == (
        f"no checkpoint at init = '{tmp_path / 'no.pt'}': allowed are random, imagenet, a recipe and a checkpoint's path"
    )
    assert "no checkpoint at init" in refused(body, "simple_cnn", 3, 32, str(tmp_path))
    none = f"init = {path!r} is not a checkpoint: one by `replication pretrain` is needed"
    for content in (b"", b"hello\nworld", b"PK\x03\x04 cut off"):
        Path(path).write_bytes(content)
        assert refused(body, "simple_cnn", 3, 32, path) == none
    for content in ([1, 2], {"network": "simple_cnn"}, {"network": "simple_cnn", "body": {"0.weight": 1}}, Run()):
        torch.save(content, path)
        assert refused(body, "simple_cnn", 3, 32, path) == none


def test_a_checkpoint_runs_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return shutil.rmtree, (str(tmp_path),)

    assert "is not a checkpoint" in refused(body, "simple_cnn", 3, 32, checkpoint(tmp_path / "c.pt", provenance=Trap()))
    assert (tmp_path / "c.pt").exists()


# --- Pretraining ----------------------------------------------------------------------------------


def source(name: str, first: int, *classes: str, each: int = 40, pixels: int = 16) -> Source:
    """Noise of a colour that tells the class, one of eight, counted from `first`; four images a group."""
    labels = np.arange(len(classes) * each) % len(classes)
    colours = 150 * ((labels[:, None] + first) >> np.arange(3) & 1)
    images = (colours[..., None, None] + RNG.integers(0, 100, (len(labels), 3, pixels, pixels))).astype(np.uint8)
    groups = labels * each + np.arange(len(labels)) // len(classes) // 4
    return Source(name, images, labels, groups, classes, digest(images, labels), "", "")


LEAVES = source("leaves", 0, "Apple___healthy", "Apple___rust", "Tomato___healthy", "Tomato___rot")
THINGS = source("things", 4, "airplane", "bird")


@pytest.fixture
def made_up_sources(monkeypatch):
    monkeypatch.setattr(pretraining, "load", lambda name, pixels: {"leaves": LEAVES, "things": THINGS}[name])


FEW = {
    "network": "simple_cnn",
    "sources": ["leaves", "things"],
    "without": ["Apple"],
    "pixels": 16,
    "epochs": 12,
    "batch_size": 32,
    "learning_rate": 1e-2,
}


def test_sources_are_pooled_into_one_label_space(made_up_sources):
    images, labels, groups, classes = pooled(["leaves", "things"], ["Apple"], 16)
    assert classes == ["leaves/Tomato___healthy", "leaves/Tomato___rot", "things/airplane", "things/bird"]
    assert np.bincount(labels).tolist() == [40] * 4 and len(np.unique(groups)) == 40
    for name, of, label in (("leaves/Tomato___rot", LEAVES, 3), ("things/bird", THINGS, 1)):
        assert np.array_equal(images[labels == classes.index(name)], of.images[of.labels == label])
    assert not set(groups[labels < 2]) & set(groups[labels > 1])


def test_pretraining_starts_runs_from_its_weights(made_up_sources, tmp_path):
    out = tmp_path / "new" / "cnn.pt"
    told = pretrain(out=out, **FEW)
    assert told["validation_accuracy"] > 0.9, "the colours tell the classes"
    assert told["classes"] == pooled(["leaves", "things"], ["Apple"], 16)[3] and told["without"] == ["Apple"]
    assert told["sources"] == {"leaves": LEAVES.digest, "things": THINGS.digest}
    assert told["images"] == [144, 16] and told["device"] == "cpu" and {"commit", "versions", "hardware"} <= set(told)
    kept = torch.load(out, weights_only=True)
    assert kept["network"] == "simple_cnn" and kept["provenance"] == told
    assert [p.name for p in out.parent.iterdir()] == ["cnn.pt"]

    plain, arm, fresh = (
        build(Run(init=init, final_norm=norm), 3, 32, 2).state_dict()
        for init, norm in ((str(out), "none"), (str(out), "bn"), ("random", "none"))
    )
    for key, value in kept["body"].items():
        assert torch.equal(plain[f"body.{key}"], value) and torch.equal(arm[f"body.{key}"], value)
    assert not torch.equal(plain["body.0.weight"], fresh["body.0.weight"])
    assert torch.equal(plain["head.linear.weight"], fresh["head.linear.weight"])
    outcome = loop.train(Run(init=str(out), batch_size=4, updates=2), random_images())
    assert np.isfinite(outcome.test).all()


def test_pretraining_follows_from_its_seed(made_up_sources, tmp_path):
    few = FEW | {"epochs": 1}
    states = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(states))
        pretrain(out=tmp_path / name, **few, seed=seed)
        states.append(torch.load(tmp_path / name, weights_only=True)["body"])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["0.weight"], states[2]["0.weight"])


def test_held_out_images_are_whole_groups_and_at_most_a_tenth():
    groups = np.random.default_rng(1).integers(0, 60, 500)
    held = tenth(groups, 0)
    assert 30 <= held.sum() <= 50 and not set(groups[held]) & set(groups[~held])
    assert not np.array_equal(held, tenth(groups, 1))
    assert tenth(np.repeat([0, 1], 10), 0).sum() == 10, "at least one group"


def test_training_images_are_moved_and_held_out_ones_are_not(made_up_sources, tmp_path, monkeypatch):
    seen = []

    def spy(images, *rest):
        seen.append(images.copy())
        return loop.scaled(images, *rest)

    monkeypatch.setattr(pretraining, "scaled", spy)
    pretrain(out=tmp_path / "c.pt", **FEW | {"epochs": 1})
    images, _, groups, _ = pooled(["leaves", "things"], ["Apple"], 16)
    held = tenth(groups, 0)
    assert [len(batch) for batch in seen] == [32] * 4 + [16]
    assert np.array_equal(seen[-1], images[held])
    moved = np.concatenate(seen[:-1])
    known = {image.tobytes() for image in images[~held]}
    still = sum(np.ascontiguousarray(image).tobytes() in known for image in moved)
    moves = draws(0, 160, 16, 1)[0]
    share = np.mean((moves == [0, 1, 1]).all(1))  # neither flipped nor shifted: 1 in 18
    assert still < len(moved) * (share + 0.1)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"without": ["Aple"]},
            "no class begins with 'Aple': there are Apple___healthy, Apple___rust, Tomato___healthy,",
        ),
        ({"without": ["Apple", "Tomato", "bird"]}, "pretraining needs at least two classes: found things/airplane"),
        ({"sources": []}, "no data set to pretrain on: at least one is needed, such as plantvillage or cifar10"),
        ({"network": "vgg"}, "unknown network 'vgg': allowed are " + ", ".join(NETWORKS)),
        ({"network": "vgg19"}, "network 'vgg19' leaves nothing of images of 16 pixels: allowed are 32 and more"),
        ({"pixels": 4}, "pixels = 4 is not allowed: at least 8"),
        ({"epochs": 0}, "epochs = 0 is not allowed: at least 1"),
        ({"batch_size": 1}, "batch_size = 1 is not allowed: at least 2"),
        ({"seed": -1}, "seed = -1 is not allowed: at least 0"),
        ({"learning_rate": 0.0}, "learning rate 0 is not allowed: above 0"),
        ({"precision": "int8"}, "unknown precision 'int8': allowed are float32, bfloat16"),
        ({"learning_rate": 1e38}, "pretraining diverged in epoch 1: learning rates below 1e+38 are allowed"),
    ],
)
def test_bad_pretraining_is_refused_in_one_sentence(made_up_sources, tmp_path, changed, words):
    assert refused(pretrain, out=tmp_path / "c.pt", **FEW | changed).startswith(words)
    assert list(tmp_path.iterdir()) == []


def test_images_of_two_shapes_are_refused(monkeypatch):
    sources = {"leaves": LEAVES, "things": source("things", 4, "airplane", "bird", pixels=8)}
    monkeypatch.setattr(pretraining, "load", lambda name, pixels: sources[name])
    assert refused(pooled, list(sources), [], 16) == (
        "images of one shape are needed: found (3, 16, 16) in 'leaves', (3, 8, 8) in 'things'"
    )


def test_a_checkpoint_is_whole_or_not_there(made_up_sources, tmp_path, monkeypatch):
    def full(content, file):
        file.write(b"half")
        raise OSError("no space left")

    out = tmp_path / "c.pt"
    out.write_bytes(b"an older one")
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        pretrain(out=out, **FEW | {"epochs": 1})
    assert out.read_bytes() == b"an older one" and list(tmp_path.iterdir()) == [out]
    assert "is not a file that could be written" in refused(pretrain, out=tmp_path, **FEW)


def test_command_pretrains(made_up_sources, tmp_path, capsys):
    out = tmp_path / "cnn.pt"
    command = [
        "pretrain",
        "simple_cnn",
        "--sources",
        "leaves,things",
        "--without",
        "Apple",
        "--pixels",
        "16",
        "--epochs",
        "1",
        "--out",
        str(out),
        "--device",
        "cpu",
        "--precision",
        "bfloat16",
    ]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert said.out.startswith("simple_cnn tells 4 classes apart with validation accuracy ")
    assert said.out.endswith(f", written to {out}\n") and "image/s" in said.err
    assert torch.load(out, weights_only=True)["provenance"]["precision"] == "bfloat16"
    assert cli.main([*command[:-4], "--device", "tpu"]) == 2
    assert capsys.readouterr().err == "replication: unknown device 'tpu': allowed are auto, cpu, cuda\n"


def test_every_network_has_a_name_for_readers():
    assert set(NETWORKS) == set(SMALL_BODIES) | set(IMAGENET_BODIES)


@pytest.mark.parametrize("name", sorted(SMALL_BODIES))
@pytest.mark.parametrize(("channels", "pixels"), [(1, 8), (3, 32)])
def test_a_small_body_has_as_many_features_as_it_says(name, channels, pixels):
    module, features = NETWORKS[name](channels, pixels)
    assert module(torch.zeros(2, channels, pixels, pixels)).shape[:2] == (2, features)  # (N, F, h, w)
