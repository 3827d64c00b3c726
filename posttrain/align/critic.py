"""How well the critic judges: its verdicts on held-out answers whose verdict is known."""

from collections.abc import Sequence

from posttrain.align.revise import Speaker, finds_nothing
from posttrain.align.rows import read
from posttrain.artifacts import Tokens
from posttrain.data.chat import Message
from posttrain.recipe.section import Section
from posttrain.recipe.self_critique import SelfCritiqueRecipe


class CriticReport(Section):
    """The critic on held-out answers."""

    accuracy: float
    """Share of verdicts, fault or none, that are the gold ones."""

    fault_recall: float
    """Share of faulty answers that it finds fault with."""

    no_fault_recall: float
    """Share of faultless answers that it lets pass."""

    num_answers: int


def judge_critic(tokens: Tokens, speaker: Speaker, recipe: SelfCritiqueRecipe) -> CriticReport:
    """Let the critic criticise held-out answers.

    Raises:
        ValueError: there are none, or the critic's accuracy is below `min_critic_accuracy`.
    """
    rows = read(tokens, "instructions", kind=recipe.critic_kind, split="held_out")
    cases = [gold_case(row["id"], row["messages"]) for row in rows]
    said = speaker.reply([conversation for conversation, _ in cases])
    report = compare(
        [finds_nothing(gold, recipe) for _, gold in cases],
        [finds_nothing(critique.text, recipe) for critique in said],
    )
    if report.accuracy < recipe.min_critic_accuracy:
        raise ValueError(
            f"self_critique: the critic judges {report.accuracy:.3f} of {report.num_answers} "
            f"held-out answers rightly (faulty ones {report.fault_recall:.3f}, faultless ones "
            f"{report.no_fault_recall:.3f}), below min_critic_accuracy "
            f"({recipe.min_critic_accuracy}); revisions by it would teach nothing: train SFT "
            f"longer, or on more critiques (kind {recipe.critic_kind!r})"
        )
    return report


def gold_case(name: str, messages: Sequence[Message]) -> tuple[list[Message], str]:
    """The conversation up to the request for a critique, and the gold critique.

    Raises:
        ValueError: the conversation has no second answer.
    """
    answers = [place for place, turn in enumerate(messages) if turn["role"] == "assistant"]
    if len(answers) < 2:
        raise ValueError(
            f"instruction {name}: a critique example is question, answer, request, critique; this "
            f"one has {len(answers)} assistant turns"
        )
    return list(messages[: answers[1]]), messages[answers[1]]["content"]


def compare(gold: Sequence[bool], said: Sequence[bool]) -> CriticReport:
    """Figures from verdicts, True meaning no fault; a recall of nothing is 1."""
    right = [ours == theirs for ours, theirs in zip(said, gold, strict=True)]

    def share(faultless: bool) -> float:
        of_these = [one for one, verdict in zip(right, gold, strict=True) if verdict == faultless]
        return sum(of_these) / len(of_these) if of_these else 1.0

    return CriticReport(
        accuracy=sum(right) / len(right),
        fault_recall=share(faultless=False),
        no_fault_recall=share(faultless=True),
        num_answers=len(right),
    )
