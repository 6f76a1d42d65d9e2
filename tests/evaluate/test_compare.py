"""Models side by side: the arithmetic against scipy and hand-made cases, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap, pearsonr, spearmanr
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.errors import EvaluationError
from medi_build.evaluate.bootstrap import interval, resample
from medi_build.evaluate.compare import OVERALL, Comparison, compare, read_results
from medi_build.evaluate.compare_plot import plot_comparison
from medi_build.evaluate.results import Statistic, items_table, save_result
from tests.evaluate.test_results import result

RANDOM = np.random.default_rng(7)
IDS = [f"q{number}" for number in range(120)]
BASE = RANDOM.random(120)
BETTER = np.clip(BASE + 0.1 + 0.05 * RANDOM.standard_normal(120), 0, 1)
GOLD = RANDOM.random(120)


def save(folder: Path, name: str, values: np.ndarray, **changes: object) -> None:
    """A result whose main metric is the mean of its items."""
    model = {"model": name, "digest": f"{name}0000000", "dtype": "float32"}
    fields = {"model": model, "metrics": {"ndcg_at_10": float(values.mean())}, **changes}
    save_result(folder, result(**fields), items_table(IDS[: len(values)], values.tolist()))


def compared(folder: Path, **options: int) -> Comparison:
    return compare(read_results([folder]), **options)


@pytest.mark.parametrize("statistic", ["mean", "pearson", "spearman"])
def test_a_draw_is_the_metric_of_the_drawn_items(statistic: Statistic) -> None:
    gold = None if statistic == "mean" else GOLD.tolist()
    tables = [items_table(IDS, values.tolist(), gold) for values in (BASE, BETTER)]
    found = resample(tables, statistic, 50, seed=3)
    rows = np.random.default_rng(3).integers(0, len(IDS), (50, len(IDS)))
    metric = {
        "mean": lambda values, _: values.mean(),
        "pearson": lambda values, gold: pearsonr(values, gold)[0],
        "spearman": lambda values, gold: spearmanr(values, gold)[0],
    }[statistic]
    expected = [[metric(values[drawn], GOLD[drawn]) for drawn in rows] for values in (BASE, BETTER)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_draws_do_not_depend_on_how_many_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [items_table(IDS, BASE.tolist())]
    whole = resample(tables, "mean", 64, seed=1)
    monkeypatch.setattr("medi_build.evaluate.bootstrap._VALUES_PER_STEP", 120 * 16)
    np.testing.assert_array_equal(resample(tables, "mean", 64, seed=1), whole)


def test_the_interval_is_that_of_scipys_paired_bootstrap(tmp_path: Path) -> None:
    save(tmp_path, "a", BASE)
    save(tmp_path, "b", BETTER)
    difference = compared(tmp_path, samples=9999).tasks[0].differences[1]
    assert difference is not None and difference.low is not None and difference.high is not None
    theirs = bootstrap(
        (BETTER - BASE,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert difference.value == pytest.approx((BETTER - BASE).mean())
    assert (difference.low, difference.high) == pytest.approx((theirs.low, theirs.high), abs=5e-4)


def test_pairs_are_drawn_together_so_that_equal_models_differ_by_nothing(tmp_path: Path) -> None:
    save(tmp_path, "a", BASE)
    save(tmp_path, "b", BASE + 0.125)
    difference = compared(tmp_path).tasks[0].differences[1]
    assert difference == pytest.approx((0.125, 0.125, 0.125))


def test_averages_are_over_the_tasks_that_all_have(tmp_path: Path) -> None:
    for name, values in (("a", BASE), ("b", BETTER)):
        save(tmp_path, name, values, task="one")
        save(tmp_path, name, values / 2, task="two")
        save(tmp_path, name, values / 4, task="three", suite="billboard")
    save(tmp_path, "b", BETTER, task="four")
    found = compared(tmp_path, samples=200)
    assert found.labels == ("a (templates)", "b (templates)")
    assert [(row.suite, row.task) for row in found.averages] == [
        ("billboard", "1 task"), ("mteb", "2 tasks"), (OVERALL, "3 tasks"),
    ]  # fmt: skip
    mean = BASE.mean()
    assert [row.scores[0] for row in found.averages] == pytest.approx([mean / 4, mean * 0.75, mean * 1.75 / 3])
    assert found.notes == ("only some of the models have four: not in the averages",)
    (alone,) = [row for row in found.tasks if row.task == "four"]
    assert alone.scores[0] is None and alone.differences == (None, None)
    overall = found.averages[-1].differences[1]
    assert overall is not None and overall.low is not None and overall.low < overall.value < (overall.high or 0)


def test_other_items_give_no_interval_and_say_so(tmp_path: Path) -> None:
    save(tmp_path, "a", BASE)
    save(tmp_path, "b", BETTER[:50])
    found = compared(tmp_path)
    assert found.tasks[0].differences[1] == pytest.approx((BETTER[:50].mean() - BASE.mean(), None, None))
    assert found.notes == ("nfcorpus: no interval, as the results are over other items",)
    assert found.averages[0].differences[1] == found.tasks[0].differences[1]


def test_one_model_under_two_digests_is_two_models(tmp_path: Path) -> None:
    for digest in ("aaaaaaaaa", "bbbbbbbbb"):
        save(tmp_path, "a", BASE, model={"model": "a", "digest": digest})
    assert list(read_results([tmp_path])) == ["a (templates) [aaaaaaaa]", "a (templates) [bbbbbbbb]"]


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no such file or folder"):
        read_results([tmp_path / "none"])
    with pytest.raises(EvaluationError, match=r"holds no result; name a folder that `medi eval` wrote to"):
        read_results([tmp_path])
    save(tmp_path / "x", "a", BASE)
    with pytest.raises(EvaluationError, match=r"results of 1 model \(a \(templates\)\)"):
        compared(tmp_path / "x")
    save(tmp_path / "y", "a", BASE)
    with pytest.raises(EvaluationError, match="are results of one model"):
        read_results([tmp_path / "x", tmp_path / "y"])
    save(tmp_path / "z", "b", BASE, task="another")
    with pytest.raises(EvaluationError, match="no task in common"):
        compare(read_results([tmp_path / "x", tmp_path / "z"]))
    save(tmp_path / "w", "b", BASE, main_metric="map", metrics={"map": 0.5})
    with pytest.raises(EvaluationError, match=r"main metric is map \(mean\), that of .* is ndcg_at_10"):
        compare(read_results([tmp_path / "x", tmp_path / "w"]))


def test_the_picture_is_the_same_every_time_and_shows_every_row(tmp_path: Path) -> None:
    for name, values in (("a", BASE), ("b", BETTER), ("c", BASE[::-1])):
        save(tmp_path, name, values)
        save(tmp_path, name, values / 2, task="banking77")
    found = compared(tmp_path, samples=200)
    for name in ("1.svg", "2.svg"):
        plot_comparison(found, tmp_path / name)
    picture = (tmp_path / "1.svg").read_bytes()
    assert picture == (tmp_path / "2.svg").read_bytes()
    assert b"<svg" in picture and not list(tmp_path.glob(".*"))


def test_the_command_prints_whole_rows_and_writes_both_files(tmp_path: Path) -> None:
    for name, values in (("a", BASE), ("b", BETTER), ("c", BASE[::-1])):
        save(tmp_path / "results", name, values, task="a_task_with_a_name_of_some_length")
    arguments = ["eval", "compare", str(tmp_path / "results"), "--out", str(tmp_path / "out"), "--samples", "200"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    [row] = [line for line in done.stdout.splitlines() if line.startswith("a_task_with_a_name_of_some_length")]
    found = compared(tmp_path / "results", samples=200)
    difference = found.tasks[0].differences[1]
    assert difference is not None and difference.low is not None and difference.high is not None
    told = f"{100 * difference.value:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
    assert row.split()[1:3] == ["ndcg_at_10", f"{100 * BASE.mean():.2f}"] and told in row
    written = json.loads((tmp_path / "out" / "comparison.json").read_bytes())
    assert written["tasks"][0]["differences"][1] == difference._asdict()
    assert (tmp_path / "out" / "comparison.svg").is_file()


def test_draws_without_a_value_do_not_break_the_interval() -> None:
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
