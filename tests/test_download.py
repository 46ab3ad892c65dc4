"""Downloads from a local server that cuts, lies and refuses; archives that want to escape."""

import gzip
import hashlib
import http.server
import io
import shutil
import tarfile
import threading
import zipfile

import pytest

from replication.data.fetch.download import fetch, unpack
from replication.files import sha256_of

CONTENT = bytes(range(256)) * 12000  # about 3 MB: several chunks
SUM = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the path says how.

    /range, /norange, /cut (ends early, twice), /slow (1.3 MB an answer), /always-cut (1000 bytes an answer), /gone,
    /busy and /wait (refuse twice).
    """

    def log_message(self, *_):
        pass

    def do_GET(self):
        seen = self.server.seen
        seen.append((self.path, self.headers.get("Range")))
        if self.path == "/gone" or (self.path in ("/busy", "/wait") and len(seen) < 3):
            return self.send_error({"/gone": 404, "/busy": 503, "/wait": 429}[self.path])
        start = 0
        if self.headers.get("Range") and self.path != "/norange":
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = start + 1_300_000 if self.path in ("/cut", "/norange") and len(seen) < 3 else len(CONTENT)
        if self.path in ("/always-cut", "/slow"):
            end = start + (1000 if self.path == "/always-cut" else 1_300_000)
        self.wfile.write(CONTENT[start:end])


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as it:
        it.seen = []
        thread = threading.Thread(target=it.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        it.url = f"http://127.0.0.1:{it.server_port}"
        yield it
        it.shutdown()


def test_fetch_whole_and_again(server, tmp_path):
    target = fetch(f"{server.url}/range", tmp_path / "sub" / "file.zip", SUM)
    assert target.read_bytes() == CONTENT and sha256_of(target) == SUM
    fetch(f"{server.url}/range", target, SUM)
    assert len(server.seen) == 1, "a file that is there is not fetched again"
    assert [p.name for p in target.parent.iterdir()] == ["file.zip"]


def test_cut_connection_is_continued_where_it_broke(server, tmp_path):
    target = fetch(f"{server.url}/cut", tmp_path / "file", SUM, wait=0)
    assert target.read_bytes() == CONTENT
    ranges = [r for _, r in server.seen]
    assert ranges[0] is None and ranges[1] == "bytes=1300000-" and ranges[2] == "bytes=2600000-"


def test_server_without_range_starts_over(server, tmp_path):
    assert fetch(f"{server.url}/norange", tmp_path / "file", SUM, wait=0).read_bytes() == CONTENT


def test_attempts_that_bring_something_do_not_count(server, tmp_path):
    assert fetch(f"{server.url}/slow", tmp_path / "file", SUM, retries=0, wait=0).read_bytes() == CONTENT
    assert len(server.seen) == 3


def test_a_part_that_is_longer_than_the_file_is_fetched_anew(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT + b"of a larger file that was there before")
    assert fetch(f"{server.url}/range", tmp_path / "file", wait=0).read_bytes() == CONTENT


def test_a_full_disk_is_one_sentence_and_no_further_attempt(server, tmp_path):
    (tmp_path / "file.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"file cannot be written to {tmp_path}: No space left on device"):
        fetch(f"{server.url}/range", tmp_path / "file", SUM)
    assert len(server.seen) == 1 and not (tmp_path / "file").exists()


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_an_archive_larger_than_the_disk_is_not_begun(tmp_path, monkeypatch, name):
    path = archive(tmp_path / name, "one")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(OSError, match=rf"{name} cannot be unpacked to .*: the disk is full"):
        unpack(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_later_call_continues(server, tmp_path):
    with pytest.raises(ConnectionError, match="in 2 attempts .*the same command continues it"):
        fetch(f"{server.url}/always-cut", tmp_path / "file", SUM, retries=1, wait=0)
    assert not (tmp_path / "file").exists() and (tmp_path / "file.part").stat().st_size == 2000
    assert fetch(f"{server.url}/range", tmp_path / "file", SUM).read_bytes() == CONTENT
    assert server.seen[-1][1] == "bytes=2000-"


def test_whole_part_is_taken(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch(f"{server.url}/range", tmp_path / "file", SUM).read_bytes() == CONTENT


def test_wrong_checksum_is_removed(server, tmp_path):
    with pytest.raises(ValueError, match="has checksum .* expected 000000000000: removed"):
        fetch(f"{server.url}/range", tmp_path / "file", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_changed_file_is_fetched_anew(server, tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    assert fetch(f"{server.url}/range", tmp_path / "file", SUM).read_bytes() == CONTENT


def test_refusal_is_final_and_overload_is_not(server, tmp_path):
    with pytest.raises(ConnectionError, match="answered 404"):
        fetch(f"{server.url}/gone", tmp_path / "file", wait=0)
    assert len(server.seen) == 1
    for path in ("busy", "wait"):
        server.seen.clear()
        assert fetch(f"{server.url}/{path}", tmp_path / path, SUM, wait=0).read_bytes() == CONTENT
        assert len(server.seen) == 3


def archive(path, *members):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as content:
            for name in members:
                content.writestr(name, b"x")
    else:
        with tarfile.open(path, "w:gz") as content:
            for name in members:
                entry = tarfile.TarInfo(name)
                entry.size = 1
                content.addfile(entry, io.BytesIO(b"x"))
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_unpack(tmp_path, name):
    folder = unpack(archive(tmp_path / name, "one/a b.jpg", "two/ä.jpg"), tmp_path / "out")
    assert sorted(p.name for p in folder.rglob("*.jpg")) == ["a b.jpg", "ä.jpg"]
    unpack(archive(tmp_path / name, "one/c.jpg"), tmp_path / "out")
    assert [p.name for p in folder.rglob("*.jpg")] == ["c.jpg"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize("evil", ["../evil", "/tmp/evil-unpacked", "one/../../evil"])
def test_no_path_escapes(tmp_path, name, evil):
    with pytest.raises(ValueError, match="leads outside"):
        unpack(archive(tmp_path / name, "good", evil), tmp_path / "in" / "out")
    assert {p.name for p in tmp_path.iterdir()} == {name, "in"} and not list((tmp_path / "in").iterdir())


def test_no_link_escapes(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as content:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../.."
        content.addfile(link)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"Rar!\x1a\x07\x01\x00broken"])
def test_unknown_and_broken_archives_are_one_sentence(tmp_path, content):
    (tmp_path / "a.rar").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.rar (is not an archive|cannot be unpacked|is a rar archive)"):
        unpack(tmp_path / "a.rar", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.rar"]


def test_rar_without_a_tool_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    with pytest.raises(ValueError, match="install bsdtar"):
        unpack(tmp_path / "a.rar", tmp_path / "out")


def test_broken_zip_is_one_sentence(tmp_path):
    whole = archive(tmp_path / "a.zip", *map(str, range(99))).read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[1000:])
    with pytest.raises(ValueError, match=r"a\.zip"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_tar_that_is_cut_or_damaged_unpacks_nothing(tmp_path, name):
    content = archive(tmp_path / "whole.tar.gz", *map(str, range(99))).read_bytes()
    content = content if name.endswith("gz") else gzip.decompress(content)
    damaged = bytearray(content)
    damaged[len(content) // 2 if name.endswith("gz") else 30 * 1024 + 5] ^= 1  # of a header: a file has 1024 bytes
    for broken in (content[: len(content) // 2], damaged):
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(ValueError, match=rf"{name} cannot be (read to its end|unpacked)"):
            unpack(tmp_path / name, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "whole.tar.gz"])
