"""The settings: each a data set with its class map, a few declarative lines."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """A data set, which of its labels make up which class, and the sizes of the held-out parts."""

    name: str
    source: str
    """data set the images come from, see `replication.data.sources`"""
    majorities: int = 1
    """number of majority classes; they come first in the class order"""
    minorities: int = 1
    """number of minority classes"""
    test: int = 75
    """test images of every class (the test set is balanced)"""
    validation: tuple[int, int] = (150, 7)
    """validation images of all majority classes together, and of each minority class"""
    reserved: int = 0
    """labels kept out of the majority classes beside the minorities in use, so that settings can be compared"""

    @property
    def minority_classes(self) -> tuple[int, ...]:
        """Class indices of the minorities."""
        return tuple(range(self.majorities, self.majorities + self.minorities))

    def class_map(self, seed: int, labels: int) -> list[list[int]]:
        """Source labels of every class, majority classes first: the seed picks the minority labels.

        Minorities are the labels seed, seed + 1, ... modulo `labels`; the majority classes are disjoint pools of
        the others, so no result hangs on one label.
        """
        order = [(seed + i) % labels for i in range(labels)]
        others = order[max(self.minorities, self.reserved):]
        return [others[i::self.majorities] for i in range(self.majorities)] + [[c] for c in order[: self.minorities]]


def _digits(name: str, **sizes) -> Setting:
    return Setting(name, source="digits", **sizes)


SETTINGS = {
    s.name: s
    for s in (
        _digits("digits"),
        # the four of the majorities claim draw their majority classes from the same eight digits
        *(
            _digits(f"digits/{k}v{m}", majorities=k, minorities=m, reserved=2)
            for k in (1, 2)
            for m in (1, 2)
        ),
    )
}


def setting(name: str) -> Setting:
    """The setting of that name; ValueError names those there are."""
    if name not in SETTINGS:
        raise ValueError(f"unknown setting {name!r}: allowed are {', '.join(SETTINGS)}")
    return SETTINGS[name]
