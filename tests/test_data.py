"""Which images a run gets, what names a result, and which runs the claims ask for."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication import designs
from replication.data.settings import SETTINGS, setting
from replication.data.sources import digest, load
from replication.data.splits import indices, split
from replication.runs import CONFIRMATORY, FACTORS, PROTOCOL, Run, entropy, grid

DIGITS = load("digits")
# what every setting of the digits has images for
drawn = {
    "name": st.sampled_from(list(SETTINGS)),
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
    parts, chosen, pools = split(run), indices(DIGITS, s, n_majority, n_minority, seed), s.class_map(seed, 10)
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
    one, again, other = (
        indices(DIGITS, setting(name), n_majority, n_minority, s) for s in (seed, seed, seed + 10)
    )
    for part in one:
        assert flat(one[part]) == flat(again[part])
    assert flat(one["test"]) != flat(other["test"])  # of the same classes: the minority is seed mod 10


@quick
@given(**drawn, fewer=st.integers(1, 500))
def test_ratios_share_the_test_set_and_are_nested(name, n_majority, n_minority, seed, fewer):
    s = setting(name)
    one = indices(DIGITS, s, n_majority, n_minority, seed)
    other = indices(DIGITS, s, min(fewer, n_majority), min(fewer, n_minority), seed)
    assert flat(one["test"]) == flat(other["test"]) and flat(one["validation"]) == flat(other["validation"])
    for larger, smaller in zip(one["train"], other["train"]):
        assert larger[: len(smaller)].tolist() == smaller.tolist()


@given(name=st.sampled_from(list(SETTINGS)), seed=st.integers(0, 10_000))
def test_class_map_covers_what_the_setting_says(name, seed):
    s = setting(name)
    classes = s.class_map(seed, 10)
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
        name: sorted(c for pool in s.class_map(seed, 10)[: s.majorities] for c in pool)
        for name, s in SETTINGS.items() if "v" in name
    }  # fmt: skip
    assert len(pools) == 4 and len({tuple(pool) for pool in pools.values()}) == 1
    assert len(pools["digits/1v1"]) == 8


@pytest.mark.parametrize("kind", ["majority", "minority"])
@pytest.mark.parametrize("name", SETTINGS)
def test_asking_for_too_many_says_how_many_there_are(name, kind):
    s, sizes = setting(name), {"n_majority": 10, "n_minority": 10}
    with pytest.raises(ValueError) as error:
        indices(DIGITS, s, **sizes | {f"n_{kind}": 5000}, seed=100)
    c = 0 if kind == "majority" else s.majorities
    there = int(np.isin(DIGITS.labels, s.class_map(100, 10)[c]).sum())
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
    "12aa86d8c4004daa": Run(network="mlp", output="sigmoids", schedule="constant", epochs=100, stop_f1=0.8,
                            updates=150, batch_size=8),
}  # fmt: skip


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
    monkeypatch.setattr("replication.runs.PROTOCOL", PROTOCOL + 1)
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


# --- Designs --------------------------------------------------------------------------------------

# arms x rates x levels and seeds, as the design page has them; each line counts entries, not trainings
ENTRIES = {
    "base": 60 * (2 * 3 + 2) + 20 * 2 * (2 * 3),
    "removal": 60 * 2 * 3,
    "ratio": 40 * (6 + 4) * 2 * 2,
    "batch_size": 20 * 7 * (2 * 2 + 2 + 2 * 2),
    "generality": 60 * 3 * 2 * 3,
    "majorities": 60 * 2 * 2 * 2 * 2 * 2,
    "sigmoid": 60 * 6 * 3,
    "uncertainty": 60 * 2 * 3,
    "training_time": 20 * 2 * 2 * 2,
    "mechanism": 20 * 8,
    "remedies": 20 * 10,
}
JUDGED = [claim for claim in ENTRIES if claim not in ("mechanism", "remedies")]


def test_every_claim_has_its_entries():
    assert {claim: len(designs.entries(claim)) for claim in designs.DESIGNS} == ENTRIES


@pytest.mark.parametrize("claim", ENTRIES)
def test_arms_share_confirmatory_seeds(claim):
    n = designs.n_seeds(claim)
    assert n >= (60 if claim in ("removal", "majorities", "sigmoid", "uncertainty") else 20)
    seeds = {}
    for place, e in designs.entries(claim):
        seeds.setdefault((place, e.variant, e.rate, e.arm, e.level), []).append(e.run.seed)
    expected = list(range(CONFIRMATORY, CONFIRMATORY + n))
    for (*_, level), found in seeds.items():
        assert found == (expected[:20] if claim == "base" and level > 10 else expected)
    assert CONFIRMATORY == 100


@pytest.mark.parametrize("claim", ENTRIES)
def test_arms_differ_from_plain_in_nothing_but_the_arm_and_its_rate(claim):
    groups = {}
    for (s, network), e in designs.entries(claim):
        best = designs.chosen_rates("wide" if e.rate == "wide" else "grid")[f"{s.split('/')[0]}/{network}"]
        assert e.run.learning_rate == best[designs.reference(e.arm) if e.rate == "shared" else e.arm]
        assert {name: getattr(e.run, name) for name in designs.ARMS[e.arm]} == designs.ARMS[e.arm]
        neutral = {name: getattr(Run(), name) for name in designs.ARMS[e.arm]}
        rest = dataclasses.replace(e.run, learning_rate=1.0, **neutral)
        groups.setdefault((s, network, e.variant, e.level, e.run.seed), set()).add(rest)
    assert all(len(rest) == 1 for rest in groups.values())


@pytest.mark.parametrize("claim", JUDGED)
def test_judged_claims_have_the_pair_at_both_rates(claim):
    found = {}
    for place, e in designs.entries(claim):
        found.setdefault((place, e.variant, e.level, e.run.seed), set()).add((e.rate, e.arm))
    pair = {(rate, arm) for rate in ("own", "shared") for arm in ("plain", "final_bn")}
    assert all(pair <= there for there in found.values())


def test_each_run_is_wanted_once_seed_by_seed():
    runs = designs.runs()
    assert len(runs) == len(set(runs))
    assert set(runs) == {e.run for claim in ENTRIES for _, e in designs.entries(claim)}
    assert [run.seed for run in runs] == sorted(run.seed for run in runs) and runs[0].seed == CONFIRMATORY
    assert len({run.key(DIGITS.digest) for run in runs}) == len(runs)
    assert set(designs.runs(seeds=2)) == {run for run in runs if run.seed < 102}


def test_levels_are_the_factor_on_the_axis():
    for claim, factor, levels in [
        ("ratio", lambda e: e.run.n_minority if e.variant == "minority varied" else e.run.n_majority,
         {2, 5, 10, 20, 40, 80, 100, 200, 500, 1000}),
        ("batch_size", lambda e: e.run.batch_size, {8, 16, 32, 64, 128, 256, 512}),
        ("base", lambda e: e.run.epochs, {10, 30, 100}),
        ("training_time", lambda e: e.run.epochs, {10, 100}),
        ("majorities", lambda e: setting(e.run.setting).majorities, {1, 2}),
    ]:  # fmt: skip
        found = [e for _, e in designs.entries(claim, seeds=1)]
        assert {e.level for e in found} == levels and all(e.level == factor(e) for e in found)
    assert {
        e.run.updates for _, e in designs.entries("batch_size", seeds=1) if e.variant == "equal updates"
    } == {150}
    assert {(e.run.schedule, e.run.stop_f1) for _, e in designs.entries("training_time", seeds=1)} == {
        ("constant", 0.8), ("one_cycle", 0.0),
    }  # fmt: skip


def test_majorities_fix_the_total_or_the_class():
    for _, e in designs.entries("majorities", seeds=1):
        s = setting(e.run.setting)
        total = s.majorities * e.run.n_majority
        assert e.run.n_minority == 10
        assert total == 1000 if e.variant.endswith("in total") else e.run.n_majority == 500
        assert e.variant.startswith("1 minority," if s.minorities == 1 else "2 minorities,")


def test_pilots_share_no_seed_with_the_designs():
    pilots = designs.pilots()
    runs = [run for *_, run in pilots]
    assert len(runs) == len(set(runs)) == 10 * 7 * (len(designs.ARMS) + 2 * 2)
    assert {run.seed for run in runs} == set(range(10)) and not {run.seed for run in designs.runs()} & set(
        range(100)
    )
    assert {run.learning_rate for run in runs} == set(designs.PILOT_RATES) > set(designs.RATE_GRID)
    for place, arm, run in pilots:
        assert place == f"{run.setting}/{run.network}"
        assert run.changed().keys() <= {*designs.ARMS[arm], "network", "learning_rate", "seed"}


@pytest.mark.parametrize(("name", "choice"), [("grid", designs.RATE_GRID), ("wide", designs.PILOT_RATES)])
def test_a_rate_is_chosen_for_every_arm_in_use(name, choice):
    rates = designs.chosen_rates(name)
    tuned = {(place, arm) for place, arm, _ in designs.pilots()}
    assert {(place, arm) for place, arms in rates.items() for arm in arms} == tuned
    assert {rate for arms in rates.values() for rate in arms.values()} <= set(choice)
    used = {
        (f"{s.split('/')[0]}/{n}", e.arm)
        for claim in ENTRIES
        for (s, n), e in designs.entries(claim, seeds=1)
    }
    assert used <= tuned


def test_an_arm_is_compared_with_its_own_plain_form():
    assert {arm: designs.reference(arm) for arm in designs.PAIR} == {"plain": "plain", "final_bn": "plain"}
    assert designs.reference("final_bn_sigmoids") == "plain_sigmoids"
    assert designs.reference("final_bn_logit_adjusted_loss") == "plain_logit_adjusted_loss"
    assert all(designs.reference(arm) in designs.ARMS for arm in designs.ARMS)


@pytest.mark.parametrize(("claim", "asked", "words"), [
    ("nope", {}, "unknown claim 'nope': allowed are base, removal, ratio"),
    ("base", {"settings": ["cats"]}, "unknown setting 'cats': allowed are digits"),
    ("base", {"networks": ["vgg"]}, "unknown network 'vgg': allowed are simple_cnn, mlp, logistic"),
    ("base", {"seeds": 0}, "seeds = 0 is not allowed: at least 1"),
    ("sigmoid", {"networks": ["mlp"]}, "no learning rate chosen for arm 'plain_sigmoid' on 'digits/mlp'"),
])  # fmt: skip
def test_what_no_design_has_is_refused(claim, asked, words):
    with pytest.raises(ValueError, match=words):
        designs.entries(claim, **asked)
