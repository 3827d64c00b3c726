"""The report of a run: one static HTML page, verdict first, in Korean and English.

Self-contained: styles and charts are in the page, nothing is fetched, no script runs, so that it
shows in the dashboard's sandboxed frame (384 px high), from MLflow's artifacts, and as a file. The
same arguments give the same bytes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import escape

from posttrain.decisions import RuleOutcome
from posttrain.evaluate import verdict
from posttrain.evaluate.language import LANGUAGES, Text, both, catalogue, say
from posttrain.evaluate.limits import outcome_sentence
from posttrain.evaluate.panels import (
    History,
    Panel,
    calibration_panel,
    curve_panels,
    figure_panels,
    frontier_panel,
    score_panel,
)
from posttrain.evaluate.tables import (
    Table,
    cost_table,
    data_table,
    drift_table,
    figure_table,
    judge_table,
    reward_table,
)
from posttrain.evaluate.wording import figure_label, label, lineage_label, stage_label
from posttrain.recipe.evaluation import Language
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.reports import Evaluation

PAGE = "report.html"
"""The report among the artifacts of `evaluate`'s run in MLflow."""

TEMPLATES = Environment(
    loader=PackageLoader("posttrain.evaluate", "templates"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(
    evaluation: Evaluation,
    histories: Mapping[str, History] | None,
    outcomes: tuple[RuleOutcome, ...],
    data: Mapping[str, Mapping[str, int]] | None,
    lineage: Mapping[str, str],
    promotion: PromotionRecipe | None = None,
    language: Language = "en",
) -> str:
    """The page, for any number of stages.

    `histories` are the curves of each trained stage, points of `step` and figures, None where they
    are not at hand; `outcomes` the gate's limits; `data` the counts of each role; `lineage` where
    the run came from; `promotion` what the gate will ask besides; `language` what the page opens
    in.
    """
    everything = {
        **lineage,
        "held-out data": evaluation.held_out_hash,
        "policy": evaluation.policy_hash,
    }
    return TEMPLATES.get_template("report.html").render(
        **_judgement(outcomes, promotion),
        **_measured(evaluation, histories or {}),
        languages=LANGUAGES,
        language=language,
        title=say("page.title", stage=both(stage_label, evaluation.stages[-1].stage)),
        run=lineage.get("zenml_run"),
        curves=_curves(histories) if histories is not None else None,
        samples=_samples(evaluation),
        data=data_table(data) if data else None,
        drift=evaluation.drift,
        drift_table=drift_table(evaluation.drift) if evaluation.drift else None,
        costs=cost_table(evaluation.costs),
        lineage=[(both(lineage_label, name), value) for name, value in everything.items()],
    )


def judged_again(page: str, outcomes: tuple[RuleOutcome, ...]) -> str | None:
    """A rendered page with the gate's later word in place of its first.

    None of a page that another release made, without the marks of where that word stands.
    """
    template = TEMPLATES.get_template("report.html")
    words = _judgement(outcomes, None)
    for name in JUDGED:
        part = "".join(template.blocks[name](template.new_context(words))).rstrip("\n")
        where = re.compile(f"<!--{name}-->.*?<!--/{name}-->", re.DOTALL)
        found = where.search(page)
        if found is None:
            return None
        page = page[: found.start()] + part + page[found.end() :]
    opened: Language = "ko" if '<html lang="ko">' in page else "en"
    title = f"<title>{escape(words['headline'].in_(opened))}</title>"
    return re.sub("<title>.*?</title>", lambda _: title, page, count=1, flags=re.DOTALL)


JUDGED = ("verdict", "pending", "limits")
"""Parts of the page that tell the gate's word, each between comments of its name."""

FIRST = 3
"""Limits that were missed and stand right under the verdict; all stand in the next section."""

FILLED = ("at_start", "title", "quarantined", "num_pairs")
"""Words of the page with a figure in them."""


def _judgement(
    outcomes: tuple[RuleOutcome, ...], promotion: PromotionRecipe | None
) -> dict[str, Any]:
    """What the gate's word fills in."""
    return {
        "t": {name: say(f"page.{name}") for name in catalogue("en")["page"] if name not in FILLED},
        "headline": verdict.headline(outcomes, promotion),
        "passed": verdict.is_good(outcomes, promotion),
        "missed": [outcome_sentence(one) for one in outcomes if not one.passed][:FIRST],
        "pending": verdict.pending_sentence(promotion) if promotion is not None else None,
        "limits": [(one.passed, outcome_sentence(one)) for one in outcomes],
    }


def _measured(evaluation: Evaluation, histories: Mapping[str, History]) -> dict[str, Any]:
    """What the stages did, in sentences, tables and charts."""
    return {
        "sentences": _sentences(evaluation, histories),
        "figures": figure_table(evaluation),
        "figure_panels": figure_panels(evaluation),
        "frontier": frontier_panel(evaluation, histories.get("ppo", ())),
        "rewards": _rewards(evaluation),
        "ai_judge": evaluation.ai_judge and judge_table(evaluation.ai_judge),
        "judge_sentence": verdict.judge_sentence(evaluation),
        "score_panel": score_panel(evaluation),
        "critique_sentence": verdict.critique_sentence(evaluation),
        "revisions": [
            (both(partial(label, "outcomes"), one.outcome), one) for one in evaluation.revisions
        ],
    }


def _curves(histories: Mapping[str, History]) -> list[tuple[Text, list[Panel]]]:
    """Stages that logged something, each with its charts."""
    charts = {stage: curve_panels(stage, history) for stage, history in histories.items()}
    return [(both(stage_label, stage), panels) for stage, panels in charts.items() if panels]


def _sentences(evaluation: Evaluation, histories: Mapping[str, History]) -> list[verdict.Sentence]:
    """The story: what each stage did, and what to know of it."""
    told = (
        verdict.length_sentence(evaluation),
        verdict.entropy_sentence(histories.get("ppo", ())),
        verdict.critique_sentence(evaluation),
        verdict.entropy_sentence(histories.get("rlaif", ()), "rlaif"),
        verdict.judge_sentence(evaluation),
        *verdict.reward_sentences(evaluation),
    )
    return [
        *verdict.stage_sentences(evaluation),
        *verdict.warning_sentences(evaluation, histories),
        *(one for one in told if one is not None),
    ]


@dataclass(frozen=True)
class Reward:
    """A reward model's section."""

    title: Text
    lede: Text
    table: Table
    calibration: Panel | None


def _rewards(evaluation: Evaluation) -> list[Reward]:
    found = {
        "reward_model": (evaluation.reward_model, "page.drives_ppo"),
        "rlaif_reward_model": (evaluation.rlaif_reward_model, "page.drives_rlaif"),
    }
    several = evaluation.rlaif_reward_model is not None
    return [
        Reward(
            title=both(stage_label, stage),
            lede=say(lede) if several else Text("", ""),
            table=reward_table(reward),
            calibration=calibration_panel(stage, reward.figures),
        )
        for stage, (reward, lede) in found.items()
        if reward is not None
    ]


@dataclass(frozen=True)
class Question:
    """A question with every stage's answer, in pieces: text, and whether it was expected."""

    probe: Text
    prompt: str
    expected: str | None
    answers: list[tuple[Text, list[tuple[str, bool]]]]


def _samples(evaluation: Evaluation) -> list[Question]:
    """The questions that the last stage was asked, beside what each stage said."""
    said = {
        (stage.stage, sample.probe, sample.prompt): sample.response
        for stage in evaluation.stages
        for sample in stage.samples
    }
    return [
        Question(
            probe=both(figure_label, sample.probe),
            prompt=sample.prompt,
            expected=sample.expected,
            answers=[
                (both(stage_label, stage.stage), _pieces(said[key], sample.expected))
                for stage in evaluation.stages
                if (key := (stage.stage, sample.probe, sample.prompt)) in said
            ],
        )
        for sample in evaluation.stages[-1].samples
    ]


def _pieces(response: str, expected: str | None) -> list[tuple[str, bool]]:
    """The response, cut at the expected text where it has it."""
    if not expected or expected not in response:
        return [(response, False)]
    before, after = response.split(expected, 1)
    return [piece for piece in ((before, False), (expected, True), (after, False)) if piece[0]]
