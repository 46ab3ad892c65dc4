"""The bodies: from images (N, C, H, W) to feature maps (N, F, h, w), and the weights that they start from."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from replication.study import recipes
from replication.training import timm_models, weights


def _block(channels: int, width: int) -> list[nn.Module]:
    """3x3 convolution without bias (the norm behind it would cancel it), 2x2 max-pooling, BatchNorm, ReLU.

    Pooling comes first, as in airbench: the norm and the ReLU then work on a quarter of the values.
    """
    return [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]


def simple_cnn(channels: int, pixels: int) -> tuple[nn.Module, int]:
    """Two convolution blocks of 32 and 64 channels, on images of 16 pixels and more a third of 128."""
    widths = (32, 64) if pixels < 16 else (32, 64, 128)
    blocks = [layer for c, width in zip((channels, *widths), widths) for layer in _block(c, width)]
    return nn.Sequential(*blocks), widths[-1]


def mlp(channels: int, pixels: int) -> tuple[nn.Module, int]:
    """Two fully connected layers of 64 units with BatchNorm and ReLU, on all pixels."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (channels * pixels**2, 64):
        layers += [nn.Linear(inputs, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Unflatten(1, (64, 1, 1))), 64


def logistic(channels: int, pixels: int) -> tuple[nn.Module, int]:
    """No body at all: the pixels are the features, so that the whole network is a (softmax) regression."""
    features = channels * pixels**2
    return nn.Sequential(nn.Flatten(), nn.Unflatten(1, (features, 1, 1))), features


class Colours(nn.Module):
    """Images in -1..1 as a network for colour images expects them: (N, 1 or 3, H, W) -> (N, 3, H, W).

    Of values u in 0..1 each channel becomes (u - mean) / std, a fixed affine map of what the loop feeds; a grey image
    is shown in all three channels. No parameters, and no buffers in the state dict.
    """

    def __init__(self, mean: tuple[float, ...] = (0.5,) * 3, std: tuple[float, ...] = (0.5,) * 3):
        super().__init__()
        centre, spread = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        self.register_buffer("scale", (0.5 / spread).float()[:, None, None], persistent=False)
        self.register_buffer("shift", ((0.5 - centre) / spread).float()[:, None, None], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1 or 3, H, W) -> (N, 3, H, W)."""
        return x * self.scale + self.shift


def _colour_images(name: str, channels: int, pixels: int, least: int) -> None:
    if channels not in (1, 3):
        raise ValueError(f"network {name!r} has no form for images of {channels} channels: allowed are 1 and 3")
    if pixels < least:
        raise ValueError(f"network {name!r} leaves nothing of images of {pixels} pixels: allowed are {least} and more")


def _resnet(name: str, model: nn.Module, channels: int) -> tuple[nn.Module, int]:
    """A ResNet of torchvision's (He et al. 2016) up to its pooling; a 32nd of the side remains, rounded up."""
    _colour_images(name, channels, 1, 1)
    layers = model.named_children()
    return nn.Sequential(OrderedDict((layer, m) for layer, m in layers if layer not in ("avgpool", "fc"))), 512


def resnet18(channels: int, pixels: int) -> tuple[nn.Module, int]:
    """torchvision's ResNet-18, see `_resnet`."""
    from torchvision import models

    return _resnet("resnet18", models.resnet18(), channels)


def resnet34(channels: int, pixels: int) -> tuple[nn.Module, int]:
    """torchvision's ResNet-34, see `_resnet`."""
    from torchvision import models

    return _resnet("resnet34", models.resnet34(), channels)


def resnet_cntk(channels: int, pixels: int) -> tuple[nn.Module, int]:
    """A ResNet of 2-2-2-3 basic blocks, between ResNet-18 (2-2-2-2) and ResNet-34 (3-4-6-3), see `_resnet`.

    Its ImageNet weights were trained with Microsoft's CNTK, whose strided layers pad at the other end: features are the
    same for sides that 32 divides.
    """
    from torchvision.models.resnet import BasicBlock, ResNet

    return _resnet("resnet_cntk", ResNet(BasicBlock, [2, 2, 2, 3]), channels)


def efficientnet_lite0(channels: int, pixels: int) -> tuple[nn.Module, int]:
    """timm's `tf_efficientnet_lite0` up to its pooling; a 32nd of the side remains, rounded up.

    An EfficientNet (Tan & Le 2019) without squeeze-and-excitation, and with ReLU6 in place of swish.
    """
    _colour_images("efficientnet_lite0", channels, pixels, 1)
    layers = dict(timm_models.model("efficientnet_lite0", "tf_efficientnet_lite0").named_children())
    parts = ("conv_stem", "bn1", "blocks", "conv_head", "bn2")
    return nn.Sequential(OrderedDict((part, layers[part]) for part in parts)), 1280


def _timm(name: str, channels: int, pixels: int) -> tuple[nn.Module, int]:
    """The timm model that follows `timm/`, as the one module `features`."""
    _colour_images(name, channels, pixels, 1)
    features = timm_models.model(name, name.removeprefix("timm/"))
    return nn.Sequential(OrderedDict(features=features)), timm_models.width(name, features, pixels)


def _vgg19(name: str, channels: int, pixels: int) -> tuple[nn.Module, int]:
    """Configuration E of Simonyan & Zisserman 2015 up to its pooling; a 32nd of the side remains, rounded down.

    Weights are drawn as torchvision's VGG draws them. Its classifier, six sevenths of its parameters, is never made.
    """
    from torchvision.models import vgg

    _colour_images(name, channels, pixels, 32)
    features = vgg.make_layers(vgg.cfgs["E"], batch_norm=name == "vgg19_bn")
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
            # A BatchNorm cancels it: its gradient is rounding noise, which Adam would blow up to steps of full size.
            layer.bias.requires_grad_(name != "vgg19_bn")
    return nn.Sequential(OrderedDict(features=features)), 512


def vgg19_bn(channels: int, pixels: int) -> tuple[nn.Module, int]:
    """torchvision's VGG-19 with BatchNorm, see `_vgg19`. Biases before a BatchNorm stay as they start."""
    return _vgg19("vgg19_bn", channels, pixels)


def vgg19(channels: int, pixels: int) -> tuple[nn.Module, int]:
    """torchvision's VGG-19, see `_vgg19`."""
    return _vgg19("vgg19", channels, pixels)


TORCHVISION = {f.__name__: f for f in (resnet18, resnet34, vgg19_bn, vgg19)}
"""bodies that torchvision has ImageNet weights of; their state dicts bear its names"""
PRETRAINED = TORCHVISION | {f.__name__: f for f in (efficientnet_lite0, resnet_cntk)}
"""bodies that have ImageNet weights; they take images in colour"""
NETWORKS = {"simple_cnn": simple_cnn, "mlp": mlp, "logistic": logistic} | PRETRAINED
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""how torchvision normalised the images that its weights were trained on"""
NORMALISED = dict.fromkeys(TORCHVISION, IMAGENET) | {
    "efficientnet_lite0": {"mean": (0.5,) * 3, "std": (0.5,) * 3},
    # Of values in 0..255 the training images' mean is subtracted, and nothing is divided.
    "resnet_cntk": {"mean": (123.15 / 255, 115.90 / 255, 103.06 / 255), "std": (1 / 255,) * 3},
}
"""how images in 0..1 were normalised for ImageNet's weights: red, green, blue"""


def _normalised(name: str, features: nn.Module) -> dict[str, tuple[float, ...]]:
    if name in NORMALISED:
        return NORMALISED[name]
    told: Any = features.features.pretrained_cfg  # timm's, a dict
    return {"mean": tuple(told["mean"]), "std": tuple(told["std"])}


def _checkpoint(name: str, path: str) -> Mapping[str, torch.Tensor]:
    """The body in a checkpoint that `replication pretrain` wrote for that network."""
    if not Path(path).is_file():
        raise ValueError(
            f"no checkpoint at init = {path!r}: allowed are random, imagenet, a recipe and a checkpoint's path"
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        network, state = found["network"], {key: value.detach() for key, value in found["body"].items()}
    except Exception as error:  # torch lets out whatever its readers stumble on
        raise ValueError(f"init = {path!r} is not a checkpoint: one by `replication pretrain` is needed") from error
    if network != name:
        raise ValueError(f"init = {path!r} is a checkpoint for network {network!r}: one for {name!r} is needed")
    return state


def _load(features: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Copy a state dict into the body; ValueError unless they have the same names and shapes.

    The counters of BatchNorm may be missing, as in weights older than they are.
    """
    own = {key: tuple(value.shape) for key, value in features.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in state.items()}
    for key in sorted(own.keys() | given.keys()):
        if own.get(key) != given.get(key) and not key.endswith("num_batches_tracked"):
            found, wanted = (shapes.get(key, "nothing") for shapes in (given, own))
            raise ValueError(f"{source} does not fit these images: {key} is {found} there, {wanted} is needed")
    features.load_state_dict(state)


class Upscale(nn.Module):
    """Images (N, C, H, W) -> (N, C, side, side), bilinear (torch's, without aligned corners). No parameters."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, side, side)."""
        size = (self.side, self.side)
        return nn.functional.interpolate(x, size, mode="bilinear", align_corners=False, antialias=False)


class Frozen(nn.Sequential):
    """A body whose weights and running statistics stay as they are: no gradients, and always in evaluation mode."""

    def __init__(self, body: nn.Module):
        super().__init__(OrderedDict(body.named_children()))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Frozen":
        """Stays in evaluation mode whatever is asked for."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, F, h, w)."""
        return super().forward(x)


def body(name: str, channels: int, pixels: int, init: str = "random", input_side: int = 0) -> tuple[nn.Module, int]:
    """The body of that name for square images in -1..1, and its number of features F.

    It starts from random weights (torch's global generator), from `imagenet`, from the weights of a recipe (see
    `replication.study.recipes`), or from the checkpoint at a path. It sees the images at `input_side` pixels where that
    is not 0.
    ValueError in one sentence for an unknown network, images it cannot take, and weights that are not there or do not
    fit.
    """
    of_timm = name.startswith("timm/")
    if name not in NETWORKS and not of_timm:
        raise ValueError(f"unknown network {name!r}: allowed are {', '.join(NETWORKS)}, timm/NAME")
    if input_side and input_side < pixels:
        raise ValueError(
            f"input_side = {input_side} would shrink images of {pixels} pixels: allowed are 0, {pixels} and more"
        )
    side = input_side or pixels
    features, width = _timm(name, channels, side) if of_timm else NETWORKS[name](channels, side)
    if init == "imagenet":
        state = weights.imagenet(name)
        prefix = "features." if of_timm else ""
        _load(features, {prefix + key: value for key, value in state.items()}, "init = 'imagenet'")
    elif init != "random":
        path = str(recipes.checkpoint(init, name)) if init in recipes.RECIPES else init
        _load(features, _checkpoint(name, path), f"init = {init!r}")
    before = OrderedDict()
    if side != pixels:
        before["upscale"] = Upscale(side)
    if (of_timm or name in PRETRAINED) and (init == "imagenet" or channels == 1):
        # ImageNet's weights were trained on images normalised so, and VGG19 has no norm that would make up for others.
        # The loop feeds every network -1..1; from there it is an affine map, exact but for rounding.
        before["colours"] = Colours(**_normalised(name, features)) if init == "imagenet" else Colours()
    if before:
        features = nn.Sequential(before | OrderedDict(features.named_children()))
    return features, width
