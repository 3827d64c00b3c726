"""Records of any number for the growth benchmark: a corpus and conversations, with their faults.

Words follow Zipf's law over a vocabulary that is made up, so that new words go on coming, as in
real text. A hundredth of the rows are copies, another nearly so, another break a rule.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

NUM_WORDS = 100_000
EXPONENT = 1.1
"""Of Zipf's law."""

BATCH = 10_000
COPIES, NEAR_COPIES, FAULTS = 0.01, 0.02, 0.03
"""Upper ends of the shares of rows that are one."""

CORPUS_WORDS, ASKED, ANSWERED = 40, 10, 20
"""Words a document, a question and an answer."""

Words = np.ndarray[tuple[int], np.dtype[np.str_]]


def write(folder: Path, num_rows: int, seed: int = 0) -> dict[str, Path]:
    """Files of a corpus and of conversations, half of the rows each."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {role: folder / f"{role}.jsonl" for role in ("corpus", "instructions")}
    for number, (role, file) in enumerate(files.items()):
        with file.open("w", encoding="utf-8") as stream:
            _write(role, stream, num_rows // 2, np.random.default_rng([seed, number]))
    return files


def _write(role: str, stream: IO[str], num_rows: int, draw: np.random.Generator) -> None:
    earlier: list[str] = []
    for text in _texts(num_rows, CORPUS_WORDS if role == "corpus" else ASKED + ANSWERED, draw):
        fate = draw.random()
        if fate < NEAR_COPIES and earlier:
            text = earlier[int(draw.integers(len(earlier)))]
            if fate >= COPIES:
                text += " 끝"
        elif fate < FAULTS:
            text += " <|im_end|>"
        elif len(earlier) < BATCH:
            earlier.append(text)
        row = {"text": text} if role == "corpus" else {"messages": _conversation(text)}
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _texts(num_rows: int, length: int, draw: np.random.Generator) -> Iterator[str]:
    vocabulary = _vocabulary()
    shares = np.arange(1, NUM_WORDS + 1) ** -EXPONENT
    shares /= shares.sum()
    for start in range(0, num_rows, BATCH):
        count = min(BATCH, num_rows - start)
        for line in draw.choice(vocabulary, (count, length), p=shares):
            yield " ".join(line)


def _vocabulary() -> Words:
    """Words of two or three Hangul syllables, the same at every call."""
    draw = np.random.default_rng(0)
    syllables = draw.choice(_syllables(), (2 * NUM_WORDS, 3))
    lengths = draw.integers(2, 4, 2 * NUM_WORDS)
    words = ["".join(s[:n]) for s, n in zip(syllables, lengths, strict=True)]
    return np.array(list(dict.fromkeys(words))[:NUM_WORDS])


def _syllables() -> list[str]:
    """The 2,350 of KS X 1001: text of others is taken for one read in a wrong encoding."""
    every = map(chr, range(ord("가"), ord("힣") + 1))
    return [syllable for syllable in every if min(syllable.encode("cp949")) >= 0xA1]


def _conversation(text: str) -> list[dict[str, str]]:
    words = text.split(" ")
    return [
        {"role": "user", "content": " ".join(words[:ASKED])},
        {"role": "assistant", "content": " ".join(words[ASKED:])},
    ]
