from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from medi_build.dataset.schema import EXAMPLES
from medi_build.ingest.adapt import keep_whole_queries
from medi_build.ledger import Ledger


def batches(queries: list[str], size: int) -> list[pa.RecordBatch]:
    rows = [
        {
            **{"id": f"d/{i}", "query": q, "positives": [f"p{i}"], "source_file": "d.jsonl", "source_row": i + 1},
            **{name: [] for name in ("negatives", "labels", "answers", "groups")},
        }
        for i, q in enumerate(queries)
    ]
    return [pa.RecordBatch.from_pylist(rows[i : i + size], schema=EXAMPLES) for i in range(0, len(rows), size)]


def kept(queries: list[str], cap: int, seed: int, size: int) -> tuple[list[str], Ledger]:
    ledger = Ledger("d")
    found = list(keep_whole_queries(batches(queries, size), cap, seed, ledger))
    return [i for batch in found for i in batch.column("id").to_pylist()], ledger


QUERIES = st.lists(st.sampled_from([f"q{i}" for i in range(12)]), max_size=120)


@given(QUERIES, st.integers(1, 60), st.integers(0, 3), st.integers(1, 40))
def test_cap_is_kept_queries_stay_whole_and_order_is_the_old_one(
    queries: list[str], cap: int, seed: int, size: int
) -> None:
    ids, ledger = kept(queries, cap, seed, size)
    numbers = [int(i.removeprefix("d/")) for i in ids]
    assert numbers == sorted(numbers)
    assert len(ids) == len(queries) - ledger.dropped_in("sample")
    assert len(ids) <= cap or len(queries) <= cap
    if len(queries) <= cap:
        assert len(ids) == len(queries)
    else:
        total, chosen = Counter(queries), Counter(queries[n] for n in numbers)
        assert ids
        assert all(chosen[q] == total[q] for q in chosen) or len(chosen) == 1


@given(QUERIES, st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_the_choice_does_not_depend_on_how_the_rows_are_batched(
    queries: list[str], cap: int, size: int, other: int
) -> None:
    assert kept(queries, cap, 7, size)[0] == kept(queries, cap, 7, other)[0]


def test_cap_zero_keeps_all_and_seed_changes_the_choice() -> None:
    queries = [f"query {i}" for i in range(500)]
    assert len(kept(queries, 0, 1, 50)[0]) == 500
    assert kept(queries, 50, 1, 50)[0] != kept(queries, 50, 2, 50)[0]


def test_what_is_held_is_bounded_by_the_cap() -> None:
    """The generator must let go of rows while it reads: count the batches alive at the end of a long stream."""
    alive = 0

    def stream() -> object:
        nonlocal alive
        for start in range(0, 50_000, 1000):
            yield batches([f"q{start + i}" for i in range(1000)], 1000)[0]
            alive = max(alive, pa.total_allocated_bytes())

    before = pa.total_allocated_bytes()
    found = list(keep_whole_queries(stream(), 500, 1, Ledger("d")))  # type: ignore[arg-type]
    assert sum(b.num_rows for b in found) == 500
    one_batch = batches([f"q{i}" for i in range(1000)], 1000)[0].nbytes
    assert alive - before < 12 * one_batch
