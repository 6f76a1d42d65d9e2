"""What the selection of one dataset reads: vectors, limits calibrated on the data, and the models it may ask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from medi_build.arrays import Bools, Floats32, Hashes, Ints, Vectors
from medi_build.content.mining_rule import MiningRule
from medi_build.devices import Device
from medi_build.embedding import Embed, Prompt
from medi_build.errors import MiningError
from medi_build.ledger import Ledger
from medi_build.mine import filters
from medi_build.mine.cross_encoder import PairScorer, load_cross_encoder
from medi_build.mine.encoding import encode
from medi_build.mine.false_negatives import PRIOR_WORTH, FalseNegativeModel, SignInputs, fit
from medi_build.mine.pair_texts import Pairs
from medi_build.mine.select import draw_keys
from medi_build.mine.texts import flatten
from medi_build.search.bm25 import BM25, tokenize
from medi_build.search.dense import pair_scores
from medi_build.search.ranking import NOTHING

CALIBRATION_PAIRS = 20_000


@dataclass(frozen=True)
class MiningContext:
    """What the selection of one dataset reads.

    Attributes:
        pairs: the dataset as numbers.
        verified_negatives: its given negatives are known to be wrong.
        queries: float16 [q, d] vectors of the distinct queries.
        corpus: float16 [documents, d] vectors of the document side.
        positive_scores: float32 [p], cosine of each given positive with its query.
        lowest: float32 [q], that of each query's lowest-scoring positive.
        min_score: lowest score a negative may have.
        max_score: highest score a negative may have.
        further: vectors (queries, corpus) of the encoders whose rankings are fused with that of the first one.
        guide: vectors (queries, corpus) of an encoder that may veto, or None.
        answers: rows of the examples and their normalised answers.
        is_positive: bool [texts], distinct texts that are a positive of some row.
        cross_encoder: scores (query, text) pairs, or None.
        lexical: BM25 index of the pool and the tokenised queries, or None.
        false_negative_model: estimates which candidates are positives nobody marked, or None.
        draw_keys: uint64 [documents], the texts' seeded hashes, or None where nothing is drawn.
        device: where to search.
    """

    pairs: Pairs
    verified_negatives: bool
    queries: Vectors
    corpus: Vectors
    positive_scores: Floats32
    lowest: Floats32
    min_score: float
    max_score: float
    further: list[tuple[Vectors, Vectors]]
    guide: tuple[Vectors, Vectors] | None
    answers: tuple[Ints, pl.Series]
    is_positive: Bools
    cross_encoder: PairScorer | None
    lexical: tuple[BM25, pl.Series] | None
    false_negative_model: FalseNegativeModel | None
    draw_keys: Hashes | None
    device: Device


def build_context(
    examples: pa.Table,
    pairs: Pairs,
    verified_negatives: bool,
    rule: MiningRule,
    embed: Embed,
    others: Mapping[str, Embed],
    prompts: tuple[Prompt, Prompt],
    seed: int,
    ledger: Ledger,
    device: Device,
) -> MiningContext:
    """Encode both sides and calibrate the limits. The guide, which only compares, has its own prompts.

    Raises:
        MiningError: an encoder that the rule names is not among ``others``.
    """
    missing = [name for name in rule.others if name not in others]
    if missing:
        raise MiningError(
            f"the rule names the encoders {', '.join(missing)}, which were not passed; pass others={{name: encoder}}"
        )
    sides = (pairs.unique_texts.some(pairs.query_texts), pairs.unique_texts.some(np.arange(pairs.documents)))
    queries, corpus = _vectors(embed, sides, prompts, ledger)
    further = [_vectors(others[name], sides, prompts, ledger) for name in rule.encoders]
    own = (prompts[0]._replace(instruction=None), prompts[1]._replace(instruction=None))
    guide = None if rule.guide is None else _vectors(others[rule.guide], sides, own, ledger)
    query_of_positive = pairs.query_of_row[pairs.positives[:, 0]]
    positive_scores = pair_scores(queries, corpus, query_of_positive, pairs.positives[:, 1])
    lowest = np.full(len(queries), np.inf, dtype=np.float32)
    np.minimum.at(lowest, query_of_positive, positive_scores)
    min_score = -np.inf if rule.min_score is None else rule.min_score
    max_score = np.inf if rule.max_score is None else rule.max_score
    if rule.min_score_quantile is not None:
        unrelated = filters.random_pair_scores(queries, corpus[: pairs.pool], pairs.excluded, CALIBRATION_PAIRS, seed)
        if len(unrelated):
            min_score = max(min_score, float(np.quantile(unrelated, rule.min_score_quantile)))
        ledger.note("min_score_not_calibrated", int(not len(unrelated)))
    if rule.max_score_quantile is not None:
        max_score = min(max_score, float(np.quantile(positive_scores, rule.max_score_quantile)))
    answers = flatten(examples, "answers")
    lexical = _lexical(pairs) if rule.lexical or rule.max_false_negative_probability is not None else None
    return MiningContext(
        pairs,
        verified_negatives,
        queries,
        corpus,
        positive_scores,
        lowest,
        min_score,
        max_score,
        further,
        guide,
        (answers.rows, filters.normalized(answers.values)),
        pairs.is_positive(),
        None if rule.cross_encoder is None else load_cross_encoder(rule.cross_encoder),
        lexical if rule.lexical else None,
        None
        if lexical is None
        else _false_negative_model(pairs, queries, corpus, positive_scores, lexical, rule, seed, ledger, device),
        draw_keys(pairs.unique_texts, pairs.documents, rule, seed),
        device,
    )


def _vectors(
    embed: Embed, sides: tuple[Sequence[str], Sequence[str]], prompts: tuple[Prompt, Prompt], ledger: Ledger
) -> tuple[Vectors, Vectors]:
    queries, corpus = (encode(embed, texts, prompt, ledger) for texts, prompt in zip(sides, prompts, strict=True))
    return queries, corpus


def _lexical(pairs: Pairs) -> tuple[BM25, pl.Series]:
    texts = pairs.unique_texts.text(np.arange(pairs.pool))
    return BM25.build(tokenize(texts)), tokenize(pairs.unique_texts.text(pairs.query_texts))


def _false_negative_model(
    pairs: Pairs,
    queries: Vectors,
    corpus: Vectors,
    positive_scores: Floats32,
    lexical: tuple[BM25, pl.Series],
    rule: MiningRule,
    seed: int,
    ledger: Ledger,
    device: Device,
) -> FalseNegativeModel | None:
    """The model, if the rule asks for it; where its prior counts for more than the dataset, that is noted."""
    if rule.max_false_negative_probability is None:
        return None
    query_of_positive = pairs.query_of_row[pairs.positives[:, 0]]
    wanted, first = np.unique(query_of_positive, return_index=True)
    positives = np.full(len(queries), NOTHING, dtype=np.int64)
    scores = np.full(len(queries), -np.inf, dtype=np.float32)
    positives[wanted], scores[wanted] = pairs.positives[first, 1], positive_scores[first]
    inputs = SignInputs(queries, corpus, pairs.pool, pairs.excluded, *lexical, positives, scores, device)
    model = fit(inputs, rule.range_max, seed)
    if model is not None and model.learned_from < PRIOR_WORTH:
        ledger.note("false_negative_model_mostly_prior")
    return model
