import random
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from posttrain.data.duplicates import Shard, confirmed, first_copies, near_copies
from posttrain.recipe.validation import NearDuplicates


def texts(num: int) -> list[str]:
    draw = random.Random(3)
    return [" ".join(f"낱말{draw.randrange(999)}" for _ in range(40)) for _ in range(num)]


def as_shards(documents: list[str], *cuts: int) -> list[Shard]:
    rows = list(enumerate(documents))
    ends = [0, *cuts, len(rows)]
    return [partial(iter, rows[a:b]) for a, b in pairwise(ends)]


def found(
    documents: list[str], held_out: tuple[int, ...] = (), across: bool = True
) -> list[tuple[int, int]]:
    flags = np.zeros(len(documents), np.bool_)
    flags[list(held_out)] = True
    near = near_copies(as_shards(documents, 7, 20), NearDuplicates(), flags, across)
    return sorted((copy.row, copy.of) for copy in near)


def test_first_copies_point_to_the_first_candidate() -> None:
    prints = np.array([b"a", b"b", b"a", b"a", b"b", b"c"])
    assert first_copies(prints, np.ones(6, np.bool_)) == {2: 0, 3: 0, 4: 1}
    candidates = np.array([False, True, True, True, True, True])
    assert first_copies(prints, candidates) == {3: 2, 4: 1}


def test_near_copies_are_found_across_shards_and_the_first_is_kept() -> None:
    documents = texts(30)
    documents[12] = f"{documents[5]} 끝"
    documents[25] = f"처음 {documents[5]}"
    assert found(documents) == [(12, 5), (25, 5)]


def test_held_out_rows_are_kept_first() -> None:
    documents = texts(30)
    documents[12] = f"{documents[5]} 끝"
    assert found(documents, held_out=(12,)) == [(5, 12)]
    assert found(documents, held_out=(12,), across=False) == []


def test_texts_that_differ_in_a_figure_within_many_places_are_two() -> None:
    line = "배 {} 척이 {} 시에 {} 번 나루에서 {} 분 동안 기다린다"
    assert found([line.format(*[n] * 4) for n in range(10)]) == []


@pytest.mark.parametrize("similarity", [0.5, 0.8, 0.85, 1.0])
def test_confirmation_agrees_with_comparing_all_pairs(similarity: float) -> None:
    draw = random.Random(5)
    base = [draw.sample(range(60), 20) for _ in range(4)]
    sets = {}
    for row in range(120):
        one = set(draw.choice(base))
        for _ in range(draw.randrange(6)):
            one ^= {draw.randrange(60)}
        sets[row] = one
    kept: list[int] = []
    expected = []
    for row, one in sets.items():
        if any(len(one & sets[k]) / len(one | sets[k]) >= similarity for k in kept):
            expected.append(row)
        else:
            kept.append(row)
    arrays = {row: np.array(sorted(one), np.uint64) for row, one in sets.items()}
    assert [copy.row for copy in confirmed(arrays, similarity)] == expected
    assert expected


def test_datatrove_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    found(texts(3))
    assert capfd.readouterr() == ("", "")
