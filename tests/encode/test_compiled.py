"""What a GPU does, on the CPU: passes of one length without a mask, layers compiled, and eager where that fails."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode import engine
from medi_build.encode.compiled import PAYS_FROM, Compiled, is_free_of_masks, layers_of
from medi_build.encode.encoder import Encoder
from medi_build.encode.engine import Arithmetic, Budget, Replica
from medi_build.encode.linears import refuse_int8
from medi_build.encode.passes import EQUAL_FROM
from medi_build.errors import EncoderError
from tests.encode.tiny_networks import CONFIGS, network_of, save_network

SHAPES = [(4, 17), (3, 32), (6, 9), (5, 40), (2, 63)]


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def transformer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    folder = save_network(tmp_path_factory.mktemp("networks") / request.param, request.param)
    return SentenceTransformer(str(folder), device="cpu").eval()[0]


def ids(rows: int, width: int) -> torch.Tensor:
    return torch.randint(5, 40, (rows, width), generator=torch.Generator().manual_seed(rows * width))


@torch.inference_mode()
def embedded(call: object, *shape: int, **features: torch.Tensor) -> torch.Tensor:
    assert callable(call)
    with torch.autocast("cpu", torch.bfloat16):
        found: torch.Tensor = call({"input_ids": ids(*shape), **features})["token_embeddings"]
    return found


def test_without_padding_a_mask_changes_nothing(transformer: nn.Module) -> None:
    assert is_free_of_masks(transformer)
    for shape in SHAPES:
        masked = embedded(transformer, *shape, attention_mask=torch.ones(shape, dtype=torch.int64))
        assert torch.equal(masked, embedded(transformer, *shape))


@pytest.mark.slow
def test_a_transformer_is_one_graph_for_all_shapes(transformer: nn.Module) -> None:
    """So its layers are, too: nothing in it leaves what the compiler sees."""
    torch._dynamo.reset()
    graphs = []

    def count(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    whole = torch.compile(transformer, dynamic=True, fullgraph=True, backend=count)
    assert all(torch.equal(embedded(whole, *shape), embedded(transformer, *shape)) for shape in SHAPES)
    assert len(graphs) == 1


def test_compiled_layers_give_what_the_transformer_gives_and_leave_it_alone(transformer: nn.Module) -> None:
    torch._dynamo.reset()
    compiled = Compiled(transformer, 0, "eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in [*SHAPES, (1, 20), (20, 1), (7, 7)]:
            assert torch.equal(embedded(compiled, *shape), embedded(transformer, *shape))
    assert (compiled._compiled is not None) == bool(layers_of(transformer))
    assert all(layer._compiled_call_impl is None for layer in layers_of(transformer))


def test_the_layers_of_a_deep_network_share_their_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "Bert", {**CONFIGS["Bert"], "num_hidden_layers": 12})
    network, _ = network_of("Bert", 0)
    network.processor = None
    assert len(layers_of(network)) == 12
    torch._dynamo.reset()
    graphs = []

    def count(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    compiled = Compiled(Features(network.eval()), 0, count)  # type: ignore[arg-type]
    for shape in SHAPES:
        embedded(compiled, *shape)
    assert len(graphs) == 1


class Features(nn.Module):
    """A network as sentence-transformers has it."""

    processor = config = None

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls = 0

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.calls += 1
        return {**features, "token_embeddings": self.network(features["input_ids"]).last_hidden_state}


def test_it_is_compiled_only_after_work_enough() -> None:
    torch._dynamo.reset()
    transformer = Features(network_of("Bert", 0)[0].eval())
    operations = 2 * sum(weights.numel() for weights in transformer.parameters())
    compiled = Compiled(transformer, 10.5 * 30 * operations, "eager")
    for _ in range(10):
        embedded(compiled, 5, 6)
    assert compiled._compiled is None
    embedded(compiled, 5, 6)
    assert compiled._compiled is not None
    assert transformer.calls == 10
    for seconds in (1, 100):  # at 400 TFLOP/s: neither at once nor never
        assert (PAYS_FROM < seconds * 400e12) == (seconds == 100)


def test_where_compiling_fails_it_says_so_once_and_goes_on() -> None:
    torch._dynamo.reset()
    transformer = Features(network_of("Bert", 0)[0].eval())
    tried = []

    def broken(*_: object) -> object:
        tried.append(1)
        raise RuntimeError("no compiler here\nand much more")

    compiled = Compiled(transformer, 0, broken)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="cannot be compiled here .*no compiler here") as told:
        for shape in SHAPES:
            assert torch.equal(embedded(compiled, *shape), embedded(transformer, *shape))
    assert len(told) == len(tried) == 1
    assert "much more" not in str(told[0].message)


def test_out_of_memory_is_not_taken_for_a_failed_compile() -> None:
    torch._dynamo.reset()

    def full(*_: object) -> object:
        def call(*_: object) -> object:
            raise torch.OutOfMemoryError("out of memory")

        return call

    compiled = Compiled(Features(network_of("Bert", 0)[0].eval()), 0, full)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            embedded(compiled, 4, 9)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_passes_of_a_gpu_give_the_vectors_of_the_cpus(tiny_t5: Path, dtype: str) -> None:
    torch._dynamo.reset()
    encoder = Encoder(EncoderSpec(model=str(tiny_t5), dtype=dtype), "cpu")
    texts = [*(f"crate {number % 7}" for number in range(2 * EQUAL_FROM // 9)), *("one of" * n for n in range(9))]
    instructions = ["Represent; " if number % 3 else "" for number in range(len(texts))]
    wanted = encoder.encode(texts, instructions).vectors
    tokens, found = encoder.tokenise(texts, instructions), np.empty_like(wanted)
    asked = []

    def bare(features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        asked.append(sorted(features))
        return compiled(features)

    def keep(rows: np.ndarray, features: dict[str, torch.Tensor]) -> None:
        found[rows] = features["unit_embedding"]

    compiled = Compiled(encoder.model[0], 0, "eager")
    replica = Replica(list(encoder.model), torch.device("cpu"), bare)
    engine.run([replica], tokens, keep, Arithmetic(encoder.window, encoder.dtype), Budget(replica.device))
    assert len(asked) > 1
    assert set(map(tuple, asked)) == {("input_ids",)}
    assert (found * wanted).sum(axis=1).min() > (1 - 1e-6 if dtype == "float32" else 0.9999)


def test_a_network_of_unknown_make_keeps_its_mask(tiny_t5: Path) -> None:
    encoder = Encoder(EncoderSpec(model=str(tiny_t5)), "cpu")
    assert is_free_of_masks(encoder.model[0])
    assert [one.bare for one in encoder._engines] == [None]
    encoder.model[0].model = Features(encoder.model[0].auto_model)
    assert not is_free_of_masks(encoder.model[0])


def test_int8_layers_of_torch_ao_are_refused_on_a_gpu(tiny_t5: Path) -> None:
    model = SentenceTransformer(str(tiny_t5), device="cpu")
    refuse_int8(model, torch.device("cuda:1"), "tiny")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
    refuse_int8(model, torch.device("cpu"), "tiny")
    with pytest.raises(
        EncoderError, match="tiny: has int8 layers of torch.ao .*the device is 'cuda:1'; pass device='cpu'"
    ):
        refuse_int8(model, torch.device("cuda:1"), "tiny")


@pytest.mark.gpu
def test_a_gpu_compiles_and_gives_the_vectors_of_the_cpu(tiny_t5: Path) -> None:
    torch._dynamo.reset()
    texts = [f"crate {number % 7}" for number in range(EQUAL_FROM)]
    wanted = Encoder(EncoderSpec(model=str(tiny_t5), dtype="float32"), "cpu").encode(texts).vectors
    encoder = Encoder(EncoderSpec(model=str(tiny_t5), dtype="bfloat16"), "cuda")
    for replica in encoder._engines:
        assert isinstance(replica.bare, Compiled)
        replica.bare._left = 0
    assert (encoder.encode(texts).vectors * wanted).sum(axis=1).min() > 0.9995
    assert all(isinstance(one.bare, Compiled) and one.bare._compiled is not None for one in encoder._engines)
