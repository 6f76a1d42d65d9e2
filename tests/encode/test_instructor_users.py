"""What users' code does with the public package's class, and with a SentenceTransformer, done to `Instructor`."""

import base64
import json
import re
import shutil
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

import medi_build.compat
from medi_build import Instructor
from tests.conftest import ROOT

TINY = Path(__file__).parent.parent / "golden" / "tiny_instructor"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAIRS = [["Represent the sentence;", "one"], ["", "two words"], ["Represent the question: ", "three more words"]]

GETTING_STARTED = """
from InstructorEmbedding import INSTRUCTOR
model = INSTRUCTOR('hkunlp/instructor-large')
# prepare texts with instructions
text_instruction_pairs = [
    {"instruction": "Represent the Science title:", "text": "3D ActionSLAM: wearable person tracking in multi-floor environments"},
    {"instruction": "Represent the Medicine sentence for retrieving a duplicate sentence:", "text": "Recent studies have suggested that statins, an established drug group in the prevention of cardiovascular mortality, could delay or prevent breast cancer recurrence but the effect on disease-specific mortality remains unclear."}
]

# postprocess
texts_with_instructions = []
for pair in text_instruction_pairs:
    texts_with_instructions.append([pair["instruction"], pair["text"]])

# calculate embeddings
customized_embeddings = model.encode(texts_with_instructions)
for pair, embedding in zip(text_instruction_pairs, customized_embeddings):
    print("Instruction: ", pair["instruction"])
    print("text: ", pair["text"])
    print("Embedding: ", embedding)
    print("")
"""  # noqa: E501  # the public README, word for word
SIMILARITY = """
from sklearn.metrics.pairwise import cosine_similarity
sentences_a = [['Represent the Science sentence: ','Parton energy loss in QCD matter'], 
               ['Represent the Financial statement: ','The Federal Reserve on Wednesday raised its benchmark interest rate.']]
sentences_b = [['Represent the Science sentence: ','The Chiral Phase Transition in Dissipative Dynamics'],
               ['Represent the Financial statement: ','The funds rose less than 0.5 per cent on Friday']]
embeddings_a = model.encode(sentences_a)
embeddings_b = model.encode(sentences_b)
similarities = cosine_similarity(embeddings_a,embeddings_b)
"""  # noqa: W291, E501
CLUSTERING = """
import sklearn.cluster
sentences = [['Represent the Medicine sentence for clustering: ','Dynamical Scalar Degree of Freedom in Horava-Lifshitz Gravity'],
             ['Represent the Medicine sentence for clustering: ','Comparison of Atmospheric Neutrino Flux Calculations at Low Energies'],
             ['Represent the Medicine sentence for clustering: ','Fermion Bags in the Massive Gross-Neveu Model'],
             ['Represent the Medicine sentence for clustering: ',"QCD corrections to Associated t-tbar-H production at the Tevatron"],
             ['Represent the Medicine sentence for clustering: ','A New Analysis of the R Measurements: Resonance Parameters of the Higher,  Vector States of Charmonium']]
embeddings = model.encode(sentences)
clustering_model = sklearn.cluster.MiniBatchKMeans(n_clusters=2)
clustering_model.fit(embeddings)
cluster_assignment = clustering_model.labels_
print(cluster_assignment)
"""  # noqa: E501
QUANTIZATION = """
# imports 
import torch
from InstructorEmbedding import INSTRUCTOR

# load the model 
model = INSTRUCTOR('hkunlp/instructor-large', device='cpu')  # you can use GPU

# quantize the model 
qmodel = torch.quantization.quantize_dynamic(
model, {torch.nn.Linear}, dtype=torch.qint8)

# Inference 
sentence = "3D ActionSLAM: wearable person tracking in multi-floor environments"
instruction = "Represent the Science title:"

embeddings = qmodel.encode([[instruction,sentence]])  
# you can also normalize the embeddings:  normalize_embeddings=True 

print(f"Quantized Embeddings:\\n {embeddings}")
"""  # noqa: W291


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds a small model under the name of the large one; the hub itself is out of reach."""
    repository = tmp_path / "cache" / "models--hkunlp--instructor-large"
    shutil.copytree(TINY, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def with_our_import(snippet: str) -> str:
    return snippet.replace("from InstructorEmbedding import INSTRUCTOR", "from medi_build.compat import INSTRUCTOR")


def test_the_snippets_of_the_public_readme(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(hub_cache))
    found: dict[str, Any] = {}
    for snippet in (GETTING_STARTED, SIMILARITY, CLUSTERING):
        exec(with_our_import(snippet), found)
    assert found["customized_embeddings"].shape == (2, 12)
    assert found["similarities"].shape == (2, 2)
    assert len(found["cluster_assignment"]) == 5
    exec(with_our_import(QUANTIZATION), found)
    title = [[found["instruction"], found["sentence"]]]
    assert (found["embeddings"] * found["model"].encode(title)).sum() > 0.99
    assert "Quantized Embeddings" in capsys.readouterr().out


def test_the_snippets_of_our_page(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(hub_cache))
    monkeypatch.setitem(sys.modules, "InstructorEmbedding", None)
    page = (ROOT / "docs" / "coming-from-instructorembedding.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^( *)```python\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE)
    assert len(snippets) == 4
    found: dict[str, Any] = {}
    for _, snippet in snippets:
        exec(textwrap.dedent(snippet), found)
    assert sys.modules["InstructorEmbedding"].INSTRUCTOR is Instructor
    assert isinstance(found["smaller"], Instructor)
    assert "(12,)" in capsys.readouterr().out


class LangChainLike:
    """How LangChain's HuggingFaceInstructEmbeddings uses the class."""

    def __init__(self, model_name: str, cache_folder: str | None, model_kwargs: Any, encode_kwargs: Any) -> None:
        self.client = medi_build.compat.INSTRUCTOR(model_name, cache_folder=cache_folder, **model_kwargs)
        self.encode_kwargs = encode_kwargs

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        pairs = [["Represent the document for retrieval: ", text] for text in texts]
        return self.client.encode(pairs, show_progress_bar=False, **self.encode_kwargs).tolist()

    def embed_query(self, text: str) -> list[float]:
        pair = ["Represent the question for retrieving supporting documents: ", text]
        return self.client.encode([pair], show_progress_bar=False, **self.encode_kwargs)[0].tolist()


def test_langchains_way(hub_cache: Path) -> None:
    chain = LangChainLike(
        "hkunlp/instructor-large",
        str(hub_cache),
        {"device": "cpu", "revision": COMMIT},
        {"normalize_embeddings": True, "batch_size": 2},
    )
    own = Instructor(TINY, "cpu")
    texts = ["one", "two words", "three\nlines"]
    wanted = own.encode([["Represent the document for retrieval: ", text] for text in texts])
    assert np.allclose(chain.embed_documents(texts), wanted, atol=1e-6)
    assert np.isclose(np.linalg.norm(chain.embed_query("one")), 1)


@pytest.mark.slow
def test_langchain_itself(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = pytest.importorskip("langchain_community.embeddings")
    monkeypatch.setitem(sys.modules, "InstructorEmbedding", medi_build.compat)
    chain = embeddings.HuggingFaceInstructEmbeddings(
        model_name="hkunlp/instructor-large", cache_folder=str(hub_cache), model_kwargs={"device": "cpu"}
    )
    wanted = Instructor(TINY, "cpu").encode([["Represent the document for retrieval: ", "one"]])
    assert np.allclose(chain.embed_documents(["one"]), wanted, atol=1e-6)
    assert len(chain.embed_query("one")) == 12


def test_an_evaluator_and_a_step_of_the_trainer(tmp_path: Path) -> None:
    model = Instructor(TINY, "cpu")
    peer = SentenceTransformer(str(save(model, tmp_path / "peer")), device="cpu")
    left, right, scores = ["one", "two words", "three"], ["a one", "two", "four"], [1.0, 0.5, 0.0]
    evaluator = EmbeddingSimilarityEvaluator(left, right, scores, main_similarity="cosine")
    ours, theirs = evaluator(model), evaluator(peer)
    assert ours == pytest.approx(theirs, abs=1e-6)
    before = model.encode(PAIRS)
    pairs = Dataset.from_dict({"anchor": [PAIRS[0], PAIRS[2]] * 2, "positive": [PAIRS[1], PAIRS[0]] * 2})
    texts = Dataset.from_dict({"anchor": left, "positive": right})
    for rows in (texts, pairs):
        arguments = SentenceTransformerTrainingArguments(
            str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=2, use_cpu=True, report_to=[], save_steps=1
        )
        SentenceTransformerTrainer(
            model, arguments, train_dataset=rows, loss=losses.MultipleNegativesRankingLoss(model)
        ).train()
        after = model.encode(PAIRS)
        assert not np.array_equal(after, before)
        before = after
    loaded = Instructor(tmp_path / "run" / "checkpoint-1", "cpu")
    assert np.abs(loaded.encode(PAIRS) - before).max() < 1e-6


def save(model: Instructor, folder: Path) -> Path:
    model.save(folder)
    return folder


@pytest.mark.slow
def test_pools_of_processes() -> None:
    model = Instructor(TINY, "cpu")
    texts = [text for _, text in PAIRS]
    pool = model.start_multi_process_pool(["cpu", "cpu"])
    try:
        assert np.array_equal(model.encode_multi_process(PAIRS * 4, pool, chunk_size=3), model.encode(PAIRS * 4))
        found = model.encode(texts, prompt="Say: ", pool=pool, normalize_embeddings=True)
        assert np.array_equal(found, model.encode(texts, prompt="Say: ", normalize_embeddings=True))
    finally:
        model.stop_multi_process_pool(pool)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload needs."""

    files: dict[str, bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/repos/create"):
            return self.answer({"url": f"http://{self.headers['Host']}/team/model"})
        if "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            return self.answer(
                {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
            )
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    type(self).files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/team/model/commit/{COMMIT}"
            return self.answer({"success": True, "commitOid": COMMIT, "commitUrl": url})
        return self.answer({"errors": [], "warnings": []})

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()

    def answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.files = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield Hub
    server.shutdown()


def test_pushed_to_a_hub_it_is_a_sentence_transformer(hub: type[Hub], tmp_path: Path) -> None:
    model = Instructor(TINY, "cpu")
    assert model.push_to_hub("team/model", token="hf_none").endswith(COMMIT)
    for name, content in hub.files.items():
        path = tmp_path / "pushed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    pushed = SentenceTransformer(str(tmp_path / "pushed"), device="cpu")
    assert np.abs(pushed.encode("one", prompt="Say: ") - model.encode("one", prompt="Say: ")).max() < 1e-6
    card = (tmp_path / "pushed" / "README.md").read_text()
    assert not re.search(r"import Instructor\b|= Instructor\(", card)


@pytest.mark.slow
def test_mteb_itself(tmp_path: Path) -> None:
    mteb = pytest.importorskip("mteb")
    from datasets import DatasetDict

    class Own(mteb.abstasks.AbsTaskSTS):
        metadata = mteb.TaskMetadata(
            name="OwnSTS",
            description="Three pairs of ours.",
            dataset={"path": "none/none", "revision": "0"},
            type="STS",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="cosine_spearman",
        )
        min_score, max_score = 0, 5

        def load_data(self, **_: Any) -> None:
            rows = {
                "sentence1": ["one", "two words", "three"],
                "sentence2": ["a one", "two", "four"],
                "score": [5, 3, 1],
            }
            self.dataset, self.data_loaded = DatasetDict({"test": Dataset.from_dict(rows)}), True

    model = Instructor(TINY, "cpu")
    peer = SentenceTransformer(str(save(model, tmp_path / "peer")), device="cpu")
    scores = [
        mteb.evaluate(one, Own(), cache=None, overwrite_strategy="always")[0].scores["test"][0]["main_score"]
        for one in (model, peer)
    ]
    assert scores[0] == pytest.approx(scores[1])
