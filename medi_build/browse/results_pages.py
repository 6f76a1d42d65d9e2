"""Pages of what `medi eval` wrote: every result, and its items from the worst on, other models beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import polars as pl
from datasette.app import Datasette
from datasette.utils.asgi import NotFound, Request, Response

from medi_build.dataset.report.samples import visible
from medi_build.errors import EvaluationError
from medi_build.evaluate.results import Result, items_path, load_items, load_result

PER_PAGE = 100
MOST_BESIDE = 4


@dataclass(frozen=True)
class Item:
    """A result on disk."""

    path: Path
    result: Result

    @property
    def has_items(self) -> bool:
        """Whether there is what its metric is made of."""
        return items_path(self.path).is_file()


def read_results(folder: Path) -> list[Item]:
    """The results in a folder of `medi eval`, by suite, task and model.

    Raises:
        EvaluationError: there are none, or one is damaged.
    """
    found = [Item(path, load_result(path)) for path in sorted(folder.glob("*/*/*.json"))]
    if not found:
        raise EvaluationError(f"{folder}: has no results; `medi eval` writes them there with --out {folder}")
    return sorted(found, key=lambda one: (one.result.suite, one.result.task, -one.result.main_score))


class ResultPages:
    """The pages of results."""

    def __init__(self, name: str, found: Sequence[Item]) -> None:
        self._name, self._found = name, found

    def routes(self) -> list[tuple[str, Any]]:
        """Paths, as regular expressions, and what answers them."""
        return [(r"^/$", self.all), (r"^/result/(?P<number>[0-9]{1,9})$", self.one)]

    async def all(self, request: Request, datasette: Datasette) -> Response:
        """Every result."""
        context = {"name": self._name, "found": list(enumerate(self._found))}
        return Response.html(await datasette.render_template("results.html.j2", context, request))

    async def one(self, request: Request, datasette: Datasette) -> Response:
        """The items of one result, the worst first."""
        number = int(request.url_vars["number"])
        if number >= len(self._found) or not self._found[number].has_items:
            raise NotFound("no such result, or one without items")
        item, words = self._found[number], request.args.get("q") or ""
        beside = [one for one in self._found if one is not item and one.has_items and _same(one, item)][:MOST_BESIDE]
        table = _joined(item, beside)
        if words:
            table = table.filter(pl.col("id").str.to_lowercase().str.contains(words.lower(), literal=True))
        pages = max(1, math.ceil(len(table) / PER_PAGE))
        asked = request.args.get("page") or "1"
        page = min(max(int(asked), 1), pages) if asked.isascii() and asked.isdecimal() and len(asked) < 9 else 1
        rows = [[visible(row[0]), *row[1:]] for row in table.slice((page - 1) * PER_PAGE, PER_PAGE).rows()]
        context = {
            "name": self._name,
            "item": item,
            "beside": beside,
            "columns": table.columns,
            "rows": rows,
            "total": len(table),
            "words": words,
            "page": page,
            "pages": pages,
            "address": lambda to: f"/result/{number}?{urlencode({'q': words, 'page': to})}",
        }
        return Response.html(await datasette.render_template("result.html.j2", context, request))


def _same(one: Item, other: Item) -> bool:
    return (one.result.suite, one.result.task) == (other.result.suite, other.result.task)


def _joined(item: Item, beside: Sequence[Item]) -> pl.DataFrame:
    """The items of a result in the order of their values, with the values that other models have for them."""
    table = pl.DataFrame(load_items(item.path))
    for number, one in enumerate(beside):
        other = pl.DataFrame(load_items(one.path)).select("id", pl.col("value").alias(f"other {number}"))
        table = table.join(other.unique("id"), on="id", how="left", maintain_order="left")
    return table.sort("value", maintain_order=True)
