"""One dataset from raw files to its receipt: adapt, encode, mine, write. What an executor maps, wherever it runs."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from medi_build.content.instructions import Instructions, render, render_definition
from medi_build.content.pipelines import EncoderSpec, Pipeline
from medi_build.dataset.assemble import assemble
from medi_build.dataset.explanations import explanation_paths
from medi_build.dataset.marks import Mark
from medi_build.dataset.receipt import Basis, Receipt
from medi_build.dataset.shards import write_dataset
from medi_build.errors import MiningError
from medi_build.ingest.adapt import AdaptJob, AdaptResult, adapt
from medi_build.ingest.adapters.base import Inputs
from medi_build.ledger import Ledger
from medi_build.pipeline.exclude_eval import Excluded, without_evaluation_texts
from medi_build.pipeline.limits import check_loss
from medi_build.pipeline.plan import Unit
from medi_build.progress import Silent
from medi_build.share import WHOLE, Share, Split

if TYPE_CHECKING:
    from medi_build.encode.embedder import Block, Elsewhere, Embedder, Known
    from medi_build.mine.explain import Explained, Explainer
    from medi_build.mine.result import Mined


@dataclass(frozen=True)
class UnitJob:
    """What building one dataset needs; picklable.

    Attributes:
        unit: the dataset in its plan.
        inputs: its verified files.
        pipeline: with all overrides applied.
        basis: everything that decides its files.
        out: the output folder.
        work: a folder in it for what is being made.
        vectors: folder of the vector store.
        excluded: evaluation texts that stay out; None for none.
        device: where to encode and search; None for the GPUs if there are any.
        batch_multiple: the records are cut to a multiple of this.
        check_mining_loss: whether ``max_loss`` of the card covers mining, too.
        split_above: of more examples, or more documents, than this the work is handed out in pieces of so many texts,
            where there is a share to do them; None: never.
        marks: what people found wrong in the dataset.
        explain: write down what was looked at for each record.
    """

    unit: Unit
    inputs: Inputs
    pipeline: Pipeline
    basis: Basis
    out: Path
    work: Path
    vectors: Path
    excluded: Excluded | None = None
    device: str | None = None
    batch_multiple: int = 1
    check_mining_loss: bool = True
    split_above: int | None = None
    marks: tuple[Mark, ...] = ()
    explain: bool = False


def build_unit(job: UnitJob, watcher: Silent, share: Share | None = None) -> Receipt:
    """Build one dataset; its files are in the output folder when this returns, its receipt is not.

    Args:
        job: what to build.
        watcher: told of the stages.
        share: does the pieces of a dataset that is too large for one process: blocks of texts are encoded and parts of
            the candidates searched by it, all else is done here. The bytes are the same.

    Raises:
        MediError: see `medi_build.errors`.
    """
    unit, pipeline, name = job.unit, job.pipeline, job.unit.card.name
    watcher.stage(name, "adapt")
    adapted = adapt(AdaptJob(unit.card, job.inputs, unit.cap, pipeline.seed, job.work))
    ledger = Ledger.from_dict(adapted.ledger)
    check_loss(unit, ledger)
    phrasings = _phrasings(job, adapted, ledger)
    watcher.stage(name, "mine")
    examples, documents = _licensed(adapted, pipeline, ledger), adapted.documents()
    if job.excluded is not None:
        examples, documents = without_evaluation_texts(examples, documents, job.excluded, ledger)
    try:
        split = _split(job, max(len(examples), len(documents)), share)
        with _explaining(job) as (explainer, explained):
            mined = _mine(job, adapted, (examples, documents), phrasings[0], ledger, watcher, split, explainer)
    except MiningError as error:
        raise MiningError(f"{name}: {error}") from error
    if job.check_mining_loss:
        check_loss(unit, ledger)
    watcher.stage(name, "write")
    tables = assemble(examples, mined.tables(), phrasings, pipeline.seed, unit.task_id, name)
    written = write_dataset(job.out, unit.task_id, name, tables, pipeline.rows_per_shard)
    ledger.written = written.fragment.rows
    ledger.check()
    adapted.discard()
    return Receipt(
        basis=job.basis,
        dataset=name,
        task_id=unit.task_id,
        kind=adapted.kind,
        licence=adapted.licence,
        instructions=[(p.query, p.document) for p in phrasings],
        shards=written.shards,
        fragment=written.fragment,
        ledger=_for_others(ledger, job.inputs),
        explanations=list(explained.files),
    )


@contextmanager
def _explaining(job: UnitJob) -> "Iterator[tuple[Explainer | None, Explained]]":
    """What takes down what was looked at, or nothing where that was not asked for."""
    from medi_build.mine.explain import Explained, explaining

    if not job.explain:
        yield None, Explained()
        return
    paths = explanation_paths(job.out, job.unit.task_id, job.unit.card.name)
    with explaining(paths, job.out) as both:
        yield both


def _for_others(ledger: Ledger, inputs: Inputs) -> dict[str, Any]:
    """The ledger as plain data, its places told from the folder that all raw files share: not where they lie here."""
    files = [*inputs.rows, *(path for paths in inputs.extra.values() for path in paths)]
    folder = os.path.commonpath([path.parent for path in files]) if files else ""
    told = ledger.to_dict()
    places = {why: [one.removeprefix(folder).lstrip("/") for one in some] for why, some in told["places"].items()}
    return {**told, "places": places}


def _licensed(adapted: AdaptResult, pipeline: Pipeline, ledger: Ledger) -> pa.Table:
    """The examples, or none of them where the licence in the data does not do for the policy."""
    examples = adapted.examples()
    if pipeline.licence_policy == "any" or adapted.licence.commercial_use == "allowed":
        return examples
    ledger.drop("sample", f"commercial_use_{adapted.licence.commercial_use.replace('-', '_')}", examples.num_rows)
    return examples.slice(0, 0)


@contextmanager
def opened_embedders() -> "Iterator[Callable[[Pipeline, str | None, Path], list[Embedder]]]":
    """What opens the encoders of a build in this process, each once; at the end they are closed and forgotten."""
    try:
        yield embedders
    finally:
        _opened.cache_clear()


def embedders(pipeline: Pipeline, device: str | None, vectors: Path) -> "list[Embedder]":
    """The encoder that mines, then the others that the pipeline's rule names, in its order."""
    return [_opened(spec, device, vectors) for spec in _specs(pipeline)]


def _specs(pipeline: Pipeline) -> list[EncoderSpec]:
    trust = pipeline.encoder.trust_remote_code
    others = (EncoderSpec(model=name, trust_remote_code=trust) for name in pipeline.mining.others)
    return [pipeline.encoder, *others]


@cache
def _opened(spec: EncoderSpec, device: str | None, vectors: Path) -> "Embedder":
    """An embedder that the units built in this process share."""
    from medi_build.encode.embedder import open_embedder

    return open_embedder(spec, device, vectors)


def _split(job: UnitJob, texts: int, share: Share | None) -> Split:
    """How a dataset with so many examples or documents is handed out."""
    if share is None or job.split_above is None or texts <= job.split_above:
        return WHOLE
    return Split(share, job.split_above)


def _elsewhere(job: UnitJob, spec: EncoderSpec, embedder: "Embedder", split: Split) -> "Elsewhere":
    """How others encode as an embedder does here, on a device of the same type."""
    from medi_build.encode.embedder import Elsewhere

    return Elsewhere(split, partial(_encoded, spec, job.device or embedder.encoder.device.type, job.vectors))


def _encoded(spec: EncoderSpec, device: str, vectors: Path, block: "Block") -> "Known":
    """A block of another process, encoded in this one and kept in the store that is here."""
    return _opened(spec, device, vectors).block(block)


def _phrasings(job: UnitJob, adapted: AdaptResult, ledger: Ledger) -> Sequence[Instructions]:
    """The instructions of the dataset: one phrasing, or all among which the records choose.

    A dataset without a definition gets the first phrasing and the note ``no_definition``.
    """
    rules, unit = job.pipeline.instructions, job.unit
    arguments = (unit.template, unit.card.instruction.fields, adapted.fields, rules.separator)
    if rules.phrasing == "definition":
        quoted = render_definition(*arguments)
        if quoted:
            return [quoted]
        ledger.note("no_definition")
    phrasings = render(*arguments)
    return phrasings if rules.phrasing == "seeded" else phrasings[:1]


def _mine(
    job: UnitJob,
    adapted: AdaptResult,
    texts: tuple[pa.Table, pa.Table],
    instructions: Instructions,
    ledger: Ledger,
    watcher: Silent,
    split: Split,
    explainer: "Explainer | None",
) -> "Mined":
    """Positives and negatives of ``(examples, documents)``, cut to a multiple of the user's batch size."""
    from medi_build.mine.by_kind import mine
    from medi_build.mine.run import Encoders, Run

    pipeline, options = job.pipeline, job.unit.card.options
    embedder, *others = embedders(pipeline, job.device, job.vectors)
    for one, spec in zip((embedder, *others), _specs(pipeline), strict=True):
        one.progress = watcher.advance
        one.elsewhere = None if split is WHOLE else _elsewhere(job, spec, one, split)
    mined = mine(
        *texts,
        kind=adapted.kind,
        encoders=Encoders(
            embedder,
            others=dict(zip(pipeline.mining.others, others, strict=True)),
            instructions=instructions if pipeline.mine_with_instructions else (None, None),
        ),
        run=Run(
            pipeline.mining,
            pipeline.seed,
            ledger,
            job.device or embedder.encoder.device.type,
            split,
            job.marks,
            explainer,
        ),
        symmetric=options.adapter == "pairs" and options.symmetric,
        verified_negatives=job.unit.card.verified_negatives,
    )
    surplus = len(mined) % job.batch_multiple
    ledger.drop("write", "batch_multiple", surplus)
    return mined.first(len(mined) - surplus)
