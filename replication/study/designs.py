"""The designs: which runs each claim needs. One function a claim; levels are declared here and nowhere else."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from replication.study.arms import ARMS, NORMS
from replication.study.rates import PILOT_RATES, chosen_rates, learning_rate, own_place, place
from replication.data.settings import setting as setting_of
from replication.run import CONFIRMATORY, Run

PILOT_SEEDS = range(10)
"""on digits; of real images, which cost more, the first three"""
RATIO_LEVELS = (2, 5, 10, 20, 40, 80)
"""minority images beside 1000 majority images; 10 is the base"""
MORE_RATIO_LEVELS = (160, 320)
"""further ones where the images last, as on leaves"""
MAJORITY_LEVELS = (100, 200, 500, 1000)
"""majority images beside 10 minority images"""
BATCH_LEVELS = (8, 16, 32, 64, 128, 256, 512)
"""the last, which leaves one update an epoch, on digits only"""
EPOCH_LEVELS = (10, 30, 100)
RESNETS = ("resnet34:random", "resnet34:other_crops")
"""one of the papers' networks, from random weights and fine-tuned from those that know other crops' leaves"""
BASE_EPOCHS = {(setting, "simple_cnn"): 30 for setting in ("plantvillage/pepper", "cracks", "skin", "cifar10")} | {
    ("plantvillage/apple@64", "simple_cnn"): 10, **{("plantvillage/apple", network): 10 for network in RESNETS},
}  # fmt: skip
"""longest training of the base pair where not 100 epochs: such a cell can be replicated in part at most"""
MAJORITY_TOTALS = {"plantvillage/apple": 500, "plantvillage/tomato": 500}
"""majority images in total in the majorities claim where not 1000: a diseased class has no more to give"""
BASE_UPDATES = 150
"""updates of the base cell (10 epochs of 1010 images in batches of 64, rounded)"""


@dataclass(frozen=True)
class Entry:
    """One place of a design: a run, and the part it plays in the claim."""

    variant: str
    """which form of the claim, where it has several; part of the cell, like setting and network"""
    rate: str
    """`own`: the arm's own best learning rate; `shared`: that of the arm it is compared with; `wide`: its own best of
    all pilot rates, the one beyond the grid included"""
    arm: str
    level: float
    """the factor on the claim's x axis (minority images, batch size, epochs ...), else 0"""
    run: Run


RATES = ("own", "shared")
ALL_RATES = (*RATES, "wide")
"""for the base pair and the sigmoid arms: on the pilots some of these without the layer did best beyond the grid"""


def _entries(
    setting: str, network: str, arms: Iterable[str], seeds: Iterable[int], variant: str = "", level: float = 0,
    rates: Sequence[str] = RATES, **factors,
) -> Iterator[Entry]:  # fmt: skip
    """Every arm at every kind of learning rate, on the same seeds."""
    for seed in seeds:
        for rate in rates:
            for arm in arms:
                peak = learning_rate(setting, network, arm, rate)
                run = Run(
                    setting=setting, **body(network), learning_rate=peak, seed=seed, **ARMS[arm], **factors
                )
                yield Entry(variant, rate, arm, level, run)


PAIR = ("plain", "final_bn")
SIGMOIDS = ("plain_sigmoid", "final_bn_sigmoid", "plain_sigmoids", "final_bn_sigmoids")
READINGS = ("final_bn_slow", "bn_before")
"""fastai's momentum, and the other reading of "before the output layer": shown beside the pair, not judged"""


def embedded(setting: str) -> bool:
    """Whether a setting is of the digits, which need no files and little time: more seeds, more levels, more arms."""
    return setting.startswith("digits")


def base(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """1000:10, 10 epochs; the first 20 seeds at 30 and 100 epochs too; both other readings of the layer beside it.

    The readings with the small CNN on digits and apple only; the longer trainings as far as `BASE_EPOCHS` has them.
    """
    yield from _entries(setting, network, PAIR, seeds, level=EPOCH_LEVELS[0], rates=ALL_RATES)
    if setting in ("digits", "plantvillage/apple") and network == "simple_cnn":
        yield from _entries(setting, network, READINGS, seeds, level=EPOCH_LEVELS[0], rates=("own",))
    for epochs in EPOCH_LEVELS[1:]:
        if epochs <= BASE_EPOCHS.get((setting, network), EPOCH_LEVELS[-1]):
            yield from _entries(setting, network, PAIR, seeds[:20], level=epochs, rates=ALL_RATES, epochs=epochs)


def removal(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """The base runs, read with and without the layer."""
    yield from _entries(setting, network, PAIR, seeds, rates=ALL_RATES)


def ratio(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """Minority images varied beside 1000 majority images, and majority images varied beside 10 minority images."""
    for n in RATIO_LEVELS if embedded(setting) else RATIO_LEVELS + MORE_RATIO_LEVELS:
        yield from _entries(setting, network, PAIR, seeds, "minority varied", n, n_minority=n)
    for n in MAJORITY_LEVELS:
        yield from _entries(setting, network, PAIR, seeds, "majority varied", n, n_majority=n)


def batch_size(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """Batch sizes at 10 epochs, and again at 150 updates; on digits the slow and the earlier BatchNorm beside them."""
    for n in BATCH_LEVELS if embedded(setting) else BATCH_LEVELS[:-1]:
        yield from _entries(setting, network, PAIR, seeds, "equal epochs", n, batch_size=n)
        if embedded(setting):
            yield from _entries(setting, network, READINGS, seeds, "equal epochs", n, ("own",), batch_size=n)
        if embedded(setting) or n <= 128:  # 150 updates of 256 cost as much as four base runs
            yield from _entries(setting, network, PAIR, seeds, "equal updates", n, batch_size=n, updates=BASE_UPDATES)


def generality(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """The base pair on every data set and network."""
    yield from _entries(setting, network, PAIR, seeds, rates=ALL_RATES)


def majorities(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """One or two majority classes by one or two minority classes.

    Once with 1000 majority images in total (or `MAJORITY_TOTALS`), once with half as many in every majority class; 10
    images a minority class. The level is the number of majority classes. Tomato has no fourth class.
    """
    total = MAJORITY_TOTALS.get(setting, 1000)
    for fixed, name in ((True, f"{total} majority images in total"), (False, f"{total // 2} images a majority class")):
        for m in (1,) if setting == "plantvillage/tomato" else (1, 2):
            for k in (1, 2):
                n = total // k if fixed else total // 2
                variant = f"{m} minorit{'y' if m == 1 else 'ies'}, {name}"
                yield from _entries(f"{setting}/{k}v{m}", network, PAIR, seeds, variant, k, n_majority=n)


def sigmoid(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """The base pair with softmax, one sigmoid logit, and one sigmoid a class."""
    yield from _entries(setting, network, (*PAIR, *SIGMOIDS), seeds, rates=ALL_RATES)


def uncertainty(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """The base runs, judged by their probabilities."""
    yield from _entries(setting, network, PAIR, seeds, rates=ALL_RATES)


def training_time(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """A constant rate for up to 100 epochs, stopped at a validation F1 of 0.8; the base pair as the gate."""
    yield from _entries(
        setting, network, PAIR, seeds, level=100, schedule="constant", epochs=100, stop_f1=0.8
    )
    yield from _entries(setting, network, PAIR, seeds, level=10)


def mechanism(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """Every part of the layer by itself, and every other place or form of it (beyond the paper)."""
    yield from _entries(setting, network, NORMS, seeds, rates=("own",))


def remedies(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """What else is done about imbalance, with and without the layer (beyond the paper)."""
    arms = [f"{norm}_{v}" for v in ("class_weighted", "focal", "logit_adjusted_loss", "oversample") for norm in PAIR]
    yield from _entries(setting, network, (*PAIR, *arms), seeds, rates=("own",))


def controls(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """The base pair where only the image's border is seen, or neighbouring photos may part (beyond the paper)."""
    yield from _entries(setting, network, PAIR, seeds)


def performance(setting: str, network: str, seeds: Sequence[int]) -> Iterator[Entry]:
    """The base pair in float32, as all results are, and under bfloat16 autocast (beyond the paper)."""
    for name in ("float32", "bfloat16"):
        yield from _entries(setting, network, PAIR, seeds, name, precision=name)


Design = Callable[[str, str, Sequence[int]], Iterator[Entry]]
DESIGNS: dict[str, Design] = {
    f.__name__: f
    for f in (base, removal, ratio, batch_size, generality, majorities, sigmoid, uncertainty, training_time, mechanism,
              remedies, controls, performance)
}  # fmt: skip

SEEDS = {"base": 60, "removal": 60, "ratio": 40, "generality": 60, "majorities": 60, "sigmoid": 60, "uncertainty": 60}
"""confirmatory seeds of a claim on digits where not 20: null claims need 60, and their base pair is shared"""
IMAGE_SEEDS = 10
"""confirmatory seeds of every claim on real images"""

NETWORKS = ("simple_cnn", "mlp", "logistic")
FINE_TUNED = ("resnet34", "vgg19_bn", "vgg19")
"""the papers' networks, from ImageNet weights unless told otherwise"""
IMAGES = ("plantvillage/apple", "plantvillage/pepper", "cracks", "skin", "cifar10")
CELLS: dict[str, tuple[str, ...]] = {
    "base": ("digits", *IMAGES, "plantvillage/apple@64"),
    "ratio": ("digits", "plantvillage/apple"),
    "batch_size": ("digits", "plantvillage/apple"),
    "majorities": ("digits", "plantvillage/apple", "plantvillage/tomato", "cifar10"),
    "training_time": ("digits",),
    "mechanism": ("digits",),
    "remedies": ("digits",),
    "controls": (
        "plantvillage/apple", "plantvillage/apple/border", "plantvillage/apple/ungrouped",
        "plantvillage/pepper", "plantvillage/pepper/border",
    ),
    "performance": ("plantvillage/apple",),
}  # fmt: skip
"""settings of each design where not digits and all of `IMAGES`; p-values are adjusted over what is planned here"""
CELL_NETWORKS = {("generality", "digits"): NETWORKS} | {
    (claim, "plantvillage/apple"): (*NETWORKS[:1], *RESNETS) for claim in ("base", "removal", "uncertainty")
}
"""networks of a claim on a setting where not the simple CNN alone"""
TUNED = {"digits": NETWORKS, "plantvillage/apple": (*NETWORKS[:1], *RESNETS)} | {
    setting: NETWORKS[:1] for setting in ("cracks", "skin", "cifar10")
}
"""where learning rates are chosen: one setting a source, for all settings of that source"""


def body(network: str) -> dict[str, str]:
    """The factors of a network as cells name it: `NAME`, `NAME:INIT` and `NAME+fastai`, `NAME+fastai:INIT`.

    See `Run.init` and `Run.head`. ValueError for an unknown name or head.
    """
    named, _, init = network.partition(":")
    name = named.removesuffix("+fastai")
    if name not in NETWORKS + FINE_TUNED:
        raise ValueError(
            f"unknown network {named!r}: allowed are {', '.join(NETWORKS + FINE_TUNED)}, each also as NAME:INIT, and with "
            "fastai's head as NAME+fastai"
        )
    return {
        "network": name, "head": "linear" if name == named else "fastai",
        "init": init or ("imagenet" if name in FINE_TUNED else "random"),
    }  # fmt: skip


def n_seeds(claim: str, setting: str = "digits") -> int:
    """Confirmatory seeds of a claim, fixed before the runs."""
    return SEEDS.get(claim, 20) if embedded(setting) else IMAGE_SEEDS


def planned(claim: str, setting: str) -> bool:
    """Whether a design has a cell on a setting when none is asked for by name.

    A setting that is in no plan, such as a folder of one's own, gets those claims that need no further choice.
    """
    anywhere = {s for settings in CELLS.values() for s in settings}.union(IMAGES)
    if setting not in anywhere:
        return claim == "base" or claim not in CELLS
    return setting in CELLS.get(claim, ("digits", *IMAGES))


def _cells(claim: str, settings: Sequence[str], networks: Sequence[str]) -> list[tuple[str, str]]:
    for name in settings:
        setting_of(name)
    for name in networks:
        body(name)
    tuned = chosen_rates()
    found = []
    for s in settings or CELLS.get(claim, ("digits", *IMAGES)):
        usual = CELL_NETWORKS.get((claim, s), NETWORKS[:1])
        known = (*usual, *TUNED.get(s, ()))
        found += [(s, n) for n in networks or usual if settings or n in known or own_place(s, n) in tuned]
    return found


def _without_rates(networks: Sequence[str], where: str) -> ValueError:
    return ValueError(
        f"network {', '.join(networks)} has no learning rates on a setting of {where}: name settings too, after "
        "`replication tune --settings ... --networks ...`"
    )


def cells(claim: str, settings: Sequence[str] = (), networks: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(setting, network) of every cell of a claim, or of those asked for; ValueError names what there is.

    A setting beyond the plan is allowed where it exists: it makes a cell of its own. Networks alone mean the planned
    settings on which they have learning rates; ValueError where there is none.
    """
    found = _cells(claim, settings, networks)
    if not found:
        raise _without_rates(networks, repr(claim))
    return found


def entries(
    claim: str, settings: Sequence[str] = (), networks: Sequence[str] = (), seeds: int | None = None
) -> list[tuple[tuple[str, str], Entry]]:
    """All entries of a claim with their (setting, network); the first `seeds` confirmatory seeds of its own number.

    ValueError for an unknown claim, setting or network, or fewer than one seed.
    """
    if claim not in DESIGNS:
        raise ValueError(f"unknown claim {claim!r}: allowed are {', '.join(DESIGNS)}")
    if seeds is not None and seeds < 1:
        raise ValueError(f"seeds = {seeds} is not allowed: at least 1")
    return [
        ((setting, network), entry)
        for setting, network in cells(claim, settings, networks)
        for entry in DESIGNS[claim](
            setting, network, range(CONFIRMATORY, CONFIRMATORY + (seeds or n_seeds(claim, setting)))
        )
    ]


def runs(
    claims: Sequence[str] = (), settings: Sequence[str] = (), networks: Sequence[str] = (), seeds: int | None = None
) -> list[Run]:
    """Every run the claims need, each once, ordered so that whatever is finished first is worth most: seed by seed.

    Without a claim: what all claims have planned, on the settings given. Errors: as `entries`.
    """
    wanted = {}
    for claim in claims or DESIGNS:
        there = settings if claims else [s for s in settings if planned(claim, setting_of(s).name)]
        if (there or not settings) and (claims or _cells(claim, there, networks)):
            wanted |= {e.run: None for _, e in entries(claim, there, networks, seeds)}
    if networks and not wanted:
        raise _without_rates(networks, "any claim")
    return sorted(wanted, key=lambda run: run.seed)


def pilots(settings: Sequence[str] = (), networks: Sequence[str] = ()) -> list[tuple[str, str, Run]]:
    """(place, arm, run) of the tuning runs: every arm at every pilot rate on the pilot seeds.

    The networks beside the first are tuned for the base pair, as they have a part in claims on it alone; on real images
    the arms are those of the claims that have cells there.
    """
    for name in networks:
        body(name)

    def arms(setting: str, network: str) -> Iterable[str]:
        if network in (*NETWORKS[1:], *RESNETS):
            return PAIR
        if embedded(setting):
            return ARMS
        return (*PAIR, *SIGMOIDS, *(READINGS if setting == "plantvillage/apple" else ()))

    found = [
        (
            (place if network in TUNED.get(setting, ()) else own_place)(setting, network),
            arm,
            Run(setting=setting, **body(network), learning_rate=rate, seed=seed, **ARMS[arm]),
        )
        for setting in settings or TUNED
        for network in networks or TUNED.get(setting, NETWORKS[:1])
        if settings or network in TUNED[setting]
        for seed in (PILOT_SEEDS if embedded(setting) else PILOT_SEEDS[:3])
        for arm in arms(setting, network)
        for rate in PILOT_RATES
    ]
    if not found:
        raise ValueError(f"no pilots are planned for network {', '.join(networks)}: name settings too")
    return found
