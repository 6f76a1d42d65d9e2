"""From a plan and answers to figures: the shipped content, made-up cards, no server."""

from dataclasses import replace
from pathlib import Path

import pytest

from medi_build.content.cards import Card
from medi_build.content.load import Content, load_content
from medi_build.encode.speed import Speed, measure
from medi_build.errors import EncoderError, MissingInputError, OutputError
from medi_build.ingest.adapters.kilt import MAX_GOLD_PAGE_PASSAGES
from medi_build.ingest.sizes import Answer
from medi_build.pipeline.estimate import TEXTS_PER_ROW, Estimate, check_to_be_had, estimate, expected_rows
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.plan import Plan, find_pipeline, resolve
from medi_build.pipeline.survey import Room, check_rooms, plan_of, rooms, survey
from tests.ingest import cards

PAGES = "http://dl.fbaipublicfiles.com/KILT/kilt_knowledgesource.json"
PAGES_BYTES = 37_318_876_722
KILT = "-super_ni,-embedding_training_data,-medmcqa*,-pubmedqa"
TASKS = "-kilt,-embedding_training_data,-medmcqa*,-pubmedqa"
SILENT = Answer("unknown", why="no answer")


@pytest.fixture(scope="module")
def shipped() -> Content:
    return load_content()


def plan(content: Content, tmp_path: Path, sources: str = "all", limit: int | None = None, name: str = "medi") -> Plan:
    pipeline = find_pipeline(content, name).model_copy(update={"allow_missing": True})
    return resolve(content, pipeline, tuple(sources.split(",")), None, limit, tmp_path / "downloads")


def known(figures: Estimate) -> dict[str, tuple[int | None, str]]:
    return {one.name: (one.rows, one.known) for one in figures.datasets}


def made(shipped: Content, *some: Card) -> Content:
    """The shipped content with these cards alone."""
    names = {card.name: card for card in some}
    pipelines = {"medi": shipped.pipelines["medi"].model_copy(update={"sources": tuple(names), "caps": {}})}
    return Content(names, shipped.templates, pipelines, {name: n for n, name in enumerate(names)}, shipped.sample_data)


def test_medi_comes_within_a_tenth_of_the_paper_s_rows(shipped: Content, tmp_path: Path) -> None:
    figures = estimate(plan(shipped, tmp_path), {}, {})
    assert len(figures.datasets) == len({one.name for one in figures.datasets}) > 320
    assert abs(figures.rows - 1_435_000) < 143_500
    assert sum(figures.rows_by_source.values()) == figures.rows
    assert set(figures.rows_by_source) == {"confirmed", "recalled", "ours"}


def test_rows_are_those_that_the_cap_lets_in_and_have_the_source_of_the_smaller_number(
    shipped: Content, tmp_path: Path
) -> None:
    place = {"download": {"url": "http://nowhere"}}
    published = {"published": {"rows": 500, "known": "recalled"}}
    content = made(
        shipped,
        cards.card("pairs/small", expected_rows={"train": 400}, **published, **place),
        cards.card("pairs/equal", expected_rows={"train": 500}, **published, **place),
        cards.card("pairs/large", expected_rows={"train": 501}, **published, **place),
        cards.card("pairs/uncounted", expected_rows={"train": "unconfirmed"}, **published, **place),
        cards.card("pairs/ours", expected_rows={"train": 9000}, cap=700, **place),
        cards.card("pairs/open", expected_rows={"train": 9000}, cap=0, **place),
        cards.card("pairs/nothing", cap=0, **place),
    )
    figures = estimate(plan(content, tmp_path), {}, {})
    assert known(figures) == {
        "pairs/small": (400, "confirmed"),
        "pairs/equal": (500, "confirmed"),
        "pairs/large": (500, "recalled"),
        "pairs/uncounted": (500, "recalled"),
        "pairs/ours": (700, "ours"),
        "pairs/open": (9000, "confirmed"),
        "pairs/nothing": (None, "unknown"),
    }
    assert figures.rows == 400 + 500 + 500 + 500 + 700 + 9000
    limited = estimate(plan(content, tmp_path, limit=450), {}, {})
    assert known(limited)["pairs/small"] == (400, "confirmed")
    assert known(limited)["pairs/large"] == (450, "ours")
    by_cards = plan(content, tmp_path)
    other = replace(by_cards, pipeline=by_cards.pipeline.model_copy(update={"size": "cards"}))
    assert expected_rows(other, other.units[2]) == (500, "ours")


def test_what_several_datasets_want_is_counted_once(shipped: Content, tmp_path: Path) -> None:
    figures = estimate(plan(shipped, tmp_path, KILT), {}, {})
    by_name = {one.name: one for one in figures.transfers}
    assert len(by_name[PAGES].datasets) == 7 == len(figures.datasets)
    assert by_name[PAGES].size == PAGES_BYTES
    nq = figures.datasets[[one.name for one in figures.datasets].index("kilt/nq")]
    assert (nq.there, nq.fetch, [one.size for one in nq.own]) == (0, 2, [51_895_886])
    assert PAGES_BYTES < figures.download < PAGES_BYTES + 2.2e9
    assert figures.texts == 2 * figures.rows + 7 * MAX_GOLD_PAGE_PASSAGES + 100_000


def test_an_archive_is_one_transfer_whose_members_take_room(shipped: Content, tmp_path: Path) -> None:
    figures = estimate(plan(shipped, tmp_path, TASKS), {}, {})
    [archive] = figures.transfers
    assert archive.files == len(archive.datasets) == len(figures.datasets) == 300
    assert (archive.size, figures.download, figures.unknown_sizes) == (None, 0, 1)
    assert 1e8 < figures.unpacked < 1e9
    told = estimate(plan(shipped, tmp_path, TASKS), {archive.name: Answer("found", 700_000_000)}, {})
    assert (told.download, told.unknown_sizes) == (700_000_000, 0)


def test_the_server_s_size_goes_before_the_card_s_and_what_is_begun_is_not_fetched_again(
    shipped: Content, tmp_path: Path
) -> None:
    own = plan(shipped, tmp_path, "kilt/nq")
    [rows] = {one.name for one in estimate(own, {}, {}).transfers} - {PAGES}
    sizes = {PAGES: Answer("found", 1000), rows: SILENT}
    assert {one.name: one.size for one in estimate(own, sizes, {PAGES: 400}).transfers} == {
        PAGES: 600,
        rows: 51_895_886,
    }
    assert [one.name for one in estimate(own, sizes, {}).unanswered] == [rows]


def test_what_cannot_be_had_is_told_for_all_datasets_at_once(shipped: Content, tmp_path: Path) -> None:
    wanted = plan(shipped, tmp_path, KILT)
    task = "http://dl.fbaipublicfiles.com/KILT/fever-train-kilt.jsonl"
    answers = {PAGES: Answer("missing", why="HTTP 404"), task: Answer("refused", why="HTTP 401")}
    figures = estimate(replace(wanted, left_out={"our/own": ("own.jsonl",)}), answers, {})
    with pytest.raises(MissingInputError) as caught:
        check_to_be_had(figures, leave_out=False)
    told = str(caught.value)
    assert told.startswith("3 of what is wanted")
    assert "our/own: own.jsonl" in told and f"and 6 more: {PAGES}: HTTP 404" in told
    assert f"kilt/fever: {task}: HTTP 401" in told
    with pytest.raises(MissingInputError, match=r"^2 of what"):
        check_to_be_had(figures, leave_out=True)
    check_to_be_had(estimate(wanted, {PAGES: SILENT}, {}), leave_out=False)


def test_time_and_vectors_follow_from_the_speed(shipped: Content, tmp_path: Path) -> None:
    figures = estimate(plan(shipped, tmp_path, "medmcqa/explanation"), {}, {})
    assert (figures.rows, figures.texts, figures.seconds) == (30_000, 60_000, None)
    fast = replace(figures, speed=Speed(100.0, 384, "cpu", "float32"))
    assert fast.seconds == 600.0
    assert fast.vectors == 60_000 * (2 * 384 + 17) < figures.vectors
    assert fast.disk == fast.download + fast.unpacked + fast.vectors + fast.output


def test_a_knowledge_source_that_is_here_bounds_the_passages(shipped: Content, tmp_path: Path) -> None:
    samples = find_pipeline(shipped, "quickstart")
    here = estimate(resolve(shipped, samples, ("all",), shipped.sample_data, None, tmp_path), {}, {})
    assert TEXTS_PER_ROW * here.rows < here.texts < TEXTS_PER_ROW * here.rows + 2000
    of_kilt = plan(shipped, tmp_path, KILT)
    assert estimate(of_kilt, {}, {}).texts > 7 * 500_000


def test_only_what_has_to_be_fetched_stops_a_build_for_want_of_room(shipped: Content, tmp_path: Path) -> None:
    check_rooms([Room(tmp_path, certain=100, needed=10**15, free=100)])
    with pytest.raises(OutputError, match=r"37\.3 GB have to be fetched, .* 40\.0 GB, and 20\.0 GB are free"):
        check_rooms([Room(tmp_path, certain=PAGES_BYTES, needed=40 * 10**9, free=20 * 10**9)])
    figures = estimate(plan(shipped, tmp_path, "kilt/nq"), {}, {})
    [room] = rooms(figures, tmp_path / "not" / "yet", tmp_path / "out")
    assert (room.certain, room.needed) == (figures.download, figures.disk)
    assert room.free > 0
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "shard").write_bytes(b"x" * 1000)
    [less] = rooms(figures, tmp_path, tmp_path / "out")
    assert less.needed == room.needed - 1000


def test_what_is_there_is_not_asked_for(tmp_path: Path) -> None:
    options = BuildOptions(out=tmp_path / "out", cache=tmp_path / "cache")
    samples = plan_of(options)
    figures = survey(samples, options.cache)
    assert figures.transfers == ()
    assert all(one.there and not one.fetch for one in figures.datasets)


def test_an_encoder_is_timed_where_it_is_and_nowhere_fetched(shipped: Content, tmp_path: Path) -> None:
    spec = shipped.pipelines["quickstart"].encoder
    speed = measure(spec, "cpu", seconds=0.05)
    assert speed is not None
    assert speed.texts_per_second > 0
    assert (speed.dimension, speed.device) == (384, "cpu")
    assert measure(spec.model_copy(update={"model": "nobody/has-this"}), "cpu") is None
    with pytest.raises(EncoderError, match=r"neither modules\.json nor config\.json"):
        measure(spec.model_copy(update={"model": str(tmp_path)}), "cpu")
