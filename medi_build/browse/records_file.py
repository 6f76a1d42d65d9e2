"""A SQLite file of a build's records that answers searches and counts facets; made once for each build.

``records`` holds what lists show, ``texts`` is its FTS5 index, ``words`` tells how frequent a word is. ``facts`` has a
few bytes for each record: its combination of all that facets go by (``combos``), and the margin between its scores.
"""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from medi_build.arrays import Ints
from medi_build.dataset.manifest import manifest_bytes
from medi_build.dataset.reader import BuiltDataset, DatasetEntry, shard_batches
from medi_build.dataset.report.facts import NEAR_COPY, facts, slim
from medi_build.dataset.report.warnings import warnings
from medi_build.errors import OutputError
from medi_build.files import remove_left_behind, replacing

FORM = 1
"""Of the file; raised when it changes."""
KEPT = 3
"""Files of builds that are kept in the cache, the most lately used."""
UNSCORED = 9.0
"""The margin of a record without scores, so that it comes last."""
FLAGS = {"near": 1, "copies": 2, "repeated": 4, "others": 8}
"""What may be worth a look in a single record, as bits."""
OF_RECORDS = ("margin", "near", "copies", "repeated")
"""Kinds of the report's warnings that single records are marked with; of all others every record of a dataset is."""
_COLUMNS = ("id", "query", "pos", "neg", "pos_score", "neg_score", "miner")

Tell = Callable[[str, int, int], None]
"""Told what is read, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Group:
    """Records that facets cannot tell apart.

    Attributes:
        dataset: their dataset.
        kind: its pair rule.
        miner: where the negatives come from.
        licence: of the dataset.
        warnings: kinds of `medi_build.dataset.report.warnings.KINDS`, and ``others``.
        count: how many they are.
    """

    dataset: str
    kind: str
    miner: str
    licence: str
    warnings: tuple[str, ...]
    count: int


def records_file(built: BuiltDataset, cache: Path, tell: Tell) -> Path:
    """The file of a build; it is made where it is not in the cache.

    Raises:
        DatasetError: a shard cannot be read.
        OutputError: the file cannot be written.
    """
    folder = cache / "browse"
    key = hashlib.sha256(b"%d " % FORM + manifest_bytes(built.manifest)).hexdigest()[:24]
    path = folder / f"{key}.sqlite"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_left_behind(folder)
        if not path.is_file():
            with replacing(path) as temporary:
                _write(built, temporary, tell)
        path.touch()
        for old in sorted(folder.glob("*.sqlite"), key=lambda one: -one.stat().st_mtime)[KEPT:]:
            old.unlink()
    except (OSError, sqlite3.Error) as error:
        told = getattr(error, "strerror", None) or error
        raise OutputError(
            f"{path}: cannot be written ({told}); make room there, or set MEDI_CACHE to another folder"
        ) from error
    return path


def groups(path: Path) -> dict[int, Group]:
    """All groups of records in a file, by their numbers."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT combo, about FROM combos ORDER BY combo").fetchall()
    told = {number: orjson.loads(about) for number, about in found}
    return {number: Group(**{**one, "warnings": tuple(one["warnings"])}) for number, one in told.items()}


def key_of(record_id: str) -> int:
    """What a record is found by: 63 bits of a hash of its id."""
    return xxhash.xxh3_64_intdigest(record_id.encode(errors="surrogatepass")) >> 1


def _write(built: BuiltDataset, path: Path, tell: Tell) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for line in _BEFORE:
            database.execute(line)
        database.execute("BEGIN")
        figures, counts = [], Counter[tuple[int, str, int]]()
        numbers: dict[tuple[int, str, int], int] = {}
        done = 0
        for place, entry in enumerate(built.manifest.datasets):
            table = slim(built, entry)
            figures.append(facts(table, np.zeros(0, dtype=bool)))  # queries are not compared with each other here
            flags, margins = _flags(table), _margins(table)
            start = done
            for batch in _batches(built, entry):
                here = slice(done - start, done - start + batch.num_rows)
                combos = _combos(place, batch["miner"], flags[here], numbers, counts)
                _insert(database, done + 1, batch, combos, margins[here])
                done += batch.num_rows
                tell("records", done, built.manifest.rows)
        found: dict[str, set[str]] = {entry.name: set() for entry in built.manifest.datasets}
        for kind in warnings(built.manifest, figures):
            for one in kind.found:
                found[one.dataset].add(kind.kind)
        about = ((number, _about(built, key, counts[key], found)) for key, number in numbers.items())
        database.executemany("INSERT INTO combos VALUES (?, ?)", about)
        tell("index", done, done)
        for line in _AFTER:
            database.execute(line)
        database.execute("COMMIT")


_BEFORE = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA page_size = 8192",
    "PRAGMA cache_size = -200000",
    "CREATE TABLE records (id INTEGER PRIMARY KEY, record_id TEXT, query TEXT, pos TEXT, neg TEXT, pos_score REAL, "
    "neg_score REAL)",
    "CREATE TABLE facts (id INTEGER PRIMARY KEY, combo INTEGER, margin REAL, key INTEGER)",
    "CREATE TABLE combos (combo INTEGER PRIMARY KEY, about TEXT)",
    "CREATE VIRTUAL TABLE texts USING fts5(query, pos, neg, content = 'records', content_rowid = 'id', "
    "tokenize = 'unicode61 remove_diacritics 2')",
    "CREATE VIRTUAL TABLE words USING fts5vocab(texts, 'col')",
    "INSERT INTO texts (texts, rank) VALUES ('hashsize', 67108864)",
)
_AFTER = (
    "INSERT INTO texts (texts) VALUES ('optimize')",
    "CREATE INDEX facts_by_key ON facts (key)",
    "CREATE INDEX facts_by_margin ON facts (margin, combo)",
)


def _batches(built: BuiltDataset, entry: DatasetEntry) -> Iterator[pa.RecordBatch]:
    for path in built.shards_of(entry):
        yield from shard_batches(path, _COLUMNS)


def _flags(table: pl.DataFrame) -> Ints:
    """What may be worth a look, as bits of `FLAGS`, of each record of `slim`."""
    positive, negative = (table[f"{side}_score"].to_numpy() for side in ("positive", "negative"))
    found = {
        "near": negative >= positive,  # false where one is NaN
        "copies": positive > NEAR_COPY,
        "repeated": ~table["query_hash"].is_first_distinct().to_numpy(),
        "others": (table["others"] > 0).to_numpy(),
    }
    bits = np.zeros(len(table), dtype=np.int64)
    for name, bit in FLAGS.items():
        bits |= bit * found[name].astype(np.int64)
    return bits


def _margins(table: pl.DataFrame) -> list[float]:
    margins = (table["positive_score"] - table["negative_score"]).fill_nan(UNSCORED)
    return margins.to_list()


def _combos(
    dataset: int,
    miners: pa.Array,
    flags: Ints,
    numbers: dict[tuple[int, str, int], int],
    counts: Counter[tuple[int, str, int]],
) -> list[int]:
    """The number of each record's combination; new ones get the next number."""
    keys = [(dataset, miner, flag) for miner, flag in zip(miners.to_pylist(), flags.tolist(), strict=True)]
    counts.update(keys)
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _insert(
    database: sqlite3.Connection, first: int, batch: pa.RecordBatch, combos: Sequence[int], margins: Sequence[float]
) -> None:
    """Some records, numbered from ``first`` on."""
    sides = (map(_storable, pc.list_element(batch[side], 1).to_pylist()) for side in ("query", "pos", "neg"))
    ids, numbers = batch["id"].to_pylist(), range(first, first + batch.num_rows)
    scores = (batch[name].to_pylist() for name in ("pos_score", "neg_score"))
    database.executemany(
        "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", zip(numbers, ids, *sides, *scores, strict=True)
    )
    keys = map(key_of, ids)
    database.executemany("INSERT INTO facts VALUES (?, ?, ?, ?)", zip(numbers, combos, margins, keys, strict=True))
    database.execute(
        "INSERT INTO texts (rowid, query, pos, neg) SELECT id, query, pos, neg FROM records WHERE id BETWEEN ? AND ?",
        (numbers[0], numbers[-1]),
    )


def _storable(text: str) -> str:
    """SQLite's functions on texts end at a NUL."""
    return text.replace("\0", "\u2400") if "\0" in text else text


def _about(built: BuiltDataset, key: tuple[int, str, int], count: int, found: dict[str, set[str]]) -> bytes:
    """A group as JSON."""
    place, miner, flags = key
    entry = built.manifest.datasets[place]
    own = {name for name, bit in FLAGS.items() if flags & bit}
    if "near" in own and entry.kind == "pairs":
        own = own - {"near"} | {"margin"}
    told = tuple(sorted(own | {one for one in found[entry.name] if one not in OF_RECORDS}))
    return orjson.dumps(asdict(Group(entry.name, entry.kind, miner, entry.licence, told, count)))
