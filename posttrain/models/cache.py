"""Keys and values of what was decoded so far, with room for what is still to come.

Transformers' own cache copies all of it for each new token. This one writes the token's keys and
values into room that was made for the longest answer, and hands out a view. For attention in
float32 beside a model in bfloat16 it keeps them in float32, so that they are cast once.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from posttrain.models.raised_attention import RAISED


class RoomyLayer(DynamicLayer):
    """Full attention's layer. `keys` and `values` are views of the room's filled part."""

    def __init__(self, capacity: int, raised: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capacity = capacity
        self.raised = raised
        self.room: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Append the states of new positions; all so far."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self.room is None or end > self.capacity:
            self.capacity = max(self.capacity, end)
            self.room = (
                self._roomier(key_states, self.keys),
                self._roomier(value_states, self.values),
            )
            self._begin(key_states)
        keys, values = self.room
        keys[..., start:end, :] = key_states
        values[..., start:end, :] = value_states
        self.keys, self.values = keys[..., :end, :], values[..., :end, :]
        return self.keys, self.values

    def join(self, parts: Sequence[tuple[Sequence[int], "RoomyLayer"]]) -> None:
        """Take over layers of some rows each, by their places; all end in the same column.

        What stands left of a shorter row is zero: it is masked, but a NaN would pass the mask.
        """
        number = sum(len(places) for places, _ in parts)
        width = max(part.get_seq_length() for _, part in parts)
        rooms = []
        for name in ("keys", "values"):
            one: Tensor = getattr(parts[0][1], name)
            room = one.new_zeros(number, one.shape[1], self.capacity, one.shape[-1])
            for places, part in parts:
                room[list(places), :, width - part.get_seq_length() : width] = getattr(part, name)
            rooms.append(room)
        self.room = (rooms[0], rooms[1])
        self._begin(one)
        self.keys, self.values = (room[..., :width, :] for room in rooms)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows; room is made for them at the next token."""
        super().batch_select_indices(indices)
        self.room = None

    def _roomier(self, states: Tensor, filled: Tensor | None) -> Tensor:
        batch, heads, _, width = states.shape
        dtype = torch.float32 if self.raised else states.dtype
        room = torch.empty((batch, heads, self.capacity, width), dtype=dtype, device=states.device)
        if filled is not None:
            room[..., : filled.shape[-2], :] = filled
        return room

    def _begin(self, states: Tensor) -> None:
        self.dtype, self.device, self.is_initialized = states.dtype, states.device, True


def roomy_cache(config: PreTrainedConfig, capacity: int) -> DynamicCache:
    """An empty cache for a model; layers of another kind (sliding windows) stay as they are."""
    cache = DynamicCache(config=config)
    raised = config._attn_implementation == RAISED
    cache.layers = [
        RoomyLayer(capacity, raised) if type(layer) is DynamicLayer else layer
        for layer in cache.layers
    ]
    return cache


def all_roomy(config: PreTrainedConfig) -> bool:
    """Whether no layer is of another kind."""
    return all(isinstance(layer, RoomyLayer) for layer in roomy_cache(config, 1).layers)


def joined_cache(
    config: PreTrainedConfig, capacity: int, parts: Sequence[tuple[Sequence[int], DynamicCache]]
) -> DynamicCache:
    """One cache of rows that were read apart.

    Args:
        config: of the model.
        capacity: positions that there is room for.
        parts: the rows' places in the whole, and their cache.
    """
    cache = roomy_cache(config, capacity)
    for number, layer in enumerate(cache.layers):
        cast(RoomyLayer, layer).join(
            [(places, cast(RoomyLayer, part.layers[number])) for places, part in parts]
        )
    return cache
