"""The knobs of mining: presets, names that they had once, and the page that lists them."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from medi_build.content.load import load_content
from medi_build.content.mining_rule import PRESETS, REMOVED, RENAMED, MiningRule
from medi_build.errors import ContentError
from tests.commands import run_main
from tools.knobs_table import TARGET, knobs_page

PIPELINE = "name: a\ndescription: d\nsources: [sample]\nencoder: {{model: x}}\nmining: {mining}\n"


def own_content(root: Path, mining: str) -> Path:
    (root / "pipelines").mkdir()
    (root / "pipelines" / "a.yaml").write_text(PIPELINE.format(mining=mining))
    return root


def test_a_preset_is_that_preset_and_knobs_replace_single_ones(tmp_path: Path) -> None:
    for preset, knobs in PRESETS.items():
        rule = MiningRule(preset=preset)
        assert {name: getattr(rule, name) for name in knobs} == knobs
        assert MiningRule.model_validate(rule.model_dump()) == rule
    rule = MiningRule(preset="positive-aware", relative_margin=None, num_negatives=3)
    assert (rule.relative_margin, rule.num_negatives) == (None, 3)
    assert (rule.max_false_negative_probability, rule.near_duplicate, rule.relax) == (0.4, 0.95, True)
    content = load_content(own_content(tmp_path, "{preset: positive-aware, relative_margin: null, num_negatives: 3}"))
    assert content.pipelines["a"].mining == rule
    assert MiningRule() == MiningRule(preset="paper")


@pytest.mark.parametrize("preset", ["papre", 3, ["paper"]])
def test_an_unknown_preset_is_an_error_that_names_them_all(preset: object) -> None:
    with pytest.raises(ValidationError, match=r"mining has no preset .*; there are paper, positive-aware, medi2"):
        MiningRule(preset=preset)  # type: ignore[arg-type]


def test_every_old_name_is_gone_and_every_new_one_is_a_knob() -> None:
    assert not {*RENAMED, *REMOVED} & set(MiningRule.model_fields)
    assert set(RENAMED.values()) <= set(MiningRule.model_fields)


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_an_error_that_names_the_new_one(
    old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f"{old} is called {RENAMED[old]} now; write the new name"
    with pytest.raises(ValidationError, match=told):
        MiningRule(**{old: 1})  # type: ignore[arg-type]
    with pytest.raises(ContentError, match=rf"a\.yaml: mining: {told}"):
        load_content(own_content(tmp_path, f"{{preset: paper, {old}: 1}}"))
    code, printed = run_main(capsys, monkeypatch, "mine", "x.jsonl", "--out", tmp_path / "out", "--set", f"{old}=1")
    assert (code, told in " ".join(printed.split())) == (1, True)


@pytest.mark.parametrize("old", REMOVED)
def test_a_knob_that_is_gone_is_an_error_that_says_what_to_do(
    old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f"{old} is gone: {REMOVED[old]}"
    with pytest.raises(ValidationError, match=re.escape(told)):
        MiningRule(**{old: 1})  # type: ignore[arg-type]
    code, printed = run_main(capsys, monkeypatch, "mine", "x.jsonl", "--out", tmp_path / "out", "--set", f"{old}=1")
    assert (code, told in " ".join(printed.split())) == (1, True)


def test_all_old_names_are_told_together() -> None:
    with pytest.raises(ValidationError, match=r"negatives is called num_negatives now; write the new name; ann_above "):
        MiningRule(ann_above=9, negatives=2)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="negatives is called num_negatives now, pick is called sampling_strat"):
        MiningRule(pick="top", negatives=2)  # type: ignore[call-arg]


def test_the_page_of_knobs_is_up_to_date() -> None:
    assert TARGET.read_text(encoding="utf-8") == knobs_page(), "run: python tools/knobs_table.py"
