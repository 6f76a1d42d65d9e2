"""Hard negatives for anyone's own pairs: a file in, files for the trainers of one's choice out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from medi_build.arrays import Floats32, take_rows
from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.formats import Format, Score, from_mined, write_formats
from medi_build.dataset.passages import Passages
from medi_build.devices import Device
from medi_build.embedding import Embed, Prompt
from medi_build.files import atomic_file
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine
from medi_build.mine.result import Mined
from medi_build.mine.run import Encoders, Run
from medi_build.pipeline.own_pairs import OwnPairs, read_pairs

PAIRS_AT_ONCE = 8192
JSON_FORMATS = ("flagembedding", "tevatron")


class Output(NamedTuple):
    """What is written.

    Attributes:
        folder: for ``{format}.parquet`` or ``{format}.jsonl`` of each format, and ``ledger.json``.
        formats: forms to write; queries that have too few negatives for ``n-tuple`` are noted as
            ``left_out_of_n_tuple``. ``flagembedding`` and ``tevatron`` hold all positives of a row, the others one,
            which leaves out as many as ``positives_left_out_of_{form}`` says. Of the forms only ``flagembedding`` tells
            the instruction of the queries, where one is given.
        scores: scores in place of labels and beside tuples, see `write_format`.
    """

    folder: Path
    formats: Sequence[Format] = ("triplet",)
    scores: bool = False


def mine_file(
    own: OwnPairs, output: Output, encoders: Encoders, rule: MiningRule, *, seed: int = 42, device: Device = "cpu"
) -> Ledger:
    """Mine negatives for the pairs of a file and write them.

    Given negatives that a filter rejected, or that are more than the rule asks for, are noted as
    ``given_negative_not_used``.

    Args:
        own: the pairs.
        output: what is written.
        encoders: as `mine` takes them.
        rule: the knobs of mining.
        seed: of every choice that is not by score.
        device: where to search; the result is the same everywhere.

    Returns:
        The ledger of the source, with every row accounted for.

    Raises:
        InputError: a file is damaged, or lacks the columns.
        MissingInputError: there is no such file, and no such dataset on the hub.
        MiningError: unusable vectors, or an encoder that the rule names was not passed.
        OptionError: only one of the two columns is named.
    """
    encoders.check(rule)
    examples, documents, ledger = read_pairs(own)
    mined = mine(
        examples,
        documents,
        kind="pairs",
        encoders=encoders,
        run=Run(rule, seed, ledger, device),
        symmetric=own.symmetric,
    )
    ledger.written = len(mined)
    ledger.check()
    scored = "flagembedding" in output.formats and not rule.cross_encoder_scores
    score = _cosines(encoders.main, encoders.prompts(alike=own.symmetric)) if scored else None
    counts: Counter[str] = Counter()
    written = write_formats(
        _tuples(mined, encoders.instructions[0] or "", score, counts),
        output.formats,
        output.folder,
        negatives=mined.most_negatives(),
        scores=output.scores,
        passages=Passages(documents) if "tevatron" in output.formats else None,
    )
    ledger.note("given_negative_not_used", _texts_in(examples["negatives"]) - counts["given_negatives_used"])
    for form, rows in written.items():
        if form not in JSON_FORMATS:
            ledger.note(f"positives_left_out_of_{form}", counts["further_positives"])
        if form == "n-tuple":
            ledger.note("left_out_of_n_tuple", len(mined) - rows)
    with atomic_file(output.folder / "ledger.json") as file:
        file.write(orjson.dumps(ledger.to_dict(), option=orjson.OPT_INDENT_2))
    return ledger


def _tuples(mined: Mined, instruction: str, score: Score | None, counts: Counter[str]) -> Iterator[pa.Table]:
    """Tables of schema ``TUPLES``, a block each.

    Counted are ``further_positives``, which mining did not choose, and ``given_negatives_used``, which it did.
    """
    for block in mined.tables():
        tuples = from_mined(mined.examples, block, instruction, score)
        counts["further_positives"] += _texts_in(tuples["further_positives"])
        given = take_rows(mined.examples.select(["negatives"]), block["row"].to_numpy())["negatives"]
        if _texts_in(given):
            lists = zip(given.to_pylist(), tuples["negatives"].to_pylist(), strict=True)
            counts["given_negatives_used"] += sum(len({*own} & {*kept}) for own, kept in lists)
        yield tuples


def _texts_in(lists: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.list_value_length(lists)).as_py() or 0)


def _cosines(embed: Embed, prompts: tuple[Prompt, Prompt]) -> Score:
    """The scores of mining, for positives that it did not look at; their vectors are in the store."""

    def score(queries: list[str], texts: list[str]) -> Floats32:
        found = np.empty(len(texts), np.float32)
        for start in range(0, len(texts), PAIRS_AT_ONCE):
            some = slice(start, start + PAIRS_AT_ONCE)
            left, right = (
                embed(side[some], *prompt).vectors.astype(np.float32)
                for side, prompt in zip((queries, texts), prompts, strict=True)
            )
            found[some] = (left * right).sum(axis=1)
        return found

    return score
