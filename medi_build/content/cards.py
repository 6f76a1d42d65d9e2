"""Cards: what a dataset is, where it comes from, and how its rows become records. One YAML file each."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from medi_build.secrets import has_password, redacted

NAME_PATTERN = r"^[a-z0-9_]+(/[A-Za-z0-9_.\-]+)?$"
Unconfirmed = Literal["unconfirmed"]
"""Written where no public reference confirms a value; the first fetch records what it got."""


RENAMED = {"judged_negatives": "verified_negatives", "kind": "outputs"}
"""Keys of a card by the name that they had once: an error tells the one they have."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Archive(_Strict):
    """A tar file, plain or compressed, that is fetched once for all cards that want members of it."""

    url: str = Field(..., description="of the tar file")
    members: str = Field("", description="prefix of the members' names; the file's name is appended")


class Download(_Strict):
    """Where the files come from when they are not in ``--data``: a hub dataset repository, a URL prefix or an archive.

    A file of ``extra_files`` is fetched only if ``paths`` names it: the others may be given in ``--data``.
    """

    hub: str | None = Field(None, description="dataset repository on the Hugging Face hub")
    url: str | None = Field(None, description="URL prefix; the file's name is appended")
    archive: Archive | None = Field(None, description="tar file that holds them")
    paths: dict[str, str] = Field(
        default_factory=dict,
        description="file name here -> path in the repository or archive, full URL, or "
        "hf://datasets/OWNER/NAME[@COMMIT]/PATH for another repository of the hub",
    )
    revision: str = Field("unconfirmed", description="commit of the repository")
    sha256: dict[str, str] = Field(default_factory=dict, description="file name -> digest")
    size: dict[str, Annotated[int, Field(gt=0)]] = Field(
        default_factory=dict, description="file name -> bytes to expect; the digest is what is checked"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        urls = (self.url, self.archive and self.archive.url, *self.paths.values())
        if named := next((url for url in urls if url and has_password(url)), None):
            raise ValueError(
                f"{redacted(named)}: names a user or password, which a card that others read must not hold; put the "
                "file into --data by hand"
            )
        places = [name for name in ("hub", "url", "archive") if getattr(self, name)]
        if len(places) > 1:
            raise ValueError(f"names {' and '.join(places)}; name one, and other files in paths")
        return self


class Licence(_Strict):
    """What may be done with the data."""

    spdx: str = Field(..., description="SPDX id, LicenseRef-..., or 'unconfirmed'")
    commercial_use: Literal["allowed", "not-allowed", "unknown"] = Field(
        ..., description="whether it may be used commercially; what is unknown counts as not"
    )
    note: str = Field("", description="what else there is to know, in words")


class Published(_Strict):
    """Rows that the dataset has in MEDI as the paper publishes it: the cap of pipelines of that size."""

    rows: int = Field(..., ge=1, description="how many")
    known: Literal["confirmed", "recalled", "ours"] = Field(
        ..., description="confirmed by a public reference; recalled, seen once and not at hand; ours, for want of one"
    )


class InstructionSpec(_Strict):
    """Which template renders the instructions, and the values its fields take for this dataset."""

    template: str = Field(..., description="name of the family of instructions; see `medi ls templates`")
    fields: dict[str, str] = Field(default_factory=dict, description="field of the template -> words for this dataset")


Outputs = Literal["class", "text", "option", "count", "wrong"]
"""What the outputs of a Super-NaturalInstructions task are:

class: labels that mean the same in every row; inputs that share one belong together.
text: free text, or values that are no classes.
option: a letter, number or ordinal that points at an option in the input; the option's text takes its place.
count: a number of things, a place, or another output that two rows often share by chance; treated as text.
wrong: answers that are wrong on purpose, so that equal ones say nothing of the inputs; treated as text.
"""


class SuperNiOptions(_Strict):
    """A Super-NaturalInstructions task file."""

    adapter: Literal["super_ni"] = Field(..., description="reads this form")
    outputs: Literal["auto"] | Outputs = Field("auto", description="what the task's outputs are; auto: by rule")


class KiltOptions(_Strict):
    """A KILT task file joined with passages of the knowledge source."""

    adapter: Literal["kilt"] = Field(..., description="reads this form")
    input_form: Literal["question", "slot", "dialogue", "entity", "claim"] = Field(
        "question", description="what the input of a row is"
    )
    passage_words: int = Field(100, ge=20, le=1000, description="words of a passage that is cut from a page")
    other_documents: int = Field(
        100_000, ge=0, description="passages of other pages added to the pool of negatives, at most"
    )


class MedMcqaOptions(_Strict):
    """MedMCQA, raw JSON lines or the hub's parquet."""

    adapter: Literal["medmcqa"] = Field(..., description="reads this form")
    record: Literal["option", "explanation"] = Field(
        "option", description="positive of a question: its right option, or the explanation"
    )


class PairsOptions(_Strict):
    """Any of the embedding-training-data forms. The line form is recognised; columns map named fields."""

    adapter: Literal["pairs"] = Field(..., description="reads this form")
    query: str | None = Field(None, description="column of the query (JSON objects and parquet)")
    positive: str | None = Field(None, description="column of the positive or of the list of positives")
    negative: str | None = Field(None, description="column of the negative(s)")
    label: str | None = Field(None, description="column of a pair's label")
    positive_labels: tuple[str, ...] = Field((), description="labels that make the second text a positive")
    negative_labels: tuple[str, ...] = Field((), description="labels that make it a hard negative")
    score: str | None = Field(None, description="column of a pair's score")
    positive_min: float | None = Field(None, description="a pair scoring at least this is positive")
    negative_max: float | None = Field(None, description="a pair scoring at most this is a hard negative")
    symmetric: bool = Field(False, description="queries, too, are candidates for negatives")


Options = Annotated[SuperNiOptions | KiltOptions | MedMcqaOptions | PairsOptions, Field(discriminator="adapter")]


class Card(_Strict):
    """One dataset."""

    name: str = Field(..., pattern=NAME_PATTERN, description="e.g. kilt/nq")
    description: str = Field(..., description="one line")
    options: Options = Field(..., description="form of the rows, and how they are read")
    files: dict[str, tuple[str, ...]] = Field(..., description="split -> file names or globs below the source's folder")
    extra_files: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="role -> files the adapter joins with (pages, questions)"
    )
    download: Download | None = Field(None, description="where the files come from; null: they are put there by hand")
    licence: Licence = Field(..., description="under which the data stands")
    citation: str = Field(..., description="who made the data, and where it is described")
    expected_rows: dict[str, int | Unconfirmed] = Field(default_factory=dict, description="split -> raw rows")
    instruction: InstructionSpec = Field(..., description="what stands in front of its texts")
    verified_negatives: bool = Field(
        False, description="the given negatives are known to be wrong, so no filter of mining touches them"
    )
    published: Published | None = Field(None, description="rows in MEDI as published")
    cap: int = Field(200_000, ge=0, description="most examples kept before mining; 0: all")
    max_loss: float = Field(
        0.5, ge=0.0, le=1.0, description="share of raw rows that may be dropped as bad; more fails the build"
    )
    collections: tuple[str, ...] = Field((), description="named groups this dataset belongs to, e.g. medi")

    @property
    def source(self) -> str:
        """The first part of the name: super_ni, kilt, medmcqa, embedding_training_data."""
        return self.name.split("/")[0]

    @field_validator("files")
    @classmethod
    def _some_files(cls, files: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not files or not all(files.values()):
            raise ValueError("name at least one file for each split")
        return files
