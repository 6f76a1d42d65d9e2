"""Push to and pull from a dataset repository of the Hugging Face Hub, by the hub's own library.

A push sends the files first, which nobody sees, then makes one commit of all of them and the manifest: a reader sees
the old dataset or the new one, and no mixture. The commit names the one that it builds on, so that the hub refuses it
if another writer was faster.
"""

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from medi_build.dataset.remote.again import again, chain, is_passing_code, told
from medi_build.dataset.remote.listing import Local, Sent, listed_paths, manifest_bytes
from medi_build.dataset.remote.receive import receive
from medi_build.dataset.schema import MANIFEST
from medi_build.errors import DatasetError, MediError, PublishError
from medi_build.files import FileEntry
from medi_build.progress import Silent
from medi_build.secrets import redacted

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    Operations = list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete]

FILES_AT_ONCE = 16
"""Sent before the next are looked at."""
MOST_FILES = 20_000
"""Of one commit; the hub takes 25,000."""
PRECONDITION_FAILED, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT = 412, 401, 403, 404, 409
OWN = (".gitattributes", "README.md", MANIFEST)
"""What a repository may hold that is no dataset of medi yet: what the hub itself puts there, and a first README."""
T = TypeVar("T")


class Wanted(NamedTuple):
    """Attributes: branch: made if missing; None is the repository's own. tag: of the commit. private: if it is new."""

    branch: str | None = None
    tag: str | None = None
    private: bool = False


class Pushed(NamedTuple):
    """Attributes: commit: of the repository. files: how many the dataset has. fresh: False if it was there already."""

    commit: str
    files: int
    fresh: bool


def push(sent: Sent, repository: str, wanted: Wanted, watcher: Silent) -> Pushed:
    """Make a repository hold exactly this dataset.

    Args:
        sent: the dataset.
        repository: ``OWNER/NAME``, made if it is not there.
        wanted: how.
        watcher: told of each file.

    Raises:
        PublishError: the hub refuses, keeps failing, another writer was faster, or the repository holds something else.
        DatasetError: a file is not what the manifest says.
    """
    files = sent.files
    if len(files) > MOST_FILES:
        raise PublishError(
            f"{repository}: {len(files):,} files are more than one commit takes ({MOST_FILES:,}); build with a larger "
            "rows_per_shard"
        )
    hub = _Hub(repository, watcher)
    hub.check_token()
    with _quiet(watcher.say):
        hub.make(wanted)
        head = hub.head(wanted.branch)
        there = hub.listing(head)
        old = hub.manifest(head) if MANIFEST in there else b""
        new = manifest_bytes(sent.manifest)
        paths = {file.entry.path for file in files}
        gone = _superseded(there, old, paths | {MANIFEST, *sent.beside}, repository)
        hub.check_tag(wanted.tag, new)
        commit, fresh = head, old != new
        if fresh or not paths <= there:
            operations = _operations(hub.send(files), sent.beside | {MANIFEST: new}, gone)
            commit = hub.commit(operations, wanted.branch, head, new)
        if wanted.tag:
            hub.tag(wanted.tag, commit)
    return Pushed(commit, len(files) + 1, fresh)


def pull(repository: str, revision: str | None, out: Path, watcher: Silent) -> bool:
    """Make the folder ``out`` of what a branch, tag or commit of a repository holds; False if it is there already.

    Raises:
        PublishError: there is no such thing, the hub keeps failing, or bytes are not what the manifest says.
        OutputError: see `receive`.
    """
    hub = _Hub(repository, watcher)
    where = revision or "its main branch"

    def fetch(entry: FileEntry, path: Path) -> None:
        root = path
        for _ in Path(entry.path).parts:
            root = root.parent
        hub.ask(lambda: hub.download(entry.path, commit, root), f"{entry.path} at {where}")

    with _quiet(watcher.say):
        commit = hub.head(revision)
        return receive(hub.manifest(commit), f"hf://datasets/{repository}", out, fetch, watcher)


def _superseded(there: set[str], old: bytes, new: set[str], repository: str) -> list[str]:
    """Files of the dataset that was there, which this one has not.

    Raises:
        PublishError: the repository holds files of which no manifest knows.
    """
    if not old and (others := there - set(OWN) - new):
        raise PublishError(
            f"{repository}: holds something else ({', '.join(sorted(others)[:3])}) and no {MANIFEST} of medi; choose "
            "another repository, or empty that one first"
        )
    before = listed_paths(old)
    if strays := {path for path in there - before - new if path.startswith("data/")}:
        raise PublishError(
            f"{repository}: holds {min(strays)}, which its {MANIFEST} does not list and load_dataset would read; "
            "remove it there, or choose another repository"
        )
    return sorted((before & there) - new)


class _Hub:
    """One repository, asked as often as it takes."""

    def __init__(self, repository: str, watcher: Silent) -> None:
        from huggingface_hub import HfApi

        self.api = HfApi()
        self.repository = repository
        self._watcher = watcher

    def ask(self, call: Callable[[], T], what: str = "") -> T:
        """The answer to a request that may be made twice."""
        try:
            return again(call, _is_passing, self._watcher.say)
        except MediError:
            raise
        except Exception as error:  # the hub's library lets those of its HTTP client through, whichever it uses
            self.refused(error, what)

    def refused(self, error: Exception, what: str = "") -> NoReturn:
        """Raise `PublishError` in words that say what to do."""
        code = _code(error)
        name = f"{self.repository}: {what}: " if what else f"{self.repository}: "
        advice = {
            UNAUTHORIZED: "the hub does not take the token: HF_TOKEN is missing, wrong or expired; make one that may "
            "write at its settings/tokens",
            FORBIDDEN: "the token may not do this; it needs write access to the repository",
            NOT_FOUND: "there is no such repository or revision, or the token may not see it",
            PRECONDITION_FAILED: "another writer changed the repository while this push ran; nothing of it is seen. "
            "Look at what is there now; the same command puts yours after it, and sends no file twice",
        }.get(code or 0, "run the same command again: what has arrived is kept")
        place = "" if code else f" ({redacted(self.api.endpoint)})"
        raise PublishError(f"{name}{told(error)}{place}; {advice}") from None

    def check_token(self) -> None:
        """Raise `PublishError` if there is none: who does not say who they are may not push."""
        from huggingface_hub import get_token

        if get_token() is None:
            raise PublishError(
                f"{self.repository}: a push needs a token of the hub; set HF_TOKEN, or run `hf auth login`"
            )

    def make(self, wanted: Wanted) -> None:
        """The repository and its branch, if they are not there."""
        self.ask(
            lambda: self.api.create_repo(self.repository, repo_type="dataset", private=wanted.private, exist_ok=True)
        )
        if branch := wanted.branch:
            self.ask(lambda: self.api.create_branch(self.repository, repo_type="dataset", branch=branch, exist_ok=True))

    def tag(self, tag: str, commit: str) -> None:
        """Name a commit."""
        self.ask(
            lambda: self.api.create_tag(self.repository, repo_type="dataset", tag=tag, revision=commit, exist_ok=True)
        )

    def head(self, revision: str | None) -> str:
        """The commit that a branch or tag is at."""
        info = self.ask(lambda: self.api.dataset_info(self.repository, revision=revision), revision or "")
        return str(info.sha)

    def listing(self, commit: str) -> set[str]:
        """Paths of all files."""
        return set(self.ask(lambda: self.api.list_repo_files(self.repository, repo_type="dataset", revision=commit)))

    def manifest(self, commit: str) -> bytes:
        """``manifest.json``, never from a cache."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            return self.ask(lambda: self.download(MANIFEST, commit, Path(folder)), MANIFEST).read_bytes()

    def download(self, path: str, commit: str, folder: Path) -> Path:
        """A file to its place below a folder."""
        return Path(
            self.api.hf_hub_download(self.repository, path, repo_type="dataset", revision=commit, local_dir=folder)
        )

    def check_tag(self, tag: str | None, manifest: bytes) -> None:
        """Raise `PublishError` if a tag stands at another dataset."""
        if tag is None:
            return
        refs = self.ask(lambda: self.api.list_repo_refs(self.repository, repo_type="dataset"))
        for one in refs.tags:
            if one.name == tag and self.manifest(one.target_commit) != manifest:
                raise PublishError(
                    f"{self.repository}: the tag {tag} stands at another dataset, commit {one.target_commit[:12]}; "
                    "choose another name"
                )

    def send(self, files: list[Local]) -> "list[CommitOperationAdd]":
        """Send what the hub has not yet; nobody sees it before the commit."""
        from huggingface_hub import CommitOperationAdd

        self._watcher.start(len(files))
        additions = []
        for start in range(0, len(files), FILES_AT_ONCE):
            some = files[start : start + FILES_AT_ONCE]
            made = [_addition(CommitOperationAdd, file) for file in some]
            self.ask(lambda made=made: self.api.preupload_lfs_files(  # type: ignore[misc]
                self.repository, made, repo_type="dataset", free_memory=False
            ))  # fmt: skip
            for file, addition in zip(some, made, strict=True):
                digest = addition.upload_info.sha256.hex()
                if digest != file.entry.sha256:
                    raise DatasetError(
                        f"{file.path}: sha256 is {digest}, the manifest says {file.entry.sha256}; it was changed or "
                        "damaged: build or check it out again. Nothing of it is seen on the hub"
                    )
                self._watcher.done(f"{file.entry.path}: {file.entry.size / 1e6:,.1f} MB")
            additions += made
        return additions

    def commit(self, operations: "Operations", branch: str | None, parent: str, manifest: bytes) -> str:
        """One commit of everything; its id. One whose answer was lost is recognised by the manifest."""

        def once() -> str:
            head = self.api.dataset_info(self.repository, revision=branch).sha
            if head != parent and self.manifest(str(head)) == manifest:
                return str(head)
            made = self.api.create_commit(
                self.repository, operations, repo_type="dataset", revision=branch, parent_commit=parent,
                commit_message="medi push",
            )  # fmt: skip
            return str(made.oid)

        return self.ask(once)


def _operations(additions: "list[CommitOperationAdd]", small: dict[str, bytes], gone: list[str]) -> "Operations":
    """What the commit does: files that were sent, small ones that come along, and those that go."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    return [
        *additions,
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in small.items()),
        *(CommitOperationDelete(path_in_repo=path) for path in gone),
    ]


def _addition(kind: Any, file: Local) -> Any:
    try:
        return kind(path_in_repo=file.entry.path, path_or_fileobj=file.path)
    except (ValueError, OSError) as error:
        raise DatasetError(f"{file.path}: cannot be read ({told(error)}); build or check it out again") from error


class _Heard(logging.Handler):
    """Hands on what the hub's library logs, without the signed addresses that it tells when it tries again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(redacted(record.getMessage()))


@contextmanager
def _quiet(say: Callable[[str], None]) -> Iterator[None]:
    """Without the bars of the hub's library; what it logs is told to ``say``."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = are_progress_bars_disabled()
    logger = logging.getLogger("huggingface_hub")
    handlers = logger.handlers
    disable_progress_bars()
    logger.handlers = [_Heard(say)]
    try:
        yield
    finally:
        logger.handlers = handlers
        if not before:
            enable_progress_bars()


def _code(error: Exception) -> int | None:
    """HTTP code of the answer behind an error; None where there was no answer."""
    answers = (getattr(one, "response", None) for one in chain(error))
    answer = next((one for one in answers if one is not None), None)
    return None if answer is None else int(answer.status_code)


def _is_passing(error: Exception) -> bool:
    """Whether the same request may bring something else after a while: a busy server, a broken connection."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EROFS)
    if full or isinstance(error, MediError) or any(isinstance(one, OfflineModeIsEnabled) for one in chain(error)):
        return False
    code = _code(error)
    wrong = isinstance(error, ValueError | TypeError | AttributeError | KeyError)
    return is_passing_code(code) if code is not None else not wrong
