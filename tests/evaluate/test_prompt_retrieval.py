"""`medi eval prompt-retrieval` from files to results, against a server on the loopback interface and small models."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.encode.model_files import BUNDLED, find_model
from medi_build.evaluate.prompt_retrieval.tasks import SST5
from medi_build.evaluate.results import Result, load_items, load_result
from tests.commands import run_main
from tests.conftest import ROOT
from tests.evaluate.loopback_llm import Server, serving
from tests.evaluate.prompt_files import geoquery_rows, sst5_rows, write_task
from tests.evaluate.tiny_lm import save_gpt2

COMMAND = ["eval", "prompt-retrieval", BUNDLED, "--instructions", "none", "--dtype", "float32", "--device", "cpu"]


def last_label(prompt: str) -> str:
    """The answer of the last example before the question."""
    return prompt.split("\n\n\n")[-2].rpartition("answer:\n")[2]


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [*COMMAND, *map(str, arguments)])
    assert done.exit_code == 0, f"{done.output} {done.exception!r}"
    return done.output


def only_result(folder: Path) -> tuple[Result, list[float]]:
    [path] = folder.rglob("*.json")
    return load_result(path), load_items(path)["value"].to_pylist()


def cosines(folder: Path) -> tuple[Any, Any, Any]:
    """Cosines of questions with the pool by sentence-transformers, and the labels of both."""
    rows = [json.loads((folder / f"sst5_{part}.json").read_text()) for part in ("train", "eval")]
    peer = SentenceTransformer(str(find_model(BUNDLED).folder), device="cpu")
    pool, questions = (peer.encode([row["text"] for row in part], normalize_embeddings=True) for part in rows)
    labels, right = (np.array([row["label"] for row in part]) for part in rows)
    return questions @ pool.T, labels, right


@pytest.fixture
def real(tmp_path: Path, shared_data: Path) -> Path:
    """Some rows of the real sst5; the same texts in pool and questions are left out."""
    folder = shared_data / "eval" / "prompt_retrieval"
    pool, questions = (json.loads((folder / f"sst5_{part}.json").read_text()) for part in ("train", "eval"))
    return write_task(tmp_path / "data", "sst5", pool[:200], questions[:40])


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("chat", [False, True])
def test_an_endpoint_that_answers_with_the_last_examples_label(real: Path, tmp_path: Path, chat: bool) -> None:
    scores, labels, right = cosines(real)
    with serving(last_label) as server:
        url = f"{server.url}/chat/completions" if chat else server.url
        told = run("--data", real, "--out", tmp_path / "out", "--endpoint", url, "--llm", "echo")
    result, values = only_result(tmp_path / "out")
    expected = labels[scores.argmax(axis=1)] == right
    assert values == expected.astype(float).tolist()
    assert result.metrics == {"accuracy": pytest.approx(expected.mean())}
    assert f"{expected.mean():.4f}" in told
    assert (result.task, result.statistic, result.settings["budget"]) == ("sst5-echo", "mean", 1000)
    assert result.settings["language_model"]["form"] == ("chat" if chat else "completions")
    assert result.instructions == {"source": "none", "query": ""}
    # The prompts hold the nearest examples, the most similar last.
    texts = [row["text"] for row in json.loads((real / "sst5_train.json").read_text())]
    asked = {prompt.split("\n")[-3]: prompt for prompt in server.prompts}
    for row, question in enumerate(json.loads((real / "sst5_eval.json").read_text())):
        prompt = asked[question["text"]]
        assert len(prompt.encode()) <= 3000
        shown = [texts.index(block.split("\n")[1]) for block in prompt.split("\n\n\n")[:-1]]
        assert len(shown) > 5
        assert all(np.diff(scores[row, shown]) > -2e-3)  # a store keeps float16
        others = np.delete(scores[row], shown)
        assert scores[row, shown].min() > np.sort(others)[::-1][0] - 2e-3


@pytest.mark.shared
@pytest.mark.slow
def test_without_a_language_model_examples_are_judged(real: Path, tmp_path: Path) -> None:
    scores, labels, right = cosines(real)
    told = run("--data", real, "--out", tmp_path / "out", "--mode", "knn", "--task", "sst5", "--budget", "20000")
    result, values = only_result(tmp_path / "out")
    assert (result.task, result.main_metric) == ("sst5-knn", "label_share")
    assert result.metrics["nearest_label"] == pytest.approx((labels[scores.argmax(axis=1)] == right).mean())
    # So large a budget has room for the whole pool, whose labels are the same for every question.
    assert result.counts["examples"] == 40 * 200
    assert values == pytest.approx([(labels == label).mean() for label in right])
    assert "label_share" in told and "nearest_label" in told


def test_vote_k_makes_the_pool_small(tmp_path: Path) -> None:
    write_task(tmp_path / "data", "sst5", sst5_rows(40), sst5_rows(6, 100))
    with serving(last_label) as server:
        arguments = ["--data", tmp_path / "data", "--endpoint", server.url, "--llm", "echo", "--budget", "3000"]
        run(*arguments, "--out", tmp_path / "out", "--select", "vote-k", "--pool-size", "7")
    result, _ = only_result(tmp_path / "out")
    assert (result.task, result.counts["pool"], result.settings["pool_size"]) == ("sst5-echo-vote-k-7", 7, 7)
    shown = {block.split("\n")[1] for prompt in server.prompts for block in prompt.split("\n\n\n")[:-1]}
    assert len(shown) == 7


def test_queries_are_completed_and_scored_by_rouge(tmp_path: Path) -> None:
    write_task(tmp_path / "data", "geoquery", geoquery_rows(12), geoquery_rows(4, 20))

    def last_query(prompt: str) -> str:
        return prompt.split("\n\n")[-2].rpartition("\nSELECT")[2]

    with serving(last_query) as server:
        arguments = ["--data", tmp_path / "data", "--out", tmp_path / "out", "--endpoint", server.url, "--llm", "echo"]
        run(*arguments)
    result, values = only_result(tmp_path / "out")
    assert result.main_metric == "rouge_l"
    assert result.metrics["exact_match"] == 0  # each query names another town or river
    # Of 11 words all but the name are the same where the table is, else all but name and three that name the table.
    assert set(np.round(values, 6)) <= {round(10 / 11, 6), round(6 / 11, 6)}
    assert result.metrics["rouge_l"] == pytest.approx(np.mean(values))
    assert server.asked[0]["stop"] == ["--", "\n\n", ";", "#"]


@pytest.mark.slow
def test_a_model_of_transformers_completes(tmp_path: Path) -> None:
    write_task(tmp_path / "data", "sst5", sst5_rows(20), sst5_rows(5, 20))
    write_task(tmp_path / "data", "geoquery", geoquery_rows(6), geoquery_rows(2, 6))
    llm = save_gpt2(tmp_path / "tiny-gpt2")
    arguments = ["--data", tmp_path / "data", "--out", tmp_path / "out", "--llm", llm, "--batch_size", "3"]
    run(*arguments, "--model_cache_dir", tmp_path / "cache")
    results = {path.stem: load_result(path) for path in (tmp_path / "out").rglob("*.json")}
    assert set(results) == {"sst5-tiny-gpt2", "geoquery-tiny-gpt2"}
    result = results["sst5-tiny-gpt2"]
    assert result.counts["answers_kept_from_before"] == 0
    assert result.settings["language_model"]["labels"] == "by mean log-likelihood of a token"
    lines = (tmp_path / "out" / "completions" / "tiny-gpt2.jsonl").read_text().splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    assert len(answers) == 7 and sum(answer in SST5 for answer in answers) == 5
    run(*arguments, "--task", "sst5")
    again = load_result(next((tmp_path / "out").rglob("sst5-tiny-gpt2.json")))
    assert again.metrics == result.metrics
    assert again.counts["answers_kept_from_before"] == 5


@pytest.mark.slow
def test_a_run_that_was_killed_asks_for_nothing_twice(tmp_path: Path) -> None:
    data = write_task(tmp_path / "data", "sst5", sst5_rows(40), sst5_rows(30, 40))
    with serving(last_label) as server:
        arguments = ["--data", data, "--out", tmp_path / "out", "--endpoint", server.url, "--llm", "echo"]
        kept = killed_after(10, server, tmp_path / "out", [*COMMAND, *map(str, arguments)])
        before = server.prompts[:]
        answered, server.stop_after = before[:10], None
        run(*arguments)
        after = server.prompts[len(before) :]
        run(*arguments)
        assert len(server.prompts) == len(before) + len(after)
    assert kept == 10
    assert len(set(after)) == len(after) == 20
    assert not set(after) & set(answered)
    assert len(set(after) | set(answered)) == 30
    result, _ = only_result(tmp_path / "out")
    with serving(last_label) as server:
        run("--data", data, "--out", tmp_path / "whole", "--endpoint", server.url, "--llm", "echo")
    assert only_result(tmp_path / "whole")[0].metrics == result.metrics


def killed_after(count: int, server: Server, out: Path, command: list[str]) -> int:
    """Run a command, kill it once so many answers are kept and the server is silent; return the answers kept."""
    server.stop_after = count
    code = "import sys; from medi_build.cli import main; sys.argv = ['medi', *sys.argv[1:]]; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    path = out / "completions" / "echo.jsonl"
    with subprocess.Popen([sys.executable, "-c", code, *command], env=environment, stderr=subprocess.PIPE) as process:
        while not (path.is_file() and path.read_bytes().count(b"\n") == count and len(server.asked) > count):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    return path.read_bytes().count(b"\n")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--task", "sst-5"], 1, "did you mean 'sst5'?"),
        (["--task", "rte"], 1, "rte_train.json: is missing"),
        (["--budget", "20"], 1, "--budget 20: question 0 of sst5 alone takes"),
        (["--endpoint", "http://127.0.0.1:9/v1", "--llm", "gone"], 1, "does not answer"),
        (["--endpoint", "127.0.0.1:9", "--llm", "gone"], 1, "has to be an address"),
        (["--endpoint", "http://127.0.0.1:9/v1"], 2, "--endpoint needs --llm"),
        (["--mode", "complete"], 2, "--mode complete needs --llm"),
        (["--mode", "knn", "--llm", "x"], 2, "--mode knn asks no language model"),
        (["--embedding_model", "other"], 1, "which model: saw"),
        (["--llm", "."], 1, "the folder has no config.json"),
        (["--add_prompt"], 2, "--add_prompt means"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_encoded(
    tmp_path: Path,
    arguments: list[str],
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_task(tmp_path, "sst5", sst5_rows(10), sst5_rows(3, 10))
    monkeypatch.setattr("medi_build.evaluate.model.EvaluatedModel.vectors", None)
    monkeypatch.setenv("COLUMNS", "500")
    found, message = run_main(capsys, monkeypatch, *COMMAND, "--data", tmp_path, "--out", tmp_path / "out", *arguments)
    assert (found, told in " ".join(message.split())) == (code, True), message
