"""What a machine without the images and weights needs, in loads that travel one by one, and put together again there.

Here:  python benchmarks/gpu_carry.py pack FOLDER --sources plantvillage --weights resnet_cntk [--mib 42]
There: python benchmarks/gpu_carry.py unpack FOLDER/load0 --to PLACE    (and load1, ... in any order, in calls of their own)

FOLDER gets load0, load1, ...: each the pieces of some files and the list of all with their SHA-256. Image sets travel whole,
as their digest, which is part of every key, is that of the whole set. `unpack` ends with status 1 while something is missing.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = "parts.json"


def sha(data: bytes | memoryview) -> str:
    """SHA-256 in hex digits."""
    return hashlib.sha256(data).hexdigest()


def wanted(sources: list[str], weights: list[str], scratch: Path) -> dict[str, Path]:
    """Files to carry by the path that they get there: archives of whole image sets, and weights written to scratch."""
    from replication.data.packs import classes_of
    from replication.training.weights import save

    files = {f"data/{name}/{path.name}": path for name in sources for path in classes_of(name).values()}
    for name in weights:
        save(name, scratch / f"{name}.pt")
        files[f"weights/{name}.pt"] = scratch / f"{name}.pt"
    return files


def pack(folder: Path, sources: list[str], weights: list[str], mib: float) -> list[Path]:
    """Write the loads of at most so many MiB each, and return their folders."""
    import tempfile

    most, number, room, told = int(mib * 2**20), 0, int(mib * 2**20), []
    with tempfile.TemporaryDirectory() as scratch:
        for name, path in wanted(sources, weights, Path(scratch)).items():
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

    ValueError for a piece or a file of another sum than that in the list.
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
    return missing


def main() -> int:
    """Pack here or unpack there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    here, there = verbs.add_parser("pack"), verbs.add_parser("unpack")
    for one in (here, there):
        one.add_argument("folder", type=Path)
    here.add_argument("--sources", default="", help="image sets, comma-separated")
    here.add_argument("--weights", default="", help="networks whose ImageNet weights travel, comma-separated")
    here.add_argument("--mib", type=float, default=42, help="of a load at the most (default 42)")
    there.add_argument("--to", type=Path, required=True)
    a = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    try:
        if a.verb == "pack":
            sources, weights = ([name for name in text.split(",") if name] for text in (a.sources, a.weights))
            for load in pack(a.folder, sources, weights, a.mib):
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
