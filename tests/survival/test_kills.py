"""Commands that are killed and run again; and the harness that kills them, which has to notice what goes wrong."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tools.survival.builds import nothing
from tools.survival.harness import HOOK, FreshProcess, Kill, Server, Stage, Victim, digests, plan, survive
from tools.survival.victims import VICTIMS

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc which file is open")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "at_steps", "at_moments"),
    [pytest.param("build over another", 2, 1, marks=pytest.mark.long), ("mine", 2, 0), ("train", 1, 0)],
)
def test_killed_and_run_again_it_is_as_if_it_had_not_been(
    tmp_path: Path, server: Server, name: str, at_steps: int, at_moments: int
) -> None:
    tally = survive(VICTIMS[name], tmp_path / "stage", at_steps, at_moments, seed=1, runner=server)
    assert tally.faults == []
    assert tally.at_steps == at_steps
    assert tally.at_moments + tally.ended_before == at_moments
    assert tally.steps > 40


@pytest.mark.slow
@pytest.mark.parametrize(("name", "at_steps"), [("commit over another", 3), ("purge", 4)])
def test_versions_are_readable_and_the_killed_command_goes_on(
    tmp_path: Path, server: Server, name: str, at_steps: int
) -> None:
    """The last kill is before the last step: a purge is finished then by the command that comes next."""
    tally = survive(VICTIMS[name], tmp_path / "stage", at_steps, 0, seed=1, runner=server)
    assert tally.faults == []
    assert tally.at_steps == at_steps
    assert tally.reads["whole"] > 0


@pytest.mark.slow
def test_a_version_that_cannot_be_read_is_noticed(tmp_path: Path) -> None:
    victim = VICTIMS["purge"]
    victim.prepare(tmp_path)
    victim.begin(tmp_path, tmp_path / "run")
    assert victim.read(tmp_path / "run") == "whole"
    shard = next((tmp_path / "run").rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(AssertionError, match=f"cannot be read.*{shard.name}"):
        victim.read(tmp_path / "run")


@pytest.mark.slow
def test_processes_beside_the_first_die_with_it_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """A real ``python -m medi_build``, whose workers count their steps, too."""
    stage = Stage(VICTIMS["build -j 2"], tmp_path / "stage", FreshProcess)
    whole = stage.undisturbed()
    writers = {what for event, what in whole.steps if event == "os.rename" and "/receipts/" in what}
    assert len(writers) == 4


# --- the harness itself

CAREFUL = """
import os, sys, time
run, text = sys.argv[1], "x" * 1000
for name in ("a", "b", "done"):
    with open(f"{run}/.{name}.tmp", "w") as file:
        file.write(text)
    os.replace(f"{run}/.{name}.tmp", f"{run}/{name}")
"""
TWICE = "file.write(text[:500]); file.flush(); time.sleep(0.1); file.write(text[500:])"
IN_PLACE = CAREFUL.replace(".{name}.tmp", "{name}").replace("file.write(text)", TWICE)
AS_IT_FINDS = CAREFUL.replace('"x" * 1000', '"xy"[os.path.exists(sys.argv[1] + "/a")] * 1000')
FAULTS = {
    "a reader saw AssertionError: half": IN_PLACE,
    "b differs": AS_IT_FINDS,
    ".tmp was left": CAREFUL.replace(".{name}.tmp", ".{name}.{os.getpid()}.tmp"),
    "cannot be finished": CAREFUL.replace("\nfor", "\nassert not os.listdir(run)\nfor"),
}


class Script(FreshProcess):
    """A script in place of our command."""

    text = CAREFUL

    def __init__(self, arguments: list[str], environment: Mapping[str, str], told: Path) -> None:
        with told.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self.text, *arguments], env={**os.environ, **environment}, stdout=file,
                stderr=file, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid


def read(run: Path) -> str:
    files = [path.read_text() for path in run.glob("[a-z]*")]
    assert all(len(text) >= 1000 for text in files), "half"
    return "whole" if (run / "done").exists() else "refused"


SCRIPT = Victim("script", nothing, nothing, lambda shared, run: [str(run)], digests, read)  # type: ignore[arg-type]


def test_a_careful_script_survives_every_step(tmp_path: Path) -> None:
    tally = survive(SCRIPT, tmp_path / "stage", 100, 0, runner=Script)
    assert (tally.steps, tally.at_steps, tally.faults) == (6, 6, [])
    assert not list((tmp_path / "stage").glob("trial-*"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_careless_script_is_noticed(tmp_path: Path, fault: str) -> None:
    runner = type("Careless", (Script,), {"text": FAULTS[fault]})
    tally = survive(SCRIPT, tmp_path / "stage", 100, 0, runner=runner)
    assert any(fault in told for told in tally.faults), tally.faults
    assert list((tmp_path / "stage").glob("trial-*"))


def test_steps_are_killed_before_they_happen(tmp_path: Path) -> None:
    stage = Stage(SCRIPT, tmp_path / "stage", Script)
    whole = stage.undisturbed()
    assert whole.steps[:3] == [("open", ".a.tmp"), ("os.rename", "a"), ("open", ".b.tmp")]
    run = stage._begin("one")
    assert stage._run(run, Kill(step=4)) == -9
    assert {path.name for path in run.iterdir()} == {"a", ".b.tmp"}


def test_kills_are_spread_over_all_steps_and_drawn_by_a_seed() -> None:
    trials = plan(100, 5, 7, seed=3)
    assert [kill.step for kills in trials for kill in kills if kill.step] == [1, 26, 51, 75, 100]
    assert [len(kills) for kills in trials[5:]] == [1, 1, 3, 1, 1]
    assert trials == plan(100, 5, 7, seed=3) != plan(100, 5, 7, seed=4)
    assert len(plan(3, 50, 0, seed=0)) == 3
    assert (HOOK / "sitecustomize.py").is_file()
