"""Measure every stage by the same questions and texts, in one table and one report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
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
    sha256_of,
)
from posttrain.contract import check_made_for
from posttrain.evaluate import alignment, bootstrap, probes
from posttrain.evaluate.alignment import revisions_to_read
from posttrain.evaluate.perplexity import Scored, bits_per_byte, of_tokens, text_losses
from posttrain.evaluate.report import render
from posttrain.models.device import prepare
from posttrain.models.load import load_base, load_policy
from posttrain.models.tokenizer import load_tokenizer, plain_texts
from posttrain.recipe.answering import Answering
from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.registry.gate import judge
from posttrain.reports import (
    Evaluation,
    Figure,
    JudgeEvaluation,
    RewardEvaluation,
    Sample,
    ScoredAnswers,
    Stage,
    StageEvaluation,
)
from posttrain.tracking import log_figures, read_history

SPLIT = [("split", "==", "held_out")]

EFFORT = {"batch_size", "num_bootstrap", "num_samples", "seed"}
"""Fields of the recipe that leave the meaning of a figure as it is."""

JUDGED = ("margin_mean", "calibration_error", "accuracy_", "num_at_", "num_equal_", "length_corr")
"""How the reward model's figures on held-out pairs begin; its others are of training."""


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
        found: dict[Stage, Policy] = {"sft": self.assistant}
        if self.policy is not None:
            found["dpo" if self.policy.stage == "dpo" else "ppo"] = self.policy
        if self.aligned is not None:
            found["self_critique"] = self.aligned
        if self.rlaif_policy is not None:
            found["rlaif"] = self.rlaif_policy
        return found

    @property
    def rewards(self) -> dict[str, RewardModel]:
        """The reward models, by the name of their mean score."""
        found = {"mean_score": self.reward, "rlaif_score": self.rlaif_reward}
        return {name: reward for name, reward in found.items() if reward is not None}


def evaluate(stages: Stages, recipe: EvaluationRecipe) -> Evaluation:
    """Measure the untrained base, the domain base, and each policy on it."""
    prepare(recipe.seed)
    tokens = stages.tokens.verify()
    made = tokens.facts
    for base in (stages.base, stages.domain):  # perplexities compare under one tokenizer alone
        check_made_for(made.tokenizer_hash, made.template_hash, base, tokens.path)
    tokenizer = load_tokenizer(stages.domain)
    texts = _held_out(tokens)
    loaders = _loaders(stages)
    aligned, scored = _aligned(stages, recipe)
    measured = []
    with tqdm(total=len(loaders) * len(recipe.probes), desc="evaluate") as bar:
        for stage, load in loaders.items():
            bar.set_postfix_str(stage)
            figures, samples = _measure(load(), tokenizer, tokens, texts, recipe, bar)
            figures |= aligned.get(stage, {})
            trained = stages.policies.get(stage)
            warnings = trained.facts.warnings if trained is not None else ()
            measured.append(
                StageEvaluation(stage=stage, figures=figures, samples=samples, warnings=warnings)
            )
            log_figures(stage, {name: figure.value for name, figure in figures.items()})
    revisions = stages.revisions.verify() if stages.revisions is not None else None
    return Evaluation(
        stages=tuple(measured),
        reward_model=_judge(stages.reward) if stages.reward is not None else None,
        scored=scored,
        revisions=revisions_to_read(revisions) if revisions is not None else (),
        rlaif_reward_model=(
            _judge(stages.rlaif_reward) if stages.rlaif_reward is not None else None
        ),
        ai_judge=_ai_judge(stages.preferences) if stages.preferences is not None else None,
        critic_accuracy=revisions.facts.critic_accuracy if revisions is not None else None,
        held_out_hash=_held_out_hash(stages, recipe),
        tokenizer_hash=made.tokenizer_hash,
        data_hashes=made.data_hashes,
        policy_hash=list(stages.policies.values())[-1].content_hash(),
    )


def report(
    stages: Stages,
    evaluation: Evaluation,
    quarantine: Quarantine,
    promotion: PromotionRecipe,
    lineage: Mapping[str, str],
) -> str:
    """The static HTML report: verdict, stages, curves, samples, data, lineage.

    `lineage` names the run (`zenml_run`) and the code; data and bases are added to it.
    """
    return render(
        evaluation,
        _histories(stages),
        judge(evaluation, None, promotion),
        _data_summary(stages.tokens, quarantine.verify()),
        {
            **lineage,
            "base": stages.base.facts.fingerprint,
            "domain base": stages.domain.facts.fingerprint,
            **{f"data: {role}": sha for role, sha in stages.tokens.facts.data_hashes.items()},
        },
    )


def _histories(stages: Stages) -> dict[str, list[dict[str, float | None]]]:
    """Curves of what the run trained, in the order of training."""
    trained: dict[str, Path] = {"base_finetune": stages.domain.path, "sft": stages.assistant.path}
    policies: dict[str, Path] = {stage: policy.path for stage, policy in stages.policies.items()}
    if stages.reward is not None:
        trained["reward_model"] = stages.reward.path
    trained |= {stage: path for stage, path in policies.items() if stage != "rlaif"}
    if stages.rlaif_reward is not None:
        trained["rlaif_reward_model"] = stages.rlaif_reward.path
    trained |= policies
    return {stage: read_history(folder) for stage, folder in trained.items()}


def _data_summary(tokens: Tokens, quarantine: Quarantine) -> dict[str, dict[str, int]]:
    """Role -> what became of its rows."""
    return {
        role: counts
        | {f"quarantined: {why}": n for why, n in quarantine.facts.num_rows.get(role, {}).items()}
        for role, counts in tokens.facts.counts.items()
    }


def _held_out_hash(stages: Stages, recipe: EvaluationRecipe) -> str:
    """SHA-256 over what is measured on and how, and not over what is trained on.

    Of texts, not of ids: a run with another tokenizer may measure on the same.
    """
    tokens, tokenizer = stages.tokens, load_tokenizer(stages.domain)

    def rows(role: str, *columns: str, held_out: bool) -> list[dict[str, Any]]:
        file = tokens.path / f"{role}.parquet"
        if not file.exists():
            return []
        filters = SPLIT if held_out else None
        table = pq.read_table(file, columns=list(columns), filters=filters)
        found: list[dict[str, Any]] = table.to_pylist()
        return found

    corpus = [row["input_ids"] for row in rows("corpus", "input_ids", held_out=True)]
    found: list[object] = [
        recipe.model_dump(mode="json", exclude=EFFORT),
        plain_texts(tokenizer, corpus),
        rows("instructions", "messages", held_out=True),
        rows("probes", "set", "answer", "prompt", held_out=False),
    ]
    if stages.policy is not None:
        asked = alignment.held_out_prompts(tokens, _answering(stages.policy))
        found.append(plain_texts(tokenizer, asked))
    return sha256_of(found)


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
    answering = _answering(stages.policy)
    return alignment.measure(
        stages.tokens, stages.domain, stages.policies, stages.rewards, answering, recipe
    )


def _answering(policy: Policy) -> Answering:
    """How the section that trained a policy has held-out prompts answered, PPO's or DPO's."""
    values = policy.facts.recipe
    return Answering.model_validate({name: values[name] for name in Answering.model_fields})


def _ai_judge(preferences: AiPreferences) -> JudgeEvaluation:
    facts = preferences.verify().facts
    return JudgeEvaluation(
        accuracy=facts.judge_accuracy,
        by_kind=facts.judge_by_kind,
        num_pairs=facts.num_human_pairs,
        first_preferred=facts.first_preferred,
        order_decides=facts.order_decides,
        order_by_kind=facts.order_by_kind,
        num_judged=facts.num_judged,
        num_kept=facts.num_pairs,
        dropped=facts.dropped,
    )


def _judge(reward: RewardModel) -> RewardEvaluation:
    facts = reward.facts
    return RewardEvaluation(
        accuracy=facts.accuracy,
        by_kind=facts.by_kind,
        num_pairs=facts.num_pairs,
        figures={name: v for name, v in facts.figures.items() if name.startswith(JUDGED)},
    )


def _measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tokens: Tokens,
    texts: dict[str, list[Scored]],
    recipe: EvaluationRecipe,
    bar: "tqdm[object]",
) -> tuple[dict[str, Figure], tuple[Sample, ...]]:
    figures: dict[str, Figure] = {}
    for name, scored in texts.items():
        losses = text_losses(model, scored, recipe)
        figures[name] = of_tokens(losses, scored, recipe)
        if name == "perplexity_domain":
            figures["bits_per_byte_domain"] = bits_per_byte(losses, scored, tokenizer, recipe)
    samples: list[Sample] = []
    chats: list[probes.Answered] = []
    for probe in recipe.probes:
        answers = probes.ask(model, tokenizer, tokens, probe, recipe)
        figures |= probes.figures(probe, answers, recipe)
        samples += probes.samples(probe, answers, recipe.num_samples // len(recipe.probes))
        chats += answers if probe.kind != "cloze" else []
        bar.update()
    if chats:
        drawn = (recipe.num_bootstrap, recipe.seed)
        ended, lengths = [one.ended for one in chats], [float(one.num_tokens) for one in chats]
        figures["ended_share"] = bootstrap.share(ended, *drawn)
        figures["mean_length"] = bootstrap.mean(lengths, *drawn)
    return figures, tuple(samples)


def _held_out(tokens: Tokens) -> dict[str, list[Scored]]:
    """The held-out texts of a run by figure; a run may lack either."""
    texts: dict[str, list[Scored]] = {}
    corpus, examples = (tokens.path / f"{role}.parquet" for role in ("corpus", "instructions"))
    if corpus.exists():
        rows = pq.read_table(corpus, columns=["input_ids"], filters=SPLIT).to_pylist()
        texts["perplexity_domain"] = [
            Scored(row["input_ids"], [True] * len(row["input_ids"])) for row in rows
        ]
    if examples.exists():
        columns = ["input_ids", "assistant_mask"]
        rows = pq.read_table(examples, columns=columns, filters=SPLIT).to_pylist()
        texts["perplexity_answers"] = [
            Scored(row["input_ids"], row["assistant_mask"]) for row in rows
        ]
    return {name: scored for name, scored in texts.items() if scored}
