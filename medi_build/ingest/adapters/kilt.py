"""KILT: eleven tasks over one knowledge source of Wikipedia pages (Petroni et al. 2021).

A row is a question, claim, slot, conversation or marked mention; its positives are the passages that its
provenance points at, cut from the pages (`kilt_pages`). Every page of its provenance is one of its groups, so
that no other passage of a gold page becomes a negative. ``DOCUMENTS`` holds the passages of the gold pages, the
gold ones too, and those of a seeded choice of other pages.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from medi_build.arrays import Hashes
from medi_build.content.cards import Card, KiltOptions
from medi_build.dataset.schema import DOCUMENTS
from medi_build.errors import ContentError, InputError
from medi_build.ingest.adapters.base import (
    ROWS_PER_BATCH,
    Adapted,
    Inputs,
    clean,
    clean_list,
    example_batches,
    source_names,
)
from medi_build.ingest.adapters.kilt_pages import Page, PageIndex, page_key, span
from medi_build.ingest.json_rows import json_lines, json_rows
from medi_build.ingest.parquet_rows import is_parquet, parquet_batches
from medi_build.ledger import Ledger

ROWS_PER_READ = 256
"""Task rows whose pages are read together, in the order of their bytes, and held in memory."""

MAX_GOLD_PAGE_PASSAGES = 500_000
"""Most passages of gold pages among the documents: more cost far more to encode than they add to the pool."""

CONTEXT_WORDS = 128
"""Words of an entity-linking query, the mention and its marks among them."""

_VERDICTS = frozenset(["yes", "no", "supports", "refutes"])
"""Answers that say nothing about the text of a passage: two rows with one of them are not about the same thing."""


@dataclass
class _Row:
    """A task row that has a query and provenance.

    Attributes:
        id: upstream id.
        query: cleaned.
        answers: cleaned answer strings.
        provenance: (key of the page, provenance entry), in file order.
        path: the row's file.
        source: what ``source_file`` says of it.
        number: its line, from 1.
    """

    id: str
    query: str
    answers: list[str]
    provenance: list[tuple[int, dict[str, Any]]]
    path: Path
    source: str
    number: int


def adapt(card: Card, inputs: Inputs, ledger: Ledger) -> Adapted:
    """Read a KILT task (train or dev files) and the pages it needs.

    ``inputs.extra["pages"]`` are knowledge source files, ``inputs.extra["questions"]`` the TriviaQA questions, which
    KILT leaves out, in the hub's form or the official one. Ids are ``{card.name}/{upstream id}``.

    Raises:
        ContentError: the card is not a KILT card.
        InputError: a file is damaged, or there is no knowledge source.
    """
    options = card.options
    if not isinstance(options, KiltOptions):
        raise ContentError(f"{card.name}: adapter 'kilt' was given the options of {options.adapter!r}")
    files = inputs.extra.get("pages", ())
    if not files:
        raise InputError(f"{card.name}: no knowledge source among its files; name one under extra_files: pages")
    task = _Task(card, options, inputs, ledger)
    return Adapted("pairs", {}, example_batches(task.examples(), ledger), task.documents())


class _Task:
    """What examples and documents of one task share: the index of the pages, opened by whichever comes first."""

    def __init__(self, card: Card, options: KiltOptions, inputs: Inputs, ledger: Ledger) -> None:
        self._name = card.name
        self._options = options
        self._inputs = inputs
        self._ledger = ledger
        self._opened: tuple[PageIndex, Hashes, Hashes] | None = None

    def _pages(self) -> tuple[PageIndex, Hashes, Hashes]:
        """The index, the keys of the gold pages and those of the other pages to draw documents from."""
        if self._opened is None:
            index = PageIndex(self._inputs.extra["pages"], self._inputs.cache)
            known = index.keys()
            gold = np.intersect1d(_gold_keys(self._inputs.rows), known, assume_unique=True)
            others = np.setdiff1d(known, gold, assume_unique=True)[: self._options.other_documents]
            self._opened = index.extracted(np.concatenate([gold, others])), gold, others
        return self._opened

    def examples(self) -> Iterator[tuple[Any, ...]]:
        """One example per row, in the order of the files."""
        index, _, _ = self._pages()
        questions = _questions(self._inputs.extra.get("questions", ()))
        rows = _rows(self._inputs.rows, self._options.input_form, questions, self._ledger)
        while block := list(islice(rows, ROWS_PER_READ)):
            pages = index.read(key for row in block for key, _ in row.provenance)
            for row in block:
                positives = self._positives(row, pages)
                if positives:
                    groups = list(dict.fromkeys(str(entry["wikipedia_id"]) for _, entry in row.provenance))
                    place = row.source, row.number
                    yield f"{self._name}/{row.id}", row.query, positives, (), (), row.answers, groups, *place
                else:
                    self._ledger.drop("adapt", "page_missing", where=f"{row.path}:{row.number}")

    def _positives(self, row: _Row, pages: Mapping[int, Page]) -> list[str]:
        """The distinct gold passages of a row, in the order of its provenance."""
        passages: dict[str, None] = {}
        for key, entry in row.provenance:
            page = pages.get(key)
            if page is None or not page.words:
                self._ledger.note("provenance_page_missing")
                continue
            place = span(page, entry)
            if place is None:
                self._ledger.note("span_not_found")
            start, end = page.window(*(place or (0, 1)), self._options.passage_words)
            passages[page.passage(start, end)] = None
        return [text for text in clean_list(passages)[0] if text != row.query]

    def documents(self) -> Iterator[pa.RecordBatch]:
        """Passages of gold pages, then of other pages, each in the order of the pages' hashes."""
        _, gold, others = self._pages()
        yield from _document_batches(self._passages(gold, MAX_GOLD_PAGE_PASSAGES))
        yield from _document_batches(self._passages(others, self._options.other_documents))

    def _passages(self, keys: Hashes, most: int) -> Iterator[tuple[str, str, str]]:
        return islice(self._all_passages(keys), most)

    def _all_passages(self, keys: Hashes) -> Iterator[tuple[str, str, str]]:
        index, _, _ = self._pages()
        for first in range(0, len(keys), ROWS_PER_READ):
            block = keys[first : first + ROWS_PER_READ].tolist()
            pages = index.read(block)
            for page in map(pages.__getitem__, block):
                for number, (start, end) in enumerate(page.tiles(self._options.passage_words)):
                    text, reason = clean(page.passage(start, end))
                    if reason is None:
                        yield f"{page.id}-{number}", text, page.id


def _document_batches(passages: Iterator[tuple[str, str, str]]) -> Iterator[pa.RecordBatch]:
    while block := list(islice(passages, ROWS_PER_BATCH)):
        ids, texts, groups = zip(*block, strict=True)
        lists = pa.ListArray.from_arrays(
            pa.array(range(len(block) + 1), pa.int32()), pa.array(groups, pa.string()), type=DOCUMENTS.types[2]
        )
        yield pa.RecordBatch.from_arrays(
            [pa.array(ids, pa.string()), pa.array(texts, pa.string()), lists], schema=DOCUMENTS
        )


# --- task rows


def _rows(files: Sequence[Path], form: str, questions: Mapping[str, str], ledger: Ledger) -> Iterator[_Row]:
    """Parse the task files; rows that can be no example are dropped under the first reason that applies."""
    seen: set[int] = set()
    for path, source in zip(files, source_names(files), strict=True):
        for number, value in json_lines(path, ledger):
            row = _row(value, form, questions, (path, source, number))
            if isinstance(row, _Row):
                key = page_key(row.id)
                if key not in seen:
                    seen.add(key)
                    yield row
                    continue
                row = "duplicate_id"
            ledger.drop("adapt", row, where=f"{path}:{number}")


def _row(value: Any, form: str, questions: Mapping[str, str], place: tuple[Path, str, int]) -> _Row | str:
    """A row, or the reason to drop it."""
    name = value.get("id") if isinstance(value, dict) else None
    if not isinstance(name, str | int) or not isinstance(value.get("output", []), list):
        return "wrong_type"
    outputs = [item for item in value.get("output", []) if isinstance(item, dict)]
    if not outputs:
        return "no_answer"
    provenance = list(_provenance(outputs))
    if not provenance:
        return "no_provenance"
    text = value.get("input") or questions.get(str(name))
    if text is None:
        return "no_input"
    query, reason = clean(text)
    query = query if reason else _QUERY[form](query)
    if reason or not query:
        return reason or "no_mention"
    answers = clean_list(item.get("answer") for item in outputs)[0]
    said = [answer for answer in answers if answer.casefold() not in _VERDICTS]
    return _Row(str(name), query, said, provenance, *place)


def _provenance(outputs: Iterable[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """All provenance entries that name a page, with the page's key."""
    for item in outputs:
        entries = item.get("provenance")
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and isinstance(entry.get("wikipedia_id"), str | int):
                yield page_key(str(entry["wikipedia_id"])), entry


def _gold_keys(files: Iterable[Path]) -> Hashes:
    """The distinct keys of all pages that the task names. A first pass over the rows; counts nothing."""
    keys: set[int] = set()
    for path in files:
        for _, value in json_lines(path, Ledger("")):
            outputs = value.get("output") if isinstance(value, dict) else None
            if isinstance(outputs, list):
                keys.update(key for key, _ in _provenance(item for item in outputs if isinstance(item, dict)))
    return np.sort(np.fromiter(keys, np.uint64, len(keys)))


def _questions(files: Iterable[Path]) -> dict[str, str]:
    """Question id -> question: from the hub's Parquet files, the official documents (``Data``), or records as lines."""
    questions: dict[str, str] = {}
    for path in files:
        if is_parquet(path):
            for batch in parquet_batches(path, ["question_id", "question"], Ledger("")):
                names, texts = (batch.column(name).to_pylist() for name in ("question_id", "question"))
                questions.update(zip(names, texts, strict=True))
            continue
        for _, value in json_rows(path, Ledger("")):
            records = value.get("Data") if isinstance(value, dict) else None
            for record in records if isinstance(records, list) else [value]:
                match record:
                    case {"QuestionId": str(name), "Question": str(text)}:
                        questions[name] = text
    return questions


# --- queries


def _slot(text: str) -> str:
    """``subject [SEP] relation`` -> ``subject relation``."""
    return " ".join(part.strip() for part in text.split("[SEP]") if part.strip())


def _dialogue(text: str) -> str:
    """The turns of a conversation, one per line, oldest first."""
    return "\n".join(turn.strip() for turn in text.splitlines() if turn.strip())


def _mention(text: str) -> str:
    """The words around ``[START_ENT] mention [END_ENT]``, marks kept; empty if there is no mention."""
    words = text.split()
    first = words.index("[START_ENT]") if "[START_ENT]" in words else len(words)
    if "[END_ENT]" not in words[first:]:
        return ""
    last = words.index("[END_ENT]", first) + 1
    room = max(0, CONTEXT_WORDS - (last - first))
    start = max(0, first - max(room // 2, room - (len(words) - last)))
    return " ".join(words[start : max(last, start + CONTEXT_WORDS)])


_QUERY: dict[str, Callable[[str], str]] = {
    "question": str,
    "claim": str,
    "slot": _slot,
    "dialogue": _dialogue,
    "entity": _mention,
}
"""How the query is made of the row's input, by the card's ``input_form``."""
