"""Copies: exact ones by fingerprint, near ones by MinHash (Broder 1997) and exact Jaccard.

DataTrove's MinHash stages (signature, buckets, cluster) name candidates; `executor` says who runs
them, for corpora that outgrow one process. A candidate counts only if the Jaccard
similarity of its shingles with a kept row says so: MinHash alone errs both ways.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupSignature,
)
from datatrove.utils.hashing import HashConfig, create_hash_func
from datatrove.utils.text import TextNormConfig, ngrams
from datatrove.utils.word_tokenizers import WordTokenizer

from posttrain.data.executor import run_tasks
from posttrain.data.text import words
from posttrain.recipe.validation import NearDuplicates
from posttrain.runtime import Runtime

Shard = Callable[[], Iterator[tuple[int, str]]]
"""Gives row numbers and texts, in order, each time it is called; it may be in another process."""

Place = tuple[int, int]
"""Of a text: its shard, and its number there."""

_HASHING = HashConfig(hash_fc="sha1")  # its default calls xxhash with strings, which 4.1 refuses
_HASH = create_hash_func(_HASHING)

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Ranks = np.ndarray[Any, np.dtype[np.int32]]


def first_copies(fingerprints: np.ndarray[Any, Any], is_candidate: Flags) -> dict[int, int]:
    """Row -> the earlier row that it copies, among candidate rows."""
    rows = np.flatnonzero(is_candidate)
    chosen = fingerprints[rows]
    order = np.argsort(chosen, kind="stable")  # equal ones stay in the order of their rows
    ordered = chosen[order]
    is_copy = np.zeros(len(rows), np.bool_)
    is_copy[1:] = ordered[1:] == ordered[:-1]
    copies: dict[int, int] = {}
    first = -1
    for position in np.flatnonzero(is_copy):
        if not is_copy[position - 1]:
            first = int(rows[order[position - 1]])
        copies[int(rows[order[position]])] = first
    return copies


@dataclass(frozen=True)
class NearCopy:
    """A row that nearly copies a kept one."""

    row: int
    of: int
    similarity: float


class Words(WordTokenizer):  # type: ignore[misc]  # ships no types
    """Our words for DataTrove, so that candidates and their confirmation see the same shingles."""

    def word_tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return words(text)

    def sent_tokenize(self, text: str) -> list[str]:
        """Abstract in DataTrove's class, and not asked for by MinHash."""
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Abstract in DataTrove's class, and not asked for by MinHash."""
        raise NotImplementedError


def _hashed(text: str, num_words: int) -> Hashes:
    hashes = {_HASH(" ".join(run)) for run in ngrams(words(text), num_words)}
    return np.fromiter(hashes, dtype=np.uint64, count=len(hashes))


def near_copies(
    shards: list[Shard], rules: NearDuplicates, held_out: Flags, is_across: bool
) -> Iterator[NearCopy]:
    """Rows that nearly copy a kept row of their cluster.

    Args:
        shards: parts of the text; one is sorted in memory at a time.
        rules: the shingles and how many hashes.
        held_out: row -> whether it is held out.
        is_across: compare training rows with held-out ones, which are kept first; else each alone.
    """
    work = Runtime.from_environment().work
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="minhash-", dir=work.resolve()) as temporary:
        clusters = _clusters(shards, rules, Path(temporary))
    with tempfile.TemporaryFile(prefix="shingles-") as spill:  # candidates may be many
        spilled = _spilled(spill, shards, rules.shingle_words, clusters)
        members: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for row, found in spilled.items():
            members[found.cluster, not is_across and bool(held_out[row])].append(row)
        for rows in members.values():
            ordered = sorted(rows, key=lambda row: (not held_out[row], row))
            hashes = {row: _read(spill, spilled[row]) for row in ordered}
            yield from confirmed(hashes, rules.min_similarity)


@dataclass(frozen=True)
class _Spilled:
    """A candidate's cluster, and where its hashes lie."""

    cluster: int
    start: int
    count: int


def _spilled(
    spill: IO[bytes], shards: list[Shard], num_words: int, clusters: dict[Place, int]
) -> dict[int, _Spilled]:
    found: dict[int, _Spilled] = {}
    for number, shard in enumerate(shards):
        for place, (row, text) in enumerate(shard()):
            if (cluster := clusters.get((number, place))) is not None:
                hashes = _hashed(text, num_words)
                found[row] = _Spilled(cluster, spill.tell(), len(hashes))
                spill.write(hashes.tobytes())
    return found


def _read(spill: IO[bytes], one: _Spilled) -> Hashes:
    spill.seek(one.start)
    return np.frombuffer(spill.read(8 * one.count), np.uint64)


def confirmed(hashes: dict[int, Hashes], min_similarity: float) -> Iterator[NearCopy]:
    """Rows of one cluster, in the order of keeping, that are similar to a row kept before them.

    Exact, without comparing all pairs: two sets of that similarity share an element among the
    rarest of each (the prefix filter of Chaudhuri, Ganti and Kaushik 2006).
    """
    kept: dict[int, Ranks] = {}
    by_rare: dict[int, list[int]] = defaultdict(list)
    for row, ranks in zip(hashes, by_rarity(list(hashes.values())), strict=True):
        num_shared = int(np.ceil(min_similarity * len(ranks) - 1e-9))
        prefix = ranks[: len(ranks) - num_shared + 1].tolist()
        others = {other for one in prefix for other in by_rare[one]}
        near = [NearCopy(row, other, jaccard(ranks, kept[other])) for other in sorted(others)]
        nearest = max(near, key=lambda copy: copy.similarity, default=None)
        if nearest is not None and nearest.similarity >= min_similarity:
            yield nearest
            continue
        kept[row] = ranks
        for one in prefix:
            by_rare[one].append(row)


def by_rarity(sets: list[Hashes]) -> list[Ranks]:
    """Each set's elements as ranks, the rarest first."""
    _, places, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    ranks = np.empty(len(counts), np.int32)
    ranks[np.argsort(counts, kind="stable")] = np.arange(len(counts), dtype=np.int32)
    ends = np.cumsum([len(one) for one in sets])[:-1]
    return [np.sort(one) for one in np.split(ranks[places], ends)]


def jaccard(a: Ranks, b: Ranks) -> float:
    """Share of the union that both hold."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared) if shared else 0.0


@dataclass(frozen=True)
class _Documents:
    """The first step of stage 1: a task's documents, in the order of its shard."""

    shards: list[Shard]

    def __call__(self, _: Any, rank: int, world_size: int) -> Iterator[Document]:
        assert world_size == len(self.shards)
        for row, text in self.shards[rank]():
            yield Document(text=text, id=str(row))


def _clusters(shards: list[Shard], rules: NearDuplicates, folder: Path) -> dict[Place, int]:
    """Texts that share a bucket with another, and which cluster they are of."""
    config = MinhashConfig(
        n_grams=rules.shingle_words,
        num_buckets=rules.num_buckets,
        hashes_per_bucket=rules.hashes_per_bucket,
        hash_config=_HASHING,
        # `words` has normalised the text; DataTrove's own form would drop figures
        norm_config=TextNormConfig(*[False] * len(fields(TextNormConfig))),
    )
    signatures, buckets, clusters = (str(folder / name) for name in ("sigs", "pairs", "clusters"))
    stages: list[tuple[list[Any], int]] = [
        ([_Documents(shards), MinhashDedupSignature(signatures, config, Words())], len(shards)),
        ([MinhashDedupBuckets(signatures, buckets, config=config)], rules.num_buckets),
        ([MinhashDedupCluster(buckets, clusters, config, save_cluster_id=True)], 1),
    ]
    for number, (pipeline, num_tasks) in enumerate(stages):
        run_tasks(pipeline, num_tasks, folder / f"logs-{number}")
    return {
        (int(file.stem), document): cluster
        for file in sorted(Path(clusters).glob("*.clusters"))
        for document, cluster in np.fromfile(file, dtype="<u4").reshape(-1, 2).tolist()
    }
