"""Packs: every kind of image decodes, every kind of bad input is one sentence, nothing is left half written."""

import io
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from replication.cli import main
from replication.data.catalogue import DATA_SETS
from replication.data.decoding import decode
from replication.data.folders import classes, encoded
from replication.data.packs import group, open_pack, pack, pack_folder, packed
from replication.files import whole

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (24, 16, 3), dtype=np.uint8)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """This machine's folder, empty, and no data given."""
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REPLICATION_DATA", "")  # also undoes what --data sets
    return tmp_path / "home"


def file(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def data_set(folder, **members):
    """A data set of PNG files: class name -> {file name: bytes}."""
    for name, files in members.items():
        for path, content in files.items():
            target = folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    return folder


PLAIN = file(Image.fromarray(NOISE))


def test_decode_is_rgb_cut_about_the_centre():
    seen = decode(PLAIN, 16)
    assert seen.shape == (3, 16, 16) and seen.dtype == np.uint8
    assert (seen == NOISE[4:20].transpose(2, 0, 1)).all()


@pytest.mark.parametrize("size", [8, 32])
def test_decode_scales_to_the_size_asked(size):
    assert decode(PLAIN, size).shape == (3, size, size)


def test_downscaling_averages():
    assert np.abs(decode(PLAIN, 8) - NOISE[4:20].reshape(8, 2, 8, 2, 3).mean((1, 3)).transpose(2, 0, 1)).max() <= 1


def test_grey_palette_cmyk_and_16_bit_become_rgb():
    grey = np.linspace(0, 255, 256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(grey)
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    for content in (file(image), file(image.convert("P")), file(wide)):
        assert (decode(content, 16) == grey).all()
    cmyk = decode(file(Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK"), "JPEG", quality=95), 16)
    assert np.abs(cmyk.mean((1, 2)) - (200, 30, 60)).max() < 12


def test_transparency_becomes_white():
    image = Image.new("RGBA", (16, 16), (10, 20, 30, 0))
    assert (decode(file(image), 16) == 255).all()
    half = Image.new("RGBA", (16, 16), (0, 0, 0, 128))
    assert np.abs(decode(file(half), 16).astype(int) - 127).max() <= 1


def test_exif_turns_the_image_upright():
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = decode(file(Image.fromarray(NOISE[:16]), exif=exif), 16)
    assert (turned == NOISE[:16][::-1, ::-1].transpose(2, 0, 1)).all()


def test_pack_round_trip_from_folders_and_archives(tmp_path):
    names = ["b c.png", "Blätter/ä 葉.PNG", "a.png"]
    images = {name: file(Image.fromarray(RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8))) for name in names}
    folder = data_set(tmp_path / "set", one=images, two={"x.png": PLAIN, "notes.txt": b"no image"})
    source = open_pack(pack(folder, 16, tmp_path / "pack"))
    assert isinstance(source.images, np.memmap) and source.images.shape == (4, 3, 16, 16)
    assert source.labels.tolist() == [0, 0, 0, 1]
    for image, name in zip(source.images, sorted(names, key=lambda n: Path(n))):
        assert (image == decode(images[name], 16)).all()

    tars = tmp_path / "tars"
    tars.mkdir()
    for name, suffix in (("one", ".tar"), ("two", ".tar.gz")):
        with tarfile.open(tars / f"{name}{suffix}", "w:gz" if "gz" in suffix else "w") as archive:
            archive.add(folder / name, name)
    again = open_pack(pack(tars, 16, tmp_path / "again"))
    assert sorted(map(bytes, again.images)) == sorted(map(bytes, source.images))
    assert again.labels.tolist() == source.labels.tolist()


def test_broken_files_are_named_and_skipped_only_when_asked(tmp_path):
    folder = data_set(tmp_path / "set", one={"good.png": PLAIN, "cut.png": PLAIN[:200], "text.jpg": b"hello"})
    with pytest.raises(ValueError, match=r"2 of 3 files of .*one are not complete images, the first is 'cut.png'"):
        pack(folder, 16, tmp_path / "pack")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert len(open_pack(pack(folder, 16, tmp_path / "pack", skip_broken=True)).images) == 1


@pytest.mark.parametrize("files", [{}, {"notes.txt": b"no image"}])
def test_empty_class_is_refused(tmp_path, files):
    folder = data_set(tmp_path / "set", one={"a.png": PLAIN}, two=files)
    (folder / "two").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match="class 'two' .* is empty"):
        pack(folder, 16, tmp_path / "pack")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_missing_set_and_missing_pack_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="no data set at"):
        pack(tmp_path / "nothing", 16, tmp_path / "pack")
    with pytest.raises(ValueError, match="no pack at"):
        open_pack(tmp_path / "pack")
    with pytest.raises(ValueError, match="pixels = 4 is too small"):
        pack(tmp_path, 4, tmp_path / "pack")


@pytest.mark.parametrize("share", [0.3, 0.8])
@pytest.mark.parametrize("kind", ["w", "w:gz"])
def test_truncated_archive_is_refused(tmp_path, share, kind):
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / ("one.tar" if kind == "w" else "one.tar.gz")
    with tarfile.open(path, kind) as archive:
        for i in range(9):
            content = file(Image.fromarray(RNG.integers(0, 256, (60, 60, 3), dtype=np.uint8)))
            entry = tarfile.TarInfo(f"one/{i}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="cannot be read to its end"):
        pack(tmp_path / "set", 16, tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


def test_hostile_archive_writes_nothing_outside(tmp_path):
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set" / "one.tar", "w") as archive:
        for name in ("../../evil.png", "/tmp/evil-absolute.png", "one/good.png"):
            entry = tarfile.TarInfo(name)
            entry.size = len(PLAIN)
            archive.addfile(entry, io.BytesIO(PLAIN))
        link = tarfile.TarInfo("one/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = {p for p in tmp_path.rglob("*")}
    assert [name for name, _ in encoded(tmp_path / "set" / "one.tar")] == ["evil.png", "evil-absolute.png", "good.png"]
    assert {p for p in tmp_path.rglob("*")} == before and not Path("/tmp/evil-absolute.png").exists()


def test_a_new_pack_replaces_the_old_one(tmp_path):
    data_set(tmp_path / "set", one={"a.png": PLAIN})
    first = open_pack(pack(tmp_path / "set", 16, tmp_path / "pack")).digest
    data_set(tmp_path / "set", one={"b.png": PLAIN})
    assert len(open_pack(pack(tmp_path / "set", 16, tmp_path / "pack")).images) == 2
    assert open_pack(tmp_path / "pack").digest != first


@pytest.mark.parametrize(
    "name, other, together",
    [
        ("0055___RS_HL 5672.jpg", "99aa___RS_HL 5679.jpg", True),
        ("0055___RS_HL 5672.jpg", "99aa___RS_HL 5680.jpg", False),
        ("0055___RS_HL 5672.jpg", "99aa___JR_HL 5672.jpg", False),
        ("00001.jpg", "00002.jpg", False),
        ("a___GHLB Leaf 12.1.jpg", "b___GHLB Leaf 12.2.jpg", False),
        ("a___RS_HL 12 copy.jpg", "b___RS_HL 13.jpg", True),
    ],
)
def test_neighbouring_photos_form_a_group(name, other, together):
    assert (group(name) == group(other)) == together


def bits(kind, mode):
    """The ramp in an encoding of its own."""
    ramp = np.linspace(0, 255, 256, dtype=np.uint8).reshape(16, 16)
    image = {
        "I;16": Image.fromarray(ramp.astype(np.uint16) * 257),
        "I": Image.fromarray(ramp.astype(np.int32) * 257),
        "1": Image.fromarray(ramp > 127),
    }.get(mode)
    return file(image or Image.fromarray(ramp).convert(mode), kind), ramp


@pytest.mark.parametrize(
    "kind, mode",
    [
        ("PNG", "L"),
        ("PNG", "LA"),
        ("PNG", "P"),
        ("PNG", "RGBA"),
        ("PNG", "I;16"),
        ("TIFF", "I"),
        ("TIFF", "CMYK"),
        ("TIFF", "L"),
        ("BMP", "L"),
        ("WEBP", "RGBA"),
    ],
)
def test_every_kind_of_image_shows_the_same(kind, mode):
    content, ramp = bits(kind, mode)
    seen = decode(content, 16).astype(int)
    assert seen.shape == (3, 16, 16) and np.abs(seen - ramp).max() <= (12 if kind == "WEBP" else 1)
    black_and_white, ramp = bits("PNG", "1")
    assert (decode(black_and_white, 16) == np.where(ramp > 127, 255, 0)).all()


@pytest.mark.parametrize("mark", range(1, 9))
def test_every_exif_mark_is_turned_upright(mark):
    square = Image.fromarray(NOISE[:16])
    stored = {  # how a camera stores the upright picture under each mark
        1: square,
        2: square.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: square.transpose(Image.Transpose.ROTATE_180),
        4: square.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: square.transpose(Image.Transpose.TRANSPOSE),
        6: square.transpose(Image.Transpose.ROTATE_90),
        7: square.transpose(Image.Transpose.TRANSVERSE),
        8: square.transpose(Image.Transpose.ROTATE_270),
    }[mark]
    exif = Image.Exif()
    exif[0x0112] = mark
    assert (decode(file(stored, exif=exif), 16) == NOISE[:16].transpose(2, 0, 1)).all()


def test_hidden_files_are_no_images(tmp_path):
    folder = data_set(tmp_path / "set", one={"a.png": PLAIN, "._a.png": b"what macOS adds"})
    assert [name for name, _ in encoded(folder / "one")] == ["a.png"]
    with tarfile.open(tmp_path / "one.tar", "w") as archive:
        archive.add(folder / "one", "one")
    assert [name for name, _ in encoded(tmp_path / "one.tar")] == ["a.png"]


def test_an_image_too_large_to_be_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"1 of 1 files of .* the first is 'a.png' .*decompression bomb"):
        pack(data_set(tmp_path / "set", one={"a.png": PLAIN}), 16, tmp_path / "pack")


PACK = """import sys
from pathlib import Path
from replication.data.packs import pack
pack(Path(sys.argv[1]), 16, Path(sys.argv[2]))"""


def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path):
    """The process stops itself by SIGKILL while it writes."""
    folder = data_set(tmp_path / "set", one={"a.png": PLAIN}, two={"b.png": PLAIN})
    kill = (
        "import os, numpy, signal; save = numpy.save\n"
        "def half(path, array): save(path, array); os.kill(os.getpid(), signal.SIGKILL)\n"
        "numpy.save = half\n"
    )
    done = subprocess.run([sys.executable, "-c", kill + PACK, folder, tmp_path / "pack"], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    (left,) = {p.name for p in tmp_path.iterdir()} - {"set"}
    assert left.startswith(".pack.") and (tmp_path / left / "images.npy").is_file()
    with pytest.raises(ValueError, match="no pack at"):
        open_pack(tmp_path / "pack")
    assert len(open_pack(pack(folder, 16, tmp_path / "pack")).images) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"set", "pack"}


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        theirs = tmp_path / f".pack.{platform.node()}.{other.pid}"
        elsewhere = tmp_path / ".pack.another-machine.1"
        for path in (theirs, elsewhere):
            path.mkdir()
        with whole(tmp_path / "pack"):
            pass
        assert theirs.is_dir() and elsewhere.is_dir() and (tmp_path / "pack").is_dir()
    finally:
        other.communicate(b"\n")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    """The system refuses files above 4 kB, as it would on a full disk."""
    folder = data_set(tmp_path / "set", one={f"{i}.png": PLAIN for i in range(9)})
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    done = subprocess.run(
        [sys.executable, "-c", limit + PACK, folder, tmp_path / "pack"], capture_output=True, text=True
    )
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"OSError: no pack can be written to {tmp_path / 'pack'}: ") and said.endswith(
        "it needs 0.0 MB"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_pack_that_cannot_be_placed_is_one_sentence(tmp_path):
    folder = data_set(tmp_path / "set", one={"a.png": PLAIN})
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="no pack can be written to"):
        pack(folder, 16, tmp_path / "file" / "pack")


def test_command_packs_a_folder_and_names_what_is_allowed(tmp_path, home, capsys):
    data_set(tmp_path / "my set", one={"a.png": PLAIN, "cut.png": PLAIN[:99]}, two={"ä 葉.png": PLAIN})
    command = ["data", "pack", f"folder:{tmp_path / 'my set'}", "--pixels", "16"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "1 of 2 files" in said and "'cut.png'" in said and "--skip-broken" in said and said.count("\n") == 1
    assert not home.exists()
    assert main([*command, "--skip-broken"]) == 0
    assert capsys.readouterr().out.endswith("; 1 broken files left out\n")
    assert len(packed(f"folder:{tmp_path / 'my set'}", 16).images) == 2, "the pack without the broken file is used"
    assert main(["data", "pack", "leaves"]) == 2
    assert "allowed are plantvillage, cracks, skin, cifar10 and folder:PATH" in capsys.readouterr().err


def test_a_set_that_is_not_here_says_how_to_get_it(tmp_path, home, capsys):
    for command in (["data", "pack", "cracks"], ["run", "base", "--settings", "cracks", "--networks", "simple_cnn"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert f"no data set at {home / 'data' / 'cracks'}" in said and said.count("\n") == 1
        assert "`replication data fetch cracks` gets it, or REPLICATION_DATA or --data PATH names the folder" in said
    part = home / "data" / ".downloads" / "cracks" / "cracks.rar.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(2_000_000))
    assert main(["data", "pack", "cracks"]) == 2
    assert "`replication data fetch cracks` resumes it (2.0 MB are here)" in capsys.readouterr().err
    assert main(["data", "list", "--data", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == (
        f"replication: --data {tmp_path / 'nowhere'} is not a folder: it should hold one folder per data set, such as cracks/\n"
    )


def test_a_set_is_found_where_it_is_given_or_was_fetched(tmp_path, home, monkeypatch):
    given = tmp_path / "given"
    cracks = DATA_SETS["cracks"]
    assert cracks.folder() == home / "data" / "cracks"
    monkeypatch.setenv("REPLICATION_DATA", str(given))
    assert cracks.folder() == given / "cracks", "where the next fetch puts it"
    (home / "data" / "cracks").mkdir(parents=True)
    assert cracks.folder() == home / "data" / "cracks"
    (given / "cracks").mkdir(parents=True)
    assert cracks.folder() == given / "cracks"


def test_a_set_is_packed_at_first_use_and_again_when_it_changes(tmp_path, home, monkeypatch):
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path))
    data_set(tmp_path / "cracks", negative={"a.png": PLAIN}, positive={"b.png": PLAIN})
    first = packed("cracks", 16)
    assert first.classes == ("negative", "positive") and first.licence == "CC BY 4.0"
    written = (pack_folder("cracks", 16) / "pack.json").stat().st_mtime_ns
    assert packed("cracks", 16).digest == first.digest
    assert (pack_folder("cracks", 16) / "pack.json").stat().st_mtime_ns == written
    data_set(tmp_path / "cracks", negative={"c.png": PLAIN})
    assert len(packed("cracks", 16).images) == 3
    shutil.rmtree(tmp_path / "cracks")
    assert len(packed("cracks", 16).images) == 3, "a pack is enough"


def test_list_says_what_is_here_and_what_is_not(tmp_path, home, capsys):
    data_set(tmp_path / "cracks", negative={"a.png": PLAIN, "b c.png": PLAIN}, positive={"ä.png": PLAIN})
    assert main(["data", "pack", "cracks", "--pixels", "16", "--data", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["data", "list", "--data", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for text in (
        f"cracks: 3 images of 2 classes, 0.0 MB in {tmp_path / 'cracks'}\n  images: negative 2, positive 1\n"
        "  not as listed: negative 2 of 2500, positive 1 of 1500\n",
        f"packed at 16 pixels (digest {packed('cracks', 16).digest})",
        "settings: cracks\n",
        "licence: CC BY 4.0",
        "Özgenel",
        f"skin: not here: no data set at {tmp_path / 'skin'}",
        "`replication data fetch skin` gets it",
    ):
        assert text in said, text


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("REPLICATION_DATA"), reason="REPLICATION_DATA is not set")
def test_real_cracks_pack(tmp_path):
    folder = Path(os.environ["REPLICATION_DATA"]) / "cracks"
    if not folder.is_dir():
        pytest.skip(f"no cracks below REPLICATION_DATA ({folder})")
    source = open_pack(pack(folder, 32, tmp_path / "pack"))
    assert list(classes(folder)) == ["negative", "positive"]
    assert np.bincount(source.labels).tolist() == [2500, 1500]
    assert (source.images.reshape(4000, -1).std(axis=1) > 0).all()
