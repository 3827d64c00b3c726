"""Whether a model's own code runs: never, unless a recipe names it and this machine allows it.

A repository of the hub may bring Python (`auto_map` in its configuration). Where Transformers knows
the architecture itself, that is passed over; where it does not, the model is refused.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from transformers import PreTrainedConfig

from posttrain.facts import Reference
from posttrain.runtime import Runtime

DESCRIBED = ("config.json", "tokenizer_config.json")
"""Files that may name code."""

NO_CODE: dict[str, Any] = {"trust_remote_code": False}

CODE_LIES_IN = "transformers_modules."
"""The package into which Transformers puts a repository's code."""


def code_of(reference: Reference) -> dict[str, Any]:
    """What to tell Transformers of a base's code.

    Raises:
        ValueError: the recipe trusts it, and this machine does not.
    """
    if not reference.trusts_code:
        return NO_CODE
    assert reference.revision is not None
    named = f"{reference.source}@{reference.revision}"
    if named not in Runtime.from_environment().trusted_code:
        raise ValueError(
            f"base_model.trust_remote_code: {named} brings Python that would run here; if you have "
            f"read it, allow it on this machine: POSTTRAIN_TRUSTED_CODE={named}"
        )
    return {"trust_remote_code": True, "code_revision": reference.revision}


def code_of_config(config: PreTrainedConfig) -> dict[str, Any]:
    """The same, of a configuration that `code_of` let be loaded: its class tells."""
    if not type(config).__module__.startswith(CODE_LIES_IN):
        return NO_CODE
    return {"trust_remote_code": True, "code_revision": config._commit_hash}


@contextmanager
def in_words(source: str) -> Iterator[None]:
    """Turn Transformers' word on code that may not run into one that names the field.

    Raises:
        ValueError: the model cannot be used without its own code.
    """
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"base_model.source: {source} works by Python of its own, which is not run: take a "
            "model whose architecture Transformers has, or read the code and name it in "
            "base_model.trust_remote_code (repository and commit)"
        ) from error


def check_code(source: str, commit: str) -> None:
    """Refuse a trusted repository whose code lies in another one, which nobody named.

    Raises:
        ValueError: names the file and the other repository.
    """
    for name in DESCRIBED:
        try:
            file = hf_hub_download(source, name, revision=commit)
        except EntryNotFoundError:
            continue
        described = json.loads(Path(file).read_bytes())
        for place in _strings(described.get("auto_map")):
            owner, dashes, _ = place.partition("--")
            if dashes and owner != source:
                raise ValueError(
                    f"base_model.trust_remote_code: {source} names code of another repository "
                    f"({place!r} in {name}), and only its own can be trusted"
                )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)
