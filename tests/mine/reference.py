"""The pair rules written as plainly as possible, over lists and dicts: what the fast ones must equal."""

import numpy as np


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


def excluded_for(query, rows, docs, symmetric):
    """Texts that may never be a negative of a query text."""
    same = [row for row in rows if row["query"] == query]
    excluded = {query} | {p for row in same for p in row["positives"]}
    groups = {g for row in same for g in row["groups"]}
    for row in rows:
        if groups & set(row["groups"]):
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
