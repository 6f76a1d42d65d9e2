"""Training: a step in bfloat16 and its memory, the same bits twice; with sentence-transformers whole runs, and peers.

Texts are made of made-up words, weights are random: losses mean nothing but that they are numbers.
"""

import json
import statistics
import string
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_parts.measure import Line, line, passed, wait
from benchmarks.gpu_parts.networks import BERT_TINY, MINILM, Mean, Shape, Transformer, network
from medi_build.train.loss import instructor_loss

BASE = Shape("bert", 12, 768, 3072, 12, 30522)
"""Of BERT base."""
WORDS = 2000


def run(device: str, small: bool) -> Iterator[Line]:
    yield from steps_alone(device, BERT_TINY if small else BASE, small)
    import sentence_transformers  # noqa: F401, the rest needs it

    with tempfile.TemporaryDirectory() as folder:
        yield from runs(Path(folder), device, BERT_TINY if small else BASE, small)


def steps_alone(device: str, shape: Shape, small: bool) -> Iterator[Line]:
    """Steps of a loop of our own, with torch and transformers alone."""
    rows, length, count = (4, 12, 3) if small else (64, 128, 12)
    took = {}
    for precision in (torch.float32, torch.bfloat16):
        loop = _Loop(device, shape, precision, rows, length)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        losses, seconds = loop.steps(count)
        took[precision] = statistics.median(seconds[1:])
        name = str(precision).removeprefix("torch.")
        more: dict[str, Any] = {}
        if precision == torch.bfloat16:
            more = {"ratio": took[precision] / took[torch.float32], "to": "float32"}
        memory = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB, " if device == "cuda" else ""
        note = f"{memory}{3 * rows * length / took[precision]:,.0f} tokens/s"
        yield line(f"a step of 3 x {rows} texts of {length} tokens, {name}", took[precision], "s", note=note, **more)
        yield passed(f"its losses are numbers, {name}", bool(np.isfinite(losses).all()))
    alike = [_Loop(device, shape, torch.bfloat16, rows, length).steps(4)[0] for _ in range(2)]
    yield line("two runs of 4 steps without determinism", "the same" if alike[0] == alike[1] else "other bits")


class _Loop:
    """A network with random weights, trained on random tokens."""

    def __init__(self, device: str, shape: Shape, precision: torch.dtype, rows: int, length: int) -> None:
        torch.manual_seed(0)
        with torch.device(device):
            self.layers = torch.nn.Sequential(Transformer(network(shape)), Mean()).train()
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(5, shape.words, (3 * rows, length), generator=generator)
        self.features = {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids).to(device)}
        self.optimiser = torch.optim.AdamW(self.layers.parameters(), 2e-5)
        self.device, self.precision, self.rows = device, precision, rows

    def steps(self, count: int) -> tuple[list[float], list[float]]:
        """Losses, and seconds, of so many steps."""
        losses, seconds = [], []
        for _ in range(count):
            wait(self.device)
            begin = time.perf_counter()
            with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
                vectors = self.layers(dict(self.features))["sentence_embedding"]
            loss = instructor_loss(*vectors.float().view(3, self.rows, -1), 0.01)
            loss.backward()
            self.optimiser.step()
            self.optimiser.zero_grad()
            losses.append(float(loss.detach()))
            wait(self.device)
            seconds.append(time.perf_counter() - begin)
        return losses, seconds


def runs(folder: Path, device: str, shape: Shape, small: bool) -> Iterator[Line]:
    """Whole runs of `medi train`'s own function."""
    rows, steps = (4, 4) if small else (64, 20)
    model, data = folder / "model", folder / "medi-data.json"
    save_model(shape, model)
    write_records(data, rows * steps, 4 if small else 60)
    settings: dict[str, Any] = {"train_batch_size": rows, "max_steps": steps}
    rates = {}
    for name, more in {
        "plain": {},
        "cached": {"cached": True},
        "plain, float32": {"precision": "float32"},
    }.items():
        rates[name], _ = timed_run(folder / name, data, model, device, **settings, **more)
        ratio = {} if name == "plain" else {"ratio": rates[name] / rates["plain"], "to": "plain"}
        yield line(f"medi train, {name}, batch {rows}: a step", rates[name], "s", **ratio)
    for name, loss in {"plain": "MultipleNegativesRankingLoss", "cached": "CachedMultipleNegativesRankingLoss"}.items():
        peer = sentence_transformers_run(folder / f"peer {name}", data, model, device, loss, rows, steps)
        what = f"sentence-transformers' trainer, {name}, bf16 on a GPU: a step"
        yield line(what, peer, "s", ratio=peer / rates[name], to=f"medi, {name}")
    little = folder / "little" / "model"  # checkpoints of the other take long to write
    little.parent.mkdir()
    save_model(BERT_TINY if small else MINILM, little)
    yield exact_resume(folder, data, little, device, settings)
    yield out_of_memory(folder, data, little, device, settings)


def save_model(shape: Shape, folder: Path) -> None:
    """A model that sentence-transformers loads: random weights, a word for a token."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.sentence_transformer.modules import Transformer as Module
    from transformers import BertTokenizerFast

    transformer = folder.parent / "transformer"
    torch.manual_seed(0)
    network(shape).save_pretrained(transformer)
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*marks, *string.punctuation, *words()][: shape.words]
    (transformer / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizerFast(str(transformer / "vocab.txt")).save_pretrained(transformer)
    module = Module(str(transformer))
    SentenceTransformer(modules=[module, Pooling(shape.width, "mean")], device="cpu").save(str(folder))


def words() -> list[str]:
    draw = np.random.default_rng(0)
    return ["".join(draw.choice(list(string.ascii_lowercase), 6)) for _ in range(WORDS)]


def write_records(path: Path, count: int, length: int) -> None:
    """Records with texts of ``length`` to twice as many words."""
    draw, known = np.random.default_rng(1), np.array(words())
    instruction = "Represent the text for retrieval; "

    def text() -> str:
        return " ".join(known[draw.integers(0, WORDS, draw.integers(length, 2 * length))])

    records = [
        {**{side: [instruction, text()] for side in ("query", "pos", "neg")}, "task_id": number % 2}
        for number in range(count)
    ]
    path.write_text(json.dumps(records), encoding="utf-8")


def step_times() -> Any:
    from transformers import TrainerCallback

    class StepTimes(TrainerCallback):  # type: ignore[misc]
        """Seconds of each optimiser step, loading of its batch included."""

        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.ends.append(time.perf_counter())

        def median(self) -> float:
            return statistics.median(np.diff(self.ends))

    return StepTimes()


def timed_run(
    out: Path, data: Path, model: Path, device: str, callbacks: tuple[Any, ...] = (), **changes: Any
) -> tuple[float, Any]:
    """The median seconds of a step, and the run."""
    from medi_build.train.settings import TrainSettings
    from medi_build.train.trainer import train

    extra = {"disable_tqdm": True, **({"use_cpu": True} if device == "cpu" else {})}
    fixed: dict[str, Any] = {"eval_rows_per_task": 0, "eval_steps": 1000, "logging_steps": 1, "max_source_length": 128}
    settings = TrainSettings(
        source=data, model_name_or_path=str(model), output_dir=out, extra=extra, **{**fixed, **changes}
    )
    times = step_times()
    trained = train(settings, callbacks=[times, *callbacks], report=lambda _: None)
    return times.median(), trained


def sentence_transformers_run(
    out: Path, data: Path, model: Path, device: str, loss: str, rows: int, steps: int
) -> float:
    """The median seconds of a step of its trainer, over the same records, instruction and text joined."""
    import datasets
    import sentence_transformers.sentence_transformer.losses as st_losses
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )

    encoder = SentenceTransformer(str(model), device=device)
    encoder.max_seq_length = 128
    records = json.loads(data.read_text(encoding="utf-8"))
    columns = {side: ["".join(record[side]) for record in records] for side in ("query", "pos", "neg")}
    args = SentenceTransformerTrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=rows,
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        bf16=device == "cuda",
        use_cpu=device == "cpu",
    )
    made = getattr(st_losses, loss)(encoder, scale=100.0)
    times = step_times()
    SentenceTransformerTrainer(
        model=encoder, args=args, train_dataset=datasets.Dataset.from_dict(columns), loss=made, callbacks=[times]
    ).train()
    return float(times.median())


def exact_resume(folder: Path, data: Path, model: Path, device: str, settings: dict[str, Any]) -> Line:
    """A run under full determinism, and one that is stopped after three steps and goes on from the second."""
    from safetensors.torch import load_file
    from transformers import TrainerCallback

    class Stop(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step == 3:
                raise KeyboardInterrupt

    few = {**settings, "max_steps": 4, "eval_steps": 2, "full_determinism": True}
    timed_run(folder / "whole", data, model, device, **few)
    with suppress(KeyboardInterrupt):
        timed_run(folder / "stopped", data, model, device, callbacks=(Stop(),), **few)
    _, resumed = timed_run(folder / "stopped", data, model, device, **few)
    one, other = (load_file(folder / name / "model.safetensors") for name in ("whole", "stopped"))
    same = all(torch.equal(one[name], other[name]) for name in one)
    what = "full determinism: a run resumed from step 2 ends with the same bits"
    return passed(what, same and resumed.resumed_from == 2)


def out_of_memory(folder: Path, data: Path, model: Path, device: str, settings: dict[str, Any]) -> Line:
    """Memory that ends half-way is one error with what to do."""
    from transformers import TrainerCallback

    from medi_build.errors import TrainError

    class Fill(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            torch.empty(1 << 50, device=device)

    what = "out of memory is told with what to do"
    try:
        timed_run(folder / "full", data, model, device, callbacks=(Fill(),), **settings)
    except TrainError as error:
        return passed(what, "add --cached" in str(error))
    return passed(what, False, "no error")
