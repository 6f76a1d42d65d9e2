"""The study of negatives on a GPU (benchmarks/teach_gpu.py), in its small form on the CPU."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="benchmarks/ is not part of the source distribution")
WORDS = 50


def tokenizer(texts: list[str], *, max_length: int, **_: object) -> dict[str, list[list[int]]]:
    """Numbers in the text are its tokens."""
    return {"input_ids": [([1, *map(int, text.split()), 2])[:max_length] for text in texts]}


def domain(seed: int, train: int = 24, test: int = 12, others: int = 10) -> Any:
    """Queries whose documents share words with them."""
    generator = np.random.default_rng(seed)
    count = train + test
    texts = [" ".join(map(str, generator.integers(3, WORDS, generator.integers(3, 9)))) for _ in range(count)]
    noise = generator.integers(3, WORDS, (count, 6))
    documents = [" ".join([*text.split()[:2], *map(str, own)]) for text, own in zip(texts, noise, strict=True)]
    documents += [" ".join(map(str, generator.integers(3, WORDS, 6))) for _ in range(others)]
    relevant = [[i] if i % 3 else sorted({i, (i + 1) % count}) for i in range(count)]
    return SimpleNamespace(
        queries=texts,
        documents=documents,
        relevant=relevant,
        known=np.arange(count),
        train=np.arange(train),
        test=np.arange(train, count),
    )


@pytest.fixture(scope="module", autouse=True)
def _found() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def bert() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=6, num_attention_heads=2, intermediate_size=64
    )
    return BertModel(config, add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, bert: BertModel) -> Path:
    from teach.prepared import save

    path = tmp_path_factory.mktemp("prepared")
    save(path, {"a": domain(0), "b": domain(1, train=20)}, tokenizer, bert)
    return path


@pytest.fixture
def stack(folder: Path) -> Any:
    from teach.prepared import Prepared
    from teach.stack import Machine, Shape, Stack

    return Stack(Prepared(folder), Shape(2, 8), Machine())


def job(name: str, seed: int, **changed: Any) -> Any:
    from teach.runs import Training
    from teach.stack import Job

    rows = 24 if name == "a" else 20
    hard = np.random.default_rng(seed).integers(0, 30, (1, rows, 2))
    how = replace(Training("with-positives", 0.05, 8, 6, 1e-3, seed), **changed)
    return Job(name, hard, np.ones((rows, 2), dtype=np.float32), how)


def test_stacked_layers_are_those_of_bert(stack: Any, bert: BertModel) -> None:
    from teach.stack import vectors

    found = vectors(stack, stack.fresh(2), "a", np.arange(36))
    whole = tokenizer(domain(0).queries, max_length=99)["input_ids"]
    ids = [row[:7] + row[-1:] if len(row) > 8 else row for row in whole]
    cut = BertModel(bert.config, add_pooling_layer=False).eval()
    cut.load_state_dict(bert.state_dict())
    cut.encoder.layer = cut.encoder.layer[:2]
    with torch.inference_mode():
        states = [cut(torch.tensor([row])).last_hidden_state[0].mean(dim=0) for row in ids]
    expected = torch.nn.functional.normalize(torch.stack(states), dim=-1)
    for own in found:
        assert (own * expected).sum(dim=1).min() > 0.9995  # weights are held in eight bits


def test_runs_of_a_stack_do_not_notice_each_other(stack: Any) -> None:
    from teach.stack import chosen, judge, train

    jobs = [job("a", 0), job("b", 1, objective="instructor"), job("a", 2, temperature=0.1)]
    together = train(stack, stack.fresh(3), jobs)
    for i, one in enumerate(jobs):
        alone = train(stack, stack.fresh(1), [one])
        for name, value in alone.items():
            assert (value - stack.fresh(1)[name]).abs().max() > 1e-4
            torch.testing.assert_close(together[name][i], value[0], rtol=1e-3, atol=1e-4)
        found = judge(stack, chosen(together, [i]), one.domain)
        np.testing.assert_allclose(found, judge(stack, alone, one.domain))
        assert 0.1 < found.mean() < 0.9


@pytest.mark.parametrize("objective", ["with-positives", "instructor"])
def test_the_loss_is_that_of_the_study_on_the_cpu(objective: str) -> None:
    from teach.runs import Training
    from teach.stack import Objectives, losses
    from teach.training import loss

    generator = torch.Generator().manual_seed(0)
    query, docs = (torch.nn.functional.normalize(torch.randn(2, n, 8, generator=generator), dim=-1) for n in (4, 12))
    same = torch.rand(2, 4, 12, generator=generator) < 0.2
    how = [Training(objective, 0.05), Training(objective, 0.2)]
    found = losses(query, docs, same, torch.ones(2, 4, 2), Objectives.of(how, "cpu"))
    for i in range(2):
        expected = loss(query[i], docs[i, :4], docs[i, 4:], same[i], how[i])
        torch.testing.assert_close(found[i], expected)
    lighter = losses(query, docs, same, torch.full((2, 4, 2), 0.1), Objectives.of(how, "cpu"))
    assert (lighter < found).all()


def test_models_that_mine_are_trained_until_that_gains_nothing(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from teach import converge

    monkeypatch.setattr(converge, "STEPS", (2, 4, 8))
    told = {}
    found = converge.converge(stack, ["a", "b"], 1e9, told.__setitem__)
    assert set(found.steps) == set(told) == {"a", "b"}
    for name, steps in found.steps.items():
        curve = found.curves[name]
        assert list(curve) == [count for count in (0, 2, 4, 8) if count <= max(2 * steps, 4)]
        gained = [curve[2 * count] - curve[count] >= converge.GAIN for count in (2, 4) if 2 * count in curve]
        assert all(gained) if steps == 8 else not gained[-1]
        assert told[name] is found.weights[name]


def test_a_window_of_ranks_holds_nothing_relevant(folder: Path) -> None:
    from teach.lists import Mining
    from teach.prepared import Prepared

    domain = Prepared(folder).with_texts("a")
    generator = np.random.default_rng(0)
    queries, documents = generator.normal(size=(24, 4)), generator.normal(size=(len(domain.documents), 4))
    found = Mining(domain, queries, documents).window("3-7", 2, 0)
    for query, drawn, scores in zip(domain.train, found, queries @ documents.T, strict=True):
        wrong = [i for i in np.argsort(-scores) if i not in domain.relevant[query]]
        assert set(drawn) <= set(wrong[3:7]) and len(set(drawn)) == 2


@pytest.mark.long
def test_the_plan_runs_in_one_command(bert: BertModel, tmp_path: Path) -> None:
    """Every kind of list is mined and trained on; the miners are at the best of the settings."""
    from teach import plans
    from teach.prepared import save

    texts = {name: domain(i, others=220) for i, name in enumerate((*plans.DEEP_IN, "nli"))}
    save(tmp_path / "prepared", texts, tokenizer, bert, plans.DEEP_IN)
    script, runs = str(BENCHMARKS / "teach_gpu.py"), tmp_path / "out" / "runs.jsonl"
    command = [sys.executable, script, "run", "--folder", str(tmp_path / "prepared"), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--device", "cpu", "--tiny"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "out" / "errors.log").exists(), (tmp_path / "out" / "errors.log").read_text()[-3000:]
    lines = [json.loads(line) for line in runs.read_text().splitlines()]
    ours = {"random", "oracle", "mixed", "curriculum", "drawn", "weighted"}
    assert {line["negatives"].split()[0] for line in lines} == {kind.split()[0] for kind in plans.MINED} | ours
    assert all(0 <= line["ndcg"] <= 1 for line in lines)
    assert all(line["served"] > 0 for line in lines if line["negatives"] != "st-margin own")
    assert {line["encoder"] for line in lines} == {"3x32", "6x64", "6x128"}
    assert len({(line["domain"], line["encoder"], line["score"]) for line in lines}) > 60
    of_other = [line for line in lines if line["domain"] == "nli"]
    assert len(of_other) == 2 * (len(plans.MINED) + 2)
    assert len({(line["training"]["start"], line["training"]["objective"]) for line in of_other}) == 1
    told = subprocess.run(
        [sys.executable, script, "table", "--tiny", "--runs", str(runs)], capture_output=True, text=True, check=True
    )
    assert told.stdout.count("| random |") >= 4, told.stderr[-2000:]
