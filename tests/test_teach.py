"""The study of negatives on a GPU (benchmarks/teach_gpu.py), in its small form on the CPU."""

import json
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
    documents = [f"{text} {i % WORDS}" for i, text in enumerate(texts)]
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
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64
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
        np.testing.assert_allclose(judge(stack, chosen(together, [i]), one.domain), judge(stack, alone, one.domain))


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


def test_models_that_mine_are_trained_until_that_gains_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from teach import converge
    from teach.stack import Machine

    monkeypatch.setattr(converge, "STEPS", (2, 4, 8))
    monkeypatch.setattr(converge, "SHAPES", {name: replace(shape, layers=2) for name, shape in converge.SHAPES.items()})
    converge.converge(folder, tmp_path, Machine())
    own = json.loads((tmp_path / "own.json").read_text())["3x32"]
    for name, steps in own["steps"].items():
        curve = own["curves"][name]
        tried = [count for count in ("2", "4", "8") if count in curve]
        assert steps == 8 or curve[str(2 * steps)] < curve[str(steps)] + converge.GAIN
        assert tried[-1] in (str(steps), str(2 * steps))
    stored = np.load(tmp_path / "vectors-0.npz")
    for encoder in ("3x32", "full"):
        rows = stored[f"{encoder} b documents"] * stored[f"scale {encoder} b documents"].astype(np.float32)
        assert rows.shape == (42, 32)
        np.testing.assert_allclose((rows**2).sum(axis=1), 1, atol=0.02)


def test_the_plan_runs_from_texts_to_tables(
    bert: BertModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every kind of list is mined and trained on; a second call runs nothing; the miners' setting is the best one."""
    import teach_gpu
    from teach import converge, lists, plans, queue
    from teach.prepared import save
    from teach.stack import Machine

    for module, name, value in (
        (converge, "STEPS", (2, 4)),
        (converge, "SHAPES", {name: replace(shape, layers=1) for name, shape in converge.SHAPES.items()}),
        (converge, "DEEP", ("a",)),
        (converge, "LARGEST", None),
        (plans, "STEPS", 3),
        (plans, "CHOSEN_ON", ("a",)),
        (plans, "DEEP_IN", ("a",)),
        (plans, "ALL", ("a", "b")),
    ):
        monkeypatch.setattr(module, name, value)
    texts = {"a": domain(0, others=220), "b": domain(1, train=20, others=220)}
    save(tmp_path, texts, tokenizer, bert)
    converge.converge(tmp_path, tmp_path, Machine())
    lists.mine_all(tmp_path, texts, lists.stored(tmp_path))
    path = tmp_path / "runs.jsonl"
    queue.run_all(tmp_path, path, Machine(deadline=float("-inf")))
    assert not path.exists()
    queue.run_all(tmp_path, path, Machine())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    ours = {"random", "oracle", "mixed", "curriculum", "drawn", "weighted"}
    assert {line["negatives"].split()[0] for line in lines} == {kind.split()[0] for kind in plans.MINED} | ours
    assert all(0 <= line["ndcg"] <= 1 and line["served"] > 0 for line in lines)
    assert len({line["ndcg"] for line in lines}) > 10
    start, objective, _ = plans.best(plans.gains(lines))
    of_b = [line for line in lines if line["domain"] == "b"]
    assert len(of_b) == 3 * (len(plans.MINED) + 2)
    assert {(line["training"]["start"], line["training"]["objective"]) for line in of_b} == {(start, objective)}
    before = path.read_text()
    queue.run_all(tmp_path, path, Machine())
    assert path.read_text() == before
    monkeypatch.setattr(sys, "argv", ["teach_gpu.py", "table", "--runs", str(path)])
    teach_gpu.main()
    assert capsys.readouterr().out.count("| random |") >= 4
