"""Types and values of JSON schemas in the words of our pages."""

from typing import Any

TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def type_words(schema: dict[str, Any]) -> str:
    """A property's type: ``number, at least -1, at most 1``; another model by its name; null goes without saying."""
    if "anyOf" in schema or "oneOf" in schema:
        kinds = [kind for kind in schema.get("anyOf", schema.get("oneOf", [])) if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(type_words(kind) for kind in kinds))
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "const" in schema:
        return value_words(schema["const"])
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if schema["type"] == "array":
        return f"list of {_plural(type_words(schema['items']))}"
    if schema["type"] == "object":
        return f"mapping of names to {_plural(type_words(schema['additionalProperties']))}"
    limits = [f"{word} {schema[limit]:,}".removesuffix(".0") for limit, word in LIMITS.items() if limit in schema]
    return ", ".join([TYPES[schema["type"]], *limits])


def value_words(value: Any) -> str:
    """A value as it stands in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, list | tuple) else f"{value}"


def table_row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plural(words: str) -> str:
    """Of the first noun of a type in words."""
    for one, many in (("whole number", "whole numbers"), ("number", "numbers"), ("text", "texts"), ("list", "lists")):
        if words.startswith(one):
            return many + words[len(one) :]
    return words
