"""No artifact of any type that a step hands on is loaded when one bit of one of its files differs.

`tests/integration/test_damage.py` does the same to what a real run has stored.
"""

import importlib
import pkgutil
import random
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from zenml.types import HTMLString

import steps
from posttrain.approvals import Proposal
from posttrain.artifacts import Folder
from posttrain.decisions import HistoryEntry, Promotion, RegisteredVersion, RuleOutcome
from posttrain.reports import Evaluation
from tests import samples
from tests.faults import Injected, times
from tests.steps.test_reports import store

OUTCOME = RuleOutcome(
    rule="kl at most 8", figure="kl", value=3.0, passed=True, reason="kl is 3, at most 8 is asked"
)
SMALL: tuple[Any, ...] = (
    samples.evaluation(),
    RegisteredVersion(name="ferries", version=3, content_hash="ab", is_new=True),
    Promotion(
        version=3, promoted=True, reasons=("예",), outcomes=(OUTCOME,), previous_champion=None
    ),
    Proposal(name="ferries", version=3, champion=2, outcomes=(OUTCOME,), after=4),
    HistoryEntry(
        number=1,
        action="approve",
        version=3,
        who="kim",
        when="2026-11-21T15:00:00+00:00",
        from_version=2,
        to_version=3,
        why="better answers",
    ),
    HTMLString("<p>Promoted: 예</p>"),
)
FILES = {
    "corpus.parquet": random.Random(1).randbytes(300),
    "adapter/adapter_model.safetensors": random.Random(2).randbytes(500),
    "adapter/adapter_config.json": b'{"r": 4}\n',
    "history.jsonl": b'{"step": 1, "loss": 2.0}\n',
}


def kinds() -> set[type[Any]]:
    """The type of every output of every step."""
    found: set[type[Any]] = set()
    for module in pkgutil.iter_modules(steps.__path__):
        if not module.name.startswith("_"):
            step = getattr(importlib.import_module(f"steps.{module.name}"), module.name)
            given = get_type_hints(step.entrypoint, include_extras=True)["return"]
            parts = [given] if get_origin(given) is Annotated else get_args(given)
            found |= {get_args(part)[0] for part in parts}
    return found


KINDS = sorted(kinds(), key=lambda kind: kind.__name__)


def made(kind: type[Any], work: Path) -> Any:
    """One of that type."""
    if not issubclass(kind, Folder):
        return next(one for one in SMALL if type(one) is kind)
    for name, content in FILES.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(content)
    return kind.write(work, "sft", kind.FACTS.model_construct())


def flipped(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def test_every_kind_of_output_is_among_these() -> None:
    small = {kind for kind in KINDS if not issubclass(kind, Folder)}
    assert small == {type(one) for one in SMALL}
    names = "Records Quarantine BaseModel Chats Tokens Policy RewardModel Revisions AiPreferences"
    assert {kind.__name__ for kind in KINDS if issubclass(kind, Folder)} == set(names.split())
    assert Evaluation in small


@pytest.mark.fault(
    "State", "an artifact is damaged", "a flipped bit, a cut, a file gone: each file, each type"
)
@pytest.mark.parametrize("kind", KINDS)
def test_no_damaged_file_of_any_kind_is_loaded(
    kind: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: Injected
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "cache"))
    store(made(kind, tmp_path / "made"), there).save(made(kind, tmp_path / "made"))
    names = sorted(path for path in there.rglob("*") if path.is_file())
    assert len(names) == (len(FILES) + 1 if issubclass(kind, Folder) else 2)
    for file in names:
        whole = file.read_bytes()
        for index in range(times(quick=2, few=10, full=100)):
            change: Callable[[bytes, random.Random], bytes] = cut if index % 2 else flipped
            file.unlink()  # it may be a link of another folder's file
            file.write_bytes(change(whole, random.Random(f"{file.name} {index}")))
            refused(kind, there, file, injected)
        file.unlink()
        refused(kind, there, file, injected)
        file.write_bytes(whole)
    assert type(loaded(kind, there)) is kind


def refused(kind: type[Any], there: Path, file: Path, injected: Injected) -> None:
    with pytest.raises(ValueError, match=file.name):
        loaded(kind, there)
    injected.add()


def loaded(kind: type[Any], there: Path) -> Any:
    like = kind(there) if issubclass(kind, Folder) else made(kind, there)
    return store(like, there).load(kind)
