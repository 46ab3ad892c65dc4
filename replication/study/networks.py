"""Networks by name: a body, its initial weights, which part is trained, and the head; parsed and printed here alone."""

from dataclasses import dataclass
from typing import Any

from replication.data.settings import setting as setting_of

IMAGENET_BODIES = {
    "efficientnet_lite0": "EfficientNet-Lite0",
    "resnet_cntk": "ResNet (2-2-2-3 blocks)",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "vgg19_bn": "VGG-19 with BatchNorm",
    "vgg19": "VGG-19",
}
"""bodies that start from ImageNet's weights unless told otherwise, with the names that readers see; so does timm/NAME"""
SMALL_BODIES = {"simple_cnn": "small CNN", "mlp": "two-layer perceptron", "logistic": "logistic regression"}
"""bodies that have random weights only"""
HEADS = ("linear", "fastai")
"""heads that a name may ask for; variants of fastai's are run by the plan `fastai_head` alone"""
HEAD_LABELS = {
    "fastai": "fastai's head",
    "fastai_no_dropout": "fastai's head without dropout",
    "fastai_torch_init": "fastai's head with torch's initial weights",
}
TRAINED = ("all", "head")
INPUT_SIDES = {"digits": 96, "cifar10": 96, "cracks@128": 160}
"""side in pixels at which bodies that know ImageNet see the images of a data set, where it is not that of its pack"""


@dataclass(frozen=True)
class Network:
    """What is trained: `Run.network`, `Run.init`, `Run.trained` and `Run.head` under one name."""

    body: str
    init: str = "random"
    trained: str = "all"
    head: str = "linear"

    def __str__(self) -> str:
        """`BODY[:INIT[:head]][+fastai]`, as short as it can be read back."""
        init = "" if self.init == "random" and self.body in SMALL_BODIES and self.trained == "all" else f":{self.init}"
        return f"{self.body}{init}{':head' * (self.trained == 'head')}{'+fastai' * (self.head == 'fastai')}"

    @property
    def label(self) -> str:
        """What readers see, e.g. `EfficientNet-Lite0, ImageNet, frozen`."""
        name = (IMAGENET_BODIES | SMALL_BODIES).get(self.body, self.body.removeprefix("timm/"))
        if self.body in SMALL_BODIES and self.init == "random":
            weights = []
        else:
            known = {"imagenet": "ImageNet", "random": "random weights", "other_crops": "other crops' leaves"}
            weights = [known.get(self.init, "own checkpoint")]
        frozen = ["frozen"] if self.trained == "head" else ["fine-tuned"] if self.init != "random" else []
        return ", ".join(
            [name, *weights, *frozen, *([HEAD_LABELS.get(self.head, self.head)] if self.head != "linear" else [])]
        )

    def factors(self, setting: str) -> dict[str, Any]:
        """The factors of a run of this network on a setting; bodies that know ImageNet may see its images enlarged."""
        return {"network": self.body, "init": self.init, "trained": self.trained, "head": self.head} | (
            {"input_side": side} if self.init == "imagenet" and (side := input_side(setting)) else {}
        )


def input_side(setting: str) -> int:
    """Side in pixels at which a body that knows ImageNet sees a setting's images; 0: as they are packed."""
    s = setting_of(setting)
    return INPUT_SIDES.get(f"{s.source}@{s.pixels}", INPUT_SIDES.get(s.source, 0))


def network(name: str) -> Network:
    """The network of that name: `BODY`, `BODY:INIT` or `BODY:INIT:head`, each also with `+fastai` behind it.

    `INIT` is `random`, `imagenet`, a recipe or the path of a checkpoint. ValueError for an unknown body.
    """
    plain, _, head = name.rpartition("+") if name.endswith(tuple(f"+{h}" for h in HEADS)) else (name, "", "linear")
    body, _, rest = plain.partition(":")
    if body.endswith("+fastai"):  # the older order, NAME+fastai:INIT
        body, head = body.removesuffix("+fastai"), "fastai"
    init, _, trained = (
        rest.rpartition(":") if rest.endswith(tuple(f":{part}" for part in TRAINED)) else (rest, "", "all")
    )
    if body not in IMAGENET_BODIES | SMALL_BODIES and not body.startswith("timm/"):
        allowed = ", ".join(SMALL_BODIES | IMAGENET_BODIES)
        raise ValueError(
            f"unknown network {name!r}: allowed are {allowed} and timm/NAME, each also as NAME:INIT, "
            "NAME:INIT:head (frozen body) and with fastai's head as NAME+fastai"
        )
    return Network(body, init or ("random" if body in SMALL_BODIES else "imagenet"), trained, head)
