"""Which of the shipped chat templates, all with marks, a family of models was trained on."""

import json
import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("recipes")


class Family(NamedTuple):
    """Models that share a chat template."""

    template: str
    name: str
    """Pattern in a hub id."""

    model_type: str
    """How `model_type` of a configuration begins."""

    end: str
    """Token that ends a turn; a Llama 2 has the model type of a Llama 3, and not its tokens."""


FAMILIES = (
    Family("gemma3.jinja", r"gemma-?3(?!\d)", "gemma3", "<end_of_turn>"),
    Family("llama3.jinja", r"llama-?3(?!\d)", "llama", "<|eot_id|>"),
    Family("chatml.jinja", r"qwen", "qwen", "<|im_end|>"),
)


def template_of(base: str) -> str | None:
    """The path of the template that fits a hub id or a folder, where it can be read from here.

    Raises:
        ValueError: a folder's configuration is no JSON.
    """
    if base.startswith("registry:"):
        return None  # it brings the template of its own training
    family = _of_folder(Path(base)) if Path(base).is_dir() else _of_name(base)
    if family is None or not (FOLDER / family.template).is_file():
        return None
    return (FOLDER / family.template).as_posix()


def _of_name(base: str) -> Family | None:
    found = (one for one in FAMILIES if re.search(one.name, base, re.IGNORECASE))
    return next(found, None)


def _of_folder(folder: Path) -> Family | None:
    file, tokenizer = folder / "config.json", folder / "tokenizer.json"
    if not (file.is_file() and tokenizer.is_file()):
        return None  # `posttrain check` says what a base must have
    try:
        config = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: is no JSON: {error}") from error
    model_type = str(config.get("model_type")) if isinstance(config, dict) else ""
    tokens = tokenizer.read_bytes()
    for one in FAMILIES:
        if model_type.startswith(one.model_type) and one.end.encode() in tokens:
            return one
    return None
