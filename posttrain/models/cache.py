"""Keys and values of what was decoded so far, with room for what is still to come.

Transformers' own cache copies all of it for each new token. This one writes the token's keys and
values into room that was made for the longest answer, and hands out a view.
"""

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Full attention's layer. `keys` and `values` are views of the room's filled part."""

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capacity = capacity
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
            self.dtype, self.device = key_states.dtype, key_states.device
            self.is_initialized = True
        keys, values = self.room
        keys[..., start:end, :] = key_states
        values[..., start:end, :] = value_states
        self.keys, self.values = keys[..., :end, :], values[..., :end, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows; room is made for them at the next token."""
        super().batch_select_indices(indices)
        self.room = None

    def _roomier(self, states: Tensor, filled: Tensor | None) -> Tensor:
        batch, heads, _, width = states.shape
        room = torch.empty(
            (batch, heads, self.capacity, width), dtype=states.dtype, device=states.device
        )
        if filled is not None:
            room[..., : filled.shape[-2], :] = filled
        return room


def roomy_cache(config: PreTrainedConfig, capacity: int) -> DynamicCache:
    """An empty cache for a model; layers of another kind (sliding windows) stay as they are."""
    cache = DynamicCache(config=config)
    cache.layers = [
        RoomyLayer(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache
