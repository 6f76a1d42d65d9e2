"""S3 as moto plays it, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(port=0, verbose=sys.argv[1] != "/dev/null")
server.start()
print("port", server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "loopback-store-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def moto_server(log: Path = Path("/dev/null")) -> Iterator[str]:
    """The URL of a server while it runs; it writes a line for each request into ``log``."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with (
        log.open("w") as told,
        subprocess.Popen(
            [sys.executable, "-c", SERVER, str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        ) as process,
    ):
        assert process.stdout and process.stdin
        line = next(line for line in process.stdout if line.startswith("port "))  # it greets, too, where it logs
        yield f"http://127.0.0.1:{line.split()[1]}"
        process.stdin.close()
