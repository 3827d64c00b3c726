"""Take secrets out of a text before anybody sees it: an error's words may quote an address."""

import os
import re

HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CONNECTION_STRING",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 6
"""Shorter values are switches: TOKENIZERS_PARALLELISM=false."""

IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)")
"""`user:password` of an address."""

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
