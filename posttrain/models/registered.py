"""A registered version as the base of the next run: `registry:NAME@ALIAS`.

What the version's policy learned becomes part of the base: a delta beside a reference where that
suffices, else merged weights of our own.
"""

import shutil
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import Reference
from posttrain.models.load import load_merged
from posttrain.models.tokenizer import load_tokenizer
from posttrain.registry.load import download
from posttrain.runtime import Runtime

PREFIX = "registry:"


def split(source: str) -> tuple[str, str]:
    """Model name, and alias or version number, of a `registry:` source.

    Raises:
        ValueError: it names no alias or version.
    """
    name, _, version = source.removeprefix(PREFIX).partition("@")
    if not name or not version:
        raise ValueError(
            f"base_model.source: {source}: write registry:NAME@ALIAS or registry:NAME@VERSION, "
            "as in registry:ferry-guide@champion"
        )
    return name, version


def from_registry(source: str, folder: Path) -> tuple[Reference, PreTrainedTokenizerFast, bool]:
    """Put a registered version's weights or delta into `folder`.

    Returns:
        The reference, the tokenizer with its template, and whether there is a delta.
    """
    cache = Runtime.from_environment().cache.resolve() / "registered"
    base, policy = download(*split(source), cache)
    tokenizer = load_tokenizer(base)
    reference = base.facts.reference
    linear = policy.facts.method in ("lora", "qlora", "dora")
    if linear and reference.kind != "own" and not base.facts.has_delta:
        shutil.copytree(policy.path / "adapter", folder / "delta")
        return reference, tokenizer, True
    load_merged(base, policy).save_pretrained(str(folder / "weights"))
    return Reference(kind="own", source="weights"), tokenizer, False
