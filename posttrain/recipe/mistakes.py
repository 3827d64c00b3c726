"""What pydantic refuses in a recipe, in plain words: a sentence a mistake, with what to change."""

import difflib
import reprlib
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

MAX_SHOWN = 60
"""Characters of a value that a sentence shows."""


def sentences(error: ValidationError, recipe: type[BaseModel]) -> list[str]:
    """Each mistake with the path of its field, what was found and what is wanted."""
    told = []
    for one in error.errors():
        names, section = _walk(one["loc"], recipe)
        path = ".".join(names)
        told.append(_sentence(dict(one), path, names, section))
    return list(dict.fromkeys(told))


def _sentence(
    one: dict[str, Any], path: str, names: list[str], section: type[BaseModel] | None
) -> str:
    context, message = one.get("ctx", {}), str(one["msg"])
    found = (
        reprlib.repr(one["input"]) if isinstance(one["input"], dict | list) else repr(one["input"])
    )
    found = found if len(found) <= MAX_SHOWN else f"{found[:MAX_SHOWN]}..."
    match one["type"]:
        case "extra_forbidden":
            known = sorted(section.model_fields) if section is not None else []
            return f"{path}: there is no such field{nearest(names[-1], known)}"
        case "missing":
            field = section.model_fields.get(names[-1]) if section is not None else None
            meaning = " ".join(((field.description if field else None) or "").split())
            return f"{path}: is missing; add it{f' ({meaning})' if meaning else ''}"
        case "value_error" | "assertion_error":
            text = str(context.get("error", message))
            return text if not path or path.split(".")[0] in text else f"{path}: {text}"
        case "literal_error":
            choices = str(context["expected"])
            return f"{path}: found {found}; write {choices}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{path}: found {found}; fields and their values are wanted, one a line"
    return f"{path}: found {found}; it {_wanted(message)}"


def _wanted(message: str) -> str:
    text = message.removeprefix("Input ").removeprefix("should ")
    return f"must {text}" if text != message else f"is refused: {message}"


def nearest(name: str, known: list[str]) -> str:
    """The known name that is spelt most like this one, as the end of a sentence."""
    if found := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return f"; did you mean {found[0]!r}?"
    return f" (known: {known})" if known else ""


def _walk(
    loc: tuple[int | str, ...], recipe: type[BaseModel]
) -> tuple[list[str], type[BaseModel] | None]:
    """The path without pydantic's own marks, and the section that its last field is of.

    Pydantic puts the alternatives of a union into the path, which no YAML has.
    """
    names: list[str] = []
    section: type[BaseModel] | None = recipe
    kind: Any = recipe
    for place, step in enumerate(loc):
        is_last = place == len(loc) - 1
        if isinstance(step, int):
            names.append(str(step))
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            names.append(step)
            section = kind
            field = kind.model_fields.get(step)
            kind = _section_of(field.annotation) if field is not None else None
        elif is_last and not names:
            names.append(step)
    return names, section


def _section_of(annotation: Any) -> Any:
    """The section that an annotation holds, be it optional or one of many."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, tuple, list):
        for inner in get_args(annotation):
            if (found := _section_of(inner)) is not None:
                return found
    return None
