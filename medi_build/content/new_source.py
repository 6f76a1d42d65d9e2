"""``medi new-source``: a card to fill in and the next free task id, in a team's own content folder."""

import json
import re
from pathlib import Path

from medi_build.content.cards import NAME_PATTERN
from medi_build.content.load import load_content
from medi_build.errors import ContentError, did_you_mean

FIRST_OWN_ID = 100_000
"""Ids of a team's own datasets start here, so that ours can grow below."""

CARD = """\
# Fill in every line that says so; `medi validate --content DIR` tells what is wrong.
name: {name}
description: fill in, one line
options:
  adapter: pairs        # lines ["a","b"], ["a","p","n"], {{"set"}}, {{"query","pos","neg"}} need nothing more;
  # query: question     # for other JSON keys or parquet, name the columns:
  # positive: answer
files:
  train: [{file}]       # below DATA/{source}/
licence:
  spdx: unconfirmed     # fill in, e.g. CC-BY-4.0
  commercial_use: unknown
citation: fill in who made the data and where it is described
instruction:
  template: {template}  # see `medi ls templates`
  fields: {{{fields}}}
cap: 200000             # most examples kept; 0: all
max_loss: 0.05          # a build fails if more rows than this share are bad
"""


def write_card(name: str, file: str, content: Path, template: str) -> Path:
    """Write the card and append the dataset's task id; return the card's path.

    Raises:
        ContentError: the name is taken or malformed, or there is no such template.
    """
    if not re.fullmatch(NAME_PATTERN, name) or "/" not in name:
        raise ContentError(f"name {name!r}: give <source>/<dataset> in a-z, 0-9, _ . -, e.g. our_team/tickets")
    if not file or file != file.strip():
        raise ContentError(f"file {file!r}: give the name of the dataset's file below DATA/<source>/")
    known = any((content / part).is_dir() for part in ("sources", "templates", "pipelines"))
    loaded = load_content(content if known else None)
    if name in loaded.cards or name in loaded.task_ids:
        raise ContentError(f"name {name!r} is taken; choose another, see `medi ls sources --sources all`")
    if template not in loaded.templates:
        raise ContentError(
            f"no template {template!r}{did_you_mean(template, loaded.templates)}; see `medi ls templates`"
        )
    needed = [field for field, default in loaded.templates[template].fields.items() if default is None]
    source, stem = name.split("/")
    path = content / "sources" / source / f"{stem}.yaml"
    if path.exists():
        raise ContentError(f"{path}: is already there")
    fields = ", ".join(f"{field}: fill in" for field in needed)
    card = CARD.format(name=name, file=json.dumps(file), source=source, template=template, fields=fields)
    table = content / "sources" / "task_ids.tsv"
    task_id = max([FIRST_OWN_ID - 1, *loaded.task_ids.values()]) + 1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = table.read_text(encoding="utf-8") if table.exists() else "task_id\tname\n"
        rows += "" if rows.endswith("\n") else "\n"
        path.write_text(card, encoding="utf-8")
        table.write_text(f"{rows}{task_id}\t{name}\n", encoding="utf-8")
    except OSError as error:
        raise ContentError(f"--content {content}: cannot be written ({error.strerror}); choose another") from error
    return path
