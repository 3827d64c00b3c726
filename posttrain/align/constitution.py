"""The constitution: principles as data, each with the requests that put it to the model."""

from collections import Counter
from pathlib import Path
from typing import Literal, Self

import pydantic
from pydantic import Field, model_validator

from posttrain import roots
from posttrain.recipe.section import Section
from posttrain.settings_file import read_yaml

Language = Literal["ko", "en"]


class Localised(Section):
    """One text in every language."""

    ko: str = Field(min_length=1)
    en: str = Field(min_length=1)

    def in_(self, language: Language) -> str:
        """The text in one language."""
        return self.ko if language == "ko" else self.en


class Principle(Section):
    """What an answer is held to (Bai et al. 2022, section 3.1 and appendix C)."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    principle: Localised
    """For readers and reports."""

    critique_request: Localised
    """The user's turn after an answer; it says all that the critic must know."""

    revision_request: Localised
    """The user's turn after a critique."""


class Constitution(Section):
    """The content of a constitution file."""

    principles: tuple[Principle, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def ids_are_unique(self) -> Self:
        counts = Counter(principle.id for principle in self.principles)
        if twice := sorted(id for id, count in counts.items() if count > 1):
            raise ValueError(f"ids used twice: {twice}")
        return self


def load_constitution(file: Path) -> Constitution:
    """Read and check a constitution in YAML.

    Raises:
        ValueError: names the file, the principle and the field that is wrong.
    """
    roots.file(file, "self_critique.constitution", "a YAML of principles")
    content = read_yaml(file)
    try:
        return Constitution.model_validate(content)
    except pydantic.ValidationError as error:
        problems = [_problem(content, found["loc"], found["msg"]) for found in error.errors()]
        raise ValueError(f"{file}: " + "; ".join(problems)) from error


def _problem(content: object, where: tuple[int | str, ...], message: str) -> str:
    """One error in words, its principle by id where it has one."""
    if len(where) < 2 or where[0] != "principles" or not isinstance(content, dict):
        return f"{'.'.join(map(str, where)) or 'the whole'}: {message}"
    entry = content["principles"][where[1]]
    name = entry.get("id") if isinstance(entry, dict) else None
    whose = f"principle {name!r}" if name else f"principle number {int(where[1]) + 1}"
    return f"{whose}: {'.'.join(map(str, where[2:])) or 'the whole'}: {message}"
