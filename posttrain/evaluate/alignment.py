"""What the reward models say of SFT and of each later stage, and how far each has moved from SFT.

One base in memory: the policies are adapters on it, measured on the same prompts and draws. Where a
second round was trained, both reward models score the same answers of every stage.
"""

from collections.abc import Mapping

from posttrain.align.forward import using
from posttrain.align.revise import Sample
from posttrain.align.rollout import (
    REFERENCE,
    REWARD,
    Actors,
    per_token,
    policy_reader,
    response_mask,
    sample,
)
from posttrain.align.rows import pad_id, read_prompts, sampling_by
from posttrain.align.score import Scorer, load_scorer
from posttrain.artifacts import BaseModel, Policy, Revisions, RewardModel, Tokens
from posttrain.evaluate import bootstrap
from posttrain.figures import Figure
from posttrain.models.load import attach, load_base_of
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.answering import Answering
from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.reports import Revision, ScoredAnswers, Stage

NUM_REVISIONS = 12
"""Samples of the self-critique that the report shows; the `revisions` artifact holds all."""


def measure(
    tokens: Tokens,
    domain: BaseModel,
    policies: Mapping[Stage, Policy],
    rewards: Mapping[str, RewardModel],
    answering: Answering,
    recipe: EvaluationRecipe,
) -> tuple[dict[Stage, dict[str, Figure]], tuple[ScoredAnswers, ...]]:
    """Score every policy's answers to the held-out prompts, sampled as the method's section says.

    Args:
        tokens: holds the prompts.
        domain: the base of all adapters.
        policies: by stage; the first is SFT, the reference.
        rewards: judge, by the name of their mean score; the first also gives the scores returned.
        answering: sampling, and which prompts.
        recipe: bootstrap.

    Returns:
        A stage's `mean_score`, `score_std`, and `kl_to_sft` (nats an answer; not of SFT itself),
        for a second reward model `rlaif_score` and `rlaif_score_std`; and the answers' lengths and
        scores.
    """
    first, *others = rewards.values()
    actors = _actors(tokens, domain, policies["sft"], first, answering)
    pad = actors.sampling.pad_id
    scorers = {
        name: load_scorer(actors.model, reward, domain, pad, name)
        for name, reward in zip(list(rewards)[1:], others, strict=True)
    }
    prompts = held_out_prompts(tokens, answering)
    figures: dict[Stage, dict[str, Figure]] = {}
    scored = []
    for stage, policy in policies.items():
        if stage != "sft":
            attach(actors.model, policy, domain, stage, trainable=False)
        figures[stage], answers = _of_stage(actors, scorers, prompts, stage, recipe)
        scored.append(answers)
    return figures, tuple(scored)


def held_out_prompts(tokens: Tokens, answering: Answering) -> list[list[int]]:
    """Ids of the prompts that every policy answers."""
    prompts = read_prompts(tokens, answering.held_out_set)
    return [prompt.ids for prompt in prompts[: answering.num_held_out]]


def revisions_to_read(revisions: Revisions) -> tuple[Revision, ...]:
    """Evenly spaced samples of the self-critique."""
    lines = (revisions.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = lines[:: max(1, len(lines) // NUM_REVISIONS)][:NUM_REVISIONS]
    samples = [Sample.model_validate_json(line) for line in chosen]
    return tuple(
        Revision(
            prompt=sample.prompt,
            principle=sample.rounds[0].principle,
            response=sample.response,
            critique=sample.rounds[0].critique,
            revision=sample.rounds[-1].revision,
            outcome=sample.outcome,
        )
        for sample in samples
    )


def _actors(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    reward: RewardModel,
    answering: Answering,
) -> Actors:
    tokenizer = load_tokenizer(domain)
    pad = pad_id(tokenizer)
    base = load_base_of(domain, assistant)
    model = attach(base, assistant, domain, REFERENCE, trainable=False).eval()
    scorer = load_scorer(model, reward, domain, pad, REWARD)
    sampling = sampling_by(tokenizer, answering)
    return Actors(model, scorer, scorer.head, sampling, answering.forward_batch_size)


def _of_stage(
    actors: Actors,
    scorers: Mapping[str, Scorer],
    prompts: list[list[int]],
    stage: Stage,
    recipe: EvaluationRecipe,
) -> tuple[dict[str, Figure], ScoredAnswers]:
    """One policy, whose adapter is attached."""
    drawn = (recipe.num_bootstrap, recipe.seed)
    adapter = REFERENCE if stage == "sft" else stage
    responses, score_B = sample(actors, prompts, recipe.seed, adapter)
    scores = [float(score) for score in score_B]
    figures = {
        "mean_score": bootstrap.mean(scores, *drawn),
        "score_std": bootstrap.deviation(scores, *drawn),
    }
    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    for name, scorer in scorers.items():
        others = [float(score) for score in scorer.scores(rows, actors.sampling.batch_size)]
        figures[name] = bootstrap.mean(others, *drawn)
        figures[f"{name}_std"] = bootstrap.deviation(others, *drawn)
    if stage != "sft":
        nats = _kl(actors, prompts, responses, adapter)
        figures["kl_to_sft"] = bootstrap.mean(nats, *drawn)
    lengths = tuple(len(response) for response in responses)
    return figures, ScoredAnswers(stage=stage, lengths=lengths, scores=tuple(scores))


def _kl(
    actors: Actors, prompts: list[list[int]], responses: list[list[int]], adapter: str
) -> list[float]:
    """KL to SFT of each answer, in nats: the k1 estimate, summed over its tokens."""
    with using(actors.model, adapter):
        (own_BT,) = per_token(actors, prompts, responses, policy_reader(actors))
    with using(actors.model, REFERENCE):
        (reference_BT,) = per_token(actors, prompts, responses, policy_reader(actors))
    mask_BT = response_mask(responses, actors.device)
    nats_B = (own_BT - reference_BT).masked_fill(~mask_BT, 0.0).sum(-1)
    return [float(nats) for nats in nats_B]
