"""What the registry holds of one model, for people: its versions, and two of them side by side."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import pydantic
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from pydantic import TypeAdapter

from posttrain.decisions import HistoryEntry, RuleOutcome
from posttrain.evaluate.difference import difference
from posttrain.evaluate.wording import direction, figure_names
from posttrain.figures import Figure
from posttrain.recipe.promotion import OWN_SCALE, PromotionRecipe
from posttrain.recipe.section import Section
from posttrain.registry.comparison import IN_TOKENS
from posttrain.registry.promotions import history
from posttrain.registry.versions import ABSENT, read_evaluation, resolve, what_exists
from posttrain.reports import Evaluation

FIGURE = "figure."
"""Prefix of the tags that hold the last stage's figures."""

OUTCOMES = TypeAdapter(tuple[RuleOutcome, ...])

GATE = PromotionRecipe.model_fields
NUM_BOOTSTRAP, SEED = (int(GATE[name].default) for name in ("num_bootstrap", "seed"))
"""As the gate compares."""


class VersionSummary(Section):
    """One version, by its tags alone: nothing is downloaded."""

    number: int
    aliases: tuple[str, ...]
    created: str
    """UTC, ISO 8601."""

    stage: str | None
    """Last trained stage; None of a version that was registered without it."""

    method: str | None
    figures: dict[str, float]
    """Of the last stage."""

    gate: str | None
    """`passed` or `failed`; None where the gate never judged it."""

    outcomes: tuple[RuleOutcome, ...]
    """The gate's last word, rule by rule."""

    decision: HistoryEntry | None
    """The last history entry about this version."""

    tags: dict[str, str]


class FigureComparison(Section):
    """One figure of the last stage of two versions."""

    name: str
    a: Figure | None
    b: Figure | None
    comparable: bool
    """Whether both were measured on the same questions, and with the same tokens where the unit is
    one."""

    difference: tuple[float, float] | None
    """95 % interval of `b` less `a`; None where nothing tells it."""

    direction: int
    """1 where higher is better, -1 where lower is, 0 where the name does not tell."""

    @property
    def verdict(self) -> Literal["better", "worse", "level", "unknown"]:
        """What `b` is beside `a`; `level` where noise alone may explain the difference."""
        if self.difference is None or not self.direction:
            return "unknown"
        low, high = sorted(bound * self.direction for bound in self.difference)
        return "better" if low > 0 else "worse" if high < 0 else "level"


class VersionComparison(Section):
    """Two versions side by side."""

    a: VersionSummary
    b: VersionSummary
    figures: tuple[FigureComparison, ...]
    differing: dict[str, tuple[str | None, str | None]]
    """Tags in which they differ, figures left out: data, base, commit, lineage."""


def versions(client: MlflowClient, name: str) -> tuple[VersionSummary, ...]:
    """Every version, the newest first.

    Raises:
        ValueError: there is no such model; says what exists.
    """
    aliases, decided = _aliases(client, name), decisions(history(client, name))
    found = client.search_model_versions(f"name='{name}'")
    return tuple(
        summary(version, aliases, decided)
        for version in sorted(found, key=lambda one: int(one.version), reverse=True)
    )


def compare(client: MlflowClient, name: str, a: str, b: str) -> VersionComparison:
    """Two versions, each named by number or alias.

    Raises:
        ValueError: one does not exist; says what does.
    """
    aliases, decided = _aliases(client, name), decisions(history(client, name))
    left, right = (resolve(client, name, one) for one in (a, b))
    evaluations = [read_evaluation(client, one) for one in (left, right)]
    plain = [
        {tag: value for tag, value in one.tags.items() if not tag.startswith(FIGURE)}
        for one in (left, right)
    ]
    return VersionComparison(
        a=summary(left, aliases, decided),
        b=summary(right, aliases, decided),
        figures=_figures(*evaluations),
        differing={
            tag: (plain[0].get(tag), plain[1].get(tag))
            for tag in sorted({*plain[0], *plain[1]})
            if plain[0].get(tag) != plain[1].get(tag) and not tag.startswith("gate")
        },
    )


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    try:
        return dict(client.get_registered_model(name).aliases)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        raise ValueError(f"{name}: {what_exists(client, name)}") from error


def decisions(entries: tuple[HistoryEntry, ...]) -> dict[int, HistoryEntry]:
    """The last entry about each version."""
    return {
        entry.version: entry
        for entry in entries
        if entry.version is not None and entry.state == "done"
    }


def summary(
    version: ModelVersion, aliases: Mapping[str, str], decided: Mapping[int, HistoryEntry]
) -> VersionSummary:
    """One version, as the listing shows it."""
    tags, number = dict(version.tags), int(version.version)
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return VersionSummary(
        number=number,
        aliases=tuple(sorted(alias for alias, of in aliases.items() if int(of) == number)),
        created=created.isoformat(timespec="seconds"),
        stage=tags.get("stage"),
        method=tags.get("method"),
        figures={
            tag.removeprefix(FIGURE): float(value)
            for tag, value in tags.items()
            if tag.startswith(FIGURE)
        },
        gate=tags.get("gate"),
        outcomes=_outcomes(tags.get("gate_outcomes")),
        decision=decided.get(number),
        tags=tags,
    )


def _outcomes(text: str | None) -> tuple[RuleOutcome, ...]:
    """None where another release wrote them with other fields: what it decided stands in `gate`."""
    try:
        return OUTCOMES.validate_json(text) if text else ()
    except pydantic.ValidationError:
        return ()


def _figures(a: Evaluation | None, b: Evaluation | None) -> tuple[FigureComparison, ...]:
    names = dict.fromkeys(name for one in (a, b) if one is not None for name in figure_names(one))
    return tuple(_figure(name, a, b) for name in names if _last(a, name) or _last(b, name))


def _figure(name: str, a: Evaluation | None, b: Evaluation | None) -> FigureComparison:
    left, right = _last(a, name), _last(b, name)
    comparable, interval = False, None
    if a is not None and b is not None and left is not None and right is not None:
        alike = name not in IN_TOKENS or a.tokenizer_hash == b.tokenizer_hash
        own = name in OWN_SCALE  # measured by each run's own reward model
        comparable = alike and not own and a.measured_on(name) == b.measured_on(name)
        if comparable and math.isfinite(left.value) and math.isfinite(right.value):
            items = (b.items.get(name), a.items.get(name))
            found = difference((right, left), items, NUM_BOOTSTRAP, SEED)
            interval = (found.low, found.high) if found else None
    return FigureComparison(
        name=name,
        a=left,
        b=right,
        comparable=comparable,
        difference=interval,
        direction=direction(name),
    )


def _last(evaluation: Evaluation | None, name: str) -> Figure | None:
    return evaluation.figure("final", name) if evaluation is not None else None
