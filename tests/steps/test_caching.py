import os
from pathlib import Path

import pytest
from mlflow import MlflowClient
from zenml.utils import source_utils

from posttrain.data.sources import digest
from posttrain.hashes import sha256
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.harness import HarnessRecipe
from posttrain.recipe.ingest import IngestRecipe, Source
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.recipe.template import TemplateRecipe
from steps import _caching
from steps._caching import (
    EVALUATE,
    REPORT,
    depends_on,
    on_base,
    on_champion,
    on_constitution,
    on_data,
    on_tasks,
)
from tests.origins import add_version, role


def files(module: str) -> set[str]:
    return set(depends_on(module).file_dependencies or [])


def test_a_step_depends_on_what_its_module_imports_of_ours() -> None:
    found = files("posttrain.train.sft")
    assert {"posttrain/train/sft.py", "posttrain/train/trainer.py", "constraints.txt"} <= found
    assert "posttrain/data/packing.py" in found
    assert not any(name.startswith("posttrain/recipe/") for name in found)
    assert "posttrain/evaluate/stages.py" not in found


@pytest.mark.parametrize(
    "line",
    [
        "from posttrain.tracking import Curves",
        "import posttrain.tracking",
        "from posttrain import tracking",
    ],
)
def test_every_way_to_import_is_seen(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "posttrain").mkdir()
    (tmp_path / "posttrain" / "__init__.py").touch()
    (tmp_path / "posttrain" / "tracking.py").touch()
    (tmp_path / "posttrain" / "mine.py").write_text(line)
    monkeypatch.setattr(_caching, "ROOT", tmp_path)
    assert "posttrain/tracking.py" in files("posttrain.mine")
    (tmp_path / "posttrain" / "mine.py").write_text("import os")
    assert "posttrain/tracking.py" not in files("posttrain.mine"), "the file has changed"


def test_ingest_is_keyed_by_the_bytes_of_its_sources(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text('{"text": "one"}\n')
    recipe = IngestRecipe(corpus=Source(source=str(file)))
    source = on_data(recipe).cache_func
    before = source_utils.load(source)()
    assert before == digest(recipe)
    file.write_text('{"text": "two"}\n')
    assert source_utils.load(source)() != before


def test_validate_is_keyed_by_the_data_of_the_champion(
    registry: MlflowClient, tmp_path: Path
) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text('{"text": "one"}\n')
    policy = on_champion(IngestRecipe(corpus=Source(source=str(file))), "museum")
    assert "posttrain/data/drift.py" in (policy.file_dependencies or [])
    key = source_utils.load(policy.cache_func)
    without = key()
    data = {"corpus": role({str(file): sha256(file)})}
    add_version(tmp_path / "same", data, {"corpus": "c" * 64})
    registry.set_registered_model_alias("museum", "champion", "1")
    assert key() == without  # from the same source: nothing can have drifted
    file.write_text('{"text": "two"}\n')
    with_champion = key()
    assert with_champion != without
    data = {"corpus": role({"other.jsonl": "b" * 64}), "prompts": role({"p.jsonl": "c" * 64})}
    add_version(tmp_path / "other", data, {"corpus": "d" * 64})
    registry.set_registered_model_alias("museum", "champion", "2")
    assert key() not in (without, with_champion)


def test_base_model_is_keyed_by_the_bytes_of_its_template(tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("one")
    base = BaseModelRecipe(source=str(tmp_path))
    source = on_base(base, TemplateRecipe(chat_template=str(template))).cache_func
    folder = tmp_path.stat().st_mtime_ns
    before = source_utils.load(source)()
    template.write_text("two")
    os.utime(tmp_path, ns=(folder, folder))
    assert source_utils.load(source)() != before


def test_self_critique_is_keyed_by_the_bytes_of_its_constitution(tmp_path: Path) -> None:
    file = tmp_path / "constitution.yaml"
    recipe = SelfCritiqueRecipe(
        constitution=str(file),
        learning_rate=1e-3,
        num_epochs=1,
        batch_size=1,
        max_new_tokens=8,
        no_fault_markers=("fine",),
    )
    source = on_constitution(recipe).cache_func
    absent = source_utils.load(source)()
    file.write_text("principles: []")
    present = source_utils.load(source)()
    file.write_text("principles: [one]")
    assert len({absent, present, source_utils.load(source)()}) == 3


@pytest.mark.parametrize("module", ["posttrain.train.base_finetune", "posttrain.train.sft"])
def test_training_does_not_depend_on_the_registry_or_on_reports(module: str) -> None:
    assert not {name for name in files(module) if "/registry/" in name or "/evaluate/" in name}


def test_evaluate_is_keyed_by_its_benchmarks_files(tmp_path: Path) -> None:
    file = tmp_path / "colours" / "colours.yaml"
    file.parent.mkdir()
    file.write_text("task: colours")
    harness = HarnessRecipe(tasks=("colours",), include_path=str(tmp_path))
    policy = on_tasks(EvaluationRecipe(window=8, stride=4, harness=harness))
    assert set(REPORT) <= set(policy.file_dependencies or [])
    keys = []
    for change in (
        lambda: None,
        lambda: file.write_text("task: colors"),
        lambda: file.rename(file.with_name("other.yaml")),
        lambda: (tmp_path / "questions.jsonl").write_text("{}"),
    ):
        change()
        keys.append(source_utils.load(policy.cache_func)())
    (tmp_path / "code.pyc").write_bytes(b"compiled")
    assert source_utils.load(policy.cache_func)() == keys[-1]
    assert len(set(keys)) == 4


def test_evaluate_without_files_of_its_own_is_keyed_as_ever() -> None:
    harness = HarnessRecipe(tasks=("arc_easy",))
    for recipe in (
        EvaluationRecipe(window=8, stride=4),
        EvaluationRecipe(window=8, stride=4, harness=harness),
    ):
        assert on_tasks(recipe) == depends_on(EVALUATE, *REPORT)
