"""Strangers' words on one line."""

import pytest

from posttrain.registry.one_line import one_line


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
