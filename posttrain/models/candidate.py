"""What is known of a base before its weights are there: where it is, its sizes, its tokenizer."""

from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerFast

from posttrain import hub, roots
from posttrain.facts import Reference
from posttrain.models.code import check_code, code_of, in_words
from posttrain.models.load import shapes, weight_hashes
from posttrain.models.seal import fingerprint_of
from posttrain.models.tokenizer import read_tokenizer, tokenizer_hash, with_system
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.preflight import Preflight

FIELD = "base_model.source"


@dataclass(frozen=True)
class Candidate:
    """A base on the hub or in a local folder; no weight has been read."""

    reference: Reference
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerFast

    def fingerprint(self) -> str:
        """What the sealed base's will be; the bytes of a local folder's weights are hashed."""
        source, vocabulary = self.reference.source, tokenizer_hash(self.tokenizer)
        if self.reference.kind == "hub":
            assert self.reference.revision is not None
            layout = hub.layout(source, self.reference.revision)
            return fingerprint_of(layout, vocabulary, self.reference.revision)
        hashes = list(weight_hashes(Path(source)).values())
        return fingerprint_of(shapes(Path(source)), vocabulary, hashes)


def find(recipe: BaseModelRecipe) -> Candidate:
    """Look at what a recipe names: a folder here, or else a model of the hub.

    Raises:
        ValueError: it cannot be had, or cannot be used.
    """
    local = roots.folder(recipe.source, FIELD)
    if local is None:
        return on_hub(recipe.source, recipe.revision, recipe.trust_remote_code is not None)
    if recipe.trust_remote_code is not None:
        raise ValueError(
            f"base_model.trust_remote_code: {recipe.source} is a folder here, which has no commit; "
            "name the hub's repository in base_model.source"
        )
    return in_folder(local)


def on_hub(source: str, revision: str, trusts_code: bool = False) -> Candidate:
    """Look at a hub model: its commit, configuration and tokenizer.

    Args:
        source: its id.
        revision: branch, tag or commit.
        trusts_code: whether the recipe names the model's own code at this commit.

    Raises:
        ValueError: the hub refuses or cannot be reached, or the model cannot be used.
    """
    found = hub.find("model", source, revision, FIELD)
    if not any(name.endswith(".safetensors") for name in found.files):
        raise ValueError(
            f"base_model.source: {source}@{revision} holds no safetensors; pickled weights are "
            "never loaded: convert it, or name a revision that has them"
        )
    reference = Reference(kind="hub", source=source, revision=found.commit, trusts_code=trusts_code)
    code = code_of(reference)
    with hub.asking("model", source, revision, FIELD), in_words(source):
        if trusts_code:
            check_code(source, found.commit)
        config = AutoConfig.from_pretrained(source, revision=found.commit, **code)
        tokenizer = read_tokenizer(source, found.commit, code)
    return Candidate(reference, config, tokenizer)


def in_folder(source: Path) -> Candidate:
    """Look at a local folder.

    Raises:
        ValueError: it holds no safetensors or no usable tokenizer.
    """
    if not list(source.glob("*.safetensors")):
        raise ValueError(
            f"base_model.source: {source} holds no safetensors (found: "
            f"{sorted(file.name for file in source.iterdir())})"
        )
    reference = Reference(kind="local", source=str(source.resolve()))
    try:
        with in_words(str(source)):
            config = AutoConfig.from_pretrained(str(source), trust_remote_code=False)
            return Candidate(reference, config, read_tokenizer(source))
    except OSError as error:
        raise ValueError(
            f"base_model.source: {source} is no whole model: {str(error).splitlines()[0]}"
        ) from error


def check_fingerprint(found: str, wanted: str | None, source: str) -> None:
    """Refuse a base that is not the pinned one.

    Raises:
        ValueError: names both fingerprints.
    """
    if wanted is not None and found != wanted:
        raise ValueError(
            f"base_model.fingerprint is {wanted}, and that of {source} is {found}: another model, "
            "revision or tokenizer than was pinned; set base_model.source and base_model.revision "
            "back, or write the new one by `posttrain pin`"
        )


def resolve_template(tokenizer: PreTrainedTokenizerFast, preflight: Preflight) -> None:
    """Give the tokenizer the recipe's template and system message.

    Raises:
        ValueError: the template's file is not there.
    """
    if preflight.chat_template is not None:
        tokenizer.chat_template = _read_template(Path(preflight.chat_template))
    if preflight.system is not None and tokenizer.chat_template is not None:
        tokenizer.chat_template = with_system(tokenizer.get_chat_template(), preflight.system)


def _read_template(path: Path) -> str:
    field = "template.chat_template"
    try:
        return roots.file(path, field, "a Jinja template").read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{field}: {path} is not UTF-8 ({error}); save it as UTF-8") from error
