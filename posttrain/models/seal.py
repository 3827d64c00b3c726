"""Seal a base whose weights are in place, and find the weights of one that was sealed."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from transformers import AutoConfig, PreTrainedTokenizerFast

from posttrain import hub
from posttrain.artifacts import BaseModel
from posttrain.facts import BaseModelFacts, BaseTraining, Reference, RegisteredBase
from posttrain.hashes import sha256, sha256_of
from posttrain.models.code import code_of
from posttrain.models.load import shapes, weight_hashes
from posttrain.models.tokenizer import template_hash, tokenizer_hash

NEEDED = ("*.safetensors", "*.json", "*.jinja", "tokenizer*")
"""Files of a hub model: no pickled weights, and no code unless it is trusted."""


def seal(
    folder: Path,
    stage: str,
    reference: Reference,
    weights: Path,
    tokenizer: PreTrainedTokenizerFast,
    has_delta: bool,
    training: BaseTraining | None = None,
    registered: RegisteredBase | None = None,
) -> BaseModel:
    """Write tokenizer and manifest of a base whose weights (and delta) are in place."""
    tokenizer.save_pretrained(str(folder / "tokenizer"))
    config = AutoConfig.from_pretrained(str(weights), **code_of(reference))
    layout = shapes(weights)
    files = {} if reference.kind == "hub" else weight_hashes(weights)
    delta = [sha256(file) for file in sorted((folder / "delta").glob("*.safetensors"))]
    vocabulary = tokenizer_hash(tokenizer)
    content = reference.revision if reference.kind == "hub" else list(files.values())
    facts = BaseModelFacts(
        reference=reference,
        has_delta=has_delta,
        architecture=config.architectures[0],
        num_parameters=sum(_product(shape) for shape in layout.values()),
        vocabulary_size=config.vocab_size,
        max_positions=config.max_position_embeddings,
        tokenizer_hash=vocabulary,
        template_hash=template_hash(tokenizer),
        outside=files if reference.kind == "local" else {},
        fingerprint=fingerprint_of(layout, vocabulary, content, delta),
        training=training,
        registered=registered,
    )
    return BaseModel.write(folder, stage, facts)


def fingerprint_of(
    layout: dict[str, list[int]],
    vocabulary: str,
    content: str | list[str] | None,
    delta: Sequence[str] = (),
) -> str:
    """SHA-256 of what a base is.

    Args:
        layout: shapes of its tensors.
        vocabulary: its tokenizer's hash.
        content: commit of a hub model, hashes of the files of another.
        delta: hashes of the files of an adapter that is merged on loading.
    """
    return sha256_of([layout, vocabulary, content, list(delta)])


def fingerprint_in(weights: Path, reference: Reference, vocabulary: str) -> str:
    """Fingerprint of a base without a delta whose weights lie in a folder."""
    if reference.kind == "hub":
        return fingerprint_of(shapes(weights), vocabulary, reference.revision)
    return fingerprint_of(shapes(weights), vocabulary, list(weight_hashes(weights).values()))


def weights_folder(base: BaseModel) -> Path:
    """Where a base's weights lie: in the artifact, in a local folder, or in the hub's cache."""
    return weights_folder_of(base.facts.reference, base.path)


def weights_folder_of(reference: Reference, folder: Path) -> Path:
    """Where a reference's weights lie, for an artifact that is put together in `folder`."""
    if reference.kind == "own":
        return folder / reference.source
    if reference.kind == "local":
        return Path(reference.source)
    with hub.asking("model", reference.source, reference.revision or "main", "base_model.source"):
        return Path(
            snapshot_download(
                reference.source,
                revision=reference.revision,
                allow_patterns=[*NEEDED, *(["*.py"] if reference.trusts_code else [])],
            )
        )


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
