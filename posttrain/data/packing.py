"""Sequences into rows of a given capacity, none of them padded at rest."""

import bisect
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack by best fit: each sequence goes into the fullest row that still holds it.

    In the order given. Longest first would fill rows a little better, and make rows of one length
    each: steps that see only long documents, then only short ones.

    Args:
        lengths: tokens of each sequence, none above `capacity`.
        capacity: tokens a row.

    Returns:
        Rows of indices into `lengths`.
    """
    assert all(length <= capacity for length in lengths)
    rows: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (room left, row), sorted
    for index, length in enumerate(lengths):
        place = bisect.bisect_left(rooms, (length, -1))
        if place == len(rooms):
            rows.append([index])
            room, row = capacity - length, len(rows) - 1
        else:
            room, row = rooms.pop(place)
            rows[row].append(index)
            room -= length
        if room > 0:
            bisect.insort(rooms, (room, row))
    return rows


def concatenate(lengths: Sequence[int], capacity: int) -> list[list[tuple[int, int, int]]]:
    """Lay sequences end to end and cut wherever a row is full.

    Returns:
        Rows of (sequence, start, end). A sequence that is cut continues in the next row.
    """
    rows: list[list[tuple[int, int, int]]] = [[]]
    room = capacity
    for index, length in enumerate(lengths):
        start = 0
        while start < length:
            if room == 0:
                rows.append([])
                room = capacity
            end = min(length, start + room)
            rows[-1].append((index, start, end))
            room -= end - start
            start = end
    return [row for row in rows if row]
