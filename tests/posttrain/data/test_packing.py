from hypothesis import given
from hypothesis import strategies as st

from posttrain.data.packing import best_fit, concatenate


def test_best_fit_fills_the_fullest_row_that_still_has_room() -> None:
    assert best_fit([6, 5, 4, 3, 2], capacity=10) == [[0, 2], [1, 3, 4]]


@given(st.lists(st.integers(1, 32), max_size=60))
def test_best_fit_keeps_every_sequence_once_and_no_row_overflows(lengths: list[int]) -> None:
    rows = best_fit(lengths, capacity=32)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 32 for row in rows)


def test_concatenate_cuts_where_a_row_is_full() -> None:
    assert concatenate([3, 4, 2], capacity=5) == [[(0, 0, 3), (1, 0, 2)], [(1, 2, 4), (2, 0, 2)]]


@given(st.lists(st.integers(1, 32), max_size=60), st.integers(1, 16))
def test_concatenate_loses_nothing(lengths: list[int], capacity: int) -> None:
    rows = concatenate(lengths, capacity)
    assert all(sum(end - start for _, start, end in row) == capacity for row in rows[:-1])
    pieces = [piece for row in rows for piece in row]
    for index, length in enumerate(lengths):
        spans = [(start, end) for i, start, end in pieces if i == index]
        assert [i for start, end in spans for i in range(start, end)] == list(range(length))
