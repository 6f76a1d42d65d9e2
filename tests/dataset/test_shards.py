import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medi_build.content.instructions import Instructions
from medi_build.dataset.assemble import assemble
from medi_build.dataset.schema import EXAMPLES, MINED
from medi_build.dataset.shards import write_dataset
from medi_build.errors import OutputError
from medi_build.files import atomic_file

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


def examples(queries: list[str]) -> pa.Table:
    empty: list[str] = []
    return pa.Table.from_pylist(
        [
            {"id": f"d/{i}", "query": q, "positives": [], "negatives": [], "labels": [f"l{i}"], "answers": empty,
             "groups": empty, "source_file": "d.jsonl", "source_row": i + 1}
            for i, q in enumerate(queries)
        ],
        schema=EXAMPLES,
    )  # fmt: skip


def mined(rows: list[int], texts: list[str]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"row": row, "pos": f"pos {text}", "pos_id": "p", "neg": f"neg {text}", "neg_id": "n", "pos_score": 0.5,
             "neg_score": 0.25, "neg_rank": 0, "miner": "dense", "hard_negatives": ["other"],
             "hard_negative_scores": [0.1], "hard_negative_ranks": [1], "possible_false_negative_ids": []}
            for row, text in zip(rows, texts, strict=True)
        ],
        schema=MINED,
    )  # fmt: skip


STEP = 100
ONE = [Instructions("Represent the question;", "Represent the answer;")]
TWO = [*ONE, Instructions("Represent this question;", "Represent this answer;")]


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, min_size=1, max_size=30), st.integers(1, 12), st.integers(1, 40))
def test_shard_size_changes_no_row_and_json_equals_parquet(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], small: int, big: int
) -> None:
    table = examples(texts)
    rows = list(range(len(texts)))
    written = []
    for size in (small, big):
        out = tmp_path_factory.mktemp("out")
        result = write_dataset(out, 7, "a/b", assemble(table, [mined(rows, texts)], TWO, 1, 7, "a/b"), size)
        assert [s.rows for s in result.shards[:-1]] == [size] * (len(result.shards) - 1)
        records = pa.concat_tables([pq.read_table(out / s.path) for s in result.shards]).to_pylist()
        fragment = json.loads(b"[" + (out / result.fragment.path).read_bytes() + b"]")
        assert fragment == [{k: r[k] for k in ("query", "pos", "neg", "task_id")} for r in records]
        written.append((records, result.fragment.sha256))
    assert written[0] == written[1]
    for record, text in zip(written[0][0], texts, strict=True):
        assert record["query"][1] == text
        assert (record["query"][0], record["pos"][0]) in TWO
        assert record["neg"] == [record["pos"][0], f"neg {text}"]


def test_rows_are_joined_by_row_number_across_steps(tmp_path: Path) -> None:
    count = 2 * STEP + 5
    table = examples([f"query {i}" for i in range(count)])
    rows = [i for i in range(count) if i % 3 != 1]
    found = mined(rows, [str(r) for r in rows])
    steps = [found.slice(start, STEP) for start in range(0, len(rows), STEP)]
    tables = list(assemble(table, steps, ONE, 1, 3, "a"))
    assert [len(one) for one in tables] == [len(step) for step in steps]
    records = pa.concat_tables(tables).to_pylist()
    assert [r["id"] for r in records] == [f"d/{row}" for row in rows]
    assert all(r["query"][1] == f"query {row}" and r["pos"][1] == f"pos {row}" and r["labels"] == [f"l{row}"]
               for r, row in zip(records, rows, strict=True))  # fmt: skip


def test_an_error_half_way_leaves_neither_shard_nor_fragment(tmp_path: Path) -> None:
    def broken() -> object:
        yield from assemble(examples(["a"]), [mined([0], ["a"])], ONE, 1, 1, "a")
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        write_dataset(tmp_path, 1, "a", broken(), 10)  # type: ignore[arg-type]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_atomic_file_keeps_the_old_content_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OutputError, match="No space"), atomic_file(path) as file:
        file.write(b"new")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
