"""The pipeline ``medi`` from nothing to the whole: made-up files from one server that plays all hosts, badly."""

import hashlib
import json
import signal
import time
from pathlib import Path
from threading import Event

import pytest

from medi_build.dataset.verify import verify
from tests.encode.tiny_models import save_t5, unigram_tokenizer
from tests.loopback import Fault, serving
from tests.rehearsal import break_things, lay_out, medi

pytestmark = pytest.mark.long

SCALE = 2e-6
KILLED_AFTER = 40
"""Finished datasets."""
FEWEST_RECORDS = 5000


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_from_nothing_to_the_whole_and_again_after_a_kill(tmp_path: Path) -> None:
    save_t5(tmp_path / "encoder", unigram_tokenizer())
    with serving() as server:
        rehearsal = lay_out(server, tmp_path, SCALE)
        assert len(rehearsal.datasets) > 300
        pages = rehearsal.places["kilt/nq", "kilt_knowledgesource.json"]

        break_things(server, rehearsal)
        unbroken = medi(tmp_path, rehearsal.content, server.url, "build")
        unbroken.communicate()
        log = (tmp_path / "build.log").read_text()
        assert unbroken.returncode == 0, log
        (tmp_path / "build").rename(tmp_path / "unbroken")
        (tmp_path / "build-cache").rename(tmp_path / "unbroken-cache")  # paths of raw files stand in the receipts
        manifest = json.loads((tmp_path / "unbroken" / "manifest.json").read_text())
        assert {dataset["name"] for dataset in manifest["datasets"]} == set(rehearsal.datasets)
        assert verify(tmp_path / "unbroken").rows == manifest["rows"] > FEWEST_RECORDS
        assert "the server asks for it" in log
        assert "not what was to come" in log
        left = {path: faults for path, faults in server.faults.items() if faults and faults[0].code != 301}
        assert left == {}, "a fault that nobody met"

        # The same again from nothing, killed while the knowledge source is on its way and datasets are built.
        break_things(server, rehearsal)
        gate = Event()
        server.faults[pages].append(Fault(gate=gate))
        server.asked.clear()
        killed = medi(tmp_path, rehearsal.content, server.url, "build")
        receipts = tmp_path / "build" / ".medi" / "receipts"
        while len(list(receipts.glob("*.json"))) < KILLED_AFTER:
            assert killed.poll() is None, (tmp_path / "build.log").read_text()
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        gate.set()
        assert not (tmp_path / "build" / "manifest.json").exists()
        kept = {path: path.stat().st_mtime_ns for path in receipts.glob("*.json")}
        resumed = medi(tmp_path, rehearsal.content, server.url, "build")
        resumed.communicate()
        assert resumed.returncode == 0, (tmp_path / "build.log").read_text()
        assert {path: path.stat().st_mtime_ns for path in kept} == kept, "a finished dataset was made again"
        assert any(span for method, path, span in server.asked if path == pages and method == "GET")
        assert digests(tmp_path / "build") == digests(tmp_path / "unbroken")
