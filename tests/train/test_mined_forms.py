"""What `medi mine` writes, `medi train` reads: the triplets are those that were mined, in every form."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.formats import FILES, Format
from medi_build.errors import DatasetError, InputError, TrainError
from medi_build.ingest.mined_forms import Instructions
from medi_build.ingest.triplets import open_source
from medi_build.ledger import Ledger
from medi_build.train import data as data_module
from medi_build.train.data import TrainingData
from medi_build.train.settings import TrainSettings
from medi_build.train.trainer import train
from tests.dataset.built import write_built
from tests.mine.conftest import embed
from tests.pipeline.own_files import mined_file
from tests.train.test_data import record

THINGS = ("tea", "fox", "sea", "door", "lamp", "pump", "letter", "tower")
Triplet = tuple[str, str, tuple[str, ...]]


def mined(folder: Path, forms: list[Format], *, several: bool = False, **options: Any) -> Ledger:
    """Mine pairs, the first query twice in a row; with ``several``, every other query has two positives."""
    rows: list[dict[str, Any]] = [
        {
            "query": f"where is the {thing}",
            "pos": [f"the {thing} stands there", f"{thing} is here"][: 1 + several * (i % 2)],
        }
        for i, thing in enumerate(THINGS)
    ]
    rows.insert(1, {"query": rows[0]["query"], "pos": ["tea is on the table"]})
    folder.mkdir()
    source, corpus = folder / "pairs.jsonl", folder / "corpus.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    titled = [
        {"_id": f"D{i}", "title": thing.title(), "text": f"{thing} in the cellar"} for i, thing in enumerate(THINGS)
    ]
    corpus.write_text("\n".join(map(json.dumps, titled)))
    rule = MiningRule(num_negatives=3)
    return mined_file(source, folder / "out", embed=embed, rule=rule, formats=forms, corpus=corpus, **options)


def prepare(source: Path, cache: Path, **options: Any) -> TrainingData:
    return data_module.prepare(source, open_source(source).files, cache, **options)


def triplets(data: TrainingData) -> list[Triplet]:
    rows = data.rows(range(len(data)))
    negatives = zip(rows.texts["neg"], rows.hard_negatives, strict=True)
    return list(zip(rows.texts["query"], rows.texts["pos"], ((first, *more) for first, more in negatives), strict=True))


def written(folder: Path) -> list[Triplet]:
    """What was mined, as FlagEmbedding's lines say it, each positive with all negatives."""
    lines = map(json.loads, (folder / "out" / FILES["flagembedding"]).read_text().splitlines())
    return [(line["query"], positive, tuple(line["neg"])) for line in lines for positive in line["pos"]]


@pytest.mark.parametrize("scores", [False, True])
def test_every_form_gives_the_triplets_that_were_mined(tmp_path: Path, scores: bool) -> None:
    mined(tmp_path / "mined", list(FILES), scores=scores)
    wanted = written(tmp_path / "mined")
    assert len(wanted) == len(THINGS) + 1
    assert all(len(negatives) == 3 for *_, negatives in wanted)
    for form, name in FILES.items():
        if scores and form == "labeled-pair":  # where the next positive begins, scores do not say
            with pytest.raises(InputError, match=r"scores alone do not say .* mine without --scores"):
                prepare(tmp_path / "mined" / "out" / name, tmp_path / "cache")
            continue
        data = prepare(tmp_path / "mined" / "out" / name, tmp_path / "cache")
        assert triplets(data) == wanted, form
        assert data.info["tasks"] == {"1": "mined"}
        assert data.info["skipped"] == {}
        assert np.diff(data.keys.pos_ids.offsets).tolist() == [int(form == "tevatron")] * len(wanted)


def test_all_positives_of_a_row_make_records_where_the_form_has_them(tmp_path: Path) -> None:
    mined(tmp_path / "mined", list(FILES), several=True)
    wanted = written(tmp_path / "mined")
    assert len(wanted) == len(THINGS) + 1 + len(THINGS) // 2
    for form, name in FILES.items():
        found = triplets(prepare(tmp_path / "mined" / "out" / name, tmp_path / "cache"))
        assert found == wanted if form in ("flagembedding", "tevatron") else set(found) < set(wanted)
        assert {query for query, *_ in found} == {query for query, *_ in wanted}


def test_instructions_are_those_of_the_file_or_else_those_given(tmp_path: Path) -> None:
    mined(tmp_path / "mined", ["flagembedding", "triplet"], instructions=("Ask: ", "Tell: "))
    out = tmp_path / "mined" / "out"
    for name, given, query, document in (
        ("flagembedding.jsonl", ("", ""), "Ask: ", ""),
        ("flagembedding.jsonl", ("Q", "D"), "Ask: ", "D"),
        ("triplet.parquet", ("", ""), "", ""),
        ("triplet.parquet", ("Q", "D"), "Q", "D"),
    ):
        rows = prepare(out / name, tmp_path / "cache", instructions=Instructions(*given)).rows([0, 5])
        assert rows.instructions == {"query": [query] * 2, "pos": [document] * 2, "neg": [document] * 2}
    path = tmp_path / "medi-data.json"
    path.write_text(json.dumps([record(0)]))
    for source in (path, write_built(tmp_path / "build", [record(0)])):
        with pytest.raises(InputError, match=r"have their own instructions; leave out --query-instruction"):
            prepare(source, tmp_path / "cache", instructions=Instructions("Q"))


def test_a_folder_of_one_form_is_read_and_of_several_asks_which(tmp_path: Path) -> None:
    mined(tmp_path / "one", ["n-tuple"])
    assert open_source(tmp_path / "one" / "out").files == [tmp_path / "one" / "out" / "n-tuple.parquet"]
    mined(tmp_path / "two", ["flagembedding", "triplet"])
    with pytest.raises(InputError, match=r"2 forms \(triplet\.parquet, flagembedding\.jsonl\); name one of them"):
        open_source(tmp_path / "two" / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no output folder of medi"):
        open_source(tmp_path / "empty")
    built = write_built(tmp_path / "build", [record(0)])
    (built / "triplet.parquet").write_text("")
    assert [path.parent.name for path in open_source(built).files] == ["data"]


@pytest.mark.parametrize("form", [*FILES, "folder"])
def test_a_step_is_trained_on_every_form(tmp_path: Path, tiny_model: Path, form: Any) -> None:
    mined(tmp_path / "mined", ["triplet"] if form == "folder" else [form])
    source = tmp_path / "mined" / "out" if form == "folder" else tmp_path / "mined" / "out" / FILES[form]
    told: list[str] = []
    settings = TrainSettings(
        source, str(tiny_model), tmp_path / "model", max_steps=1, train_batch_size=4, eval_rows_per_task=0,
        query_instruction="Represent the question;", document_instruction="Represent the answer;",
        eval_steps=1, logging_steps=1,
    )  # fmt: skip
    train(settings, report=told.append)
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert any("up to 3 hard negatives" in line for line in told)


LINE = {"query": "a query", "pos": ["a positive"], "neg": ["a negative"]}
PASSAGES = {
    "query_id": "1",
    "query": "a query",
    "positive_passages": [{"docid": "D", "title": "T", "text": "a positive"}],
}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({**LINE, "neg": []}, r"record 1: the text of neg is empty"),
        ({**LINE, "pos": []}, r"record 1: the text of pos is empty"),
        ({**LINE, "neg": [" "]}, r"record 1: the text of neg is empty"),
        ({**PASSAGES, "negative_passages": []}, r"record 1: the text of neg is empty"),
        ({**LINE, "neg": "text"}, r"record 1: neg is text; it has to be a list of strings"),
        ({**LINE, "prompt": 5}, r"record 1: prompt is 5"),
        ({**PASSAGES, "negative_passages": ["x"]}, r"record 1: negative_passages is .* docid and text"),
        ({"pos": ["x"]}, r"record 1: is no object with a string as its query"),
        ([], r"record 1: is no object"),
    ],
)
def test_lines_that_cannot_be_used_are_named_and_those_without_a_text_can_be_skipped(
    tmp_path: Path, line: Any, message: str
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(map(json.dumps, [LINE, line, {**LINE, "query": "another"}])))
    with pytest.raises((InputError, TrainError), match=message):
        prepare(path, tmp_path / "cache")
    if "empty" in message:
        data = prepare(path, tmp_path / "cache", skip_bad_rows=True)
        assert len(data) == 2
        assert sum(data.info["skipped"].values()) == 1


def test_titles_stand_in_front_of_the_text_and_ids_are_kept(tmp_path: Path) -> None:
    negative = [{"docid": "E", "title": "", "text": "a negative"}, {"docid": "F", "text": "another"}]
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({**PASSAGES, "negative_passages": negative}))
    assert triplets(prepare(path, tmp_path / "cache")) == [("a query", "T a positive", ("a negative", "another"))]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"anchor": ["a"], "positive": ["b"]}, r"anchor, positive; it needs negative or negative_1"),
        ({"anchor": ["a"], "documents": [["b"]]}, r"it needs labels or scores"),
        ({"anchor": ["a"], "document": ["b"]}, r"it needs label"),
        ({"anchor": [1], "positive": ["b"], "negative": ["c"]}, r"the column anchor is of type int64"),
        ({"anchor": ["a"], "documents": ["b"], "labels": [[1]]}, r"the column documents is of type string"),
        ({"anchor": ["a"], "document": ["b"], "label": [0.5]}, r"row 0: a label is 0.5"),
        ({"anchor": ["a"], "documents": [["b", "c"]], "labels": [[1]]}, r"row 0: has 2 documents and 1 labels"),
        ({"anchor": ["a", None], "positive": ["b"] * 2, "negative": ["c"] * 2}, r"row 1: the text of query is empty"),
        ({"anchor": ["a", "b"], "document": ["c", "d"], "label": [1, 1]}, r"row 0: the text of neg is empty"),
    ],
)
def test_tables_that_cannot_be_used_are_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises((InputError, TrainError), match=message):
        prepare(tmp_path / "x.parquet", tmp_path / "cache")


def test_foreign_triplets_with_gaps_and_several_positives_of_a_list(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"anchor": ["a", "b", "a"], "positive": ["p", "q", "p"], "negative": ["n", "m", "o"]}),
        tmp_path / "t.parquet",
    )
    assert triplets(prepare(tmp_path / "t.parquet", tmp_path / "c")) == [
        ("a", "p", ("n",)),
        ("b", "q", ("m",)),
        ("a", "p", ("o",)),
    ]
    table = pa.table({"anchor": ["a"], "documents": [["p", "n", "q", "m"]], "labels": [[1, 0, 1, 0]]})
    pq.write_table(
        table.cast(pa.schema([("anchor", pa.large_string()), *list(table.schema)[1:]])), tmp_path / "l.parquet"
    )
    assert triplets(prepare(tmp_path / "l.parquet", tmp_path / "c")) == [("a", "p", ("n", "m")), ("a", "q", ("n", "m"))]
