"""A folder in BEIR's form: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medi_build.errors import EvaluationError
from medi_build.evaluate.local_data import RetrievalSet
from medi_build.evaluate.local_files import choose_split, column, ending, find, number_of, read_rows, text_of
from medi_build.ledger import Ledger

FORM = "BEIR (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv)"
QRELS = ("query-id", "corpus-id", "score")
IDS = ("_id", "id")


def is_beir(folder: Path) -> bool:
    """Whether a folder is in this form, or nearly."""
    return (folder / "qrels").is_dir() or bool(find(folder, "corpus.jsonl") or find(folder, "queries.jsonl"))


def read_beir(folder: Path, asked: str | None) -> RetrievalSet:
    """The queries of a split with their judgements, and the whole corpus.

    Raises:
        EvaluationError: a file is missing or faulty, there is no such split, or the judgements fit neither the queries
            nor the corpus at all.
        InputError: a file cannot be read.
    """
    corpus, queries = find(folder, "corpus.jsonl"), find(folder, "queries.jsonl")
    places = {
        path.name.partition(".")[0]: path for path in sorted((folder / "qrels").glob("*")) if ending(path) == ".tsv"
    }
    missing = [
        name
        for name, there in (("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels/SPLIT.tsv", places))
        if not there
    ]
    if corpus is None or queries is None or missing:
        raise EvaluationError(
            f"{folder}: is in the form of BEIR, but lacks {' and '.join(missing)}; copy the whole folder"
        )
    split = choose_split(folder, list(places), asked)
    notes = Ledger(folder.name)
    judged = _judgements(places[split], notes)
    documents = {
        name: (_title(row, place, notes), _text(row, place, notes)) for name, row, place in _by_id(corpus, notes)
    }
    texts = {name: _text(row, place, notes) for name, row, place in _by_id(queries, notes) if name in judged}
    qrels = _known(judged, texts, documents, places[split], notes)
    return RetrievalSet(folder.name, split, dict(notes.notes), documents, {name: texts[name] for name in qrels}, qrels)


def _by_id(path: Path, notes: Ledger) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yield (id, row, place); of rows with the same id only the first."""
    seen = set[str]()
    for number, row in read_rows(path, notes):
        where = f"{path}:{number}"
        key = column(row, IDS)
        value = row[key] if key else None
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise EvaluationError(f"{where}: `_id` is {value!r}, but has to be a text or a whole number")
        name = str(value)
        if name in seen:
            notes.note(f"{path.name}: repeated_id")
            continue
        seen.add(name)
        yield name, row, where


def _text(row: Mapping[str, Any], where: str, notes: Ledger) -> str:
    if "text" not in row:
        raise EvaluationError(f"{where}: has no `text`; its keys are {', '.join(map(str, row))}")
    return text_of(row, "text", where, notes)


def _title(row: Mapping[str, Any], where: str, notes: Ledger) -> str:
    return text_of(row, "title", where, notes) if row.get("title") else ""


def _judgements(path: Path, notes: Ledger) -> dict[str, dict[str, int]]:
    """Relevance by query and document."""
    judged: dict[str, dict[str, int]] = {}
    for number, row in read_rows(path, notes, headless=QRELS, known=QRELS):
        where = f"{path}:{number}"
        if any(name not in row for name in QRELS):
            raise EvaluationError(f"{path}: has the columns {', '.join(row)}, but has to have {', '.join(QRELS)}")
        query, document = (str(row[name] or "") for name in QRELS[:2])
        if not query or not document:
            raise EvaluationError(f"{where}: names no query or no document")
        score = number_of(row["score"], "score", where)
        if not score.is_integer():
            raise EvaluationError(f"{where}: score is {row['score']!r}, but has to be a whole number")
        notes.note("qrels_repeated_pair", document in judged.setdefault(query, {}))
        judged[query][document] = int(score)
    return judged


def _known(
    judged: Mapping[str, dict[str, int]],
    texts: Mapping[str, str],
    documents: Mapping[str, tuple[str, str]],
    path: Path,
    notes: Ledger,
) -> dict[str, dict[str, int]]:
    """Judgements of queries that are there.

    As for mteb and trec_eval, an absent document is one that should be found and cannot be, and a query without any
    relevant one counts as 0.
    """
    qrels = {query: found for query, found in judged.items() if query in texts}
    named = [document for found in qrels.values() for document in found]
    absent = sum(document not in documents for document in named)
    if not qrels or absent == len(named):
        what, example = ("queries", next(iter(judged))) if not qrels else ("documents", named[0])
        raise EvaluationError(
            f"{path}: names none of the {what} of this folder (such as {example!r}); the files belong to different sets"
        )
    notes.note("qrels_absent_query", len(judged) - len(qrels))
    notes.note("qrels_absent_document", absent)
    notes.note(
        "query_without_relevant_document", sum(not any(s > 0 for s in found.values()) for found in qrels.values())
    )
    return qrels
