"""What a user decides about one build, and the pipeline that follows from it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from medi_build.content.load import Content
from medi_build.content.pipelines import MAX_SEED, EncoderSpec, Pipeline
from medi_build.errors import ContentError, OptionError
from medi_build.paths import cache_folder
from medi_build.pipeline.plan import find_pipeline


@dataclass(frozen=True)
class BuildOptions:
    """What a user decides about one build; what is None comes from the pipeline.

    Attributes:
        out: output folder; new, empty or of an earlier run of the same build.
        sources: names, globs, collections, ``all`` for what the pipeline names, ``-name`` to leave out.
        pipeline: the pipeline.
        data: folder with ``super_ni/ kilt/ medmcqa/ embedding_training_data/`` inside, or the URL of one, as fsspec
            has it.
        content: folder with a team's own ``sources/ templates/ pipelines/``.
        cache: downloads, vectors and indexes; shared between builds.
        offline: never use the network.
        allow_missing: leave out datasets without files instead of stopping.
        encoder: mining encoder in place of the pipeline's.
        device: "cpu", "cuda" (all GPUs), "cuda:1"; None for the GPUs if there are any.
        dtype: arithmetic of the encoder in place of the pipeline's.
        trust_remote_code: let code that comes with the encoders run.
        licence_policy: "any", or "commercial" to leave out what is not known to allow commercial use.
        dedup: drop a pair of query and positive that an earlier dataset, in the order of task ids, has.
        exclude_eval: evaluations whose texts stay out (``mteb:TASK``, folder or file), in place of the pipeline's.
        limit_per_dataset: most examples per dataset; 0 lifts every cap.
        seed: in place of the pipeline's.
        batch_multiple: cut every dataset to a multiple of this many records.
        locked: lock file, which tells everything but ``out``, ``data``, ``content``, ``cache``, ``offline``,
            ``device``, ``jobs``, ``executor`` and ``address``; a build that would resolve to anything else is refused.
        jobs: processes that build datasets, this one among them; with several GPUs at least one for each.
        executor: "local" for this machine's processes, "ray" for the nodes of a Ray cluster.
        address: of the cluster, "auto" or "HOST:PORT"; None starts Ray on this machine.
        split_above: on a cluster, datasets of more examples or documents than this are handed out in pieces of so many
            texts; None: each is built by one worker.
        exclude: file of marks, of negatives that are none and of records to leave out; None for none.
        explain: write down what was looked at for each record, and why it was taken or rejected.
    """

    out: Path
    sources: tuple[str, ...] = ("all",)
    pipeline: str = "quickstart"
    data: Path | str | None = None
    content: Path | None = None
    cache: Path = field(default_factory=cache_folder)
    offline: bool = False
    allow_missing: bool = False
    encoder: str | None = None
    device: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False
    licence_policy: Literal["any", "commercial"] | None = None
    dedup: bool = False
    exclude_eval: tuple[str, ...] = ()
    limit_per_dataset: int | None = None
    seed: int | None = None
    batch_multiple: int = 1
    locked: Path | None = None
    jobs: int = 1
    executor: Literal["local", "ray"] = "local"
    address: str | None = None
    split_above: int | None = None
    exclude: Path | None = None
    explain: bool = False


def check_options(options: BuildOptions) -> None:
    """Raise `OptionError` for a number out of range or a cache that can be none."""
    least = {"limit_per_dataset": 0, "seed": 0, "batch_multiple": 1, "jobs": 1, "split_above": 1}
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and value < bound:
            raise OptionError(f"{name} is {value}; it has to be at least {bound}")
    if options.seed is not None and options.seed > MAX_SEED:
        raise OptionError(f"seed is {options.seed}; it has to be at most {MAX_SEED}")
    if options.executor == "local" and options.address is not None:
        raise OptionError(f"address is {options.address!r}, which only --executor ray uses; leave one of them out")
    if options.executor == "local" and options.split_above is not None:
        raise OptionError(
            f"split_above is {options.split_above}, which only --executor ray uses; leave it out, or add that"
        )
    if options.executor == "ray" and options.jobs != 1:
        raise OptionError(
            f"jobs is {options.jobs}: on Ray each CPU or GPU of the cluster builds a dataset; leave it out"
        )
    try:
        options.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"cache {options.cache}: cannot be used ({error.strerror}); give another folder") from error


def pipeline_of(content: Content, options: BuildOptions) -> Pipeline:
    """The pipeline with the user's overrides."""
    pipeline = find_pipeline(content, options.pipeline)
    encoder = pipeline.encoder.model_dump()
    encoder |= {"model": options.encoder, "revision": None, "trust_remote_code": False} if options.encoder else {}
    encoder |= {"dtype": options.dtype} if options.dtype else {}
    encoder |= {"trust_remote_code": True} if options.trust_remote_code else {}
    try:
        spec = EncoderSpec.model_validate(encoder)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ContentError(f"encoder {fault['loc'][0]}: {fault['msg']}, saw {fault['input']!r}") from error
    return pipeline.model_copy(
        update={
            "encoder": spec,
            "seed": pipeline.seed if options.seed is None else options.seed,
            "allow_missing": pipeline.allow_missing or options.allow_missing,
            "licence_policy": options.licence_policy or pipeline.licence_policy,
            "dedup": pipeline.dedup or options.dedup,
            "exclude_eval": options.exclude_eval or pipeline.exclude_eval,
            "offline": pipeline.offline or options.offline,
        }
    )
