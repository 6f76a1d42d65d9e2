import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode import embedder as embedder_module
from medi_build.encode.embedder import open_embedder
from medi_build.encode.store import VectorStore
from medi_build.encode.writing import writing
from medi_build.errors import StoreError


class Held(VectorStore):
    """A store whose puts wait until they are let through, and which notes them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Semaphore(0)
        self.done: list[int] = []

    def put(self, identity, about, keys, vectors, flags) -> None:
        assert threading.current_thread() is not threading.main_thread()
        assert self.gate.acquire(timeout=60)
        super().put(identity, about, keys, vectors, flags)
        self.done.append(int(keys[0, 0]))


def one(number: int) -> tuple[str, dict[str, str], np.ndarray, np.ndarray, np.ndarray]:
    """What a put takes: one vector, which holds the number of its key."""
    return "ab", {}, np.array([[number, 0]], np.uint64), np.full((1, 4), number, np.float16), np.zeros(1, np.uint8)


def test_puts_are_made_in_order_behind_the_caller_who_waits_only_for_all_but_two(tmp_path: Path) -> None:
    store = Held(tmp_path / "store")
    with writing(store.put) as put:
        put(*one(1))
        put(*one(2))
        assert store.done == []
        third = threading.Thread(target=put, args=one(3))
        third.start()
        third.join(0.2)
        assert third.is_alive()
        store.gate.release()
        third.join(60)
        assert store.done == [1]
        store.gate.release(2)
    assert store.done == [1, 2, 3]
    found = VectorStore(tmp_path / "store").get("ab", np.array([[1, 0], [2, 0], [3, 0]], np.uint64))
    assert found.vectors[:, 0].tolist() == [1, 2, 3]


class Failing(VectorStore):
    def __init__(self, root: Path, fails: int) -> None:
        super().__init__(root)
        self.fails, self.tried = fails, 0

    def put(self, *what) -> None:
        self.tried += 1
        if self.tried == self.fails:
            raise StoreError("the disk is full")
        super().put(*what)


@pytest.mark.parametrize("puts", [2, 3, 9])
def test_an_error_of_a_put_reaches_the_caller(tmp_path: Path, puts: int) -> None:
    store = Failing(tmp_path / "store", fails=2)
    made = 0
    with pytest.raises(StoreError, match="the disk is full"), writing(store.put) as put:
        for number in range(puts):
            put(*one(number))
            made += 1
    assert made <= 4
    assert store.tried <= made


def test_what_was_put_before_an_error_of_the_caller_is_kept(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt), writing(store.put) as put:
        put(*one(1))
        put(*one(2))
        raise KeyboardInterrupt
    assert store.get("ab", np.array([[1, 0], [2, 0], [3, 0]], np.uint64)).mask.tolist() == [True, True, False]


KILLED = """
import sys
from pathlib import Path
from medi_build.content.pipelines import EncoderSpec
from medi_build.encode import embedder
embedder.CHUNK_TEXTS = 8
embed = embedder.open_embedder(EncoderSpec(model=sys.argv[1]), "cpu", Path(sys.argv[2]))
embed([f"text {number}" for number in range(1500)])
"""


@pytest.mark.slow
def test_after_a_kill_the_store_goes_on_with_the_same_bits(
    tiny_t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"text {number}" for number in range(1500)]
    wanted = open_embedder(EncoderSpec(model=str(tiny_t5)), "cpu")(texts).vectors
    store = tmp_path / "store"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tiny_t5), str(store)])
    while process.poll() is None and len(list(store.glob("*/*.arrow"))) < 5:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    monkeypatch.setattr(embedder_module, "CHUNK_TEXTS", 500)
    embed = open_embedder(EncoderSpec(model=str(tiny_t5)), "cpu", store)
    assert np.array_equal(embed(texts).vectors, wanted)
    assert 0 < embed.encoded <= 1500 - 5 * 8
