"""Billboard against a straightforward computation, on real files and on ragged ones; and what is wrong with files."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from medi_build.content.pipelines import EncoderSpec
from medi_build.embedding import Embedded
from medi_build.encode.model_files import BUNDLED, find_model
from medi_build.errors import EvaluationError
from medi_build.evaluate.billboard import FOLDERS, evaluate, human_score, read_task, tasks_there
from medi_build.evaluate.instructions import NO_INSTRUCTIONS, choose_instructions
from medi_build.evaluate.model import EvaluatedModel, open_model
from medi_build.evaluate.results import load_items, load_result
from tests.commands import run_main

INSTRUCTION = "Represent the text for judging its quality;"


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(folder: Path, task: str, hypotheses: list[Any], references: list[Any]) -> Path:
    name = FOLDERS[task]
    (folder / name).mkdir(parents=True)
    for ending, lines in (("THumB-1.0", hypotheses), ("references", references)):
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        (folder / name / f"{name}_{ending}.jsonl").write_text(text, encoding="utf-8")
    return folder


def by_hand(hypotheses: list[Any], references: list[Any], encode: Any) -> tuple[list[float], list[float], float]:
    """Scores, human scores and Pearson's correlation, one hypothesis after the other."""
    refs = {line["seg_id"]: line["refs"] for line in references}
    scores, human = [], []
    for line in hypotheses:
        ours = encode([line["hyp"], *refs[line["seg_id"]]])
        cosines = [a @ ours[0] / np.linalg.norm(a) / np.linalg.norm(ours[0]) for a in ours[1:]]
        scores.append(float(max(cosines)))
        human.append(line["human_score"])
    return scores, human, float(np.corrcoef(scores, human)[0, 1])


def letters(text: str) -> Any:
    """A vector of a text that similar texts share in part: how often each of 64 kinds of letter pairs stands in it."""
    vector = np.zeros(64)
    for a, b in pairwise(text):
        vector[(31 * ord(a) + ord(b)) % 64] += 1
    return vector + 0.01


def counting_model(asked: list[Any]) -> EvaluatedModel:
    def embed(texts: Any, instruction: Any = None, side: Any = None) -> Embedded:
        asked.append((instruction, side))
        rows = np.array([letters(text) for text in texts])
        return Embedded((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16), 0)

    about = {"model": "letters", "digest": "0" * 16}
    chosen = choose_instructions("templates", leaves_instruction_out=True)
    return EvaluatedModel(about, embed, chosen, lambda prompt: prompt.instruction)


@pytest.mark.shared
@pytest.mark.parametrize("task", ["mscoco", "cnndm"])
def test_the_whole_real_files_as_by_hand(task: str, shared_data: Path) -> None:
    folder, asked = shared_data / "eval" / "billboard", []
    result, items = evaluate(counting_model(asked), read_task(folder, task))
    hypotheses = read(folder / task / f"{task}_THumB-1.0.jsonl")
    references = read(folder / task / f"{task}_references.jsonl")
    rounded = lambda texts: [(v / np.linalg.norm(v)).astype(np.float16).astype(float) for v in map(letters, texts)]  # noqa: E731
    scores, human, correlation = by_hand(hypotheses, references, rounded)
    assert items["value"].to_pylist() == pytest.approx(scores, abs=1e-9)
    assert items["gold"].to_pylist() == human
    assert result.metrics["pearson"] == pytest.approx(correlation, abs=1e-9)
    assert len(set(items["id"].to_pylist())) == len(hypotheses) == result.counts["hypotheses"]
    assert asked == [(INSTRUCTION, None)]
    assert result.instructions == {"source": "templates", "query": INSTRUCTION}


@pytest.mark.shared
@pytest.mark.slow
def test_with_an_encoder_as_sentence_transformers_says(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "eval" / "billboard" / "mscoco"
    references = read(folder / "mscoco_references.jsonl")[:24]
    hypotheses = read(folder / "mscoco_THumB-1.0.jsonl")[:120]
    write(tmp_path, "mscoco", hypotheses, references)
    model = open_model(EncoderSpec(model=BUNDLED, dtype="float32"), "none", device="cpu")
    peer = SentenceTransformer(str(find_model(BUNDLED).folder), device="cpu")
    scores, _, correlation = by_hand(hypotheses, references, peer.encode)
    result, items = evaluate(model, read_task(tmp_path, "mscoco"))
    assert items["value"].to_pylist() == pytest.approx(scores, abs=2e-3)  # a store keeps float16
    assert result.metrics["pearson"] == pytest.approx(correlation, abs=2e-3)


@pytest.mark.shared
def test_human_scores_of_summaries_are_the_means_of_the_experts(shared_data: Path) -> None:
    for line in read(shared_data / "eval" / "billboard" / "cnndm" / "cnndm_THumB-1.0.jsonl"):
        alone = {"expert_annotations": line["expert_annotations"]}
        assert human_score("here", alone) == pytest.approx(line["human_score"], abs=1e-12)
        assert human_score("here", line) == line["human_score"]


def test_references_may_be_ragged_and_in_any_order(tmp_path: Path) -> None:
    references = [
        {"seg_id": "b", "refs": ["a ship at sea", "boats", "a ferry leaves the harbour"]},
        {"seg_id": "unused", "refs": ["never encoded"]},
        {"seg_id": "a", "refs": ["bread is baked"]},
        {"seg_id": "c", "refs": ["one", "two"]},
    ]
    hypotheses = [
        {"seg_id": "a", "SYS": "x", "hyp": "bread was baked", "human_score": 5},
        {"seg_id": "b", "SYS": "x", "hyp": "a ferry left", "human_score": 4.5},
        {"seg_id": "c", "SYS": "x", "hyp": "three", "human_score": 1},
        {"seg_id": "a", "SYS": "x", "hyp": "stones", "human_score": 0.5},
    ]
    write(tmp_path, "mscoco", hypotheses, references)
    result, items = evaluate(counting_model([]), read_task(tmp_path, "mscoco"))
    scores, _, correlation = by_hand(hypotheses, references, lambda texts: [letters(text) for text in texts])
    assert items["value"].to_pylist() == pytest.approx(scores, abs=1e-3)
    assert result.metrics["pearson"] == pytest.approx(correlation, abs=1e-3)
    assert items["id"].to_pylist() == ["a/x", "b/x", "c/x", "a/x/2"]
    assert result.counts == {"hypotheses": 4, "segments": 3, "references": 6}
    inside = read_task(tmp_path / "mscoco", "mscoco")  # the task's own folder will do as well
    assert inside.hypotheses == [line["hyp"] for line in hypotheses]


GOOD = {"seg_id": "a", "hyp": "text", "human_score": 1}
REFERENCES = {"seg_id": "a", "refs": ["text"]}


@pytest.mark.parametrize(
    ("hypotheses", "references", "told"),
    [
        ([GOOD, {**GOOD, "human_score": 2}, "{"], [REFERENCES], r"THumB-1.0.jsonl:3: is no JSON"),
        ([GOOD, "[1]"], [REFERENCES], r"THumB-1.0.jsonl:2: is '\[1\]'; each line has to be a JSON object"),
        ([GOOD, {**GOOD, "seg_id": "b"}], [REFERENCES], "THumB-1.0.jsonl:2: segment 'b' has no reference"),
        ([GOOD], [{**REFERENCES, "refs": []}], "segment 'a' has no reference"),
        ([GOOD], [{**REFERENCES, "refs": "text"}], "`refs` is 'text'; it has to be a list of texts"),
        ([{**GOOD, "hyp": None}], [REFERENCES], "`hyp` is 'None'; it has to be the generated text"),
        ([{**GOOD, "human_score": "5"}], [REFERENCES], "`human_score` is '5'; it has to be a number"),
        (['{"seg_id": "a", "hyp": "text", "human_score": NaN}'], [REFERENCES], "`human_score` is nan"),
        ([{"seg_id": "a", "hyp": "text"}], [REFERENCES], "`human_score` is None; it has to be a number"),
        (
            [{**GOOD, "human_score": None, "expert_annotations": [{"fluency": 1}]}],
            [REFERENCES],
            "lacks one of coherence",
        ),
        ([{"hyp": "text", "human_score": 1}], [REFERENCES], "has neither `seg_id` nor `set_id`"),
        ([GOOD, GOOD], [REFERENCES], "2 hypotheses with 1 different human scores; a correlation needs two"),
        ([], [REFERENCES], "0 hypotheses with 0 different human scores"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(
    tmp_path: Path, hypotheses: list[Any], references: list[Any], told: str
) -> None:
    write(tmp_path, "mscoco", hypotheses, references)
    with pytest.raises(EvaluationError, match=told):
        read_task(tmp_path, "mscoco")


def test_missing_files_and_mistyped_tasks(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"--task cnn_dm: .* did you mean 'cnndm'\?; they are mscoco, cnndm, mt"):
        read_task(tmp_path, "cnn_dm")
    with pytest.raises(EvaluationError, match="holds the files of no Billboard task"):
        tasks_there(tmp_path)
    write(tmp_path, "mt", [], [REFERENCES])
    (tmp_path / "wmt20-zh-en" / "wmt20-zh-en_THumB-1.0.jsonl").unlink()
    with pytest.raises(
        EvaluationError, match=r"wmt20-zh-en_THumB-1.0.jsonl is missing: the hypotheses with their human"
    ):
        read_task(tmp_path, "mt")


def test_a_model_that_finds_all_alike_has_no_correlation(tmp_path: Path) -> None:
    write(tmp_path, "mscoco", [GOOD, {**GOOD, "human_score": 2}], [REFERENCES])
    same = EvaluatedModel(
        {"model": "flat"}, lambda texts, *_: Embedded(np.ones((len(texts), 4), np.float16) / 2, 0),
        NO_INSTRUCTIONS, SimpleNamespace(),
    )  # fmt: skip
    with pytest.raises(EvaluationError, match=r"all 2 hypotheses have the cosine 1\.0000"):
        evaluate(same, read_task(tmp_path, "mscoco"))


def test_the_command_as_in_the_public_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hypotheses = [
        {"seg_id": "a", "SYS": str(i), "hyp": text, "human_score": i}
        for i, text in enumerate(["Stones.", "A dog.", "A dog runs."])
    ]
    write(tmp_path / "data", "mscoco", hypotheses, [{"seg_id": "a", "refs": ["A dog is running.", "A puppy."]}])
    monkeypatch.chdir(tmp_path)
    from typer.testing import CliRunner

    from medi_build.cli import app

    arguments = ["eval", "billboard", "--model_name", BUNDLED, "--add_prompt", "--output_dir", "out"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "left out: cnndm (cnndm_THumB-1.0.jsonl is missing), mt" in done.output
    [path] = (tmp_path / "out").rglob("*.json")
    result = load_result(path)
    assert (result.suite, result.task, result.main_metric, result.statistic) == (
        "billboard", "mscoco", "pearson", "pearson",
    )  # fmt: skip
    assert result.instructions["query"] == INSTRUCTION
    assert load_items(path)["gold"].to_pylist() == [0, 1, 2]
    assert result.metrics["pearson"] > 0.8
    assert f"{result.metrics['pearson']:.4f}" in done.output
    code, told = run_main(
        capsys, monkeypatch, "eval", "billboard", BUNDLED, "--add_prompt", "--instructions", "none", "--out", "x"
    )
    assert code == 2 and "--add_prompt means" in told
    code, told = run_main(capsys, monkeypatch, "eval", "billboard", "--out", "x")
    assert code == 1 and "which model: saw nothing" in told
