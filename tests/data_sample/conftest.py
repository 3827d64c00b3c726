"""The committed sample data, with and without its planted defects."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
sys.path.insert(0, str(DATA))  # the generator is a script; its modules lie beside it

Row = dict[str, Any]
ROLES = ("corpus", "instructions", "preferences", "prompts", "probes")


@pytest.fixture(scope="session")
def rows() -> dict[str, list[Row]]:
    return {
        role: [json.loads(line) for line in (DATA / f"{role}.jsonl").open(encoding="utf-8")]
        for role in ROLES
    }


@pytest.fixture(scope="session")
def reasons() -> dict[str, dict[str, str]]:
    loaded: dict[str, dict[str, str]] = json.loads((DATA / "defects.json").read_text())
    return {role: loaded.get(role, {}) for role in ROLES}


@pytest.fixture(scope="session")
def sound(rows: dict[str, list[Row]], reasons: dict[str, dict[str, str]]) -> dict[str, list[Row]]:
    return {
        role: [row for row in found if row["id"] not in reasons[role]]
        for role, found in rows.items()
    }
