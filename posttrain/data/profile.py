"""A role's rows in figures that stay when the rows are gone: lengths, words, sources, labels.

Gathered batch by batch; what grows with the data is the number of different words.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

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

MAX_WORDS = 200_000
"""Different words that a part holds in memory; the rarest half goes where there are more."""

_BINS_PER_DOUBLING = 2


@dataclass
class Tally:
    """What is counted of one role's kept rows."""

    role: Role
    num_rows: int = 0
    lengths: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    preferred: Counter[str] = field(default_factory=Counter)
    words: tuple[Counter[str], ...] = field(
        default_factory=lambda: tuple(Counter() for _ in range(NUM_PARTS))
    )
    """Words by part: the rows are parted at random, to see how far two samples of them are."""

    part_rows: Counter[int] = field(default_factory=Counter)
    num_words: int = 0

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
            found = [word for text in said for word in words(text)]
            self.num_words += len(found)
            self.words[part].update(found)
            if len(self.words[part]) > MAX_WORDS:
                self._forget_the_rarest(part)

    def _forget_the_rarest(self, part: int) -> None:
        kept = self.words[part].most_common(MAX_WORDS // 2)
        self.words[part].clear()
        self.words[part].update(dict(kept))

    def counted(self, source: SourceFacts | None) -> dict[Dimension, Counted]:
        """Every dimension, words whole."""
        found: dict[Dimension, Counter[str]] = {
            "length": self.lengths,
            "vocabulary": sum(self.words, Counter()),
            "source": Counter(source.num_rows if source is not None else {}),
            "kind": self.kinds,
            "preferred": self.preferred,
        }
        totals = {name: sum(counts.values()) for name, counts in found.items()}
        totals["vocabulary"] = self.num_words
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
