"""What the pages of records show, and what a mark changes."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import orjson
from datasette.app import Datasette
from datasette.database import Database, QueryInterrupted
from datasette.utils.asgi import NotFound, Request, Response

from medi_build.browse import find
from medi_build.browse.find import FACETS, PER_PAGE, Wanted, wanted
from medi_build.browse.guard import Guard
from medi_build.browse.marks_file import MarksFile, now
from medi_build.browse.neighbours import StoredQueries
from medi_build.browse.records_file import Group, key_of
from medi_build.dataset.explanations import VERDICTS, Candidate, explained, has_explanations
from medi_build.dataset.marks import RECORD, Mark
from medi_build.dataset.reader import BuiltDataset, DatasetEntry
from medi_build.dataset.report.samples import marked, visible
from medi_build.dataset.row_examples import record_at
from medi_build.dataset.schema import told_rank
from medi_build.dataset.sources import source_of
from medi_build.errors import DatasetError
from medi_build.files import text_digest

DATABASE = "records"
NEIGHBOURS = 8
LONGEST = 20_000
"""Characters of a text that are shown."""
KEPT_COUNTS = 64
"""Searches whose counts are kept."""
LONGEST_FORM = 100_000
FEW = 12
"""Values of a facet that are shown before one asks for more."""
WARNINGS = {
    "margin": "negative as near as the positive",
    "near": "negative as near (labels tell)",
    "copies": "positive copies the query",
    "repeated": "query repeated",
    "others": "possible false negatives in a batch",
    "length": "dataset: length tells",
    "lost": "dataset: most rows lost",
    "share": "dataset: large share of all",
    "overlap": "dataset: pairs of earlier ones",
    "small": "dataset: very small",
    "licence": "dataset: commercial use",
}
"""What the values of the facet ``warning`` are called."""


@dataclass(frozen=True)
class Source:
    """What is browsed.

    Attributes:
        name: as the user gave it.
        built: the build.
        groups: of its records, by number.
        marks: what people found wrong.
        guard: knows the token of forms.
        vectors: folder of the vector store.
    """

    name: str
    built: BuiltDataset
    groups: dict[int, Group]
    marks: MarksFile
    guard: Guard
    vectors: Path


class RecordPages:
    """The pages of records."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._counts: dict[str, dict[int, int]] = {}
        self._queries = StoredQueries(source.built, source.vectors)
        self._starts = [0]
        for entry in source.built.manifest.datasets:
            self._starts.append(self._starts[-1] + entry.rows)

    def routes(self) -> list[tuple[str, Any]]:
        """Paths, as regular expressions, and what answers them."""
        return [(r"^/$", self.search), (r"^/record/(?P<number>[0-9]{1,12})$", self.record), (r"^/mark$", self.mark)]

    async def search(self, request: Request, datasette: Datasette) -> Response:
        """The list of what was found, with its facets."""
        arguments = parse_qs(request.query_string, keep_blank_values=False)
        asked, database = wanted(arguments), datasette.get_database(DATABASE)
        if number := await self._number_of(database, asked.words.strip()):
            return Response.redirect(f"/record/{number}")
        try:
            page = await self._found(database, asked)
        except QueryInterrupted:
            page = {"late": True, "rows": [], "total": 0, "facets": {}, "pages": 1}
        with_mark = self._source.marks.marked()
        context = {
            **self._about(),
            **page,
            "asked": asked,
            "marked": with_mark,
            "few": FEW,
            "address": lambda **changed: _address(asked, **changed),
            "toggled": lambda facet, value: _toggled(asked, facet, value),
            "label": _label,
        }
        return Response.html(await datasette.render_template("list.html.j2", context, request))

    async def record(self, request: Request, datasette: Datasette) -> Response:
        """All that is known of one record."""
        number, database = int(request.url_vars["number"]), datasette.get_database(DATABASE)
        entry, place = self._place(number)
        record = record_at(self._source.built.shards_of(entry), place)
        marks = self._source.marks.of(record["id"])
        context = {
            **self._about(),
            "number": number,
            "last": self._starts[-1],
            "record": record,
            "entry": entry,
            "places": ", ".join(source_of(entry).places),
            "texts": {"query": _shown(record["query"][1]), "pos": _shown(record["pos"][1], record["neg"][1])},
            "negatives": _negatives(record, marks),
            "left_out": marks.get(RECORD),
            "ranking": self._ranking(entry, record["id"]),
            "verdicts": VERDICTS,
            **await self._neighbours(database, number, record["query"][1]),
            "form_token": self._source.guard.form_token,
            "saved": request.args.get("saved"),
        }
        return Response.html(await datasette.render_template("record.html.j2", context, request))

    async def mark(self, request: Request) -> Response:
        """Mark a negative or a record, or take a mark back."""
        if request.method != "POST":
            return Response.text("A mark is sent by the form of a record.", status=405)
        form = await _form(request)
        if not self._source.guard.knows_form(form.get("form_token", "")):
            return Response.text("This form is not of this run; open the record again.", status=403)
        number = form.get("number", "")
        if not (number.isascii() and number.isdecimal() and len(number) < 13):
            raise NotFound("no such record")
        entry, place = self._place(int(number))
        record = record_at(self._source.built.shards_of(entry), place)
        what = form.get("neg", "")
        if what != RECORD and what not in {text_digest(text) for text, *_ in _texts(record)}:
            return Response.text("The record has no such negative.", status=400)
        if form.get("action") == "remove":
            self._source.marks.remove(record["id"], what)
        else:
            query, pos = (text_digest(record[side][1]) for side in ("query", "pos"))
            reason = " ".join(form.get("reason", "").split())[:500]
            self._source.marks.add(Mark(record["id"], what, query, pos, reason=reason, time=now()))
        return Response.redirect(f"/record/{number}?saved=1#negatives", status=303)

    def _about(self) -> dict[str, Any]:
        source = self._source
        about: dict[str, Any] = {
            "visible": visible,
            "name": source.name,
            "rows_of_all": self._starts[-1],
            "datasets": len(source.built.manifest.datasets),
        }
        return {**about, "marks_path": str(source.marks.path), "marks_count": len(source.marks)}

    def _place(self, number: int) -> tuple[DatasetEntry, int]:
        """The dataset of a record, and its place there. Raises `NotFound`."""
        for start, entry in zip(self._starts, self._source.built.manifest.datasets, strict=False):
            if start < number <= start + entry.rows:
                return entry, number - start - 1
        raise NotFound("no such record")

    async def _number_of(self, database: Database, text: str) -> int | None:
        """The number of a record whose id was typed."""
        if "/" not in text or " " in text:
            return None
        sql = "SELECT r.id FROM facts f JOIN records r ON r.id = f.id WHERE f.key = :key AND r.record_id = :id"
        found = (await database.execute(sql, {"key": key_of(text), "id": text})).rows
        return int(found[0][0]) if found else None

    async def _found(self, database: Database, asked: Wanted) -> dict[str, Any]:
        """The records on a page, how many there are, and the facets."""
        groups, match = self._source.groups, find.match(asked.words, asked.side)
        counts = await self._group_counts(database, match)
        combos = find.chosen(groups, asked.facets)
        sql = find.page_sql(asked, matching=bool(match), every=len(combos) == len(groups))
        limits = {"limit": PER_PAGE, "offset": (asked.page - 1) * PER_PAGE}
        settled = {"match": match, "combos": orjson.dumps(combos).decode(), **limits}
        numbers = [row[0] for row in (await database.execute(sql, settled)).rows]
        total = sum(counts.get(combo, 0) for combo in combos)
        return {
            "late": False,
            "rows": await self._rows(database, numbers, match),
            "total": total,
            "facets": find.facet_counts(groups, counts, asked.facets),
            "pages": min(find.MOST_PAGES, max(1, math.ceil(total / PER_PAGE))),
        }

    async def _group_counts(self, database: Database, match: str) -> dict[int, int]:
        """How many records of each group match, whatever the facets; kept for the next page."""
        if not match:
            return {number: group.count for number, group in self._source.groups.items()}
        if match not in self._counts:
            found = {row[0]: row[1] for row in (await database.execute(find.COUNTS_SQL, {"match": match})).rows}
            while len(self._counts) >= KEPT_COUNTS:
                del self._counts[next(iter(self._counts))]
            self._counts[match] = found
        return self._counts[match]

    async def _rows(self, database: Database, numbers: Sequence[int], match: str) -> list[dict[str, Any]]:
        """What a list shows of some records, in their order."""
        rows = (await database.execute(find.ROWS_SQL, {"ids": orjson.dumps(list(numbers)).decode()})).rows
        by_number = {row[0]: row for row in rows}
        told = []
        for number in numbers:
            _, record_id, *texts, positive, negative, combo = by_number[number]
            if match:
                found = (await database.execute(find.FOUND_SQL, {"match": match, "id": number})).rows
                texts = list(found[0][1:]) if found else texts
            told.append(
                {
                    "number": number,
                    "id": record_id,
                    "group": self._source.groups[combo],
                    "scores": (positive, negative),
                    "texts": [_pieces(text) for text in texts],
                }
            )
        return told

    def _ranking(self, entry: DatasetEntry, record_id: str) -> "list[Candidate] | str":
        """What was looked at for a record, or why that is not known."""
        if not has_explanations(self._source.built, entry):
            return "Not written down: build again with --explain."
        try:
            return explained(self._source.built, entry, record_id) or "The explanations do not tell of this record."
        except DatasetError as error:
            return str(error)

    async def _neighbours(self, database: Database, number: int, query: str) -> dict[str, Any]:
        """Records of the nearest queries: by stored vectors if they are at hand, else by words."""
        entry, place = self._place(number)
        nearest = await asyncio.to_thread(self._queries.nearest, entry, place, NEIGHBOURS)
        if nearest is None:
            return {"by_vectors": False, "neighbours": await self._by_words(database, number, query)}
        first = number - place
        rows = await self._rows(database, [first + one for one, _ in nearest], "")
        return {
            "by_vectors": True,
            "neighbours": [{**row, "cosine": cosine} for row, (_, cosine) in zip(rows, nearest, strict=True)],
        }

    async def _by_words(self, database: Database, number: int, query: str) -> list[dict[str, Any]]:
        """Records whose queries have the same rare words, the nearest by BM25 first."""
        words = orjson.dumps(find.terms(query)).decode()
        try:
            frequency = {row[0]: row[1] for row in (await database.execute(find.FREQUENCY_SQL, {"terms": words})).rows}
            match = find.near_match(frequency)
            if not match:
                return []
            asked = {"match": match, "id": number, "limit": NEIGHBOURS}
            numbers = [row[0] for row in (await database.execute(find.NEAR_SQL, asked)).rows]
        except QueryInterrupted:
            return []
        return await self._rows(database, numbers, "")


def _negatives(record: dict[str, Any], marks: dict[str, Mark]) -> list[dict[str, Any]]:
    """All negatives of a record, with their marks."""
    told = []
    for text, score, rank in _texts(record):
        digest = text_digest(text)
        about = {"digest": digest, "mark": marks.get(digest), "score": score, "rank": told_rank(rank)}
        told.append({"text": _shown(text, record["pos"][1]), **about})
    return told


def _texts(record: dict[str, Any]) -> list[tuple[str, float, int]]:
    """Negatives of a record with score and rank, the published one first."""
    further = zip(record["hard_negatives"], record["hard_negative_scores"], record["hard_negative_ranks"], strict=True)
    return [(record["neg"][1], record["neg_score"], record["neg_rank"]), *further]


def _shown(text: str, other: str | None = None) -> dict[str, Any]:
    """A text fit to be shown: what cannot be seen by its number, not without an end, what ``other`` lacks marked."""
    cut = visible(text[:LONGEST])
    told = marked(cut, other[:LONGEST]) if other is not None else [(cut, False)]
    return {"pieces": told, "more": max(0, len(text) - LONGEST)}


def _pieces(text: str) -> list[tuple[str, bool]]:
    return [(visible(piece), found) for piece, found in find.pieces(" ".join(text[:2000].split()))]


def _label(facet: str, value: str) -> str:
    """What a value of a facet is called."""
    return visible(WARNINGS.get(value, value)) if facet == "warning" else visible(value)


def _address(asked: Wanted, **changed: Any) -> str:
    """The address of a search that differs from this one."""
    values = {"q": asked.words, "side": asked.side, "sort": asked.sort, "page": asked.page, **changed}
    usual = {"q": "", "side": "", "sort": "built", "page": 1}
    facets = values.pop("facets", asked.facets)
    pairs = [(name, str(value)) for name, value in values.items() if value != usual[name]]
    pairs += [(facet, value) for facet in FACETS for value in sorted(facets.get(facet, ()))]
    return "/?" + urlencode(pairs) if pairs else "/"


def _toggled(asked: Wanted, facet: str, value: str) -> str:
    """The address of the search with a value of a facet put in, or taken out."""
    own = asked.facets.get(facet, frozenset()) ^ {value}
    return _address(asked, facets={**asked.facets, facet: own}, page=1)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form, the last of each name."""
    body = await request.post_body()
    if len(body) > LONGEST_FORM:
        return {}
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}
