"""A file or folder of pairs in, files for trainers out."""

import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medi_build.content.mining_rule import MiningRule
from medi_build.errors import InputError, MissingInputError, OptionError
from medi_build.ingest.corpus import read_corpus
from medi_build.ledger import Ledger
from tests.mine.conftest import embed
from tests.pipeline.own_files import PAIRS, THINGS, mined_file, own, run


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
        mined_file(source, tmp_path / "out", embed=embed, rule=MiningRule(), query_column="question")


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
    ledger = mined_file(cases / name, tmp_path / "out", embed=embed, rule=MiningRule(preset="paper"), **options)
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
    def scorer(*_):
        return lambda pairs: np.array([len(text) for _, text in pairs], np.float32)

    monkeypatch.setattr("medi_build.mine.negatives.load_cross_encoder", scorer)
    rule = MiningRule(num_negatives=2, cross_encoder="by length", cross_encoder_scores=True)
    own(things, tmp_path / "out", rule, ["labeled-list"], scores=True)
    rows = pq.read_table(tmp_path / "out" / "labeled-list.parquet").to_pylist()
    assert [row["scores"] for row in rows] == [[len(text) for text in row["documents"]] for row in rows]
    assert len(rows) == len(THINGS)


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
