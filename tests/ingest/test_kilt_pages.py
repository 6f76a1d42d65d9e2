"""Pages of the knowledge source: found by id wherever they stand, and cut into passages."""

import gzip
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medi_build.errors import InputError, OutputError
from medi_build.ingest.adapters.kilt_pages import Page, PageIndex, page_key, paragraph_words, span
from tests.ingest.kilt_files import FIXTURES, PAGES, page, run, write


def parse(*paragraphs: str) -> Page:
    return Page.parse(json.dumps(page(1, *paragraphs)).encode(), "test")


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
