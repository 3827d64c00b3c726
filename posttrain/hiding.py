"""Take secrets out of a text before anybody sees it: an error's words may quote an address."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CONNECTION_STRING",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 6
"""Shorter values are switches: TOKENIZERS_PARALLELISM=false."""

IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)")
"""`user:password` of an address."""

_PASSWORD = re.compile(r"://[^/\s@:]+:[^/\s@]+@|https?://[^/\s@]+@")
"""Not `abfs://container@account`, which is Azure's way to write an address."""

_SECRETS = re.compile(
    IN_ADDRESS.pattern + r"|\b(?:hf|ghp|gho|glpat|xox[a-z]|sk|pk|ZENKEY|ZENPROKEY)[-_][\w-]{8,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"  # a JSON web token
    r"|(?<=Bearer )\S+|(?<=Basic )\S+"
    r"|(?<=[?&](?:sig|key)=)[^&\s]+|(?<=[?&]token=)[^&\s]+"
)


def hide(text: str) -> str:
    """The text without the environment's secrets, passwords in addresses, and known tokens."""
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    return _SECRETS.sub(HIDDEN, text)


def check_addresses(given: Any, name: str) -> None:
    """Refuse a tree in which a text is an address with a password.

    Raises:
        ValueError: there is one; names its place, and not the text.
    """
    for path, text in _texts(given, name):
        if _PASSWORD.search(text):
            raise ValueError(
                f"{path} holds a password in an address; leave it out of the recipe and give it by "
                "the environment or a ZenML secret (netrc, AWS_SECRET_ACCESS_KEY, ...)"
            )


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text of a tree, with the path to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, below in value.items():
            yield from _texts(below, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for number, below in enumerate(value):
            yield from _texts(below, f"{path}[{number}]")
