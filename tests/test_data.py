"""Which images a run gets, what names a result, and which runs the claims ask for."""

import contextlib
import dataclasses
import functools
import os
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.claims import registry
from replication.claims.papers import majorities
from replication.data.augmentation import Augmented, draws, reach
from replication.data.loading import load
from replication.data.settings import SETTINGS, Setting, setting
from replication.data.sources import Source, digest
from replication.data.splits import data_digest, framed, indices, split
from replication.paths import root
from replication.results import published
from replication.results.shelf import group_of
from replication.run import CONFIRMATORY, FACTORS, PROTOCOL, Run, entropy, grid
from replication.study import arms, design, rates
from replication.study.networks import network

DIGITS = load("digits")
OF_DIGITS = [name for name, s in SETTINGS.items() if s.source == "digits"]
# what every setting of the digits has images for
drawn = {
    "name": st.sampled_from(OF_DIGITS),
    "n_majority": st.integers(1, 500),
    "n_minority": st.integers(1, 80),
    "seed": st.integers(0, 10_000),
}
quick = settings(max_examples=40, deadline=None)


def flat(part: list[np.ndarray]) -> list[int]:
    return np.concatenate(part).tolist()


# --- Splits ---------------------------------------------------------------------------------------


@quick
@given(**drawn)
def test_parts_are_disjoint_and_of_exact_size(name, n_majority, n_minority, seed):
    s = setting(name)
    parts = indices(DIGITS, s, n_majority, n_minority, seed)
    numbers = [i for part in parts.values() for i in flat(part)]
    assert len(numbers) == len(set(numbers))
    k, m = s.majorities, s.minorities
    assert [len(c) for c in parts["train"]] == [n_majority] * k + [n_minority] * m
    assert [len(c) for c in parts["test"]] == [75] * (k + m)
    assert [len(c) for c in parts["validation"]] == [150 // k] * k + [7] * m


@quick
@given(**drawn)
def test_a_split_holds_the_images_of_its_classes(name, n_majority, n_minority, seed):
    s = setting(name)
    run = Run(setting=name, n_majority=n_majority, n_minority=n_minority, seed=seed)
    parts, chosen, pools = split(run), indices(DIGITS, s, n_majority, n_minority, seed), s.class_map(seed, DIGITS)
    for part in ("train", "validation", "test"):
        numbers, held = flat(chosen[part]), getattr(parts, part)
        assert np.array_equal(held.images, DIGITS.images[numbers])
        assert all(DIGITS.labels[i] in pools[c] for i, c in zip(numbers, held.labels, strict=True))
    assert parts.train_counts.tolist() == [n_majority] * s.majorities + [n_minority] * s.minorities
    assert parts.n_classes == s.majorities + s.minorities
    assert parts.minorities == tuple(range(s.majorities, parts.n_classes)) and parts.digest == DIGITS.digest


@quick
@given(**drawn)
def test_same_seed_same_split_and_another_seed_another(name, n_majority, n_minority, seed):
    one, again, other = (indices(DIGITS, setting(name), n_majority, n_minority, s) for s in (seed, seed, seed + 10))
    for part in one:
        assert flat(one[part]) == flat(again[part])
    assert flat(one["test"]) != flat(other["test"])  # of the same classes: the minority is seed mod 10


def test_a_split_may_have_a_seed_of_its_own():
    parts = [split(Run(seed=seed, split_seed=own)) for seed, own in ((100, -1), (101, 100), (101, -1), (100, 103))]
    images = [part.train.images for part in parts]
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[1], images[2]) and not np.array_equal(images[0], images[3])
    assert len({Run(split_seed=s).key("d") for s in (-1, 100, 101)}) == 3


@quick
@given(**drawn, fewer=st.integers(1, 500))
def test_ratios_share_the_test_set_and_are_nested(name, n_majority, n_minority, seed, fewer):
    s = setting(name)
    one = indices(DIGITS, s, n_majority, n_minority, seed)
    other = indices(DIGITS, s, min(fewer, n_majority), min(fewer, n_minority), seed)
    assert flat(one["test"]) == flat(other["test"]) and flat(one["validation"]) == flat(other["validation"])
    for larger, smaller in zip(one["train"], other["train"]):
        assert larger[: len(smaller)].tolist() == smaller.tolist()


@given(name=st.sampled_from(OF_DIGITS), seed=st.integers(0, 10_000))
def test_class_map_covers_what_the_setting_says(name, seed):
    s = setting(name)
    classes = s.class_map(seed, DIGITS)
    majority, minority = classes[: s.majorities], classes[s.majorities :]
    assert len(classes) == s.majorities + s.minorities
    assert s.minority_classes == tuple(range(s.majorities, len(classes)))
    assert minority == [[(seed + i) % 10] for i in range(s.minorities)]
    pooled = sorted(c for pool in majority for c in pool)
    reserved = max(s.reserved, s.minorities)
    assert pooled == sorted((seed + i) % 10 for i in range(reserved, 10))
    assert max(map(len, majority)) - min(map(len, majority)) <= 1


@pytest.mark.parametrize("seed", [0, 7])
def test_majorities_settings_draw_from_the_same_eight_digits(seed):
    pools = {
        name: sorted(c for pool in s.class_map(seed, DIGITS)[: s.majorities] for c in pool)
        for name, s in SETTINGS.items()
        if name in OF_DIGITS[1:]
    }
    assert len(pools) == 4 and len({tuple(pool) for pool in pools.values()}) == 1
    assert len(pools["digits/1v1"]) == 8


@pytest.mark.parametrize("kind", ["majority", "minority"])
@pytest.mark.parametrize("name", OF_DIGITS)
def test_asking_for_too_many_says_how_many_there_are(name, kind):
    s, sizes = setting(name), {"n_majority": 10, "n_minority": 10}
    with pytest.raises(ValueError) as error:
        indices(DIGITS, s, **sizes | {f"n_{kind}": 5000}, seed=100)
    c = 0 if kind == "majority" else s.majorities
    there = int(np.isin(DIGITS.labels, s.class_map(100, DIGITS)[c]).sum())
    held = 75 + (150 // s.majorities if kind == "majority" else 7)
    assert f"n_{kind} = 5000" in str(error.value) and f"class {c} has {there} images" in str(error.value)
    assert str(error.value).endswith(f"at most {there - held} are allowed")
    if s.majorities == s.minorities == 1:
        indices(DIGITS, s, **sizes | {f"n_{kind}": there - held}, seed=100)
        with pytest.raises(ValueError):
            indices(DIGITS, s, **sizes | {f"n_{kind}": there - held + 1}, seed=100)


def test_unknown_setting_names_those_there_are():
    with pytest.raises(ValueError, match="unknown setting 'cats': allowed are digits, digits/1v1"):
        split(Run(setting="cats"))


def test_digest_is_stable_and_sees_every_change():
    a, b = np.arange(6, dtype=np.uint8).reshape(2, 3), np.array([1.5])
    assert DIGITS.digest == "30bc4931a653b604"
    assert digest(a, b) == digest(np.asfortranarray(a), b) == "6d95f0115c40abbc"
    others = [(a.reshape(3, 2), b), (a.astype(np.int8), b), (a + np.uint8(1), b), (b, a), (a,)]
    assert len({digest(*o) for o in [(a, b), *others]}) == 6


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    assert DIGITS.images.shape == (1797, 1, 8, 8) and DIGITS.images.dtype == np.uint8
    assert np.array_equal(DIGITS.images.reshape(-1, 64), pixels * 15) and DIGITS.images.max() == 240
    assert np.array_equal(DIGITS.labels, labels) and DIGITS.n_labels == 10


# --- Keys and grids -------------------------------------------------------------------------------

DATA = "0123456789abcdef"
GOLDEN = {
    "7b061a0978d508dd": Run(),
    "1b403cdcda1e0973": Run(setting="digits/2v1", final_norm="bn", n_majority=50, learning_rate=0.01, seed=7),
    "12aa86d8c4004daa": Run(
        network="mlp", output="sigmoids", schedule="constant", epochs=100, stop_f1=0.8, updates=150, batch_size=8
    ),
}


@pytest.mark.parametrize("key", GOLDEN)
def test_keys_of_this_protocol_never_change(key):
    assert PROTOCOL == 1, "a new protocol has new keys: replace them"
    assert GOLDEN[key].key(DATA) == key


def test_every_factor_is_in_the_key():
    changed = {f.name: f"{f.default}?" if f.type is str else f.default + 1 for f in dataclasses.fields(Run)}
    keys = {Run().key(DATA), Run().key(DATA[::-1]), Run().key(DATA, "checkpoint")}
    keys |= {Run(**{name: value}).key(DATA) for name, value in changed.items()}
    assert len(changed) == len(FACTORS) and len(keys) == len(FACTORS) + 3


@given(st.sets(st.sampled_from(FACTORS)))
def test_default_factors_are_not_in_the_key(names):
    defaults = {f.name: f.default for f in dataclasses.fields(Run)}
    run = Run(**{name: defaults[name] for name in names})
    assert run.changed() == {} and run.key(DATA) == Run().key(DATA)
    assert Run(seed=3, **{n: defaults[n] for n in names - {"seed"}}).changed() == {"seed": 3}


def test_protocol_is_in_the_key(monkeypatch):
    before = Run().key(DATA)
    monkeypatch.setattr("replication.run.PROTOCOL", PROTOCOL + 1)
    assert Run().key(DATA) != before


def test_grid_is_every_combination():
    found = grid(seed=range(100, 103), batch_size=32, final_norm=["none", "bn"], setting="digits")
    assert len(found) == len(set(found)) == 6
    assert found[:2] == [Run(seed=100, batch_size=32), Run(seed=100, batch_size=32, final_norm="bn")]
    assert grid() == [Run()]


def test_random_numbers_differ_by_seed_and_purpose():
    names = [(seed, purpose) for seed in range(50) for purpose in ("split", "order")]
    first = {np.random.default_rng(entropy(*name)).integers(2**63) for name in names}
    assert len(first) == 100


# --- Images ---------------------------------------------------------------------------------------

SHOT = np.repeat(np.arange(120), 5)  # five photographs of one leaf in a row


def photographs(n=600, classes=("sick", "well"), groups=SHOT) -> Source:
    """Made-up images of 16 pixels whose labels alternate by leaf."""
    rng = np.random.default_rng(0)
    labels = (groups[:n] % len(classes)).astype(np.int64)
    return Source(
        "photographs",
        rng.integers(0, 256, (n, 3, 16, 16), dtype=np.uint8),
        labels,
        groups[:n],
        classes,
        "made up",
        "",
        "",
    )


TWO = Setting("two", "photographs", test=22, validation=(18, 13), classes=(("well",), ("sick",)))


@quick
@given(n_majority=st.integers(1, 200), n_minority=st.integers(1, 100), seed=st.integers(0, 10_000))
def test_a_group_stays_in_one_part(n_majority, n_minority, seed):
    source = photographs()
    parts = indices(source, TWO, n_majority, n_minority, seed)
    assert [len(c) for c in parts["test"] + parts["validation"] + parts["train"]] == [
        22,
        22,
        18,
        13,
        n_majority,
        n_minority,
    ]
    groups = {name: set(source.groups[flat(part)]) for name, part in parts.items()}
    assert not groups["test"] & groups["validation"] and not (groups["test"] | groups["validation"]) & groups["train"]
    assert len(groups["test"]) == 2 * 5  # as few as hold 22 images a class


def test_ungrouped_splits_part_a_group():
    source, s = photographs(), dataclasses.replace(TWO, grouped=False)
    parts = indices(source, s, 200, 100, seed=0)
    assert set(source.groups[flat(parts["test"])]) & set(source.groups[flat(parts["train"])])


def test_groups_of_one_image_are_split_as_without_groups():
    source = photographs(groups=np.arange(600))
    grouped, not_grouped = (indices(source, dataclasses.replace(TWO, grouped=g), 200, 100, 7) for g in (True, False))
    assert all(flat(grouped[part]) == flat(not_grouped[part]) for part in grouped)


def test_what_the_groups_leave_is_what_can_be_asked_for():
    with pytest.raises(
        ValueError, match=r"class 0 has 300 images of which 40 are held out, .* so at most 255 are allowed"
    ):
        indices(photographs(), TWO, 256, 10, seed=0)  # 25 in five groups for 22, 20 in four for 18
    assert len(indices(photographs(), TWO, 255, 10, seed=0)["train"][0]) == 255


def test_class_maps_by_name_by_size_and_by_turns():
    source = photographs(classes=("a", "b", "c"), groups=np.repeat([0, 1, 2, 1], 150))
    named = Setting("s", "photographs", majorities=2, classes=(("c",), ("a",), ("b",)))
    assert named.class_map(5, source) == [[2], [0], [1]]
    assert Setting("s", "photographs", largest=True).class_map(5, source) == [[1], [0, 2]]
    turns = Setting("s", "photographs", majorities=1, minorities=1, reserved=2, pooled=False)
    assert [turns.class_map(seed, source) for seed in (0, 1, 2)] == [[[2], [0]], [[0], [1]], [[1], [2]]]
    with pytest.raises(ValueError, match="needs class 'd': the data set has a, b, c"):
        Setting("s", "photographs", classes=(("d",), ("a",))).class_map(0, source)


def test_majority_labels_of_the_claim_are_the_same_in_all_four_settings():
    ten = photographs(classes=tuple("abcdefghij"))
    maps = {(k, m): setting(f"cifar10/{k}v{m}").class_map(4, ten) for k in (1, 2) for m in (1, 2)}
    assert maps[1, 1] == [[6], [4]] and maps[1, 2] == [[6], [4], [5]]
    assert maps[2, 1] == [[6], [7], [4]] and maps[2, 2] == [[6], [7], [4], [5]]


def test_every_declared_setting_is_whole():
    for name, s in SETTINGS.items():
        assert s.name == name and (not s.classes or len(s.classes) == s.majorities + s.minorities)
        assert len(set(sum(s.classes, ()))) == len(sum(s.classes, ()))
        if s.source == "digits":
            assert s.declared() == {} and data_digest(name) == DIGITS.digest  # published keys depend on it
        else:
            assert (s.pixels, s.augment, s.test, s.validation) == (32, True, 150, (150, 75))


def test_a_setting_can_be_had_at_other_sizes():
    large, small = setting("plantvillage/apple@64"), setting("plantvillage/apple")
    assert dataclasses.replace(large, name=small.name, pixels=32, label=small.label) == small and large.pixels == 64
    assert setting("folder:/some/where@48").source == "folder:/some/where" and setting("folder:/some/where").largest
    for name, words in (
        ("digits@64", "its own size only"),
        ("cracks@4", "sizes from 8"),
        ("cracks@x", "unknown setting"),
    ):
        with pytest.raises(ValueError, match=words):
            setting(name)


@pytest.mark.parametrize(
    "name, canonical",
    [
        ("plantvillage/apple@160/2v1", "plantvillage/apple/2v1@160"),
        ("plantvillage/apple/2v1@160", "plantvillage/apple/2v1@160"),
        ("plantvillage/apple@064", "plantvillage/apple@64"),
        ("plantvillage/apple@32", "plantvillage/apple"),
        ("cifar10@96/1v1", "cifar10/1v1@96"),
        ("plantvillage/tomato@160/border", "plantvillage/tomato/border@160"),
    ],
)
def test_a_setting_has_one_name(name, canonical):
    assert setting(name) == setting(canonical) and setting(name).name == canonical == setting(canonical).name


@pytest.mark.parametrize(
    "name",
    [
        "plantvillage/tomato@160",
        "plantvillage/tomato@128",
        "plantvillage/apple@160",
        "cracks@128",
        "skin@160",
        "cifar10/1v1",
        "plantvillage/tomato/1v1",
        "plantvillage/tomato/2v1",
        "plantvillage/tomato/border",
    ],
)
def test_settings_of_the_design_are_there(name):
    assert setting(name).name == name


@pytest.mark.parametrize(
    "name, words",
    [
        ("", "unknown setting ''"),
        ("@64", "unknown setting '@64'"),
        ("cracks@६४", "unknown setting"),
        ("cracks@²", "unknown setting"),
        ("cracks@5000", "sizes from 8 to 1024"),
        ("cracks@" + "9" * 5000, "unknown setting"),
        ("cracks@64@64", "unknown setting"),
        ("folder:", "unknown setting 'folder:'"),
        ("folder: ", "names no folder"),
        ("folder:@64", "names no folder"),
        ("folder:a\0b", "names no folder"),
        ("plantvillage/apple@160/3v1", "unknown setting"),
        ("digits@8/1v1", "its own size only"),
    ],
)
def test_nothing_and_nonsense_are_no_setting(name, words):
    with pytest.raises(ValueError, match=words):
        setting(name)


LABELS = {
    "digits": "digits",
    "digits/2v1": "digits, two classes against one",
    "plantvillage/apple": "apple leaves",
    "plantvillage/pepper": "pepper leaves",
    "plantvillage/tomato": "tomato leaves",
    "cracks": "concrete cracks",
    "skin": "skin lesions",
    "cifar10": "CIFAR-10, one class against nine",
    "cifar10/1v1": "CIFAR-10, one class against another",
    "plantvillage/apple@64": "apple leaves, 64 px",
    "plantvillage/apple/border": "apple leaves, the border alone",
    "plantvillage/apple/ungrouped": "apple leaves, neighbouring photographs parted",
    "plantvillage/apple@160/2v1": "apple leaves, two classes against one, 160 px",
    "folder:/some/leaves": "photographs in leaves",
}


def test_every_setting_has_a_name_for_readers():
    assert {name: setting(name).label for name in LABELS} == LABELS
    assert len({s.label for s in SETTINGS.values()}) == len(SETTINGS)
    assert [name for name, s in SETTINGS.items() if s.embedded] == OF_DIGITS


def published_settings() -> list[str]:
    files = published.manifest(root() / "results")["files"]
    return sorted({group_of(name, entry).setting for name, entry in files.items()} - {""})


@pytest.mark.parametrize("name", published_settings())
def test_published_names_are_the_settings_own(name):
    assert setting(name).name == name


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """A home of their own for the packs that these tests make."""
    home = tmp_path_factory.mktemp("home")
    for cached in (load, data_digest):
        cached.cache_clear()
    with mock.patch.dict(os.environ, REPLICATION_HOME=str(home)):
        yield home
    for cached in (load, data_digest):
        cached.cache_clear()


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("REPLICATION_DATA"), reason="REPLICATION_DATA is not set")
@pytest.mark.parametrize("name", ["plantvillage/apple", "plantvillage/pepper/border", "cracks", "skin"])
def test_data_of_published_results_is_what_the_images_give(name, packs):
    rows = published.read([name], root() / "results")
    assert {data_digest(name)} == set(rows.loc[rows["setting"] == name, "data"])


def test_digest_of_the_data_sees_what_the_setting_declares(monkeypatch):
    source = photographs()
    monkeypatch.setattr("replication.data.splits.load", lambda name, pixels: source)
    seen = [
        TWO,
        *(
            dataclasses.replace(TWO, **c)
            for c in (
                {"border": True},
                {"augment": True},
                {"grouped": False},
                {"test": 21},
                {"classes": (("sick",), ("well",))},
            )
        ),
    ]
    digests = []
    for s in seen:
        monkeypatch.setattr("replication.data.splits.setting", lambda name, s=s: s)
        digests.append(data_digest.__wrapped__("two"))
    assert len(set(digests)) == len(seen) and source.digest not in digests


def test_only_the_frame_is_seen():
    images = np.random.default_rng(0).integers(128, 256, (3, 3, 32, 32), dtype=np.uint8)
    before, seen = images.copy(), framed(images)
    inner = np.zeros((32, 32), bool)
    inner[2:-2, 2:-2] = True
    assert (seen[..., inner] == 127).all() and np.array_equal(seen[..., ~inner], images[..., ~inner])
    assert np.array_equal(images, before)


def test_augmented_images_are_padded_mirrored_and_cut():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    numbers, moves = rng.integers(5, size=40), draws(3, 40, 32, 1)[0]
    batch = Augmented(images)(numbers, moves)
    assert batch.shape == (40, 3, 32, 32) and batch.dtype == np.uint8 and batch.strides[1] == 1  # channels last
    for image, i, (mirrored, row, column) in zip(batch, numbers, moves):
        plain = np.pad(images[i], ((0, 0), (2, 2), (2, 2)), mode="reflect")
        plain = plain[:, :, ::-1] if mirrored else plain
        assert np.array_equal(image, plain[:, row : row + 32, column : column + 32])


def test_draws_belong_to_seed_epoch_and_image():
    one = draws(7, 1000, 64, 3)
    assert reach(64) == 4 and one.shape == (3, 1000, 3)
    assert np.array_equal(one, draws(7, 1000, 64, 3)) and not np.array_equal(one, draws(8, 1000, 64, 3))
    assert np.array_equal(one[:2], draws(7, 1000, 64, 2)) and not np.array_equal(one[0], one[1])
    assert one.reshape(-1, 3).min(0).tolist() == [0, 0, 0] and one.reshape(-1, 3).max(0).tolist() == [1, 8, 8]
    assert abs(one[..., 0].mean() - 0.5) < 0.03 and abs(one[..., 1:].mean() - 4) < 0.1


# --- Designs --------------------------------------------------------------------------------------

# arms x rates x levels and seeds of the cells published first, as the design page has them; entries, not trainings
DIGIT_ENTRIES = {
    "base": 60 * (2 * 3 + 2) + 20 * 2 * (2 * 3),
    "removal": 60 * 2 * 3,
    "ratio": 40 * (6 + 4) * 2 * 2,
    "batch_size": 20 * 7 * (2 * 2 + 2 + 2 * 2),
    "generality": 60 * 3 * 2 * 3,
    "majorities": 60 * 2 * 2 * 2 * 2 * 2,
    "sigmoid": 60 * 6 * 3,
    "confidence": 60 * 2 * 3,
    "loss_choice": 60 * 2 * 3,
    "training_time": 20 * 2 * 2 * 2,
    "mechanism": 20 * 8,
    "remedies": 20 * 10,
    "controls": 0,
    "performance": 0,
}
RESNETS = 2 * 10 * 2 * 3
IMAGE_ENTRIES = {
    # apple to 100 epochs and with both forms, four sets to 30 epochs, apple at 64 pixels and with ResNet34 to 10
    "base": 10 * (2 * 3 * 3 + 2) + 4 * 10 * 2 * 3 * 2 + 10 * 2 * 3 + RESNETS,
    "removal": 5 * 10 * 2 * 3 + RESNETS,
    "ratio": 10 * (8 + 4) * 2 * 2,
    "batch_size": 10 * (6 + 5) * 2 * 2,
    "generality": 5 * 10 * 2 * 3,
    "majorities": 10 * 2 * 2 * 2 * 2 * (2 + 1 + 2),
    "sigmoid": 5 * 10 * 6 * 3,
    "confidence": 5 * 10 * 2 * 3 + RESNETS,
    "loss_choice": 5 * 10 * 2 * 3 + RESNETS,
    "training_time": 0,
    "mechanism": 0,
    "remedies": 0,
    "controls": 5 * 10 * 2 * 2,
    "performance": 10 * 2 * 2 * 2,
}


def comparisons(claim, version=None):
    """(cell, comparison) of a claim's plan; of version 0 are those published before there was a registration."""
    cells = [c for c in registry.PLANS[claim].cells if version is None or c.version == version]
    return [(cell, c) for cell in cells for c in registry.PLANS[claim].design(cell)]


@functools.cache
def entries(claim, version=None):
    """(comparison, entry) of every comparison of a claim whose learning rates have been chosen."""
    found = []
    for _, c in comparisons(claim, version):
        with contextlib.suppress(ValueError):
            found += [(c, e) for e in c.entries()]
    return found


@pytest.mark.parametrize("claim", DIGIT_ENTRIES)
def test_every_claim_has_the_entries_that_were_published_first(claim):
    found = [c.place.setting in OF_DIGITS for c, e in entries(claim, 0) if e.kind != "default"]  # which came later
    assert (sum(found), len(found) - sum(found)) == (DIGIT_ENTRIES[claim], IMAGE_ENTRIES[claim])


def test_claims_and_questions_are_those_of_the_book():
    assert [*registry.CLAIMS] == [
        "base",
        "removal",
        "ratio",
        "batch_size",
        "generality",
        "majorities",
        "sigmoid",
        "confidence",
        "loss_choice",
        "training_time",
    ]
    assert {*DIGIT_ENTRIES} <= {*registry.PLANS} == {*registry.CLAIMS, *registry.BEYOND}
    assert all(name == plan.id for name, plan in registry.PLANS.items())


@pytest.mark.parametrize("claim", registry.PLANS)
def test_arms_share_confirmatory_seeds(claim):
    for cell, c in comparisons(claim):
        assert c.seeds == range(CONFIRMATORY, CONFIRMATORY + len(c.seeds)) and len(c.seeds) <= cell.seeds
        many = 20 if c.place.setting in OF_DIGITS or ":head" in c.place.network else 10
        # there the unit is a configuration, or a split
        assert len(c.seeds) >= {"budgets": 5, "search": 5, "variance": 6}.get(claim, many)
    by_arm = {}
    for c, e in entries(claim):
        by_arm.setdefault((c, e.kind, e.arm, e.level), []).append(e.run.seed)
    assert all(seeds == [*c.seeds] for (c, *_), seeds in by_arm.items())


def test_all_plans_together_leave_out_what_has_no_rates_yet(monkeypatch):
    """`make book` trains what there is; a claim that is asked for by name says what it lacks."""
    everything = registry.runs([], ["digits"], ["simple_cnn"], 1)
    chosen = rates.chosen_rates

    def without_focal(kind="grid"):
        return {p: {a: r for a, r in arms_.items() if "focal" not in a} for p, arms_ in chosen(kind).items()}

    monkeypatch.setattr(rates, "chosen_rates", without_focal)
    with pytest.warns(
        UserWarning, match="left out, as their learning rates have not been chosen: .*remedies on digits/"
    ):
        left = registry.runs([], ["digits"], ["simple_cnn"], 1)
    assert left and set(left) < set(everything) and {r for r in everything if r.loss == "focal"}.isdisjoint(left)
    with pytest.raises(rates.NoRate, match="replication tune remedies"):
        registry.runs(["remedies"], ["digits"], ["simple_cnn"], 1)


@pytest.mark.parametrize("claim", registry.PLANS)
def test_arms_differ_from_plain_in_nothing_but_the_arm_and_its_rate(claim):
    for c, e in entries(claim):
        factors = arms.arm(e.arm).factors
        if c.rate:
            assert e.run.learning_rate == c.rate
        else:
            arm = arms.arm(e.arm).reference if e.kind == "shared" else e.arm
            best = rates.chosen_rates("wide" if e.kind == "wide" else "grid")
            place = dataclasses.replace(c.place, at=()) if e.kind == "base" else c.place
            here = best.get(str(place)) or best.get(place.source, {})
            assert e.run.learning_rate == (rates.DEFAULT_RATE if e.kind == "default" else here[arm])
        neutral = {name: getattr(Run(), name) for name in factors} | {"learning_rate": 1.0, "seed": CONFIRMATORY}
        shared = network(c.place.network).factors(c.place.setting) | dict(c.factors) | {"setting": c.place.setting}
        assert {name: getattr(e.run, name) for name in factors} == dict(factors)
        assert dataclasses.replace(e.run, **neutral) == Run(**shared | {"learning_rate": 1.0})


@pytest.mark.parametrize("claim", registry.CLAIMS)
def test_claims_have_the_pair_at_own_rates(claim):
    found = {}
    for _, c in comparisons(claim):
        if c.variant != "forms":
            found.setdefault((c.place, c.variant, c.level), set()).update(
                (kind, arm) for kind in c.kinds for arm in c.arms
            )
    assert all({("own", arm) for arm in design.PAIR} <= there for there in found.values())


def test_each_run_is_wanted_once_seed_by_seed():
    names = [*DIGIT_ENTRIES]
    runs = registry.runs(names, settings=["digits"], networks=["simple_cnn"])
    assert len(runs) == len(set(runs)) == len({run.key(DIGITS.digest) for run in runs})
    planned = {e.run for name in names for c, e in entries(name, 0) if str(c.place.network) == "simple_cnn"}
    assert {run for run in runs if run.setting == "digits"} >= {run for run in planned if run.setting == "digits"}
    assert [run.seed for run in runs] == sorted(run.seed for run in runs) and runs[0].seed == CONFIRMATORY
    fewer = registry.runs(names, settings=["digits"], networks=["simple_cnn"], seeds=2)
    assert set(fewer) == {run for run in runs if run.seed < CONFIRMATORY + 2}


def test_one_kind_of_rate_can_be_asked_for():
    both = registry.runs(["removal"], ["digits"], ["simple_cnn"], seeds=1, kinds=["own", "shared"])
    own = registry.runs(["removal"], ["digits"], ["simple_cnn"], seeds=1, kinds=["own"])
    assert set(own) < set(both) and {run.learning_rate for run in own} == {
        rates.chosen_rates()["digits/simple_cnn"][arm] for arm in design.PAIR
    }


def test_levels_are_the_factor_on_the_axis():
    for claim, factor, levels in [
        (
            "ratio",
            lambda f: f["n_minority"] if "n_minority" in f else f["n_majority"],
            {2, 5, 10, 20, 40, 80, 160, 320, 100, 200, 500, 1000},
        ),
        ("batch_size", lambda f: f["batch_size"], {8, 16, 32, 64, 128, 256, 512}),
        ("training_time", lambda f: f["epochs"], {10, 100}),
    ]:
        found = [c for _, c in comparisons(claim)]
        assert {c.level for c in found} == levels
        assert all(c.level == factor({"epochs": 10, "batch_size": 64} | dict(c.factors)) for c in found)
    assert {c.level for _, c in comparisons("base")} == {10, 30, 100}
    assert all(dict(c.factors).get("epochs", 10) == c.level for _, c in comparisons("base"))
    assert all(setting(c.place.setting).majorities == c.level for _, c in comparisons("majorities"))
    equal = [dict(c.factors)["updates"] for _, c in comparisons("batch_size") if c.variant == "equal updates"]
    assert equal and set(equal) == {150}
    assert {(e.run.schedule, e.run.stop_f1) for _, e in entries("training_time", 0)} == {
        ("constant", 0.8),
        ("one_cycle", 0.0),
    }


def test_majorities_fix_the_total_or_the_class():
    for _, e in entries("majorities", 0):
        s = setting(e.run.setting)
        total = 500 if e.run.setting.startswith("plantvillage") else 1000
        assert e.run.n_minority == 10 and e.variant in majorities.VARIANTS
        fixed_in_total = e.variant.endswith(majorities.IN_TOTAL)
        assert e.run.n_majority == (total // s.majorities if fixed_in_total else total // 2)
        assert e.variant.startswith(majorities.ONE if s.minorities == 1 else majorities.TWO)


def test_pilots_share_no_seed_with_the_designs():
    seeds = {seed for name in registry.PLANS for _, c in comparisons(name) for seed in c.seeds}
    assert min(seeds) == CONFIRMATORY == 100
    assert {run.seed for run in registry.pilots()} == set(range(10))
    assert {run.learning_rate for run in registry.pilots()} <= set(rates.LADDER)


def test_pilots_differ_from_the_runs_that_they_tune_in_seed_and_rate_alone():
    place = rates.Place("plantvillage/tomato@160", "efficientnet_lite0:imagenet:head", (("n_minority", 40),))
    runs = design.pilot_runs(place, "final_bn", rates.RATE_GRID, design.pilot_seeds(place.network))
    shared = network(place.network).factors(place.setting) | {"n_minority": 40, "final_norm": "bn"}
    assert runs == grid(setting=place.setting, learning_rate=rates.RATE_GRID, seed=range(10), **shared)
    assert set(runs) <= registry.pilots()
    large = "resnet_cntk:imagenet"
    assert (design.pilot_seeds(large), rates.grid_of(large)) == (range(5), rates.FINE_TUNING_GRID)


def test_grids_grow_by_half_decades_at_their_ends():
    assert rates.extended((1e-3, 3e-3), 3e-3) == (1e-3, 3e-3, 1e-2)
    assert rates.extended((1e-3, 3e-3), 1e-3) == (3e-4, 1e-3, 3e-3)
    assert rates.extended((1e-3, 3e-3, 1e-2), 3e-3) == (1e-3, 3e-3, 1e-2)
    for end in (rates.LADDER[0], rates.LADDER[-1]):
        assert rates.extended(rates.LADDER, end) == rates.LADDER


def test_a_rate_is_looked_for_at_the_place_then_where_the_data_set_was_tuned_first():
    chosen = rates.chosen_rates()
    apple = chosen["plantvillage/simple_cnn"]
    border = rates.Place("plantvillage/apple/border", "simple_cnn")
    assert rates.learning_rate(border, "final_bn") == apple["final_bn"]
    assert rates.learning_rate(border, "final_bn", "shared") == apple["plain"]
    assert rates.learning_rate(border, "final_bn", "default") == 1e-3
    level = dataclasses.replace(border, at=(("n_minority", 40),))
    assert rates.learning_rate(level, "final_bn", "base") == apple["final_bn"]
    with pytest.raises(ValueError, match="no learning rate chosen for arm 'final_bn' on .* n_minority=40'"):
        rates.learning_rate(level, "final_bn")  # a level has rates of its own


def test_an_arm_is_compared_with_its_own_plain_form():
    assert {name: arms.arm(name).reference for name in design.PAIR} == {"plain": "plain", "final_bn": "plain"}
    assert arms.arm("final_bn_sigmoids").reference == "plain_sigmoids"
    assert arms.arm("final_bn_logit_adjusted_loss").reference == "plain_logit_adjusted_loss"
    for name, arm in arms.ARMS.items():
        reference = arms.arm(arm.reference)
        assert arm.name == name and reference.reference == reference.name
        rest = {f: v for f, v in arm.factors.items() if f not in ("final_norm", "shift")}
        assert rest == reference.factors
    assert len({arm.label for arm in arms.ARMS.values()}) == len(arms.ARMS)


@pytest.mark.parametrize(
    ("claim", "asked", "words"),
    [
        ("nope", {}, "unknown claim 'nope': allowed are base, removal, ratio"),
        ("base", {"settings": ["cats"]}, "unknown setting 'cats': allowed are digits"),
        ("base", {"networks": ["vgg"]}, "unknown network 'vgg': allowed are simple_cnn, mlp, logistic"),
        ("base", {"seeds": 0}, "seeds = 0 is not allowed: at least 1"),
        ("sigmoid", {"networks": ["mlp"]}, "claim 'sigmoid' has no cell of network mlp: name settings too"),
        (
            "sigmoid",
            {"networks": ["mlp"], "settings": ["digits"]},
            "no learning rate chosen for arm 'plain_sigmoid' on 'digits/mlp'",
        ),
    ],
)
def test_what_no_design_has_is_refused(claim, asked, words):
    with pytest.raises(ValueError, match=words):
        registry.runs([claim], **asked)


def test_a_cell_beyond_the_plan_can_be_asked_for_and_stays_outside_counts():
    (cell,) = registry.cells("removal", ["plantvillage/tomato@64"], seeds=3)
    assert (cell.network, cell.role, cell.seeds) == ("simple_cnn", design.EXPLORATORY, 3)
    assert cell not in registry.PLANS["removal"].cells
    (beside,) = registry.cells("removal", ["digits"], ["mlp"])
    assert (beside.network, beside.role) == ("mlp", design.EXPLORATORY)
    assert {c.network for c in registry.cells("removal", ["digits"])} == {
        c.network for c in registry.PLANS["removal"].cells if c.setting == "digits"
    }


@pytest.mark.parametrize(
    "name, factors",
    [
        ("simple_cnn", ("simple_cnn", "linear", "random", "all")),
        ("resnet34", ("resnet34", "linear", "imagenet", "all")),
        ("mlp:a+b.pt", ("mlp", "linear", "a+b.pt", "all")),
        ("resnet34+fastai", ("resnet34", "fastai", "imagenet", "all")),
        ("vgg19_bn+fastai:random", ("vgg19_bn", "fastai", "random", "all")),
        ("resnet18:imagenet:head+fastai", ("resnet18", "fastai", "imagenet", "head")),
        ("timm/resnet10t:random", ("timm/resnet10t", "linear", "random", "all")),
    ],
)
def test_a_network_is_named_with_head_and_initial_weights(name, factors):
    found = network(name)
    assert (found.body, found.head, found.init, found.trained) == factors
    assert network(str(found)) == found
    assert {f: getattr(Run(**found.factors("skin")), f) for f in ("network", "head", "init", "trained")} == dict(
        zip(("network", "head", "init", "trained"), factors)
    )


@pytest.mark.parametrize("name, side", [("digits", 96), ("cifar10/1v1", 96), ("cracks@128", 160), ("skin@160", 0)])
def test_only_bodies_that_know_imagenet_see_images_enlarged(name, side):
    assert network("resnet_cntk:imagenet:head").factors(name).get("input_side", 0) == side
    assert "input_side" not in network("resnet18:random").factors(name)


@pytest.mark.parametrize("name", ["resnet", "resnet34+", "resnet34+mlp", "+fastai", ""])
def test_an_unknown_network_or_head_is_one_sentence(name):
    with pytest.raises(ValueError, match="^unknown network .*: allowed are simple_cnn, .* as NAME\\+fastai$"):
        network(name)
