"""What Ray's errors mean here."""

from medi_build.errors import MediError, WorkerError


def cause_of(error: Exception) -> Exception:
    """What was raised where a task ran, however many tasks it came through; else the error itself."""
    from ray.exceptions import RayTaskError

    while isinstance(error, RayTaskError):
        error = error.cause
    return error


def meant(error: Exception) -> MediError | None:
    """The error of ours that one of Ray's stands for: one that a task raised, or the word that no room is left."""
    from ray.exceptions import ObjectStoreFullError, OutOfDiskError

    cause = cause_of(error)
    if isinstance(cause, MediError):
        return cause
    if isinstance(cause, (ObjectStoreFullError, OutOfDiskError)):
        return WorkerError(
            f"Ray's object store is full, and the disk that it spills to ({told(cause)}); give nodes more of it "
            "(`ray start --object-store-memory`) or room in /tmp/ray, then run the same command again: finished "
            "datasets are kept"
        )
    if isinstance(cause, OSError):
        where = f"{cause.filename}: " if cause.filename else ""
        return WorkerError(
            f"a worker cannot read or write: {where}{cause.strerror or cause}; make room on its disk, or name a "
            "--cache on another one, then run the same command again: finished datasets are kept"
        )
    return None


def told(error: Exception) -> str:
    """Its first sentence; Ray adds how to look for the cause."""
    first = str(error).strip().partition("\n")[0].partition(". ")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
