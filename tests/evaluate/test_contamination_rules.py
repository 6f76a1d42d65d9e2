"""The rules by which texts match, each beside a slow version that is easy to read."""

import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.evaluate.contamination import match
from medi_build.evaluate.contamination.compare import covered, likeness, shared
from medi_build.evaluate.contamination.index import Entry, SetBatch, open_index, write_index
from medi_build.evaluate.contamination.minhash import BANDS, ROWS, bands, signatures
from medi_build.evaluate.contamination.packed import pack, packed_map
from medi_build.evaluate.contamination.prints import RUN, SEED, prints_of, seeds_of
from medi_build.evaluate.contamination.seen import SeenHashes
from medi_build.evaluate.contamination.words import Runs, normal_forms, runs_of, take, words_of

UNSPACED = ("CJK UNIFIED", "HIRAGANA", "KATAKANA", "THAI")
LETTERS = "aAbBß éÉİΣςﬁＡ１7 .,-'’\"!\t\n\u3000\u200b+$=中文テスト่ทไ😀"
texts_of = st.lists(st.text(LETTERS, max_size=40), max_size=12)


def is_unspaced(letter: str) -> bool:
    """Whether it is a letter of a script without spaces between words."""
    return unicodedata.name(letter, "").startswith(UNSPACED) and unicodedata.category(letter)[0] != "M"


def slow_words(text: str) -> list[str]:
    """Words of a text, one letter after another."""
    words: list[str] = [""]
    for letter in unicodedata.normalize("NFKC", text):
        category = unicodedata.category(letter)[0]
        if category in "PZC":
            words.append("")
        elif is_unspaced(letter) or (words[-1] and is_unspaced(words[-1][0]) and category != "M"):
            words.append(letter)
        else:
            words[-1] += letter
    return [word for word in " ".join(words).lower().replace("ς", "σ").split() if word]


@settings(max_examples=300, deadline=None)
@given(texts_of)
def test_words_are_those_of_the_slow_rule(texts: list[str]) -> None:
    normal = normal_forms(pa.array(texts, pa.large_string()))
    assert normal.to_list() == [" ".join(slow_words(text)) for text in texts]
    words = words_of(normal)
    assert words.counts.tolist() == [len(slow_words(text)) for text in texts]
    known: dict[str, int] = {}
    for word, value in zip([w for t in texts for w in slow_words(t)], words.hashes.tolist(), strict=True):
        assert known.setdefault(word, value) == value
    assert len(set(known.values())) == len(known)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Well-known FACTS, don't they?", "wellknown facts dont they"),
        ("ﬁne １２ Ａ", "fine 12 a"),
        ("  spaced\tout\n", "spaced out"),
        ("今天 天气，很好。", "今天天气很好"),
        ("ÉCOLE", "école"),
    ],
)
def test_what_is_the_same_text(one: str, other: str) -> None:
    joined = prints_of(pa.array([one, other], pa.large_string())).joined
    assert joined[0] == joined[1]


@pytest.mark.parametrize(("one", "other"), [("C++", "C"), ("3 + 4", "3 = 4"), ("école", "ecole"), ("$5", "5")])
def test_symbols_and_accents_count(one: str, other: str) -> None:
    joined = prints_of(pa.array([one, other], pa.large_string())).joined
    assert joined[0] != joined[1]


def words(lists: list[list[int]]) -> Runs:
    """Texts given as numbers for words."""
    values = [(value + 1) * 0x9E3779B97F4A7C15 % 2**64 for one in lists for value in one]
    return Runs(np.array(values, np.uint64), np.r_[0, np.cumsum([len(one) for one in lists])].astype(np.int64))


numbers = st.lists(st.lists(st.integers(0, 3), max_size=40), max_size=8)


def slow_runs(one: list[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(one[at : at + size]) for at in range(len(one) - size + 1)]


@settings(max_examples=200, deadline=None)
@given(numbers, st.integers(1, 14))
def test_runs_have_equal_hashes_where_their_words_are_equal(lists: list[list[int]], size: int) -> None:
    runs = runs_of(words(lists), size)
    assert runs.counts.tolist() == [max(len(one) - size + 1, 0) for one in lists]
    told = dict(zip([run for one in lists for run in slow_runs(one, size)], runs.hashes.tolist(), strict=True))
    assert len(set(told.values())) == len(told)
    for one, start, end in zip(lists, runs.starts, runs.starts[1:], strict=False):
        assert [told[run] for run in slow_runs(one, size)] == runs.hashes[start:end].tolist()
    order = np.arange(len(lists))[::-1]
    back = take(runs, order)
    assert back.counts.tolist() == runs.counts[::-1].tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=RUN, max_size=60), st.data())
def test_texts_that_share_a_run_share_a_seed(one: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(one) - RUN))
    other = [*data.draw(st.lists(st.integers(0, 50), max_size=20)), *one[at : at + RUN], 51, 52]
    seeds = seeds_of(words([one, other]))
    assert set(seeds.hashes[: seeds.starts[1]]) & set(seeds.hashes[seeds.starts[1] :])
    short = runs_of(words([one]), SEED).hashes.tolist()
    least = [min(short[place : place + RUN - SEED + 1]) for place in range(len(one) - RUN + 1)]
    assert seeds.hashes[: seeds.starts[1]].tolist() == [least[0], *(b for a, b in pairwise(least) if a != b)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*(st.lists(st.integers(0, 9), min_size=1, max_size=30),) * 2), min_size=1, max_size=6))
def test_likeness_and_cover_are_those_of_sets_and_loops(pairs: list[tuple[list[int], list[int]]]) -> None:
    left, right = (words([pair[side] for pair in pairs]) for side in (0, 1))
    told = likeness(left, right)
    assert told.tolist() == [len({*a} & {*b}) / len({*a} | {*b}) for a, b in pairs]
    ours, theirs = runs_of(left, 3), runs_of(right, 3)
    inside = covered(left, ours, shared(theirs, ours), 3)
    for (a, b), count in zip(pairs, inside.tolist(), strict=True):
        common = {*slow_runs(a, 3)} & {*slow_runs(b, 3)}
        marked = {at + ahead for at, run in enumerate(slow_runs(a, 3)) if run in common for ahead in range(3)}
        assert count == len(marked)


def test_signatures_estimate_the_likeness_and_bands_meet_as_they_should() -> None:
    draw, size, texts = np.random.default_rng(5), 40, 1500
    for both in (20, 33):
        hashes = draw.integers(0, 1 << 63, (texts, 2, size), dtype=np.uint64)
        hashes[:, 1, :both] = hashes[:, 0, :both]
        found = signatures(Runs(hashes.reshape(-1), np.arange(0, 2 * texts * size + 1, size)))
        like = both / (2 * size - both)
        equal = (found[::2] == found[1::2]).mean()
        assert abs(equal - like) < 0.01
        keys = bands(found)
        met = (keys[::2] == keys[1::2]).any(axis=1).mean()
        assert abs(met - (1 - (1 - like**ROWS) ** BANDS)) < 0.03


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=60), st.integers(1, 4))
def test_a_packed_map_is_a_dictionary(pairs: list[tuple[int, int]], most: int) -> None:
    hashes = np.array([one * 0x9E3779B97F4A7C15 % 2**64 for one, _ in pairs], np.uint64)
    entries = np.array([entry for _, entry in pairs], np.int64)
    made = packed_map(pack(hashes, entries, 3), 3)
    asked = np.array([one * 0x9E3779B97F4A7C15 % 2**64 for one in range(40)], np.uint64)
    hits = made.hits(asked, most)
    want = [(n, e) for n in range(40) for e in sorted(e for one, e in pairs if one == n)[:most]]
    assert list(zip(hits.probes.tolist(), hits.entries.tolist(), strict=True)) == want
    assert made.counts(asked).tolist() == [sum(one == n for one, _ in pairs) for n in range(40)]


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=20))
def test_seen_hashes_are_a_set(batches: list[list[int]]) -> None:
    seen, known = SeenHashes(), set()
    for batch in batches:
        new = seen.add(np.array(batch, np.uint64))
        want = [at for at, value in enumerate(batch) if value not in known and value not in batch[:at]]
        known |= {*batch}
        assert new.tolist() == want


# --- whole texts, all pairs

VOCABULARY = [f"word{number}" for number in range(60)]


def slow_kind(one: list[str], other: list[str]) -> tuple[str | None, float]:
    """The kind of a pair, and for near copies how alike they are."""
    if "".join(one) == "".join(other):
        return "exact", 1.0
    pairs = [{*pairwise(side)} for side in (one, other)]
    like = len(pairs[0] & pairs[1]) / max(len(pairs[0] | pairs[1]), 1)
    same = len({*one} & {*other}) / max(len({*one} | {*other}), 1)
    if min(len(one), len(other)) >= 8 and like >= 0.7 and same >= 0.9:
        return "near", like
    runs = [{tuple(side[at : at + 13]) for at in range(len(side) - 12)} for side in (one, other)]
    common, best, most = runs[0] & runs[1], 0.0, 0
    for side in (one, other):
        inside = {
            at + ahead for at in range(len(side) - 12) if tuple(side[at : at + 13]) in common for ahead in range(13)
        }
        best, most = max(best, len(inside) / len(side)), max(most, len(inside))
    return ("overlap", best) if common and (best >= 0.5 or most >= 50) else (None, 0.0)


@st.composite
def related(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """A text, and one made of it by cutting, moving and changing parts."""
    one = draw(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=120))
    start = draw(st.integers(0, len(one) - 1))
    end = draw(st.integers(start + 1, len(one)))
    other = one[start:end]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(other)))
        other = other[at:] + other[:at]
    for _ in range(draw(st.integers(0, 2))):
        other[draw(st.integers(0, len(other) - 1))] = draw(st.sampled_from(VOCABULARY))
    around = draw(st.lists(st.sampled_from(VOCABULARY), max_size=60))
    return one, (around + other if draw(st.booleans()) else other)


@settings(max_examples=60, deadline=None)
@given(st.lists(related(), min_size=1, max_size=6))
def test_matches_are_those_of_all_pairs_compared_slowly(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[list[str], list[str]]]
) -> None:
    folder = tmp_path_factory.mktemp("index")
    write_index((SetBatch(n, [Entry("t", "0", " ".join(one))]) for n, (one, _) in enumerate(pairs)), folder)
    index = open_index(folder)
    column = pa.array(list(dict.fromkeys(" ".join(other) for _, other in pairs)), pa.large_string())
    found = match.find_matches(index, column)
    told = {
        (int(text), int(index.sets[entry])): (match.KINDS[kind], similarity)
        for text, entry, kind, similarity in zip(*found, strict=True)
    }
    for text, other in enumerate(column.to_pylist()):
        for number, (one, _) in enumerate(pairs):
            kind, similarity = slow_kind(other.split(), one)
            got = told.get((text, number), (None, 0.0))
            if kind == "near" and similarity < 0.95 and got[0] != "near":
                continue  # found with probability only
            assert got == (kind, pytest.approx(similarity)), (other, one)


def test_boilerplate_does_not_count(tmp_path: Path) -> None:
    common = "the following notice is part of every single page of this large collection of pages"
    pages = [f"{common} number{n} {' '.join(VOCABULARY[n : n + 5])}" for n in range(match.MOST_TEXTS + 5)]
    write_index([SetBatch(0, [Entry("t", str(n), page) for n, page in enumerate(pages)])], tmp_path / "many")
    write_index([SetBatch(0, [Entry("t", "0", pages[0])])], tmp_path / "one")
    text = pa.array([f"{common} and then nothing else of interest"], pa.large_string())
    assert len(match.find_matches(open_index(tmp_path / "one"), text).texts) == 1
    assert len(match.find_matches(open_index(tmp_path / "many"), text).texts) == 0


def test_a_library_finds_the_same_near_copies(tmp_path_factory: pytest.TempPathFactory) -> None:
    datasketch = pytest.importorskip("datasketch")
    draw = np.random.default_rng(3)
    base = [" ".join(draw.choice(VOCABULARY, 40)) for _ in range(60)]
    copies = [
        " ".join([*one.split()[:20], *one.split()[20:][::-1]]) if n % 2 else f"{one} more" for n, one in enumerate(base)
    ]
    lsh = datasketch.MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    sketches = []
    for one in base + copies:
        sketch = datasketch.MinHash(num_perm=BANDS * ROWS)
        sketch.update_batch([" ".join(pair).encode() for pair in pairwise(one.split())])
        sketches.append(sketch)
    for number, sketch in enumerate(sketches[:60]):
        lsh.insert(number, sketch)
    folder = tmp_path_factory.mktemp("index")
    write_index([SetBatch(0, [Entry("t", str(n), one) for n, one in enumerate(base)])], folder)
    found = match.find_matches(open_index(folder), pa.array(copies, pa.large_string()))
    near = {int(t): int(e) for t, e, kind, _ in zip(*found, strict=True) if match.KINDS[kind] == "near"}
    theirs = {}
    for number, sketch in enumerate(sketches[60:]):
        for other in lsh.query(sketch):
            if slow_kind(copies[number].split(), base[other].split())[0] == "near":
                theirs[number] = other
    assert near == theirs and len(near) >= 30


def test_nothing_is_found_in_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("index")
    write_index([SetBatch(0, [Entry("t", "0", "some evaluation text")])], folder)
    index = open_index(folder)
    for column in ([], [""], ["... !"], ["", "unrelated"]):
        assert len(match.find_matches(index, pa.array(column, pa.large_string())).texts) == 0
    assert isinstance(prints_of(pa.array([], pa.large_string())).joined, pl.Series)
