"""Raw files by URL: what a build needs is fetched, once, and again only what has changed there."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from medi_build.errors import FetchError, MediError, MissingInputError, OptionError
from medi_build.ingest.raw_data import raw_data
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import build
from medi_build.progress import Silent
from tests.conftest import ROOT
from tests.loopback_s3 import KEYS, moto_server

SAMPLES = ROOT / "sources" / "sample_data"
SOURCES = ("embedding_training_data/sample_faq", "embedding_training_data/sample_search")


def built(out: Path, data: Path | str) -> dict[str, bytes]:
    cache = out.parent / "cache"
    build(BuildOptions(out, SOURCES, data=data, cache=cache, offline=True))
    return {path.name: path.read_bytes() for path in sorted(out.rglob("*.*")) if path.is_file()}


def test_a_url_gives_what_the_folder_gives(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(f"{SAMPLES}/", "/raw/", recursive=True)
    try:
        assert built(tmp_path / "url", "memory://raw") == built(tmp_path / "folder", SAMPLES)
    finally:
        memory.rm("/raw", recursive=True)
    fetched = [path.name for path in (tmp_path / "cache" / "data").rglob("*") if path.is_file()]
    assert sorted(fetched) == [".fetched.json", "sample_faq.jsonl", "sample_search.jsonl"]


class Counting(Silent):
    """Hears how many bytes came."""

    def __init__(self) -> None:
        self.bytes = 0

    def downloaded(self, done: int, total: int) -> None:
        self.bytes = done


def fetched(url: Path, cache: Path, *names: str) -> tuple[Path, int]:
    """The folder, and the bytes that had to be fetched of some files in it."""
    counting = Counting()
    raw = raw_data(f"file://{url}", cache, ["source"], counting)
    assert raw.folder is not None
    found = [path for ones in raw.listings[raw.folder / "source"].values() for _, path in ones if path.name in names]
    raw.fetch(found)
    return raw.folder / "source", counting.bytes


@pytest.fixture
def url(tmp_path: Path) -> Path:
    folder = tmp_path / "store" / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.jsonl").write_text("first")
    (folder / "deep" / "b.jsonl").write_text("second")
    (folder / ".hidden.jsonl").write_text("no")
    return folder.parent


def test_only_what_is_new_or_changed_is_fetched(tmp_path: Path, url: Path) -> None:
    cache = tmp_path / "cache"
    folder, count = fetched(url, cache, "a.jsonl", ".hidden.jsonl")
    assert (count, [path.name for path in folder.iterdir()]) == (5, ["a.jsonl"])
    assert fetched(url, cache, "a.jsonl", "b.jsonl")[1] == 6
    assert (folder / "deep" / "b.jsonl").read_text() == "second"
    (url / "source" / "a.jsonl").write_text("other")
    os.utime(url / "source" / "a.jsonl", (1, 1))
    assert fetched(url, cache, "a.jsonl", "b.jsonl")[1] == 5
    assert (folder / "a.jsonl").read_text() == "other"
    shutil.rmtree(url / "source" / "deep")
    fetched(url, cache)
    assert not (folder / "deep" / "b.jsonl").exists()


def test_a_broken_transfer_leaves_what_was_there(tmp_path: Path, url: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = fetched(url, tmp_path / "cache", "a.jsonl")
    (url / "source" / "a.jsonl").write_text("changed")

    def break_off(self: object, source: str, target: str) -> None:
        Path(target).write_text("chan")
        raise ConnectionResetError("the line is dead")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.get_file", break_off)
    with pytest.raises(FetchError, match=r"source/a\.jsonl: cannot be read .*the line is dead"):
        fetched(url, tmp_path / "cache", "a.jsonl")
    assert (folder / "a.jsonl").read_text() == "first"


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("file:///nowhere/at/all", FetchError, "cannot be read .*FileNotFoundError"),
        ("nosuch://bucket/raw", FetchError, "cannot be read .*nosuch"),
        ("https://me:geheim123@host/raw", OptionError, "holds a user name or a password"),
        ("http://127.0.0.1:9/raw?token=geheim123", FetchError, "cannot be read"),
    ],
)
def test_a_url_that_gives_nothing_is_one_error(tmp_path: Path, url: str, error: type[MediError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        build(BuildOptions(tmp_path / "out", SOURCES, data=url, cache=tmp_path / "cache"))
    assert "geheim" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(MissingInputError, match="holds no file"):
        raw_data(f"file://{tmp_path / 'raw'}", tmp_path / "cache", [], Silent())


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_a_store_that_does_not_answer_is_given_up(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are taken and nothing is said; S3's library alone would wait for seven minutes."""
    monkeypatch.setattr("medi_build.ingest.raw_data.ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        at = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name, value in {"ENDPOINT_URL": at, "ACCESS_KEY_ID": "none", "SECRET_ACCESS_KEY": "none"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        if scheme == "s3":
            pytest.importorskip("s3fs")
            fsspec.get_filesystem_class("s3").clear_instance_cache()
        with pytest.raises(FetchError, match=r"--data .*raw: cannot be read \(TimeoutError: no answer within 0.5 s\)"):
            raw_data(f"{at}/raw" if scheme == "http" else "s3://bucket/raw", tmp_path, [], Silent())


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 with our samples in it."""
    with moto_server() as server:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": server}.items():
            monkeypatch.setenv(name, value)
        files = fsspec.filesystem("s3", skip_instance_cache=True)
        files.mkdir("team")
        files.put(f"{SAMPLES}/", "team/raw/", recursive=True)
        yield "s3://team/raw"


def test_s3_gives_what_the_folder_gives(bucket: str, tmp_path: Path) -> None:
    """And again once a file has changed there; a bucket, a folder or a key that is wrong is one error."""
    folder = built(tmp_path / "folder", SAMPLES)
    assert built(tmp_path / "s3", bucket) == folder
    lines = (SAMPLES / "embedding_training_data" / "sample_faq.jsonl").read_text().splitlines(keepends=True)
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    files.pipe("team/raw/embedding_training_data/sample_faq.jsonl", "".join(lines[3:]).encode())
    changed = built(tmp_path / "changed", bucket)
    assert {name for name in folder if changed[name] != folder[name]} >= {"manifest.json", "medi-data.json"}
    for url in ("s3://nobodys/raw", f"{bucket}/nowhere"):
        with pytest.raises(FetchError, match=f"{url}: cannot be read .*FileNotFoundError"):
            raw_data(url, tmp_path, [], Silent())


def test_s3_without_credentials_is_one_error(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(FetchError, match="credentials are in the environment"):
        raw_data(bucket, tmp_path, [], Silent())
