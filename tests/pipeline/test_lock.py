"""Lock files and dry runs: what decides a build is written down, and what moved is named."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.content.cards import Download
from medi_build.content.load import load_content
from medi_build.errors import LockError
from medi_build.ingest.remotes import Pin
from medi_build.pipeline.dry_run import Fate, dry_run
from medi_build.pipeline.lock import as_fetched, lock_of, read_lock, write_lock
from medi_build.pipeline.options import BuildOptions
from tests.bad_input.team import GOOD, NAME, PLAIN, TASK, Team

OTHER = "super_ni"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def team(tmp_path: Path, cache: Path) -> Team:
    """A team with its own dataset and one of the samples."""
    made = Team(tmp_path, cache)
    (made.folder / "t.jsonl").write_bytes(GOOD)
    (made.data / OTHER).mkdir()
    shutil.copytree(load_content().sample_data / OTHER, made.data / OTHER, dirs_exist_ok=True)
    return made


def options(team: Team, **changes: object) -> BuildOptions:
    given = {"out": team.out, "sources": (NAME, TASK), "pipeline": "plain", "content": team.content, "data": team.data}
    return BuildOptions(**{**given, "cache": team.cache, "offline": True, **changes})  # type: ignore[arg-type]


def locked(team: Team, **settings: object) -> Path:
    """A lock file of a build with these settings."""
    path = team.out.parent / "medi.lock"
    write_lock(lock_of(team.build(sources=(NAME, TASK), **settings).manifest), path)
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def test_a_locked_build_is_the_same_to_the_last_byte(team: Team) -> None:
    """Also where the numbers came from the command line and the pipeline has changed since."""
    path = locked(team, seed=7, limit_per_dataset=11, batch_multiple=2)
    team.put("pipelines/plain.yaml", PLAIN.replace("preset: paper", "preset: positive-aware"))
    again = team.out.parent / "again"
    team.build(out=again, sources=("all",), locked=path)
    assert files(again) == files(team.out)


def card(team: Team) -> None:
    team.card(max_loss=0.25)


def raw_file(team: Team) -> None:
    (team.folder / "t.jsonl").write_bytes(GOOD + b'\n["one more", "text"]')


MOVES: dict[str, tuple[Callable[[Team], None], str]] = {
    "card": (card, f"{NAME}: card.max_loss: 0.0 -> 0.25"),
    "raw file": (raw_file, f"{NAME}: rows.t.jsonl: "),
}


@pytest.mark.parametrize(("move", "told"), MOVES.values(), ids=MOVES)
def test_what_moved_is_named_before_anything_is_built(team: Team, move: Callable[[Team], None], told: str) -> None:
    path = locked(team)
    move(team)
    again = team.out.parent / "again"
    with pytest.raises(LockError) as raised:
        team.build(out=again, locked=path)
    assert told in str(raised.value)
    assert TASK not in str(raised.value)
    assert not list(again.glob("data/*"))
    assert not (again / "manifest.json").exists()


def test_a_card_that_is_gone_is_named(team: Team) -> None:
    path = locked(team)
    (team.content / "sources" / "tickets.yaml").unlink()
    with pytest.raises(LockError, match=f"{NAME}: there is no card of it any more"):
        team.build(out=team.out.parent / "again", locked=path)


def test_a_licence_that_the_policy_leaves_out_now_is_named(team: Team) -> None:
    """Else the build would be whole without the dataset."""
    unknown, allowed = "commercial_use: unknown", "commercial_use: allowed"
    text = (team.content / "sources" / "tickets.yaml").read_text()
    team.put("sources/tickets.yaml", text.replace(unknown, allowed))
    path = locked(team, licence_policy="commercial")
    team.put("sources/tickets.yaml", text)
    again = team.out.parent / "again"
    with pytest.raises(LockError, match=f"{NAME}: its card now says unconfirmed, which the policy leaves out"):
        team.build(out=again, locked=path)
    assert not again.exists()


def test_other_rows_of_the_same_basis_are_told_with_the_libraries(team: Team) -> None:
    path = locked(team)
    told = json.loads(path.read_text())
    told["datasets"][NAME]["rows_sha256"] = "0" * 64
    told["environment"]["torch"] = "1.0"
    path.write_text(json.dumps(told))
    with pytest.raises(LockError, match=rf"1 of 2 datasets have other rows.*{NAME}.*torch: 1\.0 -> "):
        team.build(out=team.out.parent / "again", locked=path)


@pytest.mark.parametrize("text", ["", "[]", '{"lock_version": 9}', "\x00"])
def test_a_file_that_is_no_lock_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "medi.lock"
    with pytest.raises(LockError, match="cannot be read"):
        read_lock(path)
    path.write_text(text)
    with pytest.raises(LockError, match="is no lock file of this version"):
        read_lock(path)


def test_options_that_the_lock_decides_are_refused(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["build", "--locked", str(tmp_path / "medi.lock"), "--seed", "3"])
    assert ran.exit_code == 1
    assert "--seed: the lock file decides that" in str(ran.exception)


def test_cards_name_what_was_fetched_and_nothing_else() -> None:
    card = load_content().cards["kilt/nq"]
    assert card.download is not None
    place = Download(hub="team/nq", paths={"b.jsonl": "https://elsewhere.org/b.jsonl"})
    card = card.model_copy(update={"download": place})
    pins = {
        "a.jsonl": Pin(sha256="a" * 64, size=1, revision="c" * 40),
        "b.jsonl": Pin(sha256="b" * 64, size=1, revision="d" * 40),
        "c.jsonl": Pin(sha256="e" * 64, size=1, revision="f" * 40),
    }
    told = as_fetched(card, pins, ["a" * 64, "b" * 64])
    assert told.download == place.model_copy(
        update={"revision": "c" * 40, "sha256": {"a.jsonl": "a" * 64, "b.jsonl": "b" * 64}}
    )
    assert as_fetched(card, pins, ["1" * 64]) is card


def test_a_lock_pins_what_is_fetched_and_leaves_where_from_to_the_card(team: Team) -> None:
    """The addresses in a manifest are without what signs them."""
    path = locked(team)
    told = json.loads(path.read_text())
    then = Download(url="https://a.org/x", sha256={"t.jsonl": "1" * 64}, revision="c" * 40)
    told["datasets"][NAME]["download"] = then.model_dump(mode="json")
    path.write_text(json.dumps(told))
    lock, content = read_lock(path), load_content(team.content)
    assert lock.pinned(content).cards[NAME].download == then  # the card names no place
    for hub, revision in (("team/nq", "unconfirmed"), (None, "c" * 40)):
        now = Download(hub=hub, url=None if hub else "https://a.org/x?sig=1", sha256={"u.jsonl": "2" * 64})
        cards = {**content.cards, NAME: content.cards[NAME].model_copy(update={"download": now})}
        found = lock.pinned(replace(content, cards=cards)).cards[NAME].download
        digests = {"t.jsonl": "1" * 64, "u.jsonl": "2" * 64}
        assert found == now.model_copy(update={"sha256": digests, "revision": revision})


def fates(team: Team, **changes: object) -> dict[str, Fate]:
    return {one.dataset: one for one in dry_run(options(team, **changes))}


def test_a_dry_run_says_what_the_build_then_does(team: Team) -> None:
    assert {name: (one.what, one.why) for name, one in fates(team).items()} == {
        NAME: ("build", ["is not in the folder"]),
        TASK: ("build", ["is not in the folder"]),
    }
    assert not team.out.exists()
    team.build(sources=(NAME, TASK))
    before = files(team.out)
    assert {one.what for one in fates(team).values()} == {"keep"}
    card(team)
    told = fates(team)
    assert (told[TASK].what, told[NAME]) == ("keep", Fate(NAME, "build", ["card.max_loss: 0.0 -> 0.25"]))
    assert files(team.out) == before
    assert set(team.build(sources=(NAME, TASK)).seconds) == {NAME}


def test_a_dry_run_tells_settings_damage_and_what_would_go(team: Team) -> None:
    team.build(sources=(NAME, TASK))
    assert {tuple(one.why) for one in fates(team, seed=3).values()} == {("seed: 42 -> 3",)}
    shard = next(path for path in team.out.glob("data/*") if "tickets" in path.name)
    shard.unlink()
    assert fates(team)[NAME].why == ["files of it are gone or damaged"]
    assert fates(team, sources=(TASK,))[NAME] == Fate(NAME, "remove", ["is no part of this build"])
    (team.folder / "t.jsonl").unlink()
    with pytest.raises(Exception, match="lack input"):
        fates(team)


def test_a_dataset_that_lost_pairs_to_one_that_changed_is_built_again(team: Team) -> None:
    twin = NAME.replace("tickets", "twins")
    team.put("sources/task_ids.tsv", f"task_id\tname\n100000\t{NAME}\n100001\t{twin}\n")
    text = (team.content / "sources" / "tickets.yaml").read_text()
    team.put("sources/twins.yaml", text.replace(NAME, twin))
    sources = (NAME, twin)
    team.build(sources=sources, dedup=True)
    assert {one.what for one in fates(team, sources=sources, dedup=True).values()} == {"keep"}
    team.card(max_loss=0.25)
    told = fates(team, sources=sources, dedup=True)
    assert told[twin].why == ["pairs that earlier datasets have: those changed"]
    assert set(team.build(sources=sources, dedup=True).seconds) == {NAME, twin}


def test_a_dry_run_prints_what_would_be_done_and_why(team: Team) -> None:
    team.build(sources=(NAME, TASK))
    card(team)
    arguments = ["build", "--dry-run", "--offline", "--pipeline", "plain", "--sources", f"{NAME},{TASK}"]
    places = ["--content", str(team.content), "--data", str(team.data), "--cache", str(team.cache)]
    ran = CliRunner(env={"COLUMNS": "160"}).invoke(app, [*arguments, *places, "--out", str(team.out)])
    assert ran.exit_code == 0, ran.output
    assert "card.max_loss: 0.0 -> 0.25" in ran.output
    assert "2 datasets: 1 to keep, 1 to build; nothing was written" in ran.output


def test_medi_lock_writes_what_a_locked_build_reads(team: Team) -> None:
    team.build(sources=(NAME, TASK))
    path = team.out.parent / "our.lock"
    ran = CliRunner().invoke(app, ["lock", str(team.out), "-o", str(path)])
    assert ran.exit_code == 0, ran.output
    assert list(read_lock(path).datasets) == [TASK, NAME]


def test_where_the_raw_files_lie_does_not_show(tmp_path: Path, cache: Path) -> None:
    """Not in a file of the build, dropped rows included, nor in its lock."""
    folders = []
    for place in ("here", "elsewhere/deeper"):
        made = Team(tmp_path / place, cache)
        made.card(max_loss=0.5)
        (made.folder / "t.jsonl").write_bytes(GOOD + b"\n{broken\n")
        made.build()
        assert b"t.jsonl:25" in (made.out / "manifest.json").read_bytes()
        folders.append(files(made.out))
    assert folders[0] == folders[1]
    assert not any(str(tmp_path).encode() in content for content in folders[0].values())
