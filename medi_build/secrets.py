"""What is secret, taken out of texts that are told or written: tokens, keys, signatures of URLs, passwords."""

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
VARIABLES = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "OPENAI_API_KEY", "WANDB_API_KEY",
)  # fmt: skip
"""Environment variables whose values are secrets, wherever they turn up."""
SHORTEST_SECRET = 8
"""A value shorter than this is no key of any service, and might be a word of any text."""
_WORDS = "sig|signature|token|secret|password|passwd|credential|credentials|api_?key|access_?key|key-pair-id|policy"
_RULES = (
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#@'\"]*@", re.IGNORECASE), rf"\g<1>{HIDDEN}@"),
    (re.compile(rf"([?&;](?:[\w.-]*[-_.])?(?:{_WORDS}|awsaccesskeyid|key)=)[^&;#\s'\"]+", re.IGNORECASE),
     rf"\g<1>{HIDDEN}"),
    (re.compile(r"(\bauthorization['\"]?[:=]\s*['\"]?(?:\w+\s+)?)[\w.~+/=-]{8,}", re.IGNORECASE), rf"\g<1>{HIDDEN}"),
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), HIDDEN),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), HIDDEN),
)  # fmt: skip
"""User and password of a URL, values of its parameters that sign it, tokens in a header, tokens by their form."""


def redacted(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A text without what is secret in it, each time replaced by `HIDDEN`; the same text if nothing is.

    Args:
        text: an error text, a URL, a line of a log.
        environment: where the values of `VARIABLES` are looked up.
    """
    for name in VARIABLES:
        value = environment.get(name, "")
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def redacted_values(value: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """Plain data (dicts, lists, strings, ...) with every string in it `redacted`; keys stay."""
    if isinstance(value, str):
        return redacted(value, environment)
    if isinstance(value, dict):
        return {key: redacted_values(one, environment) for key, one in value.items()}
    return [redacted_values(one, environment) for one in value] if isinstance(value, list) else value


def has_password(url: str) -> bool:
    """Whether a URL names a user, as in ``https://user:password@host/``."""
    return _RULES[0][0].search(url) is not None
