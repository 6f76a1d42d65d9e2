"""Tokens, keys, passwords and signed URLs reach no error text, no log and no file that is written."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medi_build.content.cards import Download
from medi_build.errors import FetchError, InputError, MediError
from medi_build.ingest.fetch import fetch, lacking
from medi_build.ingest.sizes import ask
from medi_build.secrets import HIDDEN, has_password, redacted
from tests.bad_input.team import GOOD, Team
from tests.conftest import ROOT
from tests.ingest.cards import Told, card
from tests.loopback import Fault, Server, serving

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz01234567"
SIGNED = "X-Amz-Credential=AKIAABCDEFGHIJKLMNOP%2F2026&X-Amz-Signature=5ecre7&X-Amz-Date=20260101"
CASES = {
    "https://user:pass-word@host.org/a?b=c": f"https://{HIDDEN}@host.org/a?b=c",
    "s3://AKIA:secret@bucket/key and s3://bucket/key": f"s3://{HIDDEN}@bucket/key and s3://bucket/key",
    f"https://h.org/f.gz?{SIGNED}": f"https://h.org/f.gz?X-Amz-Credential={HIDDEN}&X-Amz-Signature={HIDDEN}"
    "&X-Amz-Date=20260101",
    "https://h.org/f?sv=1&sig=abc%3D&se=2": f"https://h.org/f?sv=1&sig={HIDDEN}&se=2",
    "'https://h.org/f?token=abc'": f"'https://h.org/f?token={HIDDEN}'",
    "https://h.org/f?x-goog-signature=ab&Policy=cd&Key-Pair-Id=ef": f"https://h.org/f?x-goog-signature={HIDDEN}"
    f"&Policy={HIDDEN}&Key-Pair-Id={HIDDEN}",
    f"Authorization: Bearer {TOKEN}": f"Authorization: Bearer {HIDDEN}",
    f"token {TOKEN} is bad": f"token {HIDDEN} is bad",
    "key AKIAABCDEFGHIJKLMNOP": f"key {HIDDEN}",
}
HARMLESS = (
    "hf://datasets/owner/name@0123456789abcdef/file.json", "user@host.org wrote", "https://h.org/a@b?tokens=3",
    "basic knowledge of bearers", "the 12 tokens=7 of a text", "hf_home", "https://h.org/f?page=2&monkey=1",
    "hub:owner/name@unconfirmed:data/part.parquet",
)  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_what_is_secret_is_hidden_and_nothing_else(text: str) -> None:
    assert redacted(text, {}) == CASES[text] == redacted(redacted(text, {}), {})


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text, {}) == text
    assert not has_password(text)


def test_values_of_the_environment_are_hidden_wherever_they_stand() -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG", "HF_TOKEN": "short"}
    assert redacted("a short way: wJalrXUtnFEMI/K7MDENG!", environment) == f"a short way: {HIDDEN}!"


def test_no_error_of_ours_tells_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-token-of-no-known-form")
    for kind in (MediError, InputError, FetchError):
        error = kind(f"{TOKEN} a-token-of-no-known-form https://u:p@h/?sig=abc")
        assert str(error) == f"{HIDDEN} {HIDDEN} https://{HIDDEN}@h/?sig={HIDDEN}"


@pytest.mark.parametrize("place", [{"url": "https://me:pw@host/"}, {"archive": {"url": "https://me@host/a.tar"}},
                                   {"hub": "a/b", "paths": {"x": "https://me:pw@host/x"}}])  # fmt: skip
def test_a_card_names_no_user(place: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"https://\*\*\*@host/.*names a user or password") as caught:
        Download.model_validate(place)
    assert "--data by hand" in str(caught.value)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def test_a_signed_url_is_fetched_and_kept_and_told_without_its_signature(server: Server, tmp_path: Path) -> None:
    server.files[f"/t.jsonl?{SIGNED}"] = GOOD
    one = card(files=("t.jsonl",), download={"paths": {"t.jsonl": f"{server.url}/t.jsonl?{SIGNED}"}})
    remotes, told = lacking(one, ["t.jsonl"]), Told()
    assert next(iter(ask(remotes).values())).size == len(GOOD)
    server.faults[f"/t.jsonl?{SIGNED}"] = [Fault(code=503), Fault(flip=3), Fault(cut=5), Fault()]
    fetch(remotes, tmp_path, told)
    written = (
        b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        + repr((told.said, told.waits)).encode()
    )
    written += "".join(str(path) for path in tmp_path.rglob("*")).encode()
    assert b"X-Amz-Signature=***" in written
    assert not any(secret in written for secret in (b"5ecre7", b"AKIA"))
    again = card(
        files=("t.jsonl",),
        download={"paths": {"t.jsonl": f"{server.url}/t.jsonl?{SIGNED}".replace("5ecre7", "5ecre8")}},
    )
    asked = len(server.asked)
    fetch(lacking(again, ["t.jsonl"]), tmp_path, told)
    assert len(server.asked) == asked, "another signature is no other file"


@pytest.mark.slow
def test_a_build_that_fails_and_one_that_does_not_tell_no_secret(team: Team, server: Server) -> None:
    """Real processes, with secrets in the environment and in the card."""
    url = f"{server.url}/files/t.jsonl?{SIGNED}"
    text = (team.content / "sources/tickets.yaml").read_text()
    team.put("sources/tickets.yaml", f"{text}download: {{paths: {{t.jsonl: '{url}'}}}}\n")
    command = [sys.executable, "-m", "medi_build", "build", "--out", team.out, "--cache", team.data.parent / "own"]
    command += ["--sources", "our_team/tickets", "--pipeline", "plain", "--content", team.content]
    command += ["--encoder", ROOT / "tests/golden/tiny_instructor"]
    environment = {**os.environ, "HF_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG"}
    secrets = ("5ecre7", "AKIAABCDEFGHIJKLMNOP", TOKEN, "wJalrXUtnFEMI")
    for content, code in ((None, 1), (GOOD, 0)):
        if content:
            server.files[f"/files/t.jsonl?{SIGNED}"] = content
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert not [secret for secret in secrets if secret in done.stdout + done.stderr]
    for path in [*team.out.rglob("*"), *(team.data.parent / "own").rglob("*")]:
        if path.is_file():
            content = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in content], path
