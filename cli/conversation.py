"""A conversation with one or two voices: what was said, what is asked next, and the commands."""

import os
import shutil
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cli.show import BETWEEN, NARROWEST, Stop, in_turn, side_by_side

if TYPE_CHECKING:
    from posttrain.models.generate import Sampling
    from posttrain.models.voices import Source, Voice

HISTORY = Path(".posttrain/chat_history")
"""Lines typed before; kept where the folder is, for their owner's eyes alone."""

HISTORY_LINES = 1_000

HELP = """\
/new           forget what was said
/undo          forget the last question and its answer
/system TEXT   set the system message; without TEXT, leave it out
/help          this
//TEXT         ask something that begins with a slash
Ctrl-C ends an answer, Ctrl-D the conversation."""

Message = dict[str, str]


@dataclass
class Conversation:
    """What each voice was asked and answered."""

    source: "Source"
    voices: "tuple[Voice, ...]"
    sampling: "Sampling"
    system: str | None = None
    num_asked: int = 0
    said: list[list[tuple[str, str]]] = field(init=False)
    """Questions with their answers, a list a voice."""

    def __post_init__(self) -> None:
        self.said = [[] for _ in self.voices]

    def ask(self, question: str) -> None:
        """Show the answers as they are made, and remember them.

        Raises:
            ValueError: the question alone is too long for the model.
        """
        prompts = self._prompts(question)
        # another seed a question: asked again, it is answered anew where answers are sampled
        seed = self.sampling.seed + self.num_asked
        drawn = self.sampling.model_copy(update={"seed": seed})
        self.num_asked += 1
        tokens: list[list[int]] = [[] for _ in self.voices]
        answers = [
            self._pieces(voice, prompt, drawn, made)
            for voice, prompt, made in zip(self.voices, prompts, tokens, strict=True)
        ]
        with Stop(by_hand=sys.stdin.isatty()) as stop:
            texts = _show([voice.label for voice in self.voices], answers, stop)
        if stop.asked and not any(texts):
            return
        for said, text in zip(self.said, texts, strict=True):
            said.append((question, text))
        if not stop.asked:
            self._tell_cut(tokens)

    def command(self, line: str) -> None:
        """Do what a line that begins with a slash says."""
        name, _, text = line.partition(" ")
        if name == "/new":
            self.said = [[] for _ in self.voices]
        elif name == "/undo":
            if not any(self.said):
                _tell("nothing was said")
            self.said = [said[:-1] for said in self.said]
        elif name == "/system":
            self.system = text.strip() or None
        elif name == "/help":
            _tell(HELP)
        else:
            _tell(f"{name}: no such command; /help lists them, //... asks what begins with a slash")

    def _prompts(self, question: str) -> list[list[int]]:
        """The conversation so far with the question, as each voice has it, in ids."""
        from posttrain.data.chat import encode_within

        room = self.source.max_positions - self.sampling.max_new_tokens
        found = [
            encode_within(self.source.tokenizer, self._messages(said, question), room)
            for said in self.said
        ]
        for said, (_, num_gone) in zip(self.said, found, strict=True):
            del said[:num_gone]
        if num_gone := max(gone for _, gone in found):
            _tell(
                f"the window of {self.source.max_positions} tokens is full: forgot "
                + ("the oldest question" if num_gone == 1 else f"the oldest {num_gone} questions")
            )
        return [ids for ids, _ in found]

    def _messages(self, said: Sequence[tuple[str, str]], question: str) -> list[Message]:
        turns = [{"role": "system", "content": self.system}] if self.system else []
        for asked, answered in said:
            turns.append({"role": "user", "content": asked})
            turns.append({"role": "assistant", "content": answered})
        return [*turns, {"role": "user", "content": question}]

    def _pieces(
        self, voice: "Voice", prompt: Sequence[int], sampling: "Sampling", made: list[int]
    ) -> Generator[str]:
        from posttrain.models.stream import pieces

        tokens = _noted(voice.tokens(prompt, sampling), made)
        yield from pieces(self.source.tokenizer, tokens, sampling.end_ids)

    def _tell_cut(self, tokens: list[list[int]]) -> None:
        cut = [
            voice.label
            for voice, made in zip(self.voices, tokens, strict=True)
            if made[-1] not in self.sampling.end_ids
        ]
        if cut:
            who = f" ({', '.join(cut)})" if len(self.voices) > 1 else ""
            _tell(f"cut off at {self.sampling.max_new_tokens} tokens{who}")


def converse(conversation: Conversation) -> None:
    """Read a line, answer, remember.

    Raises:
        ValueError: a question from a pipe is too long; a person is told, and goes on.
    """
    by_hand = sys.stdin.isatty()
    with _line_editing(HISTORY) if by_hand else nullcontext():
        for line in _typed() if by_hand else sys.stdin:
            said = line.encode(errors="replace").decode().strip()
            try:
                if said.startswith("/") and not said.startswith("//"):
                    conversation.command(said)
                elif said:
                    conversation.ask(said.removeprefix("/"))
            except ValueError as error:
                if not by_hand:
                    raise
                _tell(str(error))


def _typed() -> Iterator[str]:
    """Lines that a person types; Ctrl-C drops the line, Ctrl-D ends."""
    while True:
        try:
            if sys.stdout.isatty():
                yield input("> ")
            else:  # the answers go elsewhere, and prompt signs are none of them
                print("> ", end="", file=sys.stderr, flush=True)
                yield input()
        except EOFError:
            print(file=sys.stderr)
            return
        except KeyboardInterrupt:
            print(file=sys.stderr)


@contextmanager
def _line_editing(history: Path) -> Iterator[None]:
    """Arrow keys and earlier lines, where Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    if not history.parent.is_dir():
        yield
        return
    os.close(os.open(history, os.O_CREAT | os.O_RDONLY, 0o600))
    history.chmod(0o600)
    with suppress(OSError):  # libedit refuses what GNU readline wrote
        readline.read_history_file(history)
    readline.set_history_length(HISTORY_LINES)
    try:
        yield
    finally:
        readline.write_history_file(history)
        history.chmod(0o600)


def _show(labels: Sequence[str], answers: Sequence[Generator[str]], stop: Stop) -> list[str]:
    width = shutil.get_terminal_size().columns
    if len(labels) == 2 and sys.stdout.isatty() and width >= 2 * NARROWEST + len(BETWEEN):
        return side_by_side(labels, answers, stop, sys.stdout, width)
    return in_turn(labels, answers, stop, sys.stdout)


def _noted(tokens: Iterable[int], made: list[int]) -> Iterator[int]:
    for token in tokens:
        made.append(token)
        yield token


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
