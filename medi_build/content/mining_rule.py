"""Every knob of mining, with the paper's rule and modern ones as named presets."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Preset = Literal["paper", "positive-aware", "medi2"]


class MiningRule(BaseModel):
    """How negatives (and, for Super-NI, positives) are picked. Scores are cosines of the mining encoder.

    A pipeline names a ``preset`` and may override single knobs; `MiningRule.from_preset` merges the two.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Preset = "paper"
    negatives: int = Field(1, ge=1, le=64, description="negatives per record; the first is `neg`")
    rank_min: int = Field(0, ge=0, description="skip this many best-ranked allowed candidates")
    rank_max: int = Field(100, ge=1, description="look no further down the ranking than this")
    pick: Literal["top", "random"] = Field("top", description="hardest first, or seeded random in the window")
    relative_margin: float | None = Field(
        None, ge=0.0, lt=1.0, description="keep a negative only if score <= (1 - margin) x lowest positive"
    )
    absolute_margin: float | None = Field(
        None, ge=0.0, le=2.0, description="keep a negative only if score <= lowest positive - margin"
    )
    ceiling: float | None = Field(None, ge=-1.0, le=1.0, description="reject a negative that scores above this")
    ceiling_quantile: float | None = Field(
        None, gt=0.0, le=1.0, description="ceiling as this quantile of the dataset's query-positive scores"
    )
    floor_quantile: float | None = Field(
        None, ge=0.0, lt=1.0, description="floor as this quantile of scores of seeded random pairs"
    )
    risk_max: float | None = Field(
        None, gt=0.0, lt=1.0, description="reject a candidate that looks this much like a positive nobody marked"
    )
    relax: bool = Field(
        False, description="where nothing is left: lift the margin, then take the one candidate of least risk"
    )
    near_duplicate: float | None = Field(
        None, gt=0.0, le=1.0, description="reject a negative whose cosine with a positive is at least this"
    )
    same_answer: bool = Field(
        False, description="bar passages that answer another query of the dataset with the same answer"
    )
    reject_answer: bool = Field(False, description="reject a passage that contains an answer string")
    consistency_top: int | None = Field(
        None, ge=1, description="drop a record whose positive is not in its query's top-k of a random pool"
    )
    round_trip_top: int | None = Field(
        None, ge=1, description="drop a record whose query is not in its positive's top-k of random queries"
    )
    consistency_pool: int = Field(1000, ge=2, description="size of these random pools")
    encoders: tuple[str, ...] = Field(
        (), description="further encoders, whose rankings are fused with the first one's by reciprocal rank"
    )
    lexical: bool = Field(False, description="add BM25 candidates, fused by reciprocal rank")
    ann_above: int | None = Field(
        None, ge=1, description="search approximately (needs FAISS) where there are more candidates than this"
    )
    cross_encoder: str | None = Field(None, description="re-score the final candidates with this model")
    cross_encoder_max: float | None = Field(None, description="reject a negative it scores above this")
    cross_encoder_candidates: int = Field(
        20, ge=1, description="how many candidates per row it scores; no other is taken"
    )
    cross_encoder_scores: bool = Field(False, description="publish its scores in place of cosines, as soft labels")
    teacher: str | None = Field(None, description="second encoder that may veto a negative")
    teacher_max: float = Field(0.9, ge=-1.0, le=1.0, description="veto where the teacher's cosine is above this")
    max_length_ratio: float | None = Field(
        None, gt=1.0, description="reject a negative longer or shorter than the positive by this factor"
    )

    @model_validator(mode="after")
    def _together(self) -> "MiningRule":
        if self.rank_min + self.negatives > self.rank_max:
            raise ValueError(
                f"rank_min {self.rank_min} + negatives {self.negatives} exceeds rank_max {self.rank_max}; "
                "widen the window"
            )
        if self.relax and self.risk_max is None:
            raise ValueError("relax takes the candidate of least risk, so it needs risk_max")
        used = self.cross_encoder_max is not None or self.cross_encoder_scores
        if (self.cross_encoder is not None) != used:
            raise ValueError(
                "a cross_encoder rejects by cross_encoder_max or publishes its cross_encoder_scores; name it with one "
                "of these or both, and none of these without it"
            )
        return self

    @property
    def others(self) -> tuple[str, ...]:
        """The encoders that the rule names beside the one that mines."""
        return tuple(dict.fromkeys([*self.encoders, *([self.teacher] if self.teacher else [])]))

    @property
    def fuses(self) -> bool:
        """Whether candidates come from more than one ranking."""
        return self.lexical or bool(self.encoders)

    @property
    def filters(self) -> bool:
        """Whether any candidate can be rejected after ranking, so that more than asked for have to be ranked."""
        knobs = (
            self.relative_margin,
            self.absolute_margin,
            self.ceiling,
            self.ceiling_quantile,
            self.floor_quantile,
            self.risk_max,
            self.near_duplicate,
            self.cross_encoder,
            self.teacher,
            self.max_length_ratio,
        )
        return self.reject_answer or any(knob is not None for knob in knobs)

    @classmethod
    def from_preset(cls, preset: Preset, **overrides: Any) -> "MiningRule":
        """The preset's knobs with some of them replaced."""
        return cls(preset=preset, **{**PRESETS[preset], **overrides})


PRESETS: dict[Preset, dict[str, Any]] = {
    # Su et al. 2023, section 2.3: the highest-ranked allowed candidate, no filter at all.
    "paper": {},
    # NV-Retriever (arXiv 2407.15831): a negative may reach 95 % of the lowest positive's score. Where a positive scores
    # so low that this leaves nothing, the risk filter alone decides. Figures: docs/performance.md.
    "positive-aware": {
        "relative_margin": 0.05,
        "risk_max": 0.4,
        "floor_quantile": 0.95,
        "near_duplicate": 0.95,
        "relax": True,
    },
    # GritLM's MEDI2: argmax over the dataset's own documents, vetoed by an INSTRUCTOR teacher above 0.9.
    "medi2": {"teacher": "hkunlp/instructor-large", "teacher_max": 0.9},
}
