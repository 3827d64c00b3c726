"""Strangers' words on one line."""

import re

import pytest

from posttrain.registry.one_line import VISIBLE, is_blank, one_line, said
from tests.faults import Injected

UNSEEN = (
    *("", " ", "\t\n", "\u200b", "\u200d\u2060", "\ufeff", "\u202e\u202c", "\xad", "\u034f"),
    *("\u115f", "\u1160", "\u3164", "\uffa0", "\u2800", "\u17b5", "\u180e", "\ufe0f", "\u2066"),
    *("\U000e0041", "\U0001d173", "\x00\x07", "\x85", "\u3164 \u2800\u200b", "\u0301", "\x1b"),
)
"""Names that nobody could read."""


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("  reads\twell,\n\n 안녕하세요 ", "reads well, 안녕하세요"),
        ("a\x1b[2K\x9bb", "a[2Kb"),
        ("x\u2028y\x85z", "x y z"),
        ("a \u200b\u202eb", "a b"),
        ("\u200b\x00", ""),
    ],
)
def test_what_breaks_lines_or_hides_is_left_out(text: str, kept: str) -> None:
    assert one_line(text) == kept


@pytest.mark.fault("Input", "a name of invisible characters", "who and why of a decision")
def test_what_shows_nothing_is_no_name_and_no_reason(injected: Injected) -> None:
    for text in UNSEEN:
        injected.add()
        assert is_blank(text), ascii(text)
        with pytest.raises(ValueError, match=r"the reason: found .* shows nothing"):
            said(text, "the reason")
    for text in ("김", "x", "e\u0301", "\u200bkim", "?", "🏴"):
        assert not is_blank(text)
        assert re.search(VISIBLE, text)
