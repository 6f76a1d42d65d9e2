"""Every knob of mining, with the paper's rule and modern ones as named presets."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

CandidatePool = Literal["all", "positives"]
Preset = Literal["paper", "positive-aware", "medi2"]


class MiningRule(BaseModel):
    """How negatives (and, for Super-NI, positives) are picked. Scores are cosines of the mining encoder.

    A rule starts from the knobs of its ``preset``; those that are given replace single ones. Knobs that
    sentence-transformers' ``mine_hard_negatives`` has as well have its names. `docs/knobs.md` lists them all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Preset = "paper"
    num_negatives: int = Field(1, ge=1, le=64, description="negatives per record; the first is `neg`")
    candidates: CandidatePool = Field(
        "all",
        description="texts that negatives are taken from: all, or none of the documents that are no row's positive, "
        "which training would only ever push away",
    )
    range_min: int = Field(0, ge=0, description="skip this many best-ranked allowed candidates")
    range_max: int = Field(100, ge=1, description="look no further down the ranking than this")
    sampling_strategy: Literal["top", "random"] = Field(
        "top", description="hardest first, or seeded random in the window"
    )
    relative_margin: float | None = Field(
        None, ge=0.0, lt=1.0, description="keep a negative only if score <= (1 - margin) x lowest positive"
    )
    absolute_margin: float | None = Field(
        None, ge=0.0, le=2.0, description="keep a negative only if score <= lowest positive - margin"
    )
    max_score: float | None = Field(None, ge=-1.0, le=1.0, description="reject a negative that scores above this")
    max_score_quantile: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="the same limit as this quantile of the dataset's query-positive scores; of both the lower holds",
    )
    min_score: float | None = Field(None, ge=-1.0, le=1.0, description="reject a negative that scores below this")
    min_score_quantile: float | None = Field(
        None,
        ge=0.0,
        lt=1.0,
        description="the same limit as this quantile of scores of seeded random pairs; of both the higher holds",
    )
    max_false_negative_probability: float | None = Field(
        None,
        gt=0.0,
        lt=1.0,
        description="reject a candidate whose estimated probability of being a positive nobody marked is above this",
    )
    relax: bool = Field(
        False,
        description="where nothing is left: take the candidate below the margin that is least likely a false negative, "
        "or else a random text below it",
    )
    near_duplicate: float | None = Field(
        None, gt=0.0, le=1.0, description="reject a negative whose cosine with a positive is at least this"
    )
    same_answer: bool = Field(
        False, description="exclude passages that answer another query of the dataset with the same answer"
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
    cross_encoder: str | None = Field(None, description="re-score the final candidates with this model")
    max_cross_encoder_score: float | None = Field(None, description="reject a negative it scores above this")
    cross_encoder_candidates: int = Field(
        20, ge=1, description="how many candidates per row it scores; no other is taken"
    )
    cross_encoder_scores: bool = Field(False, description="publish its scores in place of cosines, as soft labels")
    guide: str | None = Field(None, description="second encoder that may veto a negative")
    max_guide_score: float = Field(0.9, ge=-1.0, le=1.0, description="veto where the guide's cosine is above this")
    max_length_ratio: float | None = Field(
        None, gt=1.0, description="reject a negative longer or shorter than the positive by this factor"
    )

    @model_validator(mode="before")
    @classmethod
    def _over_preset(cls, data: Any) -> Any:
        """The preset's knobs, and over them those that are given."""
        if not isinstance(data, dict):
            return data
        renamed = [f"{old} is called {new} now" for old, new in RENAMED.items() if old in data]
        gone = [f"{old} is gone: {why}" for old, why in REMOVED.items() if old in data]
        if renamed:
            gone.insert(0, f"{', '.join(renamed)}; write the new name")
        if gone:
            raise ValueError("; ".join(gone))
        preset = data.get("preset", "paper")
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ValueError(f"mining has no preset {preset!r}; there are {', '.join(PRESETS)}")
        return {**PRESETS[preset], **data}

    @model_validator(mode="after")
    def _together(self) -> "MiningRule":
        if self.range_min + self.num_negatives > self.range_max:
            raise ValueError(
                f"range_min {self.range_min} + num_negatives {self.num_negatives} exceeds range_max {self.range_max}; "
                "widen the window"
            )
        if self.min_score is not None and self.max_score is not None and self.min_score > self.max_score:
            raise ValueError(
                f"min_score {self.min_score} is above max_score {self.max_score}, which leaves no negative; lower the "
                "one or raise the other"
            )
        used = self.max_cross_encoder_score is not None or self.cross_encoder_scores
        if (self.cross_encoder is not None) != used:
            raise ValueError(
                "a cross_encoder rejects by max_cross_encoder_score or publishes its cross_encoder_scores; name it "
                "with one of these or both, and none of these without it"
            )
        return self

    @property
    def others(self) -> tuple[str, ...]:
        """The encoders that the rule names beside the one that mines."""
        return tuple(dict.fromkeys([*self.encoders, *([self.guide] if self.guide else [])]))

    @property
    def fuses(self) -> bool:
        """Whether candidates come from more than one ranking."""
        return self.lexical or bool(self.encoders)


PRESETS: dict[Preset, dict[str, Any]] = {
    # Su et al. 2023, section 2.3: the highest-ranked allowed candidate, no filter at all.
    "paper": {},
    # NV-Retriever (arXiv 2407.15831): a negative may reach 95 % of the lowest positive's score. Where a positive scores
    # so low that this leaves nothing, an easy text: what scores above the positive teaches to leave what is near for
    # what is not. Figures: docs/results.md, docs/performance.md.
    "positive-aware": {
        "relative_margin": 0.05,
        "max_false_negative_probability": 0.4,
        "min_score_quantile": 0.95,
        "near_duplicate": 0.95,
        "relax": True,
    },
    # GritLM's MEDI2: argmax over the dataset's own documents, vetoed by an INSTRUCTOR model above 0.9.
    "medi2": {"guide": "hkunlp/instructor-large", "max_guide_score": 0.9},
}

RENAMED = {
    "negatives": "num_negatives",
    "rank_min": "range_min",
    "rank_max": "range_max",
    "pick": "sampling_strategy",
    "ceiling": "max_score",
    "ceiling_quantile": "max_score_quantile",
    "floor_quantile": "min_score_quantile",
    "risk_max": "max_false_negative_probability",
    "teacher": "guide",
    "teacher_max": "max_guide_score",
    "cross_encoder_max": "max_cross_encoder_score",
}
"""Knobs by the name that they had once: an error tells the one they have."""

REMOVED = {"ann_above": "every search is exact, leave it out (docs/decisions/0013-search-is-exact.md)"}
"""Knobs that there were once: an error tells what to do without."""
