"""The model card of a registered version, in Hugging Face's format: recorded facts alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from posttrain.artifacts import BaseModel, Policy
from posttrain.evaluate.wording import figure_label, figure_names, interval, number, stage_label
from posttrain.figures import Figure
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry.card_header import LIBRARIES, header
from posttrain.reports import Evaluation, Training

TEMPLATES = Environment(
    loader=PackageLoader("posttrain.registry", "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701 -- Markdown, from recorded facts
)

OF_METHODS = {
    "lora": ("lora", "qlora", "dora"),
    "quantization": ("qlora",),
    "bottleneck": ("bottleneck",),
}
"""Parts of a stage's section that are of some methods alone."""


@dataclass(frozen=True)
class Stage:
    """How a stage was trained, each setting and figure a label and a text."""

    title: str
    settings: list[tuple[str, str]]
    figures: str


def model_card(
    domain: BaseModel,
    policy: Policy,
    evaluation: Evaluation,
    recipe: RegistrationRecipe,
    lineage: dict[str, str],
    base_version: str,
) -> str:
    """Markdown with a YAML header: base, data, method, figures, limits, licence, loading.

    `base_version` is the number under which the base is registered.
    """
    facts = domain.facts
    roles = list(evaluation.data) or list(evaluation.data_hashes)
    return TEMPLATES.get_template("model_card.md").render(
        header=header(domain, policy, evaluation, recipe),
        recipe=recipe,
        base=facts,
        base_version=base_version,
        start=evaluation.base,
        policy=policy.facts,
        policy_stage=stage_label(policy.stage),
        evaluation=evaluation,
        stages=[stage_label(stage.stage) for stage in evaluation.stages],
        rows=_figure_rows(evaluation),
        roles=roles,
        data=_data_rows(evaluation, roles),
        trainings=[_stage(training) for training in _trainings(policy, evaluation)],
        warnings=[
            f"{stage_label(stage.stage)}: {warning}"
            for stage in evaluation.stages
            for warning in stage.warnings
        ],
        lineage=lineage,
        number=number,
        library=LIBRARIES[policy.facts.method],
    )


def _data_rows(evaluation: Evaluation, roles: list[str]) -> list[tuple[str, list[str]]]:
    """Label, and a cell a role."""
    columns: list[dict[str, str]] = []
    for role in roles:
        column: dict[str, str] = {}
        if (data := evaluation.data.get(role)) is not None:
            column |= {"Source": _code(data.source), "Revision": _code(data.revision)}
            column |= {_words(name): f"{count:,}" for name, count in data.counts.items()}
            failed = data.quarantined.items()
            column |= {f"Quarantined: {_lower(why)}": f"{count:,}" for why, count in failed}
        column["SHA-256 of the validated rows"] = _code(evaluation.data_hashes.get(role, "")[:16])
        columns.append(column)
    labels = dict.fromkeys(label for column in columns for label in column)
    rows = [(label, [column.get(label, "") for column in columns]) for label in labels]
    return [(label, cells) for label, cells in rows if any(cells)]


def _trainings(policy: Policy, evaluation: Evaluation) -> tuple[Training, ...]:
    """Every stage's; of an evaluation that records none, the registered policy's alone."""
    facts = policy.facts
    return evaluation.trainings or (
        Training(
            stage=policy.stage,
            method=facts.method,
            num_trainable=facts.num_trainable,
            recipe=facts.recipe,
            figures=facts.figures,
        ),
    )


def _stage(training: Training) -> Stage:
    parts = [stage_label(training.stage), training.method]
    if training.num_trainable is not None:
        parts.append(f"{training.num_trainable:,} trained parameters")
    used = {
        name: value
        for name, value in training.recipe.items()
        if training.method in OF_METHODS.get(name, (training.method,))
    }
    figures = (f"{_lower(name)} {value:g}" for name, value in training.figures.items())
    return Stage(", ".join(parts), list(_settings(used)), ", ".join(figures))


def _settings(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Each value by its path, `lora.rank`, in one line; what is not set is left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{above}{name}.")
        elif value not in (None, "", (), []):
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{above}{name}", _code(text)


def _figure_rows(evaluation: Evaluation) -> list[tuple[str, list[str]]]:
    """Label, and a cell a stage."""
    rows = []
    for name in figure_names(evaluation):
        figures = [stage.figures.get(name) for stage in evaluation.stages]
        rows.append((figure_label(name), [_cell(figure) if figure else "" for figure in figures]))
    return rows


def _cell(figure: Figure) -> str:
    value, within = number(figure.value), interval(figure)
    return f"{value} ({within})" if within else value


def _code(text: str | None) -> str:
    """Text as it is, in a cell of a table: on one line, and without what would end the cell."""
    if not text:
        return ""
    line = " ".join(text.split()).replace("|", "\\|")
    return f"`` {line} ``" if "`" in line else f"`{line}`"


def _words(name: str) -> str:
    return _lower(name).capitalize()


def _lower(name: str) -> str:
    return name.replace("_", " ")
