"""The one family of errors that users see: what happened, the value seen, what is allowed, what to do next."""

import difflib
from collections.abc import Iterable

from medi_build.secrets import redacted


class MediError(Exception):
    """Root of all errors that this package raises on purpose; the CLI prints it without a traceback.

    What is secret in its text is hidden (`redacted`).
    """

    def __init__(self, text: object = "") -> None:
        super().__init__(redacted(str(text)))


class ContentError(MediError):
    """A card, template, pipeline or table of task ids is wrong."""


class OptionError(MediError):
    """A setting of the caller's is out of its range."""


class InputError(MediError):
    """Raw data cannot be read, or is not in the form its card promises."""


class MissingInputError(MediError):
    """Files that the plan needs are neither on disk nor may be downloaded."""


class FetchError(MediError):
    """A download failed, or what arrived is not what the card pins."""


class EncoderError(MediError):
    """An encoder cannot be loaded or gives unusable vectors."""


class StoreError(MediError):
    """A vector store cannot be read or written."""


class MiningError(MediError):
    """Mining was asked for something impossible (empty corpus, k or margin out of range)."""


class OutputError(MediError):
    """A file or folder of results cannot be written, or may not be used for them."""


class DatasetError(MediError):
    """A built dataset is not whole, cannot be read, or does not hold together."""


class LockError(MediError):
    """A build does not resolve to what a lock file tells, or the file is none."""


class VersionError(MediError):
    """A warehouse, or a version in it, is not there, not whole, or may not be used as it was asked."""


class PublishError(MediError):
    """A dataset cannot be pushed or pulled, or what lies there is not what was pushed."""


class WorkerError(MediError):
    """A process that worked for this one died."""


class TrainError(MediError):
    """Training, encoding or quantizing was asked for something impossible."""


class EvaluationError(MediError):
    """An evaluation cannot be made: its task, its data or its results are not what they have to be."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
