"""The page on reliability says what was counted and measured, and projects by the model that it states."""

import json

import pytest

from replication.pages.reliability import Reliability, open_reliability
from replication.paths import root

FAULTS = {
    "hardware": "a machine",
    "seed": 1,
    "counts": {
        "kills": {"at a random time": 3, "at a system call": 1, "kept": 4},
        "flips": {"found": 5, "harmless": 2, "survived": 1},
        "full disk": {"done": 1, "kept": 4, "refused": 3},
    },
    "examples": [],
    "wrong": 0,
}
SCALE = {
    "rows": {
        "hardware": "a machine",
        "load": 1.0,
        "measured": [
            row
            for n in (10_000, 1_000_000)
            for row in (
                {"step": "add", "rows": 2000, "seconds": 10.0, "peak_mb": 100},
                {"step": "keys", "rows": n, "seconds": n / 1e6, "peak_mb": 100},
                {"step": "scores", "rows": n, "seconds": n / 1e4, "peak_mb": 100 + n / 1000},
                {"step": "reproduced", "rows": n, "seconds": 1 + n / 1e4, "peak_mb": 100 + n / 1000},
                {"step": "size", "rows": n, "bytes_per_row": 4000},
            )
        ],
    },
    "backends": {
        "hardware": "a machine",
        "load": 1.0,
        "measured": [
            {"backend": "local", "runs": 10, "seconds": 16.0, "training": 10.0},
            {"backend": "local", "runs": 110, "seconds": 126.0, "training": 110.0},
        ],
    },
    "pages": {"hardware": "a machine", "load": 1.0, "measured": [{"page": "base", "seconds": 9.0, "cpu": 4.0}]},
}


@pytest.fixture
def page():
    return Reliability(json.loads(json.dumps(FAULTS)), json.loads(json.dumps(SCALE)))


def test_counts_are_those_of_the_file(page):
    assert [page.cases(kind) for kind in FAULTS["counts"]] == [4, 8, 4]
    text = page.counts().data
    assert "3 at a random time, 1 at a system call" in text and "1 damaged rows set aside" in text
    assert "No finished work was lost" in page.verdict().data


def test_what_went_wrong_is_said(page):
    page.faults["wrong"] = page.faults["counts"]["flips"]["wrong"] = 2
    assert page.cases("flips") == 10 and "In 2 of these cases something went wrong" in page.verdict().data
    assert "No finished work" not in page.verdict().data and "2 <strong>wrong</strong>" in page.counts().data


def test_the_goals_are_judged_by_the_largest_store(page):
    assert page.measured("reproduced", "seconds") == {10_000: 2.0, 1_000_000: 101.0}
    said = page.goals().data
    assert said.startswith("With 1,000,000 rows, within the goal: 1.1 GB of memory (goal 2 GB) and 4.0 kB a row")
    assert "beyond it: 101 s of `reproduced` (goal 60 s)" in said
    assert '<th scope="col">1,000,000 rows</th>' in page.store().data and "101.0" in page.store().data


def test_the_model_is_that_of_the_page(page):
    assert (
        page.rows_per_second() == 200 and page.added("local") == pytest.approx((0.1, 5.0)) and page.added("ray") is None
    )
    devices, driver = page.hours(1.5, devices=80, runs=10**6)
    assert (devices, driver) == pytest.approx((10**6 * 1.6 / 80 / 3600, 10**6 / 200 / 3600))
    assert page.breaks_at(80) == pytest.approx(0.4)
    at = page.breaks_at() - page.overhead  # there devices and driver take as long
    assert page.hours(at)[0] == pytest.approx(page.hours(at)[1])
    assert "0.40 s" in page.breaks().data and "not measured" in page.backends().data
    assert page.projection().data.count("<td>the driver</td>") == 1


def test_pages_beyond_the_goal_are_counted(page):
    assert "1 of 1 pages keep to it" in page.pages_goal().data
    page.scale["pages"]["measured"].append({"page": "scoreboard", "seconds": 20.0, "cpu": 11.0})
    assert "1 of 2 pages keep to it" in page.pages_goal().data and "11 s" in page.pages_goal().data


def test_the_recorded_measurements_can_be_shown():
    page = open_reliability()
    assert page.faults["wrong"] == 0 and page.cases("kills") >= 200 and page.cases("flips") >= 2000
    assert max(page.measured("reproduced", "seconds")) >= 1_000_000
    assert page.cases("fuzz") >= 2000 and {"keys", "scores", "reproduced"} <= {row["step"] for row in page.steps}
    for shown in (page.verdict, page.counts, page.store, page.goals, page.backends, page.projection, page.breaks):
        assert shown().data


def test_what_was_not_measured_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("replication.pages.reliability.root", lambda: tmp_path)
    with pytest.raises(ValueError, match="no measurements at .*faults.json: `make faults` makes them"):
        open_reliability()
    assert (root() / "benchmarks" / "faults.json").is_file()
