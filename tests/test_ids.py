"""Ids come from content: other rows, their order and their files have no say in a row's id and in what hangs on it."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.content.cards import Card
from medi_build.content.instructions import Instructions
from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.assemble import assemble
from medi_build.dataset.schema import EXAMPLES
from medi_build.ingest.adapt import AdaptJob, adapt
from medi_build.ingest.adapters.base import Inputs, content_id, number_repeats, pair_id
from medi_build.ingest.corpus import read_corpus
from medi_build.ledger import Ledger
from tests.mine.conftest import documents, embed, examples, mined_table

KILT = Path(__file__).parent / "fixtures" / "kilt"
KILT_LINES = (KILT / "nq-dev-kilt.jsonl").read_text().splitlines()
PHRASINGS = [Instructions(f"Represent {i};", f"Represent {i};") for i in range(5)]
CORPUS = documents([(f"d{i}", f"a text of the corpus, number {i}", []) for i in range(3)])
Rows = list[dict[str, Any]]


class Form(NamedTuple):
    """Raw rows of one form, how they are written, and which columns of an example tell it from others."""

    options: dict[str, Any]
    row: st.SearchStrategy[Any]
    write: Callable[[Path, Sequence[Any]], Path]
    told_by: tuple[str, ...] = ("query", "positives", "negatives", "answers")
    symmetric: bool = False


def lines(stem: Path, rows: Sequence[Any]) -> Path:
    path = stem.with_suffix(".jsonl")
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def parquet(stem: Path, rows: Sequence[Any]) -> Path:
    path = stem.with_suffix(".parquet")
    texts = pa.list_(pa.string())
    pq.write_table(pa.Table.from_pylist(rows, pa.schema({"query": pa.string(), "pos": texts, "neg": texts})), path)
    return path


def task_file(stem: Path, rows: Sequence[Any]) -> Path:
    path = stem.with_suffix(".json")
    path.write_text(json.dumps({"Definition": ["Do it."], "Instances": rows}))
    return path


TEXT = st.sampled_from(["tea", "fox", "sea", " tea", ""])  # few, so that rows share all but one of their texts
TEXTS = st.lists(TEXT, max_size=2)
FLAG = st.fixed_dictionaries({"query": TEXT, "pos": TEXTS, "neg": TEXTS})
QUESTION = st.fixed_dictionaries(
    {**dict.fromkeys(("question", "opa", "opb", "opc", "opd", "exp"), TEXT), "cop": st.integers(1, 4)}
)
TASK = "task9001_things"
FORMS = {
    "lists": Form({"adapter": "pairs"}, st.lists(TEXT, min_size=2, max_size=3), lines),
    "objects": Form({"adapter": "pairs"}, FLAG, lines),
    "parquet": Form({"adapter": "pairs"}, FLAG, parquet),
    "sets": Form({"adapter": "pairs", "symmetric": True}, st.fixed_dictionaries({"set": TEXTS}), lines, symmetric=True),
    "labelled": Form(
        {"adapter": "pairs", "query": "a", "positive": "b", "label": "is", "positive_labels": ["1"],
         "negative_labels": ["0"]},
        st.fixed_dictionaries({"a": TEXT, "b": TEXT, "is": st.integers(0, 2)}),
        lines,
        ("query", "positives"),
    ),
    "task file": Form(
        {"adapter": "super_ni", "outputs": "text"},
        st.fixed_dictionaries({"input": TEXT, "output": TEXTS}),
        task_file,
        ("query",),
    ),
    "hub form": Form(
        {"adapter": "super_ni", "outputs": "class"},
        st.fixed_dictionaries({"task_name": st.sampled_from([TASK, "other"]), "inputs": TEXT, "targets": TEXT}),
        lines,
        ("query",),
    ),
    "options": Form({"adapter": "medmcqa", "record": "option"}, QUESTION, lines),
    "explanations": Form({"adapter": "medmcqa", "record": "explanation"}, QUESTION, lines),
    "kilt": Form(
        {"adapter": "kilt", "input_form": "question"},
        st.sampled_from([json.loads(line) for line in KILT_LINES if "a repeated id" not in line]),
        lines,
    ),
}  # fmt: skip


def build(form: Form, parts: Sequence[Sequence[Any]]) -> tuple[Rows, list[dict[str, Any]]]:
    """Examples and records of raw rows in one file or several; records lack the rows that nothing was mined for."""
    card = Card.model_validate(
        {
            "name": f"own/{TASK}",
            "description": "rows",
            "options": form.options,
            "files": {"train": ["x.jsonl"]},
            "licence": {"spdx": "unconfirmed", "commercial_use": "unknown"},
            "citation": "",
            "instruction": {"template": "none"},
        }
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = tuple(form.write(folder / f"{len(parts)}-{number}", rows) for number, rows in enumerate(parts))
        job = AdaptJob(card, Inputs(paths, {"pages": (KILT / "pages.jsonl",)}, folder), 0, 1, folder)
        adapted = adapt(job)
        table = adapted.examples()
        raw = {(path.name, place): row for path, part in zip(paths, parts, strict=True)
               for place, row in enumerate(part, 1)}  # fmt: skip
        rows = table.to_pylist()
        for row in rows:
            assert row["query"] in json.dumps(raw[row["source_file"], row["source_row"]])
        if not rows:
            return [], []
        mined = mined_table(
            table,
            CORPUS if adapted.kind == "pairs" else None,
            kind=adapted.kind,
            rule=MiningRule(),
            embed=embed,
            symmetric=form.symmetric,
            seed=1,
            ledger=Ledger.from_dict(adapted.ledger),
        )
        records = pa.concat_tables(assemble(table, [mined], PHRASINGS, 1, 1, card.name)) if mined.num_rows else mined
        usable = sum(set(row["positives"]) > {row["query"]} or row["query"] not in row["positives"] for row in rows)
        assert adapted.kind != "pairs" or records.num_rows == usable
        return rows, records.to_pylist()


def some_of(rows: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
    """Most of the rows, in their order."""
    stay = st.lists(st.sampled_from([True, True, True, False]), min_size=len(rows), max_size=len(rows))
    return stay.map(lambda mask: list(compress(rows, mask)))


def ids_by_content(form: Form, rows: Rows) -> dict[str, list[str]]:
    found = defaultdict(list)
    for row in rows:
        found[repr([row[name] for name in form.told_by])].append(row["id"])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=60)
@given(data=st.data())
def test_rows_that_come_go_and_move_leave_the_others_as_they_were(name: str, data: st.DataObject) -> None:
    form = FORMS[name]
    universe = data.draw(st.lists(form.row, min_size=8, max_size=20))
    before = data.draw(some_of(universe))
    after = data.draw(some_of(data.draw(st.permutations(universe))))
    cut = data.draw(st.integers(0, len(after)))
    old, old_records = build(form, [before])
    new, new_records = build(form, [after[:cut], after[cut:]])
    for rows in (old, new):
        assert len({row["id"] for row in rows}) == len(rows)
    first, second = ids_by_content(form, old), ids_by_content(form, new)
    for content in first.keys() | second.keys():
        known = [ids[content] for ids in (first, second) if content in ids]
        for ids in known:  # repeats are counted in order of appearance
            assert ids == [known[0][0], *(f"{known[0][0]}-{number}" for number in range(2, len(ids) + 1))]
    was = {record["id"]: record for record in old_records}
    for record in new_records:
        if record["id"] in was:
            told = was[record["id"]]
            assert record["query"] == told["query"]
            positive = record["pos"], record["pos_id"]
            assert form.options["adapter"] == "super_ni" or positive == (told["pos"], told["pos_id"])


def test_a_true_repeat_gets_a_counter_and_stays_in_its_group() -> None:
    form = FORMS["sets"]
    rows, _ = build(form, [[{"set": ["a", "b"]}, {"set": ["b", "a"]}, {"set": ["a ", "b"]}], [{"set": ["a", "b"]}]])
    key = rows[0]["id"]
    assert [row["id"] for row in rows] == [key, rows[1]["id"], f"{key}-2", f"{key}-3"]
    assert [row["groups"] for row in rows] == [[key], [rows[1]["id"]], [key], [key]]


def test_repeats_are_counted_across_batches() -> None:
    names = ["a", "b", "a", "c", "b", "a", "d"]
    table = examples([{"id": name, "query": name} for name in names])
    whole = ["a", "b", "a-2", "c", "b-2", "a-3", "d"]
    for size in (1, 2, 3, 7):
        numbered = pa.Table.from_batches(number_repeats(table.to_batches(size)), EXAMPLES)
        assert numbered["id"].to_pylist() == whole


ANY = st.text(st.characters(codec="utf-8"), max_size=3)


@given(st.tuples(ANY, st.lists(ANY), st.lists(ANY)), st.tuples(ANY, st.lists(ANY), st.lists(ANY)))
def test_other_texts_have_another_id(one: Any, other: Any) -> None:
    assert (content_id(*one) == content_id(*other)) == (one == other)
    assert pair_id(one[0], other[0]) == content_id(one[0], [other[0]], [])


def test_ids_never_change() -> None:
    """An id stands in people's files: this is the hash of the texts' UTF-8 with the bytes fe and ff around."""
    assert content_id("what is tea", ["a drink"], []) == "b6decce1caa6839d"
    assert content_id("", ["tee", "café"]) == "7d7f875aaab16235"


def test_a_text_without_an_id_in_a_corpus_is_known_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    rows = ["tea", {"text": "fox", "title": "An animal"}, {"_id": 7, "text": "sea"}, {"id": None, "text": "tea"}]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert read_corpus(path, Ledger("own"))["id"].to_pylist() == [
        content_id("tea"), content_id("An animal fox"), "7", content_id("tea"),
    ]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=100)
@given(st.sets(st.integers(0, 30), min_size=2), st.data())
def test_a_random_negative_stays_as_long_as_it_is_there(numbers: set[int], data: st.DataObject) -> None:
    """With fewer candidates, in another order, a row draws what it drew of all, if that is still among them."""
    rule = MiningRule(sampling_strategy="random", range_max=100)
    question = [{"id": "q", "query": "which thing", "positives": ["that thing"]}]

    def drawn(chosen: Sequence[int]) -> str:
        corpus = documents([(str(i), f"thing number {i}", []) for i in chosen])
        table = mined_table(
            examples(question), corpus, kind="pairs", rule=rule, embed=embed, seed=1, ledger=Ledger("toy")
        )
        return str(table["neg"][0].as_py())

    everything = drawn(sorted(numbers))
    kept = data.draw(st.permutations(sorted(data.draw(st.sets(st.sampled_from(sorted(numbers)), min_size=1)))))
    if everything in {f"thing number {i}" for i in kept}:
        assert drawn(kept) == everything
