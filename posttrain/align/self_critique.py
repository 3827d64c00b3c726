"""Constitutional self-critique: the policy learns what it should have said.

Bai et al. 2022, section 3: answer, critique, revision, then fine-tuning on the revisions. As there,
the revisions are mixed with ordinary examples, so that the model does not turn evasive; among them
the policy's own answers to ordinary prompts, which keep what PPO taught. The frozen SFT model is
critic and reviser; policy and critic are adapters on one base.
"""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from peft import PeftModel

from posttrain import processes
from posttrain.align.constitution import Constitution, load_constitution
from posttrain.align.critic import CriticReport, judge_critic
from posttrain.align.drafts import write_drafts
from posttrain.align.imitate import Example, Imitation
from posttrain.align.revise import (
    CRITIC,
    LEARNER,
    Draft,
    Round,
    Sample,
    Speaker,
    is_kept,
    outcome,
)
from posttrain.align.revisions_report import SAMPLES
from posttrain.align.revisions_report import render as render
from posttrain.align.rows import Prompt, read, read_prompts, sampling_by
from posttrain.align.write import write_policy
from posttrain.artifacts import BaseModel, Policy, Revisions, Tokens
from posttrain.contract import check_tokens
from posttrain.data.chat import Message
from posttrain.facts import RevisionsFacts
from posttrain.hashes import sha256
from posttrain.models.device import prepare
from posttrain.models.generate import Sampling
from posttrain.models.load import attach, load_base_of
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.section import Section
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.runtime import Runtime
from posttrain.tracking import RESULT, Curves, log_figures, log_parameters
from posttrain.train.checkpoints import checkpoints_of


class Drafting(Section):
    """What the drafts depend on, apart from artifacts."""

    recipe: SelfCritiqueRecipe
    constitution: Constitution
    """Its content: the recipe holds its path alone."""


class NothingKept(ValueError):
    """Every sample was dropped; `revisions` says why of each."""

    def __init__(self, message: str, revisions: Revisions) -> None:
        super().__init__(message)
        self.revisions = revisions


def train(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    policy: Policy,
    recipe: SelfCritiqueRecipe,
) -> tuple[Policy, Revisions]:
    """Criticise and revise the policy's answers, and continue its adapter on what was kept.

    Args:
        tokens: prompts to answer, and the SFT examples to mix in.
        domain: the base of both policies.
        assistant: the SFT policy: frozen critic and reviser.
        policy: whose answers are revised, and whose adapter learns.
        recipe: the section.

    Raises:
        ValueError: the critic judges too badly, no sample was kept, or the artifacts do not fit.
    """
    check_tokens(tokens, domain)
    assistant.made_by("sft")
    policy.made_by("sft", "ppo", "dpo")  # SFT's own answers may be revised too: a run without PPO
    constitution = load_constitution(Path(recipe.constitution))
    runtime = prepare(recipe.seed)
    prompts = read_prompts(tokens, recipe.prompt_set)
    check_disjoint(tokens, prompts, recipe)
    model = attach(load_base_of(domain, assistant), assistant, domain, CRITIC, trainable=False)
    model = attach(model, policy, domain, LEARNER, trainable=True)
    speaker = new_speaker(model, domain, recipe)
    log_parameters("self_critique", recipe.model_dump())

    # 1. may the critic be trusted?
    critic = judge_critic(tokens, speaker, recipe)
    # 2. answers, critiques, revisions
    key = Drafting(recipe=recipe, constitution=constitution), tokens, domain, assistant, policy
    drafting = checkpoints_of("drafts", *key)
    drafts = write_drafts(prompts, speaker, constitution, recipe, drafting)
    kept = [draft for draft in drafts if is_kept(outcome(draft, recipe), recipe)]
    revisions = processes.by_main(
        lambda: write_revisions(drafts, speaker, critic, assistant, policy, recipe)
    )
    if not kept:
        raise NothingKept(
            f"self_critique: none of {len(drafts)} samples was kept (dropped: "
            f"{revisions.facts.dropped}); read the artifact `revisions`",
            revisions,
        )
    # 3. what is learned: kept samples, own answers, SFT examples
    learned = [Example.of(draft.prompt.ids, draft.current.ids, draft.prompt.id) for draft in kept]
    own = own_answers(tokens, speaker, round(recipe.own_answers_share * len(kept)), recipe)
    mixed = instructions(tokens, round(recipe.instruction_share * len(kept)), recipe)
    # 4. fine-tuning
    checkpoints = checkpoints_of("self_critique", *key)
    folder = processes.by_main(lambda: runtime.new_folder("self_critique"))
    model.set_adapter(LEARNER)
    trainer = Imitation(
        model, LEARNER, [*learned, *own, *mixed], recipe, checkpoints, speaker.sampling.pad_id
    )
    figures = trainer.run(recipe, checkpoints, Curves(folder, "self_critique"))
    figures |= {
        **{f"critic_{name}": float(value) for name, value in critic.model_dump().items()},
        "num_kept": float(len(kept)),
        "num_revised": float(sum(bool(draft.revisions) for draft in kept)),
        "num_own_answers": float(len(own)),
        "num_instructions": float(len(mixed)),
    }
    aligned = processes.by_main(
        lambda: write_policy(folder, "self_critique", domain, model, LEARNER, recipe, figures)
    )
    log_figures(RESULT, figures)
    for done in (drafting, checkpoints):
        processes.by_main(done.forget)
    return aligned, revisions


def new_speaker(model: PeftModel, domain: BaseModel, recipe: SelfCritiqueRecipe) -> Speaker:
    """The adapters with the base's tokenizer and the recipe's way to sample."""
    tokenizer = load_tokenizer(domain)
    return Speaker(model, tokenizer, sampling_by(tokenizer, recipe))


def check_disjoint(tokens: Tokens, prompts: Sequence[Prompt], recipe: SelfCritiqueRecipe) -> None:
    """Prompts to revise, held-out critiques and evaluation's questions share no question.

    Raises:
        ValueError: says how many are shared, and with what.
    """
    asked = {question(prompt.messages) for prompt in prompts}
    held_out = read(tokens, "instructions", kind=recipe.critic_kind, split="held_out")
    others = {"held-out critiques": {question(row["messages"]) for row in held_out}}
    if (tokens.path / "probes.parquet").exists():
        others["probes"] = {row["prompt"].strip() for row in read(tokens, "probes")}
    for name, questions in others.items():
        if both := asked & questions:
            raise ValueError(
                f"self_critique: {len(both)} prompts of set {recipe.prompt_set!r} are also among "
                f"the {name} ({sorted(both)[0]!r}); what is trained on must not be measured"
            )


def question(messages: Sequence[Message]) -> str:
    """What the user first says."""
    return next(str(turn["content"]).strip() for turn in messages if turn["role"] == "user")


def own_answers(
    tokens: Tokens, speaker: Speaker, number: int, recipe: SelfCritiqueRecipe
) -> list[Example]:
    """The policy's greedy answers to at most `number` ordinary prompts, those that end.

    Raises:
        ValueError: answers are wanted and no prompt is of the wanted kinds.
    """
    if number == 0:
        return []
    kinds = recipe.own_answers_kinds
    prompts = [
        prompt
        for prompt in read_prompts(tokens, recipe.own_answers_set)
        if not kinds or prompt.kind in kinds
    ]
    if not prompts:
        raise ValueError(
            f"self_critique.own_answers_kinds: no prompt of set {recipe.own_answers_set!r} is of "
            f"kind {list(kinds)}"
        )
    chosen = random.Random(recipe.seed).sample(prompts, min(number, len(prompts)))
    said = zip(chosen, speaker.say(LEARNER, [prompt.ids for prompt in chosen]), strict=True)
    return [
        Example.of(prompt.ids, utterance.ids, prompt.id)
        for prompt, utterance in said
        if utterance.ended
    ]


def instructions(tokens: Tokens, number: int, recipe: SelfCritiqueRecipe) -> list[Example]:
    """At most `number` SFT examples of the wanted kinds.

    Raises:
        ValueError: examples are wanted and there is none of these kinds.
    """
    if number == 0:
        return []
    kinds = recipe.instruction_kinds
    rows = [
        Example(row["input_ids"], row["assistant_mask"], row["id"])
        for row in read(tokens, "instructions", split="train")
        if not kinds or row["kind"] in kinds
    ]
    if not rows:
        raise ValueError(f"self_critique.instruction_kinds: no example is of kind {list(kinds)}")
    return random.Random(recipe.seed).sample(rows, min(number, len(rows)))


def write_revisions(
    drafts: Sequence[Draft],
    speaker: Speaker,
    critic: CriticReport,
    assistant: Policy,
    policy: Policy,
    recipe: SelfCritiqueRecipe,
) -> Revisions:
    """Every sample with its provenance, a line each, in the order of the prompts."""
    folder = Runtime.from_environment().new_folder("revisions")
    hashes = {"policy": policy.content_hash(), "critic": assistant.content_hash()}
    dropped: Counter[str] = Counter()
    with (folder / SAMPLES).open("w", encoding="utf-8") as stream:
        for draft in drafts:
            why = outcome(draft, recipe)
            if not is_kept(why, recipe):
                dropped[why] += 1
            sample = as_sample(draft, why, is_kept(why, recipe), speaker.sampling, hashes)
            stream.write(sample.model_dump_json() + "\n")
    facts = RevisionsFacts(
        num_samples=len(drafts),
        dropped=dict(sorted(dropped.items())),
        critic_accuracy=critic.accuracy,
        constitution=sha256(Path(recipe.constitution)),
    )
    return Revisions.write(folder, "self_critique", facts)


def as_sample(
    draft: Draft, why: str, kept: bool, sampling: Sampling, hashes: dict[str, str]
) -> Sample:
    """A draft as a person or another stage reads it."""
    revisions = [revision.text for revision in draft.revisions]
    second = draft.second_critique
    return Sample(
        prompt_id=draft.prompt.id,
        prompt=question(draft.prompt.messages),
        response=draft.response.text,
        rounds=tuple(
            Round(principle=principle.id, critique=critique.text, revision=revision)
            for principle, critique, revision in zip_longest(
                draft.principles[: len(draft.critiques)], draft.critiques, revisions
            )
        ),
        second_critique=None if second is None else second.text,
        outcome=why,
        kept=kept,
        sampling=sampling,
        policy=hashes["policy"],
        critic=hashes["critic"],
        seed=sampling.seed,
    )
