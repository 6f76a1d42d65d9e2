"""What mining one dataset of pairs reads throughout: the dataset as numbers, its vectors, and the run."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from medi_build.arrays import Bools, Floats32
from medi_build.embedding import Embed, Prompt
from medi_build.mine.encoding import Sides, encode
from medi_build.mine.likeness import Likeness
from medi_build.mine.pair_texts import Pairs
from medi_build.mine.run import Encoders, Run
from medi_build.search.dense import pair_scores


@dataclass(frozen=True)
class Positives:
    """The given positives, as the encoder that mines sees them.

    Attributes:
        scores: float32 [p], cosine of each one in ``pairs.positives`` with its query.
        lowest: float32 [q], that of each query's lowest-scoring one.
        texts: bool [texts], distinct texts that are a positive of some row.
    """

    scores: Floats32
    lowest: Floats32
    texts: Bools


@dataclass(frozen=True)
class MiningContext:
    """What mining one dataset of pairs reads throughout.

    Attributes:
        examples: schema ``EXAMPLES``.
        pairs: the same as numbers.
        prompts: of queries and of documents.
        encoders: all that may be asked.
        run: the rule, the seed, the ledger and the device.
        vectors: of the encoder that mines.
        positives: their scores.
        likeness: of texts to them.
    """

    examples: pa.Table
    pairs: Pairs
    prompts: tuple[Prompt, Prompt]
    encoders: Encoders
    run: Run
    vectors: Sides
    positives: Positives
    likeness: Likeness

    @cached_property
    def guide(self) -> Sides | None:
        """Both sides as the rule's guide sees them, under what it has saved; None where the rule names none."""
        name, (query, document) = self.run.rule.guide, self.prompts
        if name is None:
            return None
        return self.encoded(name, (query._replace(instruction=None), document._replace(instruction=None)))

    def encoded(self, name: str, prompts: tuple[Prompt, Prompt]) -> Sides:
        """Both sides as another encoder sees them under the given prompts."""
        return _encoded(self.pairs, self.encoders.others[name], prompts, self.run)


def build_context(
    examples: pa.Table, pairs: Pairs, prompts: tuple[Prompt, Prompt], encoders: Encoders, run: Run
) -> MiningContext:
    """Encode both sides with the encoder that mines, and score the positives."""
    vectors = _encoded(pairs, encoders.main, prompts, run)
    of_query = pairs.query_of_positive()
    scores = pair_scores(*vectors, of_query, pairs.positives[:, 1])
    lowest = np.full(len(vectors.queries), np.inf, dtype=np.float32)
    np.minimum.at(lowest, of_query, scores)
    texts = np.zeros(len(pairs.unique_texts), dtype=bool)
    texts[pairs.positives[:, 1]] = True
    return MiningContext(
        examples=examples,
        pairs=pairs,
        prompts=prompts,
        encoders=encoders,
        run=run,
        vectors=vectors,
        positives=Positives(scores, lowest, texts),
        likeness=Likeness(vectors.corpus, np.flatnonzero(texts)),
    )


def _encoded(pairs: Pairs, embed: Embed, prompts: tuple[Prompt, Prompt], run: Run) -> Sides:
    texts = pairs.unique_texts
    sides = (texts.some(pairs.query_texts), texts.some(np.arange(pairs.documents)))
    return Sides(*(encode(embed, side, prompt, run.ledger) for side, prompt in zip(sides, prompts, strict=True)))
