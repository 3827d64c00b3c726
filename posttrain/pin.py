"""`posttrain pin`: what branches, tags and aliases stand for today, written into a run's YAML.

The text is edited where the values stand: comments, order and layout stay as they are.
"""

from typing import Any

import yaml
from mlflow import MlflowClient

from posttrain.data import sources
from posttrain.data.rows import ROLES
from posttrain.models.candidate import find
from posttrain.models.source import PREFIX, split
from posttrain.recipe import Recipe
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.ingest import Source
from posttrain.recipe.section import Section
from posttrain.registry.versions import resolve

RECIPE = ("parameters", "recipe")


class Pin(Section):
    """One field and what it stands for."""

    section: tuple[str, ...]
    """Path of the mapping that holds it, from the recipe."""

    field: str
    value: str
    after: tuple[str, ...] = ("source",)
    """Fields behind which it goes where it is new: the last of them that is there."""

    @property
    def path(self) -> str:
        """The field as messages name it."""
        return ".".join((*self.section, self.field))


def pins_of(recipe: Recipe) -> list[Pin]:
    """Ask the hub and the registry what the base and the data sets are now.

    Raises:
        ValueError: the hub refuses or cannot be reached, or what is named is not there.
    """
    found = _of_base(recipe.base_model)
    for role in ROLES:
        source: Source | None = getattr(recipe.ingest, role)
        if source is not None and source.format == "hub":
            commit = sources.commit(source)
            found.append(Pin(section=("ingest", role), field="revision", value=commit))
    return found


def _of_base(recipe: BaseModelRecipe) -> list[Pin]:
    section = ("base_model",)
    if recipe.from_config is not None:
        return []
    if recipe.source.startswith(PREFIX):
        name, alias = split(recipe.source)
        number = resolve(MlflowClient(), name, alias).version
        return [Pin(section=section, field="source", value=f"{PREFIX}{name}@{number}")]
    found = find(recipe)
    pins = []
    if found.reference.revision is not None:
        pins.append(Pin(section=section, field="revision", value=found.reference.revision))
    print_of = Pin(
        section=section,
        field="fingerprint",
        value=found.fingerprint(),
        after=("source", "revision"),
    )
    return [*pins, print_of]


def write(text: str, pins: list[Pin]) -> tuple[str, list[str]]:
    """The YAML with each pin in its place, and a line for each that changed something.

    Raises:
        ValueError: an anchor of the YAML makes one value of two that must differ.
    """
    changes = []
    for pin in pins:
        before = _section(text, pin).get(pin.field)
        if before == pin.value:
            continue
        text = _written(text, pin)
        changes.append(f"{pin.path}: {'absent' if before is None else before} -> {pin.value}")
    for pin in pins:
        if (found := _section(text, pin).get(pin.field)) != pin.value:
            raise ValueError(
                f"{pin.path}: is {found!r} by an anchor of the YAML, and would have to be "
                f"{pin.value!r}; write the section out instead of referring to another"
            )
    return text, changes


def _section(text: str, pin: Pin) -> dict[str, Any]:
    found = yaml.safe_load(text)
    for name in (*RECIPE, *pin.section):
        found = found[name]
    return dict(found)


def _written(text: str, pin: Pin) -> str:
    """The text with one value put in the place of another, or behind the fields named."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for name in (*RECIPE, *pin.section):
        node = _entries(node)[name][1]
    entries = _entries(node)
    value = _scalar(pin.value)
    if pin.field in entries:
        old = entries[pin.field][1]
        return text[: old.start_mark.index] + value + text[old.end_mark.index :]
    key, last = next(entries[name] for name in reversed(pin.after) if name in entries)
    end = last.end_mark.index
    if node.flow_style:
        return f"{text[:end]}, {pin.field}: {value}{text[end:]}"
    newline = "\r\n" if "\r\n" in text else "\n"
    line_end = text.find("\n", end)
    line_end = len(text) if line_end == -1 else line_end - len(newline) + 1
    line = f"{newline}{' ' * key.start_mark.column}{pin.field}: {value}"
    return text[:line_end] + line + text[line_end:]


def _entries(node: Any) -> dict[str, tuple[Any, Any]]:
    """Key and value nodes of a mapping by key."""
    return {key.value: (key, value) for key, value in node.value}


def _scalar(value: str) -> str:
    """As YAML takes it for a string: hexadecimal digits may spell a number."""
    return value if yaml.safe_load(value) == value else f"'{value}'"
