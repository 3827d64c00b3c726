"""Personal data that Korean text may hold: resident registration numbers, e-mail, phone numbers.

Pure functions of strings. Patterns, not a promise: names and addresses are not looked for.
"""

import calendar
import re
import unicodedata
from collections.abc import Callable, Iterator

Span = tuple[int, int]

_RRN = re.compile(r"(?<!\d)(\d{6})([ ]?[-–—][ ]?|[ ])?([1-8]\d{6})(?!\d)", re.ASCII)
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}"
    r"(?![A-Za-z0-9])",
    re.ASCII,
)
_SEPARATOR = r"(?:\)?[ ]?[-.–—][ ]?|\)[ ]?|[ ])"
_PHONE = re.compile(
    r"(?<!\d)(?<!\d[.,:/-])(?:"
    rf"\(?(?:\+|00)82{_SEPARATOR}?\(?0?\)?(?:1[016789]|2|[3-6][1-5]|[57]0)"  # +82 10, +82-2
    r"|\(?0(?:1[016789]|2|[3-6][1-5]|[57]0|50\d)"  # 010, 02, 031-064, 050, 070
    rf"){_SEPARATOR}?\d{{3,4}}{_SEPARATOR}?\d{{4}}(?![\d:/]|[.,-]\d)",
    re.ASCII,
)
_ZERO_WIDTH = re.compile("[\u200b-\u200d\u2060\ufeff]")
_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
_RANDOM_SINCE = (2020, 10)
"""From 5 October 2020 the last six digits are drawn at random: there is no check digit."""


def is_rrn(number: str, has_hyphen: bool) -> bool:
    """Whether 13 digits are a resident registration number (or a foreigner's).

    Born before October 2020: the check digit must fit; it spares order numbers and barcodes that
    happen to start with a date. A number newly given after that month to someone born before it is
    thus missed, 10 times in 11. Born later: nothing can be checked but the date, so the hyphen must
    be there; 13 bare digits are more often something else.
    """
    year, month = _birth_year(number), int(number[2:4])
    if year is None or not 1 <= month <= 12:
        return False
    if not 1 <= int(number[4:6]) <= calendar.monthrange(year, month)[1]:
        return False
    if (year, month) >= _RANDOM_SINCE:
        return has_hyphen
    return int(number[12]) == check_digit(number)


def check_digit(number: str) -> int:
    """Check digit over the first twelve digits; foreigners' numbers (gender 5 to 8) add two."""
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False))
    base = 13 if number[6] in "5678" else 11
    return (base - total % 11) % 10


def _birth_year(number: str) -> int | None:
    if number[6] in "1256":
        return 1900 + int(number[:2])
    year = 2000 + int(number[:2])
    return year if year < 2050 else None  # the future: a barcode such as 8801234567890


def _rrns(text: str) -> Iterator[Span]:
    for match in _RRN.finditer(text):
        hyphen = match.group(2) or ""
        if is_rrn(match.group(1) + match.group(3), has_hyphen=bool(hyphen.strip())):
            yield match.span()


def _emails(text: str) -> Iterator[Span]:
    return (match.span() for match in _EMAIL.finditer(text))


def _phones(text: str) -> Iterator[Span]:
    return (match.span() for match in _PHONE.finditer(text))


FINDERS: dict[str, Callable[[str], Iterator[Span]]] = {
    "rrn": _rrns,
    "email": _emails,
    "phone": _phones,
}
"""Kind -> where it stands in a readable text."""


def readable(text: str) -> str:
    """The text as a reader sees it: full-width digits made plain, zero-width characters dropped."""
    if text.isascii():
        return text
    return _ZERO_WIDTH.sub("", unicodedata.normalize("NFKC", text))


def find(kind: str, text: str) -> Span | None:
    """Where the first personal datum of a kind stands in `readable` text."""
    return next(FINDERS[kind](text), None)


def mask(text: str) -> str:
    """The readable text with every personal datum replaced by its kind in brackets."""
    text = readable(text)
    for kind, finder in FINDERS.items():
        for start, end in reversed(list(finder(text))):
            text = f"{text[:start]}[{kind}]{text[end:]}"
    return text
