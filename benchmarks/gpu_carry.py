"""What a machine without the images and weights needs, in loads that travel one by one, and put together again there.

Here:  python benchmarks/gpu_carry.py pack FOLDER --settings plantvillage/tomato@128 --weights resnet_cntk [--mib 40]
There: python benchmarks/gpu_carry.py unpack FOLDER/load0 --to PLACE    (and load1, ... in any order, in calls of their own)

FOLDER gets load0, load1, ...: each the pieces of some files and the list of all with their SHA-256. Of an image set only
the archives of the settings' classes travel. Its pack is made there with the other classes' images left black, under the
digest of the whole set: keys of runs stay what they are here. The images decoded there must be those decoded here.
`unpack` ends with status 1 while something is missing.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LIST = "parts.json"


def sha(data: bytes | memoryview) -> str:
    """SHA-256 in hex digits."""
    return hashlib.sha256(data).hexdigest()


def classes_of(setting: str) -> list[str]:
    """Names of the classes that a setting takes images from, whatever the seed."""
    from replication.data.loading import load
    from replication.data.settings import setting as setting_of

    s = setting_of(setting)
    source = load(s.source, s.pixels)
    labels = {label for seed in range(source.n_labels) for pool in s.class_map(seed, source) for label in pool}
    return [source.classes[label] for label in sorted(labels)]


def wanted(settings: list[str], weights: list[str], scratch: Path) -> dict[str, Path]:
    """Files to carry by the path that they get there; packs' lists and the sums of decoded images are written to scratch."""
    from replication.data.loading import load
    from replication.data.packs import classes_of as archives
    from replication.data.packs import open_pack, place
    from replication.data.settings import setting as setting_of

    files, sums = {}, {}
    for name in settings:
        s = setting_of(name)
        load(s.source, s.pixels)  # makes the pack
        where = place(s.source, s.pixels)
        there, pack = archives(s.source), open_pack(where)
        for one in classes_of(name):
            files[f"archives/{s.source}/{there[one].name}"] = there[one]
            rows = pack.images[np.asarray(pack.labels) == pack.classes.index(one)]
            sums.setdefault(where.name, {})[one] = [there[one].name, sha(np.ascontiguousarray(rows))]
        files |= {f"packs/{where.name}/{n}": where / n for n in ("pack.json", "labels.npy", "groups.npy")}
    for name in weights:
        from replication.training.weights import save

        path = scratch / f"{name}.pt"
        save(name, path)
        files[f"weights/{name}.pt"] = path
    (scratch / "sums.json").write_text(json.dumps(sums))
    return files | {"sums.json": scratch / "sums.json"}


def pack(folder: Path, settings: list[str], weights: list[str], mib: float) -> list[Path]:
    """Write the loads of at most so many MiB each, and return their folders."""
    import tempfile

    most, number, room, told = int(mib * 2**20), 0, int(mib * 2**20), []
    with tempfile.TemporaryDirectory() as scratch:
        for name, path in wanted(settings, weights, Path(scratch)).items():
            data, parts = path.read_bytes(), []
            for at in range(0, max(len(data), 1), most):  # at least one piece
                rest = memoryview(data)[at : at + most]
                while True:
                    piece, rest = rest[:room], rest[room:]
                    label = f"{name.replace('/', '--')}.part{len(parts)}"
                    target = folder / f"load{number}" / label
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(piece)
                    parts.append({"name": label, "load": number, "bytes": len(piece), "sha256": sha(piece)})
                    room -= len(piece)
                    if room == 0:
                        number, room = number + 1, most
                    if not rest:
                        break
            told.append({"path": name, "bytes": len(data), "sha256": sha(data), "parts": parts})
    loads = sorted({part["load"] for file in told for part in file["parts"]})
    for load in loads:
        (folder / f"load{load}" / LIST).write_text(json.dumps({"files": told}, indent=1))
    return [folder / f"load{load}" for load in loads]


def unpack(load: Path, to: Path) -> list[str]:
    """Take in a load, put together what is whole, and return the pieces that are still missing.

    ValueError for a piece or a file of another sum than that in the list, and for images that decode differently here.
    """
    told, kept = json.loads((load / LIST).read_text())["files"], to / "pieces"
    kept.mkdir(parents=True, exist_ok=True)
    missing = []
    for file in told:
        target = to / file["path"]
        if target.is_file() and sha(target.read_bytes()) == file["sha256"]:
            continue
        for part in file["parts"]:
            if (load / part["name"]).is_file():
                piece = (load / part["name"]).read_bytes()
                if sha(piece) != part["sha256"]:
                    raise ValueError(f"{load / part['name']} has another sum than in {LIST}: carry it again")
                (kept / part["name"]).write_bytes(piece)
        absent = [part for part in file["parts"] if not (kept / part["name"]).is_file()]
        missing += [f"{part['name']} of load{part['load']}" for part in absent]
        if absent:
            continue
        data = b"".join((kept / part["name"]).read_bytes() for part in file["parts"])
        if sha(data) != file["sha256"]:
            raise ValueError(f"{file['path']} has another sum than in {LIST}: carry all its pieces again")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        for part in file["parts"]:
            (kept / part["name"]).unlink()
    if not missing:
        for name, sums in json.loads((to / "sums.json").read_text()).items():
            fill(to, name, sums)
    return missing


def fill(to: Path, name: str, sums: dict[str, list[str]]) -> None:
    """Decode the classes that were carried into a pack; all others stay black, and their rows take no room."""
    from replication.data.packs import _decoded

    where = to / "packs" / name
    if (where / "images.npy").is_file():
        return
    about, labels = json.loads((where / "pack.json").read_text()), np.load(where / "labels.npy")
    shape = (len(labels), 3, about["pixels"], about["pixels"])
    temporary = where / "images.npy.part"
    images = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
    for one, (archive, digest) in sums.items():
        decoded, _, _ = _decoded(to / "archives" / name.rpartition("-")[0] / archive, about["pixels"], False)
        found = np.ascontiguousarray(decoded)
        if sha(found) != digest:
            raise ValueError(f"class {one!r} decodes to other images here than where it was packed: install the same Pillow")
        images[labels == about["classes"].index(one)] = found
    images.flush()
    temporary.replace(where / "images.npy")


def main() -> int:
    """Pack here or unpack there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    here, there = verbs.add_parser("pack"), verbs.add_parser("unpack")
    for one in (here, there):
        one.add_argument("folder", type=Path)
    here.add_argument("--settings", default="", help="comma-separated")
    here.add_argument("--weights", default="", help="networks whose ImageNet weights travel, comma-separated")
    here.add_argument("--mib", type=float, default=40, help="of a load at the most (default 40)")
    there.add_argument("--to", type=Path, required=True)
    a = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    try:
        if a.verb == "pack":
            settings, weights = ([name for name in text.split(",") if name] for text in (a.settings, a.weights))
            for load in pack(a.folder, settings, weights, a.mib):
                print(f"{load}: {sum(p.stat().st_size for p in load.iterdir()) / 2**20:.1f} MiB")
            return 0
        missing = unpack(a.folder, a.to)
    except (ValueError, OSError) as error:
        print(f"gpu_carry: {error}", file=sys.stderr)
        return 2
    print("still missing: " + ", ".join(missing) if missing else f"all is there, in {a.to}")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
