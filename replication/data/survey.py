"""What is in a folder of one's own, said before anything is trained."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from replication.data.decoding import Depth
from replication.data.folders import MASK, resolved
from replication.data.look import Look, look


@dataclass(frozen=True)
class Survey:
    """What was found in a folder of images; `lines` says it in words."""

    path: Path
    counts: dict[str, int]
    """whole images of each class"""
    parts: dict[str, dict[str, int]]
    """images of each class in each part, where the owner has split them; else empty"""
    left_out: dict[str, tuple[str, ...]]
    """files left out, by reason"""
    broken: dict[str, str]
    """files that are not complete images, and why"""
    constant: tuple[str, ...]
    """images of one colour, such as all black"""
    masks: tuple[str, ...]
    """images that are masks by their names"""
    deep: dict[Depth, tuple[str, ...]]
    """images of more than 8 bits a grey value, by the grey values that are shown as black and white"""
    identical: tuple[tuple[str, str], ...]
    """pairs of files with the same bytes"""
    near: tuple[tuple[str, str], ...]
    """pairs of files that show the same picture"""
    sides: tuple[int, int]
    """shortest and longest side in pixels"""

    @property
    def majority(self) -> str:
        """The largest class."""
        return max(self.counts, key=lambda c: self.counts[c])

    @property
    def contradictory(self) -> tuple[tuple[str, str], ...]:
        """Pairs of the same picture in two classes."""
        return tuple((a, b) for a, b in self.identical + self.near if a.partition("/")[0] != b.partition("/")[0])

    def lines(self, majority: str = "") -> list[str]:
        """What was found, a line each, the counts first; `majority`: the class named as such, else the largest."""
        first = majority or self.majority
        total = sum(self.counts.values())
        said = [f"{self.path}: {_counted(total, 'image')} of {_counted(len(self.counts), 'class', 'es')}"]
        for label, n in sorted(self.counts.items(), key=lambda item: -item[1]):
            role = "majority" if label == first else "minority"
            split = ", ".join(f"{part} {k}" for part, k in self.parts.get(label, {}).items())
            said.append(f"  {label}: {_counted(n, 'image')}, {role}" + (f" (your split: {split})" if split else ""))
        said.append(f"  sides: {self.sides[0]} to {self.sides[1]} pixels")
        for reason, names in self.left_out.items():
            said.append(f"  left out, {reason}: {_some(names)}")
        if self.broken:
            said.append(f"  no whole images: {_some(tuple(self.broken))}: {next(iter(self.broken.values()))}")
        if self.constant:
            said.append(f"  of one colour, so that nothing can be learned from them: {_some(self.constant)}")
        if self.masks:
            said.append(f"  masks by their names, which are used as images: {_some(self.masks)}")
        for depth, deep in self.deep.items():
            said.append(
                f"  more than 8 bits a grey value, shown from {depth.black:g} to {depth.white:g}: {_some(deep)}"
            )
        for words, pairs in (("the same file", self.identical), ("the same picture", self.near)):
            if pairs := tuple(pair for pair in pairs if pair not in self.contradictory + self.crossing):
                said.append(f"  {words} twice, kept in one part: {_some(tuple(f'{a} = {b}' for a, b in pairs))}")
        if self.contradictory:
            said.append(
                f"  the same picture in two classes, left out of every split: "
                f"{_some(tuple(f'{a} = {b}' for a, b in self.contradictory))}"
            )
        if self.parts and (crossing := self.crossing):
            said.append(
                f"  the same picture in two parts of your split, used in the later of train, val and test alone: "
                f"{_some(tuple(f'{a} = {b}' for a, b in crossing))}"
            )
        return said

    crossing: tuple[tuple[str, str], ...] = ()
    """pairs of the same picture in two parts of the owner's split"""


def _counted(n: int, noun: str, plural: str = "s") -> str:
    return f"{n} {noun}{plural if n != 1 else ''}"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"{len(names)} ({', '.join(names[:2])}{more})"


def survey(path: str | Path) -> Survey:
    """A look at every image of a folder or table of one's own, see `folders.own`.

    ValueError where there are no classes of images, or where what is there contradicts itself.
    """
    path = resolved(str(path).removeprefix("folder:"))
    if not path.is_dir() and not path.is_file():
        what = "a device or pipe" if path.exists() else "not there"
        raise ValueError(f"{path} is {what}: name a folder with one folder of images per class, or a table (.csv)")
    if path.is_file() and path.suffix.lower() != ".csv":
        raise ValueError(f"{path} is a file: name a folder with one folder of images per class, or a table (.csv)")
    seen = look(path)
    if not len(seen.listing.photos) > len(seen.broken):
        reasons = "; ".join(f"{len(names)} {reason}" for reason, names in seen.listing.left_out.items())
        raise ValueError(f"{path} has no whole image" + (f": left out were {reasons}" if reasons else ""))
    return _survey(path, seen)


def _survey(path: Path, seen: Look) -> Survey:
    photos = seen.listing.photos
    whole = [i for i in range(len(photos)) if i not in seen.broken]

    def name(i: int) -> str:
        return f"{photos[i].label}/{photos[i].name}"

    parts: dict[str, Counter] = defaultdict(Counter)
    for i in whole:
        if photos[i].part:
            parts[photos[i].label][photos[i].part] += 1
    pairs = seen.identical + seen.near
    return Survey(
        path,
        dict(Counter(photos[i].label for i in whole)),
        {label: dict(found) for label, found in parts.items()},
        {reason: tuple(names) for reason, names in seen.listing.left_out.items()},
        {name(i): why for i, why in sorted(seen.broken.items())},
        tuple(map(name, seen.constant)),
        tuple(name(i) for i in whole if MASK.search(Path(photos[i].name).stem)),
        {
            depth: tuple(name(i) for i, kind in seen.deep.items() if seen.depths[kind] == depth)
            for depth in dict.fromkeys(seen.depths.values())
        },
        *(tuple((name(i), name(j)) for i, j in found) for found in (seen.identical, seen.near)),
        seen.sides,
        tuple((name(i), name(j)) for i, j in pairs if photos[i].part != photos[j].part),
    )
