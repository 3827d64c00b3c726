"""A recipe as YAML that explains itself: every field, with its own docstring as the comment."""

import inspect
import textwrap
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from posttrain.recipe.base_finetune import BaseFinetuneRecipe

WIDTH = 100


def commented(section: BaseModel, indent: int = 0, notes: dict[str, str] | None = None) -> str:
    """Every field of a section, defaults too; what a field means is said where it first stands.

    Sections name no seed of their own: they inherit the run's.

    `notes` adds a line above a field, by its path: `promotion.limits`.
    """
    return "\n".join(_lines(section, indent, "", notes or {}, set())) + "\n"


def _lines(
    section: BaseModel, indent: int, path: str, notes: dict[str, str], said: set[tuple[type, str]]
) -> list[str]:
    lines: list[str] = []
    pad = " " * indent
    for name, field in _read_fields(section).items():
        value = getattr(section, name)
        here = f"{path}{name}"
        if name == "seed" and path:
            continue  # a section without one inherits the run's
        owner = next(
            kind
            for kind in reversed(type(section).__mro__)
            if name in inspect.get_annotations(kind)
        )
        if not path and lines:
            lines.append("")
        if (owner, name) not in said:
            said.add((owner, name))
            lines += _comment(field.description or "", pad)
        if here in notes:
            lines += _comment(notes[here], pad)
        if isinstance(value, BaseModel):
            lines.append(f"{pad}{name}:")
            lines += _lines(value, indent + 2, f"{here}.", notes, said)
        else:
            lines += _value(name, value, pad)
    return lines


def _read_fields(section: BaseModel) -> dict[str, FieldInfo]:
    """The fields that a run reads: a Base FT that hands the base on has its method alone."""
    fields = type(section).model_fields
    handed_on = isinstance(section, BaseFinetuneRecipe) and section.method == "none"
    return {"method": fields["method"]} if handed_on else fields


def _comment(text: str, pad: str) -> list[str]:
    prefix = f"{pad}# "
    return textwrap.wrap(
        " ".join(text.split()), WIDTH, initial_indent=prefix, subsequent_indent=prefix
    )


def _value(name: str, value: Any, pad: str) -> list[str]:
    plain = _plain(value)
    if isinstance(plain, list) and plain and isinstance(plain[0], dict):
        return [f"{pad}{name}:", *(f"{pad}  - {_flow(item)}" for item in plain)]
    return [f"{pad}{name}: {_flow(plain)}"]


def _plain(value: Any) -> Any:
    """As YAML holds it; what was left at its default within a list's items is left out."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000
    )
    return text.removesuffix("\n").removesuffix("\n...")
