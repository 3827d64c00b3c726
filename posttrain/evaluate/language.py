"""Words in every language that the report speaks, from `templates/wording.<language>.yaml`.

A page holds all languages; the reader's choice among them is CSS alone (`report.css`), so that it
works where no script runs. `in_language` says which one a page opens in.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import get_args

import yaml
from markupsafe import Markup, escape

from posttrain.recipe.evaluation import Language

LANGUAGES: tuple[Language, ...] = get_args(Language)

Catalogue = dict[str, dict[str, str]]


@cache
def catalogue(language: Language) -> Catalogue:
    """Section -> key -> words; a section within a section is named `aims.ppo`."""
    source = files("posttrain.evaluate") / "templates" / f"wording.{language}.yaml"
    found: Catalogue = {}
    for section, words in yaml.safe_load(source.read_text(encoding="utf-8")).items():
        for key, value in words.items():
            if isinstance(value, dict):
                found[f"{section}.{key}"] = value
            else:
                found.setdefault(section, {})[key] = value
    return found


@dataclass(frozen=True)
class Text:
    """The same words in every language."""

    en: str
    ko: str

    def in_(self, language: Language) -> str:
        """One of them."""
        return self.ko if language == "ko" else self.en

    def __html__(self) -> Markup:
        """Both, of which the page shows one."""
        if self.en == self.ko:
            return escape(self.en)
        spans = '<span class="en" lang="en">{}</span><span class="ko" lang="ko">{}</span>'
        return Markup(spans).format(self.en, self.ko)  # noqa: S704 -- format escapes its words

    def __bool__(self) -> bool:
        return bool(self.en or self.ko)


def say(key: str, **values: object) -> Text:
    """The words of a key, `sentences.critic`, with values in their places.

    A value that is a `Text` stands in the language of the sentence around it.
    """
    section, _, name = key.rpartition(".")

    def spoken(language: Language) -> str:
        words = catalogue(language)[section][name]
        return words.format(**{name: _in(value, language) for name, value in values.items()})

    return Text(spoken("en"), spoken("ko"))


def plain(words: str) -> Text:
    """What no language changes: a figure, a name, what somebody said."""
    return Text(words, words)


def both(label: Callable[[str, Language], str], name: str) -> Text:
    """A label in every language: `both(stage_label, "ppo")`."""
    return Text(label(name, "en"), label(name, "ko"))


def joined(separator: str, texts: Sequence[Text]) -> Text:
    """Texts one after another."""
    return Text(*(separator.join(text.in_(language) for text in texts) for language in LANGUAGES))


def in_words(texts: Sequence[Text]) -> Text:
    """`a`, `a and b`, `a, b and c`; Korean by commas, since its `and` bends to what it joins."""
    english = [text.en for text in texts]
    last = f" and {english[-1]}" if len(english) > 1 else ""
    listed = ", ".join(english[:-1]) + last if last else english[0]
    return Text(listed, ", ".join(text.ko for text in texts))


def in_language(page: str, language: Language) -> str:
    """A rendered page that opens in another language."""
    page = re.sub(r'<html lang="\w+">', f'<html lang="{language}">', page, count=1)
    page = re.sub(r'(<input [^>]*class="language"[^>]*?) checked>', r"\1>", page)
    chosen = rf'(<input [^>]*id="language-{language}"[^>]*)>'
    return re.sub(chosen, r"\1 checked>", page, count=1)


def _in(value: object, language: Language) -> object:
    return value.in_(language) if isinstance(value, Text) else value
