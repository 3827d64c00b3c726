"""The YAML header of a model card, as the Hugging Face hub reads it."""

import math
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from posttrain.artifacts import BaseModel, Policy
from posttrain.evaluate.wording import figure_label
from posttrain.recipe.harness import HARNESS
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.recipe.train import Method
from posttrain.registry.licences import hub_licence
from posttrain.reports import Evaluation, RoleData

LIBRARIES: dict[Method, str] = {
    "full": "transformers",
    "lora": "peft",
    "qlora": "peft",
    "dora": "peft",
    "bottleneck": "posttrain",
}
"""What loads a policy of each method."""

TASK = "text-generation"

MEASURED_ON = {
    "perplexity_domain": "corpus",
    "bits_per_byte_domain": "corpus",
    "perplexity_answers": "instructions",
    "mean_score": "prompts",
    "score_std": "prompts",
    "rlaif_score": "prompts",
    "rlaif_score_std": "prompts",
    "kl_to_sft": "prompts",
}
"""The role that each built-in figure is measured on; all others are of the probes."""

HELD_OUT = ("corpus", "instructions")
"""Roles of which a part is held out; the others are not trained on."""


def header(
    domain: BaseModel, policy: Policy, evaluation: Evaluation, recipe: RegistrationRecipe
) -> str:
    """YAML, without the lines of dashes around it."""
    method = policy.facts.method
    hub_sets = {data.source for data in evaluation.data.values() if data.revision is not None}
    fields: dict[str, Any] = {
        **hub_licence(recipe.licence),
        "language": list(recipe.languages) or None,
        **_base(domain, policy, evaluation),
        "library_name": LIBRARIES[method],
        "pipeline_tag": TASK,
        "tags": ["posttrain", policy.stage, method],
        "datasets": sorted(filter(None, hub_sets)) or None,
        "model_name": recipe.model_name,
        "eval_results": _results(evaluation),
    }
    card = ModelCardData(**fields)
    return card.to_yaml(original_order=[*fields])


def _base(domain: BaseModel, policy: Policy, evaluation: Evaluation) -> Mapping[str, str]:
    """The hub model that everything started from, where it was one.

    An `adapter` is what stands on it directly: an adapter on a base that was trained itself does
    not load on the hub's.
    """
    reference = domain.facts.reference
    start = reference if reference.kind == "hub" else evaluation.base
    if start is None or start.kind != "hub":
        return {}
    direct = reference.kind == "hub" and not domain.facts.has_delta
    adapter = direct and policy.facts.method != "full"
    return {
        "base_model": start.source,
        "base_model_relation": "adapter" if adapter else "finetune",
    }


def _results(evaluation: Evaluation) -> list[EvalResult]:
    """The last stage's figures, each with what it was measured on."""
    return [
        _benchmark(name, value, evaluation)
        if name.startswith(HARNESS)
        else _own(name, value, evaluation.data)
        for name, figure in evaluation.stages[-1].figures.items()
        if math.isfinite(value := figure.value)
    ]


def _own(name: str, value: float, data: Mapping[str, RoleData]) -> EvalResult:
    """On a hub data set by its id and commit; on local files by the role that they play."""
    role = MEASURED_ON.get(name, "probes")
    found = data.get(role)
    hub = found if found is not None and found.revision is not None else None
    local = f"{role}, held out" if role in HELD_OUT else role
    return EvalResult(
        task_type=TASK,
        dataset_type=str(hub.source) if hub is not None else role,
        dataset_name=str(hub.source) if hub is not None else local,
        dataset_revision=hub.revision if hub is not None else None,
        metric_type="perplexity" if name.startswith("perplexity_") else name,
        metric_name=figure_label(name),
        metric_value=value,
    )


def _benchmark(name: str, value: float, evaluation: Evaluation) -> EvalResult:
    task = evaluation.task_of(name)
    assert task is not None, "each benchmark's figure comes with its task"
    asked = evaluation.benchmarks[task]
    return EvalResult(
        task_type=TASK,
        dataset_type=task,
        dataset_name=f"{task}, {asked.num_fewshot}-shot",
        dataset_args={"library": asked.library, "version": asked.version},
        metric_type=name.removeprefix(f"{HARNESS}{task}."),
        metric_name=figure_label(name),
        metric_value=value,
    )
