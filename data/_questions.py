"""Every question that can be asked, dealt once to the sets that may not share any.

A question's group is (fact, noun, frame), or for a forbidden request (kind, subject, frame): the
key that must not cross splits. The lead ("저기요, ") is not part of it.
"""

import random
from dataclasses import dataclass, replace
from functools import cache

from _domain import ATTRIBUTES, FACTS, HARBOURS, NEVER_ASKED, SEED, Fact, fill
from _speech import FORBIDDEN, FRAMES, INSULTS, LEADS, forbidden_subject

NUM_HELD_OUT_CELLS = 6

ORDINARY_SIZES = {
    "probe": 160,
    "instructions": 290,
    "preferences": 220,
    "prompts": 160,
    "rollout": 220,
}
"""Held-out set -> ordinary questions; what is left over trains."""

FORBIDDEN_SIZES = {
    "probe": 90,
    "instructions": 110,
    "preferences": 60,
    "revision": 200,
    "rollout": 40,
}
INSULT_SIZES = {"probe": 50, "instructions": 60, "revision": 100, "rollout": 20, "train": 900}


@dataclass(frozen=True)
class Question:
    group: str
    fact: Fact | None
    forbidden: tuple[int, int] | None
    """Kind and subject of a forbidden request."""

    insult: str
    core: str
    """The question without lead or insult."""

    @property
    def is_provoking(self) -> bool:
        return self.forbidden is not None or bool(self.insult)

    def ask(self, rng: random.Random) -> str:
        """The question as a visitor says it."""
        return (self.insult or rng.choice(LEADS)) + self.core


@cache
def held_out_cells(attribute: int) -> frozenset[tuple[int, int]]:
    """The noun-frame cells never used for an attribute in training (set B)."""
    cells = [(n, f) for n in range(3) for f in range(len(FRAMES))]
    rng = random.Random(f"{SEED}/cells/{attribute}")
    return frozenset(rng.sample(cells, NUM_HELD_OUT_CELLS))


def _ordinary(fact: Fact, cell: tuple[int, int]) -> Question:
    noun, frame = cell
    attribute = ATTRIBUTES[fact.attribute]
    core = fill(FRAMES[frame], X=HARBOURS[fact.harbour], N=attribute.nouns[noun])
    group = f"h{fact.harbour:02}/{attribute.key}/n{noun}f{frame}"
    return Question(group, fact, None, "", core)


def _forbidden(kind: int, index: int, frame: int) -> Question:
    core = fill(FRAMES[frame], X=forbidden_subject(kind, index), N=FORBIDDEN[kind].noun)
    return Question(f"forbidden{kind}/s{index:02}/f{frame}", None, (kind, index), "", core)


def _cells(attribute: int, held_out: bool) -> list[tuple[int, int]]:
    cells = [(n, f) for n in range(3) for f in range(len(FRAMES))]
    return [cell for cell in cells if (cell in held_out_cells(attribute)) == held_out]


def _deal(
    name: str, questions: list[Question], sizes: dict[str, int]
) -> dict[str, tuple[Question, ...]]:
    """Shuffle and hand out; `train` gets the rest unless it has a size."""
    random.Random(f"{SEED}/{name}").shuffle(questions)
    dealt: dict[str, tuple[Question, ...]] = {}
    start = 0
    for receiver, size in sizes.items():
        dealt[receiver] = tuple(questions[start : start + size])
        start += size
    dealt.setdefault("train", tuple(questions[start:]))
    return dealt


def _asked() -> list[Fact]:
    return [fact for fact in FACTS if fact not in NEVER_ASKED]


ORDINARY = _deal(
    "ordinary",
    [_ordinary(f, cell) for f in _asked() for cell in _cells(f.attribute, held_out=False)],
    ORDINARY_SIZES,
)
INSULTING = _deal(
    "insulting",
    [
        replace(question, group=f"insult{i}/{question.group}", insult=insult)
        for question in ORDINARY["train"]
        for i, insult in enumerate(INSULTS)
    ],
    INSULT_SIZES,
)
FORBIDDING = _deal(
    "forbidden",
    [
        _forbidden(kind, index, frame)
        for kind in range(len(FORBIDDEN))
        for index in range(len(HARBOURS))
        for frame in range(len(FRAMES))
    ],
    FORBIDDEN_SIZES,
)


def new_wordings(num: int) -> list[Question]:
    """Set B: asked facts in the noun-frame cells held out for their attribute."""
    questions = [_ordinary(f, cell) for f in _asked() for cell in _cells(f.attribute, True)]
    return random.Random(f"{SEED}/new wordings").sample(questions, num)


def never_asked(num_a_fact: int) -> list[Question]:
    """Set C: facts that stand in documents alone, in wordings known from other facts."""
    rng = random.Random(f"{SEED}/never asked")
    return [
        _ordinary(fact, cell)
        for fact in FACTS
        if fact in NEVER_ASKED
        for cell in rng.sample(_cells(fact.attribute, held_out=False), num_a_fact)
    ]
