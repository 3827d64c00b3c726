"""Answers on a screen: lines, columns, and what a terminal must not see."""

import io
import re
from collections.abc import Generator

import pytest

from cli.show import Columns, Stop, in_turn, num_cells, side_by_side, visible, wrapped

TEXT = (
    "안녕하세요 여러분, the quick brown fox 😀 jumps\n\nover 가나다라마바사아자차카타파하 lazy dogs"
)


class Screen(io.StringIO):
    """A terminal, as far as Python can tell."""

    def isatty(self) -> bool:
        return True


def rows(written: str) -> list[str]:
    """What stays on the screen: of each row what was written last."""
    return [re.sub(r"\x1b\[K", "", row.rsplit("\r", 1)[-1]).rstrip() for row in written.split("\n")]


def spoken(*pieces: str) -> Generator[str]:
    yield from pieces


def test_hangul_and_emoji_take_two_cells_and_marks_none() -> None:
    assert [num_cells(text) for text in ("ab", "한글", "😀", "e\u0301")] == [2, 4, 2, 1]


@pytest.mark.parametrize("width", [8, 13, 40])
def test_lines_fit_and_lose_nothing_but_the_space_they_break_at(width: int) -> None:
    lines = wrapped(TEXT, width)
    assert all(num_cells(line) <= width for line in lines)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", TEXT)
    if width == 40:
        assert [word for line in lines for word in line.split()] == TEXT.split()


@pytest.mark.parametrize("width", [8, 13, 40])
def test_more_text_changes_no_line_but_the_last(width: int) -> None:
    for end in range(len(TEXT)):
        before, after = wrapped(TEXT[:end], width), wrapped(TEXT[: end + 1], width)
        assert after[: len(before) - 1] == before[:-1]


def test_two_answers_stand_side_by_side_however_they_arrive() -> None:
    short, long = "red 빨강", TEXT
    seen = []
    for answers in ([spoken(short), spoken(*long)], [spoken(*short), spoken(long)]):
        screen = Screen()
        texts = side_by_side(["base", "adapter"], answers, Stop(False), screen, 63)
        assert texts == [short, long]
        seen.append(rows(screen.getvalue()))
    assert seen[0] == seen[1]
    columns = [row.partition("│") for row in seen[0] if "│" in row]
    assert [left.strip() for left, _, _ in columns[:2]] == ["base", short]
    expected = ["adapter", *map(str.strip, wrapped(long, 30))]
    assert [right.strip() for _, _, right in columns] == expected
    assert {num_cells(left) for left, _, _ in columns} == {31}


def test_a_row_is_shown_before_it_is_full() -> None:
    screen = Screen()
    columns = Columns(2, 30, screen)
    columns.texts = ["안", "it"]
    columns.show([0, 1])
    assert rows(screen.getvalue()) == ["안" + " " * 28 + " │ it"]
    assert not screen.getvalue().endswith("\n")


def test_a_terminal_is_not_steered_and_a_file_gets_what_was_said() -> None:
    said = "red\x1b[2J\x07 \x9b1mblue\tgold\n"
    assert visible(said, Screen()) == "red[2J 1mblue    gold\n"
    assert visible(said, io.StringIO()) == said


def test_one_after_the_other_each_under_its_label() -> None:
    out = io.StringIO()
    texts = in_turn(["base", "adapter"], [spoken("re", "d"), spoken("", "blue")], Stop(False), out)
    assert texts == ["red", "blue"]
    assert out.getvalue() == "[base]\nred\n[adapter]\nblue\n"


def test_a_piece_is_shown_before_the_next_is_made() -> None:
    out = io.StringIO()
    seen = []

    def speaking() -> Generator[str]:
        for piece in ("안", "녕", " 😀"):
            yield piece
            seen.append(out.getvalue())

    in_turn(["base"], [speaking()], Stop(False), out)
    assert seen == ["안", "안녕", "안녕 😀"]


def test_a_stop_ends_what_is_said_and_what_would_come() -> None:
    stop = Stop(by_hand=False)

    def interrupted() -> Generator[str]:
        yield "re"
        stop.asked = True
        yield "d"
        yield " and blue"

    answers = [interrupted(), spoken("never")]
    assert in_turn(["base", "adapter"], answers, stop, io.StringIO()) == ["red", ""]
    stop.asked = False
    found = side_by_side(["a", "b"], [interrupted(), spoken("1", "2")], stop, Screen(), 63)
    assert found == ["red", "12"]
