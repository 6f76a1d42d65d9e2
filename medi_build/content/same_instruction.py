"""``sources/same_instruction.tsv``: datasets that share an instruction because they ask the same thing."""

import csv
from collections.abc import Iterable
from pathlib import Path

from medi_build.errors import ContentError, did_you_mean

COLUMNS = ("names", "why")
FILE = Path("sources") / "same_instruction.tsv"


def load_groups(roots: Iterable[Path], known: Iterable[str]) -> list[frozenset[str]]:
    """The groups of every content folder that has the file; in a row the names are parted by spaces.

    Raises:
        ContentError: telling every fault: other columns, a group of fewer than two, an unknown name, no reason, or that
            a file is not UTF-8.
    """
    names = set(known)
    groups: list[frozenset[str]] = []
    faults: list[str] = []
    for path in (root / FILE for root in roots):
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{path}: cannot be read ({error})")
            continue
        rows = list(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
        if not rows or tuple(rows[0]) != COLUMNS:
            faults.append(f"{path}:1: the columns are {', '.join(COLUMNS)}, saw {rows[0] if rows else []}")
        for line, row in enumerate(rows[1:], 2):
            group = frozenset(row[0].split()) if row else frozenset()
            if len(row) != 2 or len(group) < 2 or not row[1].strip():
                faults.append(f"{path}:{line}: expected 'name name ...<TAB>why', two names or more, saw {row!r}")
            faults += [
                f"{path}:{line}: no dataset {name!r}{did_you_mean(name, names)}; see `medi ls sources`"
                for name in sorted(group - names)
            ]
            groups.append(group)
    if faults:
        raise ContentError(f"{len(faults)} fault(s):\n" + "\n".join(f"  {fault}" for fault in faults))
    return groups
