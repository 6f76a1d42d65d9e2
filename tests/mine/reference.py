"""The pair rules written as plainly as possible, over lists and dicts: what the fast ones must equal.

Two things are taken as given: the scores of BM25 (held to rank-bm25 in tests/search) and, once a model of false
negatives is fitted, its probability for a query and a text (tests/mine/test_false_negatives.py).
"""

import re
from collections import Counter
from fractions import Fraction

import numpy as np
import polars as pl
import xxhash

from medi_build.search.bm25 import BM25, tokenize
from tests.mine.conftest import text_id

REJECTING = [
    *("max_score", "max_score_quantile", "min_score", "min_score_quantile", "relative_margin", "absolute_margin"),
    *("max_false_negative_probability", "near_duplicate", "guide", "max_length_ratio", "cross_encoder"),
]
"""Knobs by which something ranked may be rejected; `reject_answer` is another."""


def cosine(a, b):
    return float(np.float32(np.dot(a.astype(np.float64), b.astype(np.float64))))


def exact(a, b):
    return float(np.dot(a.astype(np.float64), b.astype(np.float64)))


def distinct(texts):
    return list(dict.fromkeys(texts))


def by_label(rows, embed):
    """{row: (positive text, negative text or None)}; rows without a positive are left out."""
    rows_with = [row for row in rows if row["labels"]]
    texts = distinct(row["query"] for row in rows_with)
    labels = {t: {x for row in rows_with if row["query"] == t for x in row["labels"]} for t in texts}
    vector = {t: embed([t]).vectors[0] for t in texts}

    def best(query, wanted):
        others = [t for t in texts if t != query and wanted(labels[t] & labels[query])]
        return max(others, key=lambda t: (exact(vector[query], vector[t]), -texts.index(t)), default=None)

    found = {}
    for i, row in enumerate(rows):
        if row["labels"]:
            positive = best(row["query"], bool)
            if positive is not None:
                found[i] = (positive, best(row["query"], lambda common: not common))
    return found


def by_output(rows, embed):
    """{row: (positive text, negative text or None)} by s_pos and s_neg of the paper."""
    rows_with = [row for row in rows if row["answers"]]
    texts = distinct(row["query"] for row in rows_with)
    outputs = {t: [y for row in rows_with if row["query"] == t for y in row["answers"]] for t in texts}
    x = {t: embed([t]).vectors[0] for t in texts}
    y = {t: embed([outputs[t][0]]).vectors[0] for t in texts}

    def best(query, sign, excluded):
        others = [t for t in texts if t != query and t not in excluded]
        return max(
            others,
            key=lambda t: (exact(x[query], x[t]) + sign * exact(y[query], y[t]), -texts.index(t)),
            default=None,
        )

    found = {}
    for i, row in enumerate(rows):
        if row["answers"]:
            query = row["query"]
            positive = best(query, 1, ())
            if positive is not None:
                same_output = {t for t in texts if set(outputs[t]) & set(outputs[query])}
                found[i] = (positive, best(query, -1, same_output | {positive}))
    return found


def excluded_for(query, rows, docs, symmetric, same_answer=False):
    """Texts that may never be a negative of a query text."""
    same = [row for row in rows if row["query"] == query]
    excluded = {query} | {p for row in same for p in row["positives"]}
    groups = {g for row in same for g in row["groups"]}
    answers = {a for row in same for a in row["answers"]} if same_answer else set()
    for row in rows:
        if groups & set(row["groups"]) or answers & set(row.get("answers", ())):
            excluded |= set(row["positives"]) | ({row["query"]} if symmetric else set())
    excluded |= {text for _, text, its in docs if groups & set(its)}
    if symmetric:

        def neighbours(text):
            return {p for row in rows if row["query"] == text for p in row["positives"]} | {
                row["query"] for row in rows if text in row["positives"]
            }

        near = neighbours(query)
        excluded |= near
        for text in near:
            excluded |= neighbours(text)
    return excluded


def pool_of(rows, docs, symmetric):
    return distinct(
        [text for _, text, _ in docs]
        + [p for row in rows for p in row["positives"]]
        + ([row["query"] for row in rows] if symmetric else [])
    )


def negatives_of(row, rows, docs, embed, symmetric, count):
    """Given negatives first, then the best-scoring texts of the pool, none of them excluded."""
    excluded = excluded_for(row["query"], rows, docs, symmetric)
    pool = [t for t in pool_of(rows, docs, symmetric) if t not in excluded]
    q = embed([row["query"]]).vectors[0]
    ranked = sorted(pool, key=lambda t: (-exact(q, embed([t]).vectors[0]), pool.index(t)))
    return distinct([t for t in row["negatives"] if t not in excluded] + ranked[:count])[:count]


class Pairs:
    """Mining of pairs, one row and one text at a time: `mined` goes through the rows."""

    def __init__(self, rows, docs, rule, encoders, instructions, symmetric, verified, seed, cross, probability):
        self.rows, self.docs, self.rule, self.seed = rows, docs, rule, seed
        self.symmetric, self.verified, self.cross, self.probability = symmetric, verified, cross, probability
        self.encoders, self.instructions = encoders, instructions
        told = {p for row in rows for p in row["positives"]} | {row["query"] for row in rows if symmetric}
        inside = [doc for doc in docs if doc[1] in told or rule.candidates == "all"]
        self.pool = pool_of(rows, inside, symmetric)
        self.queries = list(dict.fromkeys(row["query"] for row in rows))
        self.excluded = {q: excluded_for(q, rows, docs, symmetric, rule.same_answer) for q in self.queries}
        self.pairs = [(r["query"], p) for r in rows for p in r["positives"] if p != r["query"]]
        self.notes, self.dropped = Counter(), Counter()
        self.vectors = {}

    def vector(self, text, side, encoder="", told=True):
        asked = (text, side, encoder, told)
        if asked not in self.vectors:
            query, document = self.instructions if told else (None, None)
            instruction = query if side == "query" else document
            if self.symmetric and side == "document":
                side, instruction = "query", query if document is None else document
            self.vectors[asked] = self.encoders[encoder]([text], instruction, side).vectors[0]
        return self.vectors[asked]

    def score(self, query, text, encoder="", told=True):
        return np.float32(
            exact(self.vector(query, "query", encoder, told), self.vector(text, "document", encoder, told))
        )

    def ranked(self, query, encoder=""):
        """The best allowed texts of the pool, as many as the rule looks at."""
        rule = self.rule
        looks_further = rule.fuses or rule.sampling_strategy == "random" or rule.reject_answer
        looks_further = looks_further or any(getattr(rule, knob) is not None for knob in REJECTING)
        length = rule.range_max if looks_further else rule.range_min + rule.num_negatives
        allowed = [text for text in self.pool if text not in self.excluded[query]]
        if encoder == "bm25":
            scores = BM25.build(tokenize(pl.Series(self.pool))).scores(tokenize(pl.Series([query])))[0]
            scores = dict(zip(self.pool, scores, strict=True))
            words = set(re.findall(r"\w+", query.lower()))
            allowed = [text for text in allowed if words & set(re.findall(r"\w+", text.lower()))]
        else:
            left = self.vector(query, "query", encoder)
            scores = {text: exact(left, self.vector(text, "document", encoder)) for text in allowed}
        return sorted(allowed, key=lambda text: (-scores[text], self.pool.index(text)))[:length]

    def fused(self, query):
        """The ranking from which candidates are taken."""
        rankings = [self.ranked(query, name) for name in ("", *self.rule.encoders, *["bm25"] * self.rule.lexical)]
        if len(rankings) == 1:
            return rankings[0]
        gain = Counter()
        for ranking in rankings:
            for place, text in enumerate(ranking, 1):
                gain[text] += Fraction(1, 60 + place)
        return sorted(gain, key=lambda text: (-gain[text], self.pool.index(text)))[: self.rule.range_max]

    def limits(self):
        """Lowest and highest score of a negative."""
        rule, low, high = self.rule, -np.inf, np.inf
        low = low if rule.min_score is None else rule.min_score
        high = high if rule.max_score is None else rule.max_score
        if rule.min_score_quantile is not None:
            draw = np.random.default_rng(self.seed)
            drawn = zip(
                draw.integers(0, len(self.queries), 20_000), draw.integers(0, len(self.pool), 20_000), strict=True
            )
            apart = [(self.queries[q], self.pool[t]) for q, t in drawn]
            known = {pair: self.score(*pair) for pair in set(apart) if pair[1] not in self.excluded[pair[0]]}
            scores = [known[pair] for pair in apart if pair in known]
            if scores:
                low = max(low, float(np.quantile(np.float32(scores), rule.min_score_quantile)))
            self.notes["min_score_not_calibrated"] += not scores
        if rule.max_score_quantile is not None:
            scores = np.float32([self.score(*pair) for pair in self.pairs])
            high = min(high, float(np.quantile(scores, rule.max_score_quantile)))
        return np.float32(low), np.float32(high)

    def mined(self):
        """[(row, positive, its score, [(negative, score, rank)], possible false negatives)] by row."""
        self.low, self.high = self.limits() if self.pairs else (None, None)
        rows = []
        for number, row in enumerate(self.rows):
            usable = [p for p in row["positives"] if p != row["query"]]
            if usable:
                rows.append((number, row, usable[hashed(row["id"], self.seed) % len(usable)]))
            else:
                self.dropped["positive_equals_query" if row["positives"] else "no_positive"] += 1
        found = [self.of_row(*one) for one in self.consistent(rows)]
        for _, _, _, negatives, possible in found:
            self.dropped["no_negative"] += not negatives
            self.notes["fewer_negatives_than_asked"] += 0 < len(negatives) < self.rule.num_negatives
            self.notes["possible_in_batch_false_negatives"] += bool(possible)
        return [one for one in found if one[3]]

    def consistent(self, rows):
        """The rows whose query and positive find each other among random texts."""
        rule, draw = self.rule, np.random.default_rng(self.seed)

        def sample(texts):
            size = min(rule.consistency_pool, len(texts))
            return [texts[i] for i in sorted(draw.choice(len(texts), size, replace=False))]

        if rule.consistency_top is not None and rows:
            some = sample(self.pool)
            lost = [
                kth(
                    [self.score(row["query"], t) for t in some if t not in self.excluded[row["query"]]],
                    rule.consistency_top,
                )
                > self.score(row["query"], positive)
                for _, row, positive in rows
            ]
            self.dropped["inconsistent_positive"] += sum(lost)
            rows = [one for one, gone in zip(rows, lost, strict=True) if not gone]
        if rule.round_trip_top is not None and self.pairs:
            some = sample(self.queries)
            lost = [
                kth([self.score(q, positive) for q in some if positive not in self.excluded[q]], rule.round_trip_top)
                > self.score(row["query"], positive)
                for _, row, positive in rows
            ]
            self.dropped["positive_fails_round_trip"] += sum(lost)
            rows = [one for one, gone in zip(rows, lost, strict=True) if not gone]
        return rows

    def of_row(self, number, row, positive):
        rule, query = self.rule, row["query"]
        own = [p for q, p in self.pairs if q == query]
        lowest = min(self.score(query, p) for p in own)
        near = [t for t in self.ranked(query) if any(t == p for _, p in self.pairs) and self.score(query, t) >= lowest]
        ids = {}
        for name, text, _ in self.docs:
            ids.setdefault(text, name)
        possible = [ids.get(text, text_id(text)) for text in near[:16]]

        given = [t for t in row["negatives"] if t not in self.excluded[query]]
        self.notes["rejected_given_is_positive_or_query"] += len(row["negatives"]) - len(given)
        window = list(enumerate(self.fused(query)))[rule.range_min : rule.range_max]
        candidates = {}
        for text, rank in [(text, -1) for text in given] + [(text, rank) for rank, text in window]:
            candidates.setdefault(text, rank)
        left, _ = self.filtered(row, positive, own, lowest, candidates)
        if rule.relax and not left:
            left, candidates = self.easy(row, positive, own, lowest)
        score = {text: self.score(query, text) for text in [positive, *left]}
        if rule.cross_encoder is not None:
            left = left[: rule.cross_encoder_candidates]
            pairs = [(query, text) for text in [positive, *left]]
            judged = dict(zip([positive, *left], self.cross(pairs), strict=True))
            if rule.max_cross_encoder_score is not None:
                bad = [t for t in left if judged[t] > np.float32(rule.max_cross_encoder_score)]
                left = self.without(left, bad, "cross_encoder", candidates)
            score = judged if rule.cross_encoder_scores else score
        if rule.sampling_strategy == "random":
            key = hashed(row["id"], self.seed)
            draws = {t: -1.0 if candidates[t] == -1 else drawn(key, hashed(t, self.seed)) for t in left}
            taken = sorted(left, key=draws.get)[: rule.num_negatives]
            left = [text for text in left if text in taken]
        chosen = [(text, score[text], candidates[text]) for text in left[: rule.num_negatives]]
        return number, positive, score[positive], chosen, possible

    def without(self, left, bad, reason, candidates):
        """Those left that are not bad, or given and known to be wrong."""
        gone = {text for text in bad if not (self.verified and candidates[text] == -1)}
        self.notes[f"rejected_{reason}"] += len(gone)
        return [text for text in left if text not in gone]

    def filtered(self, row, positive, own, lowest, candidates, *, easy=False):
        """The candidates that the filters leave, in order; of those that may be negatives at all the furthest."""
        rule, query = self.rule, row["query"]
        score = {text: self.score(query, text) for text in candidates}
        left = list(candidates)

        def drop(reason, is_bad):
            nonlocal left
            left = self.without(left, [text for text in left if is_bad(text)], reason, candidates)

        drop("max_score", lambda t: score[t] > self.high)
        if rule.max_length_ratio is not None:
            drop("length", lambda t: max(len(t) / len(positive), len(positive) / len(t)) > rule.max_length_ratio)
        if rule.near_duplicate is not None:
            limit = np.float32(rule.near_duplicate)
            drop("near_duplicate", lambda t: max(self.alike(t, p) for p in own) >= limit)
        if rule.guide is not None:
            drop("guide", lambda t: self.score(query, t, rule.guide, told=False) > np.float32(rule.max_guide_score))
        if rule.reject_answer:
            drop("answer_in_passage", lambda t: any(holds(t, answer) for answer in row["answers"]))
        sound = left
        limits = []
        if rule.relative_margin is not None:
            limits.append(lowest - np.float32(rule.relative_margin) * abs(lowest))
        if rule.absolute_margin is not None:
            limits.append(lowest - np.float32(rule.absolute_margin))
        drop("margin", lambda t: bool(limits) and score[t] > min(limits))
        if easy:
            return left, min(sound, key=score.get, default=None)
        held = left
        drop("min_score", lambda t: score[t] < self.low)
        likely = None
        if rule.max_false_negative_probability is not None:
            likely = self.probability(query, self.ranked(query), candidates, score)
        if likely is not None:
            drop("false_negative_probability", lambda t: likely[t] > rule.max_false_negative_probability)
        if rule.relax and not left and held and likely is not None:
            self.notes["least_likely_false_negative_taken"] += 1
            left = [min(held, key=likely.get)]
        return left, None

    def easy(self, row, positive, own, lowest):
        """Texts drawn for a row of which nothing is left, in the order in which they were drawn."""
        key, pool, excluded = hashed(row["id"], self.seed), self.pool, self.excluded[row["query"]]
        numbers = [int(drawn(key, number) * len(pool)) for number in range(16)]
        candidates = dict.fromkeys((pool[n] for n in numbers if pool[n] not in excluded), -2)
        before = self.notes.copy()
        left, lowest_of_all = self.filtered(row, positive, own, lowest, candidates, easy=True)
        self.notes = before
        if not left and lowest_of_all is not None:
            self.notes["random_text_above_margin"] += 1
            left = [lowest_of_all]
        self.notes["random_text_taken"] += bool(left)
        return left, {text: candidates[text] for text in left}

    def alike(self, left, right):
        return np.float32(exact(self.vector(left, "document"), self.vector(right, "document")))


def hashed(text, seed):
    return xxhash.xxh64_intdigest(text.encode(), xxhash.xxh64_intdigest(str(seed).encode()))


def drawn(row_key, text_key):
    """splitmix64's finaliser of both keys, as a share of 2**64."""
    z = (row_key + text_key * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z ^ (z >> 31)) / 2**64


def kth(scores, k):
    return sorted(scores, reverse=True)[k - 1] if len(scores) >= k else -np.inf


def holds(passage, answer):
    words, wanted = (re.findall(r"\w+", text.lower()) for text in (passage, answer))
    return bool(wanted) and any(words[i : i + len(wanted)] == wanted for i in range(len(words)))
