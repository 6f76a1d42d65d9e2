"""Folders of tables: pairs of sentences with a score, or texts with a label."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medi_build.errors import EvaluationError
from medi_build.evaluate.local_data import ClassificationSet, ClusteringSet, LabelledTexts, LocalSet, StsSet
from medi_build.evaluate.local_files import choose_split, column, ending, number_of, read_rows, split_files, text_of
from medi_build.ingest.streams import lines_of
from medi_build.ledger import Ledger

FORMS = (
    "STS (csv, tsv, jsonl with sentence1, sentence2 and score; files named train, dev, test), "
    "classification (train and test files with text and label), "
    "clustering (one file with text and label, title_*.txt beside label_*.txt, or jsonl with sentences and labels)"
)
PAIRS = (("sentence1", "sentence2"), ("sentence_a", "sentence_b"), ("sentence_1", "sentence_2"), ("text1", "text2"))
SCORES = ("score", "relatedness_score", "similarity_score", "similarity")
TEXTS, LABELS = ("text", "sentence", "title"), ("label", "category", "intent", "class")
LISTS = ("sentences", "labels")
STS_BENCHMARK = (4, 5, 6)
"""Columns of score and sentences in its files without a header, which have seven columns and sometimes more."""

Rows = Sequence[tuple[int, Mapping[str, Any]]]
Pair = tuple[int, str, str, Any]
"""Number of the row, sentences, score as it is written."""


def read_tables(folder: Path, asked: str | None, unknown: str) -> LocalSet:
    """The set that lies in a folder of tables.

    Args:
        folder: of `FORMS`.
        asked: the split; None for test or the only one.
        unknown: what to say where the form is none of them.

    Raises:
        EvaluationError: the form is unknown, there is no such split, or the rows are faulty.
        InputError: a file cannot be read.
    """
    files, notes = split_files(folder), Ledger(folder.name)
    if not files:
        raise EvaluationError(unknown)
    splits = [name for name in files if name != "train"]
    split = choose_split(folder, list(files), splits[0] if asked is None and len(splits) == 1 else asked)
    path = files[split]
    if pairs := _sts_benchmark(path, notes):
        return _sts(folder.name, split, pairs, path, notes)
    rows = read_rows(path, notes)
    first = rows[0][1]
    sides, score = (
        next((pair for pair in PAIRS if all(column(first, [side]) for side in pair)), None),
        column(first, SCORES),
    )
    if sides and score:
        return _sts(folder.name, split, _pairs(rows, sides, score, path, notes), path, notes)
    if all(column(first, [name]) for name in LISTS):
        return _clusters(folder.name, split, _lists(rows, path, notes), path, notes)
    if not column(first, TEXTS) or not column(first, LABELS):
        raise EvaluationError(f"{unknown}; {path.name} has the columns {', '.join(map(str, first))[:200]}")
    items = _labelled(rows, path, notes)
    if len(files) == 1 and "train" not in files:
        return _clusters(folder.name, split, items, path, notes)
    return _classes(folder, split, files, items, notes)


def read_line_files(titles: Path, labels: Path, name: str) -> ClusteringSet:
    """Texts in one file, their clusters in another, line by line.

    Raises:
        EvaluationError: the files are of different lengths, or there are no two clusters.
        InputError: a file cannot be read.
    """
    notes = Ledger(name)
    lines = [[line.decode(errors="replace").strip("\r\n") for _, line in lines_of(path)] for path in (titles, labels)]
    texts, clusters = lines
    if len(texts) != len(clusters):
        raise EvaluationError(
            f"{labels}: has {len(clusters):,} lines, but {titles.name} has {len(texts):,}; each text needs its label"
        )
    notes.note("empty_text", sum(not text for text in texts))
    ids = tuple(str(number) for number in range(1, len(texts) + 1))
    return _clusters(name, "test", LabelledTexts(ids, tuple(texts), tuple(c.strip() for c in clusters)), labels, notes)


def _pairs(rows: Rows, sides: tuple[str, str], score: str, path: Path, notes: Ledger) -> list[Pair]:
    one, other = (str(column(rows[0][1], [side])) for side in sides)
    return [
        (n, text_of(row, one, f"{path}:{n}", notes), text_of(row, other, f"{path}:{n}", notes), row.get(score))
        for n, row in rows
    ]


def _sts_benchmark(path: Path, notes: Ledger) -> list[Pair]:
    """Number, sentences and score of each row of the STS benchmark's own form; empty if the file has another.

    It is tab-separated whatever its name, has no header, and quotation marks are part of its texts.
    """
    rows: list[Pair] = []
    score, first, second = STS_BENCHMARK
    if ending(path) not in (".csv", ".tsv", ".txt"):
        return []
    for number, line in lines_of(path):
        cells = line.decode(errors="replace").rstrip("\r\n").split("\t")
        if not rows and (len(cells) <= second or not _is_number(cells[score])):
            return []
        if len(cells) <= second:
            notes.note(f"{path.name}: wrong_number_of_columns")
            continue
        rows.append((number, cells[first], cells[second], cells[score]))
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _sts(name: str, split: str, rows: Sequence[Pair], path: Path, notes: Ledger) -> StsSet:
    scores = tuple(number_of(score, "the score", f"{path}:{number}") for number, _, _, score in rows)
    if len(set(scores)) < 2:
        raise EvaluationError(f"{path}: all scores are {scores[0]}; a correlation needs different ones")
    numbers, firsts, seconds, _ = zip(*rows, strict=True)
    return StsSet(name, split, dict(notes.notes), tuple(map(str, numbers)), firsts, seconds, scores)


def _labelled(rows: Rows, path: Path, notes: Ledger) -> LabelledTexts:
    text, label = column(rows[0][1], TEXTS), column(rows[0][1], LABELS)
    if text is None or label is None:
        raise EvaluationError(f"{path}: has the columns {', '.join(rows[0][1])}, but has to have text and label")
    ids, texts, labels = [], [], []
    for number, row in rows:
        ids.append(str(number))
        texts.append(text_of(row, text, f"{path}:{number}", notes))
        labels.append(_label(row.get(label), f"{path}:{number}"))
    return LabelledTexts(tuple(ids), tuple(texts), tuple(labels))


def _label(value: Any, where: str) -> str:
    if not isinstance(value, str | int) or value == "":
        raise EvaluationError(f"{where}: the label is {str(value)[:80]!r}, but has to be a text or a whole number")
    return str(value)


def _lists(rows: Rows, path: Path, notes: Ledger) -> LabelledTexts:
    """The form of mteb, lists of sentences and labels in each row, as one set, as mteb itself joins them today."""
    ids, texts, labels = [], [], []
    for number, row in rows:
        sentences, clusters = (row.get(str(column(row, [name]))) for name in LISTS)
        where = f"{path}:{number}"
        if isinstance(sentences, str) and not isinstance(clusters, list):
            sentences, clusters = [sentences], [clusters]
        if not isinstance(sentences, list) or not isinstance(clusters, list) or len(sentences) != len(clusters):
            raise EvaluationError(f"{where}: sentences and labels have to be lists of the same length")
        for place, (sentence, cluster) in enumerate(zip(sentences, clusters, strict=True), 1):
            ids.append(f"{number}.{place}")
            texts.append(text_of({"sentence": sentence}, "sentence", where, notes))
            labels.append(_label(cluster, where))
    return LabelledTexts(tuple(ids), tuple(texts), tuple(labels))


def _clusters(name: str, split: str, items: LabelledTexts, path: Path, notes: Ledger) -> ClusteringSet:
    if len(set(items.labels)) < 2:
        raise EvaluationError(f"{path}: holds {len(items.labels):,} texts with less than two different labels")
    return ClusteringSet(name, split, dict(notes.notes), items)


def _classes(
    folder: Path, split: str, files: Mapping[str, Path], test: LabelledTexts, notes: Ledger
) -> ClassificationSet:
    if split == "train" or "train" not in files:
        there = ", ".join(path.name for path in files.values())
        raise EvaluationError(
            f"{folder}: classification needs a train file and another one to evaluate on, each with text and label; "
            f"there is {there}" + (", and --split is train" if split == "train" and len(files) > 1 else "")
        )
    train = _labelled(read_rows(files["train"], notes), files["train"], notes)
    known = set(train.labels)
    strange = sum(label not in known for label in test.labels)
    if len(known) < 2 or strange == len(test.labels):
        raise EvaluationError(
            f"{files['train']}: has {len(known)} different labels, and {strange:,} of the {len(test.labels):,} of "
            f"{files[split].name} are not among them; a classifier needs two, and those that it is asked for"
        )
    notes.note("label_not_in_train", strange)
    return ClassificationSet(folder.name, split, dict(notes.notes), train, test)
