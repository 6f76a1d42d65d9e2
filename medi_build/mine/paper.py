"""The paper's pair rules for Super-NaturalInstructions (Su et al. 2023, section 2.3).

Both look among the other inputs x_j of the same task. A text that occurs in several rows is one candidate that
has the labels, or the outputs, of all of them. So no text is ever the negative of a query text for which another
row would take it as a positive.

Labels and outputs tell a wrong candidate from a right one here, so of the rule's filters only those on rank and
length apply; margins, the cross-encoder and the like are for `medi_build.mine.negatives`, where nothing else guards
the negatives. Each knob that a rule sets and that is ignored here is noted as ``no_effect_{knob}``.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from medi_build.arrays import Ints, Vectors
from medi_build.content.mining_rule import MiningRule
from medi_build.devices import Device
from medi_build.embedding import Embed, Prompt, both_sides
from medi_build.ledger import Ledger
from medi_build.mine.encoding import encode
from medi_build.mine.filters import bad_lengths
from medi_build.mine.result import MinedRows, empty
from medi_build.mine.select import Candidates, depth, draw_keys, pick, reject, window
from medi_build.mine.texts import Flat, TextColumn, Texts, UniqueTexts, codes, column, flatten, seeded_hash
from medi_build.search.dense import pair_scores, topk
from medi_build.search.exclusions import BoolMatrix, Exclusions, Labels, incidence, label_bits
from medi_build.search.ranking import NOTHING, Ranking

KNOBS = {"preset", "num_negatives", "range_min", "range_max", "sampling_strategy", "max_length_ratio"}
"""The knobs of a rule that have an effect here."""


class _Inputs(NamedTuple):
    """The inputs of the rows that carry a label or output.

    Attributes:
        rows: int64 [m], these rows of the examples table.
        unique_texts: distinct inputs, [n]; its ``first`` counts in 0..m.
        text_of_row: int64 [m], number of each row's input.
        values: the labels or outputs; ``rows`` counts in 0..m.
    """

    rows: Ints
    unique_texts: UniqueTexts
    text_of_row: Ints
    values: Flat


def by_label(
    examples: pa.Table,
    *,
    rule: MiningRule,
    embed: Embed,
    instructions: tuple[str | None, str | None],
    seed: int,
    ledger: Ledger,
    device: Device,
) -> tuple[MinedRows, UniqueTexts]:
    """Classification: the most similar input that shares a label, against the most similar one that shares none.

    Drops rows without a label (``no_label``) and rows whose labels no other input has (``no_positive``).
    """
    _note_ignored_knobs(rule, ledger)
    inputs = _usable(examples, "labels", "no_label", ledger)
    unique_texts = inputs.unique_texts
    if not len(unique_texts):
        return empty("label", rule), unique_texts
    label_codes, firsts = codes(inputs.values.values)
    bits = label_bits(inputs.text_of_row[inputs.values.rows], label_codes, len(unique_texts), len(firsts))
    queries, corpus = _both_sides(unique_texts, embed, both_sides(instructions, alike=True), ledger)
    own = _diagonal(len(unique_texts))
    positives = topk(queries, corpus, 1, Exclusions(own, Labels(bits, bits, "share")), device=device)
    negatives = topk(queries, corpus, depth(rule), Exclusions(own, Labels(bits, bits, "disjoint")), device=device)
    chosen = _pick(window(negatives, rule), positives.ids[:, 0], unique_texts, rule, seed, ledger)
    return _per_row(inputs, positives, chosen, "label", ledger), unique_texts


def by_output(
    examples: pa.Table,
    *,
    rule: MiningRule,
    embed: Embed,
    instructions: tuple[str | None, str | None],
    seed: int,
    ledger: Ledger,
    device: Device,
) -> tuple[MinedRows, UniqueTexts]:
    """Everything else: similar input and similar output, against similar input and different output.

    s_pos = cos(x_i, x_j) + cos(y_i, y_j) and s_neg = cos(x_i, x_j) - cos(y_i, y_j) are the inner products of
    [x_i; y_i] and [x_i; -y_i] with [x_j; y_j], so one plain top-k search finds the maximum of each. Where an input
    has several outputs, y is the first; a negative shares none of them, and is not the chosen positive. The
    scores in the result are those of the inputs, cos(x_i, x_j).

    Drops rows without an output (``no_output``) or without another input (``no_positive``).
    """
    _note_ignored_knobs(rule, ledger)
    inputs = _usable(examples, "answers", "no_output", ledger)
    unique_texts = inputs.unique_texts
    if not len(unique_texts):
        return empty("output", rule), unique_texts
    count, outputs = len(unique_texts), inputs.values
    x, corpus_x = _both_sides(unique_texts, embed, both_sides(instructions, alike=True), ledger)
    output_codes, firsts = codes(outputs.values)
    first_outputs = output_codes[outputs.places == 0][unique_texts.first]
    y = encode(embed, Texts(outputs.values, firsts), Prompt(instructions[1], "document"), ledger)[first_outputs]

    corpus = np.concatenate([corpus_x, y], axis=1)
    own = _diagonal(count)
    positives = topk(np.concatenate([x, y], axis=1), corpus, 1, Exclusions(own), device=device)
    has = incidence(inputs.text_of_row[outputs.rows], output_codes, (count, len(firsts)))
    found = np.flatnonzero(positives.ids[:, 0] != NOTHING)
    chosen_positive = incidence(found, positives.ids[found, 0], (count, count))
    exclusions = Exclusions((own + chosen_positive + has @ has.T).tocsr())
    negatives = topk(np.concatenate([x, -y], axis=1), corpus, depth(rule), exclusions, device=device)
    positives, negatives = (_rescored(ranking, x, corpus_x) for ranking in (positives, negatives))
    chosen = _pick(window(negatives, rule), positives.ids[:, 0], unique_texts, rule, seed, ledger)
    return _per_row(inputs, positives, chosen, "output", ledger), unique_texts


def _note_ignored_knobs(rule: MiningRule, ledger: Ledger) -> None:
    for knob in sorted(rule.model_dump(exclude_defaults=True).keys() - KNOBS):
        ledger.note(f"no_effect_{knob}")


def _usable(examples: pa.Table, name: str, reason: str, ledger: Ledger) -> _Inputs:
    """The rows with a value in list column ``name``; the others are dropped under ``reason``."""
    values = flatten(examples, name)
    rows = np.unique(values.rows)
    ledger.drop("mine", reason, examples.num_rows - len(rows))
    queries = TextColumn(column(examples, "query").gather(rows), column(examples, "id").gather(rows))
    unique_texts = UniqueTexts.build([queries])
    compact = values._replace(rows=np.searchsorted(rows, values.rows))
    return _Inputs(rows, unique_texts, unique_texts.columns[0], compact)


def _both_sides(
    unique_texts: UniqueTexts, embed: Embed, prompts: tuple[Prompt, Prompt], ledger: Ledger
) -> tuple[Vectors, Vectors]:
    """The inputs' vectors as queries and as candidates."""
    texts = unique_texts.some(np.arange(len(unique_texts)))
    queries = encode(embed, texts, prompts[0], ledger)
    return queries, queries if prompts[0] == prompts[1] else encode(embed, texts, prompts[1], ledger)


def _diagonal(count: int) -> BoolMatrix:
    itself = np.arange(count, dtype=np.int64)
    return incidence(itself, itself, (count, count))


def _rescored(ranking: Ranking, x: Vectors, corpus_x: Vectors) -> Ranking:
    """The same ranking with the cosines of the inputs as scores."""
    queries = np.repeat(np.arange(len(x), dtype=np.int64), ranking.ids.shape[1])
    scores = pair_scores(x, corpus_x, queries, ranking.ids.reshape(-1))
    return Ranking(ranking.ids, scores.reshape(ranking.ids.shape))


def _pick(
    candidates: Candidates, positives: Ints, unique_texts: UniqueTexts, rule: MiningRule, seed: int, ledger: Ledger
) -> Candidates:
    """Filter by length and take the asked number, one row per distinct input."""
    allowed = candidates.ids != NOTHING
    everything = np.arange(len(unique_texts), dtype=np.int64)
    if rule.max_length_ratio is not None:
        lengths = unique_texts.lengths()
        allowed = reject(
            allowed, bad_lengths(lengths[positives], lengths[candidates.ids], rule.max_length_ratio), "length", ledger
        )
    row_keys = seeded_hash(unique_texts.id(everything), seed)
    return pick(candidates, allowed, rule, row_keys, draw_keys(unique_texts, len(unique_texts), rule, seed))


def _per_row(inputs: _Inputs, positives: Ranking, chosen: Candidates, miner: str, ledger: Ledger) -> MinedRows:
    """Give each row what was found for its text; rows whose text has no positive are dropped."""
    ids = positives.ids[inputs.text_of_row, 0]
    kept = np.flatnonzero(ids != NOTHING)
    ledger.drop("mine", "no_positive", len(ids) - len(kept))
    texts = inputs.text_of_row[kept]
    return MinedRows(
        rows=inputs.rows[kept],
        positives=ids[kept],
        positive_scores=positives.scores[texts, 0],
        negatives=chosen.rows(texts),
        possible_false_negatives=np.empty((len(kept), 0), dtype=np.int64),
        miner=miner,
    )
