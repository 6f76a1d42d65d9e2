"""The ``medi`` command in this process, so that torch is loaded once."""

import signal
import sys
from typing import Any

import pytest

from medi_build.cli import main


def run_main(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[Any, str]:
    """Exit code of the command, and what it printed to stderr; signals are handled as before afterwards."""
    monkeypatch.setattr(sys, "argv", ["medi", *map(str, arguments)])
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    capsys.readouterr()
    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return caught.value.code, capsys.readouterr().err
