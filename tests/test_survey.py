"""One's own images: what is said of them, which are left out, kept together or refused, and the sizes they last for."""

import os
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from PIL import Image

from replication import cli
from replication.data.decoding import Depth, decode
from replication.data.fingerprints import similar
from replication.data.folders import own, stamp
from replication.data.loading import load
from replication.data.look import joined, look
from replication.data.packs import open_pack, pack, pack_folder, packed
from replication.data.settings import Setting, setting
from replication.data.sizes import fitted, sizes
from replication.data.sources import Source
from replication.data.splits import data_digest, indices, split
from replication.data.survey import survey
from replication.run import Run

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REPLICATION_DATA", "")
    yield
    for cached in (setting, load, data_digest):
        cached.cache_clear()


def photo(size=64):
    noise = RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)


def saved(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def folder(path, **counts):
    for label, n in counts.items():
        for i in range(n):
            saved(photo(), path / label / f"{i:04}.png")
    return path


def said(path):
    return "\n".join(survey(path).lines())


# --- What is there, and what is left out ------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix, kind", [(".gif", "GIF"), (".jfif", "JPEG"), (".jp2", "JPEG2000"), (".ppm", "PPM"), ("", "PNG")]
)
def test_every_kind_that_can_be_read_is_read(tmp_path, suffix, kind):
    folder(tmp_path / "set", a=1, b=1)
    image = photo()
    saved(image, tmp_path / "set" / "a" / f"x{suffix}", format=kind)
    found = survey(tmp_path / "set")
    assert found.counts == {"a": 2, "b": 1} and not found.left_out and not found.broken
    seen = decode((tmp_path / "set" / "a" / f"x{suffix}").read_bytes(), 32).astype(int)
    assert np.abs(seen - np.asarray(image.resize((32, 32), Image.Resampling.BOX)).transpose(2, 0, 1)).mean() < 12


def test_of_an_animation_the_first_picture_counts(tmp_path):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode((tmp_path / "a.gif").read_bytes(), 16).mean((1, 2)).tolist() == [255, 0, 0]


def test_everything_left_out_is_said(tmp_path):
    path = folder(tmp_path / "set", a=2, b=2)
    saved(photo(), path / "a" / "@eaDir" / "x.png")
    saved(photo(), path / "a" / ".cache" / "x.png")
    (path / "a" / "notes").write_text("no image")
    (path / "a" / "more.zip").write_bytes(b"PK")
    (path / "b" / "table.txt").write_text("x")
    (path / "b" / "cut.png").write_bytes((path / "b" / "0000.png").read_bytes()[:200])
    os.mkfifo(path / "b" / "pipe.png")
    (path / "b" / "zero.png").symlink_to("/dev/zero")
    found = survey(path)
    assert found.counts == {"a": 2, "b": 2} and list(found.broken) == ["b/cut.png"]
    assert {reason: len(names) for reason, names in found.left_out.items()} == {
        "hidden, or in a hidden folder or one of previews": 2,
        "without a suffix, and no image": 1,
        "an archive inside a class, which is not opened": 1,
        "no image by its suffix .txt": 1,
        "a device, a pipe or a link that leads nowhere": 2,
    }
    for reason in (*found.left_out, "no whole images: 1 (b/cut.png)", "a: 2 images, majority", "b: 2 images, minority"):
        assert reason in said(path)


@pytest.mark.parametrize("split", [False, True])
def test_what_lies_beside_the_classes_is_said(tmp_path, split):
    path, prefix = tmp_path / "set", "train/" if split else ""
    for part in ("train", "test") if split else ("",):
        folder(path / part, a=2, b=2)
    there = path / prefix
    saved(photo(), there / "stray.png")
    saved(photo(), there / ".cache" / "x.png")
    (there / "c.zip").write_bytes(b"PK")
    (there / "README.txt").write_text("x")
    assert survey(path).left_out == {
        "hidden, or in a hidden folder or one of previews": (f"{prefix}.cache/",),
        "beside the classes, in none of them": (f"{prefix}README.txt", f"{prefix}stray.png"),
        "an archive of a kind that is not opened (.tar.gz, .tgz, .tar are)": (f"{prefix}c.zip",),
    }


def test_sides_are_those_of_the_files(tmp_path):
    path = folder(tmp_path / "set", a=1, b=1)
    saved(photo(512).crop((0, 0, 512, 300)), path / "a" / "large.jpg")  # which is decoded at a fraction of it
    assert survey(path).sides == (64, 512) and "sides: 64 to 512 pixels" in said(path)


def test_a_linked_folder_keeps_its_images_and_a_circle_ends(tmp_path):
    path = folder(tmp_path / "set", a=2, b=2)
    folder(tmp_path / "else", where=3)
    (path / "a" / "more").symlink_to(tmp_path / "else" / "where")
    (path / "a" / "circle").symlink_to(path / "a")
    assert survey(path).counts == {"a": 5, "b": 2}
    before = len(packed(f"folder:{path}", 16).images)
    saved(photo(), tmp_path / "else" / "where" / "new.png")
    assert (before, len(packed(f"folder:{path}", 16).images)) == (7, 8), "a new one in it is noticed"


def test_masks_beside_photographs_are_left_out_and_others_flagged(tmp_path):
    path = folder(tmp_path / "set", a=3, b=2)
    for name in ("0000_mask.png", "0001-Seg.png", "alone_mask.png"):
        saved(Image.new("L", (16, 16)), path / "a" / name)
    found = survey(path)
    assert found.counts["a"] == 4 and found.left_out["a mask beside its photograph"] == (
        "a/0000_mask.png",
        "a/0001-Seg.png",
    )
    assert found.masks == found.constant == ("a/alone_mask.png",)
    assert "masks by their names" in said(path) and "of one colour" in said(path)


@pytest.mark.parametrize(
    "values, black, white",
    [
        (np.uint16([0, 4095]), 0, 4095),
        (np.uint16([0, 1000]), 0, 1023),
        (np.uint16([0, 65535]), 0, 65535),
        (np.float32([0, 1]), 0, 1),
        (np.float32([0, 200]), 0, 255),
        (np.float32([-5, 5]), -5, 5),
    ],
)
def test_deep_images_are_shown_by_their_range(tmp_path, values, black, white):
    path = folder(tmp_path / "set", a=1, b=1)
    ramp = np.linspace(values[0], values[1], 256).reshape(16, 16).astype(values.dtype)
    saved(Image.fromarray(ramp), path / "a" / "deep.tif")
    saved(Image.fromarray((ramp / 2).astype(values.dtype)), path / "a" / "dim.tif")
    found = survey(path)
    assert found.deep == {Depth(black, white): ("a/deep.tif", "a/dim.tif")}
    assert f"shown from {black:g} to {white:g}" in said(path)
    deep, dim = packed(f"folder:{path}", 16).images[1:3].astype(float)
    assert np.abs(deep[0] - (ramp.astype(float) - black) * 255 / (white - black)).max() <= 1
    assert np.abs(dim[0] - ((ramp / 2).astype(values.dtype) - black) * (255 / (white - black))).max() <= 1


def test_every_kind_of_deep_image_has_its_own_range(tmp_path):
    path, ramp = folder(tmp_path / "set", a=1, b=1), np.linspace(0, 1, 256).reshape(16, 16)
    for name, image in (("float", ramp.astype(np.float32)), ("twelve", (ramp * 4095).astype(np.uint16))):
        saved(Image.fromarray(image), path / "a" / f"{name}.tif")
    assert survey(path).deep == {Depth(0, 1): ("a/float.tif",), Depth(0, 4095): ("a/twelve.tif",)}
    shown = packed(f"folder:{path}", 16).images[1:3].astype(float)
    assert np.abs(shown - 255 * ramp).max() <= 1, "none is black beside the other"


@pytest.mark.parametrize("content, words", [(b"", "it is empty"), (b"no image", "it does not begin as an image does")])
def test_why_a_file_is_no_image_is_said_in_words(tmp_path, content, words):
    path = folder(tmp_path / "set", a=1, b=1)
    (path / "a" / "odd.png").write_bytes(content)
    assert survey(path).broken == {"a/odd.png": words}


def test_a_deep_image_with_values_that_are_no_numbers_is_broken(tmp_path):
    path = folder(tmp_path / "set", a=1, b=1)
    saved(Image.fromarray(np.full((8, 8), np.nan, np.float32)), path / "a" / "nan.tif")
    assert survey(path).broken == {"a/nan.tif": "it holds values that are not numbers"}


def test_the_range_of_deep_images():
    assert Depth.of(0, 255, True) == Depth(0, 255) and Depth.of(3, 300, True) == Depth(0, 1023)
    assert Depth.of(-1, 70000, True) == Depth(-1, 70000) and Depth.of(7, 7, False) == Depth(0, 255)


# --- The same picture twice -------------------------------------------------------------------------


def test_the_same_picture_is_found_however_it_is_turned_and_saved(tmp_path):
    path = folder(tmp_path / "set", a=40, b=40)
    first = Image.open(path / "a" / "0000.png")
    shutil.copy(path / "a" / "0001.png", path / "a" / "copy.png")
    for i, way in enumerate(Image.Transpose):
        saved(first.transpose(way), path / "a" / f"turned{i}.jpg", quality=85)
    saved(first.resize((48, 48)), path / "a" / "small.png")
    found = survey(path)
    assert found.identical == (("a/0001.png", "a/copy.png"),)
    assert {name for pair in found.near for name in pair} == {
        "a/0000.png",
        "a/small.png",
        *(f"a/turned{i}.jpg" for i in range(7)),
    }
    source = packed(f"folder:{path}", 16)
    names = [photo.name for photo in own(path).photos]
    of = {name: source.groups[i] for i, name in enumerate(names) if source.labels[i] == 0}
    assert of["0001.png"] == of["copy.png"] != of["0000.png"]
    assert {of[name] for name in ("0000.png", "small.png", "turned0.jpg", "turned6.jpg")} == {of["0000.png"]}
    assert len(set(of.values())) == 40 and "kept in one part" in said(path)


def test_blocks_find_the_pairs_that_all_at_once_find():
    images = np.array([np.asarray(photo(32).convert("F")) for _ in range(30)])
    images = np.concatenate([images, images[:5, ::-1] + 1, images[3:4]])
    assert similar(images) == similar(images, block=7) != []
    assert similar(images) == sorted([*((i, 30 + i) for i in range(5)), (3, 35), (33, 35)])
    assert similar(images[:0]) == [] == similar(np.full((3, 32, 32), 5.0))


def test_joined_groups():
    assert joined(np.array([0, 0, 1, 2, 3]), [(0, 2), (3, 4)]).tolist() == [0, 0, 0, 1, 1]
    assert joined(np.arange(3), []).tolist() == [0, 1, 2]


def test_a_picture_in_two_classes_is_said_and_left_out(tmp_path):
    path = folder(tmp_path / "set", a=300, b=60)
    shutil.copy(path / "a" / "0007.png", path / "b" / "same.png")
    assert survey(path).contradictory == (("a/0007.png", "b/same.png"),) and "the same picture in two classes" in said(
        path
    )
    source, s = packed(f"folder:{path}", 16), setting(f"folder:{path}@16")
    s = fitted(source, s)
    drawn = [
        i for seed in range(20) for part in indices(source, s, 100, 5, seed).values() for c in part for i in c.tolist()
    ]
    assert not {7, 300 + 60} & set(drawn) and len(set(drawn)) > 300


def test_twins_never_part(tmp_path):
    path = folder(tmp_path / "set", a=200, b=40)
    for i in range(100):
        shutil.copy(path / "a" / f"{i:04}.png", path / "a" / f"twin{i:04}.png")
    run = Run(setting=f"folder:{path}@16", n_majority=100, n_minority=5)
    for seed in range(5):
        parts = split(Run(**{**run.changed(), "seed": seed}))
        seen = [{image.tobytes() for image in getattr(parts, part).images} for part in ("train", "validation", "test")]
        assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


# --- The owner's split ------------------------------------------------------------------------------


def test_train_and_test_folders_are_a_split(tmp_path):
    path = tmp_path / "set"
    for part, a, b in (("train", 200, 40), ("val", 30, 12), ("test", 30, 25)):
        folder(path / part, a=a, b=b)
    found = survey(path)
    assert found.counts == {"a": 260, "b": 77} and found.parts["b"] == {"train": 40, "validation": 12, "test": 25}
    name = f"folder:{path}@16"
    source, photos = packed(f"folder:{path}", 16), own(path).photos
    chosen = sizes(source, setting(name))
    assert (chosen.n_majority, chosen.test, chosen.validation) == (
        200,
        25,
        (30, 12),
    ) and "your own split" in chosen.sentence
    parts = indices(source, fitted(source, setting(name)), 200, 5, seed=3)
    assert all(photos[i].part == part for part, of in parts.items() for numbers in of for i in numbers)
    assert (path / "train" / "a").is_dir() and data_digest(name) == split(Run(setting=name, n_majority=200)).digest


def test_a_picture_in_two_parts_of_a_split_is_used_in_the_later_alone(tmp_path):
    path = tmp_path / "set"
    for part, a, b in (("train", 160, 40), ("val", 30, 12), ("test", 30, 25)):
        folder(path / part, a=a, b=b)
    for number, (one, other) in enumerate((("test", "train"), ("test", "val"), ("val", "train"))):
        Image.open(path / one / "a" / f"{number:04}.png").save(path / other / "a" / f"leak{number}.jpg", quality=90)
    shutil.copy(path / "test" / "a" / "0000.png", path / "train" / "a" / "same.png")
    found = survey(path)
    assert len(found.crossing) == 4 and "used in the later of train, val and test alone: 4" in said(path)
    assert "kept in one part" not in said(path)
    source, photos, s = packed(f"folder:{path}", 16), own(path).photos, setting(f"folder:{path}@16")
    drawn = indices(source, fitted(source, s), 160, 5, seed=3)
    of = {part: [photos[i].name for numbers in found for i in numbers] for part, found in drawn.items()}
    assert not [name for name in of["train"] + of["validation"] if "leak" in name or "same" in name]
    assert len(of["train"]) == 165 and (source.parts == -1).sum() == 4


def test_without_val_the_validation_images_come_from_train(tmp_path):
    path = tmp_path / "set"
    for part, a, b in (("train", 300, 60), ("test", 30, 25)):
        folder(path / part, a=a, b=b)
    source, photos, s = packed(f"folder:{path}", 16), own(path).photos, setting(f"folder:{path}@16")
    s, n = fitted(source, s), sizes(source, s)
    parts = indices(source, s, n.n_majority, n.n_minority, seed=3)
    drawn = {part: {int(i) for numbers in of for i in numbers} for part, of in parts.items()}
    assert not drawn["train"] & drawn["validation"] and len(drawn["validation"]) == sum(s.validation)
    assert {photos[i].part for i in drawn["train"] | drawn["validation"]} == {"train"}


@pytest.mark.parametrize(
    "layout, words",
    [
        ({"train": 1, "test": 1}, "look like a split, but test/ has no folder per class"),
        (
            {"train/a": 1, "train/b": 1, "test/a": 1},
            "class 'b' is not in both train/ and test/|class 'b' is not in both test/ and train/",
        ),
        ({"train/a": 1, "test/a": 1, "cats": 1}, "beside 'cats'"),
        ({"train/a": 1, "val/a": 1}, "a split has train/ and test/"),
    ],
)
def test_half_a_split_is_refused(tmp_path, layout, words):
    for name, n in layout.items():
        folder(tmp_path / "set", **{name: n})
    with pytest.raises(ValueError, match=words):
        survey(tmp_path / "set")


def test_a_table_of_files_and_labels_is_a_set(tmp_path):
    folder(tmp_path / "pictures, all of them", x=6)
    files = sorted((tmp_path / "pictures, all of them" / "x").iterdir())
    rows = [
        f'"pictures, all of them/x/{f.name}",{"good" if i < 4 else "bad"},{"train" if i % 2 else "test"}'
        for i, f in enumerate(files)
    ]
    table = tmp_path / "my table.csv"
    table.write_text("file,label,split\n" + "\n".join(rows))
    assert survey(table).counts == {"good": 4, "bad": 2} and survey(table).parts["bad"] == {"train": 1, "test": 1}
    source = packed(f"folder:{table}", 16)
    assert source.classes == ("bad", "good") and source.parts.tolist() == [2, 0, 2, 0, 2, 0]
    before = source.digest
    table.write_text(table.read_text().replace(",good,test", ",good,train"))
    assert packed(f"folder:{table}", 16).digest != before
    table.write_text("file;label\n" + "".join(f"{f};{'bad' if i % 2 else 'good'}\n" for i, f in enumerate(files)))
    assert set(survey(table).counts) == {"bad", "good"}  # as spreadsheets write where the comma is in numbers
    table.write_text("file,label\nx.png,bad", encoding="utf-16")
    with pytest.raises(ValueError, match="is not text in UTF-8 .*: save the table as CSV in UTF-8"):
        survey(table)
    for text, words in (
        ("name,label\nx,y", "no column 'file'"),
        ("file,label\nno.png,y", "no such file"),
        ("file,label\n,y", "no file in line 2"),
        ("file,label,split\n/dev/zero,y,train", "no such file"),
        (f'file,label,split\n"{files[0]}",y,later', "split 'later' in line 2"),
        (f'file,label\n"{files[0]}",y\n"{files[0]}",z', "in lines 2 and 3"),
    ):
        table.write_text(text)
        with pytest.raises(ValueError, match=words):
            survey(table)


# --- Sizes and names --------------------------------------------------------------------------------


def made(a, b, groups=None, own=True):
    labels = np.repeat([0, 1], [a, b])
    groups = np.arange(a + b) if groups is None else groups
    s = Setting("own", "folder:own" if own else "own", largest=True, test=150, validation=(150, 75))
    return Source("own", np.zeros((a + b, 1, 1, 1), np.uint8), labels, groups, ("a", "b"), "", "", ""), s


@pytest.mark.parametrize(
    "a, b, expected",
    [
        (1300, 235, (1000, 10, 150, (150, 75))),
        (5000, 5000, (1000, 10, 150, (150, 75))),
        (952, 600, (734, 7, 109, (109, 54))),
        (174, 35, (134, 5, 20, (20, 10))),
        (5000, 60, (1000, 10, 33, (33, 16))),
    ],
)
def test_sizes_follow_the_data(a, b, expected):
    found = sizes(*made(a, b))
    assert (found.n_majority, found.n_minority, found.test, found.validation) == expected
    words = (
        "the sizes of the book"
        if expected[0] == 1000 and expected[2] == 150
        else f"scaled down to {a} images of a and {b}"
    )
    assert words in found.sentence and f"{expected[0]} images of the majority" in found.sentence


def test_a_folder_too_small_for_the_book_is_told_how_to_be_tried(tmp_path):
    path = folder(tmp_path / "my, set", a=200, b=40)
    with pytest.raises(ValueError, match=f"at most .* are allowed; `replication try '{path}'` scales them down"):
        split(Run(setting=f"folder:{path}@16"))


@pytest.mark.parametrize("a, b", [(173, 35), (1000, 34), (50, 49)])
def test_too_few_images_state_the_least(a, b):
    with pytest.raises(ValueError, match=r"too few: needed are at least 100 of the majority and 5 of the minority"):
        sizes(*made(a, b))


@effort(max_examples=150, deadline=None)
@given(a=st.integers(174, 3000), b=st.integers(35, 400), most=st.integers(1, 9), seed=st.integers(0, 9))
def test_every_size_chosen_can_be_drawn(a, b, most, seed):
    a = max(a, b)
    rng = np.random.default_rng(seed)
    source, s = made(a, b, np.concatenate([rng.integers(0, a // most, a), a + rng.integers(0, b // most + 1, b)]))
    try:
        n = sizes(source, s)
    except ValueError:
        assert min(a - 174, b - 35) < 60
        return
    parts = indices(source, fitted(source, s), n.n_majority, n.n_minority, seed)
    assert [len(c) for part in ("train", "test", "validation") for c in parts[part]] == [
        n.n_majority,
        n.n_minority,
        n.test,
        n.test,
        *n.validation,
    ]


def test_sizes_of_published_sets_are_left_alone():
    s = setting("cracks")
    assert fitted(None, s) is s


def test_a_folder_has_one_name_however_it_is_spelt(tmp_path, monkeypatch):
    path = folder(tmp_path / "my set, the first", a=174, b=35)
    (tmp_path / "link").symlink_to(path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(path / "a")
    spelt = [f"folder:{p}" for p in (path, f"{path}/", "..", "../../link", "~/link", f"{path}/./b/..")]
    assert {setting(name).name for name in spelt} == {f"folder:{path}"}
    assert {setting(f"{name}@16").name for name in spelt} == {f"folder:{path}@16"}
    assert len({data_digest(f"{name}@16") for name in spelt}) == 1
    shutil.copytree(path, tmp_path / "copy")
    assert data_digest(f"folder:{tmp_path / 'copy'}@16") == data_digest(f"{spelt[0]}@16"), "the content counts"
    assert len(list((tmp_path / "home" / "packs").iterdir())) == 2


def test_a_folder_whose_name_looks_like_a_size_is_a_folder(tmp_path):
    path = folder(tmp_path / "set@64", a=1, b=1)
    assert setting(f"folder:{path}").source == f"folder:{path}" and setting(f"folder:{path}").pixels == 32
    assert setting(f"folder:{path}@48").pixels == 48


def test_the_majority_can_be_named(tmp_path):
    path = folder(tmp_path / "set", a=3, b=5)
    source = packed(f"folder:{path}", 16)
    assert setting(f"folder:{path}").class_map(0, source) == [[1], [0]]
    named = setting(f"folder:{path}::a@16")
    assert named.class_map(0, source) == [[0], [1]] and named.name == f"folder:{path}::a@16"
    assert setting(named.name) == named
    with pytest.raises(ValueError, match="needs class 'c': the data set has a, b"):
        setting(f"folder:{path}::c").class_map(0, source)


# --- Packs of one's own -----------------------------------------------------------------------------


def test_a_change_at_equal_size_is_noticed(tmp_path):
    path = folder(tmp_path / "set", a=2, b=2)
    before = packed(f"folder:{path}", 16)
    image = Image.fromarray(np.asarray(Image.open(path / "a" / "0000.png"))[::-1])
    saved(Image.open(path / "a" / "0000.png"), path / "a" / "0000.bmp")
    (path / "a" / "0000.png").unlink()
    middle = packed(f"folder:{path}", 16).digest
    size = (path / "a" / "0000.bmp").stat().st_size
    saved(image, path / "a" / "0000.bmp")
    assert (path / "a" / "0000.bmp").stat().st_size == size and packed(f"folder:{path}", 16).digest != middle
    assert before.digest != packed(f"folder:{path}", 16).digest


def test_every_flip_in_a_pack_is_one_sentence(tmp_path):
    where = pack(folder(tmp_path / "set", a=2, b=2), 16, tmp_path / "pack")
    digest = open_pack(where).digest
    for file in sorted(where.iterdir()):
        whole = file.read_bytes()
        for at in RNG.choice(len(whole), 25, replace=False):
            broken = bytearray(whole)
            broken[at] ^= 1 << RNG.integers(8)
            file.write_bytes(broken)
            if file.name == "pack.json" and not whole[at : at + 1].strip():
                continue  # a space may become another one
            with pytest.raises(ValueError, match=r"damaged.*`replication data pack` makes it again, or delete it$"):
                open_pack(where)
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match="damaged"):
            open_pack(where)
        file.write_bytes(whole)
    assert open_pack(where).digest == digest
    (where / "labels.npy").unlink()
    with pytest.raises(ValueError, match="damaged"):
        open_pack(where)
    assert open_pack(pack(tmp_path / "set", 16, where)).digest == digest, "packing again mends"


@pytest.mark.parametrize("file", ["labels.npy", "pack.json"])
def test_a_damaged_pack_names_the_whole_command_that_makes_it_again(tmp_path, file):
    name = f"folder:{folder(tmp_path / 'my, set', a=2, b=2)}"
    packed(name, 16)
    where = pack_folder(name, 16)
    (where / file).write_bytes((where / file).read_bytes()[:-5])
    with pytest.raises(ValueError, match="damaged") as error:
        packed(name, 16)
    command = shlex.split(re.search("`replication (.*)` makes it again", str(error.value))[1])
    assert cli.main(command) == 0 and len(packed(name, 16).images) == 4


def test_list_goes_on_past_a_damaged_pack(tmp_path):
    from replication.data.inventory import report

    with pytest.warns(UserWarning, match="cracks lacks listed images"):
        folder(tmp_path / "home" / "data" / "cracks", negative=2, positive=2)
        where = [tmp_path / "home" / "packs" / f"cracks-{pixels}" for pixels in (16, 24)]
        for pixels in (16, 24):
            packed("cracks", pixels)
    (where[0] / "images.npy").write_bytes(b"")
    lines = "\n".join(report())
    assert (
        f"{where[0] / 'images.npy'} has changed" in lines
        and "packed at 24 pixels" in lines
        and "cifar10: not here" in lines
    )


def test_a_pack_without_sums_is_known_by_its_digest(tmp_path):
    import json

    where = pack(folder(tmp_path / "set", a=2, b=2), 16, tmp_path / "pack")
    about = json.loads((where / "pack.json").read_text())
    del about["sums"], about["sum"]
    (where / "pack.json").write_text(json.dumps(about))
    assert open_pack(where).digest == about["digest"]
    labels = np.load(where / "labels.npy")
    np.save(where / "labels.npy", labels[::-1])
    with pytest.raises(ValueError, match="its digest is not"):
        open_pack(where)


@pytest.mark.parametrize("pixels", [7, 5000, 10**9])
def test_absurd_sizes_are_one_sentence(tmp_path, pixels):
    with pytest.raises(ValueError, match="8 to 1024 are allowed"):
        pack(folder(tmp_path / "set", a=1, b=1), pixels, tmp_path / "pack")


def test_packing_holds_few_images_in_memory(tmp_path):
    import subprocess
    import sys

    path = tmp_path / "set"
    for i in range(48):
        saved(
            Image.fromarray(RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((1500, 1500)),
            path / "ab"[i % 2] / f"{i}.bmp",
        )
    code = (
        "import resource, sys; from pathlib import Path; import replication.data.packs as p\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\np.os.cpu_count = lambda: 2\n"
        "p.pack(Path(sys.argv[1]), 64, Path(sys.argv[2]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "pack"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * 1024 < 48 * 1500 * 1500 * 3 * 0.5, "less than half of the files"


@pytest.mark.parametrize(
    "path, words", [("nowhere", "not there"), ("/dev/zero", "a device or pipe"), ("file.txt", "is a file")]
)
def test_what_is_no_folder_is_one_sentence(tmp_path, monkeypatch, path, words):
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("x")
    with pytest.raises(ValueError, match=words):
        survey(path)


def test_archives_of_one_s_own_are_read(tmp_path):
    path = folder(tmp_path / "set", a=3, b=2)
    with tarfile.open(path / "c.tar.gz", "w:gz") as archive:
        archive.add(path / "b", "c")
    assert survey(path).counts == {"a": 3, "b": 2, "c": 2} and len(survey(path).contradictory) == 2
    assert len(stamp(path)) == 3 and look(path) is look(path)
    assert packed(f"folder:{path}", 16).counts.tolist() == [3, 2, 2]
