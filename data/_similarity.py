"""Exact Jaccard similarity of word shingles, for texts by the thousand.

Not MinHash: this is the truth that a near-duplicate filter is measured against.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

SHINGLE_WORDS = 3


def shingles(text: str) -> frozenset[str]:
    """Word triples after lower-casing, dropping punctuation and folding digits to 0."""
    words = re.sub(r"\d", "0", re.sub(r"[^\w\s]", "", text.lower())).split()
    if not words:
        return frozenset()
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    return frozenset(" ".join(words[i : i + SHINGLE_WORDS]) for i in range(last))


def similarity(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard similarity of two shingle sets."""
    union = len(left | right)
    return len(left & right) / union if union else 0.0


def similar_pairs(texts: Sequence[str], limit: float) -> Iterator[tuple[int, int, float]]:
    """All pairs (earlier, later) of similarity >= limit, found by prefix filtering.

    Two sets that similar share one of the rarest `size - ceil(limit * size) + 1` members of each
    (Chaudhuri et al. 2006), so only texts that share such a shingle are compared.
    """
    sets = [shingles(text) for text in texts]
    count = Counter(shingle for members in sets for shingle in members)
    index: defaultdict[str, list[int]] = defaultdict(list)
    for later, members in enumerate(sets):
        rarest = sorted(members, key=lambda shingle: (count[shingle], shingle))
        prefix = rarest[: len(rarest) - math.ceil(limit * len(rarest)) + 1] if rarest else []
        for earlier in sorted({other for shingle in prefix for other in index[shingle]}):
            score = similarity(sets[earlier], members)
            if score >= limit:
                yield earlier, later, score
        for shingle in prefix:
            index[shingle].append(later)


def distinct(texts: Sequence[str], limit: float) -> list[str]:
    """Drop each text that comes within `limit` of one before it."""
    dropped = {later for _, later, _ in similar_pairs(texts, limit)}
    return [text for i, text in enumerate(texts) if i not in dropped]
