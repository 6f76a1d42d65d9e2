import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medi_build.content.cards import Card
from medi_build.dataset.schema import DOCUMENTS, EXAMPLES
from medi_build.errors import ContentError, InputError, OutputError
from medi_build.ingest.adapt import ADAPTERS
from medi_build.ingest.adapters.base import Inputs
from medi_build.ingest.adapters.kilt_pages import Page, PageIndex, page_key, paragraph_words, span
from medi_build.ledger import Ledger

FIXTURES = Path(__file__).parent.parent / "fixtures" / "kilt"
PAGES = FIXTURES / "pages.jsonl"
FORMS = {
    "aidayago2": "entity",
    "cweb": "entity",
    "wned": "entity",
    "fever": "claim",
    "structured_zeroshot": "slot",
    "trex": "slot",
    "wow": "dialogue",
}
Rows = list[dict[str, Any]]


def card(**options: Any) -> Card:
    return Card.model_validate(
        {
            "name": "kilt/x",
            "description": "a task",
            "options": {"adapter": "kilt", **options},
            "files": {"dev": ["x.jsonl"]},
            "licence": {"spdx": "MIT", "commercial_use": "unknown"},
            "citation": "",
            "instruction": {"template": "retrieval"},
        }
    )


def run(
    rows: Path, cache: Path, pages: tuple[Path, ...] = (PAGES,), questions: tuple[Path, ...] = (), **options: Any
) -> tuple[Rows, Rows, Ledger]:
    """Adapt one task file; the counts have to add up every time."""
    ledger = Ledger("kilt/x")
    options.setdefault("input_form", FORMS.get(rows.name.split("-")[0], "question"))
    extra = {"pages": pages, "questions": questions}
    adapted = ADAPTERS["kilt"](card(**options), Inputs((rows,), extra, cache), ledger)
    examples = pa.Table.from_batches(adapted.examples, EXAMPLES).to_pylist()
    documents = pa.Table.from_batches(adapted.documents, DOCUMENTS).to_pylist()
    assert ledger.adapted == len(examples)
    assert ledger.read == ledger.adapted + ledger.dropped_in("adapt")
    return examples, documents, ledger


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def page(number: int | str, *paragraphs: str) -> dict[str, Any]:
    return {
        "_id": f"{number}",
        "wikipedia_id": f"{number}",
        "wikipedia_title": f"Page {number}",
        "text": [f"Page {number}\n", *paragraphs],
    }


def parse(*paragraphs: str) -> Page:
    return Page.parse(json.dumps(page(1, *paragraphs)).encode(), "test")


def test_natural_questions(tmp_path: Path):
    examples, _, ledger = run(FIXTURES / "nq-dev-kilt.jsonl", tmp_path)
    assert [row["id"] for row in examples] == ["kilt/x/n1", "kilt/x/n2", "kilt/x/n3"]
    first, mail, wide = examples
    assert first["query"] == "who built the town hall of tarnby"
    assert first["positives"] == [  # two spans, one passage
        "Tarnby Tarnby is the only town of Lindholm. The town hall was built in 1871 by the carpenter Ole Brask. "
        "Most families live from herring and from painting fans."
    ]
    assert first["answers"] == ["Ole Brask", "the carpenter Ole Brask"]
    assert first["groups"] == ["102"]
    assert mail["positives"][0].startswith("Lindholm Island ")
    assert mail["positives"][0].endswith("a broad boat for nets; the heron, which carries the mail.")
    assert wide["positives"][0].startswith("Amber Sound The Amber Sound is a strait")
    assert ledger.dropped["adapt"] == {"page_missing": 2, "no_provenance": 1, "duplicate_id": 1}
    assert ledger.notes == {"provenance_page_missing": 2, "span_not_found": 1}


def test_all_pages_of_the_provenance_are_groups_and_multi_hop_gives_all_passages(tmp_path: Path):
    (row,), _, _ = run(FIXTURES / "hotpotqa-dev-kilt.jsonl", tmp_path)
    assert [text.split(" ")[0] for text in row["positives"]] == ["Tarnby", "Ole", "Lindholm"]
    assert row["groups"] == ["102", "103", "101", "777"]  # the last is not in the knowledge source
    assert row["answers"] == []  # "yes" is in any passage and in none


def test_refuting_evidence_is_a_positive(tmp_path: Path):
    rows, _, _ = run(FIXTURES / "fever-dev-kilt.jsonl", tmp_path)
    assert rows[0]["query"] == "Ole Brask was a sailor."
    assert rows[0]["positives"][0].startswith("Ole Brask Ole Brask (1830–1902) was a carpenter")
    assert rows[0]["answers"] == rows[1]["answers"] == []


@pytest.mark.parametrize(
    ("task", "query", "answers"),
    [
        ("structured_zeroshot-dev-kilt", "Tarnby architect", ["Ole Brask"]),
        ("trex-dev-kilt", "Ole Brask place of birth", ["Tarnby", "Tarnby town"]),
        (
            "wow-dev-kilt",
            "I love paper crafts.\nOh, do you know painted fans?\nNo, tell me more!",
            ["They show scenes of the sea."],
        ),
        (
            "eli5-dev-kilt",
            "Why does the mail travel on sledges in winter?",
            ["Because the strait freezes, boats cannot cross it."],
        ),
        ("aidayago2-dev-kilt", "Visitors to [START_ENT] Tarnby [END_ENT] buy fans .", ["Tarnby"]),
        ("cweb-dev-kilt", "[START_ENT] Brask [END_ENT] built it", ["Ole Brask"]),
    ],
)
def test_other_tasks(tmp_path: Path, task: str, query: str, answers: list[str]):
    (row,), _, _ = run(FIXTURES / f"{task}.jsonl", tmp_path)
    assert row["query"] == query
    assert row["answers"] == answers
    assert len(row["positives"]) == 1


def test_trivia_questions_are_joined_by_id(tmp_path: Path):
    rows = FIXTURES / "triviaqa-dev_id-kilt.jsonl"
    (row,), _, ledger = run(rows, tmp_path, questions=(FIXTURES / "triviaqa_questions.json",))
    assert row["query"] == "Which strait freezes so hard that mail crosses it by sledge?"
    assert ledger.dropped["adapt"] == {"no_input": 1}
    as_lines = write(tmp_path / "questions.jsonl", {"QuestionId": "tq_2", "Question": "What do fans show?"})
    (row,), _, _ = run(rows, tmp_path, questions=(as_lines,))
    assert row["id"] == "kilt/x/tq_2"


def test_trivia_questions_of_the_hub_are_joined_whatever_the_order_of_its_columns(tmp_path: Path):
    rows = FIXTURES / "triviaqa-dev_id-kilt.jsonl"
    columns = {
        "question": ["What do fans show?"] * 2,
        "question_id": ["tq_2"] * 2,
        "answer": [{"value": "the wind"}] * 2,
    }
    for order in (["question", "question_id", "answer"], ["answer", "question_id", "question"]):
        path = tmp_path / "questions.parquet"
        pq.write_table(pa.table({name: columns[name] for name in order}), path)
        (row,), _, _ = run(rows, tmp_path, questions=(path,))
        assert (row["id"], row["query"]) == ("kilt/x/tq_2", "What do fans show?")


def test_the_context_of_a_mention_is_cut_around_it(tmp_path: Path):
    (row,), _, _ = run(FIXTURES / "wned-dev-kilt.jsonl", tmp_path)
    words = row["query"].split()
    assert len(words) == 128
    assert words.index("[START_ENT]") == 62
    assert "[START_ENT] the Sound [END_ENT]" in row["query"]


def test_a_mention_without_marks_and_a_test_row_are_dropped(tmp_path: Path):
    _, _, ledger = run(FIXTURES / "cweb-dev-kilt.jsonl", tmp_path)
    assert ledger.dropped["adapt"] == {"no_mention": 1}
    rows, _, ledger = run(FIXTURES / "nq-test_without_answers-kilt.jsonl", tmp_path)
    assert rows == []
    assert ledger.dropped["adapt"] == {"no_answer": 1}


def test_documents_are_passages_of_gold_pages_then_of_others(tmp_path: Path):
    _, documents, _ = run(FIXTURES / "fever-dev-kilt.jsonl", tmp_path, other_documents=3)
    pages = [row["groups"][0] for row in documents]
    assert set(pages[:2]) == {"103", "106"}
    assert len(pages) == 2 + 3
    assert not {"103", "106"} & set(pages[2:])
    assert all(row["id"].startswith(f"{row['groups'][0]}-") for row in documents)
    assert len({row["id"] for row in documents}) == len(documents)
    _, none, _ = run(FIXTURES / "fever-dev-kilt.jsonl", tmp_path, other_documents=0)
    assert none == documents[:2]


def test_gold_and_other_passages_have_one_form(tmp_path: Path):
    examples, documents, _ = run(FIXTURES / "fever-dev-kilt.jsonl", tmp_path)
    assert {text for row in examples for text in row["positives"]} <= {row["text"] for row in documents}
    for row in documents:
        assert "::::" not in row["text"]
        assert not row["text"].endswith("\n")


def test_gzip_and_split_sources_change_nothing(tmp_path: Path):
    rows = FIXTURES / "nq-dev-kilt.jsonl"
    expected = run(rows, tmp_path / "cache")
    packed = tmp_path / "pages.json.gz"
    packed.write_bytes(gzip.compress(PAGES.read_bytes()))
    lines = PAGES.read_bytes().splitlines(keepends=True)
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl.gz"
    first.write_bytes(b"".join(lines[::2]))
    second.write_bytes(gzip.compress(b"\n".join(lines[1::2])))
    for pages in [(packed,), (first, second), (second, first), (PAGES, packed)]:
        again = run(rows, tmp_path / "cache", pages)
        assert again[:2] == expected[:2]
        assert again[2].to_dict() == expected[2].to_dict()


def test_a_page_that_stands_twice_counts_once_and_the_first_wins(tmp_path: Path):
    source = write(tmp_path / "pages.jsonl", page(1, "old text"), page(1, "new text"), page(2, "other"))
    index = PageIndex((source, write(tmp_path / "more.jsonl", page(2, "late"))), tmp_path)
    pages = index.read([page_key("1"), page_key("2"), page_key("3")])
    assert {key: found.words for key, found in pages.items()} == {
        page_key("1"): ("old", "text"),
        page_key("2"): ("other",),
    }
    assert index.keys().tolist() == sorted([page_key("1"), page_key("2")])


def test_the_index_is_kept_until_the_file_changes(tmp_path: Path):
    source = write(tmp_path / "pages.jsonl", page(1, "one"))
    PageIndex((source,), tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob("*.npy")
    made = kept.stat().st_mtime_ns
    PageIndex((source,), tmp_path / "cache")
    assert kept.stat().st_mtime_ns == made
    write(source, page(1, "one"), page(2, "two"))
    assert len(PageIndex((source,), tmp_path / "cache").keys()) == 2


def test_concurrent_builds_of_one_index(tmp_path: Path):
    source = write(tmp_path / "pages.jsonl", *(page(n, f"text {n}") for n in range(500)))
    with ThreadPoolExecutor(8) as pool:
        indexes = list(pool.map(lambda _: PageIndex((source,), tmp_path / "cache"), range(8)))
    assert all(len(index.keys()) == 500 for index in indexes)
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "cache").write_text("a file, no folder")
    with pytest.raises(OutputError, match="cannot be written"):
        PageIndex((PAGES,), tmp_path / "cache")


@pytest.mark.parametrize(
    "line",
    [
        '{"wikipedia_id": "5", "wikipedia_title": "T", "text": ["T", "a b"]}',
        '{"_id": "5", "wikipedia_id": "5", "wikipedia_title": "T", "text": ["T", "a b"]}',
        '{"_id":5,"wikipedia_id":5,"wikipedia_title":"T","text":["T","a b"]}',
        '{"anchors": [{"wikipedia_id": "6"}], "text": ["T", "a b"], "wikipedia_id": "5"}',
        '  { "wikipedia_id" : "5" , "text": ["T", "a b"]}  ',
        r'{"wikipedia_id": "\u0035", "text": ["T", "a b"]}',
    ],
)
def test_ids_are_found_wherever_they_stand(tmp_path: Path, line: str):
    source = tmp_path / "pages.jsonl"
    source.write_text(line)
    (found,) = PageIndex((source,), tmp_path).read([page_key("5")]).values()
    assert (found.id, found.title, found.words) == ("5", "T", ("a", "b"))


@pytest.mark.parametrize(
    "line",
    [
        '{"wikipedia_id": "5", "wikipedia_title": "T", "text": ["T", "cut o',
        '{"wikipedia_title": "no id", "text": []}',
        "[1, 2]",
        "not json",
    ],
)
def test_a_line_that_is_no_page_is_an_error_with_its_place(tmp_path: Path, line: str):
    source = tmp_path / "pages.jsonl"
    source.write_text(json.dumps(page(1, "fine")) + "\n" + line)
    with pytest.raises(InputError, match=r"pages\.jsonl:2: not a page"):
        PageIndex((source,), tmp_path)


@pytest.mark.parametrize("text", ["5", "[]", '{"a": 1}'])
def test_a_page_without_text_is_an_error_with_its_place(tmp_path: Path, text: str):
    source = tmp_path / "pages.jsonl"
    source.write_text(f'{{"wikipedia_id": "5", "text": {text}}}')
    with pytest.raises(InputError, match=r"pages\.jsonl, byte 0: not a page"):
        PageIndex((source,), tmp_path).read([page_key("5")])


def test_missing_and_truncated_sources_name_the_file(tmp_path: Path):
    with pytest.raises(InputError, match="absent"):
        PageIndex((tmp_path / "absent.jsonl",), tmp_path)
    cut = tmp_path / "pages.json.gz"
    cut.write_bytes(gzip.compress(os.urandom(5000).hex().encode())[:2000])
    with pytest.raises(InputError, match=r"pages\.json\.gz.*fetch it again"):
        PageIndex((cut,), tmp_path)
    with pytest.raises(InputError, match="knowledge source"):
        run(FIXTURES / "nq-dev-kilt.jsonl", tmp_path, pages=())


def test_the_options_of_another_adapter_are_an_error(tmp_path: Path):
    for adapter, other in [("kilt", "pairs"), ("pairs", "kilt")]:
        with pytest.raises(ContentError, match="kilt/x"):
            ADAPTERS[adapter](card(adapter=other), Inputs((), {}, tmp_path), Ledger("x"))


_PROVENANCE = [{"wikipedia_id": 102, "start_paragraph_id": "1", "end_paragraph_id": "1"}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([], "wrong_type"),
        ({"input": "q", "output": [{"provenance": _PROVENANCE}]}, "wrong_type"),
        ({"id": 1, "input": "q", "output": {"answer": "a"}}, "wrong_type"),
        ({"id": 1, "input": "q", "output": []}, "no_answer"),
        ({"id": 1, "input": "q", "output": ["a"]}, "no_answer"),
        ({"id": 1, "input": "q", "output": [{"provenance": "p"}]}, "no_provenance"),
        ({"id": 1, "input": "q", "output": [{"provenance": [{"title": "no id"}]}]}, "no_provenance"),
        ({"id": 1, "output": [{"provenance": _PROVENANCE}]}, "no_input"),
        ({"id": 1, "input": 5, "output": [{"provenance": _PROVENANCE}]}, "wrong_type"),
        ({"id": 1, "input": " ", "output": [{"provenance": _PROVENANCE}]}, "empty_text"),
    ],
)
def test_bad_rows_are_dropped_under_a_reason_with_their_place(tmp_path: Path, row: Any, reason: str):
    good = {"id": 0, "input": "q", "output": [{"answer": None, "provenance": _PROVENANCE}]}
    path = write(tmp_path / "nq.jsonl", good, row)
    examples, _, ledger = run(path, tmp_path)
    assert [example["groups"] for example in examples] == [["102"]]
    assert ledger.dropped["adapt"] == {reason: 1}
    assert ledger.places == {f"adapt/{reason}": [f"{path}:2"]}


def test_broken_lines_are_dropped(tmp_path: Path):
    path = tmp_path / "nq.jsonl"
    path.write_bytes(b'{"id": 1,\n{"id": "\\ud800"}\n')
    _, _, ledger = run(path, tmp_path)
    assert ledger.dropped["adapt"] == {"invalid_json": 1, "invalid_unicode": 1}


@pytest.mark.parametrize(
    ("paragraph", "words"),
    [
        ("Section::::History.\n", []),
        ("BULLET::::- a snipe\n", ["a", "snipe"]),
        ("BULLET::::12. a snipe", ["a", "snipe"]),
        ("BULLET::::snipe", ["snipe"]),
        ("the word BULLET::::", ["the", "word", "BULLET::::"]),
    ],
)
def test_words_of_a_paragraph(paragraph: str, words: list[str]):
    assert paragraph_words(paragraph) == words


def test_span_in_words():
    found = parse("one two three", "Section::::Heading.", "BULLET::::- four five", "")
    assert found.words == ("one", "two", "three", "four", "five")

    def at(first: Any, start: Any, last: Any, end: Any) -> list[str] | None:
        keys = ("start_paragraph_id", "start_character", "end_paragraph_id", "end_character")
        place = span(found, dict(zip(keys, (first, start, last, end), strict=True)))
        return place and list(found.words[slice(*place)])

    assert at(1, 4, 1, 7) == ["two"]
    assert at(1, 5, 1, 6) == ["two"]  # inside a word
    assert at(1, 3, 1, 13) == ["two", "three"]
    assert at(1, 8, 3, 17) == ["three", "four"]
    assert at(3, None, 3, None) == ["four", "five"]
    assert at("1", None, "1", None) == ["one", "two", "three"]
    assert at(2, 0, 2, 5) == []  # a heading
    assert at(9, 0, 9, 1) is None
    assert at(-1, 0, 1, 1) is None
    assert at(None, None, None, None) == ["one"]


@given(st.integers(1, 700), st.integers(20, 120), st.data())
def test_windows_hold_their_span_and_tiles_the_page(n: int, size: int, data: st.DataObject):
    found = parse(" ".join(f"w{i}" for i in range(n)))
    tiles = found.tiles(size)
    assert [start for start, _ in tiles] == [0, *(end for _, end in tiles[:-1])]
    assert tiles[-1][1] == n
    lengths = [end - start for start, end in tiles]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    begin = data.draw(st.integers(0, n - 1))
    end = data.draw(st.integers(begin, n))
    start, stop = found.window(begin, end, size)
    assert 0 <= start <= begin < stop <= n
    assert stop - start <= size
    assert stop >= min(end, start + size)
    holding = [tile for tile in tiles if tile[0] <= begin and max(end, begin + 1) <= tile[1]]
    assert not holding or (start, stop) == holding[0]


_place = st.one_of(st.none(), st.integers(-1, 12), st.sampled_from(["1", "x"]), st.floats())
_entry = st.fixed_dictionaries(
    {"wikipedia_id": st.sampled_from(["101", "102", 103, "104", "107", "777", None])},
    optional=dict.fromkeys(("start_paragraph_id", "end_paragraph_id", "start_character", "end_character"), _place),
)
_output = st.fixed_dictionaries(
    {},
    optional={"answer": st.sampled_from(["a", " ", None, "Yes"]), "provenance": st.lists(_entry, max_size=3)},
)
_task_row = st.fixed_dictionaries(
    {"id": st.integers(0, 9), "output": st.lists(_output, max_size=3)},
    optional={"input": st.sampled_from(["q", "", None])},
)


@given(st.lists(_task_row, max_size=8))
def test_any_provenance_gives_passages_of_its_pages_or_a_counted_drop(tmp_path_factory, rows):
    cache = tmp_path_factory.getbasetemp() / "kilt-cache"
    path = write(tmp_path_factory.mktemp("kilt") / "nq.jsonl", *rows)
    examples, documents, ledger = run(path, cache, other_documents=0)
    assert ledger.read == len(rows)
    titles = {"101": "Lindholm Island", "102": "Tarnby", "103": "Ole Brask", "104": "Painted fan"}
    for row in examples:
        assert len(set(row["positives"])) == len(row["positives"]) > 0
        for text in row["positives"]:
            assert any(text.startswith(f"{titles.get(group, '?')} ") for group in row["groups"])
    assert {row["groups"][0] for row in documents} <= set(titles)


_LIMITED = """
import sys
from pathlib import Path
from medi_build.ingest.adapters.kilt_pages import PageIndex, page_key
import psutil
before = psutil.Process().memory_info().rss
index = PageIndex((Path(sys.argv[1]),), Path(sys.argv[2]))
keys = index.keys()
index = index.extracted(keys[:100])
pages = index.read(keys[:100].tolist())
assert len(pages) == 100 and len(keys) == int(sys.argv[3])
# Not getrusage: its peak begins with that of the process that started this one.
status = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
print(peak - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_memory_does_not_grow_with_the_knowledge_source(tmp_path: Path, packed: bool):
    filler = "The ferry to Lindholm sails at nine and at noon. " * 400  # 20 kB a page
    count = 10_000
    source = tmp_path / ("pages.json.gz" if packed else "pages.json")
    with gzip.open(source, "wb", compresslevel=1) if packed else source.open("wb") as file:
        for number in range(count):
            file.write(json.dumps(page(number, filler)).encode() + b"\n")
    command = [sys.executable, "-c", _LIMITED, str(source), str(tmp_path / "cache"), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 60 << 20  # of 200 MB


@pytest.mark.shared
def test_every_real_dev_file(shared_data: Path, tmp_path: Path):
    kilt = shared_data / "kilt"
    pages = (*sorted(kilt.glob("knowledge_pages*")), *sorted(kilt.glob("kilt_knowledgesource*")))
    for path in [*sorted(kilt.glob("hf_dummy/*.jsonl")), *sorted(kilt.glob("hotpotqa-*"))]:
        examples, documents, ledger = run(path, tmp_path, pages, other_documents=200)
        assert set(ledger.dropped.get("adapt", Counter())) <= {
            "page_missing",
            "no_provenance",
            "no_answer",
            "no_input",
        }
        lengths = [len(row["text"].split()) for row in documents]
        assert np.percentile(lengths, 99) <= 110
        for row in examples:
            assert 1 <= len(row["positives"]) <= 20
            assert row["query"] not in row["positives"]


@pytest.mark.shared
def test_every_covered_question_has_all_its_pages(shared_data: Path, tmp_path: Path):
    kilt = shared_data / "kilt"
    pages = tuple(kilt.glob("knowledge_pages.hotpot_abstracts*"))
    examples, documents, ledger = run(kilt / "hotpotqa-dev-kilt.covered.jsonl", tmp_path, pages)
    assert len(examples) == ledger.read == 233
    assert all(len(row["positives"]) >= 2 for row in examples)
    assert len({row["id"] for row in documents}) == len(documents)
    answered = sum(
        any(answer.casefold() in text.casefold() for text in row["positives"] for answer in row["answers"])
        for row in examples
        if row["answers"]
    )
    assert answered > 150  # the gold passages hold the answers
