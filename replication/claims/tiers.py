"""Tiers: how near a cell is to the papers, and which cells had been seen before they were registered."""

from replication.data.settings import setting as setting_of
from replication.study.design import Cell
from replication.study.networks import input_side
from replication.study.networks import network as network_of

IDENTITY, CLOSE, FROZEN, RELATED, CONCEPTUAL = "identity", "close", "frozen", "related", "conceptual"
TIERS = {
    IDENTITY: "VGG-19 or ResNet-34, all layers trained from ImageNet's weights, PlantVillage leaves",
    CLOSE: "another network, all layers trained from ImageNet's weights, PlantVillage leaves",
    FROZEN: "a body that knows ImageNet, frozen, PlantVillage leaves",
    RELATED: "a network that knows ImageNet, other images",
    CONCEPTUAL: "everything else, such as a small network from random weights",
}
"""the nearest to the papers first"""
NEAREST = (IDENTITY, CLOSE)
"""the papers' own case: all layers trained from ImageNet's weights on leaves"""
PAPERS_BODIES = ("vgg19", "resnet34")
LEAST_SIDE = 96
"""side in pixels from which on leaves are seen as the papers' networks see them"""

EXPLORED = {
    ("efficientnet_lite0", "imagenet", "head"): ("apple", "pepper", "digits", "cracks", "skin"),
    ("efficientnet_lite0", "imagenet", "all"): ("apple",),
    ("resnet_cntk", "imagenet", "head"): ("apple", "pepper", "digits", "cracks", "skin"),
    ("resnet_cntk", "imagenet", "all"): ("apple",),
    ("resnet_cntk", "random", "all"): ("apple",),
    ("simple_cnn", "random", "all"): ("apple",),
}
"""(body, initial weights, trained part) -> images on which it was seen, at whatever size, before registration"""


def images_of(setting: str) -> str:
    """The images behind a setting, whatever their size and the classes' roles: a crop of PlantVillage, or a data set."""
    s = setting_of(setting)
    return s.name.partition("@")[0].split("/")[1] if s.source == "plantvillage" else s.source


def tier(cell: Cell) -> str:
    """How near a cell is to the papers."""
    network, s = network_of(cell.network), setting_of(cell.setting)
    if network.init != "imagenet":
        return CONCEPTUAL
    if s.source != "plantvillage":
        return RELATED
    if network.trained == "head":
        return FROZEN
    if (input_side(cell.setting) or s.pixels) < LEAST_SIDE:
        return CONCEPTUAL
    return IDENTITY if network.body in PAPERS_BODIES else CLOSE


def explored(cell: Cell) -> bool:
    """Whether the same body, trained part and images had been seen before the cell was registered."""
    network = network_of(cell.network)
    return images_of(cell.setting) in EXPLORED.get((network.body, network.init, network.trained), ())


def identity_of(cell: Cell) -> tuple[str, str, str]:
    """What counts once in counts of verdicts: the images, the body with its weights, and the trained part."""
    network = network_of(cell.network)
    return images_of(cell.setting), f"{network.body}:{network.init}", network.trained
