"""Answers on a screen as they are made: one after the other, or two side by side."""

import re
import signal
import unicodedata
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from types import FrameType
from typing import Self, TextIO

BETWEEN = " │ "
NARROWEST = 30
"""Cells of a column; a terminal without room for two such shows answers one after the other."""

ERASE = "\x1b[K"  # from the cursor to the end of the line


@dataclass
class Stop:
    """Ctrl-C while answers are made: the first ends them, the second the program.

    A flag that is looked at between tokens: an exception could strike while an adapter is switched.
    """

    by_hand: bool
    """Whether a person is there; else Ctrl-C keeps its meaning."""

    asked: bool = False

    def __enter__(self) -> Self:
        if self.by_hand:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self.by_hand:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def in_turn(
    labels: Sequence[str], answers: Sequence[Generator[str]], stop: Stop, out: TextIO
) -> list[str]:
    """Show one answer after the other, under their labels where there are several."""
    said = []
    for label, pieces in zip(labels, answers, strict=True):
        if len(labels) > 1:
            print(f"[{label}]", file=out)
        said.append("")
        with closing(pieces):
            for piece in pieces:
                said[-1] += piece
                print(visible(piece, out), end="", file=out, flush=True)
                if stop.asked:
                    break
        print(file=out, flush=True)
        if stop.asked:
            break
    return said + [""] * (len(labels) - len(said))


def side_by_side(
    labels: Sequence[str], answers: Sequence[Generator[str]], stop: Stop, out: TextIO, width: int
) -> list[str]:
    """Show answers in columns, a token of each in turn."""
    columns = Columns(len(labels), (width - len(BETWEEN)) // 2, out)
    columns.heading(labels)
    open_ones = dict(enumerate(answers))
    while open_ones and not stop.asked:
        for column in list(open_ones):
            piece = next(open_ones[column], None)
            if piece is None:
                del open_ones[column]
            else:
                columns.texts[column] += piece
        columns.show(open_ones)
    for pieces in open_ones.values():
        pieces.close()
    columns.show({})
    return columns.texts


@dataclass
class Columns:
    """Texts that grow side by side.

    A row is written for good once no column can change it; the one after it is written over and
    over. So nothing above the cursor is touched, however long the answers are.
    """

    number: int
    width: int
    out: TextIO
    texts: list[str] = field(init=False)
    num_rows: int = field(init=False, default=0)
    """Rows that are written for good."""

    def __post_init__(self) -> None:
        self.texts = [""] * self.number

    def heading(self, labels: Sequence[str]) -> None:
        """Label each column."""
        print(self._row([[label] for label in labels], 0), file=self.out)

    def show(self, growing: Collection[int]) -> None:
        """Write what is new; the columns in `growing` may get more."""
        lines = [wrapped(visible(text, self.out), self.width) for text in self.texts]
        final = max(map(len, lines))
        for column in growing:
            final = min(final, len(lines[column]) - 1)
        for row in range(self.num_rows, final):
            print(f"\r{self._row(lines, row)}{ERASE}", file=self.out)
        self.num_rows = max(self.num_rows, final)
        if growing:
            print(f"\r{self._row(lines, self.num_rows)}{ERASE}", end="", file=self.out, flush=True)

    def _row(self, lines: Sequence[list[str]], row: int) -> str:
        cells = [column[row] if row < len(column) else "" for column in lines]
        padded = [cell + " " * (self.width - num_cells(cell)) for cell in cells]
        return BETWEEN.join(padded).rstrip()


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells; more text changes none but the last."""
    lines = [""]
    for piece in re.findall(r"\n|[^\S\n]+|\S+", text):
        if piece == "\n":
            lines.append("")
        elif num_cells(lines[-1]) + num_cells(piece) <= width:
            lines[-1] += piece
        elif piece.isspace():
            lines.append("")
        else:
            if lines[-1]:
                lines.append("")
            for character in piece:
                if num_cells(lines[-1]) + num_cells(character) > width:
                    lines.append("")
                lines[-1] += character
    return lines


def num_cells(text: str) -> int:
    """Cells of a terminal that a text takes: Hangul and emoji take two, marks none."""
    return sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def visible(text: str, out: TextIO) -> str:
    """The text as a terminal may have it: a model's answer must not steer the terminal."""
    if not out.isatty():
        return text
    text = text.replace("\t", "    ")
    return "".join(one for one in text if one == "\n" or unicodedata.category(one) != "Cc")
