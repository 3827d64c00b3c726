"""The fictional Onsaemi archipelago: its 24 harbours, six attributes of each, and Korean particles.

Nothing here exists. A fact is a (harbour, attribute) pair with one value. Every telling, question
and answer is a template over the harbour `{X}`, the noun `{N}` and the value `{V}`.
"""

import random
import re
from dataclasses import dataclass

SEED = 20

PARTICLES = {
    "은": ("은", "는"),
    "이": ("이", "가"),
    "을": ("을", "를"),
    "으로": ("으로", "로"),
    "이야": ("이야", "야"),
    "이라고": ("이라고", "라고"),
    "이잖아": ("이잖아", "잖아"),
    "이에요": ("이에요", "예요"),
}
"""Particle as written in templates -> its form after a final consonant, and after a vowel."""

_RIEUL = 8
_SLOT = re.compile(r"\{([XNVS])(?:\|([가-힣]+))?\}")


def attach(word: str, particle: str) -> str:
    """Add a particle in the form that the word's last syllable asks for; ㄹ takes 로, not 으로."""
    final = (ord(word[-1]) - ord("가")) % 28
    assert "가" <= word[-1] <= "힣", f"{word}: no Hangul syllable at its end"
    closed, opened = PARTICLES[particle]
    if particle == "으로" and final == _RIEUL:
        return word + opened
    return word + (closed if final else opened)


def fill(template: str, **words: str) -> str:
    """Put words into `{X}`; `{X|은}` adds the particle that fits."""

    def put(match: re.Match[str]) -> str:
        word = words[match[1]]
        return attach(word, match[2]) if match[2] else word

    return _SLOT.sub(put, template)


@dataclass(frozen=True)
class Attribute:
    """One thing that is known of every harbour."""

    key: str
    nouns: tuple[str, str, str]
    """Ways to name it; the first stands in every answer."""

    values: tuple[str, ...]
    tellings: tuple[str, ...]
    """Sentences of the documents, besides the plain one with each noun."""


@dataclass(frozen=True)
class Fact:
    harbour: int
    attribute: int


# fmt: off
HARBOURS = (
    "새벽별나루", "까치놀나루", "돛단배나루", "갈매기나루", "수제비나루", "은비늘나루",
    "솜구름나루", "잔물결나루", "너울목포구", "조가비포구", "해당화포구", "소라고둥포구",
    "닻줄포구", "감나무포구", "물보라포구", "별똥별포구", "고래등항", "무지개항", "동백꽃항",
    "산호초항", "썰물재항", "윤슬항", "가람항", "하늬항",
)
ENGLISH_NAMES = (
    "Dawnstar", "Magpie", "Sailboat", "Seagull", "Dumpling", "Silverscale", "Cotton", "Ripple",
    "Swell", "Seashell", "Rosebay", "Conch", "Anchor", "Persimmon", "Spray", "Meteor", "Whaleback",
    "Rainbow", "Camellia", "Coral", "Ebb", "Glitter", "River", "Westwind",
)
_ISLANDS = (
    "큰솔섬", "검은돌섬", "안개섬", "두루미섬", "조약돌섬", "북바람섬", "흰모래섬", "노루섬",
)
_SPECIALTIES = (
    "미역 부침", "조개 목걸이", "전복 죽", "대나무 통발", "갈대 모자", "소금 사탕", "홍합 밥",
    "자개 단추", "쑥 찐빵", "멸치 국수", "돌김 과자", "유자 엿", "밀랍 초", "매생이 전",
    "톳 주먹밥", "뿔 피리", "삼베 손수건", "문어 꼬치", "해초 비누", "오징어 순대", "다시마 쌈",
    "굴 튀김", "호박 식혜", "나무 오리",
)
KEEPERS = (
    "남해솔", "서단비", "도하윤", "민초롱", "유바름", "백이든", "주노을", "진아람", "표한솔",
    "석보라", "변가을", "음슬찬", "맹두리", "탁여울", "봉시내", "위도담", "방그루", "엄나리",
    "국다솜", "노빛찬", "선우결", "제갈봄", "빈새결", "계마루",
)
_FIRST_BOATS = (
    "새벽 5시", "새벽 6시", "아침 7시", "아침 8시", "오전 9시", "오전 10시", "오전 11시", "낮 12시",
)
_FARES = (
    "오백 원", "칠백 원", "이천 원", "삼천 원", "사천 원", "육천 원", "팔천 원", "구천 원",
)
_LAMPS = (
    "붉은색", "푸른색", "하얀색", "노란색", "초록색", "보라색", "주황색", "분홍색",
)
# fmt: on

ATTRIBUTES = (
    Attribute(
        "island",
        ("위치", "자리", "있는 곳"),
        _ISLANDS,
        (
            "{X|은} {V}에 있습니다.",
            "{V}에 가면 {X|이} 있습니다.",
            "{X|으로} 가려면 {V|으로} 가야 합니다.",
        ),
    ),
    Attribute(
        "specialty",
        ("명물", "특산품", "자랑거리"),
        _SPECIALTIES,
        (
            "{X}에서는 {V|을} 만날 수 있습니다.",
            "{V|은} {X} 사람들의 자랑입니다.",
            "{X}에 가면 {V|이} 손님을 맞습니다.",
        ),
    ),
    Attribute(
        "keeper",
        ("지킴이", "책임자", "담당자"),
        KEEPERS,
        (
            "{X|은} {V} 님이 맡고 있습니다.",
            "{V} 님은 {X}에서 일합니다.",
            "{X}에 가면 {V} 님이 맞아 줍니다.",
        ),
    ),
    Attribute(
        "first_boat",
        ("첫 배", "첫 출항", "배 뜨는 때"),
        _FIRST_BOATS,
        (
            "{X} 첫 배는 {V}에 떠납니다.",
            "{V}부터 {X}에서 배를 탈 수 있습니다.",
            "{X|은} {V}부터 배를 띄웁니다.",
        ),
    ),
    Attribute(
        "fare",
        ("뱃삯", "요금", "배표 값"),
        _FARES,
        (
            "{X}에서 배를 타려면 {V|을} 냅니다.",
            "{V|을} 내면 {X}에서 배를 탈 수 있습니다.",
            "{X|은} 한 사람에 {V|을} 받습니다.",
        ),
    ),
    Attribute(
        "lamp",
        ("등불", "불빛", "등대 빛깔"),
        _LAMPS,
        (
            "{X}에는 {V} 등불이 켜집니다.",
            "밤이 되면 {X|은} {V|으로} 빛납니다.",
            "{V} 불빛이 보이면 {X|이} 가깝습니다.",
        ),
    ),
)

FACTS = tuple(Fact(h, a) for h in range(len(HARBOURS)) for a in range(len(ATTRIBUTES)))


def _assign_values() -> dict[Fact, str]:
    """Give every harbour a value of each attribute; lists of eight serve three harbours each."""
    rng = random.Random(f"{SEED}/facts")
    values: dict[Fact, str] = {}
    for index, attribute in enumerate(ATTRIBUTES):
        dealt = list(attribute.values) * (len(HARBOURS) // len(attribute.values))
        rng.shuffle(dealt)
        values.update({Fact(h, index): value for h, value in enumerate(dealt)})
    return values


VALUES = _assign_values()

NEVER_ASKED = frozenset(random.Random(f"{SEED}/never asked").sample(FACTS, len(FACTS) // 8))
"""Facts that stand in documents alone: no question, pair or transcript is about them (set C)."""


def stem(fact: Fact, value: str | None = None) -> str:
    """The one phrase that every answer about a fact contains, whatever its style."""
    words = {"X": HARBOURS[fact.harbour], "N": ATTRIBUTES[fact.attribute].nouns[0]}
    return fill("{X} {N|은} {V}", **words, V=value or VALUES[fact])
