"""Faults that once lived through all tests. `make mutants` plants each of them and tells which test notices it."""

CONTEXT = "medi_build/mine/context.py"
FILTERS = "medi_build/mine/filters.py"
RANKER = "medi_build/mine/ranker.py"
RELAXED = "medi_build/mine/relaxed.py"
FALSE_NEGATIVES = "medi_build/mine/false_negatives.py"
CONFLICTS = "medi_build/train/conflicts.py"
BATCHES = "medi_build/train/batches.py"

FAULTS = {
    "relax takes the riskiest candidate": (
        RELAXED,
        "np.where(sifted.held[rows], probability[rows], np.inf).argmin(axis=1)",
        "np.where(sifted.held[rows], probability[rows], -np.inf).argmax(axis=1)",
    ),
    "of drawn texts above the margin the nearest is taken": (
        RELAXED,
        "np.where(sound[short], block.scores[short], np.inf).argmin(axis=1)",
        "np.where(sound[short], block.scores[short], -np.inf).argmax(axis=1)",
    ),
    "drawn texts are held to no margin": (RELAXED, "those(filters, Lifted.LAST)", "those(filters)"),
    "texts are drawn for all rows alike": (RELAXED, "uniform(row_keys, ", "uniform(row_keys * np.uint64(0), "),
    "near duplicates of the row's own positive alone": (
        FILTERS,
        "block.ids, known.matrix(block.queries))",
        "block.ids, block.positives[:, None])",
    ),
    "probabilities not cut by the rank window": (
        RANKER,
        "ranked.probability[:, self.context.run.rule.range_min :]",
        "ranked.probability[:, : ranked.probability.shape[1] - self.context.run.rule.range_min]",
    ),
    "the guide sees the instructions": (
        CONTEXT,
        "self.encoded(name, (query._replace(instruction=None), document._replace(instruction=None)))",
        "self.encoded(name, (query, document))",
    ),
    "fused encoders lose the instructions": (
        RANKER,
        "context.encoded(name, context.prompts)",
        "context.encoded(name, tuple(prompt._replace(instruction=None) for prompt in context.prompts))",
    ),
    "one candidate too few for the cross-encoder": (
        "medi_build/mine/cross_encoder.py",
        "np.cumsum(allowed, axis=1) <= count",
        "np.cumsum(allowed, axis=1) < count",
    ),
    "one candidate too many for the cross-encoder": (
        "medi_build/mine/cross_encoder.py",
        "np.cumsum(allowed, axis=1) <= count",
        "np.cumsum(allowed, axis=1) <= count + 1",
    ),
    "round trip counts a row that is gone already": (
        "medi_build/mine/positives.py",
        "lost = (scores < best.scores[local, -1]) & ~bad",
        "lost = scores < best.scores[local, -1]",
    ),
    "classes of the negatives not kept apart": (
        CONFLICTS,
        ', _Keys(*of_negatives, rejected=True, kind="class")]',
        "]",
    ),
    "the last batch that rejects a key, not the highest": (
        CONFLICTS,
        "after_rejected[key] = max(after_rejected.get(key, 0), batch + 1)",
        "after_rejected[key] = batch + 1",
    ),
    "batches in the order of their tasks": (
        BATCHES,
        "order = shuffled(len(one_pass), settings.seed, number, 0)",
        "order = np.arange(len(one_pass))",
    ),
    "batches in the same order in every pass": (
        BATCHES,
        "order = shuffled(len(one_pass), settings.seed, number, 0)",
        "order = shuffled(len(one_pass), settings.seed, 0, 0)",
    ),
    "the prior weighs the same however many positives are known": (
        FALSE_NEGATIVES,
        "ridge = 0.125 * worth / len(positives)",
        "ridge = 0.125 * worth / 1000",
    ),
    "weights are drawn to nothing in place of the prior": (
        FALSE_NEGATIVES,
        "ridge * (weights - prior)",
        "ridge * weights",
    ),
    "positives below the ranking are learned from": (
        FALSE_NEGATIVES,
        "positives, scores)[within, 0]",
        "positives, scores)[:, 0]",
    ),
    "likeness to one's own positive is forgotten": (
        FALSE_NEGATIVES,
        "weights = PRIOR.copy()",
        "weights = np.zeros_like(PRIOR)",
    ),
    "likeness to one's own positive counts what the query has in common with both": (
        FALSE_NEGATIVES,
        "alike - np.where(known, score, np.float32(0)) * scores",
        "alike",
    ),
}
"""What is wrong, and how: file, text that stands there once, and text in its place."""
