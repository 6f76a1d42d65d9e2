"""Results of any size: written block by block, the same whatever the blocks, and whole or not there."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medi_build.arrays import take_rows
from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.assemble import assemble
from medi_build.dataset.formats import FILES, Format, from_mined
from medi_build.dataset.schema import EXAMPLES
from medi_build.embedding import Embedded, Side
from medi_build.ledger import Ledger
from medi_build.mine import result
from tests.conftest import ROOT
from tests.dataset.test_shards import TWO
from tests.mine.conftest import embed, examples, mined
from tests.pipeline.own_files import mined_file

TINY = str(ROOT / "tests" / "golden" / "tiny_instructor")
LIMIT = 2**31


def write_pairs(path: Path, count: int, text: str = "stands in the garden") -> Path:
    rows = [
        {"query": f"where is thing {i}", "pos": [f"thing {i} {text}", f"{text} {i}"][: 1 + i % 2]} for i in range(count)
    ]
    rows[3] |= {"neg": [rows[4]["pos"][0]]}
    rows[0] |= {"pos": [text for row in rows[:-1] for text in row["pos"]]}  # which leaves few negatives
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("rows", "size"), [(8192, 1), (7, 64 << 20), (8192, 3000)])
def test_blocks_change_no_row_of_any_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, size: int
) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl", 40)
    forms: list[Format] = list(FILES)
    rule = MiningRule(num_negatives=3)
    ledgers = [mined_file(source, tmp_path / "whole", embed=embed, rule=rule, formats=forms, scores=True)]
    monkeypatch.setattr(result, "ROWS_PER_BLOCK", rows)
    monkeypatch.setattr(result, "BYTES_PER_BLOCK", size)
    ledgers.append(mined_file(source, tmp_path / "blocks", embed=embed, rule=rule, formats=forms, scores=True))
    assert ledgers[0] == ledgers[1]
    assert ledgers[0].notes["left_out_of_n_tuple"]
    assert ledgers[0].notes["positives_left_out_of_triplet"]
    for name in FILES.values():
        whole, blocks = tmp_path / "whole" / name, tmp_path / "blocks" / name
        if name.endswith(".jsonl"):
            assert blocks.read_bytes() == whole.read_bytes()
        else:
            assert pq.ParquetFile(blocks).num_row_groups > pq.ParquetFile(whole).num_row_groups == 1
            assert pq.read_table(blocks).equals(pq.read_table(whole))


def test_a_block_holds_no_more_text_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "BYTES_PER_BLOCK", 2000)
    rows = [{"query": f"ü{i}", "positives": [f"{i} " + "é" * (40 * (i % 5))]} for i in range(50)]
    rule = MiningRule(num_negatives=4)
    found = mined(examples(rows), None, kind="pairs", rule=rule, embed=embed, seed=0, ledger=Ledger("toy"))
    tables = list(found.tables())
    assert len(tables) > 10
    for table in tables:
        taken = table.select(["pos", "neg", "hard_negatives"]).to_pylist()
        most = max(len(json.dumps([*row.values()], ensure_ascii=False).encode()) for row in taken)
        assert len(table) == 1 or most * len(taken) < 4000
    assert pa.concat_tables(tables)["row"].to_pylist() == list(range(50))
    assert pa.concat_tables(found.first(7).tables()).equals(pa.concat_tables(tables).slice(0, 7))


def test_records_of_a_build_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    table = examples([{"query": f"query {i}", "positives": [f"positive {i}"], "groups": [f"g{i}"]} for i in range(30)])
    found = mined(table, None, kind="pairs", rule=MiningRule(), embed=embed, seed=0, ledger=Ledger("toy"))
    whole = list(assemble(table, found.tables(), TWO, 1, 7, "a/b"))
    monkeypatch.setattr(result, "ROWS_PER_BLOCK", 4)
    parts = list(assemble(table, found.tables(), TWO, 1, 7, "a/b"))
    assert (len(whole), len(parts)) == (1, 8)
    assert pa.concat_tables(parts).equals(whole[0])


def larger_than_arrow_takes() -> tuple[pa.Table, list[int]]:
    """Examples with more than 2 GiB in their queries, all in the same 64 MiB of memory, and some of their rows."""
    count, long = 640, "x" * 100_000
    chunk = examples([{"query": f"{i} {long}", "positives": ["a", "b"]} for i in range(count)])
    table = pa.concat_tables([chunk] * 40)
    assert table["query"].nbytes > LIMIT
    with pytest.raises(pa.ArrowInvalid, match="overflow"):
        table.take(pa.array([5]))
    return table, [3, count + 1, 39 * count]


def test_rows_are_taken_from_columns_of_more_than_two_gigabytes() -> None:
    table, rows = larger_than_arrow_takes()
    taken = take_rows(table, np.array(rows))
    assert [query[:4] for query in taken["query"].to_pylist()] == ["3 xx", "1 xx", "0 xx"]
    assert taken.schema == EXAMPLES
    assert not len(take_rows(table, np.empty(0, np.int64)))
    found = mined(examples([{"query": q, "positives": [p]} for q, p in zip("abc", "def", strict=True)]), None,
                 kind="pairs", rule=MiningRule(), embed=embed, seed=0, ledger=Ledger("toy"))  # fmt: skip
    (block,) = found.tables()
    block = block.set_column(0, block.schema.field("row"), pa.array(rows))
    (records,) = assemble(table, [block], TWO, 1, 7, "a/b")
    assert [pair[1][:4] for pair in records["query"].to_pylist()] == ["3 xx", "1 xx", "0 xx"]
    assert [query[:4] for query in from_mined(table, block)["query"].to_pylist()] == ["3 xx", "1 xx", "0 xx"]


def random_vectors(texts: Sequence[str], instruction: str | None = None, side: Side | None = None) -> Embedded:
    del instruction, side
    vectors = np.random.default_rng(len(texts)).standard_normal((len(texts), 16))
    return Embedded((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16), 0)


@pytest.mark.long
def test_more_than_two_gigabytes_are_mined_and_written(tmp_path: Path) -> None:
    count, negatives, length = 400, 60, 99_000
    assert count * negatives * length > LIMIT
    source = tmp_path / "pairs.jsonl"
    source.write_text("\n".join(json.dumps([f"query {i}", f"{i} " + "x" * length]) for i in range(count)))
    rule, forms = MiningRule(num_negatives=negatives), ("triplet", "flagembedding")
    ledger = mined_file(source, tmp_path / "out", embed=random_vectors, rule=rule, formats=forms)
    assert ledger.written == count
    assert pq.read_metadata(tmp_path / "out" / "triplet.parquet").num_rows == count * negatives
    assert pq.read_schema(tmp_path / "out" / "triplet.parquet").types == [pa.string()] * 3  # what other tools expect
    assert (tmp_path / "out" / "flagembedding.jsonl").stat().st_size > LIMIT


DYING = """
import os, signal, sys
from medi_build.pipeline import mine_file
from medi_build.mine import result
result.ROWS_PER_BLOCK = 8
make, made = mine_file.from_mined, []
def dying(*arguments):
    made.append(1)
    if len(made) == 3:
        for name in os.listdir(sys.argv[-1]):
            assert name.startswith(".") and name.endswith(".tmp"), name
        os.kill(os.getpid(), signal.SIGKILL)
    return make(*arguments)
mine_file.from_mined = dying
from medi_build.cli import main
main()
"""


@pytest.mark.slow
def test_killed_while_writing_nothing_looks_whole_and_the_next_run_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl", 60)
    forms = [word for form in FILES for word in ("--format", form)]
    command = ["mine", str(source), "--encoder", TINY, "--query-instruction", "Represent it:", "--document-instruction"]
    command += [
        "Represent it:",
        "--preset",
        "paper",
        "--set",
        "num_negatives=3",
        "--store",
        str(tmp_path / "store"),
        *forms,
        "--out",
    ]

    def run(*start: str, out: Path) -> int:
        done = subprocess.run(
            [sys.executable, *start, *command, str(out)], capture_output=True, timeout=300, check=False
        )
        return done.returncode

    assert run("-c", DYING, out=tmp_path / "out") == -signal.SIGKILL
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert len(left) == len(FILES)
    assert all(name.startswith(".") and name.endswith(".tmp") for name in left)
    stored = set((tmp_path / "store").rglob("*.arrow"))
    assert stored
    for out in (tmp_path / "out", tmp_path / "unbroken"):
        assert run("-m", "medi_build", out=out) == 0
    assert files(tmp_path / "out") == files(tmp_path / "unbroken")
    assert set(files(tmp_path / "out")) == {*FILES.values(), "ledger.json"}
    assert set((tmp_path / "store").rglob("*.arrow")) == stored  # nothing was encoded again
