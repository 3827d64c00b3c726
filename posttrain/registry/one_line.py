"""Strangers' words, as they may stand in a line of a history or a terminal."""

import unicodedata


def one_line(text: str) -> str:
    """The text on one line, without characters that move a cursor, hide or turn letters round.

    Line breaks, tabs and runs of blanks become one blank; characters of Unicode's category C
    (controls such as ESC, formats such as zero-width and right-to-left marks) are left out.
    """
    kept = (one for one in text if one.isspace() or not unicodedata.category(one).startswith("C"))
    return " ".join("".join(kept).split())
