"""Prompts to answers, by a language model here or behind an endpoint; what was answered is kept and not asked again."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson

from medi_build.encode.engine import Progress
from medi_build.errors import EvaluationError, OutputError

BYTES_PER_TOKEN = 3
"""Where no tokenizer is at hand. English and SQL have more bytes than this to a token of common tokenizers."""

ESTIMATED = f"estimated, {BYTES_PER_TOKEN} bytes each"


def estimate(texts: Sequence[str]) -> list[int]:
    """Tokens of each text by its bytes."""
    return [-(-len(text.encode()) // BYTES_PER_TOKEN) for text in texts]


class Asked(NamedTuple):
    """What is asked of a language model.

    Attributes:
        prompt: its text, which the answer goes on from.
        labels: the answers that there are; none where the answer is free text.
        stop: texts that end an answer.
        answer_tokens: tokens of an answer at most.
    """

    prompt: str
    labels: tuple[str, ...]
    stop: tuple[str, ...]
    answer_tokens: int


class LanguageModel(Protocol):
    """Answers prompts.

    Attributes:
        name: what results and files of answers are named after.
        identity: what tells its answers from those of any other.
        about: name, digest, where it runs, and so on, as results tell it.
        tokens: how `count` counts, as results tell it.
        window: tokens of prompt and answer at most; None if that is not known.
    """

    name: str
    identity: str
    about: Mapping[str, Any]
    tokens: str
    window: int | None

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, or an estimate that is rather too high."""
        ...

    def answers(self, asked: Sequence[Asked]) -> Iterator[tuple[int, str]]:
        """The number of a prompt and its answer, one after the other in any order. Raises `EvaluationError`."""
        ...


def answers_path(folder: Path, model: LanguageModel) -> Path:
    """Where the answers of a language model are kept: JSON lines below the folder of results."""
    name = re.sub(r"[^\w.-]+", "_", model.name)
    return folder / "completions" / f"{name}.jsonl"


def complete(
    model: LanguageModel, asked: Sequence[Asked], folder: Path, progress: Progress | None = None
) -> tuple[list[str], int]:
    """The answer to each prompt; each is written down as soon as it is there.

    Args:
        model: who answers what was not answered before.
        asked: the prompts; one that stands there twice is asked once.
        folder: of results.
        progress: called with (prompts answered, prompts in all).

    Returns:
        The answers, and how many of them were there already.

    Raises:
        EvaluationError: the model gives no usable answer.
        OutputError: the answers cannot be written.
    """
    path, keys = answers_path(folder, model), [_key(model, one) for one in asked]
    known = _kept(path)
    kept = sum(key in known for key in keys)
    open_rows = {key: row for row, key in reversed(list(enumerate(keys))) if key not in known}  # the first of each key
    rows = sorted(open_rows.values())
    total = len(set(keys))
    tell = progress or (lambda done, total: None)
    tell(total - len(rows), total)
    if not rows:
        return [known[key] for key in keys], kept
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            for done, (number, answer) in enumerate(model.answers([asked[row] for row in rows]), 1):
                key = keys[rows[number]]
                known[key] = answer
                file.write(orjson.dumps({"key": key, "llm": model.name, "answer": answer}) + b"\n")
                tell(total - len(rows) + done, total)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); make room or choose another --out") from error
    return [known[key] for key in keys], kept


def _key(model: LanguageModel, asked: Asked) -> str:
    """What an answer is kept under: everything that decides it."""
    return hashlib.sha256(orjson.dumps([model.identity, *asked])).hexdigest()


def _kept(path: Path) -> dict[str, str]:
    """The answers in a file; a last line that a killed run left unfinished is cut off."""
    if not path.is_file():
        return {}
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("rb+") as file:
            file.truncate(whole)
    known = {}
    for number, line in enumerate(data[:whole].splitlines(), 1):
        try:
            kept = orjson.loads(line)
            known[str(kept["key"])] = str(kept["answer"])
        except (ValueError, TypeError, KeyError) as error:
            raise EvaluationError(
                f"{path}:{number}: is no answer that was kept ({type(error).__name__}: {error}); take the line out, or "
                "move the file away to ask everything again"
            ) from error
    return known
