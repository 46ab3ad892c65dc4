"""Packs: every kind of image decodes, every kind of bad input is one sentence, nothing is left half written."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from replication.cli import main
from replication.data.packs import classes, decode, encoded, group, open_pack, pack

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (24, 16, 3), dtype=np.uint8)


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
    with pytest.raises(ValueError, match=r"2 of 3 files of .*one are no whole images, the first is 'cut.png'"):
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


@pytest.mark.parametrize("name, other, together", [
    ("0055___RS_HL 5672.jpg", "99aa___RS_HL 5679.jpg", True), ("0055___RS_HL 5672.jpg", "99aa___RS_HL 5680.jpg", False),
    ("0055___RS_HL 5672.jpg", "99aa___JR_HL 5672.jpg", False), ("00001.jpg", "00002.jpg", False),
    ("a___GHLB Leaf 12.1.jpg", "b___GHLB Leaf 12.2.jpg", False), ("a___RS_HL 12 copy.jpg", "b___RS_HL 13.jpg", True),
])  # fmt: skip
def test_neighbouring_photos_form_a_group(name, other, together):
    assert (group(name) == group(other)) == together


def test_command_packs_a_folder_and_names_what_is_allowed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPLICATION_STORE", str(tmp_path / "home" / "store.sqlite"))
    data_set(tmp_path / "my set", one={"a.png": PLAIN}, two={"b.png": PLAIN})
    assert main(["data", "pack", f"folder:{tmp_path / 'my set'}", "--pixels", "16"]) == 0
    assert "2 images of 2 classes" in capsys.readouterr().out
    assert main(["data", "pack", "leaves"]) == 2
    assert "allowed are plantvillage, cracks, skin, cifar10 and folder:PATH" in capsys.readouterr().err
    monkeypatch.delenv("REPLICATION_DATA", raising=False)
    assert main(["data", "pack", "cracks"]) == 2
    assert "REPLICATION_DATA is not set" in capsys.readouterr().err


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
