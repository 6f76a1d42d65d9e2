"""The pipeline ``medi`` from nothing to the whole, at a chosen size: made-up files, one server that plays all hosts.

    python benchmarks/rehearsal.py --scale 1e-4 --folder /tmp/rehearsal

Files of real form for every dataset, in the real proportions; refusals, cuts, wrong bytes and a moved file on the way;
the build is killed once (SIGKILL) when a third of the datasets are finished, and run again. The encoder is a small one
with random weights, so the records mean nothing: what is rehearsed is everything around it. The small form is
``tests/test_rehearsal.py``, which also compares every byte with an unbroken build.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from medi_build.dataset.verify import verify
from tests.encode.tiny_models import save_t5, unigram_tokenizer
from tests.loopback import serving
from tests.rehearsal import break_things, lay_out, medi


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1e-4, help="rows as a part of the real number")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "medi-rehearsal")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True)
    save_t5(arguments.folder / "encoder", unigram_tokenizer())
    with serving() as server:
        begin = time.perf_counter()
        rehearsal = lay_out(server, arguments.folder, arguments.scale)
        print(f"{len(server.files)} files, {rehearsal.bytes / 1e6:,.0f} MB, in {time.perf_counter() - begin:.0f} s")
        break_things(server, rehearsal)
        begin = time.perf_counter()
        killed = medi(arguments.folder, rehearsal.content, server.url, "out")
        receipts = arguments.folder / "out" / ".medi" / "receipts"
        while killed.poll() is None and len(list(receipts.glob("*.json"))) < len(rehearsal.datasets) // 3:
            time.sleep(0.1)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        print(f"killed after {time.perf_counter() - begin:.0f} s with {len(list(receipts.glob('*.json')))} datasets")
        resumed = medi(arguments.folder, rehearsal.content, server.url, "out")
        resumed.communicate()
        took = time.perf_counter() - begin
    if resumed.returncode:
        sys.exit((arguments.folder / "out.log").read_text())
    manifest = json.loads((arguments.folder / "out" / "manifest.json").read_text())
    read = sum(dataset["ledger"]["read"] for dataset in manifest["datasets"])
    print(f"{len(manifest['datasets'])} datasets, {read:,} rows in, {manifest['rows']:,} records, {took:.0f} s in all")
    verify(arguments.folder / "out")


if __name__ == "__main__":
    main()
