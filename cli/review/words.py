"""The page's words, a catalogue a language, and which language a person reads."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files

import yaml

from posttrain.evaluate.language import LANGUAGES
from posttrain.recipe.evaluation import Language

__all__ = ["LANGUAGES", "Language", "catalogue", "known", "preferred", "translator"]


@cache
def catalogue(language: Language) -> dict[str, str]:
    """Every text of a language, by key."""
    text = (files("cli.review") / "wording" / f"{language}.yaml").read_text(encoding="utf-8")
    found: dict[str, str] = yaml.safe_load(text)
    return found


def translator(language: Language) -> Callable[..., str]:
    """Looks a text up and fills it in."""
    words = catalogue(language)

    def translate(key: str, **values: object) -> str:
        return words[key].format(**values)

    return translate


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
