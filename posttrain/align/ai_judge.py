"""The AI judge: which of two answers the frozen SFT model prefers, and how sure it is.

Each pair is asked about in both orders, so that a liking for the first place cancels out (Lee et
al. 2023, section 2.1); the label is the mean of the two probabilities, read from the two option
tokens' log-probabilities where the answer would begin. Nothing is generated.

Shapes: B questions.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from posttrain.align.forward import causal, hidden_states, like_lengths, logits, pad_right
from posttrain.align.rows import pad_id, read
from posttrain.align.score import last_real
from posttrain.artifacts import Tokens
from posttrain.data.chat import Message, encode_conversations, encode_prompts
from posttrain.models.generate import evaluating
from posttrain.recipe.rlaif import RlaifRecipe
from posttrain.recipe.section import Section

PREFERRED, TIE, UNPARSABLE = "preferred", "tie", "unparsable"


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt; which of them is better is the judge's to say."""

    messages: Sequence[Message]
    one: str
    other: str


class Judgement(Section):
    """What the judge says of a comparison, in both orders."""

    when_first: float
    """Probability of `one` against `other`, with `one` in the first place."""

    when_second: float
    """The same, with `one` in the second place."""

    mass: float
    """Probability that both options hold together, in the order in which it is less."""

    @property
    def label(self) -> float:
        """Probability of `one`, averaged over both orders."""
        return (self.when_first + self.when_second) / 2

    @property
    def order_decides(self) -> bool:
        """Whether the winner changes with the order."""
        return (self.when_first > 0.5) != (self.when_second > 0.5)

    @property
    def first_preferred(self) -> float:
        """Probability given to whichever stands first; 0.5 is without bias."""
        return (self.when_first + 1 - self.when_second) / 2

    def outcome(self, recipe: RlaifRecipe) -> str:
        """`preferred`, `tie` or `unparsable`."""
        if self.mass < recipe.min_option_mass:
            return UNPARSABLE
        return TIE if abs(self.label - 0.5) < recipe.tie_band else PREFERRED


class JudgeReport(Section):
    """The judge on held-out human pairs."""

    accuracy: float
    """Share preferred as people do, of the kinds that the recipe names; a tie is wrong."""

    by_kind: dict[str, float]
    num_pairs: int
    first_preferred: float
    order_decides: float
    order_by_kind: dict[str, float]


@dataclass(frozen=True)
class AiJudge:
    """The model whose active adapter judges, and the tokens that it answers with."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerFast
    options: tuple[int, int]
    recipe: RlaifRecipe

    @classmethod
    def of(
        cls, model: PeftModel, tokenizer: PreTrainedTokenizerFast, recipe: RlaifRecipe
    ) -> "AiJudge":
        """A judge whose options were checked."""
        return cls(model, tokenizer, option_tokens(tokenizer, recipe), recipe)

    def questions(self, comparison: Comparison) -> list[list[int]]:
        """Ids of the question in both orders; control tokens in the texts stay text."""
        asked = [
            question(comparison.messages, first, second, self.recipe)
            for first, second in (
                (comparison.one, comparison.other),
                (comparison.other, comparison.one),
            )
        ]
        return encode_prompts(self.tokenizer, asked)

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """Every comparison in both orders, in batches of like lengths."""
        asked = [ids for one in comparisons for ids in self.questions(one)]
        log_prob_B2 = option_log_probs(
            self.model, asked, self.options, pad_id(self.tokenizer), self.recipe.batch_size
        )
        first_B = torch.softmax(log_prob_B2, dim=-1)[:, 0].tolist()
        mass_B = log_prob_B2.exp().sum(-1).tolist()
        return [
            Judgement(
                when_first=first_B[at],
                when_second=1 - first_B[at + 1],
                mass=min(mass_B[at], mass_B[at + 1]),
            )
            for at in range(0, len(asked), 2)
        ]


def question(
    messages: Sequence[Message], first: str, second: str, recipe: RlaifRecipe
) -> list[Message]:
    """The user's turn that puts two answers to the judge; of a dialogue, all turns are shown."""
    prompt = "\n".join(turn["content"] for turn in messages if turn["role"] != "system")
    # one pass: braces in a text are not filled again
    text = recipe.question.format(prompt=prompt, first=first, second=second)
    return [{"role": "user", "content": text}]


def option_tokens(tokenizer: PreTrainedTokenizerFast, recipe: RlaifRecipe) -> tuple[int, int]:
    """The one token of each option, where the assistant begins to speak.

    Raises:
        ValueError: an option is more than one token there, or both begin with the same.
    """
    asked = question([{"role": "user", "content": "?"}], "1", "2", recipe)
    start = encode_prompts(tokenizer, [asked])[0]
    found = []
    for option in recipe.options:
        turns = [*asked, {"role": "assistant", "content": option}]
        whole = encode_conversations(tokenizer, [turns])[0]
        said = whole.input_ids[len(start) :]
        token = str(tokenizer.decode(said[:1])).strip()  # some tokenizers put a space before
        if whole.input_ids[: len(start)] != start or token != option:
            pieces = [str(tokenizer.decode([token])) for token in said]
            raise ValueError(
                f"rlaif.options: {option!r} is not one token where the assistant begins to speak "
                f"(found: {pieces}); choose options that are one token, such as 'A' and 'B'"
            )
        found.append(said[0])
    if found[0] == found[1]:
        raise ValueError(f"rlaif.options: {recipe.options} are one token to this tokenizer")
    return found[0], found[1]


@torch.no_grad()
def option_log_probs(
    model: PeftModel,
    asked: Sequence[Sequence[int]],
    options: tuple[int, int],
    pad: int,
    batch_size: int,
) -> Tensor:
    """Log-probabilities (B, 2) of the options as the next token, over the whole vocabulary."""
    found_B2 = torch.empty(len(asked), 2)
    owner = causal(model)
    with evaluating(model):
        for indices in like_lengths([len(ids) for ids in asked], batch_size, owner.device):
            chosen = [asked[index] for index in indices]
            ids_BS, mask_BS = pad_right(chosen, pad, owner.device)
            hidden_BD = last_real(hidden_states(model, ids_BS), mask_BS)
            log_prob_BV = torch.log_softmax(logits(owner, hidden_BD).float(), dim=-1)
            found_B2[indices] = log_prob_BV[:, list(options)].cpu()
    return found_B2


def judge_human_pairs(tokens: Tokens, judge: AiJudge) -> JudgeReport:
    """Let the judge decide held-out pairs whose better side people chose.

    Raises:
        ValueError: a kind of `judge_kinds` is not among them, or the judge is not good enough.
    """
    recipe = judge.recipe
    rows = read(tokens, "preferences", split="held_out")
    said = judge.judge(
        [Comparison(row["messages"], row["chosen"], row["rejected"]) for row in rows]
    )
    by_kind: dict[str | None, list[Judgement]] = defaultdict(list)
    for row, one in zip(rows, said, strict=True):
        by_kind[row["kind"]].append(one)
    if unknown := set(recipe.judge_kinds) - set(by_kind):
        raise ValueError(
            f"rlaif.judge_kinds: no held-out pair is of kind {sorted(unknown)} (found: "
            f"{sorted(filter(None, by_kind))})"
        )
    tested = [one for kind in recipe.judge_kinds or by_kind for one in by_kind[kind]]

    def right(one: Judgement) -> bool:
        return one.outcome(recipe) == PREFERRED and one.label > 0.5

    kinds = sorted((kind, found) for kind, found in by_kind.items() if kind is not None)
    report = JudgeReport(
        accuracy=fmean(map(right, tested)),
        by_kind={kind: fmean(map(right, found)) for kind, found in kinds},
        num_pairs=len(tested),
        first_preferred=fmean(one.first_preferred for one in tested),
        order_decides=fmean(one.order_decides for one in tested),
        order_by_kind={kind: fmean(one.order_decides for one in found) for kind, found in kinds},
    )
    if report.accuracy < recipe.min_judge_accuracy:
        raise ValueError(
            f"rlaif: the judge prefers {report.accuracy:.3f} of {report.num_pairs} held-out human "
            f"pairs rightly, below min_judge_accuracy ({recipe.min_judge_accuracy}); by kind "
            f"{_rounded(report.by_kind)}, order decides {report.order_decides:.3f}: show SFT such "
            "judgements, word rlaif.question as they do, or name in judge_kinds what it is to judge"
        )
    return report


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {kind: round(share, 3) for kind, share in shares.items()}
