"""What a person sees of downloads beside a build."""

import io

import pytest
from rich.console import Console

from medi_build import progress
from medi_build.progress import Bars, Lines


def test_a_log_gets_a_line_about_downloads_now_and_then(monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    text = io.StringIO()
    lines = Lines(Console(file=text, width=200))
    for later, done in ((0, 1_000_000), (10, 200_000_000), (30, 301_000_000), (40, 302_000_000), (60, 601_000_000)):
        now[0] = 1000.0 + later
        lines.downloaded(done, 900_000_000)
    lines.say("kilt/nq: waiting 30 s [at most]")
    assert text.getvalue().splitlines() == [
        "downloads: 301.0 of 900.0 MB, 10.0 MB/s",
        "downloads: 601.0 of 900.0 MB, 10.0 MB/s",
        "kilt/nq: waiting 30 s [at most]",
    ]


def test_a_terminal_gets_a_bar_in_bytes_beside_those_of_the_build():
    text = io.StringIO()
    bars = Bars(Console(file=text, width=160, force_terminal=True))
    bars.start(7)
    bars.downloaded(0, 2_000_000)
    bars.downloaded(1_000_000, 2_000_000)
    bars.say("fetched [a file]")
    bars._bars.refresh()
    bars.close()
    shown = text.getvalue()
    assert "1.0/2.0 MB" in shown and "0/7" in shown and "fetched [a file]" in shown
