"""From what a user typed and ticked to SQL, and from counts of groups to facets."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from medi_build.browse.records_file import Group

FACETS = ("dataset", "kind", "miner", "licence", "warning")
SIDES = ("query", "pos", "neg")
PER_PAGE = 20
MOST_PAGES = 500
LONGEST_SEARCH = 500
"""Characters of a search that are looked at."""
NEAR_WORDS = 8
"""Words of a query, the rarest, by which its neighbours are found."""
NEAR_AT_MOST = 60_000
"""Places of words that are looked at for that."""
OPEN, CLOSE = "\u2402", "\u2403"
"""Stand around words that were found, for `pieces`; texts that hold them are shown a little wrong, and no worse."""
_PART = re.compile(r'"([^"]*)"|(\S+)')
_WORD = re.compile(r"\w+")

Sort = Literal["built", "margin"]


@dataclass(frozen=True)
class Wanted:
    """What is searched for.

    Attributes:
        words: as typed.
        side: of `SIDES`, or empty for all.
        facets: facet to values, of which a record has one.
        sort: in the order of the build, or the smallest margin between positive and negative first.
        page: from 1.
    """

    words: str = ""
    side: str = ""
    facets: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sort: Sort = "built"
    page: int = 1


def wanted(arguments: Mapping[str, Sequence[str]]) -> Wanted:
    """What the arguments of an address ask for; whatever they hold, this is something to search for."""

    def first(name: str) -> str:
        return next(iter(arguments.get(name, ())), "")

    page = first("page")
    return Wanted(
        words=first("q")[:LONGEST_SEARCH],
        side=first("side") if first("side") in SIDES else "",
        facets={name: frozenset(arguments[name]) for name in FACETS if arguments.get(name)},
        sort="margin" if first("sort") == "margin" else "built",
        page=min(max(int(page), 1), MOST_PAGES) if page.isascii() and page.isdecimal() and len(page) < 9 else 1,
    )


def match(words: str, side: str) -> str:
    """An FTS5 expression: all the words, those in quotes as a phrase, the beginning of one before ``*``.

    Empty where there is no word in it. Nothing of what was typed is an operator.
    """
    parts = []
    for phrase, word in _PART.findall(words.replace("\0", " ")):
        text = phrase or word
        if _WORD.search(text):
            quoted = '"' + text.rstrip("*").replace('"', " ") + '"'
            parts.append(quoted + "*" if text.endswith("*") and not phrase else quoted)
    if not parts:
        return ""
    return f"{{{side}}} : ({' '.join(parts)})" if side else " ".join(parts)


def values_of(group: Group, facet: str) -> tuple[str, ...]:
    """The values that a group's records have of a facet."""
    return group.warnings if facet == "warning" else (getattr(group, facet),)


def chosen(groups: Mapping[int, Group], facets: Mapping[str, Iterable[str]], but: str = "") -> list[int]:
    """The groups that have one of the values of each facet, that facet aside."""
    asked = {facet: set(values) for facet, values in facets.items() if facet != but}
    return [
        number
        for number, group in groups.items()
        if all(values & set(values_of(group, facet)) for facet, values in asked.items())
    ]


def facet_counts(
    groups: Mapping[int, Group], counts: Mapping[int, int], facets: Mapping[str, Iterable[str]]
) -> dict[str, list[tuple[str, int]]]:
    """For each facet its values with how many records they would give, most first; chosen ones are always there.

    Args:
        groups: all groups.
        counts: how many records of each were found, whatever the facets.
        facets: what is chosen; a facet's own choice does not count for its values.
    """
    told = {}
    for facet in FACETS:
        found = Counter(dict.fromkeys(facets.get(facet, ()), 0))
        for number in chosen(groups, facets, but=facet):
            for value in values_of(groups[number], facet):
                found[value] += counts.get(number, 0)
        own = set(facets.get(facet, ()))
        shown = [(value, count) for value, count in found.items() if count or value in own]
        told[facet] = sorted(shown, key=lambda one: (-one[1], one[0]))
    return told


def page_sql(asked: Wanted, *, matching: bool, every: bool) -> str:
    """The numbers of the records on a page: ``:match``, ``:combos`` (a JSON list), ``:limit``, ``:offset``.

    Args:
        asked: the search.
        matching: there are words.
        every: all groups are asked for.
    """
    where = [*["texts MATCH :match"] * matching, *["f.combo IN (SELECT value FROM json_each(:combos))"] * (not every)]
    origin = "texts JOIN facts f ON f.id = texts.rowid" if matching else "facts f"
    order = "f.margin, f.id" if asked.sort == "margin" else ("texts.rowid" if matching else "f.id")
    condition = f"WHERE {' AND '.join(where)} " if where else ""
    return f"SELECT f.id FROM {origin} {condition}ORDER BY {order} LIMIT :limit OFFSET :offset"


COUNTS_SQL = (
    "SELECT f.combo, count(*) FROM texts JOIN facts f ON f.id = texts.rowid WHERE texts MATCH :match GROUP BY f.combo"
)
ROWS_SQL = """
SELECT r.id, r.record_id, substr(r.query, 1, 400), substr(r.pos, 1, 400), substr(r.neg, 1, 400), r.pos_score,
       r.neg_score, f.combo
FROM records r JOIN facts f ON f.id = r.id WHERE r.id IN (SELECT value FROM json_each(:ids))
"""
FOUND_SQL = f"""
SELECT rowid, snippet(texts, 0, '{OPEN}', '{CLOSE}', '…', 40), snippet(texts, 1, '{OPEN}', '{CLOSE}', '…', 40),
       snippet(texts, 2, '{OPEN}', '{CLOSE}', '…', 40)
FROM texts WHERE texts MATCH :match AND rowid = :id
"""
NEAR_SQL = "SELECT rowid FROM texts WHERE texts MATCH :match AND rowid != :id ORDER BY rank LIMIT :limit"
FREQUENCY_SQL = "SELECT term, doc FROM words WHERE term IN (SELECT value FROM json_each(:terms)) AND col = 'query'"


def terms(text: str) -> list[str]:
    """The words of a text as the index has them, each once."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", text[:4000]) if not unicodedata.combining(one))
    return list(dict.fromkeys(_WORD.findall(plain.lower().replace("_", " "))))


def near_match(frequency: Mapping[str, int]) -> str:
    """An expression for queries that share a rare word of these; empty where none is both rare and shared."""
    shared = sorted((count, word) for word, count in frequency.items() if count > 1)
    taken: list[str] = []
    places = 0
    for count, word in shared[:NEAR_WORDS]:
        places += count
        if places > NEAR_AT_MOST:
            break
        taken.append(f'"{word}"')
    return f"{{query}} : ({' OR '.join(taken)})" if taken else ""


def pieces(text: str) -> list[tuple[str, bool]]:
    """A text of `FOUND_SQL` as pieces, and whether each was found."""
    told = []
    for number, part in enumerate(re.split(f"[{OPEN}{CLOSE}]", text)):
        if part:
            told.append((part, number % 2 == 1))
    return told
