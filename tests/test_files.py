"""Folders and files are the old or the new ones, whatever kills the writer; what was written is what is read."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from replication import files
from replication.files import recover, sha256_of, verify, whole, write

REPLACE = """import os, signal, sys
from pathlib import Path
from replication import files
if sys.argv[3] == "aside":
    files._exchange = lambda *_: False
calls = 0
def killing(name, function):
    def counted(*arguments, **named):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return counted
for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
    setattr(os, name, killing(name, getattr(os, name)))
exchange = files._exchange
files._exchange = killing("exchange", exchange)
with files.whole(Path(sys.argv[1])) as folder:
    (folder / "a").write_text("new")
    (folder / "b").write_text("new")
print(calls)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))


def _old(path):
    path.mkdir(parents=True)
    for name in ("a", "b"):
        (path / name).write_text("old")
    return path


@pytest.mark.parametrize("way", ["swap", "aside"])
def test_a_kill_at_any_call_leaves_the_old_folder_or_the_new_one(tmp_path, way):
    def replace(place, call):
        return subprocess.run([sys.executable, "-c", REPLACE, place, str(call), way], capture_output=True, text=True)

    calls = int(replace(_old(tmp_path / "counted" / "pack"), 0).stdout)
    assert calls >= 3
    seen = set()
    for call in range(1, calls + 1):
        place = _old(tmp_path / f"{call}" / "pack")
        assert replace(place, call).returncode == -signal.SIGKILL
        recover(place)
        content = {(place / name).read_text() for name in ("a", "b")}
        assert len(content) == 1 and [p.name for p in place.parent.iterdir()] == ["pack"]
        seen |= content
    assert seen == {"old", "new"}


def test_threads_and_processes_that_replace_one_folder_leave_one_whole(tmp_path):
    place = _old(tmp_path / "pack")

    def replace(word):
        for _ in range(20):
            with whole(place) as folder:
                for name in ("a", "b"):
                    (folder / name).write_text(word)

    code = "import sys; from pathlib import Path; from replication.files import whole\nfor _ in range(20):\n with whole(Path(sys.argv[1])) as f:\n  [(f / n).write_text('other') for n in 'ab']"  # noqa: E501
    other = subprocess.Popen([sys.executable, "-c", code, place])
    threads = [threading.Thread(target=replace, args=(word,)) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait() == 0
    assert (place / "a").read_text() == (place / "b").read_text() in ("one", "two", "other")
    assert [p.name for p in tmp_path.iterdir() if p.name != "home"] == ["pack"]


def test_an_exception_leaves_the_old_folder(tmp_path):
    place = _old(tmp_path / "pack")
    with pytest.raises(KeyError), whole(place) as folder:
        (folder / "a").write_text("new")
        raise KeyError
    assert (place / "a").read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["pack"]


def test_a_file_in_the_way_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "pack").write_text("mine")
    with pytest.raises(NotADirectoryError, match="no folder: move it away"), whole(tmp_path / "pack"):
        pass
    assert (tmp_path / "pack").read_text() == "mine"


def test_write_takes_text_and_bytes_and_keeps_links(tmp_path):
    write(tmp_path / "new" / "text", "ä 葉")
    assert (tmp_path / "new" / "text").read_bytes() == "ä 葉".encode()
    (tmp_path / "link").symlink_to(tmp_path / "new" / "text")
    write(tmp_path / "link", b"\0\1")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "new" / "text").read_bytes() == b"\0\1"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["text"]


def test_write_refuses_devices_pipes_and_folders(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (Path("/dev/null"), tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="is not a file that could be written"):
            write(place, "text")


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from replication.files import write\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\nwrite(Path(sys.argv[1]), 'new')"
    )
    write(tmp_path / "file", "old")
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "file"]).returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    write(tmp_path / "file", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_sum_is_computed_once_and_again_after_a_change(tmp_path, monkeypatch):
    path = tmp_path / "array"
    path.write_bytes(b"one")
    sums, seen = {path: sha256_of(path)}, []
    monkeypatch.setattr(files, "sha256_of", lambda p: seen.append(p) or sha256_of(p))
    for _ in range(3):
        verify(sums, "mend it")
    assert len(seen) == 1
    path.write_bytes(b"two")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"array has changed since it was written .*: mend it$"):
            verify(sums, "mend it")
    path.unlink()
    with pytest.raises(ValueError, match=r"array cannot be read .*: mend it$"):
        verify(sums, "mend it")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_a_damaged_note_of_sums_counts_as_none(tmp_path, content):
    write(tmp_path / "home" / "verified.json", content)
    (tmp_path / "array").write_bytes(b"one")
    verify({tmp_path / "array": sha256_of(tmp_path / "array")}, "mend it")
    (tmp_path / "array").write_bytes(b"two")
    with pytest.raises(ValueError, match="has changed"):
        verify({tmp_path / "array": "0" * 64}, "mend it")
