"""What the selection of one dataset reads: vectors, limits calibrated on the data, and the models it may ask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from medi_build.devices import Device
from medi_build.embedding import Embed
from medi_build.errors import MiningError
from medi_build.ledger import Ledger
from medi_build.mine import filters
from medi_build.mine.encoding import encode
from medi_build.mine.evidence import Evidence, Known, fit
from medi_build.mine.lexical import BM25, tokenize
from medi_build.mine.pairs import Pairs
from medi_build.mine.pool import Ints, Keys, flatten
from medi_build.mine.ranking import NOTHING, Vectors
from medi_build.mine.rescore import PairScorer, load_cross_encoder
from medi_build.mine.search import pair_scores
from medi_build.mine.select import Bools, draw_keys
from medi_build.mining_rule import MiningRule

CALIBRATION_PAIRS = 20_000


@dataclass(frozen=True)
class Scene:
    """What the selection of one dataset reads.

    Attributes:
        pairs: the dataset as numbers.
        judged_negatives: its given negatives are known to be wrong.
        queries: float16 [q, d] vectors of the distinct queries.
        corpus: float16 [documents, d] vectors of the document side.
        positive_scores: float32 [p], cosine of each given positive with its query.
        lowest: float32 [q], that of each query's lowest-scoring positive.
        floor: lowest score a negative may have.
        ceiling: highest score a negative may have.
        further: vectors (queries, corpus) of the encoders whose rankings are fused with that of the first one.
        teacher: vectors (queries, corpus) of an encoder that may veto, or None.
        answers: rows of the examples and their normalised answers.
        is_positive: bool [vocabulary], texts that are a positive of some row.
        cross_encoder: scores (query, text) pairs, or None.
        lexical: BM25 index of the pool and the tokenised queries, or None.
        evidence: the model of risk, or None.
        draw_keys: uint64 [documents], the texts' seeded hashes, or None where nothing is drawn.
        device: where to search.
    """

    pairs: Pairs
    judged_negatives: bool
    queries: Vectors
    corpus: Vectors
    positive_scores: npt.NDArray[np.float32]
    lowest: npt.NDArray[np.float32]
    floor: float
    ceiling: float
    further: list[tuple[Vectors, Vectors]]
    teacher: tuple[Vectors, Vectors] | None
    answers: tuple[Ints, pl.Series]
    is_positive: Bools
    cross_encoder: PairScorer | None
    lexical: tuple[BM25, pl.Series] | None
    evidence: Evidence | None
    draw_keys: Keys | None
    device: Device


def build_scene(
    examples: pa.Table,
    pairs: Pairs,
    judged_negatives: bool,
    rule: MiningRule,
    embed: Embed,
    others: Mapping[str, Embed],
    instructions: tuple[str, str],
    seed: int,
    ledger: Ledger,
    device: Device,
) -> Scene:
    """Encode both sides and calibrate the limits. The teacher, who only compares, sees the texts alone.

    Raises:
        MiningError: an encoder that the rule names is not among ``others``.
    """
    missing = [name for name in rule.others if name not in others]
    if missing:
        raise MiningError(
            f"the rule names the encoders {', '.join(missing)}, which were not passed; pass others={{name: encoder}}"
        )
    sides = (pairs.vocabulary.some(pairs.query_texts), pairs.vocabulary.some(np.arange(pairs.documents)))
    queries, corpus = _vectors(embed, sides, instructions, ledger)
    further = [_vectors(others[name], sides, instructions, ledger) for name in rule.encoders]
    vetoes = None if rule.teacher is None else _vectors(others[rule.teacher], sides, ("", ""), ledger)
    query_of_positive = pairs.query_of_row[pairs.positives[:, 0]]
    positive_scores = pair_scores(queries, corpus, query_of_positive, pairs.positives[:, 1])
    lowest = np.full(len(queries), np.inf, dtype=np.float32)
    np.minimum.at(lowest, query_of_positive, positive_scores)
    floor, ceiling = -np.inf, np.inf if rule.ceiling is None else rule.ceiling
    if rule.floor_quantile is not None:
        unrelated = filters.random_pair_scores(queries, corpus[: pairs.pool], pairs.barred, CALIBRATION_PAIRS, seed)
        floor = float(np.quantile(unrelated, rule.floor_quantile)) if len(unrelated) else floor
        ledger.note("floor_not_calibrated", int(not len(unrelated)))
    if rule.ceiling_quantile is not None:
        ceiling = min(ceiling, float(np.quantile(positive_scores, rule.ceiling_quantile)))
    answers = flatten(examples, "answers")
    lexical = _lexical(pairs) if rule.lexical or rule.risk_max is not None else None
    return Scene(
        pairs,
        judged_negatives,
        queries,
        corpus,
        positive_scores,
        lowest,
        floor,
        ceiling,
        further,
        vetoes,
        (answers.rows, filters.normalized(answers.values)),
        pairs.is_positive(),
        None if rule.cross_encoder is None else load_cross_encoder(rule.cross_encoder),
        lexical if rule.lexical else None,
        None
        if lexical is None
        else _evidence(pairs, queries, corpus, positive_scores, lexical, rule, seed, ledger, device),
        draw_keys(pairs.vocabulary, pairs.documents, rule, seed),
        device,
    )


def _vectors(
    embed: Embed, sides: tuple[Sequence[str], Sequence[str]], instructions: tuple[str, str], ledger: Ledger
) -> tuple[Vectors, Vectors]:
    queries, corpus = (encode(embed, side, text, ledger) for side, text in zip(sides, instructions, strict=True))
    return queries, corpus


def _lexical(pairs: Pairs) -> tuple[BM25, pl.Series]:
    texts = pairs.vocabulary.text(np.arange(pairs.pool))
    return BM25.build(tokenize(texts)), tokenize(pairs.vocabulary.text(pairs.query_texts))


def _evidence(
    pairs: Pairs,
    queries: Vectors,
    corpus: Vectors,
    positive_scores: npt.NDArray[np.float32],
    lexical: tuple[BM25, pl.Series],
    rule: MiningRule,
    seed: int,
    ledger: Ledger,
    device: Device,
) -> Evidence | None:
    """The model of risk, if the rule asks for it; ``risk_not_fitted`` is noted where there is too little to fit."""
    if rule.risk_max is None:
        return None
    query_of_positive = pairs.query_of_row[pairs.positives[:, 0]]
    wanted, first = np.unique(query_of_positive, return_index=True)
    positives = np.full(len(queries), NOTHING, dtype=np.int64)
    scores = np.full(len(queries), -np.inf, dtype=np.float32)
    positives[wanted], scores[wanted] = pairs.positives[first, 1], positive_scores[first]
    known = Known(queries, corpus, pairs.pool, pairs.barred, *lexical, positives, scores, device)
    evidence = fit(known, rule.rank_max, seed)
    if evidence is None:
        ledger.note("risk_not_fitted")
    return evidence
