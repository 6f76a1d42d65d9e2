"""Write the sample data that the quickstart builds from: ``python tools/make_sample_data.py [--out DIR]``.

Every run writes the same bytes. The hand-written material is in ``tools/sample_material/``; what each hard
case is for stands in ``sources/sample_data/README.md``.
"""

import argparse
import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sample_maker import kilt, medmcqa, pairs, super_ni
from sample_maker.world import World

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "sources" / "sample_data"


def lines(rows: Iterable[Any], last_newline: bool = True) -> str:
    """Rows as JSON lines."""
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f"{text}\n" if last_newline else text


def write(path: Path, text: str) -> None:
    """Write text, gzipped without a time stamp where the name asks for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, compresslevel=9, mtime=0)
    path.write_bytes(data)


def write_scored(path: Path, rows: list[tuple[str, str, float]]) -> None:
    """Write scored pairs in the hub's Parquet form."""
    schema = pa.schema([("sentence1", pa.string()), ("sentence2", pa.string()), ("score", pa.float64())])
    columns = [pa.array(column, type=kind) for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, compression="zstd")


def main() -> None:
    """Write all files below ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    out: Path = parser.parse_args().out
    world = World()
    for name, task in super_ni.tasks(world).items():
        write(out / "super_ni" / "tasks" / f"{name}.json", json.dumps(task, ensure_ascii=False, indent=4) + "\n")
    write(out / "kilt" / "kilt_knowledgesource.json", lines(kilt.knowledge_source(world)))
    write(out / "kilt" / "sample_nq-train-kilt.jsonl", lines(kilt.questions(world), last_newline=False))
    write(out / "kilt" / "sample_fever-train-kilt.jsonl", lines(kilt.claims(world)))
    write(out / "kilt" / "sample_wow-train-kilt.jsonl", lines(kilt.dialogues(world)))
    write(out / "medmcqa" / "sample_train.json", lines(medmcqa.rows()))
    folder = out / "embedding_training_data"
    write(folder / "sample_paraphrases.jsonl", lines(pairs.paraphrases(world)))
    write(folder / "sample_entailment.jsonl.gz", lines(pairs.entailment()))
    write(folder / "sample_captions.jsonl", lines(pairs.captions()))
    questions = lines(pairs.faq())
    # One line is cut short on purpose, as a broken download would leave it.
    write(folder / "sample_faq.jsonl", questions + '{"query": "Is the library open on hol\n')
    write(folder / "sample_search.jsonl", lines(pairs.search(world)))
    write_scored(folder / "sample_scored.parquet", pairs.scored(world))


if __name__ == "__main__":
    main()
