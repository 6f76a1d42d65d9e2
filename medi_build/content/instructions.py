"""Instruction templates: Jinja in a box, rendered once per dataset.

The grammar is that of Su et al. 2023, section 2.4: ``Represent the [domain] <text type> [for <objective>]``.
Templates come from users too, so only a small part of Jinja is allowed (variables, ``if``, comparisons, a few
filters): without loops and calls neither time nor memory can run away.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, model_validator

from medi_build.errors import ContentError, did_you_mean

ALLOWED_FILTERS = ("lower", "upper", "title", "replace", "trim")
MAX_TEMPLATE_CHARACTERS = 2000
_ALLOWED_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.CondExpr,
    nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Filter, nodes.Concat,
)  # fmt: skip
MAX_TEXT_CHARACTERS = 20_000
"""Of a field's value, of what `replace` makes of it, and of an instruction; a definition of a task has 5,000."""
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)


def _replace(text: str, old: str, new: str) -> str:
    """The filter, whose result in a chain of them would double and double again. Raises ValueError."""
    text, old, new = str(text), str(old), str(new)
    _check_length(len(text) + text.count(old) * (len(new) - len(old)), "what the filter replace makes")
    return text.replace(old, new)


def _check_length(characters: int, what: str) -> None:
    if characters > MAX_TEXT_CHARACTERS:
        raise ValueError(f"{what} has {characters:,} characters; at most {MAX_TEXT_CHARACTERS:,} are allowed")


_ENVIRONMENT.filters["replace"] = _replace
_ENVIRONMENT.globals.clear()


class Instructions(NamedTuple):
    """The instruction of each side, separator included: ``Represent the ...;``."""

    query: str
    document: str


class Phrasing(BaseModel):
    """One way to say it. Without ``document`` the dataset is symmetric: one instruction on both sides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str = Field(..., description="of queries; a template without its separator")
    document: str | None = Field(None, description="of documents; null: the same as of queries")


class Template(BaseModel):
    """A family of instructions; the first phrasing is the published form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(..., description="as cards name it")
    description: str = Field(..., description="one line")
    fields: dict[str, str | None] = Field(
        default_factory=dict, description="field -> default; null: the card must give it"
    )
    phrasings: tuple[Phrasing, ...] = Field(..., min_length=1, description="ways to say it; the first is the default")
    definition: Phrasing | None = Field(
        None, description="for the setting `phrasing: definition`: quotes the field `definition` of the task's own file"
    )

    @model_validator(mode="after")
    def _parse(self) -> "Template":
        for phrasing in (*self.phrasings, *((self.definition,) if self.definition else ())):
            for source in (phrasing.query, phrasing.document):
                if source is not None:
                    _check_source(source, self.fields)
        return self


def _check_source(source: str, fields: Collection[str]) -> None:
    """Raise ValueError unless the template stays inside the allowed part of Jinja and uses ``fields`` alone."""
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise ValueError(f"{len(source)} characters; at most {MAX_TEMPLATE_CHARACTERS} are allowed")
    try:
        _check_parts(source, fields)
        _compile(source)
    except (RecursionError, MemoryError, SyntaxError) as error:  # Python compiles what Jinja makes of it
        raise ValueError(f"too many parts inside each other in {source[:80]!r}...; write it flat") from error


def _check_parts(source: str, fields: Collection[str]) -> None:
    try:
        tree = _ENVIRONMENT.parse(source)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"not valid Jinja: {error.message} (line {error.lineno}) in {source!r}") from error
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _ALLOWED_NODES):
            raise ValueError(
                f"{type(node).__name__} is not allowed in {source!r}; "
                "use variables, if, comparisons, and/or/not and the filters " + ", ".join(ALLOWED_FILTERS)
            )
        if isinstance(node, nodes.Filter) and node.name not in ALLOWED_FILTERS:
            raise ValueError(f"filter {node.name!r} in {source!r}; allowed are {', '.join(ALLOWED_FILTERS)}")
    unknown = min(meta.find_undeclared_variables(tree) - set(fields), default=None)
    if unknown is not None:
        raise ValueError(
            f"unknown field {unknown!r} in {source!r}{did_you_mean(unknown, fields)}; the template's fields are "
            f"{', '.join(fields) or 'none'}"
        )


def render(
    template: Template, card_fields: Mapping[str, str], found_fields: Mapping[str, str], separator: str
) -> list[Instructions]:
    """Render every phrasing of a template for one dataset.

    Args:
        template: the family.
        card_fields: values the card gives; they win over all others.
        found_fields: values the adapter found in the data; they win over the template's defaults.
        separator: ``;`` (the released MEDI rows) or ``:`` (the public documentation).

    Raises:
        ContentError: a field is unknown or missing, or the result breaks the grammar.
    """
    values = _values(template, card_fields, found_fields)
    return [_instructions(template.name, phrasing, values, separator) for phrasing in template.phrasings]


def render_definition(
    template: Template, card_fields: Mapping[str, str], found_fields: Mapping[str, str], separator: str
) -> Instructions | None:
    """Render the form that quotes the task's own definition; arguments as for `render`.

    The definition is a value, never a template: braces in it stay braces. Returns None where the template has no such
    form or nothing is defined.
    """
    values = _values(template, card_fields, found_fields)
    if template.definition is None or not values.get("definition"):
        return None
    return _instructions(template.name, template.definition, values, separator)


def _values(
    template: Template, card_fields: Mapping[str, str], found_fields: Mapping[str, str]
) -> Mapping[str, str | None]:
    """A value for each field of the template: the card's, else the one found in the data, else the default."""
    for name in card_fields:
        if name not in template.fields:
            raise ContentError(
                f"template {template.name!r} has no field {name!r}{did_you_mean(name, template.fields)}; "
                f"its fields are {', '.join(template.fields)}"
            )
    # An adapter finds what it finds, whether or not this template asks for it; a card names fields for its template.
    found = {name: value for name, value in found_fields.items() if name in template.fields}
    values = {**template.fields, **found, **card_fields}
    missing = sorted(name for name, value in values.items() if value is None)
    if missing:
        raise ContentError(f"template {template.name!r} needs a value for {', '.join(missing)}; add it to the card")
    for name, value in values.items():
        if value is not None and len(value) > MAX_TEXT_CHARACTERS:
            raise ContentError(
                f"template {template.name!r}: the field {name!r} has {len(value):,} characters; at most "
                f"{MAX_TEXT_CHARACTERS:,} are allowed, so give a shorter value in the card"
            )
    return values


def _instructions(name: str, phrasing: Phrasing, values: Mapping[str, str | None], separator: str) -> Instructions:
    query = _render_one(name, phrasing.query, values, separator)
    document = phrasing.document
    return Instructions(query, query if document is None else _render_one(name, document, values, separator))


@lru_cache(maxsize=1024)
def _compile(source: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(source)


def _render_one(name: str, source: str, values: Mapping[str, str | None], separator: str) -> str:
    try:
        text = " ".join(_compile(source).render(values).split())
        _check_length(len(text), "the instruction")
    except (ValueError, TypeError, OverflowError, RecursionError, jinja2.TemplateError) as error:
        raise ContentError(f"template {name!r} cannot be rendered: {error} in {source[:200]!r}") from error
    if not text.startswith("Represent "):
        raise ContentError(f"template {name!r} gives {text!r}; an instruction starts with 'Represent '")
    return text + separator
