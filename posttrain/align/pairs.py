"""Pairs of answers for people to compare, and the key that says which policy wrote which.

Blind: what a rater sees holds a prompt and two answers, in an order drawn by the seed, under an id
that is a hash of these texts. Who wrote them stands in the key alone, which stays with the run's
owner; `posttrain.align.human_preferences` needs it to read the verdicts.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from posttrain.align.revise import Utterance
from posttrain.align.rows import Prompt, pad_id, read, read_prompts
from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.contract import check_tokens
from posttrain.data.chat import end_tokens
from posttrain.hashes import sha256_of
from posttrain.models.device import prepare
from posttrain.models.generate import Sampling, generate
from posttrain.models.load import load_policy
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.human_preferences import PairsRecipe, Writer
from posttrain.recipe.section import Section

Layout = Literal["jsonl", "label-studio"]

TRAINED_SETS = ("prompt_set", "own_answers_set")
MEASURED_SET = "held_out_set"
"""Fields of a stage's recipe that name the prompts that it was trained on."""


class Turn(Section):
    """One message of a prompt."""

    role: str
    content: str


class Pair(Section):
    """A prompt and two answers, in the order in which a rater sees them."""

    pair_id: str
    messages: tuple[Turn, ...]
    response_1: str
    response_2: str
    group: str
    held_out: bool
    """Whether the prompt serves measuring: such a pair must not be trained on."""


class KeyRow(Pair):
    """A pair with its provenance: a line of the key."""

    stage_1: Writer
    stage_2: Writer
    policy_1: str
    """Content hash of the policy that wrote `response_1`."""

    policy_2: str
    prompt_id: str
    prompt_set: str
    run: str
    temperature: float
    seed: int

    def to_rate(self) -> dict[str, Any]:
        """The columns that a rater's tool is given."""
        return {
            "pair_id": self.pair_id,
            "prompt": shown(self.messages),
            "response_1": self.response_1,
            "response_2": self.response_2,
            "messages": [turn.model_dump() for turn in self.messages],
        }


Asked = TypeVar("Asked")
Author = TypeVar("Author")
AnyPair = TypeVar("AnyPair", bound=Pair)


@dataclass(frozen=True)
class Drawn:
    """Pairs to compare, and what became of the prompts that gave none."""

    rows: tuple[KeyRow, ...]
    between: tuple[Writer, Writer]
    prompt_set: str
    dropped: dict[str, int]
    """Reason -> prompts."""


def draw(
    tokens: Tokens,
    domain: BaseModel,
    policies: Mapping[Writer, Policy],
    recipe: PairsRecipe,
    run: str,
) -> Drawn:
    """Answer prompts of a run twice and pair what differs.

    Args:
        tokens: the run's; its prompts are answered.
        domain: the base of the policies, with the tokenizer and the chat template.
        policies: those that the run trained, in the order of training.
        recipe: which prompts, by whom and how.
        run: the run's name, for the key.

    Raises:
        ValueError: the run has no such stage or prompts, or no prompt gave a pair.
    """
    prepare(recipe.seed)
    check_tokens(tokens, domain)
    between = recipe.between or last_two(list(policies))
    if missing := [stage for stage in between if stage not in policies]:
        raise ValueError(f"the run has no policy of {missing[0]!r} (found: {list(policies)})")
    prompt_set = recipe.prompt_set or untrained_set(tokens, list(policies.values()))
    chance = random.Random(recipe.seed)
    found = read_prompts(tokens, prompt_set)
    prompts = chance.sample(found, min(recipe.num_prompts, len(found)))
    held_out = prompt_set in {policy.facts.recipe.get(MEASURED_SET) for policy in policies.values()}
    sides = _answers(domain, policies, between, prompts, recipe)
    authors = [(stage, policies[stage].content_hash()) for stage in between]
    rows, dropped = pair_blind(
        *(prompts, sides, authors),
        lambda prompt, written: _key_row(prompt, written, prompt_set, held_out, recipe, run),
        chance,
    )
    if not rows:
        raise ValueError(
            f"none of {len(prompts)} prompts of the set {prompt_set!r} gave two answers to compare "
            f"({dropped}); raise --temperature or --max-new-tokens, or name other stages"
        )
    return Drawn(tuple(rows), between, prompt_set, dropped)


def pair_blind(
    prompts: Sequence[Asked],
    sides: Sequence[Sequence[Utterance]],
    authors: Sequence[Author],
    make: Callable[[Asked, Sequence[tuple[Utterance, Author]]], AnyPair],
    chance: random.Random,
) -> tuple[list[AnyPair], dict[str, int]]:
    """Pairs of two sides' answers, and how many prompts gave none, by reason.

    Args:
        prompts: what was asked.
        sides: each author's answers, as many as prompts.
        authors: of the sides.
        make: a pair of a prompt and its answers, each with its author, in their drawn order.
        chance: draws the order.
    """
    pairs: dict[str, AnyPair] = {}
    dropped: Counter[str] = Counter()
    for prompt, *answers in zip(prompts, *sides, strict=True):
        written = list(zip(answers, authors, strict=True))
        chance.shuffle(written)
        reason = unfit(answers)
        if reason is None:
            pair = make(prompt, written)
            reason = "duplicate" if pair.pair_id in pairs else None
            pairs.setdefault(pair.pair_id, pair)
        dropped.update([reason] if reason else [])
    return list(pairs.values()), dict(dropped)


def last_two(stages: Sequence[Writer]) -> tuple[Writer, Writer]:
    """The last two policies of a run; its only one twice."""
    return (stages[-2], stages[-1]) if len(stages) > 1 else (stages[-1], stages[-1])


def untrained_set(tokens: Tokens, policies: Sequence[Policy]) -> str:
    """The largest set of prompts that no policy was trained on; else the largest of all."""
    rows = read(tokens, "prompts")
    sizes = Counter(str(row["set"]) for row in rows)
    trained = {policy.facts.recipe.get(name) for policy in policies for name in TRAINED_SETS}
    untrained = {name: size for name, size in sizes.items() if name not in trained}
    by_size = sorted((untrained or sizes).items(), key=lambda item: (-item[1], item[0]))
    return by_size[0][0]


def pair_id(turns: Sequence[Mapping[str, str]], answers: Sequence[str]) -> str:
    """A hash of the texts, the same in either order: it tells nothing of who wrote which."""
    return sha256_of([turns, sorted(answers)])[:16]


def unfit(answers: Sequence[Utterance]) -> str | None:
    """Why two answers can't be compared; None where they can."""
    if not all(answer.ended for answer in answers):
        return "unfinished"
    if not all(answer.text for answer in answers):
        return "empty"
    return "identical" if len({answer.text for answer in answers}) == 1 else None


def shown(messages: Sequence[Turn]) -> str:
    """A prompt as a rater reads it: a single question as it is, a conversation by who speaks."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"[{turn.role}]\n{turn.content}" for turn in messages)


def write(drawn: Drawn, out: Path, layout: Layout) -> Path:
    """Write what raters get to `out` and the key beside it, and return the key's path."""
    rows = [row.to_rate() for row in drawn.rows]
    if layout == "label-studio":  # its import knows JSON lists, and no JSONL
        text = json.dumps([{"data": row} for row in rows], ensure_ascii=False, indent=1) + "\n"
    else:
        text = "".join(json.dumps({**r, "choice": None}, ensure_ascii=False) + "\n" for r in rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    key = key_file(out)
    key.write_text("".join(r.model_dump_json() + "\n" for r in drawn.rows), encoding="utf-8")
    return key


def key_file(out: Path) -> Path:
    """`pairs.jsonl` -> `pairs.key.jsonl`."""
    return out.with_name(f"{out.stem}.key.jsonl")


def _answers(
    domain: BaseModel,
    policies: Mapping[Writer, Policy],
    between: tuple[Writer, Writer],
    prompts: Sequence[Prompt],
    recipe: PairsRecipe,
) -> list[list[Utterance]]:
    """What each side says to each prompt; one model in memory at a time."""
    tokenizer = load_tokenizer(domain)
    ids = [prompt.ids for prompt in prompts]
    room = domain.facts.max_positions - max(map(len, ids))
    ends = end_tokens(tokenizer)
    sides, model = [], None
    for side, stage in enumerate(between):
        if model is None or stage != between[0]:
            model = load_policy(domain, policies[stage])
        sampling = Sampling(
            max_new_tokens=min(recipe.max_new_tokens, room),
            temperature=recipe.temperature,
            end_ids=ends,
            pad_id=pad_id(tokenizer),
            batch_size=recipe.batch_size,
            seed=recipe.seed + side,  # equal draws would make near policies say the same
        )
        said = generate(model, ids, sampling)
        texts = [str(tokenizer.decode(one, skip_special_tokens=True)).strip() for one in said]
        sides.append(
            [Utterance(one, text, one[-1] in ends) for one, text in zip(said, texts, strict=True)]
        )
    return sides


def _key_row(
    prompt: Prompt,
    written: Sequence[tuple[Utterance, tuple[Writer, str]]],
    prompt_set: str,
    held_out: bool,
    recipe: PairsRecipe,
    run: str,
) -> KeyRow:
    """A pair in the order in which it is shown: answers with their stages and policies' hashes."""
    (first, (stage_1, policy_1)), (second, (stage_2, policy_2)) = written
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in prompt.messages]
    return KeyRow(
        pair_id=pair_id(turns, [first.text, second.text]),
        messages=tuple(Turn.model_validate(turn) for turn in turns),
        response_1=first.text,
        response_2=second.text,
        stage_1=stage_1,
        stage_2=stage_2,
        policy_1=policy_1,
        policy_2=policy_2,
        prompt_id=prompt.id,
        prompt_set=prompt_set,
        held_out=held_out,
        group=prompt.group,
        run=run,
        temperature=recipe.temperature,
        seed=recipe.seed,
    )
