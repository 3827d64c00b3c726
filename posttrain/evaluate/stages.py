"""Measure every stage by the same questions and texts, in one table and one report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from posttrain.artifacts import (
    AiPreferences,
    BaseModel,
    Policy,
    Quarantine,
    Revisions,
    RewardModel,
    Tokens,
)
from posttrain.contract import check_made_for
from posttrain.cost import costs_of, folders_in, measuring
from posttrain.evaluate import alignment, bootstrap, harness, probes
from posttrain.evaluate.alignment import revisions_to_read
from posttrain.evaluate.held_out import answering_of, held_out_hash, held_out_texts
from posttrain.evaluate.perplexity import Scored, byte_items, text_losses, token_items
from posttrain.evaluate.recorded import (
    ai_judge_of,
    data_of,
    drift_of,
    libraries,
    packages,
    reward_of,
    trainings,
)
from posttrain.evaluate.report import PAGE, render
from posttrain.figures import Figure, Items
from posttrain.models.device import prepare
from posttrain.models.load import load_base, load_policy
from posttrain.models.tokenizer import load_tokenizer
from posttrain.progress import seconds_between
from posttrain.recipe.evaluation import EvaluationRecipe, Language
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.registry.gate import judge
from posttrain.reports import Benchmark, Evaluation, Sample, ScoredAnswers, Stage, StageEvaluation
from posttrain.tracking import EVALUATE, log_cost, log_figures, log_page, read_history


@dataclass(frozen=True)
class Stages:
    """What a run made, in the order of training; the alignment stages may be absent."""

    tokens: Tokens
    base: BaseModel
    domain: BaseModel
    assistant: Policy
    reward: RewardModel | None = None
    policy: Policy | None = None
    aligned: Policy | None = None
    revisions: Revisions | None = None
    preferences: AiPreferences | None = None
    rlaif_reward: RewardModel | None = None
    rlaif_policy: Policy | None = None

    @property
    def policies(self) -> dict[Stage, Policy]:
        """The policies that the run trained, by stage; the last is what is registered."""
        named: dict[Stage, Policy | None] = {
            "sft": self.assistant,
            self._method: self.policy,
            "self_critique": self.aligned,
            "rlaif": self.rlaif_policy,
        }
        return {stage: policy for stage, policy in named.items() if policy is not None}

    @property
    def trained(self) -> dict[str, Policy | RewardModel]:
        """Whatever was trained on the domain base, in the order of training."""
        named: dict[str, Policy | RewardModel | None] = {
            "sft": self.assistant,
            "reward_model": self.reward,
            self._method: self.policy,
            "self_critique": self.aligned,
            "rlaif_reward_model": self.rlaif_reward,
            "rlaif": self.rlaif_policy,
        }
        return {stage: trained for stage, trained in named.items() if trained is not None}

    @property
    def _method(self) -> Literal["ppo", "dpo"]:
        return "dpo" if self.policy is not None and self.policy.stage == "dpo" else "ppo"

    @property
    def rewards(self) -> dict[str, RewardModel]:
        """The reward models, by the name of their mean score."""
        found = {"mean_score": self.reward, "rlaif_score": self.rlaif_reward}
        return {name: reward for name, reward in found.items() if reward is not None}


def evaluate(stages: Stages, quarantine: Quarantine, recipe: EvaluationRecipe) -> Evaluation:
    """Measure the untrained base, the domain base, and each policy on it.

    Raises:
        ValueError: base and tokens do not belong together, a probe has no question, or the recipe
            names a benchmark that is not there.
    """
    with measuring() as meter:
        evaluation = _evaluated(stages, quarantine, recipe)
    cost = meter.cost(EVALUATE)
    log_cost(cost)
    costs = (*costs_of(folders_in(stages)), cost)
    return evaluation.model_copy(update={"costs": costs})


def _evaluated(stages: Stages, quarantine: Quarantine, recipe: EvaluationRecipe) -> Evaluation:
    prepare(recipe.seed)
    tokens, data = stages.tokens.verify(), data_of(stages.tokens, quarantine.verify())
    made = tokens.facts
    for base in (stages.base, stages.domain):  # perplexities compare under one tokenizer alone
        check_made_for(made.tokenizer_hash, made.template_hash, base, tokens.path)
    measured, items, benchmarks, scored = _measured(stages, recipe)
    revisions = stages.revisions.verify() if stages.revisions is not None else None
    return Evaluation(
        stages=measured,
        reward_model=reward_of(stages.reward) if stages.reward is not None else None,
        scored=scored,
        revisions=revisions_to_read(revisions) if revisions is not None else (),
        rlaif_reward_model=(
            reward_of(stages.rlaif_reward) if stages.rlaif_reward is not None else None
        ),
        ai_judge=ai_judge_of(stages.preferences) if stages.preferences is not None else None,
        critic_accuracy=revisions.facts.critic_accuracy if revisions is not None else None,
        held_out_hash=held_out_hash(tokens, stages.domain, stages.policy, recipe),
        tokenizer_hash=made.tokenizer_hash,
        data_hashes=made.data_hashes,
        policy_hash=list(stages.policies.values())[-1].content_hash(),
        benchmarks=benchmarks,
        base=stages.base.facts.reference,
        data=data,
        trainings=trainings(stages.domain, stages.trained),
        drift=drift_of(quarantine),
        base_version=stages.base.facts.registered,
        constitution=revisions.facts.constitution if revisions is not None else None,
        libraries=libraries(),
        packages=packages(),
        items=items,
        report_language=recipe.report_language,
    )


def report(
    stages: Stages,
    evaluation: Evaluation,
    promotion: PromotionRecipe,
    lineage: Mapping[str, str],
    language: Language = "en",
) -> str:
    """The static HTML report: verdict, stages, curves, samples, data, cost, lineage.

    `lineage` names the run (`zenml_run`) and the code; data, bases and libraries are added to it.
    MLflow's run gets a copy, `report.html`.
    """
    libraries = [f"{name} {version}" for name, version in evaluation.libraries.items()]
    curves: dict[str, Path] = {"base_finetune": stages.domain.path}
    curves |= {stage: trained.path for stage, trained in stages.trained.items()}
    page = render(
        evaluation,
        {stage: read_history(folder) for stage, folder in curves.items()},
        judge(evaluation, None, promotion),
        {role: data.all_counts for role, data in evaluation.data.items()},
        {
            **lineage,
            "base": stages.base.facts.fingerprint,
            "domain base": stages.domain.facts.fingerprint,
            **{f"data: {role}": sha for role, sha in evaluation.data_hashes.items()},
            **({"libraries": ", ".join(libraries)} if libraries else {}),
        },
        promotion,
        language,
    )
    log_page(PAGE, page)
    return page


def _measured(
    stages: Stages, recipe: EvaluationRecipe
) -> tuple[
    tuple[StageEvaluation, ...], dict[str, Items], dict[str, Benchmark], tuple[ScoredAnswers, ...]
]:
    """Every stage in turn, the last one's items, the benchmarks' tasks, and the scored answers."""
    tasks = harness.find(recipe.harness) if recipe.harness is not None else None
    tokenizer, texts = load_tokenizer(stages.domain), held_out_texts(stages.tokens)
    loaders = _loaders(stages)
    aligned, scored = _aligned(stages, recipe)
    measured: list[StageEvaluation] = []
    items: dict[str, Items] = {}
    benchmarks: dict[str, Benchmark] = {}
    with tqdm(
        total=len(loaders) * len(recipe.probes), desc="evaluate", mininterval=seconds_between()
    ) as bar:
        for stage, load in loaders.items():
            bar.set_postfix_str(stage)
            model = load()
            items, samples = _measure(model, tokenizer, stages.tokens, texts, recipe, bar)
            drawn = (recipe.num_bootstrap, recipe.seed)
            figures = {name: bootstrap.of_items(one, *drawn) for name, one in items.items()}
            figures |= aligned.get(stage, {})
            if tasks is not None and stage in ("untrained", list(loaders)[-1]):
                found = harness.measure(model, tokenizer, tasks, recipe)
                figures, benchmarks = figures | found.figures, found.tasks
            del model  # before the next is loaded
            trained = stages.policies.get(stage)
            warnings = trained.facts.warnings if trained is not None else ()
            measured.append(
                StageEvaluation(stage=stage, figures=figures, samples=samples, warnings=warnings)
            )
            values = {name: figure.value for name, figure in figures.items()}
            log_figures(f"{EVALUATE}/{stage}", values)
    return tuple(measured), items, benchmarks, scored


def _loaders(stages: Stages) -> dict[Stage, Callable[[], PreTrainedModel]]:
    """One model at a time: each is loaded when its turn comes, and let go after it."""
    domain = stages.domain
    found: dict[Stage, Callable[[], PreTrainedModel]] = {
        "untrained": lambda: load_base(stages.base)
    }
    if domain.facts.fingerprint != stages.base.facts.fingerprint:
        found["base_finetune"] = lambda: load_base(domain)
    for stage, policy in stages.policies.items():
        found[stage] = lambda policy=policy: load_policy(domain, policy)  # type: ignore[misc]
    return found


def _aligned(
    stages: Stages, recipe: EvaluationRecipe
) -> tuple[dict[Stage, dict[str, Figure]], tuple[ScoredAnswers, ...]]:
    """Scores and KL, where the run has a reward model and the policy that it trained."""
    if stages.reward is None or stages.policy is None:
        return {}, ()
    answering = answering_of(stages.policy)
    return alignment.measure(
        stages.tokens, stages.domain, stages.policies, stages.rewards, answering, recipe
    )


def _measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tokens: Tokens,
    texts: dict[str, list[Scored]],
    recipe: EvaluationRecipe,
    bar: "tqdm[object]",
) -> tuple[dict[str, Items], tuple[Sample, ...]]:
    """What one model's figures are made of, and some of its answers."""
    items: dict[str, Items] = {}
    for name, scored in texts.items():
        losses = text_losses(model, scored, recipe)
        items[name] = token_items(losses, scored)
        if name == "perplexity_domain":
            items["bits_per_byte_domain"] = byte_items(losses, scored, tokenizer)
    samples: list[Sample] = []
    ended: list[Items] = []
    lengths: list[Items] = []
    for probe in recipe.probes:
        answers = probes.ask(model, tokenizer, tokens, probe, recipe)
        items |= probes.items(probe, answers)
        samples += probes.samples(probe, answers, recipe.num_samples // len(recipe.probes))
        if probe.kind != "cloze":
            draws = probe.num_samples
            ended.append(probes.by_question([float(one.ended) for one in answers], draws))
            lengths.append(probes.by_question([float(one.num_tokens) for one in answers], draws))
        bar.update()
    if ended:
        items |= {"ended_share": bootstrap.joined(ended), "mean_length": bootstrap.joined(lengths)}
    return items, tuple(samples)
