"""Push and pull through fsspec: to S3 as moto plays it in a process of its own, and to a folder."""

import importlib.util
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from medi_build.dataset.reader import open_dataset
from medi_build.dataset.remote import again, object_store
from medi_build.dataset.remote.hub import Wanted
from medi_build.dataset.remote.push import pull, push
from medi_build.errors import PublishError
from medi_build.progress import Silent
from tests.dataset.remote.conftest import run_process, tree
from tests.loopback_s3 import KEYS, moto_server


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": moto}.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{abs(hash(request.node.name))}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}/team/medi"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


@pytest.fixture(params=["s3", "folder"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def send(folder: Path, url: str, tag: str | None = None, watcher: Silent | None = None) -> str:
    return push(open_dataset(folder), url, Wanted(tag=tag), watcher or Silent())


def get(url: str, out: Path, revision: str | None = None) -> dict[str, bytes]:
    pull(url, revision, out, Silent())
    return tree(out)


def test_there_and_back(url: str, one: Path, two: Path, tmp_path: Path) -> None:
    assert send(one, url, "v1") == f"40 records now in {url} as version 1, tag v1"
    assert send(one, url) == f"40 records already in {url} as version 1"
    assert send(two, url) == f"30 records now in {url} as version 2"
    assert get(url, tmp_path / "newest") == tree(two)
    assert get(url, tmp_path / "v1", "v1") == get(url, tmp_path / "1", "1") == tree(one)
    with pytest.raises(PublishError, match=r"no tag 'v9'; there are: v1, and versions 1 to 2"):
        get(url, tmp_path / "no", "v9")
    with pytest.raises(PublishError, match="the tag v1 stands at version 1"):
        send(two, url, "v1")
    with pytest.raises(PublishError, match="cannot be a tag"):
        send(two, url, "7")
    with pytest.raises(PublishError, match="no dataset was pushed there"):
        get(f"{url}-other", tmp_path / "other")


def test_croissant_names_the_files_where_they_lie(folder: str, one: Path, tmp_path: Path) -> None:
    mlc = pytest.importorskip("mlcroissant")
    send(one, folder)
    found = mlc.Dataset(jsonld=str(tmp_path / "store" / "croissant.json"))
    assert len(list(found.records("records/toy_1"))) == 20


class During(Silent):
    """Does something once, when the first file is sent."""

    def __init__(self, action: Any) -> None:
        self._action = action

    def done(self, message: str) -> None:
        action, self._action = self._action, None
        if action:
            action()


def test_of_two_writers_the_slower_is_refused_and_nothing_is_mixed(
    url: str, one: Path, two: Path, tmp_path: Path
) -> None:
    with pytest.raises(PublishError, match="another writer made version 1 while this push ran"):
        send(one, url, watcher=During(lambda: send(two, url)))
    assert get(url, tmp_path / "a") == tree(two)
    assert "as version 2" in send(one, url)
    assert get(url, tmp_path / "b") == tree(one)
    assert get(url, tmp_path / "c", "1") == tree(two)


def test_two_writers_of_the_same_dataset_are_both_right(url: str, one: Path, tmp_path: Path) -> None:
    assert "now in" in send(one, url, watcher=During(lambda: send(one, url)))
    assert get(url, tmp_path / "a") == tree(one)
    with pytest.raises(PublishError, match="there is no versions/00000002"):
        get(url, tmp_path / "b", "2")


@pytest.mark.slow
def test_eight_processes_at_once(s3: str, one: Path, two: Path, tmp_path: Path) -> None:
    environment = {name: os.environ[name] for name in ("AWS_ENDPOINT_URL", *KEYS)}
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda n: run_process("push", (one, two)[n % 2], s3, **environment), range(8)))
    for done in runs:
        assert done.returncode == 0 or "another writer made version" in done.stderr, done.stderr
    assert any(done.returncode == 0 for done in runs)
    names = sorted(name.rpartition("/")[2] for name in fsspec.filesystem("s3").find(f"{s3}/versions"))
    assert names == [f"{number + 1:08d}.json" for number in range(len(names))]
    for number in range(len(names)):
        assert get(s3, tmp_path / str(number), str(number + 1)) in (tree(one), tree(two))


class Faulty:
    """A file system whose methods raise first what they are told to; it keeps what was put."""

    def __init__(self, fs: Any, faults: dict[str, list[Exception | None]]) -> None:
        self.fs, self.faults, self.sent = fs, faults, list[str]()

    def __getattr__(self, name: str) -> Any:
        works, left = getattr(self.fs, name), self.faults.get(name, [])

        def call(*arguments: Any, **more: Any) -> Any:
            if left and (error := left.pop(0)):
                raise error
            self.sent += [arguments[1]] if name == "put_file" else []
            return works(*arguments, **more)

        return call if callable(works) else works


def faulty(monkeypatch: pytest.MonkeyPatch, url: str, **faults: list[Exception | None]) -> Faulty:
    options = {"auto_mkdir": True} if url.startswith("file") else {}
    fs, root = fsspec.url_to_fs(url, **options)
    made = Faulty(fs, faults)
    monkeypatch.setattr(fsspec, "url_to_fs", lambda *_, **__: (made, root))
    return made


def test_a_push_that_broke_off_goes_on(url: str, one: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(again, "AT_ONCE", 1)
    store = faulty(monkeypatch, url, put_file=[None, None, None, PermissionError("Forbidden")])
    with pytest.raises(PublishError, match="the store does not let you"):
        send(one, url)
    with pytest.raises(PublishError, match="no dataset was pushed there"):
        get(url, tmp_path / "nothing")
    first = [*store.sent]
    assert 3 <= len(first) <= 5
    send(one, url)
    assert sorted(store.sent) == sorted(set(store.sent))  # nothing twice
    assert len(store.sent) == 6
    assert get(url, tmp_path / "back") == tree(one)


def test_a_store_that_is_busy_is_asked_again(
    url: str, one: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("medi_build.dataset.remote.again.PAUSES", (0.01, 0.01))
    names = ("put_file", "cat_file", "find", "get_file")
    passing = {name: [OSError(16, "Please reduce your request rate"), ConnectionError("reset")] for name in names}
    store = faulty(monkeypatch, url, **passing)  # type: ignore[arg-type]
    send(one, url)
    assert get(url, tmp_path / "back") == tree(one)
    assert not any(store.faults.values())
    store.faults["find"] = [OSError(16, "Please reduce your request rate")] * 3
    with pytest.raises(PublishError, match="Please reduce your request rate; run the same command again"):
        send(one, url)


@pytest.mark.parametrize("kept", [True, False])
def test_an_answer_that_was_lost(
    kept: bool, folder: str, one: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The version was made, or not, and the connection broke: either way there is one in the end."""
    monkeypatch.setattr("medi_build.dataset.remote.again.PAUSES", (0.01, 0.01))
    create, left = object_store._create, [1, 2]

    def broken(fs: Any, path: str, data: bytes) -> None:
        if left:
            left.pop()
            if kept and not Path(path).exists():
                create(fs, path, data)
            raise ConnectionError("reset")
        create(fs, path, data)

    monkeypatch.setattr(object_store, "_create", broken)
    assert "as version 1" in send(one, folder)
    assert get(folder, tmp_path / "back") == tree(one)
    assert [path.name for path in Path(folder[7:], "versions").iterdir()] == ["00000001.json"]


def test_wrong_bytes_in_the_store_are_never_placed(url: str, one: Path, tmp_path: Path) -> None:
    send(one, url)
    fs, root = fsspec.url_to_fs(url)
    shard = next(name for name in sorted(fs.find(root)) if name.endswith(".parquet"))
    whole = fs.cat_file(shard)
    fs.pipe_file(shard, b"x" + whole[1:])
    with pytest.raises(PublishError, match="arrives with sha256"):
        get(url, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    fs.pipe_file(shard, whole[:-1])  # what a copy that was cut leaves: the same push makes it whole
    assert "already in" in send(one, url)
    assert get(url, tmp_path / "back") == tree(one)


def test_a_pull_that_was_killed_near_its_end_leaves_nothing(folder: str, one: Path, tmp_path: Path) -> None:
    send(one, folder)
    half = tmp_path / ".back.pull" / ".manifest.json.1.tmp"
    half.parent.mkdir()
    half.write_bytes(b"{")
    assert get(folder, tmp_path / "back") == tree(one)
    assert not (tmp_path / "back" / half.name).exists()
    (tmp_path / ".back.pull.lock").touch()
    assert get(folder, tmp_path / "back") == tree(one)
    assert not list(tmp_path.glob(".back*"))


@pytest.mark.slow
def test_keys_that_the_store_does_not_know(one: Path, moto: str) -> None:
    environment = {**KEYS, "AWS_ENDPOINT_URL": moto}
    done = run_process("push", one, "s3://no-such-bucket-at-all/x", **environment)
    assert done.returncode == 1
    assert "make the bucket first" in done.stderr and "Traceback" not in done.stderr
    without = dict.fromkeys(KEYS, "") | {"AWS_ENDPOINT_URL": moto, "AWS_EC2_METADATA_DISABLED": "true"}
    done = run_process("push", one, "s3://some-bucket/x", **without, HOME="/nowhere")
    assert done.returncode == 1
    assert "look at its keys in the environment" in done.stderr and "Traceback" not in done.stderr


def test_the_manifest_is_the_last_that_is_seen(folder: str, one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(folder.removeprefix("file://"))
    seen: list[bool] = []
    create = object_store._create

    def watched(fs: Any, path: str, data: bytes) -> None:
        listed = json.loads(data)
        files = [*(shard for one in listed["datasets"] for shard in one["shards"]), *listed["files"]]
        sizes = sorted(path.stat().st_size for path in (root / "files").rglob("*") if path.is_file())
        seen.append(sizes == sorted(file["size"] for file in files))
        create(fs, path, data)

    monkeypatch.setattr(object_store, "_create", watched)
    send(one, folder)
    assert seen == [True]


def test_an_unknown_scheme_and_a_missing_library(one: Path) -> None:
    with pytest.raises(PublishError, match="give an address like"):
        send(one, "nosuch://bucket/x")
    if importlib.util.find_spec("gcsfs") is None:
        with pytest.raises(PublishError, match=r"pip install 'medi-build\[gcs\]'"):
            send(one, "gs://bucket/x")
