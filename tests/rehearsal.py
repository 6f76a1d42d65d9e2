"""All hosts of the pipeline ``medi`` in one small server: a file of real form for every dataset, of made-up words.

What the files have to look like follows from the cards: their adapters, their names and the sizes they state.
"""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from medi_build.content.cards import Card, KiltOptions
from medi_build.content.load import Content, content_root, load_content, select_names
from medi_build.ingest.fetch import lacking, locate
from medi_build.ingest.remotes import Remote
from tests.loopback import COMMIT, Fault, Server

HOSTS = ("http://dl.fbaipublicfiles.com/", "https://github.com/")
REAL_PAGES = 5_903_530
SETS = ("WikiAnswers", "flickr30k_captions", "coco_captions")
TRIPLES = ("AllNLI", "specter_train_triples")
FEWEST_ROWS = 24
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "al", "en", "or", "is", "um")]


@dataclass
class Rehearsal:
    """What `lay_out` made.

    Attributes:
        content: overlay for ``--content`` whose cards point at the server.
        datasets: names of what the pipeline builds.
        places: (dataset, file name) -> path on the server.
        bytes: of all files together.
    """

    content: Path
    datasets: list[str]
    places: dict[tuple[str, str], str] = field(default_factory=dict)
    bytes: int = 0


class Writer:
    """Texts of words that are made up from a seed; a topic's texts share their words."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.words = sorted({"".join(self.draw.choices(SYLLABLES, k=self.draw.randint(1, 3))) for _ in range(4000)})

    def topic(self) -> list[str]:
        return self.draw.sample(self.words, 12)

    def text(self, topic: list[str], length: int) -> str:
        words = [self.draw.choice(topic if self.draw.random() < 0.5 else self.words) for _ in range(length)]
        return " ".join(words).capitalize() + "."


def lay_out(server: Server, folder: Path, scale: float) -> Rehearsal:
    """Write files and cards, and have the server serve them.

    Args:
        server: plays the hub (``HF_ENDPOINT``) and all other hosts.
        folder: where everything goes.
        scale: rows as a part of the real number; no dataset gets fewer than `FEWEST_ROWS`.
    """
    overlay = folder / "content"
    digests: dict[str, dict[str, str]] = {}
    _write_cards(overlay, server.url, {})
    content = load_content(overlay)
    done = Rehearsal(overlay, select_names(content.cards, content.pipelines["medi"].sources))
    files = _Files(server, folder / "files", content, scale)
    for name in done.datasets:
        card = content.cards[name]
        for remote in lacking(card, locate(card, "train", None).missing):
            done.places[name, remote.name] = files.add(card, remote)
            digests.setdefault(name, {})[remote.name] = files.digests.get(remote.key, "")
    files.close()
    _write_cards(overlay, server.url, digests)
    done.bytes = sum(path.stat().st_size for path in (folder / "files").iterdir())
    return done


def _write_cards(overlay: Path, url: str, digests: dict[str, dict[str, str]]) -> None:
    """Our sources with the server in place of all hosts; a digest is stated where the real card states one."""
    shutil.rmtree(overlay, ignore_errors=True)
    shutil.copytree(content_root() / "sources", overlay / "sources", ignore=shutil.ignore_patterns("sample*"))
    (overlay / "sources" / "task_ids.tsv").unlink()  # ours are known already
    for path in (overlay / "sources").rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        for host in HOSTS:
            text = text.replace(host, f"{url}/{urlsplit(host).netloc}/")
        card = yaml.safe_load(text)
        if place := card.get("download"):
            place.pop("size", None)
            stated, real = place.pop("sha256", {}), digests.get(card.get("name", ""), {})
            place["sha256"] = {name: real[name] for name in stated if real.get(name)}
        path.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True), encoding="utf-8")


class _Files:
    """Makes each remote file once and gives it to the server."""

    def __init__(self, server: Server, folder: Path, content: Content, scale: float) -> None:
        self.server, self.folder, self.scale = server, folder, scale
        folder.mkdir(parents=True)
        self.writer = Writer(7)
        self.digests: dict[str, str] = {}
        self._places: dict[str, str] = {}
        self._archives: dict[str, tuple[str, tarfile.TarFile]] = {}
        self._pages = [self._page(number) for number in range(max(300, round(REAL_PAGES * scale)))]
        self._trivia = max(FEWEST_ROWS, round(61_844 * scale))

    def add(self, card: Card, remote: Remote) -> str:
        """Make the file unless it was made for another card; returns its path on the server."""
        if remote.key not in self._places:
            content = self._content(card, remote)
            if remote.archive:
                self._places[remote.key] = self._pack(remote, content)
            else:
                local = self.folder / f"{len(self._places):04d}"
                local.write_bytes(content)
                self.digests[remote.key] = hashlib.sha256(content).hexdigest()
                pinned = remote.revision != "unconfirmed"
                revision = remote.revision if pinned else COMMIT
                path = f"/datasets/{remote.hub}/resolve/{revision}/{remote.path}"
                if remote.hub and not pinned:  # which commit it is, the first question tells
                    self.server.files[path.replace(COMMIT, "main")] = local
                self._places[remote.key] = path if remote.hub else urlsplit(remote.path).path
                self.server.files[self._places[remote.key]] = local
        return self._places[remote.key]

    def close(self) -> None:
        """Finish the archives, each with some members that nobody wants."""
        for _, tar in self._archives.values():
            for name in ("README.md", "tasks/README.md"):
                self._member(tar, f"natural-instructions/{name}", b"made up\n" * 1000)
            tar.close()

    def _pack(self, remote: Remote, content: bytes) -> str:
        path = urlsplit(remote.archive).path
        if path not in self._archives:
            local = self.folder / f"archive-{len(self._archives)}"
            self._archives[path] = (path, tarfile.open(local, "w:gz", compresslevel=1))  # noqa: SIM115
            self.server.files[path] = local
        self._member(self._archives[path][1], remote.path, content)
        return path

    @staticmethod
    def _member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))

    def _content(self, card: Card, remote: Remote) -> bytes:
        if remote.name.startswith("kilt_knowledgesource"):
            return _lines(self._pages)
        if remote.name.startswith("triviaqa_questions"):
            return self._trivia_questions("train" in remote.name)
        kinds: dict[str, Callable[[Card, int], bytes]] = {
            "super_ni": self._task, "kilt": self._kilt, "medmcqa": self._medmcqa, "pairs": self._pairs,
        }  # fmt: skip
        expected = card.expected_rows.get("train", 0)
        rows = round(expected * self.scale) if isinstance(expected, int) else 0
        return kinds[card.options.adapter](card, max(FEWEST_ROWS, rows))

    # --- forms

    def _task(self, card: Card, rows: int) -> bytes:
        """A Super-NI task: of the kind that its card tells, else every other one a classification."""
        write, draw = self.writer, self.writer.draw
        kind = card.options.outputs if card.options.adapter == "super_ni" else "auto"
        classed = kind in ("class", "option") or (kind == "auto" and draw.random() < 0.5)
        classes = draw.sample(write.words, draw.randint(2, 4)) if classed else []
        topic = write.topic()
        instances = []
        for number in range(draw.randint(rows, 2 * rows)):
            output = draw.choice(classes) if classes else write.text(topic, 8)
            text = f"Passage: {write.text(topic, 25)} Question {number}: {write.text(topic, 6)}"
            if kind == "option":
                text = f"{text} (A) {classes[0]} (B) {classes[1]}"
                output = draw.choice("AB")
            instances.append({"id": f"{card.name.rsplit('/', 1)[-1]}-{number:04d}", "input": text, "output": [output]})
        head = {"Contributors": ["nobody"], "Source": ["made up"], "URL": [""], "Categories": ["Text Completion"],
                "Reasoning": [], "Definition": [write.text(topic, 20)], "Input_language": ["English"],
                "Output_language": ["English"], "Instruction_language": ["English"], "Domains": ["Wikipedia"],
                "Positive Examples": [], "Negative Examples": []}  # fmt: skip
        return json.dumps({**head, "Instances": instances, "Instance License": ["Unknown"]}, indent=1).encode()

    def _page(self, number: int) -> dict[str, Any]:
        write = self.writer
        topic = write.topic()
        title = f"{write.text(topic, 2)[:-1]} {number}"
        paragraphs = [write.text(topic, write.draw.randint(20, 60)) for _ in range(write.draw.randint(2, 6))]
        text = [title, *(f"{part}\n" for part in paragraphs[:1]), "Section::::History.\n", *paragraphs[1:]]
        return {"_id": str(number), "wikipedia_id": str(number), "wikipedia_title": title, "text": text,
                "anchors": [], "categories": "", "history": {}, "wikidata_info": {}}  # fmt: skip

    def _kilt(self, card: Card, rows: int) -> bytes:
        assert isinstance(card.options, KiltOptions)
        write, draw, form = self.writer, self.writer.draw, card.options.input_form
        made = []
        for number in range(rows):
            page = draw.choice(self._pages)
            topic = page["text"][1].split()
            text = {"slot": f"{page['wikipedia_title']} [SEP] {write.text(topic, 2)[:-1]}",
                    "dialogue": "\n".join(write.text(topic, 9) for _ in range(3)),
                    "entity": f"{write.text(topic, 9)} [START_ENT] {page['wikipedia_title']} [END_ENT] is it"}.get(
                form, write.text(topic, 9))  # fmt: skip
            place = {"wikipedia_id": page["_id"], "title": page["wikipedia_title"], "section": "Section::::Abstract.",
                     "start_paragraph_id": 1, "end_paragraph_id": 1, "start_character": 0,
                     "end_character": 20}  # fmt: skip
            answer = draw.choice(["SUPPORTS", "REFUTES"]) if form == "claim" else topic[0]
            row = {"id": f"{number}", "input": text, "output": [{"answer": answer, "provenance": [place]}]}
            if "questions" in card.extra_files:
                row = {"id": f"tq_{number}", "output": row["output"]}
            made.append(row)
        return _lines(made)

    def _trivia_questions(self, train: bool) -> bytes:
        names = [f"tq_{number}" if train else f"sf_{number}" for number in range(self._trivia)]
        questions = [self.writer.text(self.writer.topic(), 12) for _ in names]
        return _parquet({"question": questions, "question_id": names, "question_source": [""] * len(names)})

    def _medmcqa(self, card: Card, rows: int) -> bytes:
        write, draw = self.writer, self.writer.draw
        topics = [write.topic() for _ in range(rows)]
        columns: dict[str, list[Any]] = {"id": [f"{number:08x}" for number in range(rows)]}
        columns["question"] = [write.text(topic, 12) for topic in topics]
        for option in "abcd":
            columns[f"op{option}"] = [write.text(topic, 3)[:-1] for topic in topics]
        columns["cop"] = [number % 4 for number in range(rows)]
        columns["choice_type"] = ["single"] * rows
        columns["exp"] = [write.text(topic, 30) if draw.random() < 0.9 else None for topic in topics]
        columns["subject_name"] = columns["topic_name"] = ["Anatomy"] * rows
        return _parquet(columns)

    def _pairs(self, card: Card, rows: int) -> bytes:
        """The line form of the real file."""
        stem = card.name.rsplit("/", 1)[-1]
        if stem == "pubmedqa":
            pairs = list(self._pair_rows(stem, rows))
            return _parquet({"question": [query for query, _ in pairs], "long_answer": [text for _, text in pairs]})
        return gzip.compress(_lines(self._pair_rows(stem, rows)), 1)

    def _pair_rows(self, stem: str, rows: int) -> Iterator[Any]:
        write, draw = self.writer, self.writer.draw
        for number in range(rows):
            topic = write.topic()
            query, positive, negative = f"{write.text(topic, 8)} {number}", write.text(topic, 30), write.text(topic, 30)
            if stem in SETS:
                yield {"set": [f"{write.text(topic, 8)} {number}" for _ in range(draw.randint(2, 5))]}
            elif stem in TRIPLES:
                yield [query, positive, negative]
            elif stem == "msmarco-triplets":
                yield {"query": query, "pos": [positive], "neg": [negative, write.text(topic, 30)]}
            elif stem in ("amazon-qa", "searchQA_top5_snippets"):
                yield {"query": query, "pos": [positive, write.text(topic, 20)]}
            else:
                yield [query, positive]


def _lines(rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def break_things(server: Server, rehearsal: Rehearsal) -> None:
    """One of each fault: asked to wait, busy, cut, wrong bytes, moved, slow."""
    size = {path: content.stat().st_size for path, content in server.files.items() if isinstance(content, Path)}

    def place(dataset: str, start: str = "") -> str:
        return next(p for (name, file), p in rehearsal.places.items() if name == dataset and file.startswith(start))

    archive = next(path for (name, _), path in rehearsal.places.items() if name.startswith("super_ni/"))
    pages, moved = place("kilt/nq", "kilt_knowledge"), place("kilt/nq", "nq-")
    server.faults = {
        archive: [Fault(code=429, retry_after="1"), Fault(cut=size[archive] // 2)],
        pages: [Fault(cut=size[pages] // 3), Fault(code=503)],
        place("kilt/wow", "wow-"): [Fault(flip=64)],
        place("kilt/trex", "trex-"): [Fault(pause=0.02)],
        place("medmcqa/explanation"): [Fault(cut=1000)],
        place("embedding_training_data/gooaq_pairs"): [Fault(code=503)],
    }
    new = moved.replace("/KILT/", "/kilt-2/")
    if moved in server.files:
        server.files[new] = server.files.pop(moved)
    server.faults[moved] = [Fault(code=301, location=new) for _ in range(100)]


def medi(folder: Path, content: Path, endpoint: str, out: str) -> subprocess.Popen[str]:
    """The build in a process of its own, with downloads and vectors of its own."""
    arguments = ["--pipeline", "medi", "--content", content, "--encoder", folder / "encoder", "--device", "cpu",
                 "--out", folder / out, "--cache", folder / f"{out}-cache", "-j", "2"]  # fmt: skip
    environment = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "hub"), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "medi_build", "build", "--no-report", *map(str, arguments)],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=(folder / f"{out}.log").open("w"), text=True,
    )  # fmt: skip
