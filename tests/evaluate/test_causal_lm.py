"""A language model of transformers: batches say what one text at a time says, and what is none is told."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    T5Config,
    T5ForConditionalGeneration,
)

from medi_build.errors import EvaluationError
from medi_build.evaluate.prompt_retrieval.causal_lm import CausalModel
from medi_build.evaluate.prompt_retrieval.complete import Asked, complete
from medi_build.evaluate.prompt_retrieval.run import Setup, prepare
from medi_build.evaluate.prompt_retrieval.tasks import SST5, read_task
from tests.evaluate.prompt_files import geoquery_rows, sst5_rows, write_task
from tests.evaluate.tiny_lm import save, save_gpt2, save_llama

PROMPTS = [f"sentence {'very ' * (i % 7)}number {i * i}\nanswer:\n" for i in range(13)]
SAVERS = [save_gpt2, save_llama]


def by_hand(folder: Path, prompt: str, labels: tuple[str, ...]) -> dict[str, float]:
    """Mean log-likelihood of a token of each label, one text at a time, nothing padded."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    scores = {}
    for label in labels:
        context = tokenizer(prompt.rstrip(), add_special_tokens=False).input_ids
        whole = tokenizer(prompt + label, add_special_tokens=False).input_ids
        assert whole[: len(context)] == context
        with torch.inference_mode():
            found = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        tail = range(len(context), len(whole))
        scores[label] = sum(float(found[at - 1, whole[at]]) for at in tail) / len(tail)
    return scores


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_likeliest_label_is_chosen(tmp_path: Path, saver: Callable[[Path], Path], batch_size: int) -> None:
    folder = saver(tmp_path / "model")
    model = CausalModel(str(folder), device="cpu", batch_size=batch_size)
    answers, _ = complete(model, [Asked(prompt, SST5, ("\n",), 8) for prompt in PROMPTS], tmp_path)
    expected = [max(scores, key=scores.__getitem__) for scores in (by_hand(folder, p, SST5) for p in PROMPTS)]
    assert answers == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("batch_size", [1, 4])
def test_free_text_is_what_greedy_search_goes_on_with(tmp_path: Path, batch_size: int) -> None:
    folder = save_gpt2(tmp_path / "model")
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    expected = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt).input_ids
        start = len(ids)
        for _ in range(12):
            with torch.inference_mode():
                ids.append(int(network(torch.tensor([ids])).logits[0, -1].argmax()))
        expected.append(tokenizer.decode(ids[start:], skip_special_tokens=True))
    model = CausalModel(str(folder), device="cpu", batch_size=batch_size)
    answers, _ = complete(model, [Asked(prompt, (), ("nowhere",), 12) for prompt in PROMPTS], tmp_path)
    assert answers == expected
    assert len(set(answers)) > 5
    stop = expected[0][3:5]
    [short], _ = complete(model, [Asked(PROMPTS[0], (), (stop,), 12)], tmp_path)
    assert stop in short and len(short) <= len(expected[0])


def test_tokens_are_counted_and_the_window_is_known(tmp_path: Path) -> None:
    folder = save_gpt2(tmp_path / "model", window=300)
    model = CausalModel(str(folder), device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.count(["", *PROMPTS]) == [len(tokenizer(text).input_ids) for text in ["", *PROMPTS]]
    assert model.count([]) == []
    assert model.window == 300
    write_task(tmp_path, "sst5", sst5_rows(20), sst5_rows(5, 20))
    task = read_task(tmp_path, "sst5")
    assert prepare(task, Setup(), model).lengths.budget == 292  # of 1,000, as many as the window leaves
    assert prepare(task, Setup(budget=250), model).lengths.budget == 250
    with pytest.raises(EvaluationError, match=r"--budget 293: model takes 300 tokens, of which .* at most 292"):
        prepare(task, Setup(budget=293), model)
    write_task(tmp_path, "geoquery", geoquery_rows(4), geoquery_rows(2, 4))
    with pytest.raises(EvaluationError, match=r"question . of geoquery alone takes"):
        prepare(read_task(tmp_path, "geoquery"), Setup(), model)


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    first, second = (CausalModel(str(save_gpt2(tmp_path / f"{seed}" / "model", seed=seed))) for seed in (0, 1))
    assert first.name == second.name and first.identity != second.identity
    asked = [Asked(PROMPTS[0], SST5, (), 8)]
    assert complete(first, asked, tmp_path)[1] == 0
    assert complete(second, asked, tmp_path)[1] == 0
    assert complete(first, asked, tmp_path)[1] == 1


def test_what_is_no_causal_language_model_is_told(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save_gpt2(tmp_path / "gpt2"))
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    bert = save_plain(tmp_path / "bert", BertModel(BertConfig(vocab_size=400, **small)), tokenizer)
    with pytest.raises(EvaluationError, match="is BertModel, no causal language model"):
        CausalModel(str(bert))
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=400, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4))
    with pytest.raises(EvaluationError, match="is T5ForConditionalGeneration, no causal language model"):
        CausalModel(str(save(tmp_path / "t5", t5, tokenizer)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match=r"--llm .*empty: the folder has no config\.json"):
        CausalModel(str(tmp_path / "empty"))
    bare = save_gpt2(tmp_path / "bare")
    for path in bare.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(EvaluationError, match="no configuration or tokenizer that transformers can read"):
        CausalModel(str(bare))
    broken = save_gpt2(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EvaluationError, match="its weights cannot be loaded"):
        complete(CausalModel(str(broken)), [Asked("a", SST5, (), 8)], tmp_path)


def save_plain(folder: Path, network: BertModel, tokenizer: object) -> Path:
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)  # type: ignore[attr-defined]
    return folder
