"""The cache with room against Transformers' own."""

import torch
from transformers import DynamicCache, Gemma3TextConfig, LlamaConfig

from posttrain.models.cache import RoomyLayer, all_roomy, joined_cache, roomy_cache


def states(rows: int, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, positions, 4), torch.randn(rows, 2, positions, 4)


def test_it_holds_what_transformers_own_holds_and_copies_nothing_in_between() -> None:
    config = LlamaConfig(num_hidden_layers=1)
    ours, theirs = roomy_cache(config, capacity=6), DynamicCache(config=config)
    given = [states(3, 4), states(3, 1), states(3, 1), states(3, 1)]  # the last beyond its room
    places = []
    for new in given:
        for found, expected in zip(ours.update(*new, 0), theirs.update(*new, 0), strict=True):
            assert found.equal(expected)
        places.append(ours.layers[0].keys.data_ptr())
        assert ours.get_seq_length() == theirs.get_seq_length()
    assert places[0] == places[1] == places[2]


def test_rows_leave_and_the_others_go_on() -> None:
    config = LlamaConfig(num_hidden_layers=1)
    ours, theirs = roomy_cache(config, capacity=8), DynamicCache(config=config)
    first, second = states(3, 4), states(2, 1)
    for cache in (ours, theirs):
        cache.update(*first, 0)
        cache.batch_select_indices(torch.tensor([0, 2]))
    for found, expected in zip(ours.update(*second, 0), theirs.update(*second, 0), strict=True):
        assert found.equal(expected)


def test_sliding_windows_keep_their_own_layers() -> None:
    config = Gemma3TextConfig(
        num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], sliding_window=4
    )
    sliding, full = roomy_cache(config, 8).layers
    assert sliding.is_sliding and isinstance(full, RoomyLayer)
    assert not all_roomy(config) and all_roomy(LlamaConfig(num_hidden_layers=1))


def test_rows_read_apart_join_at_their_places_and_end_together() -> None:
    config = LlamaConfig(num_hidden_layers=1)
    long, short = roomy_cache(config, 4), roomy_cache(config, 2)
    given = {1: states(1, 4), 0: states(2, 2)}
    long.update(*given[1], 0)
    short.update(*given[0], 0)
    whole = joined_cache(config, 6, [([1], long), ([2, 0], short)])
    new = states(3, 1)
    found = whole.update(*new, 0)
    assert whole.get_seq_length() == 5
    for name in (0, 1):
        assert found[name][1, :, :4].equal(given[1][name][0])
        for place, row in ((2, 0), (0, 1)):
            assert found[name][place, :, 2:4].equal(given[0][name][row])
            assert not found[name][place, :, :2].any()  # masked, and no NaN
        assert found[name][:, :, 4:].equal(new[name])
