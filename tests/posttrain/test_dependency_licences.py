"""Which licences pass."""

import tomllib
from pathlib import Path

import pytest

from posttrain.dependency_licences import Rules, is_allowed, refused
from posttrain.installed import python_packages

ROOT = Path(__file__).parents[2]
ALLOWED = {"mit", "apache-2.0", "mpl-2.0", "bsd license"}


@pytest.mark.parametrize(
    "licence",
    ["MIT", "mit", "GPL-3.0-only OR MIT", "(Apache-2.0 OR GPL-2.0) AND MIT", "MIT; BSD License"],
)
def test_what_can_be_met_is_allowed(licence: str) -> None:
    assert is_allowed(licence, ALLOWED)


@pytest.mark.parametrize(
    "licence",
    ["GPL-3.0-or-later", "MIT AND AGPL-3.0", "unknown", "", "MIT; GNU General Public License v3"],
)
def test_what_can_not_is_refused(licence: str) -> None:
    assert not is_allowed(licence, ALLOWED)


def test_a_refusal_names_the_package_and_what_to_do() -> None:
    rules = Rules(allowed=("MIT",), packages={"linter": "a program of the tests"})
    (told,) = refused({"a": "MIT", "linter": "GPL-3.0", "b": "AGPL-3.0"}, rules)
    assert told.startswith("b: 'AGPL-3.0' is not allowed;")


def test_all_that_is_installed_is_allowed() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["licences"]
    found = {name: one["licence"] for name, one in python_packages().items()}
    assert len(found) > 100
    assert refused(found, Rules(**table)) == []
