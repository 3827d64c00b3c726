"""The page's words, a catalogue a language, and which language a person reads."""

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files

import yaml

from posttrain.evaluate.language import LANGUAGES
from posttrain.recipe.evaluation import Language

__all__ = ["LANGUAGES", "Language", "Translate", "catalogue", "known", "preferred", "translator"]

Translate = Callable[..., str]
"""A key and its values -> words."""

PARTICLE = re.compile(r"(\d)(을\(를\)|이\(가\)|\(으\)로)")
CONSONANT = "013678"
"""Digits whose names end in one: 영 일 삼 육 칠 팔; so do 십 백 천 만."""

RIEUL = "178"
"""Those that end in ㄹ."""


@cache
def catalogue(language: Language) -> dict[str, str]:
    """Every text of a language, by key."""
    text = (files("cli.review") / "wording" / f"{language}.yaml").read_text(encoding="utf-8")
    found: dict[str, str] = yaml.safe_load(text)
    return found


def translator(language: Language) -> Translate:
    """Looks a text up and fills it in."""
    words = catalogue(language)

    def translate(key: str, **values: object) -> str:
        return with_particles(words[key].format(**values))

    return translate


def with_particles(text: str) -> str:
    """Korean particles after a number as it is read: `버전 3이(가)` is `버전 3이`."""
    return PARTICLE.sub(_particle, text)


def _particle(found: re.Match[str]) -> str:
    digit, form = found.groups()
    if form == "(으)로":
        return digit + ("으로" if digit in CONSONANT and digit not in RIEUL else "로")
    after_consonant, after_vowel = form[0], form[2]
    return digit + (after_consonant if digit in CONSONANT else after_vowel)


def preferred(accepted: str) -> Language:
    """The first language of an Accept-Language header that we have, by weight."""
    weighted = []
    for part in accepted.split(","):
        name, _, weight = part.partition(";q=")
        try:
            weighted.append((-float(weight or 1), name.strip().partition("-")[0].lower()))
        except ValueError:
            continue
    for _, name in sorted(weighted, key=lambda one: one[0]):
        if (found := known(name)) is not None:
            return found
    return "en"


def known(name: str | None) -> Language | None:
    """The language, where it is one of ours."""
    return next((language for language in LANGUAGES if language == name), None)
