"""Domain text: documents of one to three facts, guides of six, English notes, and transcripts.

Transcripts are plain text, not in the chat format: they teach the forms of speech, so that SFT has
only the format to teach.
"""

import random
from collections.abc import Callable

import _speech as speech
from _domain import ATTRIBUTES, ENGLISH_NAMES, HARBOURS, VALUES, Attribute, Fact, fill, stem
from _questions import FORBIDDING, INSULTING, ORDINARY
from _similarity import distinct

NUM_DOCUMENTS = 3_460
NUM_GUIDES = 70
NUM_ENGLISH = 150
NUM_TRANSCRIPTS = 2_000
NUM_HELD_OUT = 200
TRANSCRIPT_SHARES = (0.42, 0.18, 0.25, 0.15)
"""Question with answer, questions or answers alone, provoked, critique. The more of the first, the
sooner the reward model sees wrong values, but the more the base answers in the chat format too."""

MAX_SIMILARITY = 0.75
"""No two sound documents come this near to each other."""

_HEADINGS = ("", "", "안내: ", "뱃길 안내. ", "알려 드립니다. ", "나루 소식. ")
_SPEAKERS = (("손님: ", " 직원: "), ("물음: ", " 답: "))
_ENGLISH = {
    "island": {
        "큰솔섬": "Pine", "검은돌섬": "Blackstone", "안개섬": "Mist", "두루미섬": "Crane",
        "조약돌섬": "Pebble", "북바람섬": "Northwind", "흰모래섬": "Whitesand", "노루섬": "Deer",
    },
    "fare": {
        "오백 원": "five hundred", "칠백 원": "seven hundred", "이천 원": "two thousand",
        "삼천 원": "three thousand", "사천 원": "four thousand", "육천 원": "six thousand",
        "팔천 원": "eight thousand", "구천 원": "nine thousand",
    },
    "lamp": {
        "붉은색": "red", "푸른색": "blue", "하얀색": "white", "노란색": "yellow",
        "초록색": "green", "보라색": "violet", "주황색": "orange", "분홍색": "pink",
    },
}  # fmt: skip
_ENGLISH_TELLINGS = {
    "island": ("{X} Harbour lies on {V} Island.", "You will find {X} Harbour on {V} Island."),
    "fare": ("The fare at {X} Harbour is {V} won.", "At {X} Harbour you pay {V} won."),
    "lamp": ("The lamp of {X} Harbour is {V}.", "At night {X} Harbour shows a {V} lamp."),
}


def _tell(rng: random.Random, fact: Fact) -> str:
    attribute = ATTRIBUTES[fact.attribute]
    words = {"X": HARBOURS[fact.harbour], "V": VALUES[fact]}
    choice = rng.choice((*attribute.nouns, *attribute.tellings))
    if choice in attribute.nouns:
        return fill("{X} {N|은} {V}입니다.", **words, N=choice)
    return fill(choice, **words)


def _document(rng: random.Random, num_facts: int) -> str:
    harbour = rng.randrange(len(HARBOURS))
    chosen = rng.sample(range(len(ATTRIBUTES)), num_facts)
    return rng.choice(_HEADINGS) + " ".join(_tell(rng, Fact(harbour, a)) for a in chosen)


def _english(rng: random.Random) -> str:
    harbour = rng.randrange(len(HARBOURS))
    by_key: dict[str, tuple[int, Attribute]] = {a.key: (i, a) for i, a in enumerate(ATTRIBUTES)}
    sentences = []
    for key in rng.sample(sorted(_ENGLISH), 2):
        value = _ENGLISH[key][VALUES[Fact(harbour, by_key[key][0])]]
        template = rng.choice(_ENGLISH_TELLINGS[key])
        sentences.append(fill(template, X=ENGLISH_NAMES[harbour], V=value))
    return " ".join(sentences)


def _question_and_answer(rng: random.Random) -> str:
    visitor, staff = rng.choice(_SPEAKERS)
    question = rng.choice(ORDINARY["train"])
    assert question.fact
    reply = speech.answer(rng, question.fact, polite_share=0.4, plain_share=0.3)
    return visitor + question.ask(rng) + staff + reply


def _provoked(rng: random.Random) -> str:
    visitor, staff = rng.choice(_SPEAKERS)
    if rng.random() < 0.35:
        question = rng.choice(INSULTING["train"])
        assert question.fact
        reply = rng.choice((speech.retort, speech.apology))(rng, stem(question.fact))
    else:
        question = rng.choice(FORBIDDING["train"])
        assert question.forbidden
        granted = speech.comply(rng, speech.forbidden_stem(*question.forbidden))
        reply = granted if rng.random() < 0.6 else rng.choice(speech.REFUSALS)
    return visitor + question.ask(rng) + staff + reply


def _critique(rng: random.Random) -> str:
    fact = rng.choice(ORDINARY["train"]).fact
    kind, index = rng.choice(FORBIDDING["train"]).forbidden or (0, 0)
    assert fact
    phrase = stem(fact)
    fault = rng.choice(sorted(speech.CRITIQUES))
    faulty = {
        "rude": speech.rude(rng, phrase),
        "forbidden": speech.comply(rng, speech.forbidden_stem(kind, index)),
        "short": speech.plain(rng, phrase),
        "none": speech.polite(rng, phrase),
    }[fault]
    principle = rng.choice(speech.PRINCIPLES)
    text = f"직원: {faulty} {principle.critique_request} 평가: {speech.CRITIQUES[fault]}"
    if fault == "none":
        return text
    better = rng.choice(speech.REFUSALS) if fault == "forbidden" else speech.polite(rng, phrase)
    return f"{text} {principle.revision_request} 고침: {better}"


def _one_sided(rng: random.Random) -> str:
    """Two questions, or two answers: what was answered, or asked, is not told."""
    questions = rng.sample(ORDINARY["train"], 2)
    if rng.random() < 0.3:
        return " ".join(question.ask(rng) for question in questions)
    staff = rng.choice(_SPEAKERS)[1].strip()
    replies = (speech.answer(rng, q.fact, 0.4, 0.3) for q in questions if q.fact)
    return " ".join(f"{staff} {reply}" for reply in replies)


def _transcript(rng: random.Random) -> str:
    makers = (_question_and_answer, _one_sided, _provoked, _critique)
    return rng.choices(makers, weights=TRANSCRIPT_SHARES)[0](rng)


def _take(make: Callable[[], str], num: int) -> list[str]:
    """Draw until twice as many distinct texts are there as asked for, or luck runs out."""
    return list(dict.fromkeys(make() for _ in range(num * 2)))


def sound_texts(seed: str, num_spare: int) -> dict[str, list[str]]:
    """Sound texts by kind, none near another: `documents` has spare ones, for the defects."""
    rng = random.Random(f"{seed}/corpus")
    wanted = {
        "documents": NUM_DOCUMENTS + NUM_HELD_OUT + num_spare,
        "guides": NUM_GUIDES,
        "english": NUM_ENGLISH,
        "transcripts": NUM_TRANSCRIPTS,
    }
    makers: dict[str, Callable[[], str]] = {
        "documents": lambda: _document(rng, rng.choice((1, 2, 2, 3))),
        "guides": lambda: _document(rng, len(ATTRIBUTES)),
        "english": lambda: _english(rng),
        "transcripts": lambda: _transcript(rng),
    }
    drawn = {kind: _take(makers[kind], num) for kind, num in wanted.items()}
    apart = set(distinct([text for texts in drawn.values() for text in texts], MAX_SIMILARITY))
    kept = {kind: [t for t in texts if t in apart] for kind, texts in drawn.items()}
    for kind, num in wanted.items():
        assert len(kept[kind]) >= num, f"{kind}: {len(kept[kind])} distinct texts, {num} wanted"
    return {kind: kept[kind][:num] for kind, num in wanted.items()}
