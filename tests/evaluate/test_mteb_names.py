"""What is asked for and who is evaluated: names, splits and models that are not there are told before the work."""

from pathlib import Path
from typing import Any

import mteb
import pytest
from mteb.models import ModelMeta
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.cli.eval_common import the_model
from medi_build.content.pipelines import EncoderSpec
from medi_build.errors import EncoderError, EvaluationError, OptionError
from medi_build.evaluate.compare import read_results
from medi_build.evaluate.model import open_model
from medi_build.evaluate.mteb_model import meta_of, mteb_name
from medi_build.evaluate.mteb_run import append_scores, evaluate_jobs
from medi_build.evaluate.mteb_snippet import snippet
from medi_build.evaluate.mteb_tasks import choose_jobs
from tests.evaluate.eval_folders import beir, sts, text
from tests.evaluate.test_mteb import TINY, evaluate, opened
from tests.evaluate.test_results import result


@pytest.mark.parametrize(
    ("name", "meant"),
    [("nfcorpus", "NFCorpus"), ("STSBenchmrk", "STSBenchmark"), ("MTEB(eng,v2)", r"MTEB\(eng, v2\)")],
)
def test_a_mistyped_task_is_told_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(EvaluationError, match=f"has no such task or benchmark; did you mean '{meant}'"):
        choose_jobs([name], [], None)


def test_a_benchmark_is_its_tasks_once_each() -> None:
    names = [job.name for job in choose_jobs(["MTEB(eng, v2)", "STSBenchmark"], [], None)]
    assert len(names) == len(set(names)) == len(mteb.get_benchmark("MTEB(eng, v2)").tasks)


def test_splits_that_are_not_there() -> None:
    with pytest.raises(EvaluationError, match="--split 'tets': NFCorpus is evaluated on test; did you mean 'test'"):
        choose_jobs(["NFCorpus"], [], "tets")
    [job] = choose_jobs(["NFCorpus"], [], "test")
    assert job.name == "NFCorpus"


def test_tasks_that_are_not_about_texts() -> None:
    with pytest.raises(EvaluationError, match=r"is about image.*; only texts are encoded here"):
        choose_jobs(["CIFAR10"], [], None)


def test_nothing_asked_for_and_names_twice(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing to evaluate; name tasks with --task NAME, or folders with"):
        choose_jobs([], [], None)
    with pytest.raises(EvaluationError, match="another task is named 'pairs', too"):
        choose_jobs([], [sts(tmp_path / "one" / "pairs"), sts(tmp_path / "two" / "pairs")], None)


def test_a_task_whose_data_cannot_be_had_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = choose_jobs(["STSBenchmark", "NFCorpus"], [sts(tmp_path / "pairs")], None)
    asked: list[str] = []

    def unreachable(task: Any) -> None:
        asked.append(task.metadata.name)
        raise ConnectionError("no route")

    for job in jobs[:2]:
        monkeypatch.setattr(type(job.task), "load_data", unreachable)
    results, faults = evaluate_jobs(opened(), jobs, tmp_path / "out")
    assert [one.task for one in results] == ["pairs"]
    assert set(faults) == {"STSBenchmark", "NFCorpus"}
    assert asked == ["STSBenchmark"]  # the hub is not waited for twice
    assert "cannot be loaded (ConnectionError: no route); without a network, evaluate folders" in faults["NFCorpus"]


def test_the_command(tmp_path: Path) -> None:
    folder, out, scores = beir(tmp_path / "search"), tmp_path / "out", tmp_path / "scores.txt"
    store = ["--store", str(tmp_path / "store")]
    arguments = ["eval", "mteb", "--model_name", TINY, "--data", str(folder), "--output_dir", str(out), *store]
    for _ in range(2):
        done = CliRunner().invoke(app, [*arguments, "--result_file", str(scores)], env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
    assert 'queries "Represent the question for retrieving relevant documents;"' in done.stdout
    assert 'documents "Represent the document for retrieval;" (search)' in done.stdout
    [line, _] = scores.read_text().splitlines()
    task, model, score = line.split(": ")
    assert (task, model) == ("search", TINY)
    assert f"{100 * float(score):.2f}" in done.stdout
    assert list(out.glob("tiny_instructor-*/mteb_model_meta.py"))


def test_the_command_tells_what_it_cannot_do(tmp_path: Path) -> None:
    def fault(*arguments: str) -> Exception | None:
        done = CliRunner().invoke(app, ["eval", "mteb", "--out", str(tmp_path / "out"), *arguments])
        assert done.exit_code == 1
        assert isinstance(done.exception, Exception)
        return done.exception

    assert "did you mean 'NFCorpus'" in str(
        fault("no-such-model", "--task", "nfcorpus")
    )  # before the model is looked for
    no_encoder = text(tmp_path / "model" / "notes.txt", "nothing").parent
    folder = str(sts(tmp_path / "pairs"))
    assert isinstance(fault(str(no_encoder), "--data", folder), EncoderError)
    assert isinstance(fault(TINY, "--model_name", "another", "--data", folder), OptionError)
    assert not (tmp_path / "out").exists()


def testthe_model() -> None:
    assert the_model("a", None) == the_model(None, "a") == the_model("a", "a") == "a"
    with pytest.raises(OptionError, match="saw nothing"):
        the_model(None, None)


def test_result_files(tmp_path: Path) -> None:
    one = result(task="search:dev")
    append_scores(tmp_path / "all.txt", "org/encoder", [one, one])
    assert (tmp_path / "all.txt").read_text() == "search:dev: org/encoder: 0.25\n" * 2
    append_scores(tmp_path / "folder", "org/encoder", [one])
    assert [path.read_text() for path in (tmp_path / "folder").iterdir()] == ["search:dev: org/encoder: 0.25\n"]


def test_mteb_never_mixes_models_up(tmp_path: Path) -> None:
    own = text(tmp_path / "own.yaml", "other: {query: 'Anything;'}\n")
    revisions = {meta_of(opened(instructions=asked)).revision for asked in ("templates", "saved", "none", str(own))}
    revisions.add(meta_of(open_model(EncoderSpec(model=TINY, dtype="bfloat16"), "none", device="cpu")).revision)
    text(own, "other: {query: 'Something else;'}\n")
    revisions.add(meta_of(opened(instructions=str(own))).revision)
    assert len(revisions) == 6
    assert meta_of(opened()).revision == meta_of(opened(instructions="templates")).revision


def test_names_in_mtebs_form() -> None:
    assert mteb_name("org/model") == "org/model"
    assert mteb_name("model v1") == "local/model_v1"
    assert mteb_name("/tmp/models/mine") == "local/mine"


@pytest.mark.parametrize("instructions", ["templates", "saved", "none"])
def test_the_snippet_is_a_model_meta(tmp_path: Path, instructions: str) -> None:
    model = opened(instructions=instructions)
    found: dict[str, Any] = {}
    exec(snippet(model, "cache"), found)
    meta = found["model"]
    assert isinstance(meta, ModelMeta)
    assert meta.embed_dim == model.vectors(["a"], "STS").shape[1]
    assert meta.use_instructions == {"templates": True, "none": False, "saved": None}[instructions]
    prompts = meta.loader_kwargs.get("model_prompts", {})
    for kind, side in (("Retrieval", "query"), ("Retrieval", "document"), ("STS", None)):
        if instructions != "saved":
            assert prompts.get(f"{kind}-{side}" if side else kind, "") == model.told(kind, side)  # type: ignore[arg-type]


def test_results_of_mteb_lie_under_that_name(tmp_path: Path) -> None:
    model = opened()
    evaluate(model, [sts(tmp_path / "pairs")], tmp_path / "out")
    meta = meta_of(model)
    folder = tmp_path / "out" / ".mteb_cache" / "results" / meta.model_name_as_path() / meta.revision
    assert {"pairs.json", "model_meta.json"} <= {path.name for path in folder.iterdir()}
    found = mteb.ResultCache(tmp_path / "out" / ".mteb_cache").load_task_result("pairs", meta)
    assert found is not None
    there = sorted((tmp_path / "out").iterdir())
    models = [path for path in there if path.is_dir() and not path.name.startswith(".")]  # what a shell makes of out/*/
    (tasks,) = read_results(models).values()
    assert [name for _, name in tasks] == ["pairs"]
