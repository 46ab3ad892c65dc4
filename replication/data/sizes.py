"""How many images train, validate and test: the book's sizes where the data last, else scaled down, in words."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from replication.data.settings import Setting
from replication.data.sources import PARTS, Source

TRAIN, RATIO = 1000, 100
"""training images of the majority, and how many of them there are for one of the minority"""
LEAST_TRAIN, LEAST_MINORITY, LEAST_TEST, LEAST_VALIDATION = 100, 5, 20, 10
"""fewest images of the majority and of the minority to train with, and of each class to test and to validate with"""


@dataclass(frozen=True)
class Sizes:
    """Images of each part that a data set lasts for, and why."""

    n_majority: int
    n_minority: int
    test: int
    """of each class"""
    validation: tuple[int, int]
    """of the majority and of the minority"""
    sentence: str


def members(source: Source, s: Setting, seed: int) -> list[np.ndarray]:
    """Image numbers of every class, majority classes first.

    Of one's own folder without pictures that are in two classes: they have no label, and could be trained on under one
    and tested under the other.
    """
    found = [np.flatnonzero(np.isin(source.labels, pool)) for pool in s.class_map(seed, source)]
    if s.own:
        of = [np.unique(source.groups[numbers]) for numbers in found]
        groups, classes = np.unique(np.concatenate(of), return_counts=True)
        found = [numbers[~np.isin(source.groups[numbers], groups[classes > 1])] for numbers in found]
    return found


def _room(source: Source, members: np.ndarray) -> dict[str, int]:
    """Images of a class that each part can draw on, less what the last groups of the held-out parts may waste.

    Without the owner's split there is one pool, `all`.
    """
    if source.parts is not None:
        room = {part: int((source.parts[members] == k).sum()) for k, part in enumerate(PARTS)}
        if not room["validation"]:
            room["train"] -= waste(source, members[source.parts[members] == 0])
        return room
    return {"all": len(members) - 2 * waste(source, members)}


def waste(source: Source, members: np.ndarray) -> int:
    """Images that one held-out part may leave unused, as it takes whole groups: the largest group but one image."""
    return int(np.unique(source.groups[members], return_counts=True)[1].max(initial=1)) - 1


def sizes(source: Source, s: Setting, seed: int = 0) -> Sizes:
    """The sizes of the parts of a setting of two classes: 1000 to 10 images train and 150 a class test where there are so many.

    Else everything shrinks: the test set to a share of the smaller class that leaves 10 images (5 at least) to train
    with, the validation set to half of it (the majority's: as many as the test set), and training to what is left, at
    the same ratio. ValueError states the least.
    """
    first = s.class_map(seed, source)[0]
    majority, minority = members(source, s, seed)
    many, few = _room(source, majority), _room(source, minority)
    ten = TRAIN // RATIO
    if source.parts is None:
        n_many, n = many["all"], few["all"]
        test = min(150, n_many * 150 // 1300, max((n - ten) * 2 // 3, min(LEAST_TEST, (n - LEAST_MINORITY) * 2 // 3)))
        validation = (min(150, test), min(75, test // 2))
        left, least = n_many - test - validation[0], n - test - validation[1]
    else:
        test = min(150, many["test"], few["test"])
        if many["validation"]:
            validation = (min(150, many["validation"]), min(75, few["validation"]))
            left, least = many["train"], few["train"]
        else:
            n = few["train"]
            held = max(min(75, (n - ten) // 2), min(LEAST_VALIDATION, n - LEAST_MINORITY))
            validation = (min(150, 2 * held, many["train"] // 8), held)
            left, least = many["train"] - validation[0], n - held
    n_majority = min(TRAIN, left)
    n_minority = min(max(round(n_majority / RATIO), LEAST_MINORITY), least)
    there = f"{len(majority)} images of {source.classes[first[0]]} and {len(minority)} of all other classes"
    if (
        n_majority < LEAST_TRAIN
        or n_minority < LEAST_MINORITY
        or test < LEAST_TEST
        or min(validation) < LEAST_VALIDATION
    ):
        raise ValueError(
            f"setting {s.name!r} has {there}, which is too few: needed are at least {LEAST_TRAIN} of the majority and "
            f"{LEAST_MINORITY} of the minority to train with, {LEAST_TEST} of each to test and {LEAST_VALIDATION} of each "
            "to validate with, images of one group in one part (in all some 174 and 35)"
        )
    usual = (n_majority, n_minority, test, *validation) == (TRAIN, ten, 150, 150, 75)
    why = "the sizes of the book" if usual else f"scaled down to {there}"
    if source.parts is not None:
        why += ", within your own split"
    return Sizes(
        n_majority,
        n_minority,
        test,
        validation,
        (
            f"Trains with {n_majority} images of the majority and {n_minority} of the minority, tests on {test} of each, "
            f"validates on {validation[0]} and {validation[1]}: {why}."
        ),
    )


def fitted(source: Source, s: Setting) -> Setting:
    """A setting with the test and validation sizes that its images last for; only one's own folders are ever scaled."""
    if not s.own:
        return s
    found = sizes(source, s)
    return dataclasses.replace(s, test=found.test, validation=found.validation)
