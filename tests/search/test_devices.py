"""A search gives the same on any device, and everything in mining searches on the device it was given."""

import numpy as np
import pytest
import torch

from medi_build.content.mining_rule import MiningRule
from medi_build.errors import OptionError
from medi_build.ledger import Ledger
from medi_build.search import dense
from medi_build.search.dense import topk
from medi_build.search.exclusions import Exclusions, Labels, incidence, label_bits
from tests.mine.conftest import embed, examples, mined_table
from tests.search.test_dense import unit

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


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("cells", [1, 700, 1 << 23])
def test_queries_dealt_out_to_several_devices_come_back_in_order(monkeypatch, no_short_cut, count, cells):
    wanted = topk(*a_search())
    monkeypatch.setattr(dense, "devices", lambda name: ["cpu"] * count)
    monkeypatch.setattr(dense, "RESIDENT_CELLS", cells)
    found = topk(*a_search())
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.scores, wanted.scores)


def test_a_fault_on_one_of_several_devices_is_raised(monkeypatch, no_short_cut):
    queries, corpus, k, _ = a_search()
    queries[99, 0] = np.nan
    monkeypatch.setattr(dense, "devices", lambda name: ["cpu"] * 2)
    with pytest.raises(dense.MiningError, match="vector 99 of the queries holds NaN or infinity"):
        topk(queries, corpus, k)


def test_a_search_leaves_the_settings_of_the_process_alone(no_short_cut):
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_fp16_reduced_precision_reduction, matmul.fp32_precision
    topk(*a_search())
    assert (matmul.allow_fp16_reduced_precision_reduction, matmul.fp32_precision) == before


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("fast", [True, False])
def test_a_gpu_ranks_as_the_cpu_does(monkeypatch, fast):
    monkeypatch.setattr(dense, "EXACT_FROM_START", 0)
    monkeypatch.setattr(dense, "SMALL_CELLS", 0)
    monkeypatch.setattr(dense, "_has_fast_half", lambda device: fast and device != "cpu")
    wanted, found = topk(*a_search()), topk(*a_search(), device="cuda")
    assert found.ids.tobytes() == wanted.ids.tobytes()
    assert found.scores.tobytes() == wanted.scores.tobytes()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_mining_on_a_gpu_gives_the_same_records(kind):
    assert mined(kind, "cuda").equals(mined(kind, "cpu"))
