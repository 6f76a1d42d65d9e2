"""What one input of a Super-NI task looks like: a question, a sentence, a list of letters and numbers."""

import ast
import re


def shape_of(sample: str) -> str:
    """What an input looks like."""
    text = sample.strip()
    if not text:
        return "text"
    if kind := _structure(text):
        return kind
    if re.search(r"#include|int main|public (?:class|static)|\bdef \w+\(|;\s*\}", text):
        return "program"
    if re.fullmatch(r"[-+]?[\d.,]+", text):
        return "number"
    words = len(text.split())
    if text.endswith("?") and words <= 40:
        return "question"
    if re.search("[\u3040-\u30ff\u4e00-\u9fff\u0e00-\u0e7f]", text):  # written without spaces
        return "sentence" if len(text) <= 60 else "passage"
    return (
        "phrase"
        if words <= 3
        else "sentence"
        if words <= 40 and len(re.findall(r"[.!?।](?:\s|$)", text)) <= 1
        else "text"
    )


def _structure(text: str) -> str:
    """``two numbers and a list of letters`` of ``5, 15, ['n', 't']``; empty for running text."""
    if not re.match(r"[\[\d(-]", text) or "[" not in text or not text.rstrip().endswith("]"):
        return ""
    try:
        value = ast.literal_eval(text if text.startswith("[") and text.count("[") == 1 else f"[{text}]")
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return "list of numbers" if re.fullmatch(r"\[[-\d.\s,]+\]", text) else ""
    if not isinstance(value, list):
        return ""
    if len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    heads = [item for item in value if not isinstance(item, list)]
    lists = [item for item in value if isinstance(item, list)]
    if not lists:
        return f"list of {_items(value)}"
    if not heads and len(lists) == 2 and text.startswith("[") and not text.startswith("[["):
        return f"two lists of {_items(lists[0] + lists[1])}"
    if not heads:
        return f"list of lists of {_items([item for part in lists for item in part])}"
    count = {1: "number", 2: "two numbers"}.get(len(heads), "numbers")
    return f"{count} and list of {_items(lists[0])}" if len(lists) == 1 else ""


def _items(items: list[object]) -> str:
    """What the items of a list are."""
    texts = [str(item) for item in items]
    numbers = sum(bool(re.fullmatch(r"-?\d+(?:\.\d+)?", text)) for text in texts)
    letters = sum(len(text) == 1 and text.isalpha() for text in texts)
    if numbers == len(texts):
        return "numbers" if any("." in text for text in texts) else "integers"
    if letters == len(texts):
        return "letters"
    return "letters and numbers" if numbers and letters and numbers + letters == len(texts) else "strings"
