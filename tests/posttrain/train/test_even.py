from torch.utils.data import DataLoader

from posttrain.train.even import Evened, EvenedOrder
from posttrain.train.length_groups import LengthGroups


def test_blank_rows_fill_the_last_batch_alone() -> None:
    rows = Evened(list(range(10)), 4, blank=-1)
    order = EvenedOrder(LengthGroups([1] * 10, 4, seed=0), len(rows))
    order.set_epoch(1)
    batches = [batch.tolist() for batch in DataLoader(rows, batch_size=4, sampler=order)]
    assert len(batches) == 3
    assert batches[-1][2:] == [-1, -1]
    assert sorted(row for batch in batches for row in batch if row >= 0) == list(range(10))


def test_a_multiple_is_left_as_it_is() -> None:
    assert len(Evened([1, 2, 3, 4], 2, blank=0)) == 4
    assert len(Evened([1, 2, 3], 2, blank=0)) == 4


def test_each_epoch_has_its_own_order() -> None:
    order = EvenedOrder(LengthGroups([1] * 10, 4, seed=0), 12)
    first = list(order)
    order.set_epoch(1)
    assert list(order) != first
