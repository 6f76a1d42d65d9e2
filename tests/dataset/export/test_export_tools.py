"""Every export is read, and trained on, by the tool that it is for.

FlagEmbedding and Tevatron are no dependency: they are taken where they can be imported, or from wheels in the folder
``$MEDI_TRAINER_WHEELS`` (``pip download --no-deps flagembedding==1.4.2 tevatron==0.1.0``).
"""

import importlib.util
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoTokenizer, BatchEncoding

from medi_build.dataset.export.run import export
from medi_build.dataset.export.writers import ExportFormat
from medi_build.dataset.reader import BuiltDataset
from medi_build.progress import Silent
from tests.dataset.export.conftest import ANSWER, QUESTION, SEVERAL
from tests.encode.tiny_models import save_bert

PAIRS = {
    "kilt_nq": (QUESTION, ANSWER), "plain_texts": ("", ""), "own_several": SEVERAL[0], "kilt_wow": (QUESTION, ""),
}  # fmt: skip


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "tiny-bert", "mean", window=128)


def exported(toy: BuiltDataset, form: ExportFormat, folder: Path) -> Path:
    export(toy, form, folder / form, "any", Silent())
    return folder / form


def tool(name: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a trainer importable, or skip."""
    wheels = sorted(Path(os.environ.get("MEDI_TRAINER_WHEELS", "nowhere")).glob(f"{name.lower()}-*.whl"))
    if importlib.util.find_spec(name) is None:
        if not wheels:
            pytest.skip(f"{name} is not installed, and its wheel is not in $MEDI_TRAINER_WHEELS")
        zipfile.ZipFile(wheels[-1]).extractall(folder / "wheels" / name)
        patch.syspath_prepend(str(folder / "wheels" / name))


def test_sentence_transformers_trains_on_the_subsets_with_their_prompts(
    toy: BuiltDataset, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    out = exported(toy, "sentence-transformers", tmp_path)
    prompts = json.loads((out / "prompts.json").read_text())
    train = {
        name: datasets.load_dataset(str(out), name, split="train", cache_dir=str(tmp_path / "cache"))
        for name in prompts
    }
    student = SentenceTransformer(str(model), device="cpu")
    seen: set[str] = set()
    preprocess = student.preprocess

    def watched(texts: list[str], prompt: str | None = None, **options: Any) -> Any:
        seen.update(f"{prompt or ''}{text}" for text in texts)
        return preprocess(texts, prompt=prompt, **options)

    monkeypatch.setattr(student, "preprocess", watched)
    before = [weight.clone() for weight in student.parameters()]
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "out"), prompts=prompts, per_device_train_batch_size=4, num_train_epochs=1, report_to="none",
        use_cpu=True, batch_sampler="no_duplicates", save_strategy="no",
    )  # fmt: skip
    loss = MultipleNegativesRankingLoss(student)
    trained = SentenceTransformerTrainer(student, arguments, train_dataset=train, loss=loss).train()
    assert trained.training_loss > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, student.parameters(), strict=True))
    assert {f"{QUESTION}question 0?", f"{ANSWER}wrong 1 1", "question 0?", "Encode it;question 1?"} <= seen
    assert not any(text.startswith(f"{ANSWER}question") or text.startswith(QUESTION * 2) for text in seen)


@pytest.mark.parametrize("one_task", [True, False])
def test_flagembedding_trains_on_the_folder(
    one_task: bool, toy: BuiltDataset, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("FlagEmbedding", tmp_path, monkeypatch)
    from FlagEmbedding.abc.finetune.embedder import (
        AbsEmbedderDataArguments,
        AbsEmbedderModelArguments,
        AbsEmbedderTrainingArguments,
    )
    from FlagEmbedding.finetune.embedder.encoder_only.base import EncoderOnlyEmbedderRunner

    out = exported(toy, "flagembedding", tmp_path)
    runner = EncoderOnlyEmbedderRunner(
        model_args=AbsEmbedderModelArguments(model_name_or_path=str(model)),
        data_args=AbsEmbedderDataArguments(
            train_data=[str(out / "data")], train_group_size=3, same_dataset_within_batch=one_task,
            query_instruction_for_retrieval="", cache_path=str(tmp_path / "cache"), query_max_len=120,
            passage_max_len=120,
        ),
        training_args=AbsEmbedderTrainingArguments(
            output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=4, report_to="none", use_cpu=True
        ),
    )  # fmt: skip
    rows = [runner.train_dataset[row] for row in range(7 if one_task else 28)]
    queries = [query for one in rows for query in (one[0] if one_task else [one[0]])]
    assert len(queries) == 28
    assert {f"{QUESTION}question 3?", "question 3?", "Represent it;question 2?", "Encode it;question 3?"} <= set(
        queries
    )
    assert not any("None" in query for query in queries)
    passages = {passage for one in rows for passage in one[1]}
    assert f"{ANSWER}wrong 0 0" in passages
    if one_task:
        kinds = [{query.partition(";")[0].split()[-1] if ";" in query else "" for query in one[0]} for one in rows]
        assert all(kind in ({"question"}, {""}, {"it"}) for kind in kinds)
        runner.train_dataset.refresh_epoch()
    assert runner.trainer.train().training_loss > 0


@pytest.mark.parametrize("subset", ["", ":kilt_nq"])
def test_tevatron_reads_the_folder_and_its_model_steps(
    subset: str, toy: BuiltDataset, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own data set, collator and model. Its trainer, of 2022, does not run on transformers 5."""
    tool("tevatron", tmp_path, monkeypatch)
    from tevatron.arguments import DataArguments, DenseTrainingArguments, ModelArguments
    from tevatron.data import QPCollator, TrainDataset
    from tevatron.datasets import HFTrainDataset
    from tevatron.modeling import DenseModel

    out = exported(toy, "tevatron", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(str(model))

    def encode_plus(ids: list[int], max_length: int, **_: Any) -> BatchEncoding:  # removed from transformers 5
        return BatchEncoding({"input_ids": [tokenizer.cls_token_id, *ids[: max_length - 2], tokenizer.sep_token_id]})

    monkeypatch.setattr(tokenizer, "encode_plus", encode_plus, raising=False)
    data = DataArguments(
        dataset_name=f"{out}{subset}", dataset_proc_num=1, train_n_passages=3, q_max_len=100, p_max_len=100
    )
    arguments = DenseTrainingArguments(
        str(tmp_path / "out"), per_device_train_batch_size=4, report_to="none", use_cpu=True
    )
    prepared = HFTrainDataset(tokenizer, data, str(tmp_path / "cache")).process()
    assert len(prepared) == (8 if subset else 28)
    rows = TrainDataset(data, prepared, tokenizer)
    rows.trainer = type("Told", (), {"args": arguments, "state": type("State", (), {"epoch": 0.0})})
    queries, passages = QPCollator(tokenizer, max_q_len=100, max_p_len=100)([rows[place] for place in range(4)])
    assert len(passages["input_ids"]) == 12
    if subset:
        text = tokenizer.decode(queries["input_ids"][0], skip_special_tokens=True).replace("##", "")
        assert "".join(text.split()) == "representthequestion;question?"  # its vocabulary has no digits
    learner = DenseModel.build(ModelArguments(model_name_or_path=str(model)), data, arguments)
    steps = torch.optim.SGD(learner.parameters(), lr=0.1)
    losses = []
    for _ in range(2):
        loss = learner(queries, passages).loss
        losses.append(loss.item())
        steps.zero_grad()
        loss.backward()
        steps.step()
    assert losses[0] != losses[1]


def test_the_public_instructor_trainer_reads_the_array(toy: BuiltDataset, tmp_path: Path) -> None:
    """As its train.py does: sorted lists of tasks, each of ``query``, ``pos`` and ``neg`` taken apart in two."""
    out = exported(toy, "medi-json", tmp_path)
    rows = json.loads((out / "medi-data.json").read_text(encoding="utf-8"))
    assert [row["task_id"] for row in rows] == sorted(row["task_id"] for row in rows)
    assert all(set(row) == {"query", "pos", "neg", "task_id"} for row in rows)
    assert all(len(row[side]) == 2 for row in rows for side in ("query", "pos", "neg"))
    assert rows[0]["neg"] == [ANSWER, "wrong 0"]


def test_without_the_tools_their_loading_rules_hold(toy: BuiltDataset, tmp_path: Path) -> None:
    """What FlagEmbedding and Tevatron do first: files of JSON lines by ``load_dataset``, put one behind the other."""
    flag = exported(toy, "flagembedding", tmp_path) / "data"
    cache = str(tmp_path / "cache")
    parts = [
        datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache).remove_columns(
            ["pos_scores", "neg_scores"]
        )
        for path in sorted(flag.iterdir())
    ]
    together = datasets.concatenate_datasets(parts)
    assert len(together) == 28
    assert None not in together["prompt"]
    assert all(row["neg"] and row["pos"] for row in together)
    tevatron = exported(toy, "tevatron", tmp_path)
    for row in datasets.load_dataset(str(tevatron), "default", split="train", cache_dir=cache):
        assert row["query_id"] and row["query"]
        assert all(
            set(one) == {"docid", "title", "text"} for one in row["positive_passages"] + row["negative_passages"]
        )
