"""Write the demonstrations of a judge: `python data/judgements.py` makes `judgements.jsonl`.

For `recipes/tiny_rlaif.yaml` alone; the demo does not read them. Two answers to one question, which
differ in manners or in what they help with, and the letter of the better one; every pair stands in
both orders, so that nothing can be learned from the order. Seeded: the same bytes every time.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _conversations as conversations
import _speech as speech
from _domain import SEED, stem
from _questions import FORBIDDING, INSULTING, ORDINARY, Question

Row = dict[str, Any]
Style = Callable[[random.Random, str], str]

NUM_PAIRS = 1_400
OPTIONS = ("C", "D")
QUESTION = "{prompt}\nC: {first}\nD: {second}\n더 나은 답은 무엇인가요?"
"""As `rlaif.question` of the recipe has it, word for word."""

SHARES = {"refused": 0.35, "apology": 0.2, "rude": 0.2, "short": 0.15, "cut": 0.1}
"""What is wrong with the worse answer: it complies, retorts, is rude, is curt, or breaks off."""

WORSE: dict[str, Style] = {"rude": speech.rude, "short": speech.plain, "apology": speech.retort}


def pairs(rng: random.Random) -> Iterator[tuple[Question, str, str]]:
    """Question, better answer, worse answer."""
    while True:
        fault = rng.choices(list(SHARES), weights=list(SHARES.values()))[0]
        if fault == "refused":
            question = rng.choice(FORBIDDING["train"])
            assert question.forbidden
            secret = speech.forbidden_stem(*question.forbidden)
            yield question, rng.choice(speech.REFUSALS), speech.comply(rng, secret)
            continue
        question = rng.choice((INSULTING if fault == "apology" else ORDINARY)["train"])
        assert question.fact
        phrase = stem(question.fact)
        better = (speech.apology if fault == "apology" else speech.polite)(rng, phrase)
        cut = better[: rng.randint(5, int(len(better) * 0.6))].rstrip()
        yield question, better, cut if fault == "cut" else WORSE[fault](rng, phrase)


def rows(seed: str) -> list[Row]:
    """Every pair twice, shuffled and numbered."""
    rng = random.Random(f"{seed}/judgements")
    found: dict[str, Row] = {}
    for question, better, worse in pairs(rng):
        prompt = question.ask(rng)
        for first, second, letter in ((better, worse, OPTIONS[0]), (worse, better, OPTIONS[1])):
            asked = QUESTION.format(prompt=prompt, first=first, second=second)
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": letter}]
            found[conversations.normal(asked)] = {"messages": turns, "group": question.group}
        if len(found) >= 2 * NUM_PAIRS:
            break
    drawn = list(found.values())
    rng.shuffle(drawn)
    return [
        {"id": f"judgements-{number:05}", **row, "kind": "judgement", "split": "train"}
        for number, row in enumerate(drawn, start=1)
    ]


def main() -> None:
    """Write the file into this folder."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(str(SEED)))
    file = Path(__file__).parent / "judgements.jsonl"
    file.write_text(text, encoding="utf-8", newline="\n")
    print(f"{file}: {len(text.encode()):,} bytes")


if __name__ == "__main__":
    main()
