"""Tasks through mteb's evaluators: scores as mteb's own, each side its instruction, nothing computed twice."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
import pytrec_eval
import torch
import xxhash
from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores
from sentence_transformers import SentenceTransformer

from medi_build.arrays import Floats32
from medi_build.content.pipelines import EncoderSpec
from medi_build.embedding import Embedded, Side
from medi_build.encode.embedder import Embedder
from medi_build.encode.model_files import BUNDLED, find_model
from medi_build.evaluate.instructions import Instructions, choose_instructions
from medi_build.evaluate.local_data import LocalSet, RetrievalSet
from medi_build.evaluate.local_sets import read_local_set
from medi_build.evaluate.model import EvaluatedModel, open_model
from medi_build.evaluate.mteb_run import CACHE, evaluate_jobs, local_scores
from medi_build.evaluate.mteb_tasks import MAIN_METRICS, Job, choose_jobs, local_task
from medi_build.evaluate.results import Result, load_items, load_result, result_path
from tests.conftest import ROOT
from tests.evaluate.eval_folders import all_forms, beir, clustering, lines, sts, text

TINY = str(ROOT / "tests" / "golden" / "tiny_instructor")


def opened(model: str = TINY, instructions: str = "auto", store: Path | None = None) -> EvaluatedModel:
    return open_model(EncoderSpec(model=model, dtype="float32"), instructions, device="cpu", store=store)


def evaluate(model: EvaluatedModel, folders: list[Path], out: Path, **options: Any) -> list[Result]:
    results, faults = evaluate_jobs(model, choose_jobs([], folders, None), out, **options)
    assert not faults
    return results


class Recorder:
    """Vectors that depend on text and instruction alone, and what was asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[str | None, Side | None]] = {}

    def __call__(self, texts: Any, instruction: str | None = None, side: Side | None = None) -> Embedded:
        self.asked |= dict.fromkeys(texts, (instruction, side))
        vectors = [np.random.default_rng([ord(c) for c in f"{instruction}|{one}"]).normal(size=8) for one in texts]
        found = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embedded(found.astype(np.float16), 0)


def recorded(instructions: Instructions) -> tuple[EvaluatedModel, Recorder]:
    recorder = Recorder()
    about = {"model": "org/recorder", "revision": "c0ffee", "digest": "0" * 16, "dtype": "float32"}
    return EvaluatedModel(about, recorder, instructions, lambda prompt: prompt.instruction or ""), recorder


@pytest.mark.slow
def test_scores_are_those_of_mteb_with_sentence_transformers(tmp_path: Path) -> None:
    folders = all_forms(tmp_path / "data")
    plain = SentenceTransformer(str(find_model(BUNDLED).folder), device="cpu")
    for result, folder in zip(evaluate(opened(BUNDLED), folders, tmp_path / "out"), folders, strict=True):
        [theirs] = mteb.evaluate(plain, local_task(read_local_set(folder)), cache=None, co2_tracker=False).task_results
        [scores] = theirs.scores["test"]
        compared = {name for name in result.metrics if isinstance(scores.get(name), float)}
        assert {MAIN_METRICS[result.task_type], result.main_metric} <= compared
        for name in compared:
            assert result.metrics[name] == pytest.approx(scores[name], abs=1e-3), (result.task, name)


def check_ndcg(data: RetrievalSet, model: EvaluatedModel, out: Path) -> None:
    """nDCG@10 against pytrec_eval and mteb's evaluator over the same vectors."""
    [result], _ = evaluate_jobs(model, [Job(data.name, local_task(data), data)], out)
    documents = [f"{title} {body}".strip() for title, body in data.documents.values()]
    queries = model.vectors(list(data.queries.values()), "Retrieval", "query")
    cosines = queries.astype(np.float64) @ model.vectors(documents, "Retrieval", "document").astype(np.float64).T
    run = {
        query: dict(zip(data.documents, map(float, row), strict=True))
        for query, row in zip(data.queries, cosines, strict=True)
    }
    qrels = {query: dict(found) for query, found in data.qrels.items()}
    by_query = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
    expected = np.mean([found["ndcg_cut_10"] for found in by_query.values()])
    assert 0 < expected < 1
    assert result.main_score == pytest.approx(expected, abs=1e-6)
    theirs = calculate_retrieval_scores(run, qrels, (10,)).all_scores
    assert result.main_score == pytest.approx(np.mean([found["ndcg_cut_10"] for found in theirs.values()]), abs=1e-6)
    items = load_items(result_path(out, "mteb", data.name, model.about, "saved"))
    for query, value in zip(items["id"].to_pylist(), items["value"].to_pylist(), strict=True):
        assert value == pytest.approx(by_query[query]["ndcg_cut_10"], abs=1e-6)
    [written] = (out / CACHE / "results").rglob(f"{data.name}.json")
    [scores] = json.loads(written.read_bytes())["scores"]["test"]
    assert scores["ndcg_at_10"] == round(result.main_score, 5)  # as mteb writes it


@pytest.mark.shared
def test_ndcg_on_a_part_of_nfcorpus(shared_data: Path, tmp_path: Path) -> None:
    whole = read_local_set(shared_data / "eval" / "beir" / "nfcorpus")
    assert isinstance(whole, RetrievalSet)
    queries = dict(list(whole.queries.items())[:12])
    qrels = {query: whole.qrels[query] for query in queries}
    judged = [document for found in qrels.values() for document in list(found)[:2]]  # others are absent: not found
    documents = {name: whole.documents[name] for name in [*dict.fromkeys(judged), *list(whole.documents)[:10]]}
    check_ndcg(
        RetrievalSet("part", "test", {}, documents, queries, qrels), opened(BUNDLED, store=tmp_path / "store"), tmp_path
    )


def words_in(texts: Sequence[str], instruction: str | None = None, side: Side | None = None) -> Embedded:
    """Vectors of the words of texts, and a little of each text's own, so that nothing ties: quick on any corpus."""
    vectors = np.empty((len(texts), 512), np.float32)
    for row, one in zip(vectors, texts, strict=True):
        row[:] = 0.05 * np.random.default_rng(xxhash.xxh3_64_intdigest(one.encode())).normal(size=512)
        for word in one.lower().split():
            row[xxhash.xxh3_64_intdigest(word.encode()) % 512] += 1
    return Embedded((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16), 0)


@pytest.mark.shared
@pytest.mark.slow
def test_ndcg_on_nfcorpus(shared_data: Path, tmp_path: Path) -> None:
    whole = read_local_set(shared_data / "eval" / "beir" / "nfcorpus")
    assert isinstance(whole, RetrievalSet)
    about = {"model": "org/words", "revision": "c0ffee", "digest": "0" * 16, "dtype": "float32"}
    saved = choose_instructions("saved", leaves_instruction_out=False)
    check_ndcg(whole, EvaluatedModel(about, words_in, saved, lambda prompt: ""), tmp_path)


def test_each_side_gets_its_instruction(tmp_path: Path) -> None:
    own = text(
        tmp_path / "own.yaml",
        "other: {query: 'Other;'}\n"
        "task_types: {Retrieval: {query: 'Ask;', document: 'Find;'}, STS: {query: 'Alike;'}}\n"
        "tasks: {topics: {query: 'Mine;'}}\n",
    )
    model, recorder = recorded(choose_instructions(str(own), leaves_instruction_out=True))
    results = {result.task: result for result in evaluate(model, all_forms(tmp_path / "data"), tmp_path / "out")}
    assert recorder.asked["work in the garden"] == ("Ask;", "query")
    assert recorder.asked["garden compost feeds the soil"] == ("Find;", "document")
    assert recorder.asked["the dough has to rest"] == ("Alike;", None)
    assert recorder.asked["about the garden: roses need pruning in spring"] == ("Mine;", None)  # by name
    assert recorder.asked["compost feeds the soil"] == ("Other;", None)  # clustered last
    told = {name: {k: v for k, v in result.instructions.items() if k != "source"} for name, result in results.items()}
    assert told == {
        "search": {"query": "Ask;", "document": "Find;"},
        "pairs": {"text": "Alike;"},
        "topics": {"text": "Mine;"},
        "clusters": {"text": "Other;"},
    }
    assert {result.instructions["source"] for result in results.values()} == {str(own)}


def test_saved_prompts_are_the_models(tmp_path: Path) -> None:
    model, recorder = recorded(choose_instructions("saved", leaves_instruction_out=False))
    evaluate(model, [beir(tmp_path / "search")], tmp_path / "out")
    assert recorder.asked["work in the garden"] == (None, "query")
    assert recorder.asked["garden compost feeds the soil"] == (None, "document")


def test_items_make_the_main_metric(tmp_path: Path) -> None:
    from scipy.stats import spearmanr

    model = opened()
    for result in evaluate(model, all_forms(tmp_path / "data"), tmp_path / "out"):
        items = load_items(result_path(tmp_path / "out", "mteb", result.task, model.about, "templates")).to_pydict()
        assert len(set(items["id"])) == len(items["id"])
        if result.task_type == "STS":
            assert result.statistic == "spearman"
            assert result.main_score == pytest.approx(spearmanr(items["value"], items["gold"])[0])
        else:
            assert result.statistic == "mean"
            assert result.main_score == pytest.approx(np.mean(items["value"]))


def test_the_shape_of_a_result(tmp_path: Path) -> None:
    model = opened()
    [result] = evaluate(model, [beir(tmp_path / "search")], tmp_path / "out")
    path = result_path(tmp_path / "out", "mteb", "search", model.about, "templates")
    assert load_result(path) == result
    written = json.loads(path.read_bytes())
    assert list(written) == [
        "schema_version", "suite", "task", "task_type", "model", "instructions", "main_metric", "metrics", "statistic",
        "counts", "settings", "versions", "hardware", "seconds",
    ]  # fmt: skip
    assert (written["suite"], written["task"], written["task_type"]) == ("mteb", "search", "Retrieval")
    assert written["model"] == dict(model.about)
    assert {"ndcg_at_10", "map_at_10", "recall_at_10", "mrr_at_10"} <= set(written["metrics"])
    assert all(isinstance(value, float) for value in written["metrics"].values())
    assert written["counts"] == {"queries": 3, "documents": 12}
    assert set(written["settings"]) == {"seed", "splits", "subsets", "data"}
    assert written["versions"]["mteb"] == mteb.__version__


def test_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    folder, out = sts(tmp_path / "pairs"), tmp_path / "out"
    model, recorder = recorded(choose_instructions("templates", leaves_instruction_out=True))

    def encodes(**options: Any) -> bool:
        recorder.asked.clear()
        evaluate(model, [folder], out, **options)
        return bool(recorder.asked)

    assert encodes()
    assert not encodes()
    assert encodes(overwrite=True)
    assert encodes(seed=7)
    assert not encodes(seed=7)
    with (folder / "test.tsv").open("a") as file:
        file.write("one more\tpair\t1\n")
    assert encodes(seed=7)  # the set is another one
    own = text(tmp_path / "templates", "other: {query: 'Anything;'}\n")  # a file of that name
    model = model._replace(instructions=choose_instructions(str(own), leaves_instruction_out=True))
    assert encodes(seed=7)
    text(own, "other: {query: 'Something else;'}\n")
    model = model._replace(instructions=choose_instructions(str(own), leaves_instruction_out=True))
    assert encodes(seed=7)


DYING = """
import os, signal, sys
from pathlib import Path
from tests.evaluate.test_mteb import opened, evaluate

model = opened(store=Path(sys.argv[2]))
calls = []

def embed(texts, instruction=None, side=None):
    calls.append(side)
    if side == "document":
        os.kill(os.getpid(), signal.SIGKILL)
    return model.embed(texts, instruction, side)

evaluate(model._replace(embed=embed), [Path(sys.argv[1])], Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_without_encoding_twice(tmp_path: Path) -> None:
    folder, store, out = beir(tmp_path / "search"), tmp_path / "store", tmp_path / "out"
    arguments = [sys.executable, "-c", DYING, str(folder), str(store), str(out)]
    assert subprocess.run(arguments, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert not list(out.glob("*/mteb/*"))
    model = opened(store=store)
    assert isinstance(model.embed, Embedder)
    evaluate(model, [folder], out)
    assert model.embed.encoded == 12  # the documents; the queries are stored
    other = opened(store=store)
    assert isinstance(other.embed, Embedder)
    evaluate(other, [folder], out, overwrite=True)
    assert other.embed.encoded == 0


@pytest.mark.parametrize("form", [0, 1, 2, 3])
def test_a_model_in_memory_has_the_same_scores(tmp_path: Path, form: int) -> None:
    folder = all_forms(tmp_path / "data")[form]
    model, data = opened(), read_local_set(folder)
    [result] = evaluate(model, [folder], tmp_path / "out")
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    for _ in range(2):
        found = local_scores(model.vectors, data)
        assert found[MAIN_METRICS[data.task_type]] == pytest.approx(result.main_score, abs=1e-5)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert before == after  # a training goes on with its own draws


def test_a_worse_model_scores_worse(tmp_path: Path) -> None:
    """The scores are about the vectors: with those of other texts they fall."""
    data: LocalSet = read_local_set(beir(tmp_path / "search"))
    model = opened(BUNDLED)

    def shuffled(texts: Any, task_type: str, side: Side | None = None, task: str = "") -> Floats32:
        return np.roll(model.vectors(texts, task_type, side, task), 1 if side == "document" else 0, axis=0)

    assert local_scores(shuffled, data)["ndcg_at_10"] < local_scores(model.vectors, data)["ndcg_at_10"]


def test_splits_are_tasks_of_their_own(tmp_path: Path) -> None:
    head = "query-id\tcorpus-id\tscore\n"
    folder = beir(tmp_path / "search", dict.fromkeys(("dev", "test"), f"{head}q-garden\tgarden-0\t1\n"))
    names = {split: choose_jobs([], [folder], split)[0].name for split in (None, "test", "dev")}
    assert names == {None: "search", "test": "search", "dev": "search:dev"}


def test_a_task_of_mteb_goes_the_same_way(tmp_path: Path) -> None:
    """One whose data set lies in a folder in place of the hub."""
    [job] = choose_jobs(["STSBenchmark"], [], None)
    pairs = read_local_set(sts(tmp_path / "pairs"))
    rows = zip(pairs.sentences1, pairs.sentences2, pairs.scores, strict=True)  # type: ignore[union-attr]
    lines(tmp_path / "hub" / "test.jsonl", [{"sentence1": a, "sentence2": b, "score": s} for a, b, s in rows])
    dataset = {"path": str(tmp_path / "hub"), "revision": "1"}
    job.task.metadata = job.task.metadata.model_copy(update={"dataset": dataset})
    model = opened(instructions="none")
    [result], faults = evaluate_jobs(model, [job], tmp_path / "out")
    assert not faults
    [own] = evaluate(model, [tmp_path / "pairs"], tmp_path / "out")
    assert (result.task, result.metrics, result.statistic) == ("STSBenchmark", own.metrics, "spearman")
    assert result.counts == {"items": 5}


def test_clusters_of_one_run_are_those_of_the_next(tmp_path: Path) -> None:
    folders = [clustering(tmp_path / "clusters"), beir(tmp_path / "search")]
    model = opened()
    first = evaluate(model, folders, tmp_path / "one")
    second = evaluate(model, folders[::-1], tmp_path / "two")[::-1]
    assert [result.metrics for result in first] == [result.metrics for result in second]


def test_the_seed_decides_what_is_drawn(tmp_path: Path) -> None:
    model, jobs = opened(), choose_jobs([], [clustering(tmp_path / "clusters")], None)
    found = [evaluate_jobs(model, jobs, tmp_path / f"{n}", seed=seed)[0][0].metrics for n, seed in enumerate((7, 7, 8))]
    assert found[0] == found[1] != found[2]
