"""Archives as honest and as hostile hands pack them."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from medi_build.content.cards import Card
from medi_build.errors import FetchError
from medi_build.ingest import archive
from medi_build.ingest.archive import BrokenArchiveError, unpack
from medi_build.ingest.fetch import fetch as fetch_remotes
from medi_build.ingest.fetch import lacking, locate
from tests.ingest.cards import Told, card, gone
from tests.loopback import Fault, Server, serving

FILES = {f"repo-abc/tasks/{name}.json": f'{{"{name}": "{name * 3000}"}}'.encode() for name in ("one", "two", "three")}


def packed(files: dict[str, bytes], *more: tarfile.TarInfo, level: int = 9) -> bytes:
    """A tar.gz of files and further members without content."""
    return gzip.compress(tarred(files, *more), level)


def tarred(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in more:
            tar.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def unpacked(folder: Path, content: bytes, *names: str) -> dict[str, bytes]:
    """What comes of members of an archive, which are told by the last part of their names."""
    (folder / "archive").write_bytes(content)
    wanted = {name: folder / "out" / name.rsplit("/", 1)[-1] for name in names}
    unpack(folder / "archive", wanted)
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_only_what_is_wanted_is_written_however_it_is_packed(tmp_path: Path, pack: Callable[[bytes], bytes]):
    link = special("repo-abc/link", tarfile.SYMTYPE, "/etc/passwd")
    names = list(FILES)[:2]
    assert unpacked(tmp_path, pack(tarred(FILES, link)), *names) == {
        "one.json": FILES[names[0]],
        "two.json": FILES[names[1]],
    }


NAME = "repo-abc/tasks/one.json"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed({"../one.json": b"x", **FILES}), "which leads out of it"),
        (packed({"repo-abc/../../one.json": b"x", **FILES}), "which leads out of it"),
        (packed({"/etc/one.json": b"x", **FILES}), "which leads out of it"),
        (packed({}, special(NAME, tarfile.SYMTYPE, "/etc/passwd")), "no plain file in it but a link"),
        (packed({}, special(NAME, tarfile.LNKTYPE, "repo-abc/two.json")), "no plain file in it but a link"),
        (packed({}, special(NAME, tarfile.CHRTYPE)), "no plain file"),
        (packed({}, special(NAME, tarfile.FIFOTYPE)), "no plain file"),
        (packed({}, special(NAME, tarfile.DIRTYPE)), "no plain file"),
        (packed(FILES)[:-20], "damaged"),
        (packed({"repo-abc/tasks/two.json": b"x"}), r"has no repo-abc/tasks/one\.json, or ends before"),
        (tarred(FILES)[:2000], "ends in the middle of|damaged"),
        (b"<html>an error page that came with code 200</html>" * 40, "damaged|not a tar file"),
        (b"", "damaged|not a tar file"),
    ],
)  # fmt: skip
def test_hostile_and_broken_archives_are_refused(tmp_path: Path, content: bytes, message: str):
    with pytest.raises(BrokenArchiveError, match=message):
        unpacked(tmp_path, content, NAME)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in (["archive"], ["archive", "one.json"])


@pytest.mark.parametrize(
    "header", [{"GNU.sparse.map": "1,x"}, {"GNU.sparse.size": "x"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}]
)
def test_headers_that_tarfile_cannot_read_are_refused(tmp_path: Path, header: dict[str, str]):
    member = tarfile.TarInfo(NAME)
    member.pax_headers = header
    with pytest.raises(BrokenArchiveError, match="damaged"):
        unpacked(tmp_path, gzip.compress(member.tobuf(tarfile.PAX_FORMAT) + b"\0" * 4096), NAME)


def test_a_member_that_stands_twice_is_refused(tmp_path: Path):
    one, other = special(NAME, tarfile.REGTYPE), special(NAME, tarfile.REGTYPE)
    with pytest.raises(BrokenArchiveError, match="stands in it twice"):
        unpacked(tmp_path, packed({}, one, other), NAME)


def test_a_changed_byte_is_found_by_the_checksum_at_the_end(tmp_path: Path):
    content = bytearray(gzip.compress(tarred(FILES) + bytes(3 << 20)))
    content[-8] ^= 1  # of the checksum, which comes after more bytes than are read ahead
    with pytest.raises(BrokenArchiveError, match="damaged"):
        unpacked(tmp_path, bytes(content), NAME)


def test_bombs_are_refused_before_they_fill_disk_or_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive, "FREE_BYTES", 1 << 20)
    zeros = {NAME: b"\0" * (1 << 23)}
    with pytest.raises(BrokenArchiveError, match=r"holds more than [0-9,]* bytes, too many for its size"):
        unpacked(tmp_path, packed(zeros), NAME)
    assert (tmp_path / "out" / "one.json").stat().st_size < 1 << 22
    unwanted = {"zeros": b"\0" * (1 << 23), **FILES}
    with pytest.raises(BrokenArchiveError, match="too many for its size"):
        unpacked(tmp_path, packed(unwanted), NAME)
    monkeypatch.setattr(archive, "MOST_MEMBERS", 2)
    with pytest.raises(BrokenArchiveError, match="more than 2 members"):
        unpacked(tmp_path, packed(FILES), next(iter(FILES)))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_says_it_is_a_gigabyte_long_is_not_read(tmp_path: Path, kind: bytes):
    header = special("long", kind)
    header.size = 1 << 30
    with pytest.raises(BrokenArchiveError, match="header of it wants to be 1,073,741,824 bytes long"):
        unpacked(tmp_path, gzip.compress(header.tobuf() + b"\0" * 4096), NAME)


# --- fetched


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.files["/archive.tar.gz"] = packed(FILES)
        yield server


def member(server: Server, name: str, **download: object) -> Card:
    place = {"archive": {"url": server.url + "/archive.tar.gz", "members": "repo-abc/tasks/"}, **download}
    return card(f"pairs/{name}", (f"{name}.json",), download=place)


def fetched(cache: Path, *cards: Card, told: Told | None = None) -> list[bytes]:
    """Fetch what the cards want of one archive in one go, and read it where it is found."""
    remotes = [remote for one in cards for remote in lacking(one, one.files["train"])]
    fetch_remotes(remotes, cache, told or Told())
    return [locate(one, "train", None, cache).found["rows"][0].read_bytes() for one in cards]


def requests(server: Server) -> int:
    return len([method for method, _, _ in server.asked if method == "GET"])


def test_one_request_brings_what_many_cards_want_and_the_archive_is_let_go(server: Server, tmp_path: Path):
    one, two = member(server, "one"), member(server, "two")
    assert fetched(tmp_path, one, two) == list(FILES.values())[:2]
    assert fetched(tmp_path, one, two) == list(FILES.values())[:2]
    assert requests(server) == 1
    assert sorted(path.name for path in gone(tmp_path)) == ["one.json", "pins.json", "two.json"]
    key = f"{server.url}/archive.tar.gz!repo-abc/tasks/one.json"
    assert json.loads((tmp_path / "pins.json").read_text())[key]["size"] == len(FILES["repo-abc/tasks/one.json"])


def test_the_members_are_pinned_and_not_how_they_are_packed(server: Server, tmp_path: Path):
    one, two = member(server, "one"), member(server, "two")
    fetched(tmp_path, one)
    server.files["/archive.tar.gz"] = packed({**FILES, "repo-abc/new": b"new"}, level=1)
    assert fetched(tmp_path, one, two) == list(FILES.values())[:2]
    locate(one, "train", None, tmp_path).found["rows"][0].unlink()
    server.files["/archive.tar.gz"] = packed({**FILES, "repo-abc/tasks/one.json": b"changed"})
    with pytest.raises(FetchError, match=r"one\.json: sha256 is .*, the first fetch got .*changed upstream"):
        fetched(tmp_path, one)
    assert sorted(path.name for path in gone(tmp_path)) == ["pins.json", "two.json"]


def test_a_digest_of_the_card_is_that_of_the_member(server: Server, tmp_path: Path):
    with pytest.raises(FetchError, match=f"its card pins {'0' * 64}"):
        fetched(tmp_path, member(server, "one", sha256={"one.json": "0" * 64}))
    assert gone(tmp_path) == []


def test_a_damaged_archive_is_fetched_once_more(server: Server, tmp_path: Path):
    server.faults["/archive.tar.gz"] = [Fault(flip=100), Fault(cut=500), Fault()]
    told = Told()
    assert fetched(tmp_path, member(server, "three"), told=told) == [FILES["repo-abc/tasks/three.json"]]
    assert len(told.said) == 1 and "fetched once more" in told.said[0]
    with pytest.raises(FetchError, match=r"has no repo-abc/tasks/four\.json.*the file was removed"):
        fetched(tmp_path, member(server, "four"))


def test_a_card_names_one_place():
    with pytest.raises(ValueError, match="names hub and archive; name one"):
        card(download={"hub": "some/one", "archive": {"url": "http://127.0.0.1/a.tar"}})
