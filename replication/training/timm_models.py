"""timm's models without their classifiers. timm is imported where one is asked for: a machine may lack it."""

import torch
from torch import nn


def library(network: str):
    """The package timm; ValueError where it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"network {network!r} takes the Python package timm: install it, version 1.0.20 or later"
        ) from error
    return timm


def model(network: str, name: str, pretrained: bool = False) -> nn.Module:
    """timm's model of a name up to its pooling, images (N, 3, H, W) -> feature maps (N, F, h, w).

    ValueError for a name that timm does not know. What timm raises for weights that it cannot get passes.
    """
    timm = library(network)
    if not timm.is_model(name):
        raise ValueError(f"unknown network {network!r}: allowed are timm/NAME with the names of timm.list_models()")
    return timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="")


def width(network: str, features: nn.Module, side: int) -> int:
    """The number F of a model's feature maps (N, F, h, w), tried on a black image.

    ValueError for a model that takes no image of this side, and for one whose output has another form.
    """
    needed = "a model that gives feature maps (N, F, h, w) is needed, such as timm/resnet18"
    training = features.training
    try:
        with torch.no_grad():
            shape = tuple(features.eval()(torch.zeros(1, 3, side, side)).shape)
    except Exception as error:  # of any of timm's models
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"network {network!r} takes no images of {side} pixels ({line}): {needed}") from error
    finally:
        features.train(training)
    widths = {features.num_features, getattr(features, "head_hidden_size", None)}  # some pool before a last convolution
    if len(shape) != 4 or shape[1] not in widths:
        raise ValueError(f"network {network!r} makes {shape} of one image: {needed}")
    return shape[1]
