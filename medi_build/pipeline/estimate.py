"""From a plan and the servers' answers to figures: rows, bytes to fetch, disk, time. Nothing is asked or timed here."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from medi_build.errors import MissingInputError
from medi_build.ingest.adapters.kilt import MAX_GOLD_PAGE_PASSAGES
from medi_build.ingest.remotes import Remote
from medi_build.ingest.sizes import Answer
from medi_build.ingest.streams import compression
from medi_build.pipeline.plan import Plan, Unit, remotes_lacking

if TYPE_CHECKING:
    from medi_build.encode.speed import Speed

Known = Literal["confirmed", "recalled", "ours", "unknown"]
"""Where a number of rows comes from: a public reference; seen once and not at hand; our choice; nowhere."""
TEXTS_PER_ROW = 2
"""A query and its positive, or an input and its output; negatives are other rows' texts."""
BYTES_PER_ROW = 1500
"""A record in the shards and in medi-data.json; the sample data comes to 1,460."""
BYTES_PER_MEMBER_ROW = 350
"""Of a task file taken out of an archive; 81 Super-NI task files come to 343."""
_BYTES_PER_KEY = 17
_BYTES_PER_PASSAGE = 200
"""Of a knowledge source, at least; a passage has up to 100 words. Packed ones come to a tenth of it."""
USUAL_DIMENSION = 768


@dataclass(frozen=True)
class Transfer:
    """Something that has to be fetched: a file, or an archive for its members.

    Attributes:
        name: URL or address on the hub.
        files: that come of it.
        datasets: that want it.
        size: bytes still to come, as the server or else the card says; None if neither does.
        answer: what the server says; None if it was not asked.
    """

    name: str
    files: int
    datasets: tuple[str, ...]
    size: int | None
    answer: Answer | None


@dataclass(frozen=True)
class DatasetEstimate:
    """What is expected of one dataset.

    Attributes:
        name: the dataset.
        there: files on disk.
        fetch: files to fetch.
        transfers: what is fetched for it.
        rows: examples before mining at most; None if neither raw rows nor a cap are known.
        known: where that number comes from.
        passages: candidates beside the rows' own, at most.
    """

    name: str
    there: int
    fetch: int
    transfers: tuple[Transfer, ...]
    rows: int | None
    known: Known
    passages: int = 0

    @property
    def own(self) -> tuple[Transfer, ...]:
        """What is fetched for it alone."""
        return tuple(one for one in self.transfers if len(one.datasets) == 1)


@dataclass(frozen=True)
class Estimate:
    """What a build is expected to take.

    Attributes:
        datasets: in the plan's order.
        transfers: all that has to be fetched, each once.
        left_out: datasets without files that can be had, name -> what is missing.
        unpacked: bytes of what is taken out of archives.
        texts: to encode at most; vectors that are stored are not taken into account.
        encoders: that encode each of them.
        output: bytes of the output folder.
        speed: of the pipeline's main encoder, once it is measured.
    """

    datasets: tuple[DatasetEstimate, ...]
    transfers: tuple[Transfer, ...]
    left_out: Mapping[str, tuple[str, ...]]
    unpacked: int
    texts: int
    encoders: int
    output: int
    speed: "Speed | None" = None

    @property
    def rows(self) -> int:
        """All datasets together, as far as known."""
        return sum(one.rows or 0 for one in self.datasets)

    @property
    def rows_by_source(self) -> dict[Known, int]:
        """The same by where the numbers come from."""
        counts: Counter[Known] = Counter()
        for one in self.datasets:
            counts[one.known] += one.rows or 0
        return {known: counts[known] for known in ("confirmed", "recalled", "ours") if counts[known]}

    @property
    def download(self) -> int:
        """Bytes to fetch, as far as known."""
        return bytes_of(self.transfers)

    @property
    def unknown_sizes(self) -> int:
        """Transfers whose size nobody tells."""
        return sum(one.size is None for one in self.transfers)

    @property
    def vectors(self) -> int:
        """Bytes of the vectors; of the usual length where that of the encoder is not known."""
        dimension = self.speed.dimension if self.speed else USUAL_DIMENSION
        return self.texts * (2 * dimension + _BYTES_PER_KEY) * self.encoders

    @property
    def disk(self) -> int:
        """Bytes of all that is written, as far as known."""
        return self.download + self.unpacked + self.vectors + self.output

    @property
    def seconds(self) -> float | None:
        """Of encoding with the pipeline's main encoder; None if its speed is not known."""
        return self.texts / self.speed.texts_per_second if self.speed else None

    @property
    def not_to_be_had(self) -> tuple[Transfer, ...]:
        """What servers say that they do not have or do not give."""
        return tuple(one for one in self.transfers if one.answer and one.answer.state in ("missing", "refused"))

    @property
    def unanswered(self) -> tuple[Transfer, ...]:
        """What no server said anything about."""
        return tuple(one for one in self.transfers if one.answer and one.answer.state == "unknown")


def bytes_of(transfers: Sequence[Transfer]) -> int:
    """Bytes to fetch, as far as known."""
    return sum(one.size or 0 for one in transfers)


def estimate(plan: Plan, answers: Mapping[str, Answer], begun: Mapping[str, int]) -> Estimate:
    """The figures of a plan.

    Args:
        plan: what will be built.
        answers: `Remote.transfer` -> what its server says, of those that were asked.
        begun: `Remote.transfer` -> bytes that an interrupted fetch left.
    """
    lacking = remotes_lacking(plan)
    transfers = _transfers(lacking, answers, begun)
    datasets = tuple(_dataset(plan, unit, lacking.get(unit.card.name, ()), transfers) for unit in plan.units)
    rows = sum(one.rows or 0 for one in datasets)
    return Estimate(
        datasets=datasets,
        transfers=tuple(transfers.values()),
        left_out=plan.left_out,
        unpacked=sum(_unpacked(unit, lacking.get(unit.card.name, ())) for unit in plan.units),
        texts=TEXTS_PER_ROW * rows + _passages(plan.units),
        encoders=1 + len(plan.pipeline.mining.others),
        output=rows * BYTES_PER_ROW,
    )


def _passages(units: Sequence[Unit]) -> int:
    """Passages that datasets of KILT add to the candidates, at most.

    Those of other pages are drawn by the same order from the same pages, so all datasets have nearly the same ones.
    """
    gold, others = 0, [0]
    for unit in units:
        own, other = _passages_of(unit)
        gold += own
        others.append(other)
    return gold + max(others)


def _passages_of(unit: Unit) -> tuple[int, int]:
    """Passages of gold pages and of others that a dataset of KILT takes at most."""
    options = unit.card.options
    if options.adapter != "kilt":
        return 0, 0
    held = _passages_held(unit)
    return min(MAX_GOLD_PAGE_PASSAGES, held), min(options.other_documents, held)


def _passages_held(unit: Unit) -> int:
    """Passages that the knowledge source can hold; no bound is known of one that is not here."""
    pages = unit.located.found.get("pages", ())
    size = sum(path.stat().st_size * (10 if compression(path) else 1) for path in pages)
    return size // _BYTES_PER_PASSAGE if pages else MAX_GOLD_PAGE_PASSAGES


def _transfers(
    lacking: Mapping[str, Sequence[Remote]], answers: Mapping[str, Answer], begun: Mapping[str, int]
) -> dict[str, Transfer]:
    remotes: dict[str, dict[str, Remote]] = {}
    datasets: dict[str, dict[str, None]] = {}
    for name, wanted in lacking.items():
        for remote in wanted:
            remotes.setdefault(remote.transfer, {})[remote.key] = remote
            datasets.setdefault(remote.transfer, {})[name] = None
    found = {}
    for name, files in remotes.items():
        answer = answers.get(name)
        stated = 0 if any(one.archive for one in files.values()) else sum(one.size for one in files.values())
        size = (answer.size if answer else 0) or stated
        left = max(0, size - begun.get(name, 0)) if size else None
        found[name] = Transfer(name, len(files), tuple(datasets[name]), left, answer)
    return found


def _dataset(plan: Plan, unit: Unit, lacking: Sequence[Remote], transfers: Mapping[str, Transfer]) -> DatasetEstimate:
    rows, known = expected_rows(plan, unit)
    return DatasetEstimate(
        name=unit.card.name,
        there=len({path for paths in unit.located.found.values() for path in paths}),
        fetch=len({remote.key for remote in lacking}),
        transfers=tuple({remote.transfer: transfers[remote.transfer] for remote in lacking}.values()),
        rows=rows,
        known=known,
        passages=sum(_passages_of(unit)),
    )


def expected_rows(plan: Plan, unit: Unit) -> tuple[int | None, Known]:
    """Examples before mining, raw rows as far as the cap lets them in, and where the smaller number comes from."""
    raw = unit.card.expected_rows.get(plan.pipeline.split, "unconfirmed")
    if isinstance(raw, int) and (not unit.cap or raw <= unit.cap):
        return raw, "confirmed"
    if not unit.cap:
        return None, "unknown"
    published = unit.card.published if plan.pipeline.size == "published" else None
    return unit.cap, published.known if published and published.rows == unit.cap else "ours"


def _unpacked(unit: Unit, lacking: Sequence[Remote]) -> int:
    """Bytes of the files that are taken out of archives for a dataset."""
    members = [remote for remote in lacking if remote.archive]
    if not members:
        return 0
    raw = max((rows for rows in unit.card.expected_rows.values() if isinstance(rows, int)), default=unit.card.cap)
    return sum(remote.size for remote in members) or raw * BYTES_PER_MEMBER_ROW


def check_to_be_had(figures: Estimate, leave_out: bool) -> None:
    """Raise `MissingInputError` listing what cannot be had, of all datasets.

    Args:
        figures: of the plan.
        leave_out: datasets whose files nobody offers are no fault.
    """
    nowhere = {} if leave_out else figures.left_out
    lines = [f"  {name}: {', '.join(files)}" for name, files in nowhere.items()]
    for one in figures.not_to_be_had:
        assert one.answer
        more = f" and {len(one.datasets) - 1:,} more" if len(one.datasets) > 1 else ""
        lines.append(f"  {one.datasets[0]}{more}: {one.name}: {one.answer.why}")
    if lines:
        listed = "\n".join(lines)
        raise MissingInputError(
            f"{len(lines)} of what is wanted can neither be found nor fetched:\n{listed}\n"
            "Put it into --data DIR as <source>/<file>, correct the cards in --content, or leave the datasets out with "
            "--sources"
        )
