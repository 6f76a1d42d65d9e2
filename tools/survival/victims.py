"""The commands that are killed, one entry each."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from medi_build.encode.load import quiet
from tools.survival.builds import (
    ENCODER,
    INSTRUCTION,
    build_words,
    built,
    copy_earlier,
    earlier_build,
    nothing,
    read_built,
)
from tools.survival.harness import Sight, Victim, digests
from tools.survival.victims_versions import VERSIONS

# --- mine


def pairs(shared: Path) -> None:
    """Sixty pairs of one's own."""
    rows = [[f"where is the {thing} number {i}?", f"the {thing} number {i} stands in room {i * 7 % 60}"]
            for i in range(20) for thing in ("lamp", "door", "table")]  # fmt: skip
    (shared / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))


def mine_words(shared: Path, run: Path) -> list[str]:
    """All six forms."""
    forms = ("triplet", "n-tuple", "labeled-pair", "labeled-list", "flagembedding", "tevatron")
    words = ["mine", str(shared / "pairs.jsonl"), "--out", str(run / "out"), "--store", str(run / "cache")]
    words += ["--encoder", ENCODER, "--query-instruction", INSTRUCTION, "--document-instruction", INSTRUCTION]
    words += ["--preset", "paper", "--set", "num_negatives=3"]
    return [*words, *(word for form in forms for word in ("--format", form))]


def read_mined(run: Path) -> Sight:
    """Read each file that has its name to the end."""
    files = [path for path in (run / "out").glob("*") if not path.name.startswith(".")]
    for path in files:
        if path.suffix == ".parquet":
            assert pq.read_table(path).num_rows, path
        elif path.suffix == ".jsonl":
            assert [json.loads(line) for line in path.read_text().splitlines()], path
        else:
            json.loads(path.read_text())
    return "whole" if any(path.name == "ledger.json" for path in files) else "refused"


# --- train


def toy_data(shared: Path) -> None:
    """Sixty records of two tasks in the form of ``medi-data.json``."""
    topics = ["copper roofs", "bread dough", "the harbour", "night trains"]
    records = [
        {"query": [INSTRUCTION, f"why {topics[i % 4]} number {i}?"],
         "pos": [INSTRUCTION, f"{topics[i % 4]} number {i} is so because of the air and {i}"],
         "neg": [INSTRUCTION, f"{topics[(i + 2) % 4]} in {i + 1000} years"], "task_id": 1 + i // 30}
        for i in range(60)
    ]  # fmt: skip
    (shared / "medi-data.json").write_text(json.dumps(records))


def train_words(shared: Path, run: Path) -> list[str]:
    """Six steps with three checkpoints, and both saved forms."""
    words = ["train", str(shared / "medi-data.json"), "--model", ENCODER, "--output-dir", str(run / "out")]
    words += ["--max-steps", "6", "--eval-steps", "2", "--logging-steps", "1", "--save-total-limit", "2"]
    words += ["--train-batch-size", "8", "--max-source-length", "48", "--eval-rows-per-task", "4"]
    return [*words, "--export", "instructor"]


def trained(run: Path) -> dict[str, str]:
    """The model in both forms. Checkpoints hold times of day, and card and page say how long it took."""
    return digests(run / "out", but=("checkpoint-*/*", "checkpoint-*/*/*", "README.md", "training.html", "runs/*/*"))


def read_model(run: Path) -> Sight:
    """Load what is there as a model; nothing but a whole one may load."""
    from sentence_transformers import SentenceTransformer

    folder = run / "out"
    if not (folder / "modules.json").exists() and not (folder / "config.json").exists():
        return "refused"
    try:
        with quiet():
            model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except Exception:
        return "refused"
    kinds = [type(module).__name__ for module in model]
    assert kinds[:2] == ["Transformer", "Pooling"], kinds
    return "whole"


def entry(name: str, command: Callable[[Path, Path], Sequence[str]], **more: object) -> Victim:
    """A build under a name."""
    return Victim(name, **{"prepare": nothing, "begin": nothing, "command": command, "same": built,
                           "read": read_built, "leaves": STORE, **more})  # type: ignore[arg-type]  # fmt: skip


STORE = ("cache/**/.*.tmp", "cache/*/.*.tmp", "cache/*/*/.*.tmp")
"""The vector store clears away temporary files a day old, since another process may be writing one."""

VICTIMS = {
    victim.name: victim
    for victim in (
        entry("build", lambda shared, run: build_words(run)),
        entry("build -j 2", lambda shared, run: build_words(run, "-j", "2")),
        entry("build over another", lambda shared, run: build_words(run), prepare=earlier_build, begin=copy_earlier),
        Victim("mine", pairs, nothing, mine_words, lambda run: digests(run / "out"), read_mined, STORE),
        Victim("train", toy_data, nothing, train_words, trained, read_model),
        *VERSIONS,
    )
}
