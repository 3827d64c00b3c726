"""A role's rows in figures that stay when the rows are gone: lengths, words, sources, labels.

Gathered batch by batch; what grows with the data is the number of different words, up to a limit.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from posttrain.data.rows import Row, texts
from posttrain.data.text import fingerprint, words
from posttrain.facts import Role, SourceFacts
from posttrain.profiles import DIMENSIONS, Counted, RoleProfile
from posttrain.recipe.validation import Dimension

NUM_WORDS = 200
"""Most frequent words that a profile keeps."""

NUM_LABELS = 100
"""Labels and sources that a profile keeps."""

NUM_PARTS = 16

MAX_WORDS = 50_000
"""Different words that a role holds in memory; the rarest half goes where there are more."""

_BINS_PER_DOUBLING = 2


class WordCounts:
    """How often each word stands in each part of the rows.

    They are parted at random, to see how far two samples of them are.
    """

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.counts: np.ndarray[Any, np.dtype[np.int64]] = np.zeros((1024, NUM_PARTS), np.int64)
        self.totals = [0] * NUM_PARTS
        """Words a part, with those that were let go."""

    def add(self, words: list[str], part: int) -> None:
        """Count one row's words."""
        self.totals[part] += len(words)
        places = [self.places.setdefault(word, len(self.places)) for word in words]
        while len(self.places) > len(self.counts):
            self.counts = np.concatenate([self.counts, np.zeros_like(self.counts)])
        np.add.at(self.counts[:, part], places, 1)
        if len(self.places) > MAX_WORDS:
            self._let_the_rarest_go()

    def _let_the_rarest_go(self) -> None:
        sums = self.counts[: len(self.places)].sum(1)
        kept = np.sort(np.argsort(-sums, kind="stable")[: MAX_WORDS // 2])
        words = list(self.places)
        self.places = {words[place]: number for number, place in enumerate(kept.tolist())}
        held = self.counts[kept]
        self.counts[:] = 0
        self.counts[: len(kept)] = held

    def count(self, word: str, part: int) -> int:
        """Of one word in one part."""
        place = self.places.get(word)
        return 0 if place is None else int(self.counts[place, part])

    def whole(self) -> dict[str, int]:
        """Of every word, in all parts."""
        sums = self.counts[: len(self.places)].sum(1).tolist()
        return dict(zip(self.places, sums, strict=True))


@dataclass
class Tally:
    """What is counted of one role's kept rows."""

    role: Role
    num_rows: int = 0
    lengths: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    preferred: Counter[str] = field(default_factory=Counter)
    words: WordCounts = field(default_factory=WordCounts)
    part_rows: Counter[int] = field(default_factory=Counter)

    def add(self, rows: list[Row]) -> None:
        """Count rows that passed."""
        self.num_rows += len(rows)
        for row in rows:
            said = texts(self.role, row)
            self.lengths[str(length_bin(sum(map(len, said))))] += 1
            if self.role != "corpus":
                self.kinds[str(row["kind"])] += 1
            if self.role == "preferences":
                self.preferred[_preferred(row)] += 1
            # by content, not by place: files often alternate
            part = fingerprint("\n".join(said))[0] % NUM_PARTS
            self.part_rows[part] += 1
            self.words.add([word for text in said for word in words(text)], part)

    def counted(self, source: SourceFacts | None) -> dict[Dimension, Counted]:
        """Every dimension, words whole."""
        found: dict[Dimension, dict[str, int]] = {
            "length": self.lengths,
            "vocabulary": self.words.whole(),
            "source": dict(source.num_rows if source is not None else {}),
            "kind": self.kinds,
            "preferred": self.preferred,
        }
        totals = {name: sum(counts.values()) for name, counts in found.items()}
        totals["vocabulary"] = sum(self.words.totals)
        return {
            name: Counted(counts=dict(found[name]), total=totals[name])
            for name in DIMENSIONS
            if found[name]
        }

    def profile(self, source: SourceFacts | None) -> RoleProfile:
        """What is kept: the frequent words and labels alone."""
        kept: dict[Dimension, Counted] = {}
        for name, counted in self.counted(source).items():
            most = NUM_WORDS if name == "vocabulary" else NUM_LABELS
            # ties in the order of the words: equal rows give an equal profile
            ranked = sorted(counted.counts.items(), key=lambda pair: (-pair[1], pair[0]))
            kept[name] = Counted(counts=dict(ranked[:most]), total=counted.total)
        return RoleProfile(num_rows=self.num_rows, dimensions=kept)


def length_bin(num_chars: int) -> int:
    """Number of the histogram's bin: two a doubling."""
    return round(_BINS_PER_DOUBLING * math.log2(max(1, num_chars)))


def bin_length(number: int) -> int:
    """Characters in the middle of a bin."""
    return round(2 ** (number / _BINS_PER_DOUBLING))


def _preferred(row: Row) -> str:
    chosen, rejected = len(row["chosen"]), len(row["rejected"])
    if chosen == rejected:
        return "equal"
    return "longer" if chosen > rejected else "shorter"
