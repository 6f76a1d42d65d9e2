"""A search gives the same on any device, and everything in mining searches on the device it was given."""

import numpy as np
import pytest
import torch

from medi_build.content.mining_rule import MiningRule
from medi_build.errors import MiningError, OptionError
from medi_build.ledger import Ledger
from medi_build.search import dense
from medi_build.search.dense import topk
from medi_build.search.exclusions import Exclusions, Labels, incidence, label_bits
from tests.mine.conftest import embed, examples, mined_table
from tests.search.test_dense import as_on_a_gpu, unit

KINDS = ("pairs", "classification", "text2text")
RULE = MiningRule(
    num_negatives=3,
    range_max=20,
    max_false_negative_probability=0.4,
    relax=True,
    encoders=("same",),
    consistency_top=60,
    round_trip_top=60,
)


def rows(kind):
    rng = np.random.default_rng(5)
    words = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(60)]
    asked = [[*rng.choice(words, 4)] for _ in range(150)]
    answers = {
        "pairs": lambda own: {"positives": [" ".join([*own[1:], *rng.choice(words, 2)])]},
        "classification": lambda own: {"labels": [own[0][0]]},
        "text2text": lambda own: {"answers": [own[0]]},
    }[kind]
    return examples([{"query": " ".join(own), **answers(own)} for own in asked])


def mined(kind, device):
    ledger = Ledger("toy", read=150, adapted=150)
    return mined_table(
        rows(kind),
        None,
        kind=kind,
        rule=RULE,
        embed=embed,
        others={"same": embed},
        seed=3,
        ledger=ledger,
        device=device,
    )


def a_search():
    rng = np.random.default_rng(0)
    corpus = unit(rng, 3000, 32)[rng.integers(0, 2500, 3000)]
    queries = np.concatenate([unit(rng, 70, 32), corpus[:30]])
    excluded = rng.random((100, 3000)) < 0.05
    bits = [label_bits(np.arange(n), rng.integers(0, 5, n), n, 5) for n in (100, 3000)]
    return queries, corpus, 12, Exclusions(incidence(*np.nonzero(excluded), excluded.shape), Labels(*bits, "disjoint"))


@pytest.fixture
def no_short_cut(monkeypatch):
    """Search as where there is much to search."""
    monkeypatch.setattr(dense, "EXACT_FROM_START", 0)
    monkeypatch.setattr(dense, "SMALL_CELLS", 0)


@pytest.mark.parametrize("cells", [1, 700, 1 << 23])
def test_queries_searched_at_a_time_come_back_in_order(monkeypatch, no_short_cut, cells):
    wanted = topk(*a_search())
    monkeypatch.setattr(dense, "RESIDENT_CELLS", cells)
    same(topk(*a_search()), wanted)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("in_parts", [False, True])
def test_queries_dealt_out_to_several_devices_come_back_in_order(monkeypatch, no_short_cut, count, in_parts):
    wanted = topk(*a_search())
    as_on_a_gpu(monkeypatch, in_parts=in_parts)
    monkeypatch.setattr(dense, "devices", lambda name: ["cpu"] * count)
    same(topk(*a_search()), wanted)


@pytest.mark.parametrize("count", [1, 2])
def test_a_fault_on_one_of_several_devices_is_raised(monkeypatch, no_short_cut, count):
    queries, corpus, k, _ = a_search()
    queries[99, 0] = np.nan
    as_on_a_gpu(monkeypatch, in_parts=True)
    monkeypatch.setattr(dense, "devices", lambda name: ["cpu"] * count)
    with pytest.raises(MiningError, match="vector 99 of the queries holds NaN or infinity"):
        topk(queries, corpus, k)


def test_a_search_sums_in_full_precision_and_leaves_the_settings_of_the_process_alone(monkeypatch, no_short_cut):
    matmul, seen = torch.backends.cuda.matmul, []

    def settings():
        return {name: getattr(matmul, name) for name in dense._FULL_PRECISION}

    search = dense._search
    monkeypatch.setattr(dense, "_search", lambda *args: seen.append(settings()) or search(*args))
    before = settings()
    try:
        matmul.allow_fp16_accumulation = True
        topk(*a_search())
        assert settings() == {**before, "allow_fp16_accumulation": True}
    finally:
        matmul.allow_fp16_accumulation = before["allow_fp16_accumulation"]
    assert seen and all(one == dense._FULL_PRECISION for one in seen)


@pytest.mark.parametrize("kind", KINDS)
def test_every_search_of_mining_is_on_the_given_device(monkeypatch, kind):
    seen = []
    monkeypatch.setattr(dense, "devices", lambda name: seen.append(name) or ["cpu"])
    table = mined(kind, "cuda:5")
    assert table.num_rows > 100
    assert seen and set(seen) == {"cuda:5"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_is_not_there_is_an_error(kind):
    with pytest.raises(OptionError, match="'cuda:97' is not here"):
        mined(kind, "cuda:97")
    with pytest.raises(OptionError, match="'abacus' is not known"):
        mined(kind, "abacus")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_mining_on_a_gpu_gives_the_same_records(kind):
    assert mined(kind, "cuda").equals(mined(kind, "cpu"))


def same(found, wanted):
    assert found.ids.tobytes() == wanted.ids.tobytes()
    assert found.scores.tobytes() == wanted.scores.tobytes()
