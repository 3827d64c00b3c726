"""Strangers' words, as they may stand in a line of a history or a terminal."""

import re
import unicodedata

UNSEEN = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb"
)
"""Characters that show nothing, as the inside of a regular expression's class: letters (Hangul's
fillers), symbols (Braille's blank) and marks among them, which no category gives away."""

VISIBLE = f"[^\\s{UNSEEN}]"
"""What a name or a reason must have one of."""


def one_line(text: str) -> str:
    """The text on one line, without characters that move a cursor, hide or turn letters round.

    Line breaks, tabs and runs of blanks become one blank; characters of Unicode's category C
    (controls such as ESC, formats such as zero-width and right-to-left marks) are left out.
    """
    kept = (one for one in text if one.isspace() or not unicodedata.category(one).startswith("C"))
    return " ".join("".join(kept).split())


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing: no character at all, or such as show none."""
    shown = one_line(text)
    # marks alone have no letter to stand on
    return not any(
        re.match(VISIBLE, one) and not unicodedata.category(one).startswith("M") for one in shown
    )


def said(text: str, what: str) -> str:
    """A person's words on one line.

    Raises:
        ValueError: nobody could read them.
    """
    if is_blank(text):
        raise ValueError(f"{what}: found {text!r}, which shows nothing; write a few words")
    return one_line(text)
