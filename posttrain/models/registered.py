"""A registered version as the base of the next run: `registry:NAME@ALIAS`.

What the version's policy learned becomes part of the base: a delta beside a reference where that
suffices, else merged weights of our own.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from transformers import PreTrainedTokenizerFast

from posttrain.facts import Reference, RegisteredBase
from posttrain.models.load import load_merged
from posttrain.models.source import split
from posttrain.models.tokenizer import load_tokenizer
from posttrain.registry.load import download
from posttrain.registry.versions import resolve
from posttrain.runtime import Runtime


@dataclass(frozen=True)
class Taken:
    """A registered version as a base."""

    reference: Reference
    tokenizer: PreTrainedTokenizerFast
    """With its template."""

    has_delta: bool
    version: RegisteredBase


def from_registry(source: str, folder: Path) -> Taken:
    """Put a registered version's weights or delta into `folder`."""
    cache = Runtime.from_environment().cache.resolve() / "registered"
    name, named = split(source)
    found = resolve(MlflowClient(), name, named)
    base, policy = download(name, str(found.version), cache)
    version = RegisteredBase(
        name=name, version=int(found.version), content_hash=found.tags["content_hash"]
    )
    tokenizer = load_tokenizer(base)
    reference = base.facts.reference
    linear = policy.facts.method in ("lora", "qlora", "dora")
    if linear and reference.kind != "own" and not base.facts.has_delta:
        shutil.copytree(policy.path / "adapter", folder / "delta")
        return Taken(reference, tokenizer, True, version)
    load_merged(base, policy).save_pretrained(str(folder / "weights"))
    return Taken(Reference(kind="own", source="weights"), tokenizer, False, version)
