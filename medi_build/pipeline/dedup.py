"""``dedup``: pairs that an earlier dataset has are dropped from the later one, once all are built."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from medi_build.arrays import Bools
from medi_build.dataset.folder import OutputFolder
from medi_build.dataset.overlap import TextHashes, number, pair_digests, record_digests
from medi_build.dataset.reader import shard_tables
from medi_build.dataset.receipt import Receipt
from medi_build.dataset.shards import write_dataset
from medi_build.files import plain_digest
from medi_build.ledger import Ledger


def digests_before(fingerprints: Mapping[int, str]) -> dict[int, str]:
    """For each task id a digest over the fingerprints of all units with a smaller one."""
    ordered = sorted(fingerprints)
    return {
        task_id: plain_digest({"before": [fingerprints[one] for one in ordered[:place]]})
        for place, task_id in enumerate(ordered)
    }


def drop_repeated(
    output: OutputFolder, receipts: Sequence[Receipt], rows_per_shard: int, batch_multiple: int
) -> list[Receipt]:
    """Drop every record whose query and positive an earlier dataset has, in the order of task ids.

    Only datasets that lose a record are written anew. Each is forgotten before its files change and committed after
    that; one that was done in an earlier run has nothing left to lose, so an interrupted pass is gone on with.

    Args:
        output: the folder.
        receipts: in the order of task ids.
        rows_per_shard: as for `write_dataset`.
        batch_multiple: what is left is cut to a multiple of this.

    Returns:
        The receipts with the ledgers as they are now: ``repeated_pair`` and ``batch_multiple`` under ``write``.

    Raises:
        DatasetError: a shard cannot be read.
        OutputError: a file cannot be written.
    """
    pairs = TextHashes()
    for place, receipt in enumerate(receipts):
        for shard in receipt.shards:
            for query, pos in record_digests(output.root / shard.path, ("query", "pos")):
                pairs.add(place, pair_digests(query, pos))
    numbers = number(pairs.hashes)
    seen = np.zeros(int(numbers.max(initial=-1)) + 1, dtype=bool)
    before = digests_before({receipt.task_id: receipt.fingerprint for receipt in receipts})
    done: list[Receipt] = []
    start = 0
    for receipt in receipts:
        own = numbers[start : start + receipt.rows]
        start += receipt.rows
        new = ~seen[own]
        kept = new.copy()
        if not new.all():
            rows = np.flatnonzero(new)
            kept[rows[len(rows) - len(rows) % batch_multiple :]] = False
            done.append(_rewritten(output, receipt, new, kept, rows_per_shard, before[receipt.task_id]))
        else:
            done.append(receipt)
        seen[own[kept]] = True
    return done


def _rewritten(
    output: OutputFolder, receipt: Receipt, new: Bools, kept: Bools, rows_per_shard: int, after: str
) -> Receipt:
    """A dataset with the kept rows alone; ``new``: no earlier dataset has the pair, [n] as ``kept``."""
    output.invalidate()
    output.forget(receipt.task_id)
    tables = _kept_rows([output.root / shard.path for shard in receipt.shards], kept)
    written = write_dataset(output.root, receipt.task_id, receipt.dataset, tables, rows_per_shard)
    ledger = Ledger.from_dict(receipt.ledger)
    ledger.drop("write", "repeated_pair", int((~new).sum()))
    ledger.drop("write", "batch_multiple", int((new & ~kept).sum()))
    ledger.written = written.fragment.rows
    ledger.check()
    files = {"shards": written.shards, "fragment": written.fragment}
    receipt = receipt.model_copy(update={**files, "ledger": ledger.to_dict(), "after": after})
    output.commit(receipt)
    return receipt


def _kept_rows(shards: Sequence[Path], kept: Bools) -> Iterator[pa.Table]:
    """The rows of some shards that are kept; a shard is read before one that takes its name is whole."""
    start = 0
    for path in shards:
        for table in shard_tables(path):
            rows = table.filter(pa.array(kept[start : start + table.num_rows]))
            start += table.num_rows
            if rows.num_rows:
                yield rows
