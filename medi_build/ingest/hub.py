"""One file of a dataset repository on the Hugging Face hub, through the hub's own library."""

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medi_build.errors import FetchError
from medi_build.ingest.http import Patience, Watch, is_passing, retry_after
from medi_build.ingest.remotes import Remote
from medi_build.secrets import redacted


def download_from_hub(remote: Remote, part: Path, watch: Watch) -> str:
    """Bring a file of a hub repository into ``part``; returns the commit that was read. Honours ``HF_ENDPOINT``.

    What an interrupted transfer left is gone on with.

    Raises:
        FetchError: the repository, its revision or the file is not there, is gated, or cannot be had now.
    """
    from huggingface_hub import errors

    folder = part.with_name("hub")
    bytes_done = [0]

    def advance(done: int, total: int) -> None:
        bytes_done[0] = max(bytes_done[0], done)
        watch.advance(done, total)

    patience = Patience(watch)
    while True:
        before = bytes_done[0]
        try:
            path, commit = _download(remote, folder, advance)
            break
        except errors.GatedRepoError as error:
            raise FetchError(
                f"{remote.key}: the repository is gated; accept its terms on the hub and log in with `hf auth login`"
            ) from error
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
            why = type(error).__name__.removesuffix("Error")
            raise FetchError(f"{remote.key}: {why} ({_first_line(error)}); the card may be out of date") from error
        except Exception as error:  # the hub's library lets those of its HTTP client through, whichever it uses
            try:
                if not _is_passing(error):
                    raise FetchError(_first_line(error)) from error
                patience.again(_first_line(error), bytes_done[0] > before, _asked(error))
            except FetchError as last:
                raise FetchError(
                    f"{remote.key}: {last}; run the same command again, or put the file into --data by hand"
                ) from error
    path.replace(part)
    shutil.rmtree(folder)
    return commit


def _download(remote: Remote, folder: Path, advance: Callable[[int, int], None]) -> tuple[Path, str]:
    """The file somewhere below ``folder``, and its commit."""
    from huggingface_hub import DryRunFileInfo, hf_hub_download

    known = None if remote.revision == "unconfirmed" else remote.revision
    info = hf_hub_download(remote.hub, remote.path, repo_type="dataset", revision=known, local_dir=folder, dry_run=True)
    assert isinstance(info, DryRunFileInfo)
    path = hf_hub_download(
        remote.hub, remote.path, repo_type="dataset", revision=info.commit_hash, local_dir=folder,
        tqdm_class=_reporting(advance),
    )  # fmt: skip
    return Path(path), info.commit_hash


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _responses(error: Exception) -> Iterator[Any]:
    answers = (getattr(one, "response", None) for one in _chain(error))
    return (answer for answer in answers if answer is not None)


def _is_passing(error: Exception) -> bool:
    """Whether the same request may bring something else after a while: a busy server, a broken connection."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG)
    if full or any(isinstance(one, OfflineModeIsEnabled) for one in _chain(error)):
        return False
    response = next(_responses(error), None)
    return response is None or is_passing(response.status_code)


def _asked(error: Exception) -> float | None:
    response = next(_responses(error), None)
    return None if response is None else retry_after(response.headers.get("Retry-After"))


def _first_line(error: Exception) -> str:
    """Of what the hub's library says, which may name the signed URL that it was sent on to."""
    return redacted(next((line for line in str(error).splitlines() if line.strip()), type(error).__name__))


def _reporting(advance: Callable[[int, int], None]) -> type[Any]:
    """A progress bar class for the hub's library that draws nothing and calls ``advance``."""
    from tqdm import tqdm

    class Reporting(tqdm):  # type: ignore[misc]
        def __init__(self, *_: Any, total: float | None = None, initial: float = 0, **__: Any) -> None:
            super().__init__(disable=True, total=total, initial=initial)

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            advance(int(self.n), int(self.total or 0))

    return Reporting
