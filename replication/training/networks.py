"""The bodies: from images (N, C, H, W) to feature maps (N, F, h, w)."""

from torch import nn


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


NETWORKS = {"simple_cnn": simple_cnn, "mlp": mlp, "logistic": logistic}


def body(name: str, channels: int, pixels: int) -> tuple[nn.Module, int]:
    """The body of that name for square images, and its number of features F; ValueError names those there are."""
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}: allowed are {', '.join(NETWORKS)}")
    return NETWORKS[name](channels, pixels)
