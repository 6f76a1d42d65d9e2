"""What tests/ingest/test_archive.py leaves open: names that are no UTF-8, bombs in each packing, real sizes."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from medi_build.ingest import archive
from medi_build.ingest.archive import MOST_RATIO, BrokenArchiveError, unpack
from medi_build.ingest.streams import FREE_BYTES
from tests.ingest.test_archive import tarred, zstd


def named(*names: bytes) -> bytes:
    """A tar file with members of these raw names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in names:
            member = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
            member.size = 2
            tar.addfile(member, io.BytesIO(b"{}"))
    return buffer.getvalue()


def taken(folder: Path, content: bytes, *names: str) -> list[str]:
    path = folder / "archive"
    path.write_bytes(content)
    unpack(path, {name: folder / "out" / str(number) for number, name in enumerate(names)})
    return sorted(one.name for one in (folder / "out").iterdir())


def test_names_that_are_no_utf8_are_passed_over(tmp_path: Path) -> None:
    content = named(b"\xff\xfe.json", b"a/\xe4\xf6.json", b"one.json", b"a\nb.json", b"-rf", b"CON")
    assert taken(tmp_path, content, "one.json") == ["0"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["archive", "out"]


@pytest.mark.parametrize("name", [b"../\xff.json", b"/\xff", b"a/../../\xff"])
def test_a_hostile_name_that_is_no_utf8_is_told_in_words_that_can_be_printed(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(BrokenArchiveError, match="which leads out of it") as caught:
        taken(tmp_path, named(name, b"one.json"), "one.json")
    str(caught.value).encode()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["archive"]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_a_bomb_in_any_packing_stops_at_its_bound(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    content = pack(tarred({"one.json": b"\0" * (FREE_BYTES + (8 << 20))}))
    assert len(content) * MOST_RATIO < FREE_BYTES + (8 << 20)
    with pytest.raises(BrokenArchiveError, match=r"too many for its size|more than 200 times its size"):
        taken(tmp_path, content, "one.json")
    assert (tmp_path / "out" / "0").stat().st_size <= FREE_BYTES


def test_many_small_members_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_MEMBERS", 100)
    content = gzip.compress(tarred({f"{number}.json": b"" for number in range(101)}))
    with pytest.raises(BrokenArchiveError, match="more than 100 members"):
        taken(tmp_path, content, "0.json")


def test_an_archive_in_an_archive_is_a_file(tmp_path: Path) -> None:
    inner = gzip.compress(tarred({"../../evil": b"x"}))
    assert taken(tmp_path, tarred({"inner.tar.gz": inner}), "inner.tar.gz") == ["0"]
    assert (tmp_path / "out" / "0").read_bytes() == inner
