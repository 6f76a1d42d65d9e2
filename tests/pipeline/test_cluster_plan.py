"""Figures for a cluster, worked out by hand."""

import pytest

from medi_build.encode.speed import Speed
from medi_build.pipeline.cluster_plan import Node, cluster_plan
from medi_build.pipeline.estimate import DatasetEstimate, Estimate

NODE = Node(texts_per_second=100.0, scores_per_second=1e9, price=2.5)


def dataset(name: str, rows: int | None, passages: int = 0) -> DatasetEstimate:
    return DatasetEstimate(name, there=1, fetch=0, transfers=(), rows=rows, known="ours", passages=passages)


def figures(*datasets: DatasetEstimate, encoders: int = 1) -> Estimate:
    texts = sum(2 * (one.rows or 0) + one.passages for one in datasets)
    return Estimate(datasets, (), {}, 0, texts, encoders, 0, Speed(100.0, 384, "cpu", "float32"))


def test_encoding_and_searching_are_shared_until_one_dataset_is_left() -> None:
    found = cluster_plan(figures(dataset("a", 180_000), dataset("b", 1_800_000), dataset("c", None)), NODE, 10)
    assert found.encoding == pytest.approx(11)  # 3.96M texts at 100 a second
    assert found.searching == pytest.approx((180_000**2 + 1_800_000**2) / 1e9 / 3600)
    assert found.longest == "b"
    assert found.longest_hours == pytest.approx(10.9)
    hours = [one.hours for one in found.on]
    assert hours[0] == pytest.approx(found.encoding + found.searching)
    assert hours[1:] == pytest.approx([10.9] * 6)  # a dataset that is not handed out
    assert [one.money for one in found.on] == pytest.approx([one.hours * one.nodes * 2.5 for one in found.on])
    assert found.on[2].vectors == pytest.approx(3_960_000 * (2 * 384 + 17) / 4)
    assert found.network == 1_980_000 * 1500


def test_what_is_handed_out_is_shared_to_the_end_and_sent() -> None:
    whole = figures(dataset("pages", 200_000, passages=3_000_000), encoders=2)
    found = cluster_plan(whole, NODE, listed=100, split_above=1_000_000)
    assert [one.hours for one in found.on] == pytest.approx([found.on[0].hours / one.nodes for one in found.on])
    assert found.searching == pytest.approx(2 * 200_000 * 3_200_000 / 1e9 / 3600)
    sent = 3_400_000 * (500 + 768) + 2 * 3_200_000 * 768 + 200_000 * 4 * 100 * 16
    assert found.network == pytest.approx(200_000 * 1500 + 2 * sent)
    assert cluster_plan(whole, NODE, 100, split_above=3_000_000).on[-1].hours == pytest.approx(found.on[0].hours)


def test_no_price_is_no_money() -> None:
    found = cluster_plan(figures(dataset("a", 100)), Node(1.0, 1.0), 10)
    assert {one.money for one in found.on} == {None}
