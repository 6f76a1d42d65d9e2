"""Cards, templates and data as hostile hands write them: refused, or dropped with a reason, within bounds."""

import bz2
import gzip
import json
import lzma
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from medi_build.content import instructions
from medi_build.content.instructions import Phrasing, Template, render
from medi_build.content.yaml_files import MOST_BYTES, MOST_DEPTH, UnreadableYamlError, read_yaml
from medi_build.errors import ContentError, InputError
from medi_build.ingest import streams
from medi_build.ingest.json_rows import json_lines, json_rows
from medi_build.ledger import Ledger

LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
BAD_YAML = {
    "billion laughs": (LAUGHS, "more than 100,000 values, aliases counted"),
    "an alias of itself": ("a: &a [*a]", r"\*a stands inside what it stands for.*line 1"),
    "200,000 deep": ("[" * 200_000, f"deeper than {MOST_DEPTH} lists and mappings"),
    "deep and whole": ("{a: " * 60 + "1" + "}" * 60, f"deeper than {MOST_DEPTH}"),
    "an object": ("a: !!python/object/apply:os.mkdir [owned]", "could not determine a constructor for the tag"),
    "a class": ("a: !!python/name:os.system", "could not determine a constructor"),
    "too large": ("a: " + "x" * MOST_BYTES, "larger than 4,194,304 bytes"),
    "many keys": ("".join(f"k{n}: 1\n" for n in range(60_000)), "more than 100,000 values"),
    "a key twice": ("a: 1\nb: 2\na: 3\n", "key 'a' stands twice.*line 1"),
    "a number of 200,000 digits": ("a: " + "9" * 200_000, "not valid YAML: Exceeds the limit"),
    "a date that is none": ("a: 2024-99-99", "not valid YAML: month must be in"),
    "not UTF-8": (b"a: \xff\xfe", "not valid YAML: 'utf-8' codec"),
    "a list as a key": ("? [a]\n: 1", "not valid YAML.*unhashable"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_hostile_yaml_is_refused_before_it_becomes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    text, message = BAD_YAML[case]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "card.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UnreadableYamlError, match=message) as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 1000
    assert [one.name for one in tmp_path.iterdir()] == ["card.yaml"]


def test_anchors_and_merged_sizes_that_are_harmless_are_read(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text("a: &x [1, 2]\nb: *x\nc: {d: *x}\n? {}\n: 1\n".replace("? {}\n: 1\n", ""))
    assert read_yaml(tmp_path / "card.yaml") == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}


def one_template(source: str) -> Template:
    return Template(name="t", description="", fields={"a": None}, phrasings=(Phrasing(query=source),))


BAD_TEMPLATES = {
    "a loop": ("Represent {% for i in a %}x{% endfor %}", "For is not allowed"),
    "a call": ("Represent {{ a.format() }}", "Call is not allowed"),
    "a dunder": ("Represent {{ a.__class__ }}", "Getattr is not allowed"),
    "an item": ("Represent {{ a['__class__'] }}", "Getitem is not allowed"),
    "a filter that looks up": ("Represent {{ a|attr('__class__') }}", "filter 'attr'"),
    "a product": ("Represent {{ 'a' * 10000000000 }}", "Mul is not allowed"),
    "a power": ("Represent {{ 9 ** 9999999 }}", "Pow is not allowed"),
    "an include": ("{% include '/etc/passwd' %}", "Include is not allowed"),
    "a set": ("{% set a = 1 %}Represent", "Assign is not allowed"),
    "a global": ("Represent {{ cycler }}", "unknown field 'cycler'"),
    "900 brackets": ("Represent {{ " + "(" * 900 + "a" + ")" * 900 + " }}", "too many parts inside each other"),
    "400 nots": ("Represent {{ " + "not " * 400 + "a }}", "too many parts inside each other"),
    "too long": ("Represent " + "x" * 2000, "2010 characters; at most 2000"),
}


@pytest.mark.parametrize("case", BAD_TEMPLATES)
def test_a_hostile_template_is_refused_where_it_is_read(case: str) -> None:
    source, message = BAD_TEMPLATES[case]
    with pytest.raises(ValueError, match=message):
        one_template(source)


@pytest.mark.parametrize(
    ("source", "value", "message"),
    [
        ("Represent {{ a" + "|replace('a', 'aaaaaaaaaa')" * 30 + " }}", "a", "the filter replace makes has 100,000"),
        ("Represent {{ 'a'" + "|replace('a', 'aaaaaaaaaa')" * 30 + " }}", "a", "at most 20,000 are allowed"),
        ("Represent {{ a|replace('', a) }}", "a" * 200, "the filter replace makes has 40,"),
        ("Represent " + "{{ a }}" * 280, "a" * 19_000, "the instruction has"),
        ("Represent {{ a }}", "a" * 20_001, "field 'a' has 20,001 characters"),
        ("Represent {{ a|replace('t', 'tt', 99999999999999999999) }}", "t", "cannot be rendered"),
        ("Represent {{ a|title(1) }}", "t", "cannot be rendered"),
        ("{{ a }}", "{% for i in a %}", "starts with 'Represent '"),
    ],
)
def test_what_a_template_makes_is_bounded(source: str, value: str, message: str) -> None:
    with pytest.raises(ContentError, match=message):
        render(one_template(source), {"a": value}, {}, ";")


def test_replace_within_its_bound_is_that_of_jinja() -> None:
    (made,) = render(one_template("Represent {{ a|replace('b', 'cc')|replace('', '-') }}"), {"a": "abb"}, {}, ";")
    assert made.query == "Represent -a-c-c-c-c-;"
    assert "replace" in instructions.ALLOWED_FILTERS


# --- data

ROW = json.dumps(["a query", "its positive"])
BAD_LINES = {
    "deep": "[" * 200_000 + "]" * 200_000,
    "deep and open": '{"a": ' * 100_000,
    "a number of 10,000 digits": "[" + "9" * 10_000 + "]",
    "nothing but zeros": "\0" * 1000,
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_hostile_line_is_dropped_and_the_others_are_read(tmp_path: Path, case: str) -> None:
    path, ledger = tmp_path / "rows.jsonl", Ledger("toy")
    path.write_text(f"{ROW}\n{BAD_LINES[case]}\n{ROW}\n")
    rows = [value for _, value in json_lines(path, ledger)]
    assert rows.count(json.loads(ROW)) == 2
    assert ledger.read == 3
    assert len(rows) == 2 or case == "a number of 10,000 digits"


@pytest.mark.parametrize("case", ["deep", "deep and open", "a number of 10,000 digits"])
def test_a_hostile_element_of_an_array_is_one_error(tmp_path: Path, case: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(f"[\n{ROW},\n{BAD_LINES[case]},\n{ROW}\n]")
    with pytest.raises(InputError, match=r"rows\.json: element 1 is not JSON"):
        list(json_rows(path, Ledger("toy")))


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_a_bomb_in_place_of_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(streams, "FREE_BYTES", 1 << 20)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(pack(b" " * (1 << 25)))
    with pytest.raises(InputError, match=r"rows\.jsonl: .* more than 200 times its size"):
        list(json_lines(path, Ledger("toy")))
    path.write_bytes(pack(f"{ROW}\n".encode() * 5000))
    assert len(list(json_lines(path, Ledger("toy")))) == 5000


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST_LINE_BYTES", 1000)
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{ROW}\n{'x' * 5000}")
    with pytest.raises(InputError, match=r"rows\.jsonl:2: is longer than 1,000 bytes"):
        list(json_lines(path, Ledger("toy")))


@pytest.mark.slow
def test_a_real_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    """Four gigabytes of blanks on one line, in a process that may not have so much."""
    path = tmp_path / "rows.jsonl.gz"
    block = gzip.compress(b" " * (1 << 26), 9)
    path.write_bytes(block * 64)
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from medi_build.errors import InputError\n"
        "from medi_build.ingest.json_rows import json_lines\n"
        "from medi_build.ledger import Ledger\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({3 << 30}, {resource.RLIM_INFINITY}))\n"
        "try:\n"
        f"    list(json_lines(Path({str(path)!r}), Ledger('toy')))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "longer than" in done.stdout or "times its size" in done.stdout, done.stderr
