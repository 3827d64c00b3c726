"""The order of rows in batches of like lengths."""

from posttrain.train.length_groups import LengthGroups

LENGTHS = [(index * 37) % 101 + 1 for index in range(205)]


def test_each_row_comes_once_and_the_short_batch_last() -> None:
    order = list(LengthGroups(LENGTHS, batch_size=10, seed=0))
    assert sorted(order) == list(range(205))


def test_batches_hold_like_lengths_in_random_order() -> None:
    order = list(LengthGroups(LENGTHS, batch_size=10, seed=0))
    batches = [[LENGTHS[i] for i in order[at : at + 10]] for at in range(0, 200, 10)]
    padded = sum(max(batch) * len(batch) for batch in batches)
    assert padded < 1.15 * sum(map(sum, batches))
    longest = [max(batch) for batch in batches]
    assert longest != sorted(longest)


def test_the_order_is_fixed_by_seed_and_epoch() -> None:
    first, second = (LengthGroups(LENGTHS, batch_size=10, seed=0) for _ in range(2))
    assert list(first) == list(second)
    first.set_epoch(1)
    assert list(first) != list(second)
    second.set_epoch(1)
    assert list(first) == list(second)
    assert list(LengthGroups(LENGTHS, batch_size=10, seed=1)) != list(
        LengthGroups(LENGTHS, batch_size=10, seed=0)
    )
