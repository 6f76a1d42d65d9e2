"""The pages: what they show, who may ask, and what a mark changes."""

import html
from pathlib import Path

import pytest

from medi_build.browse.marks_file import MarksFile
from medi_build.browse.records_file import groups, records_file
from medi_build.dataset.marks import RECORD, Mark, read_marks, write_marks
from medi_build.dataset.reader import BuiltDataset
from medi_build.errors import InputError, OutputError
from medi_build.files import text_digest
from tests.browse.conftest import HOSTILE, PORT, Asking, records

PLAIN = len(HOSTILE)
"""Records before the first plain one."""


def test_a_search_finds_and_marks_words(ask: Asking) -> None:
    page = ask("/?q=number+7").text
    assert "1 record with" in page and "<mark>number</mark> <mark>7</mark> query" in page
    assert "40 records" in ask("/?q=plain&side=neg").text
    assert "0 records" in ask("/?q=plain+pos&side=neg").text


def test_facets_narrow_down_and_tell_counts(ask: Asking) -> None:
    assert "49 records" in ask("/").text
    page = ask("/?dataset=toy%2F2&warning=margin").text
    assert "20 records" in page and 'href="/?warning=margin"' in page, "a chosen value is taken back by its link"
    assert "negative as near as the positive" in page
    assert "8 records" in ask("/?dataset=toy%2F2&miner=given&q=plain").text
    assert "0 records" in ask("/?dataset=none").text


def test_the_smallest_margin_comes_first(ask: Asking) -> None:
    page = ask("/?sort=margin").text
    assert page.index("toy/2/1<") < page.index("toy/2/3<") < page.index("toy/2/5<")


def test_pages_go_on(ask: Asking) -> None:
    second = ask("/?dataset=toy%2F2&page=2").text
    assert "page 2 of 2" in second and "toy/2/20<" in second and "toy/2/19<" not in second
    assert 'href="/?dataset=toy%2F2"' in second and "page=3" not in second


def test_an_id_leads_to_its_record(ask: Asking) -> None:
    answer = ask("/?q=toy/2/3")
    assert (answer.status, answer.headers["location"]) == (302, f"/record/{PLAIN + 4}")
    assert ask("/?q=toy/2/none").status == 200


@pytest.mark.parametrize("number", range(1, len(HOSTILE) + 1))
def test_hostile_texts_are_text(ask: Asking, number: int) -> None:
    for page in (ask(f"/record/{number}"), ask("/?dataset=toy%2F1")):
        assert page.status == 200
        assert "<script>document" not in page.text and "<img" not in page.text and "<h1>out" not in page.text
        assert "\u202e" not in page.text and "\u0007" not in page.text and "<b>1</b>" not in page.text
        assert "w" * 30_000 not in page.text
    text = HOSTILE[number - 1]
    if len(text) < 1000 and text.isprintable():
        shown = html.unescape(ask(f"/record/{number}").text.replace("<mark>", "").replace("</mark>", ""))
        assert text in shown
    assert "⟨U+202E⟩gnihtemos ⟨U+0007⟩" in ask("/record/5").text
    assert "characters more" in ask("/record/6").text


def test_a_record_tells_its_source_and_its_neighbours(ask: Asking) -> None:
    page = ask(f"/record/{PLAIN + 8}").text
    assert "&lt;b&gt;2&lt;/b&gt;.jsonl" in page and "row 8" in page and "CC0-1.0" in page
    assert "build again with --explain" in page
    assert page.count('class="open"') >= 3, "queries that share `number`"
    assert "score 0.10, rank 4" in page and "plain number 7 further" in page.replace("<mark>", "").replace(
        "</mark>", ""
    )


@pytest.mark.parametrize("path", ["/record/0", "/record/50", "/record/999999999999"])
def test_a_record_that_is_not_there_is_not_found(ask: Asking, path: str) -> None:
    assert ask(path).status == 404


@pytest.mark.parametrize(
    "path", ["/records", "/records/texts", "/-/versions.json", "/records.json?sql=select+1", "/-/databases"]
)
def test_nothing_else_of_datasette_is_there(ask: Asking, path: str) -> None:
    assert ask(path).status == 404


# --- who may ask ------------------------------------------------------------------------------------------------------


def test_the_first_address_gives_the_cookie_without_which_nothing_is_told(ask: Asking) -> None:
    assert ask("/", cookie=False).status == 403
    assert ask("/?token=wrong", cookie=False).status == 403
    first = ask(f"/?token={ask.guard.token}", cookie=False)
    assert first.status == 303 and first.headers["location"] == "/"
    assert "HttpOnly; SameSite=Strict" in first.headers["set-cookie"]
    assert ask("/", cookie=False, headers={"cookie": first.headers["set-cookie"].split(";")[0]}).status == 200
    for odd in ("medi-browse-8475=", "a=b; =; medi-browse-8475=é", "\x01"):
        assert ask("/", cookie=False, headers={"cookie": odd}).status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", f"[::1]:{PORT}", ""]
)
def test_another_host_is_refused(ask: Asking, host: str) -> None:
    assert ask("/", headers={"host": host}).status == 403
    assert ask(f"/?token={ask.guard.token}", headers={"host": host}, cookie=False).status == 403


def test_localhost_is_this_server_too(ask: Asking) -> None:
    assert ask("/", headers={"host": f"localhost:{PORT}"}).status == 200


def test_pages_forbid_scripts_of_others(ask: Asking) -> None:
    for path in ("/", "/record/1", "/style.css", "/none"):
        policy = ask(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy


# --- marks ------------------------------------------------------------------------------------------------------------


def form(ask: Asking, number: int, neg: str, **changes: str) -> dict[str, str]:
    return {"form_token": ask.guard.form_token, "number": str(number), "neg": neg, "action": "add", **changes}


def test_a_mark_is_saved_with_what_it_needs_and_taken_back(ask: Asking) -> None:
    record = records()[PLAIN + 3]
    digest = text_digest(record["neg"][1])
    done = ask("/mark", "POST", form(ask, PLAIN + 4, digest, reason="  true\nas well "))
    assert (done.status, done.headers["location"]) == (303, f"/record/{PLAIN + 4}?saved=1#negatives")
    (saved,) = read_marks(ask.marks.path)
    assert (saved.id, saved.neg, saved.reason) == (record["id"], digest, "true as well")
    assert saved.query == text_digest(record["query"][1]) and saved.pos == text_digest(record["pos"][1]) and saved.time
    page = ask(f"/record/{PLAIN + 4}").text
    assert "Marked as wrong" in page and "true as well" in page and ">marked<" in ask("/?q=number+3").text
    ask("/mark", "POST", form(ask, PLAIN + 4, text_digest("plain number 3 further")))
    ask("/mark", "POST", form(ask, PLAIN + 4, RECORD))
    ask("/mark", "POST", form(ask, PLAIN + 4, digest, action="remove"))
    assert [one.neg for one in read_marks(ask.marks.path)] == [text_digest("plain number 3 further"), RECORD]


@pytest.mark.parametrize(
    ("changes", "headers", "status"),
    [
        ({"form_token": ""}, {}, 403),
        ({"form_token": "0" * 64}, {}, 403),
        ({"form_token": "é"}, {}, 403),
        ({}, {"origin": "http://evil.example"}, 403),
        ({}, {"origin": "null"}, 403),
        ({}, {"host": "evil.example"}, 403),
        ({}, {"cookie": ""}, 403),
        ({"neg": text_digest("another text")}, {}, 400),
        ({"neg": ""}, {}, 400),
        ({"number": "999"}, {}, 404),
        ({"number": "1 OR 1"}, {}, 404),
        ({"reason": "x" * 200_000}, {}, 403),
    ],
)
def test_what_did_not_come_from_our_form_changes_nothing(
    ask: Asking, changes: dict[str, str], headers: dict[str, str], status: int
) -> None:
    given = form(ask, PLAIN + 4, RECORD) | changes
    assert ask("/mark", "POST", given, headers=headers).status == status
    assert not ask.marks.path.exists()


def test_a_mark_is_no_link(ask: Asking) -> None:
    assert ask(f"/mark?number=1&neg=record&form_token={ask.guard.form_token}").status == 405
    assert not ask.marks.path.exists()


def test_a_file_that_cannot_be_written_is_told(ask: Asking) -> None:
    ask.marks.path.mkdir()
    answer = ask("/mark", "POST", form(ask, 1, RECORD))
    assert answer.status == 500 and "cannot be" in answer.text


def test_what_others_write_into_the_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "marks.jsonl"
    first, second = MarksFile(path), MarksFile(path)
    first.add(Mark("a/1", RECORD))
    second.add(Mark("a/2", RECORD))
    first.add(Mark("a/3", RECORD))
    assert [one.id for one in read_marks(path)] == ["a/1", "a/2", "a/3"]
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError):
        first.add(Mark("a/4", RECORD))
    assert path.read_text(encoding="utf-8") == "{", "what is not understood is not overwritten"


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_is_made_once_and_old_ones_go(built: BuiltDataset, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    path = records_file(built, tmp_path, lambda *one: told.append(one))
    made = path.stat().st_ino
    assert told[-1][1] == built.manifest.rows
    for number in range(5):
        (path.parent / f"old{number}.sqlite").touch()
    (path.parent / f".gone.sqlite.{2**22 + 1}.tmp").touch()
    told.clear()
    assert records_file(built, tmp_path, lambda *one: told.append(one)) == path
    assert not told and path.stat().st_ino == made
    assert len(list(path.parent.iterdir())) == 3


def test_groups_hold_every_record_once(file: Path, built: BuiltDataset) -> None:
    found = groups(file)
    assert sum(one.count for one in found.values()) == built.manifest.rows
    of_second = [one for one in found.values() if one.dataset == "toy/2"]
    assert sum(one.count for one in of_second if "margin" in one.warnings) == 20
    assert all("small" in one.warnings for one in found.values() if one.dataset == "toy/1")


def test_a_cache_that_cannot_be_written_is_one_clear_error(built: BuiltDataset, tmp_path: Path) -> None:
    (tmp_path / "browse").touch()
    with pytest.raises(OutputError, match="MEDI_CACHE"):
        records_file(built, tmp_path, lambda *_: None)


def test_marks_beside_other_things_are_an_error_at_once(tmp_path: Path) -> None:
    write_marks(tmp_path / "m.jsonl", [])
    assert len(MarksFile(tmp_path / "m.jsonl")) == 0
    (tmp_path / "m.jsonl").write_text("id,neg\n", encoding="utf-8")
    with pytest.raises(InputError):
        MarksFile(tmp_path / "m.jsonl")
