"""Archives are read to their end: every flip of a header, every cut and every bomb is an error that names the place."""

import gzip
import io
import os
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

from replication.data import archives
from replication.data.archives import contents, members
from replication.data.folders import LARGE, Listing, _archive, classes, encoded

RNG = np.random.default_rng(0)


def png(side=8):
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {f"one/{i:02}.png": png() for i in range(30)}


def tar(path, files=None, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in (files or FILES).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_members_and_contents_are_tarfiles(tmp_path, mode):
    path = tar(tmp_path / "one.tar", mode=mode)
    found = members(path)
    assert [m.name for m in found] == list(FILES)
    turned = found[::-1]
    stored = [(turned[i].name, c) for i, c in contents(path, turned)]
    asked = [(turned[i].name, c) for i, c in contents(path, turned, as_stored=False)]
    assert stored == list(FILES.items()) and asked == stored[::-1]
    assert [c for _, c in encoded(path)] == list(FILES.values())


def test_every_flip_in_a_header_and_in_the_end_is_noticed(tmp_path):
    path = tar(tmp_path / "one.tar")
    whole = path.read_bytes()
    headers = [m.offset - tarfile.BLOCKSIZE for m in members(path)]
    last = members(path)[-1]
    end = last.offset + (last.size + 511) // 512 * 512
    for start in (*headers, end):
        for at in RNG.choice(512, 4, replace=False) + start:
            broken = bytearray(whole)
            broken[at] ^= 1 << RNG.integers(8)
            path.write_bytes(broken)
            with pytest.raises(ValueError, match=rf"archive {path} cannot be read to its end"):
                members(path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_every_cut_is_noticed(tmp_path, mode):
    path = tar(tmp_path / "one.tar", mode=mode)
    whole = path.read_bytes()
    last = members(path)[-1]
    most = last.offset + last.size if mode == "w" else len(whole) - 1
    for length in (0, *RNG.integers(1, most, 40), most):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"archive {path} cannot be read to its end"):
            members(path)


def test_every_flip_in_a_compressed_archive_is_noticed_or_changes_nothing(tmp_path):
    path = tar(tmp_path / "one.tar.gz", mode="w:gz")
    whole, noticed = path.read_bytes(), 0
    for at in RNG.choice(len(whole), 200, replace=False):
        broken = bytearray(whole)
        broken[at] ^= 1 << RNG.integers(8)
        path.write_bytes(broken)
        try:
            found = members(path)
            assert {found[i].name: c for i, c in contents(path, found)} == FILES, "the time or name in gzip's header"
        except ValueError as error:
            assert str(error).startswith(f"archive {path} cannot be read to its end")
            noticed += 1
    assert noticed > 190


def test_an_error_names_the_position_and_how_many_entries_there_were(tmp_path):
    path = tar(tmp_path / "one.tar")
    at = members(path)[9].offset - tarfile.BLOCKSIZE
    broken = bytearray(path.read_bytes())
    broken[at] ^= 1
    path.write_bytes(broken)
    with pytest.raises(ValueError, match=rf"after 9 entries, but byte {at} is no padding"):
        members(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SLACK", 1 << 20)
    path = tmp_path / "one.tar.gz"
    entry = tarfile.TarInfo("one/a.png")
    entry.size = 1 << 34
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(entry.tobuf())
        for _ in range(64):
            file.write(bytes(1 << 20))
    began = time.perf_counter()
    with pytest.raises(ValueError, match="it unpacks to more than .* MB, over 50 times its size"):
        members(path)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_device_is_no_archive(tmp_path, kind):
    path = tmp_path / "one.tar"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="it is a device, a pipe or a link that leads nowhere"):
        members(path)


@pytest.mark.parametrize("other", ["good.tar", "good.tar.gz", "good.tgz", "good.TAR"])
def test_a_class_that_is_there_twice_is_refused(tmp_path, other):
    (tmp_path / "good").mkdir()
    tar(tmp_path / other)
    with pytest.raises(ValueError, match=rf"class 'good' is there twice, as (good|{other}) and as (good|{other}) in"):
        classes(tmp_path)


def test_an_archive_in_capitals_is_a_class_and_a_huge_image_is_left_out_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("replication.data.folders.MOST", 1000)
    tar(tmp_path / "good.TAR", {"a.png": png(), "b.png": bytes(2000)})
    assert list(classes(tmp_path)) == ["good"]
    found = Listing()
    _archive("good", tmp_path / "good.TAR", found)
    assert [photo.name for photo in found.photos] == ["a.png"] and found.left_out == {LARGE: ["good/b.png"]}
