"""Answer, criticise, revise: the supervised half of constitutional AI (Bai et al. 2022, 3.1).

The policy answers; the frozen SFT model criticises each answer by a principle drawn for it, and
revises what it found fault with. Every utterance is a batched generation in the chat template. What
comes out is filtered, and each sample says why it was kept or dropped.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from peft import PeftModel
from transformers import PreTrainedTokenizerFast

from posttrain.align.constitution import Constitution, Principle
from posttrain.align.forward import using
from posttrain.align.rows import Prompt
from posttrain.data.chat import Message, encode_prompts
from posttrain.models.generate import Sampling, generate
from posttrain.recipe.section import Section
from posttrain.recipe.self_critique import SelfCritiqueRecipe

CRITIC, LEARNER = "critic", "default"  # adapters on the one base

NO_FAULT, REVISED = "no_fault", "revised"
SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Utterance:
    """What a model said."""

    ids: list[int]
    text: str
    ended: bool


@dataclass(frozen=True)
class Speaker:
    """The adapters on the base, and how they speak."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerFast
    sampling: Sampling

    def say(
        self, adapter: str, prompts: Sequence[list[int]], temperature: float = 0.0
    ) -> list[Utterance]:
        """Answer prompts with one adapter, all in one batched generation."""
        sampling = self.sampling.model_copy(update={"temperature": temperature})
        with using(self.model, adapter):
            responses = generate(self.model, prompts, sampling)
        return [
            Utterance(
                ids=response,
                text=str(self.tokenizer.decode(response, skip_special_tokens=True)).strip(),
                ended=response[-1] in sampling.end_ids,
            )
            for response in responses
        ]

    def reply(self, conversations: Sequence[Sequence[Message]]) -> list[Utterance]:
        """The critic's greedy reply to conversations that end with the user."""
        return self.say(CRITIC, encode_prompts(self.tokenizer, conversations))


@dataclass
class Draft:
    """An answer on its way through critique and revision."""

    prompt: Prompt
    response: Utterance
    principles: list[Principle]
    """One a round, drawn beforehand."""

    critiques: list[Utterance] = field(default_factory=list)
    revisions: list[Utterance] = field(default_factory=list)
    second_critique: Utterance | None = None
    """Of the last revision, by the principle that it was revised by."""

    @property
    def current(self) -> Utterance:
        """The answer as it stands."""
        return self.revisions[-1] if self.revisions else self.response

    def to_criticise(self, round_: int, recipe: SelfCritiqueRecipe) -> list[Message]:
        """The conversation that ends with the request to criticise the answer as it stands."""
        request = self.principles[round_].critique_request.in_(recipe.language)
        return [
            *self.prompt.messages,
            {"role": "assistant", "content": self.current.text},
            {"role": "user", "content": request},
        ]

    def to_revise(self, round_: int, recipe: SelfCritiqueRecipe) -> list[Message]:
        """The same, with the critique and the request to revise by it."""
        request = self.principles[round_].revision_request.in_(recipe.language)
        return [
            *self.to_criticise(round_, recipe),
            {"role": "assistant", "content": self.critiques[round_].text},
            {"role": "user", "content": request},
        ]


class Round(Section):
    """One critique, and the revision where it found fault."""

    principle: str
    critique: str
    revision: str | None


class Sample(Section):
    """A sample with its provenance: a line of `samples.jsonl`."""

    prompt_id: str
    prompt: str
    response: str
    rounds: tuple[Round, ...]
    second_critique: str | None
    outcome: str
    """`revised` or `no_fault`, or the reason for which it was dropped."""

    kept: bool
    sampling: Sampling
    """Of the response; critiques and revisions are greedy."""

    policy: str
    """Content hash of the policy that answered."""

    critic: str
    """Content hash of the policy that criticised and revised."""

    seed: int


def answer(
    prompts: Sequence[Prompt],
    speaker: Speaker,
    constitution: Constitution,
    recipe: SelfCritiqueRecipe,
) -> list[Draft]:
    """The learner's sampled answers, `num_samples` a prompt, each with its principles."""
    asked = [prompt for prompt in prompts for _ in range(recipe.num_samples)]
    said = speaker.say(LEARNER, [prompt.ids for prompt in asked], recipe.temperature)
    principles = draw_principles(len(asked), constitution, recipe)
    return [Draft(*parts) for parts in zip(asked, said, principles, strict=True)]


def draw_principles(
    number: int, constitution: Constitution, recipe: SelfCritiqueRecipe
) -> list[list[Principle]]:
    """One principle a round for each of `number` answers, drawn with the recipe's seed."""
    chance = random.Random(recipe.seed)
    return [chance.choices(constitution.principles, k=recipe.max_rounds) for _ in range(number)]


def revise(
    drafts: Sequence[Draft], round_: int, speaker: Speaker, recipe: SelfCritiqueRecipe
) -> None:
    """One round in place, for the drafts in which every critique so far found fault."""
    faulty = [draft for draft in drafts if len(draft.revisions) == round_]
    asked = [draft.to_criticise(round_, recipe) for draft in faulty]
    for draft, critique in zip(faulty, speaker.reply(asked), strict=True):
        draft.critiques.append(critique)
    faulty = [one for one in faulty if not finds_nothing(one.critiques[-1].text, recipe)]
    asked = [draft.to_revise(round_, recipe) for draft in faulty]
    for draft, revision in zip(faulty, speaker.reply(asked), strict=True):
        draft.revisions.append(revision)


def criticise_revisions(
    drafts: Sequence[Draft], speaker: Speaker, recipe: SelfCritiqueRecipe
) -> None:
    """The second critique of each draft's last revision."""
    revised = [draft for draft in drafts if draft.revisions]
    asked = [draft.to_criticise(len(draft.revisions) - 1, recipe) for draft in revised]
    for draft, critique in zip(revised, speaker.reply(asked), strict=True):
        draft.second_critique = critique


def outcome(draft: Draft, recipe: SelfCritiqueRecipe) -> str:
    """`revised`, `no_fault`, or the reason for which the sample is of no use."""
    said = [draft.response, *draft.critiques, *draft.revisions]
    if not all(utterance.ended for utterance in said):
        return "cut_off"
    if not draft.current.text:
        return "empty"
    if not draft.revisions:
        return NO_FAULT
    assert draft.second_critique is not None
    revision = normalised(draft.current.text)
    last = len(draft.revisions) - 1
    principle = draft.principles[last]
    critique = normalised(draft.critiques[last].text)
    requests = [principle.critique_request, principle.revision_request]
    asked = [normalised(request.in_(recipe.language)) for request in requests]
    echoed = any(one in revision for one in [critique, *asked]) or revision in critique
    if echoed or finds_nothing(
        draft.current.text, recipe
    ):  # it speaks as the critic, not to the user
        return "echo"
    if any(revision.startswith(normalised(marker)) for marker in recipe.preamble_markers):
        return "preamble"
    if revision == normalised(draft.response.text):
        return "unchanged"
    if not finds_nothing(draft.second_critique.text, recipe):
        return "still_faulty"
    return REVISED


def is_kept(outcome_: str, recipe: SelfCritiqueRecipe) -> bool:
    """Whether a sample is learned."""
    return outcome_ == REVISED or (outcome_ == NO_FAULT and recipe.keep_faultless)


def finds_nothing(critique: str, recipe: SelfCritiqueRecipe) -> bool:
    """Whether a critique says that there is no fault."""
    return any(marker in critique for marker in recipe.no_fault_markers)


def normalised(text: str) -> str:
    """One space for any white space, case folded."""
    return SPACES.sub(" ", text).strip().casefold()
