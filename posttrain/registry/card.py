"""The model card of a registered version, in Hugging Face's format: recorded facts alone."""

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from posttrain.artifacts import BaseModel, Policy
from posttrain.evaluate.wording import figure_label, figure_names, interval, number, stage_label
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.recipe.train import Method
from posttrain.reports import Evaluation, Figure

TEMPLATES = Environment(
    loader=PackageLoader("posttrain.registry", "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # Markdown, from recorded facts
)

LIBRARIES: dict[Method, str] = {
    "full": "transformers",
    "lora": "peft",
    "qlora": "peft",
    "dora": "peft",
    "bottleneck": "posttrain",
}
"""What loads a policy of each method."""


def model_card(
    domain: BaseModel,
    policy: Policy,
    evaluation: Evaluation,
    recipe: RegistrationRecipe,
    lineage: dict[str, str],
) -> str:
    """Markdown with a YAML header: base, data, method, figures with intervals, licence, loading."""
    template = TEMPLATES.get_template("model_card.md")
    return template.render(
        header=_header(domain, policy, recipe),
        recipe=recipe,
        base=domain.facts,
        policy=policy.facts,
        policy_stage=stage_label(policy.stage),
        evaluation=evaluation,
        stages=[stage_label(stage.stage) for stage in evaluation.stages],
        rows=_figure_rows(evaluation),
        data={k.removeprefix("data."): v for k, v in lineage.items() if k.startswith("data.")},
        lineage={k: v for k, v in lineage.items() if not k.startswith("data.")},
        number=number,
        loads_with_peft=LIBRARIES[policy.facts.method] == "peft"
        and domain.facts.reference.kind == "hub"
        and not domain.facts.has_delta,
    )


def _header(domain: BaseModel, policy: Policy, recipe: RegistrationRecipe) -> str:
    reference = domain.facts.reference
    header: dict[str, object] = {
        "license": recipe.licence.lower(),
        "pipeline_tag": "text-generation",
    }
    if recipe.languages:
        header["language"] = list(recipe.languages)
    if reference.kind == "hub":
        relation = "finetune" if policy.facts.method == "full" else "adapter"
        header |= {"base_model": reference.source, "base_model_relation": relation}
    header["library_name"] = LIBRARIES[policy.facts.method]
    header["tags"] = ["posttrain", policy.stage]
    text: str = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return text.strip()


def _figure_rows(evaluation: Evaluation) -> list[tuple[str, list[str]]]:
    """Label, and a cell a stage."""
    rows = []
    for name in figure_names(evaluation):
        figures = [stage.figures.get(name) for stage in evaluation.stages]
        cells = [_cell(f) if f else "" for f in figures]
        rows.append((figure_label(name), cells))
    return rows


def _cell(figure: Figure) -> str:
    value, within = number(figure.value), interval(figure)
    return f"{value} ({within})" if within else value
