"""The cells that several claims share: those registered before their runs, and those published before there were rules."""

from dataclasses import replace

from replication.study.design import PRIMARY, SECONDARY, Cell

LITE, RESNET = "efficientnet_lite0:imagenet:head", "resnet_cntk:imagenet:head"
"""the frozen bodies that know ImageNet"""
FINE_TUNED = "resnet_cntk:imagenet"
LEAVES = ("plantvillage/tomato@160", "plantvillage/apple@160", "plantvillage/pepper@160")
OTHERS = ("skin@160", "cracks@128", "cifar10/1v1", "digits")
IMAGES = ("plantvillage/apple", "plantvillage/pepper", "cracks", "skin", "cifar10")
"""settings of photographs of the first rules, at 32 pixels"""
RESNETS = ("resnet34:random", "resnet34:other_crops")
FIRST_KINDS = ("own", "shared", "wide")


def identity() -> Cell:
    """The papers' own case, which takes torchvision's weights: primary in tier identity."""
    return Cell("plantvillage/apple@160", "vgg19:imagenet", PRIMARY, 20)


def close() -> tuple[Cell, ...]:
    """All layers of a ResNet that knows ImageNet: tomato is primary, apple and pepper stand beside it at own rates."""
    return (
        Cell("plantvillage/tomato@128", FINE_TUNED, PRIMARY, 20),
        Cell("plantvillage/apple@128", FINE_TUNED, seeds=20, kinds=("own",)),
        Cell("plantvillage/pepper@128", FINE_TUNED, seeds=10, kinds=("own",)),
    )


def frozen(seeds: int = 60) -> tuple[Cell, ...]:
    """Heads on frozen bodies: primary are EfficientNet-Lite0 on tomato (tier frozen) and CIFAR-10 (tier related)."""
    primary = {(LEAVES[0], LITE), ("cifar10/1v1", LITE)}
    return tuple(
        Cell(setting, network, PRIMARY, seeds) if (setting, network) in primary else Cell(setting, network)
        for network in (LITE, RESNET)
        for setting in (*LEAVES, *OTHERS)
    )


def published(*settings: str, seeds: int = 60, kinds: tuple[str, ...] = FIRST_KINDS) -> tuple[Cell, ...]:
    """The small CNN's cells of the first rules; that on digits is primary in tier conceptual."""
    return tuple(
        Cell(
            name, "simple_cnn", PRIMARY if name == "digits" else SECONDARY, seeds if name == "digits" else 10, kinds, 0
        )
        for name in settings
    )


def on_images() -> tuple[Cell, ...]:
    """The small CNN's cells on photographs, each with a further kind of rate that was registered after them."""
    return published(*IMAGES, kinds=(*FIRST_KINDS, "default"))


def resnets() -> tuple[Cell, ...]:
    """A ResNet-34 on apple leaves without ImageNet's weights, of the first rules."""
    return tuple(Cell("plantvillage/apple", network, seeds=10, kinds=FIRST_KINDS, version=0) for network in RESNETS)


def with_options(cells: tuple[Cell, ...], **options: tuple) -> tuple[Cell, ...]:
    """The same cells, each asking for more of its claim's design."""
    return tuple(replace(cell, options=tuple(options.items())) for cell in cells)
