"""Public benchmarks by lm-evaluation-harness, put to a model that is in memory already.

The harness's own wrapper for Transformers models reads the model that it is given, with the adapter
that is active and the precision that it was loaded in: no second copy is made. It pads scored
sequences on the right and prompts on the left, behind an attention mask.

The library is optional (extra `eval`) and known to this module alone.
"""

import copy
import difflib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from posttrain import roots
from posttrain.figures import Figure
from posttrain.hashes import sha256_of
from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.harness import HARNESS, HarnessRecipe
from posttrain.reports import Benchmark

ERRORS_IN_95 = 1.96
"""Standard errors on each side of a normal estimate's 95 % interval."""

ELSEWHERE = {"dataset_kwargs", "metadata"}
"""Fields of a task that hold this machine's paths; its questions themselves are hashed."""


@dataclass(frozen=True)
class Benchmarks:
    """Figures by name, and what each task asked."""

    figures: dict[str, Figure]
    tasks: dict[str, Benchmark]


def find(recipe: HarnessRecipe) -> Any:
    """The harness's task manager, which knows every task of the recipe; nothing is loaded yet.

    Raises:
        ValueError: the library is not installed, the folder of task files does not exist, or a
            task is unknown (names the nearest).
    """
    library = _library()
    folder, field = recipe.include_path, "evaluation.harness.include_path"
    if folder is not None and roots.folder(folder, field) is None:
        raise ValueError(f"{field}: {folder}: no such folder (looked from {Path.cwd()})")
    manager = library.tasks.TaskManager(include_path=folder, include_defaults=False)
    if set(recipe.tasks) <= set(manager.all_subtasks):
        return manager  # looking through the thousands that it brings takes up to a minute
    manager = library.tasks.TaskManager(include_path=folder)
    for name in recipe.tasks:
        if name not in manager.task_index:
            nearest = difflib.get_close_matches(name, manager.all_tasks, n=3)
            raise ValueError(
                f"evaluation.harness.tasks: {name!r} is no task of lm-evaluation-harness, nor of "
                f"include_path ({folder}); nearest: {', '.join(nearest) or 'none'}; "
                "`lm-eval ls tasks` lists all"
            )
    return manager


def measure(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    manager: Any,
    recipe: EvaluationRecipe,
) -> Benchmarks:
    """Put the recipe's tasks to a model under its active adapter.

    A figure's interval is the value and 1.96 of the harness's standard errors on each side; without
    one where the harness gives no error.

    Args:
        model: in eval mode, on its device.
        tokenizer: the base's, with the run's chat template.
        manager: from `find`.
        recipe: the harness's section, and resamples behind the errors that it bootstraps.
    """
    assert recipe.harness is not None
    harness = recipe.harness
    wrapper = _library().models.huggingface.HFLM(
        pretrained=model,
        backend="causal",
        tokenizer=copy.deepcopy(tokenizer),  # it gives it a pad token
        batch_size=harness.batch_size,
        max_length=harness.max_length,
    )
    figures: dict[str, Figure] = {}
    tasks: dict[str, Benchmark] = {}
    for name in harness.tasks:
        results = _results(wrapper, manager, name, recipe)
        for reported in _reported(name, results):
            tasks[reported] = _benchmark(reported, results, harness)
            figures |= _figures(reported, results, tasks[reported].num_questions)
    return Benchmarks(figures, tasks)


def _results(wrapper: Any, manager: Any, name: str, recipe: EvaluationRecipe) -> Mapping[str, Any]:
    """What the harness says of a task, a group or a tag."""
    library, harness = _library(), recipe.harness
    assert harness is not None
    set_seed(harness.seed)
    loaded = manager.load([name])
    for task in loaded["tasks"].values():
        _set_examples(task, harness)
    results: Mapping[str, Any] = library.evaluator.evaluate(
        wrapper,
        loaded,
        limit=harness.limit,
        bootstrap_iters=recipe.num_bootstrap,
        apply_chat_template=harness.apply_chat_template,
        fewshot_as_multiturn=harness.apply_chat_template,
    )
    return results


def _library() -> Any:
    try:
        import lm_eval.evaluator  # noqa: PLC0415  # optional
        import lm_eval.models.huggingface  # noqa: PLC0415
        import lm_eval.tasks  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(
            "evaluation.harness is set, but lm-evaluation-harness is not installed here; "
            "pip install -c constraints.txt 'posttrain[eval]', or leave the section out"
        ) from error
    # `datasets` counts every load at s3.amazonaws.com, of local files too
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    # it would bootstrap in forks of this process, which may hold a GPU
    os.environ.setdefault("DISABLE_MULTIPROC", "1")
    return lm_eval


def _set_examples(task: Any, recipe: HarnessRecipe) -> None:
    """The number of solved examples and how they are drawn, by the harness's own rule."""
    own = task.get_config("num_fewshot")
    if own != 0 and recipe.num_fewshot is not None:
        task.set_config("num_fewshot", recipe.num_fewshot)
    elif own is None:
        task.set_config("num_fewshot", 0)
    task.set_fewshot_seed(recipe.seed)


def _reported(name: str, results: Mapping[str, Any]) -> list[str]:
    """The task itself; of a tag, or a group that aggregates nothing, the tasks in it."""
    if any(_metrics(results["results"].get(name, {}))):
        return [name]
    return list(results["configs"])


def _metrics(values: Mapping[str, Any]) -> Iterator[tuple[str, float, float | None]]:
    """Name, value and standard error of each metric; `acc,none` is `acc`."""
    for key, value in values.items():
        metric, comma, how = key.partition(",")
        number = _finite(value)
        if comma and not metric.endswith("_stderr") and number is not None:
            name = metric if how == "none" else f"{metric}.{how}"
            yield name, number, _finite(values.get(f"{metric}_stderr,{how}"))


def _finite(value: object) -> float | None:
    """A number, or None for `N/A` and what is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _figures(name: str, results: Mapping[str, Any], num: int) -> dict[str, Figure]:
    found = {}
    for metric, value, error in _metrics(results["results"][name]):
        half = None if error is None else ERRORS_IN_95 * error
        found[f"{HARNESS}{name}.{metric}"] = Figure(
            value=value,
            low=None if half is None else value - half,
            high=None if half is None else value + half,
            num=num,
        )
    return found


def _benchmark(name: str, results: Mapping[str, Any], recipe: HarnessRecipe) -> Benchmark:
    """What the task asked; a group is what its tasks asked."""
    members = [name] if name in results["configs"] else sorted(results["configs"])
    configs = [results["configs"][one] for one in members]
    sources = dict.fromkeys(str(config.get("dataset_path")) for config in configs)
    asked = [_asked(one, results, recipe) for one in members]
    return Benchmark(
        version=str(results["versions"].get(name)),
        library=f"lm-eval {version('lm-eval')}",
        datasets=tuple(sources),
        num_questions=sum(results["n-samples"][one]["effective"] for one in members),
        num_fewshot=max(results["n-shot"][one] for one in members),
        fingerprint=sha256_of([asked, recipe.seed, recipe.max_length, recipe.apply_chat_template]),
    )


def _asked(name: str, results: Mapping[str, Any], recipe: HarnessRecipe) -> list[Any]:
    """A task's settings and questions, whatever files and tokenizer they came through."""
    config = results["configs"][name]
    settings = {key: str(value) for key, value in config.items() if key not in ELSEWHERE}
    # a rendered prompt is also of the template: the same questions compare under another one
    parts = ["doc_hash", "target_hash", *([] if recipe.apply_chat_template else ["prompt_hash"])]
    questions = [[sample[part] for part in parts] for sample in results["samples"][name]]
    return [name, results["versions"][name], settings, questions]
