import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medi_build.content.cards import Card
from medi_build.errors import ContentError, FetchError, InputError
from medi_build.ingest.fetch import lacking, locate
from medi_build.ingest.remotes import pinned
from tests.ingest.cards import Told, card, fetch, gone
from tests.loopback import COMMIT, Fault, Server, serving

BODY = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(BODY).hexdigest()


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(folder: Path, paths: tuple[Path, ...]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


# --- local files -----------------------------------------------------------------------------------------------


def test_the_shallowest_match_wins(tmp_path: Path):
    touch(tmp_path, "pairs/deep/er/a.jsonl", "pairs/deep/a.jsonl", "pairs/.hidden/a.jsonl", "other/a.jsonl")
    located = locate(card(), "train", tmp_path)
    assert names(tmp_path, located.found["rows"]) == ["pairs/deep/a.jsonl"]
    assert located.missing == ()


def test_a_glob_takes_all_of_one_depth_sorted(tmp_path: Path):
    touch(tmp_path, "pairs/x/b-2.parquet", "pairs/x/b-1.parquet", "pairs/y/b-0.parquet", "pairs/y/z/b-3.parquet")
    located = locate(card(files=("b-*.parquet", "c.jsonl")), "train", tmp_path)
    assert names(tmp_path, located.found["rows"]) == [
        "pairs/x/b-1.parquet",
        "pairs/x/b-2.parquet",
        "pairs/y/b-0.parquet",
    ]
    assert located.missing == ("c.jsonl",)


def test_patterns_may_have_folders(tmp_path: Path):
    touch(tmp_path, "pairs/hub/one/a.parquet", "pairs/hub/two/a.parquet")
    located = locate(card(files=("hub/two/*.parquet",)), "train", tmp_path)
    assert names(tmp_path, located.found["rows"]) == ["pairs/hub/two/a.parquet"]


def test_a_name_that_stands_twice_is_an_error(tmp_path: Path):
    touch(tmp_path, "pairs/x/a.jsonl", "pairs/y/a.jsonl")
    with pytest.raises(InputError, match=r"2 times at the same depth \(x/a.jsonl, y/a.jsonl\); keep one"):
        locate(card(), "train", tmp_path)


def test_linked_folders_are_entered_and_loops_are_not(tmp_path: Path):
    touch(tmp_path, "elsewhere/a.jsonl")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "pairs")
    assert names(tmp_path, locate(card(), "train", tmp_path).found["rows"]) == ["pairs/link/a.jsonl"]


def test_without_a_data_folder_everything_is_missing(tmp_path: Path):
    for folder in (None, tmp_path):
        located = locate(card(), "train", folder)
        assert (located.found, located.missing) == ({"rows": ()}, ("a.jsonl",))


def test_extra_patterns_are_alternatives_and_the_downloadable_one_is_missing(tmp_path: Path):
    joined = card(
        extra_files={"pages": ("source*.json", "pages*.jsonl")},
        download={"url": "http://127.0.0.1/", "paths": {"source.json": "http://127.0.0.1/source.json"}},
    )
    touch(tmp_path, "pairs/a.jsonl")
    assert locate(joined, "train", tmp_path).missing == ("source*.json",)
    touch(tmp_path, "pairs/pages-1.jsonl")
    assert names(tmp_path, locate(joined, "train", tmp_path).found["pages"]) == ["pairs/pages-1.jsonl"]


def test_unknown_split_is_told():
    with pytest.raises(ContentError, match="no split 'dev'; its card has train"):
        locate(card(), "dev", None)


def test_an_extra_file_that_the_paths_do_not_name_is_looked_for_in_data_alone(tmp_path: Path):
    paths = {"a.parquet": "hf://datasets/some/one@c0ffee/a.parquet", "b.parquet": "hf://datasets/some/one/b.parquet"}
    joined = card(
        extra_files={"questions": ("a.parquet", "b.parquet", "official.json")},
        download={"url": "http://127.0.0.1/", "paths": paths},
    )
    assert locate(joined, "train", tmp_path).missing == ("a.jsonl", "a.parquet", "b.parquet")
    keys = [remote.key for remote in lacking(joined, ("a.parquet", "b.parquet"))]
    assert keys == ["hub:some/one@c0ffee:a.parquet", "hub:some/one@unconfirmed:b.parquet"]
    touch(tmp_path, "pairs/official.json")
    located = locate(joined, "train", tmp_path)
    assert names(tmp_path, located.found["questions"]) == ["pairs/official.json"]
    assert located.missing == ("a.jsonl",)
    with pytest.raises(FetchError, match=r"names no download for official\.json"):
        lacking(joined, ("official.json",))


# --- a server on the loopback interface ------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.files["/a.jsonl"] = BODY
        yield server


def from_url(server: Server, sha256: str = "") -> Card:
    return card(download={"url": server.url + "/", "sha256": {"a.jsonl": sha256} if sha256 else {}})


def gets(server: Server) -> list[str | None]:
    return [span for method, _, span in server.asked if method == "GET"]


def test_a_file_is_fetched_once_and_pinned(server: Server, tmp_path: Path):
    told = Told()
    wanted = from_url(server)
    path = fetch(wanted, tmp_path, told=told)
    assert path.read_bytes() == BODY
    assert path.name == "a.jsonl"
    assert (told.bytes[0], told.bytes[-1]) == ((0, len(BODY)), (len(BODY), len(BODY)))
    pin = pinned(wanted, tmp_path)["a.jsonl"]
    assert (pin.sha256, pin.size, pin.revision) == (DIGEST, len(BODY), "")
    assert fetch(wanted, tmp_path) == path
    assert len(gets(server)) == 1
    assert not list(tmp_path.rglob("*.part*"))


@pytest.mark.parametrize("sha256", [DIGEST, ""])
def test_a_cut_transfer_goes_on_where_it_stopped(server: Server, tmp_path: Path, sha256: str):
    server.cut = [len(BODY) // 2, 1000]
    assert fetch(from_url(server, sha256), tmp_path).read_bytes() == BODY
    assert gets(server) == [None, f"bytes={len(BODY) // 2}-", f"bytes={len(BODY) // 2 + 1000}-"]


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server: Server, tmp_path: Path):
    server.cut = [5000, *[0] * 6]
    with pytest.raises(FetchError, match="closed after 5000 bytes; 6 tries brought nothing more"):
        fetch(from_url(server), tmp_path)
    server.asked.clear()
    assert fetch(from_url(server), tmp_path).read_bytes() == BODY
    assert gets(server) == ["bytes=5000-"]


def test_a_file_that_changed_in_between_is_started_over(server: Server, tmp_path: Path):
    server.cut = [5000, *[0] * 6]
    with pytest.raises(FetchError):
        fetch(from_url(server), tmp_path)
    server.files["/a.jsonl"] = BODY[::-1]
    assert fetch(from_url(server), tmp_path).read_bytes() == BODY[::-1]


def test_without_validator_and_digest_nothing_is_resumed(server: Server, tmp_path: Path):
    server.tags = False
    server.cut = [5000]
    assert fetch(from_url(server), tmp_path).read_bytes() == BODY
    assert gets(server) == [None, None]


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path):
    wanted = from_url(server, DIGEST)
    path = fetch(wanted, tmp_path)
    path.rename(path.with_name("a.jsonl.part"))
    assert fetch(wanted, tmp_path).read_bytes() == BODY
    assert gets(server) == [None, f"bytes={len(BODY)}-"]


def test_wrong_bytes_are_removed_and_fetched_once_more(server: Server, tmp_path: Path):
    server.faults["/a.jsonl"] = [Fault(flip=1)]
    told = Told()
    assert fetch(from_url(server, DIGEST), tmp_path, told=told).read_bytes() == BODY
    assert gets(server) == [None, None]
    [message] = told.said
    assert "not what was to come" in message and "fetched once more" in message


def test_bytes_that_stay_wrong_are_an_error_and_removed(server: Server, tmp_path: Path):
    with pytest.raises(FetchError, match=f"sha256 is {DIGEST}, its card pins {'0' * 64}"):
        fetch(from_url(server, "0" * 64), tmp_path)
    assert gets(server) == [None, None]
    assert gone(tmp_path) == []


def test_a_file_unlike_the_first_fetch_is_told(server: Server, tmp_path: Path):
    fetch(from_url(server), tmp_path).unlink()
    server.files["/a.jsonl"] = b"changed"
    changed = hashlib.sha256(b"changed").hexdigest()
    with pytest.raises(FetchError, match=f"sha256 is {changed}, the first fetch got {DIGEST}"):
        fetch(from_url(server), tmp_path)
    (tmp_path / "pins.json").write_text("{}")
    assert fetch(from_url(server), tmp_path).read_bytes() == b"changed"


def test_refusals_and_passing_troubles(server: Server, tmp_path: Path):
    server.refuse = [503, 429]
    assert fetch(from_url(server), tmp_path).read_bytes() == BODY
    server.refuse = [500] * 6
    with pytest.raises(FetchError, match="HTTP 500"):
        fetch(from_url(server), tmp_path / "other")
    server.refuse = [403]
    with pytest.raises(FetchError, match=r"HTTP 403 .*restricted"):
        fetch(from_url(server), tmp_path / "other")
    with pytest.raises(FetchError, match=r"HTTP 404 .*out of date"):
        fetch(from_url(server), tmp_path / "other", missing=("b.jsonl",))


def test_no_server_at_all(server: Server, tmp_path: Path):
    gone = card(download={"url": "http://127.0.0.1:9/"})
    with pytest.raises(FetchError, match=os.strerror(errno.ECONNREFUSED)):
        fetch(gone, tmp_path)


def test_what_cannot_be_fetched(tmp_path: Path):
    with pytest.raises(FetchError, match=r"names no download for a\.jsonl"):
        fetch(card(), tmp_path)
    with pytest.raises(FetchError, match="only http:// and https://"):
        fetch(card(download={"url": "file:///etc/"}), tmp_path)


def test_earlier_downloads_are_found_without_asking(server: Server, tmp_path: Path):
    wanted = from_url(server)
    assert locate(wanted, "train", None, tmp_path).missing == ("a.jsonl",)
    path = fetch(wanted, tmp_path)
    server.asked.clear()
    located = locate(wanted, "train", None, tmp_path)
    assert (located.found, located.missing) == ({"rows": (path,)}, ())
    path.write_bytes(b"cut")
    assert locate(wanted, "train", None, tmp_path).missing == ("a.jsonl",)
    assert server.asked == []


def test_of_two_extra_files_one_alone_is_not_enough_and_their_order_is_the_cards(server: Server, tmp_path: Path):
    server.files |= {"/b": b"b", "/c": b"c"}
    paths = {name: f"{server.url}/{name}" for name in ("b", "c")}
    joined = card(extra_files={"questions": ("b", "c")}, download={"url": server.url, "paths": paths})
    fetch(joined, tmp_path, missing=("a.jsonl", "c"))
    assert locate(joined, "train", None, tmp_path).missing == ("b",)
    fetch(joined, tmp_path, missing=("b",))
    assert [path.name for path in locate(joined, "train", None, tmp_path).found["questions"]] == ["b", "c"]


def test_damaged_pins_are_told(server: Server, tmp_path: Path):
    (tmp_path / "pins.json").write_text('{"x": ')
    with pytest.raises(FetchError, match=r"pins\.json: damaged"):
        fetch(from_url(server), tmp_path)


def test_globs_and_paths_of_the_card(server: Server, tmp_path: Path):
    server.files |= {"/deep/one.bin": b"1", "/two.bin": b"2"}
    paths = {"x-1.bin": "deep/one.bin", "x-2.bin": server.url + "/two.bin"}
    shards = card(files=("x-*.bin",), download={"url": server.url, "paths": paths})
    fetch(shards, tmp_path, missing=("x-*.bin",))
    found = locate(shards, "train", None, tmp_path).found["rows"]
    assert [(path.name, path.read_bytes()) for path in found] == [("x-1.bin", b"1"), ("x-2.bin", b"2")]
    assert sorted(pinned(shards, tmp_path)) == ["x-1.bin", "x-2.bin"]


# --- in a process of its own: a full disk, the hub -------------------------------------------------------------

SCRIPT = """
import json, resource, sys
from pathlib import Path
from medi_build.content.cards import Card
from medi_build.errors import FetchError
from medi_build.ingest.fetch import fetch, lacking, locate
from medi_build.ingest.http import Watch
from medi_build.ingest.remotes import pinned
card, cache, limit = Card.model_validate_json(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
told = []
watch = Watch()
watch.advance = lambda done, total: told.append((done, total))
watch.wait = lambda seconds, why: print("waits", seconds, why)
try:
    fetch(lacking(card, ("a.jsonl",)), cache, watch)
except FetchError as error:
    print("error", error)
else:
    (path,) = locate(card, "train", None, cache).found["rows"]
    print(json.dumps([str(path), told[-1] if told else None, pinned(card, cache)["a.jsonl"].revision]))
"""


def in_process(card: Card, cache: Path, limit: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, card.model_dump_json(), str(cache), str(limit)],
        env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(cache / "home"), **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_is_told_and_the_transfer_goes_on_later(server: Server, tmp_path: Path):
    told = in_process(from_url(server), tmp_path, limit=300_000)
    assert told.startswith("error")
    assert "cannot be written" in told
    assert "make room" in told
    assert fetch(from_url(server), tmp_path).read_bytes() == BODY


def from_hub(sha256: str = "", revision: str = "unconfirmed") -> Card:
    return card(
        download={
            "hub": "someone/pairs",
            "paths": {"a.jsonl": "data/a.jsonl"},
            "revision": revision,
            "sha256": {"a.jsonl": sha256} if sha256 else {},
        }
    )


@pytest.mark.slow
def test_the_hub_gives_file_and_commit(server: Server, tmp_path: Path):
    for revision in ("main", COMMIT):
        server.files[f"/datasets/someone/pairs/resolve/{revision}/data/a.jsonl"] = BODY
    path, last, commit = json.loads(in_process(from_hub(), tmp_path, HF_ENDPOINT=server.url))
    assert Path(path).read_bytes() == BODY
    assert last == [len(BODY), len(BODY)]
    assert commit == COMMIT
    assert [entry.name for entry in Path(path).parent.iterdir() if not entry.name.startswith(".")] == ["a.jsonl"]
    Path(path).unlink()
    server.files[f"/datasets/someone/pairs/resolve/{COMMIT}/data/a.jsonl"] = b"changed"
    server.files["/datasets/someone/pairs/resolve/main/data/a.jsonl"] = b"changed"
    told = in_process(from_hub(), tmp_path, HF_ENDPOINT=server.url)
    assert f"the first fetch got {DIGEST} (commit {COMMIT})" in told


@pytest.mark.slow
def test_hub_troubles_are_one_clear_error(server: Server, tmp_path: Path):
    told = in_process(from_hub(), tmp_path, HF_ENDPOINT=server.url)
    assert told.startswith("error hub:someone/pairs@unconfirmed:data/a.jsonl: RemoteEntryNotFound")
    told = in_process(from_hub(revision=COMMIT), tmp_path, HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1")
    assert told.startswith(f"error hub:someone/pairs@{COMMIT}:data/a.jsonl: ")
    assert "put the file into --data by hand" in told
    assert len(told.splitlines()) == 1
    server.refuse = [403] * 2
    server.error_code = "GatedRepo"
    told = in_process(from_hub(), tmp_path, HF_ENDPOINT=server.url)
    assert "the repository is gated; accept its terms" in told


@pytest.mark.slow
def test_the_hub_s_busy_answers_are_waited_for(server: Server, tmp_path: Path):
    path = f"/datasets/someone/pairs/resolve/{COMMIT}/data/a.jsonl"
    server.files[path] = BODY
    server.faults[path] = [Fault(code=503), Fault(code=503, retry_after="700")]
    told = in_process(from_hub(revision=COMMIT), tmp_path, HF_ENDPOINT=server.url)
    first, second, done = told.splitlines()
    assert first.startswith("waits 1.0 ") and "503" in first
    assert second.startswith("waits 700.0 ") and second.endswith(", the server asks for it")
    assert json.loads(done)[1] == [len(BODY), len(BODY)]
