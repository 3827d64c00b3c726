"""Exported folders: what they say of themselves in `posttrain.json`, and how they are loaded.

A folder is laid out as Hugging Face's libraries expect it and serves without posttrain. What is in
`posttrain.json` is for us: a folder whose weights, tokenizer, template or base have changed since
is refused. Hidden files and `README.md` are nobody's concern: hubs and people add to them.
"""

from pathlib import Path
from typing import Literal, cast

import pydantic
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from posttrain.facts import Reference
from posttrain.hashes import sha256
from posttrain.models.adapters import attach_folder
from posttrain.models.load import load_weights
from posttrain.models.seal import fingerprint_in, weights_folder_of
from posttrain.models.tokenizer import read_tokenizer, template_hash, tokenizer_hash
from posttrain.recipe.section import Section
from posttrain.recipe.train import Method, QuantizationRecipe

FACTS = "posttrain.json"
CARD = "README.md"
BASE = "base"
"""Folder of a base of our own beside the adapter that stands on it."""


class ExportedFacts(Section):
    """The content of `posttrain.json`."""

    format: Literal["peft", "merged"]
    method: Method
    """By which method the weights were trained."""

    quantization: QuantizationRecipe | None = None
    """How a `peft` folder's base is held on loading, as in training."""

    name: str
    """Registered model."""

    version: int
    architecture: str
    base: Reference
    """The base that a `peft` folder stands on, `base` where it lies beside the adapter; of a
    `merged` one, what it came from."""

    base_fingerprint: str
    """Of that base."""

    tokenizer_hash: str
    template_hash: str
    files: dict[str, str]
    """Relative path -> SHA-256."""


def load_exported(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, ExportedFacts]:
    """Load an exported folder for inference: the model, its tokenizer with the template, its facts.

    A `peft` folder's adapter stands on its base, in 4 bits where it was trained so; its base comes
    from the hub at the recorded commit, from a local folder, or from `base/`.

    Raises:
        ValueError: the folder is none of ours; a file, the tokenizer, the template or the base is
            not what was exported.
    """
    facts = read_facts(folder)
    found = _files(folder)
    if differing := sorted(facts.files.keys() ^ found.keys()):
        raise ValueError(f"{folder}: files were added or taken away: {differing}; export it again")
    tokenizer = _tokenizer(folder, facts)
    if changed := sorted(name for name, file in found.items() if facts.files[name] != sha256(file)):
        raise ValueError(f"{folder}: changed since it was exported: {changed}; export it again")
    if facts.format == "merged":
        return load_weights(folder), tokenizer, facts
    base = load_weights(_base(folder, facts), facts.quantization)
    base.name_or_path = facts.base.source  # as adapter_config.json has it: PEFT warns else
    model = attach_folder(base, folder, "policy", trainable=False)
    return cast(PreTrainedModel, model.eval()), tokenizer, facts


def read_facts(folder: Path) -> ExportedFacts:
    """Read `posttrain.json`.

    Raises:
        ValueError: there is none, or it is not ours.
    """
    file = folder / FACTS
    try:
        return ExportedFacts.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{file}: no such file; `posttrain export` writes one") from error
    except pydantic.ValidationError as error:
        raise ValueError(f"{file}: not written by `posttrain export`: {error}") from error


def write_facts(folder: Path, facts: ExportedFacts) -> ExportedFacts:
    """Write `posttrain.json` last: what it says of the folder's files is computed here."""
    files = {name: sha256(file) for name, file in _files(folder).items()}
    facts = facts.model_copy(update={"files": files})
    (folder / FACTS).write_text(facts.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return facts


def _files(folder: Path) -> dict[str, Path]:
    """Relative path -> file, without hidden ones, the card and `posttrain.json`."""
    found = {file.relative_to(folder): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {
        name.as_posix(): file
        for name, file in found.items()
        if name.as_posix() not in (FACTS, CARD)
        and not any(part.startswith(".") for part in name.parts)
    }


def _tokenizer(folder: Path, facts: ExportedFacts) -> PreTrainedTokenizerFast:
    """The tokenizer, if it and its template are still those of the training."""
    tokenizer = read_tokenizer(folder)
    for what, recorded, found in (
        ("tokenizer", facts.tokenizer_hash, tokenizer_hash(tokenizer)),
        ("chat template", facts.template_hash, template_hash(tokenizer)),
    ):
        if recorded != found:
            raise ValueError(
                f"{folder}: was exported with {what} {recorded[:12]}, and has {found[:12]} now; "
                "prompts would not be what the model was trained on: export it again"
            )
    return tokenizer


def weights_of_base(reference: Reference, folder: Path) -> Path:
    """Where the weights of a `peft` folder's base lie.

    Raises:
        ValueError: a local folder is not there any more.
    """
    if reference.kind == "local" and not Path(reference.source).is_dir():
        raise ValueError(
            f"{folder}: its base {reference.source} is not there; put it back, or export with "
            "--format merged"
        )
    return weights_folder_of(reference, folder)


def _base(folder: Path, facts: ExportedFacts) -> Path:
    """The base's weights, if they are still those that the adapter stands on."""
    weights = weights_of_base(facts.base, folder)
    found = fingerprint_in(weights, facts.base, facts.tokenizer_hash)
    if found != facts.base_fingerprint:
        raise ValueError(
            f"{folder}: stands on base fingerprint {facts.base_fingerprint[:12]}, and "
            f"{facts.base.source} has {found[:12]}; put the old weights back"
        )
    return weights
