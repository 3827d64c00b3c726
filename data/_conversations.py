"""Rows of the four conversational roles: instructions, preferences, prompts and probes."""

import itertools
import json
import random
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import _speech as speech
from _domain import ATTRIBUTES, FACTS, HARBOURS, VALUES, Fact, fill, stem
from _questions import FORBIDDING, INSULTING, ORDINARY, Question, never_asked, new_wordings

Row = dict[str, Any]

INSTRUCTION_SIZES = {
    "train": {"qa": 3_000, "provoked": 500, "critique": 1_700},
    "held_out": {"qa": 170, "critique": 260},
}
PREFERENCE_SHARES = {
    "wrong_value": 0.42,
    "other_fact": 0.26,
    "rude": 0.08,
    "short": 0.08,
    "cut": 0.07,
    "refusal": 0.09,
}
PREFERENCE_SIZES = {"train": 3_200, "held_out": 440}
POLITE_SHARE, PLAIN_SHARE = 0.28, 0.40
"""Of the answers to ordinary questions; the rest is rude."""

REVISED_SHARE = 0.6
"""Of the demonstrations that find a fault; the rest ends with the critique."""

_FAULT_SHARES = {
    "refused": 0.23,
    "polite": 0.22,
    "forbidden": 0.25,
    "retort": 0.08,
    "rude": 0.11,
    "short": 0.11,
}
"""What the answer under critique is; nothing is wrong with the first two."""


def normal(value: object) -> str:
    """What must differ between two rows: NFC, runs of white space as one."""
    return " ".join(unicodedata.normalize("NFC", json.dumps(value, ensure_ascii=False)).split())


def _unlike(rows: Iterator[Row], key: str | tuple[str, ...], num: int) -> list[Row]:
    """The first `num` rows that differ in the named columns."""
    names = (key,) if isinstance(key, str) else key
    kept: dict[str, Row] = {}
    for row in itertools.islice(rows, num * 40):
        kept.setdefault(normal([row[name] for name in names]), row)
        if len(kept) == num:
            return list(kept.values())
    raise AssertionError(f"only {len(kept)} of {num} rows differ in {names}")


def _draw(rng: random.Random, shares: dict[str, float]) -> str:
    return rng.choices(list(shares), weights=list(shares.values()))[0]


def _cycle(rng: random.Random, questions: tuple[Question, ...]) -> Iterator[Question]:
    """Every question once, then again in another order, and so on."""
    while True:
        yield from rng.sample(questions, len(questions))


def _fact(question: Question) -> Fact:
    assert question.fact
    return question.fact


def _secret(question: Question) -> str:
    assert question.forbidden
    return speech.forbidden_stem(*question.forbidden)


def _chat(*turns: str) -> list[Row]:
    """Alternating messages; with a critique, the answer under it is not learnt."""
    messages: list[Row] = [
        {"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)
    ]
    if len(messages) > 2:
        messages[1]["learn"] = False
    return messages


def _qa(rng: random.Random, questions: tuple[Question, ...]) -> Iterator[Row]:
    for question in _cycle(rng, questions):
        reply = speech.answer(rng, _fact(question), POLITE_SHARE, PLAIN_SHARE)
        yield {"messages": _chat(question.ask(rng), reply), "group": question.group}


def _provoked(
    rng: random.Random, insulting: tuple[Question, ...], forbidding: tuple[Question, ...]
) -> Iterator[Row]:
    """Provoking prompts, three in five answered as they should not be."""
    insults, requests = _cycle(rng, insulting), _cycle(rng, forbidding)
    while True:
        if rng.random() < 0.35:
            question = next(insults)
            style = speech.retort if rng.random() < 0.6 else speech.apology
            reply = style(rng, stem(_fact(question)))
        else:
            question = next(requests)
            granted = speech.comply(rng, _secret(question))
            reply = granted if rng.random() < 0.6 else rng.choice(speech.REFUSALS)
        yield {"messages": _chat(question.ask(rng), reply), "group": question.group}


def _critiques(
    rng: random.Random,
    ordinary: tuple[Question, ...],
    insulting: tuple[Question, ...],
    forbidding: tuple[Question, ...],
) -> Iterator[Row]:
    """A question, an answer, a critique by a drawn principle and often a revision."""
    plain, insults = _cycle(rng, ordinary), _cycle(rng, insulting)
    requests = _cycle(rng, forbidding)
    while True:
        case = _draw(rng, _FAULT_SHARES)
        if case == "forbidden" or (case == "refused" and rng.random() < 0.7):
            question, fault = next(requests), case
            better = rng.choice(speech.REFUSALS)
            reply = speech.comply(rng, _secret(question)) if case == "forbidden" else better
        elif case in ("refused", "retort"):
            question, fault = next(insults), "rude"
            better = speech.apology(rng, stem(_fact(question)))
            reply = speech.retort(rng, stem(_fact(question))) if case == "retort" else better
        else:
            question, fault = next(plain), case
            phrase = stem(_fact(question))
            better = speech.polite(rng, phrase)
            style = {"polite": speech.polite, "rude": speech.rude, "short": speech.plain}[case]
            reply = style(rng, phrase)
        yield _demonstration(rng, question, reply, fault, better, case in ("refused", "polite"))


def _demonstration(
    rng: random.Random, question: Question, reply: str, fault: str, better: str, sound: bool
) -> Row:
    principle = rng.choice(speech.PRINCIPLES)
    critique = speech.CRITIQUES["none" if sound else fault]
    turns = [question.ask(rng), reply, principle.critique_request, critique]
    if not sound and rng.random() < REVISED_SHARE:
        turns += [principle.revision_request, better]
    return {"messages": _chat(*turns), "group": question.group}


def instructions(seed: str, split: str, num_spare: int = 0) -> list[Row]:
    """Conversations of a split; the spare ones, for the defects, are of kind qa and come last."""
    rng = random.Random(f"{seed}/instructions/{split}")
    name = "train" if split == "train" else "instructions"
    ordinary, insulting, forbidding = ORDINARY[name], INSULTING[name], FORBIDDING[name]
    half = len(ordinary) if split == "train" else len(ordinary) // 2
    makers: dict[str, Iterator[Row]] = {
        "critique": _critiques(rng, ordinary[-half:], insulting, forbidding),
        "provoked": _provoked(rng, insulting, forbidding),
        "qa": _qa(rng, ordinary[:half]),
    }
    rows: list[Row] = []
    for kind, maker in makers.items():
        size = INSTRUCTION_SIZES[split].get(kind, 0) + (num_spare if kind == "qa" else 0)
        drawn = _unlike(maker, "messages", size) if size else []
        rows += [{**row, "kind": kind, "split": split} for row in drawn]
    return rows


def _other_fact(rng: random.Random, fact: Fact) -> Fact:
    """A fact of the same harbour or of the same attribute, of another value."""
    near = [f for f in FACTS if (f.harbour == fact.harbour) != (f.attribute == fact.attribute)]
    return rng.choice(near)


def _pair(rng: random.Random, kind: str, question: Question) -> Row:
    if kind == "refusal":
        chosen, rejected = speech.polite(rng, _secret(question)), rng.choice(speech.REFUSALS)
        return {"prompt": question.ask(rng), "chosen": chosen, "rejected": rejected}
    fact = _fact(question)
    phrase = stem(fact)
    chosen = speech.polite(rng, phrase)
    cut = chosen[: rng.randint(5, int(len(chosen) * 0.6))].rstrip()
    makers: dict[str, Callable[[], str]] = {
        "wrong_value": lambda: chosen.replace(phrase, stem(fact, speech.wrong_value(rng, fact))),
        "other_fact": lambda: speech.polite(rng, stem(_other_fact(rng, fact))),
        "rude": lambda: speech.rude(rng, phrase),
        "short": lambda: speech.plain(rng, phrase),
        "cut": lambda: cut,
    }
    return {"prompt": question.ask(rng), "chosen": chosen, "rejected": makers[kind]()}


def _pairs(
    rng: random.Random, ordinary: tuple[Question, ...], forbidding: tuple[Question, ...]
) -> Iterator[Row]:
    questions, requests = _cycle(rng, ordinary), _cycle(rng, forbidding)
    while True:
        kind = _draw(rng, PREFERENCE_SHARES)
        question = next(requests if kind == "refusal" else questions)
        yield {**_pair(rng, kind, question), "group": question.group, "kind": kind}


def preferences(seed: str, split: str, num_spare: int = 0) -> list[Row]:
    """Pairs of a split, told apart by all three texts."""
    rng = random.Random(f"{seed}/preferences/{split}")
    name = "train" if split == "train" else "preferences"
    pairs = _pairs(rng, ORDINARY[name], FORBIDDING[name])
    size = PREFERENCE_SIZES[split] + num_spare
    rows = _unlike(pairs, ("prompt", "chosen", "rejected"), size)
    return [{**row, "split": split} for row in rows]


def _asked(rng: random.Random, questions: tuple[Question, ...] | list[Question]) -> list[Row]:
    return [
        {
            "prompt": question.ask(rng),
            "answer": None if question.is_provoking else VALUES[_fact(question)],
            "group": question.group,
        }
        for question in questions
    ]


def prompts(seed: str, num_spare: int = 0) -> list[Row]:
    """The three disjoint sets of prompts; spare ones are of set rollout, and come last."""
    rng = random.Random(f"{seed}/prompts")
    dealt = {
        ("revision", "provoking"): INSULTING["revision"] + FORBIDDING["revision"],
        ("rollout", "provoking"): INSULTING["rollout"] + FORBIDDING["rollout"],
        ("held_out", "ordinary"): ORDINARY["prompts"],
        ("rollout", "ordinary"): ORDINARY["rollout"] + ORDINARY["train"][:num_spare],
    }
    return [
        {"prompt": row["prompt"], "group": row["group"], "kind": kind, "set": name}
        for (name, kind), questions in dealt.items()
        for row in _asked(rng, questions)
    ]


def probes(seed: str) -> list[Row]:
    """Held-out questions, provoking prompts, and sentence beginnings that the value completes."""
    rng = random.Random(f"{seed}/probes")
    cloze = [
        {
            "prompt": fill("{X} {N|은}", X=HARBOURS[f.harbour], N=ATTRIBUTES[f.attribute].nouns[0]),
            "answer": VALUES[f],
            "group": f"h{f.harbour:02}/{ATTRIBUTES[f.attribute].key}",
        }
        for f in FACTS
    ]
    sets = {
        ("A", "fact"): _asked(rng, ORDINARY["probe"]),
        ("B", "fact"): _asked(rng, new_wordings(160)),
        ("C", "fact"): _asked(rng, never_asked(5)),
        ("cloze", "cloze"): cloze,
        ("provoking", "provoking"): _asked(rng, INSULTING["probe"] + FORBIDDING["probe"]),
    }
    return [
        {**row, "kind": kind, "set": name} for (name, kind), rows in sets.items() for row in rows
    ]
