"""Push and pull by the hub's real library, in real processes, against a hub on the loopback interface."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medi_build.dataset.reader import open_dataset
from tests.dataset.remote.conftest import run_process, tree
from tests.loopback import Fault
from tests.loopback_hub import LOST, TOKEN, Hub

REPO = "team/medi"
pytestmark = pytest.mark.slow


def medi(hub: Hub, *arguments: object, token: str = TOKEN, **more: str) -> "subprocess.CompletedProcess[str]":
    return run_process(*arguments, HF_ENDPOINT=hub.url, HF_TOKEN=token, **more)


def ok(hub: Hub, *arguments: object) -> str:
    done = medi(hub, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(hub: Hub, *arguments: object, **more: str) -> str:
    done = medi(hub, *arguments, **more)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def holds(hub: Hub, folder: Path, branch: str = "main") -> bool:
    files = dict(hub.repositories[REPO].commits[hub.repositories[REPO].refs[branch]])
    del files[".gitattributes"]
    files.pop("croissant.json", None)
    return files == tree(folder)


def test_there_and_back(hub: Hub, one: Path, two: Path, tmp_path: Path) -> None:
    told = ok(hub, "push", one, REPO, "--tag", "v1", "--private")
    assert "40 records in 7 files now in hf://datasets/team/medi at commit" in told and "tag v1" in told
    assert hub.repositories[REPO].private
    assert holds(hub, one)
    assert len(hub.repositories[REPO].commits) == 2  # the hub's own, and one of everything
    ok(hub, "push", two, f"hf://datasets/{REPO}")
    assert holds(hub, two)
    told = ok(hub, "pull", REPO, "--revision", "v1", "--out", tmp_path / "back")
    assert f"pulled to {tmp_path / 'back'}" in told
    assert tree(tmp_path / "back") == tree(one)
    ok(hub, "pull", REPO, "--out", tmp_path / "newest")
    assert tree(tmp_path / "newest") == tree(two)
    assert "is already in" in ok(hub, "pull", REPO, "--out", tmp_path / "newest")
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "back", "newest"}


def test_pushed_again_nothing_is_sent_and_nothing_committed(hub: Hub, one: Path) -> None:
    ok(hub, "push", one, REPO)
    sent, commits = hub.put_bytes, len(hub.repositories[REPO].commits)
    assert sent > 0
    assert "already in" in ok(hub, "push", one, REPO, "--tag", "later")
    assert (hub.put_bytes, len(hub.repositories[REPO].commits)) == (sent, commits)
    assert hub.repositories[REPO].tags == {"later": hub.repositories[REPO].refs["main"]}


def test_a_branch_of_its_own(hub: Hub, one: Path, two: Path) -> None:
    ok(hub, "push", one, REPO)
    ok(hub, "push", two, REPO, "--revision", "weekly")
    assert holds(hub, one) and holds(hub, two, "weekly")


@pytest.mark.parametrize(
    "faults",
    [
        [(r"POST .*/repos/create", Fault(code=503)), (r"POST .*/preupload", Fault(code=500))],
        [(r"POST .*/objects/batch", Fault(code=503)), (r"PUT /lfs", Fault(code=503)), (r"PUT /lfs", Fault(cut=300))],
        [(r"POST .*/commit/", Fault(code=503)), (r"POST .*/tag/", Fault(code=503))],
        [(r"POST .*/commit/", Fault(cut=LOST)), (r"GET .*/refs", Fault(code=429))],
        [(r"POST .*/commit/", Fault(cut=100)), (r"GET /api/datasets/team/medi", Fault(code=502))],
    ],
)
def test_what_passes_is_tried_again(hub: Hub, one: Path, faults: Any) -> None:
    hub.faults += faults
    ok(hub, "push", one, REPO, "--tag", "v1")
    assert hub.faults == []
    assert holds(hub, one)
    assert len(hub.repositories[REPO].commits) == 2  # an answer that was lost makes no second commit


def test_a_push_that_broke_off_goes_on(hub: Hub, one: Path) -> None:
    hub.faults += [(r"POST .*/commit/", Fault(code=400))]
    told = refused(hub, "push", one, REPO)
    assert "what has arrived is kept" in told
    assert not holds(hub, one)
    sent = hub.put_bytes
    ok(hub, "push", one, REPO)
    assert holds(hub, one)
    assert hub.put_bytes == sent


def test_of_two_writers_the_slower_is_refused(hub: Hub, one: Path, two: Path) -> None:
    hub.before_commit = lambda: ok(hub, "push", two, REPO) and None
    told = refused(hub, "push", one, REPO)
    assert "another writer changed the repository while this push ran" in told
    assert holds(hub, two)
    ok(hub, "push", one, REPO)
    assert holds(hub, one)


def test_an_expired_token_and_one_that_may_not(hub: Hub, one: Path) -> None:
    assert "a push needs a token of the hub; set HF_TOKEN" in refused(hub, "push", one, REPO, token="")
    assert REPO not in hub.repositories
    assert "HF_TOKEN is missing, wrong or expired" in refused(hub, "push", one, REPO, token="hf_expired")
    ok(hub, "push", one, REPO)
    commits = len(hub.repositories[REPO].commits)
    hub.faults += [(r"PUT /lfs", Fault(code=403))] * 4
    hub.objects.clear()
    hub.repositories[REPO].put("main", {})
    assert "it needs write access" in refused(hub, "push", one, REPO)
    assert len(hub.repositories[REPO].commits) == commits + 1
    hub.faults.clear()
    hub.tokens.clear()
    assert "HF_TOKEN is missing, wrong or expired" in refused(hub, "pull", REPO, "--out", one.parent / "out")


def test_a_server_that_stays_busy_ends_in_one_error(hub: Hub, one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.faults += [(r"POST .*/repos/create", Fault(code=503))] * 9
    told = refused(hub, "push", one, REPO)
    assert "team/medi: " in told and "run the same command again" in told
    assert hub.count(r"POST .*/repos/create") == 5


def test_wrong_bytes_are_fetched_once_more_and_never_placed(hub: Hub, one: Path, tmp_path: Path) -> None:
    ok(hub, "push", one, REPO)
    hub.faults += [(r"GET .*/resolve/.*parquet", Fault(flip=30)), (r"GET .*/resolve/.*parquet", Fault(cut=100))]
    ok(hub, "pull", REPO, "--out", tmp_path / "back")
    assert hub.faults == []
    assert tree(tmp_path / "back") == tree(one)
    hub.faults += [(r"GET .*/resolve/.*00001-toy-0000.parquet", Fault(flip=30))] * 4
    told = refused(hub, "pull", REPO, "--out", tmp_path / "more")
    assert "data/00001-toy-0000.parquet arrives with sha256" in told
    assert not (tmp_path / "more").exists()
    hub.faults.clear()
    before = hub.count("GET .*/resolve/.*parquet")
    ok(hub, "pull", REPO, "--out", tmp_path / "more")
    assert tree(tmp_path / "more") == tree(one)
    assert hub.count("GET .*/resolve/.*parquet") - before < 4  # what had arrived is kept


def test_what_is_not_medis_is_not_overwritten(hub: Hub, one: Path, two: Path, tmp_path: Path) -> None:
    ok(hub, "push", one, REPO)
    main = hub.repositories[REPO]
    main.put("main", {"data/theirs.csv": b"1"})
    assert "holds something else (data/theirs.csv)" in refused(hub, "push", two, REPO)
    main.put("main", tree(one) | {"data/stray.parquet": b"1", "notes.txt": b"mine"})
    assert "holds data/stray.parquet" in refused(hub, "push", two, REPO)
    main.put("main", tree(one) | {"notes.txt": b"mine"})
    ok(hub, "push", two, REPO, "--tag", "v1")
    kept = main.commits[main.refs["main"]]
    assert kept.pop("notes.txt") == b"mine"
    assert "tag v1 stands at another dataset" in refused(hub, "push", one, REPO, "--tag", "v1")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    assert "holds something else" in refused(hub, "pull", REPO, "--out", tmp_path / "full")


def test_a_damaged_folder_is_not_published(hub: Hub, one: Path) -> None:
    shard = open_dataset(one).shards[0]
    data = bytearray(shard.read_bytes())
    data[20] ^= 1
    shard.write_bytes(data)
    assert "it was changed or damaged" in refused(hub, "push", one, REPO)
    assert list(hub.repositories[REPO].commits[hub.repositories[REPO].refs["main"]]) == [".gitattributes"]


def test_a_manifest_that_points_outside_is_refused(hub: Hub, one: Path, tmp_path: Path) -> None:
    ok(hub, "push", one, REPO)
    repository = hub.repositories[REPO]
    files = dict(repository.commits[repository.refs["main"]])
    manifest = json.loads(files["manifest.json"])
    for path in ("../evil", "/tmp/evil", "data/../../evil", "c:\\evil"):
        manifest["files"][0]["path"] = path
        repository.put("main", files | {"manifest.json": json.dumps(manifest).encode()})
        assert "which is not inside" in refused(hub, "pull", REPO, "--out", tmp_path / "back")
    manifest["schema_version"] = 1
    repository.put("main", files | {"manifest.json": json.dumps(manifest).encode()})
    assert "schema version 1" in refused(hub, "pull", REPO, "--out", tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("target", ["a/b/c", "hf://models/x", "s3://", "out", "s3://key:pass@bucket/x"])
def test_a_wrong_target_is_told_before_anything_is_asked(hub: Hub, one: Path, target: str) -> None:
    told = refused(hub, "push", one, target)
    assert "OptionError" in told and "pass@" not in told
    assert hub.asked == []


def test_there_is_no_such_repository(hub: Hub, tmp_path: Path) -> None:
    assert "there is no such repository" in refused(hub, "pull", REPO, "--out", tmp_path / "out")


def test_load_dataset_reads_what_was_pushed(hub: Hub, one: Path, tmp_path: Path) -> None:
    ok(hub, "push", one, REPO)
    code = (
        "import datasets, sys\n"
        f"print([len(datasets.load_dataset('{REPO}', *name, split='train')) for name in ([], ['toy_1'], ['toy_2'])])"
    )
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[40, 20, 20]"
