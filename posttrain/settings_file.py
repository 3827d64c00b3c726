"""A file of settings that a person wrote, or was given: read, or refused in words."""

from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 16 * 2**20
"""No file of settings is longer."""

MOST_VALUES = 200_000
"""Values with every reference (`*name`) written out: a few lines of them can stand for billions."""


def read_text(file: Path) -> str:
    """The text of a file of settings.

    Raises:
        ValueError: it is not there, no file (a device may have no end), too long, or no UTF-8.
    """
    try:
        if not file.is_file():
            raise ValueError(f"{file}: no such file")
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(
                f"{file}: has {file.stat().st_size:,} bytes, and a file of settings may have "
                f"{MOST_BYTES:,}; data belongs into files of their own"
            )
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is not UTF-8 ({error}); save it as UTF-8") from error
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror or error}") from error


def read_yaml(file: Path) -> Any:
    """The content of a file of YAML.

    Raises:
        ValueError: as `read_text`; or it is no YAML, nested too deeply, or refers to itself or to
            far too much.
    """
    text = read_text(file)
    try:
        content = yaml.safe_load(text)
        num_values = _expanded(content, {}, set())
    except RecursionError as error:
        raise ValueError(f"{file}: is no YAML of ours: it is nested too deeply") from error
    except Exception as error:  # PyYAML's constructors raise whatever a wrong date or number does
        raise ValueError(f"{file}: is no YAML: {error}") from error
    if num_values > MOST_VALUES:
        raise ValueError(
            f"{file}: stands for {num_values:.2g} values with its references written out, more "
            f"than {MOST_VALUES:,}; write the sections out"
        )
    return content


def _expanded(value: Any, known: dict[int, int], above: set[int]) -> int:
    """Number of values in `value` as if each reference were written out."""
    if not isinstance(value, dict | list):
        return 1
    name = id(value)
    if name in above:
        raise ValueError("a section refers to itself")
    if name not in known:
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        known[name] = 1 + sum(_expanded(one, known, above | {name}) for one in inner)
    return known[name]
