"""Cache keys that see what ZenML's own do not: library code, pins, data files.

ZenML keys a step by its own source, its parameters and its inputs. A changed library function or a
changed data file would go unnoticed.
"""

import ast
import json
from functools import cache
from pathlib import Path

from zenml.config.cache_policy import CachePolicy

from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.ingest import IngestRecipe
from posttrain.recipe.section import Section
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.recipe.template import TemplateRecipe

ROOT = Path(__file__).parent.parent
PINS = "constraints.txt"
VALUES = "posttrain/recipe/"  # in the key already; and recipes import nothing else of ours
EVALUATE = "posttrain.evaluate.stages"
TEMPLATES = "posttrain/evaluate/templates"
REPORT = tuple(
    f"{TEMPLATES}/{name}"
    for name in ("report.html", "report.css", "wording.en.yaml", "wording.ko.yaml")
)


def depends_on(module: str, *files: str) -> CachePolicy:
    """A policy that re-runs a step when `module`, what it imports of ours, or the pins change.

    Args:
        module: what the step calls, `posttrain.train.sft`.
        files: other files that its result depends on, relative to the repository.
    """
    code = _first_party(module, set())
    return CachePolicy(file_dependencies=sorted({*code, *files, PINS}))


def on_data(recipe: IngestRecipe) -> CachePolicy:
    """A policy for `ingest` that re-runs it when the bytes behind its sources change."""
    return _on_source("posttrain.data.ingest", "data_", recipe)


def on_champion(recipe: IngestRecipe, model_name: str) -> CachePolicy:
    """A policy for `validate` that compares again when the champion has other data than these."""
    return _on_source("posttrain.data.validate", "champion_", recipe, model_name)


def on_base(recipe: BaseModelRecipe, template: TemplateRecipe) -> CachePolicy:
    """A policy for `base_model` that re-runs it when a branch, an alias or the template changes."""
    return _on_source("posttrain.models.base", "base_", recipe, template.chat_template)


def on_constitution(recipe: SelfCritiqueRecipe) -> CachePolicy:
    """A policy for `self_critique` that re-runs it when the principles change."""
    return _on_source("posttrain.align.self_critique", "file_", recipe, recipe.constitution)


def on_tasks(recipe: EvaluationRecipe) -> CachePolicy:
    """A policy for `evaluate` that re-runs it when the benchmarks' own task files change."""
    folder = recipe.harness.include_path if recipe.harness is not None else None
    if folder is None:
        return depends_on(EVALUATE, *REPORT)
    return _on_source(EVALUATE, "folder_", recipe, folder, *REPORT)


def _on_source(
    module: str, prefix: str, recipe: Section, file: str | None = None, *files: str
) -> CachePolicy:
    # ZenML's `cache_func` takes no argument, and is looked up by name wherever the key is
    # computed: so the recipe travels in the name.
    values = {"recipe": recipe.model_dump(mode="json", exclude_defaults=True), "file": file}
    name = prefix + json.dumps(values).encode().hex()
    found = CachePolicy(cache_func=f"steps._sources.{name}").cache_func
    return depends_on(module, *files).model_copy(update={"cache_func": found})


def _first_party(module: str, seen: set[str]) -> set[str]:
    """Files of `module` and of what it imports from us, directly or not."""
    path = _file(module)
    if path is None or path in seen or path.startswith(VALUES):
        return seen
    seen.add(path)
    for name in _imported((ROOT / path).read_bytes()):
        seen = _first_party(name, seen)
    return seen


@cache  # steps share most of the library
def _imported(code: bytes) -> tuple[str, ...]:
    """Names that a file takes from us: modules, and what may be modules."""
    names: list[str] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("posttrain"):
            names += [str(node.module), *(f"{node.module}.{one.name}" for one in node.names)]
        elif isinstance(node, ast.Import):
            names += [one.name for one in node.names if one.name.startswith("posttrain")]
    return tuple(names)


def _file(module: str) -> str | None:
    if not module.startswith("posttrain"):
        return None
    path = module.replace(".", "/")
    for candidate in (f"{path}.py", f"{path}/__init__.py"):
        if (ROOT / candidate).is_file():
            return candidate
    return None
