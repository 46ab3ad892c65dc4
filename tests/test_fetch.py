"""The four sets end to end, from archives in the official layouts on a local server; what tells the listed images."""

import csv
import dataclasses
import hashlib
import http.server
import io
import os
import pickle
import re
import shutil
import struct
import tarfile
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from replication.cli import main, parser
from replication.data import catalogue
from replication.data.fetch import listed, official
from replication.data.folders import classes, encoded
from replication.data.packs import packed
from replication.data.settings import SETTINGS
from replication.results import published

RNG = np.random.default_rng(0)
needs_bsdtar = pytest.mark.skipif(
    not shutil.which("bsdtar"), reason="bsdtar is not installed (package libarchive-tools)"
)


# --- Pictures and archives that nobody photographed -------------------------------------------------


def picture(size=(256, 256)):
    """A random picture, as smooth as photographs are."""
    noise = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def jpeg(image, quality=95):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def rar(files, links=()):
    """A rar archive, version 4, its files stored: the program that makes them is not free, but the form is simple."""

    def block(kind, flags, body, data=b""):
        head = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head + data

    out = b"Rar!\x1a\x07\0" + block(0x73, 0, bytes(6))
    for mode, entries in ((0o100644, files), (0o120777, dict(links))):
        for name, content in entries.items():
            size, name = len(content), name.encode()
            fields = (size, size, 3, zlib.crc32(content), 0x5A210000, 20, 0x30, len(name), mode)
            out += block(0x74, 0x8000, struct.pack("<IIBIIBBHI", *fields) + name, content)
    return out + block(0x7B, 0x4000, b"")


class Python2(pickle._Pickler):
    """Writes what Python 2 wrote, as in the official CIFAR-10: byte strings, no text."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        data = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_string


def pickled(content):
    buffer = io.BytesIO()
    Python2(buffer, 2).dump(content)
    return buffer.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


# --- A server of official files, and lists of what is used of them ----------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, from where it is asked to; the first `server.cuts` answers end after 100,000 bytes."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        content = self.server.files[self.path[1:]]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.server.seen.append((self.path[1:], start))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + 100_000 if len(self.server.seen) <= self.server.cuts else None])


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server; `serve(name, files, sums)` puts official files on it, `want(name, copies)` lists what is used."""
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REPLICATION_DATA", "")
    monkeypatch.setattr("time.sleep", lambda _: None)
    lists = tmp_path / "lists"
    lists.mkdir()
    monkeypatch.setattr(listed, "_file", lambda name: lists / f"{name}.csv.gz")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as it:
        it.files, it.seen, it.cuts = {}, [], 0
        threading.Thread(target=it.serve_forever, args=(0.01,), daemon=True).start()

        def serve(name, *contents, sums=True):
            files = []
            for file, content in zip(catalogue.DATA_SETS[name].files, contents, strict=True):
                it.files[file.name] = content
                sha256 = hashlib.sha256(content).hexdigest() if sums and file.sha256 else ""
                url = f"http://127.0.0.1:{it.server_port}/{file.name}"
                files.append(dataclasses.replace(file, url=url, sha256=sha256))
            changed = dataclasses.replace(catalogue.DATA_SETS[name], files=tuple(files))
            monkeypatch.setitem(catalogue.DATA_SETS, name, changed)

        def want(name, copies):
            """copies: class -> {listed name: picture}, kept smaller than the official ones, as ours are."""
            for c, files in copies.items():
                for file, image in files.items():
                    path = tmp_path / "copies" / name / c / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    small = image.resize((image.width * 5 // 8, image.height * 5 // 8), Image.Resampling.LANCZOS)
                    path.write_bytes(jpeg(small, 90))
            listed.write(tmp_path / "copies" / name, lists / f"{name}.csv.gz")

        it.serve, it.want = serve, want
        yield it
        it.shutdown()


LEAVES = {  # ours -> theirs
    "Apple___healthy": "Apple___healthy",
    "Pepper_bell___Bacterial_spot": "Pepper,_bell___Bacterial_spot",
}


def leaves(server, keep=lambda c, i: True):
    """PlantVillage as on Mendeley Data, photos renamed; every other one is listed. Returns class -> name -> bytes."""
    files = {"Plant_leave_diseases_dataset_without_augmentation/Background_without_leaves/image (1).jpg": b"x"}
    copies, used = {}, {}
    for ours, theirs in LEAVES.items():
        for i in range(1, 9):
            image = picture()
            content = jpeg(image)
            if keep(ours, i):
                files[f"Plant_leave_diseases_dataset_without_augmentation/{theirs}/image ({i}).JPG"] = content
            if i % 2:
                name = f"{i:08}-aaaa___RS_HL {5672 + 2 * i}.jpg"
                copies.setdefault(ours, {})[name] = image
                used.setdefault(ours, {})[name] = content
    server.want("plantvillage", copies)
    server.serve("plantvillage", zipped(files))
    return used


def cracks():
    """Cracks as on Mendeley Data: our copies keep the names. Returns official files, and pictures by class and name."""
    names = {
        "Negative": ["00001.jpg", "00002.jpg", "00003.jpg"],
        "Positive": ["00001.jpg", "10001_1.jpg", "10002_1.jpg"],
    }
    images = {c: {name: picture((227, 227)) for name in files} for c, files in names.items()}
    return {f"{c}/{name}": jpeg(image) for c, files in images.items() for name, image in files.items()}, images


DIAGNOSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
LESIONS = [  # image, lesion, diagnosis, how it was confirmed
    ("ISIC_0024306", "HAM_1", "NV", "serial imaging showing no change"),
    ("ISIC_0024307", "HAM_2", "NV", "histopathology"),
    ("ISIC_0024308", "HAM_3", "MEL", "histopathology"),
    ("ISIC_0024309", "HAM_3", "MEL", "histopathology"),
    ("ISIC_0024310", "HAM_4", "AKIEC", "histopathology"),
    ("ISIC_0024311", "HAM_5", "BCC", "histopathology"),
    ("ISIC_0024312", "HAM_6", "DF", "histopathology"),
]


def lesions(server):
    images = {image: picture((600, 450)) for image, *_ in LESIONS}
    truth = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\r\n" + "".join(
        f"{image}," + ",".join(str(float(code == d)) for code in DIAGNOSES) + "\r\n" for image, _, d, _ in LESIONS
    )
    groups = "image,lesion_id,diagnosis_confirm_type\n" + "".join(
        f"{i},{lesion},{how}\n" for i, lesion, _, how in LESIONS
    )
    jpegs = {f"ISIC2018_Task3_Training_Input/{name}.jpg": jpeg(image) for name, image in images.items()}
    extra = {"ISIC2018_Task3_Training_Input/LICENSE.txt": b"CC BY-NC"}
    table = {"ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv": truth.encode()}
    server.want(
        "skin",
        {
            "benign": {"ISIC_0024307.jpg": images["ISIC_0024307"]},
            "malignant": {f"{n}.jpg": images[n] for n in ("ISIC_0024308", "ISIC_0024311")},
        },
    )
    server.serve("skin", zipped(table), groups.encode(), zipped(jpegs | extra))
    return {Path(name).stem: content for name, content in jpegs.items()}


def batches(each=20, **replaced):
    """CIFAR-10's archive with a few images a batch. Returns it with pixels and labels, in order, training first."""
    pixels = RNG.integers(0, 256, (6, each, 3072), dtype=np.uint8)
    labels = np.arange(6 * each).reshape(6, each) * 7 % 10
    files = {}
    for name, data, of in zip([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"], pixels, labels, strict=True):
        content = pickled({b"batch_label": b"x", b"data": data, b"labels": of.tolist()})
        files[f"cifar-10-batches-py/{name}"] = content
    files["cifar-10-batches-py/batches.meta"] = pickled({b"label_names": [c.encode() for c in official.CIFAR10]})
    files["cifar-10-batches-py/readme.html"] = b"<html>"
    return (
        tarred(files | {f"cifar-10-batches-py/{name}": content for name, content in replaced.items()}),
        pixels,
        labels,
    )


def fetched(name, *options):
    """What `replication data fetch` makes: class -> name -> bytes."""
    assert main(["data", "fetch", name, *options]) == 0
    return {c: dict(encoded(path)) for c, path in classes(catalogue.DATA_SETS[name].folder()).items()}


def refused(capsys, *command):
    """The one sentence that a command says before it stops."""
    capsys.readouterr()
    assert main(list(command)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("replication: ")]
    assert len(said) == 1
    return said[0]


def left(home):
    """Files of the data folder, downloads aside."""
    return sorted(p.relative_to(home).as_posix() for p in (home / "data").rglob("*") if ".downloads" not in p.parts)


# --- The four sets ----------------------------------------------------------------------------------


def test_plantvillage_is_told_by_its_pictures_although_renamed(server, tmp_path, capsys):
    used = leaves(server)
    assert fetched("plantvillage") == used
    assert (
        f"plantvillage: 8 images of 2 classes in {tmp_path / 'home' / 'data' / 'plantvillage'}"
        in capsys.readouterr().out
    )
    assert not (tmp_path / "home" / "data" / ".downloads" / "plantvillage").exists()
    source = packed("plantvillage", 16)
    assert source.classes == tuple(LEAVES) and source.counts.tolist() == [4, 4]
    assert len(set(source.groups[:4])) == 2, "listed names carry the photo numbers"
    assert fetched("plantvillage") == used and len(server.seen) == 1, "what is here is not fetched again"


def test_all_of_plantvillage_keeps_its_own_names(server):
    leaves(server)
    made = fetched("plantvillage", "--all")
    assert {c: sorted(files) for c, files in made.items()} == {
        c: [f"image ({i}).JPG" for i in range(1, 9)] for c in LEAVES
    }


@needs_bsdtar
def test_cracks_from_a_rar(server):
    files, images = cracks()
    used = {
        "negative": {"00002.jpg": "Negative/00002.jpg"},
        "positive": {n: f"Positive/{n}" for n in ("00001.jpg", "10002_1.jpg")},
    }
    server.want("cracks", {c: {n: images[c.title()][n] for n in names} for c, names in used.items()})
    server.serve("cracks", rar(files))
    assert fetched("cracks") == {c: {n: files[path] for n, path in names.items()} for c, names in used.items()}
    assert packed("cracks", 16).counts.tolist() == [1, 2]


def test_cracks_without_bsdtar_stop_before_the_download(server, monkeypatch, capsys):
    server.want("cracks", {"negative": {"1.jpg": picture()}, "positive": {"1.jpg": picture()}})
    server.serve("cracks", rar({}))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "cracks.rar is a rar archive: install bsdtar (package libarchive-tools)" in refused(
        capsys, "data", "fetch", "cracks"
    )
    assert not server.seen


def test_skin_by_diagnosis(server):
    files = lesions(server)
    assert fetched("skin") == {
        "benign": {"ISIC_0024307.jpg": files["ISIC_0024307"]},
        "malignant": {f"{name}.jpg": files[name] for name in ("ISIC_0024308", "ISIC_0024311")},
    }
    assert packed("skin", 16).counts.tolist() == [1, 2]


def test_all_of_skin_is_one_image_of_every_lesion_confirmed_by_histopathology(server):
    lesions(server)
    assert {c: sorted(files) for c, files in fetched("skin", "--all").items()} == {
        "benign": ["ISIC_0024307.jpg", "ISIC_0024312.jpg"],
        "malignant": ["ISIC_0024308.jpg", "ISIC_0024311.jpg"],
    }


@pytest.mark.filterwarnings("error")
def test_cifar10_is_kept_to_the_pixel(server):
    archive, pixels, labels = batches()
    server.serve("cifar10", archive)
    made = fetched("cifar10")
    assert list(made) == sorted(official.CIFAR10)
    for c, name in enumerate(official.CIFAR10):
        for part, where in (("train", slice(0, 5)), ("test", slice(5, 6))):
            images = pixels[where][labels[where] == c].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            assert len(images) == (10 if part == "train" else 2)
            for i, image in enumerate(images):
                assert (np.asarray(Image.open(io.BytesIO(made[name][f"{part}_{i:04}.png"]))) == image).all()
    source = packed("cifar10", 32)
    assert source.counts.tolist() == [12] * 10 and set(map(bytes, source.images)) == set(
        map(bytes, pixels.reshape(-1, 3072))
    )


# --- What can go wrong ------------------------------------------------------------------------------


def test_a_cut_connection_is_continued(server):
    used = leaves(server)
    server.cuts = 2
    assert fetched("plantvillage") == used
    assert server.seen == [("plantvillage.zip", 0), ("plantvillage.zip", 100_000), ("plantvillage.zip", 200_000)]


def test_an_interrupted_fetch_goes_on_at_the_next_call(server, tmp_path, capsys):
    used = leaves(server)
    server.cuts = 99
    whole = server.files["plantvillage.zip"]
    server.files["plantvillage.zip"] = whole[:150_000] + bytes(10_000_000)  # more than the attempts bring
    assert "the same command continues it; a file fetched by hand is taken from" in refused(
        capsys, "data", "fetch", "plantvillage"
    )
    assert left(tmp_path / "home") == []
    part = catalogue.DATA_SETS["plantvillage"].downloads() / "plantvillage.zip.part"
    part.write_bytes(part.read_bytes()[:150_000])
    server.files["plantvillage.zip"], server.cuts, server.seen[:] = whole, 0, []
    assert fetched("plantvillage") == used and server.seen == [("plantvillage.zip", 150_000)]


def test_a_file_fetched_by_hand_is_taken(server):
    used = leaves(server)
    path = catalogue.DATA_SETS["plantvillage"].downloads() / "plantvillage.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(server.files["plantvillage.zip"])
    assert fetched("plantvillage") == used and not server.seen


def test_another_file_than_the_official_one_is_refused(server, tmp_path, capsys):
    leaves(server)
    server.files["plantvillage.zip"] = zipped({"other": b"x"})
    assert "plantvillage.zip has checksum" in refused(capsys, "data", "fetch", "plantvillage")
    assert left(tmp_path / "home") == [] and not list(catalogue.DATA_SETS["plantvillage"].downloads().iterdir())


def test_listed_images_that_are_absent_are_counted(server, tmp_path, capsys):
    leaves(server, keep=lambda c, i: i != 3 or c == "Apple___healthy")
    assert refused(capsys, "data", "fetch", "plantvillage") == (
        "replication: the official files of plantvillage are not those that were listed (Pepper_bell___Bacterial_spot "
        "has 3 of 4 listed among 7 files): `replication data fetch plantvillage --all` takes them as they are"
    )
    assert left(tmp_path / "home") == []
    made = fetched("plantvillage", "--all")
    assert [len(files) for files in made.values()] == [8, 7] and len(server.seen) == 1, "the download is still there"


def test_a_class_that_is_absent_is_named(server, tmp_path, capsys):
    leaves(server, keep=lambda c, i: c == "Apple___healthy")
    said = refused(capsys, "data", "fetch", "plantvillage")
    assert (
        "have 0 folders of class 'Pepper_bell___Bacterial_spot', not one: found " in said and "Apple___healthy" in said
    )
    assert left(tmp_path / "home") == []


@pytest.mark.parametrize("evil", ["../../evil.jpg", "/tmp/evil-fetched.jpg"])
def test_hostile_zip(server, tmp_path, capsys, evil):
    leaves(server)
    server.serve("plantvillage", zipped({evil: b"x"}))
    assert "leads outside its folder" in refused(capsys, "data", "fetch", "plantvillage")
    assert (
        left(tmp_path / "home") == []
        and not list(tmp_path.rglob("evil*"))
        and not Path("/tmp/evil-fetched.jpg").exists()
    )


@needs_bsdtar
@pytest.mark.parametrize(
    "archive, said",
    [
        (rar({"../../evil.jpg": b"x"}), "leads outside its folder"),
        (rar({"/tmp/evil-fetched.jpg": b"x"}), "leads outside its folder"),
        (rar({"Negative/a.jpg": b"x"}, {"Positive": b"/etc"}), "holds a link, 'Positive'"),
        (rar({}), "no file was found in it"),
        (rar({"Negative/a.jpg": bytes(1000)})[:500], "cracks.rar cannot be unpacked: bsdtar: Truncated input file"),
    ],
    ids=["parent", "absolute", "link", "empty", "cut"],
)
def test_hostile_and_broken_rar(server, tmp_path, capsys, archive, said):
    server.want("cracks", {"negative": {"1.jpg": picture()}, "positive": {"1.jpg": picture()}})
    server.serve("cracks", archive)
    assert said in refused(capsys, "data", "fetch", "cracks")
    assert (
        left(tmp_path / "home") == []
        and not list(tmp_path.rglob("evil*"))
        and not Path("/tmp/evil-fetched.jpg").exists()
    )
    assert [p.name for p in catalogue.DATA_SETS["cracks"].downloads().iterdir()] == ["cracks.rar"], (
        "its checksum was right"
    )


def test_skin_files_without_a_known_checksum_are_fetched_again_when_broken(server, capsys):
    files = lesions(server)
    images, groups = (server.files[f"ISIC2018_Task3_Training_{name}"] for name in ("Input.zip", "LesionGroupings.csv"))
    broken = bytearray(images)
    broken[2000] ^= 255
    server.files["ISIC2018_Task3_Training_Input.zip"] = bytes(broken)
    said = refused(capsys, "data", "fetch", "skin")
    assert "Training_Input.zip cannot be unpacked: Bad CRC-32" in said and said.endswith(
        "it was removed, fetch it again"
    )
    server.files["ISIC2018_Task3_Training_Input.zip"] = images
    catalogue.DATA_SETS["skin"].downloads().joinpath("ISIC2018_Task3_Training_LesionGroupings.csv").write_text("<html>")
    said = refused(capsys, "data", "fetch", "skin", "--all")
    assert "LesionGroupings.csv has no column 'image': it is not the official table; removed" in said
    assert server.files["ISIC2018_Task3_Training_LesionGroupings.csv"] == groups
    assert set(fetched("skin")["malignant"].values()) == {files["ISIC_0024308"], files["ISIC_0024311"]}


class Evil:
    """What a pickle may ask for."""

    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    "content, said",
    [
        (pickled({b"label_names": Evil()}), "it asks for posix.mkdir"),
        (b"\x80\x02}q", "cannot be read"),
        (pickled({b"other": 1}), "KeyError"),
        (pickled({b"label_names": [b"leaf"]}), "have classes leaf: expected airplane, "),
    ],
    ids=["call", "cut", "key", "classes"],
)
def test_a_pickle_can_only_hold_data(server, tmp_path, capsys, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    server.serve("cifar10", batches(**{"batches.meta": content})[0])
    assert said in refused(capsys, "data", "fetch", "cifar10")
    assert left(tmp_path / "home") == [] and not (tmp_path / "evil").exists()


def test_a_folder_that_is_no_whole_set_is_not_replaced(server, tmp_path, capsys):
    leaves(server)
    mine = tmp_path / "home" / "data" / "plantvillage" / "Apple___healthy" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"x")
    said = refused(capsys, "data", "fetch", "plantvillage")
    assert "is there without class 'Pepper_bell___Bacterial_spot': move it away to fetch plantvillage again" in said
    assert mine.read_bytes() == b"x" and not server.seen


def test_a_place_that_cannot_be_written_is_one_sentence(server, tmp_path, capsys):
    leaves(server)
    (tmp_path / "file").write_text("in the way")
    said = refused(capsys, "data", "fetch", "plantvillage", "--data", str(tmp_path / "file"))
    assert said == f"replication: plantvillage cannot be put into {tmp_path / 'file'}: Not a directory"


def test_a_disk_without_room_is_one_sentence(server, tmp_path, capsys, monkeypatch):
    leaves(server)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    said = refused(capsys, "data", "fetch", "plantvillage")
    assert said.startswith("replication: plantvillage.zip cannot be written to") and said.endswith("0 MB are free")
    assert left(tmp_path / "home") == [] and len(server.seen) == 1, "no further attempt"


def test_unknown_name_says_what_is_allowed(server, capsys):
    said = refused(capsys, "data", "fetch", "leaves")
    assert said == "replication: unknown data set 'leaves': allowed are plantvillage, cracks, skin, cifar10"


# --- Lists and fingerprints -------------------------------------------------------------------------


def test_a_fingerprint_survives_size_and_quality_but_no_mirror():
    images = [picture() for _ in range(30)]
    prints = np.array([listed.fingerprint(jpeg(image)) for image in images])
    small = np.array([listed.fingerprint(jpeg(image.resize((100, 100)), 75)) for image in images])
    mirrored = np.array([listed.fingerprint(jpeg(ImageOps.mirror(image))) for image in images])
    apart = listed.distances(prints, small)
    assert np.diag(apart).max() <= listed.LIMIT < apart[~np.eye(30, dtype=bool)].min()
    assert np.diag(listed.distances(prints, mirrored)).min() > listed.LIMIT
    assert (listed.distances(prints, small) == (prints[:, None] != small).sum(2)).all()


def test_the_same_name_wins_only_with_the_same_picture():
    a, b, other = picture(), picture(), picture()
    wanted = listed.Listed(("a 1.jpg", "b.jpg"), np.array([listed.fingerprint(jpeg(x)) for x in (a, b)]))
    copies = [
        ("z.jpg", jpeg(a)),
        ("A_1.JPG", jpeg(a, 80)),
        ("b.jpg", jpeg(other)),
        ("x.jpg", jpeg(b, 80)),
        ("c.jpg", b"broken"),
    ]
    assert listed.matched(wanted, copies) == {"a 1.jpg": "A_1.JPG", "b.jpg": "x.jpg"}
    assert listed.matched(wanted, [("z.jpg", jpeg(a))]) == {"a 1.jpg": "z.jpg"}
    assert listed.matched(wanted, []) == {}


def test_one_official_file_is_not_taken_twice():
    a = picture()
    wanted = listed.Listed(
        ("one.jpg", "two.jpg"), np.array([listed.fingerprint(jpeg(a)), listed.fingerprint(jpeg(a, 60))])
    )
    assert listed.matched(wanted, [("x.jpg", jpeg(a))]) == {"one.jpg": "x.jpg"}


@pytest.mark.parametrize("name, total", [("plantvillage", 9373), ("cracks", 4000), ("skin", 2741)])
def test_committed_lists(name, total):
    lists = listed.listed(name)
    assert sum(len(images.names) for images in lists.values()) == total
    for images in lists.values():
        assert len(set(images.names)) == len(images.names) and images.fingerprints.shape == (
            len(images.names),
            listed.BITS,
        )
    assert official.class_names("cifar10") == official.CIFAR10 and listed.listed("cifar10") == {}


PAGE = (Path(__file__).parents[1] / "book" / "data.md").read_text()


def test_the_data_page_says_what_the_code_does():
    for data_set in catalogue.DATA_SETS.values():
        for file in data_set.files:
            assert file.url in PAGE and file.sha256 in PAGE
        assert data_set.licence.partition(" (")[0].partition(";")[0] in PAGE
        for c, images in listed.listed(data_set.name).items():
            assert re.search(rf"^\| `{c}` \|.*\b{len(images.names)}\b", PAGE, re.MULTILINE), c
    named = set(re.findall(r"`((?:digits|plantvillage|cracks|skin|cifar10)(?:/\w+)*)`", PAGE))
    assert named - {"plantvillage/"} <= set(SETTINGS) | set(catalogue.DATA_SETS)
    plain = {name for name in SETTINGS if "v" not in name.rpartition("/")[2]}
    assert plain <= named


def test_the_data_page_says_of_no_network_that_it_was_not_run_where_it_was():
    rows = published.read(["plantvillage"])
    tuned = rows[(rows["trained"] == "all") & (rows["init"] == "imagenet")]
    assert ("fine-tuning on apple leaves is planned and has not been run" in PAGE) == (
        "efficientnet_lite0" not in set(tuned["network"])
    )
    assert set(tuned["network"]) >= {"resnet_cntk"} and "fine-tuned on tomato and apple leaves" in PAGE


def test_commands_of_the_data_page_are_ones_that_there_are():
    commands = re.findall(r"^\.venv/bin/replication (.*)$", PAGE, re.MULTILINE)
    assert len(commands) > 4
    for command in commands:
        assert parser().parse_args(command.split()).action


needs_data = pytest.mark.skipif(not os.environ.get("REPLICATION_DATA"), reason="REPLICATION_DATA is not set")


def given(name):
    folder = Path(os.environ["REPLICATION_DATA"]) / name
    if not folder.is_dir():
        pytest.skip(f"no {name} below REPLICATION_DATA")
    return folder


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("name", ["plantvillage", "cracks", "skin"])
def test_committed_lists_are_those_of_the_data(name):
    folder = given(name)
    with (folder / "MANIFEST.csv").open(newline="") as file:
        rows = {(row["class"], row["file"]) for row in csv.DictReader(file)}
    assert rows == {(c, file) for c, images in listed.listed(name).items() for file in images.names}


@pytest.mark.data
@needs_data
@pytest.mark.parametrize(
    "name, c, scale",
    [
        ("plantvillage", "Tomato___Late_blight", 1.6),
        ("plantvillage", "Potato___healthy", 1.6),
        ("cracks", "positive", 1.77),
        ("skin", "malignant", 3),
    ],
)
def test_real_images_are_found_again_at_the_official_size_under_other_names(name, c, scale):
    files = dict(encoded(classes(given(name))[c]))

    def enlarged(data):
        image = Image.open(io.BytesIO(data))
        return jpeg(image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC))

    renamed = {f"image ({i}).JPG": file for i, file in enumerate(sorted(files))}
    found = listed.matched(listed.listed(name)[c], ((new, enlarged(files[old])) for new, old in renamed.items()))
    assert {old: renamed[new] for old, new in found.items()} == {old: old for old in files}
