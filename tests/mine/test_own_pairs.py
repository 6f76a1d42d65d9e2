"""A file of pairs in, files for trainers out."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medi_build.errors import InputError, MissingInputError
from medi_build.mine.own_pairs import mine_file, read_corpus
from medi_build.mining_rule import MiningRule
from tests.mine.conftest import embed

PAIRS = [
    {"question": "what is tea", "passage": "tea is a hot drink"},
    {"question": "what is a fox", "passage": "a fox is a wild animal"},
    {"question": "", "passage": "nothing was asked"},
    {"question": "where is the sea", "passage": "the sea lies in the west"},
]


def run(source, out, **options):
    return mine_file(
        str(source), out, embed=embed, rule=MiningRule(), query_column="question", positive_column="passage", **options
    )


@pytest.fixture(params=["pairs.jsonl", "pairs.jsonl.gz", "pairs.parquet"])
def source(request, tmp_path):
    path = tmp_path / request.param
    lines = "\n".join(map(json.dumps, PAIRS)).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(PAIRS), path)
    else:
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
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
