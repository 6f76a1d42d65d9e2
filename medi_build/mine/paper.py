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

from medi_build.arrays import Ints
from medi_build.embedding import Prompt
from medi_build.ledger import Ledger
from medi_build.mine.encoding import Sides, encode
from medi_build.mine.explain import ROWS_AT_ONCE, looked_at, tell_picked
from medi_build.mine.filters import bad_lengths, ranked_to
from medi_build.mine.marks import marked_pairs
from medi_build.mine.result import MinedRows, empty
from medi_build.mine.run import Encoders, Run
from medi_build.mine.select import Candidates, Verdicts, draw_keys, pick, reject, window
from medi_build.mine.texts import Flat, Grouped, TextColumn, Texts, UniqueTexts, codes, column, flatten, seeded_hash
from medi_build.search.exclusions import BoolMatrix, Exclusions, Labels, incidence, label_bits
from medi_build.search.parts import topk
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


def by_label(examples: pa.Table, encoders: Encoders, run: Run) -> tuple[MinedRows, UniqueTexts]:
    """Classification: the most similar input that shares a label, against the most similar one that shares none.

    Drops rows without a label (``no_label``) and rows whose labels no other input has (``no_positive``).
    """
    _note_ignored_knobs(run)
    inputs = _usable(examples, "labels", "no_label", run.ledger)
    unique_texts = inputs.unique_texts
    if not len(unique_texts):
        return empty("label", run.rule), unique_texts
    label_codes, firsts = codes(inputs.values.values)
    bits = label_bits(inputs.text_of_row[inputs.values.rows], label_codes, len(unique_texts), len(firsts))
    vectors, own = _both_sides(unique_texts, encoders, run), _diagonal(len(unique_texts))
    positives = topk(*vectors, 1, Exclusions(own, Labels(bits, bits, "share")), device=run.device, split=run.split)
    marked = _marked(examples, inputs, run)
    disjoint = Exclusions((own + marked).tocsr(), Labels(bits, bits, "disjoint"))
    negatives = topk(*vectors, ranked_to(run), disjoint, device=run.device, split=run.split)
    chosen = _pick(negatives, positives.ids[:, 0], unique_texts, run)
    found = _per_row(inputs, positives, chosen.picked, "label", run.ledger)
    _explain(examples, inputs, found, chosen, marked, vectors, run)
    return found, unique_texts


def by_output(examples: pa.Table, encoders: Encoders, run: Run) -> tuple[MinedRows, UniqueTexts]:
    """Everything else: similar input and similar output, against similar input and different output.

    s_pos = cos(x_i, x_j) + cos(y_i, y_j) and s_neg = cos(x_i, x_j) - cos(y_i, y_j) are the inner products of
    [x_i; y_i] and [x_i; -y_i] with [x_j; y_j], so one plain top-k search finds the maximum of each. Where an input
    has several outputs, y is the first; a negative shares none of them, and is not the chosen positive. The
    scores in the result are those of the inputs, cos(x_i, x_j).

    Drops rows without an output (``no_output``) or without another input (``no_positive``).
    """
    _note_ignored_knobs(run)
    inputs = _usable(examples, "answers", "no_output", run.ledger)
    unique_texts = inputs.unique_texts
    if not len(unique_texts):
        return empty("output", run.rule), unique_texts
    count, outputs = len(unique_texts), inputs.values
    x = _both_sides(unique_texts, encoders, run)
    output_codes, firsts = codes(outputs.values)
    first_outputs = output_codes[outputs.places == 0][unique_texts.first]
    prompt = Prompt(encoders.instructions[1], "document")
    y = encode(encoders.main, Texts(outputs.values, firsts), prompt, run.ledger)[first_outputs]

    corpus = np.concatenate([x.corpus, y], axis=1)
    own = _diagonal(count)
    positives = topk(
        np.concatenate([x.queries, y], axis=1), corpus, 1, Exclusions(own), device=run.device, split=run.split
    )
    has = incidence(inputs.text_of_row[outputs.rows], output_codes, (count, len(firsts)))
    found = np.flatnonzero(positives.ids[:, 0] != NOTHING)
    chosen_positive = incidence(found, positives.ids[found, 0], (count, count))
    marked = _marked(examples, inputs, run)
    exclusions = Exclusions((own + chosen_positive + has @ has.T + marked).tocsr())
    different = np.concatenate([x.queries, -y], axis=1)
    negatives = topk(different, corpus, ranked_to(run), exclusions, device=run.device, split=run.split)
    positives, negatives = (
        Ranking(found.ids, x.cosines(np.arange(count), found.ids)) for found in (positives, negatives)
    )
    chosen = _pick(negatives, positives.ids[:, 0], unique_texts, run)
    found_rows = _per_row(inputs, positives, chosen.picked, "output", run.ledger)
    _explain(examples, inputs, found_rows, chosen, marked, x, run)
    return found_rows, unique_texts


def _note_ignored_knobs(run: Run) -> None:
    for knob in sorted(run.rule.model_dump(exclude_defaults=True).keys() - KNOBS):
        run.ledger.note(f"no_effect_{knob}")


def _usable(examples: pa.Table, name: str, reason: str, ledger: Ledger) -> _Inputs:
    """The rows with a value in list column ``name``; the others are dropped under ``reason``."""
    values = flatten(examples, name)
    rows = np.unique(values.rows)
    ledger.drop("mine", reason, examples.num_rows - len(rows))
    queries = TextColumn(column(examples, "query").gather(rows), column(examples, "id").gather(rows))
    unique_texts = UniqueTexts.build({"query": queries})
    compact = values._replace(rows=np.searchsorted(rows, values.rows))
    return _Inputs(rows, unique_texts, unique_texts.columns["query"], compact)


def _both_sides(unique_texts: UniqueTexts, encoders: Encoders, run: Run) -> Sides:
    """The inputs' vectors as queries and as candidates."""
    texts, prompts = unique_texts.some(np.arange(len(unique_texts))), encoders.prompts(alike=True)
    queries = encode(encoders.main, texts, prompts[0], run.ledger)
    alike = prompts[0] == prompts[1]
    return Sides(queries, queries if alike else encode(encoders.main, texts, prompts[1], run.ledger))


def _diagonal(count: int) -> BoolMatrix:
    itself = np.arange(count, dtype=np.int64)
    return incidence(itself, itself, (count, count))


def _marked(examples: pa.Table, inputs: _Inputs, run: Run) -> BoolMatrix:
    """Inputs that somebody marked as no negatives of an input [n, n]."""
    count = len(inputs.unique_texts)
    ids = column(examples, "id").gather(inputs.rows)
    numbers = np.arange(count, dtype=np.int64)
    return incidence(
        *marked_pairs(run.marks, ids, inputs.text_of_row, numbers, inputs.unique_texts, run.ledger), (count, count)
    )


class _Chosen(NamedTuple):
    """What was chosen for each distinct input.

    Attributes:
        picked: [n, negatives].
        candidates: [n, c], of which.
        verdicts: what became of these.
        skipped: what is ranked before them.
    """

    picked: Candidates
    candidates: Candidates
    verdicts: Verdicts
    skipped: Ranking


def _pick(ranking: Ranking, positives: Ints, unique_texts: UniqueTexts, run: Run) -> _Chosen:
    """Filter by length and take the asked number, one row per distinct input."""
    rule, candidates = run.rule, window(ranking, run.rule)
    allowed, verdicts = candidates.ids != NOTHING, Verdicts(candidates.ids.shape)
    if rule.max_length_ratio is not None:
        lengths = unique_texts.lengths()
        bad = bad_lengths(lengths[positives], lengths[candidates.ids], rule.max_length_ratio)
        allowed = reject(allowed, bad, "length", run.ledger, verdicts=verdicts)
    everything = np.arange(len(unique_texts), dtype=np.int64)
    row_keys = seeded_hash(unique_texts.id(everything), run.seed)
    picked = pick(candidates, allowed, rule, row_keys, draw_keys(unique_texts, len(unique_texts), rule, run.seed))
    if run.explain is not None:
        tell_picked(verdicts, candidates.ids, allowed, picked.ids)
    return _Chosen(picked, candidates, verdicts, skipped=ranking.first(rule.range_min))


def _explain(
    examples: pa.Table,
    inputs: _Inputs,
    found: MinedRows,
    chosen: _Chosen,
    marked: BoolMatrix,
    vectors: Sides,
    run: Run,
) -> None:
    """Tell what was looked at for each row."""
    if run.explain is None:
        return
    pairs = marked.tocoo()
    by_text = Grouped.by(pairs.row.astype(np.int64), pairs.col.astype(np.int64), len(inputs.unique_texts))
    texts = inputs.text_of_row[np.searchsorted(inputs.rows, found.rows)]
    for start in range(0, len(texts), ROWS_AT_ONCE):
        rows, some = found.rows[start : start + ROWS_AT_ONCE], texts[start : start + ROWS_AT_ONCE]
        bad = by_text.matrix(some)
        looked = looked_at(
            column(examples, "id").gather(rows),
            chosen.candidates.rows(some),
            chosen.verdicts.rows(some),
            skipped=chosen.skipped.rows(some),
            marked=Ranking(bad, vectors.cosines(some, bad)),
            rankings={found.miner: Ranking(bad, bad.astype(np.float32))},
            scores={},
        )
        run.explain.add(looked, inputs.unique_texts)


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
