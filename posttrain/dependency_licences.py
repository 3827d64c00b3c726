"""Which licences the packages that we install may have. What is allowed stands in pyproject.toml.

A package that is free under one of several licences is allowed by any of them (`OR`); one whose
parts are under several needs them all (`AND`). Names that packages give instead of SPDX's are
allowed as they are.
"""

import re
from collections.abc import Mapping

from pydantic import Field

from posttrain.recipe.section import Section


class Rules(Section):
    """The table `tool.licences`."""

    allowed: tuple[str, ...]
    """SPDX identifiers, and the words of packages that use none."""

    packages: dict[str, str] = Field(default_factory=dict)
    """Package -> why it is let through whatever it says."""


def refused(packages: Mapping[str, str], rules: Rules) -> list[str]:
    """A sentence for each package whose licence is not allowed, or not known."""
    allowed = {_plain(name) for name in rules.allowed}
    return [
        f"{name}: {licence!r} is not allowed; leave the package out, or after a look at its text "
        "add the licence to tool.licences.allowed or the package, with the reason, to "
        "tool.licences.packages"
        for name, licence in packages.items()
        if name not in rules.packages and not is_allowed(licence, allowed)
    ]


def is_allowed(licence: str, allowed: set[str]) -> bool:
    """Whether an expression can be met by licences that are allowed."""
    if _plain(licence) in allowed:
        return True
    text = licence.replace("(", " ").replace(")", " ") if licence.count("(") == 1 else licence
    if "(" in text:  # more than a person reads at a glance: one decides
        return False
    parts = [part for part in re.split(r"\s+AND\s+|;", text) if part.strip()]
    return bool(parts) and all(
        any(_plain(choice) in allowed for choice in re.split(r"\s+OR\s+", part)) for part in parts
    )


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()
