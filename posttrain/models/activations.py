"""What a forward pass keeps for its backward pass, found without memory.

The model runs on torch's meta device, where tensors have shapes and no content, and autograd says
which it would keep. What differs on a real device is put in its place: attention keeps what a fused
kernel keeps (Dao et al. 2022, algorithm 1: queries, keys, values, output and a row's logarithm of
sums, no matrix of T x T but the mask), and bfloat16 acts as autocast does.

Shapes: B sequences, H heads, T positions, D width of a head.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer

ATTENTION = "posttrain_counted"
"""Name under which Transformers knows the attention that computes nothing."""

IN_BFLOAT16 = (
    *(nn.functional.linear, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__),
    *(torch.addmm, torch.bmm, torch.mm),
)
IN_FLOAT32 = (
    *(nn.functional.layer_norm, nn.functional.softmax, nn.functional.log_softmax),
    *(nn.functional.cross_entropy,),
)
"""What autocast casts to either, of the operations that language models are made of."""


@dataclass
class Kept:
    """Bytes that a forward pass keeps for the backward pass, weights left out."""

    blocks: list[int] = field(default_factory=list)
    """In each block that gradient checkpointing would compute again."""

    inputs: int = 0
    """Of these blocks' inputs, which it would keep instead."""

    outside: int = 0
    """Outside of the blocks: embeddings, the last norm, logits."""

    @property
    def whole(self) -> int:
        """All of it."""
        return self.outside + sum(self.blocks)

    @property
    def checkpointed(self) -> int:
        """With gradient checkpointing: inputs, and one block at a time (Chen et al. 2016)."""
        return self.outside + self.inputs + max(self.blocks, default=0)


def kept(model: nn.Module, run: Callable[[], Any]) -> Kept:
    """What autograd keeps of `run`, each storage once."""
    found = Kept()
    seen = {_storage(t) for t in [*model.parameters(), *model.buffers()]}
    held: list[Tensor] = []  # a storage that is freed could give its name to another
    within: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in seen:
            seen.add(_storage(tensor))
            held.append(tensor)
            size = tensor.untyped_storage().nbytes()
            if within:
                found.blocks[within[-1]] += size
            else:
                found.outside += size
        return tensor

    def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
        given = args[0] if args else kwargs["hidden_states"]
        found.inputs += given.nbytes
        found.blocks.append(0)
        within.append(len(found.blocks) - 1)

    def leave(*_: Any) -> None:
        within.pop()

    blocks = [one for one in model.modules() if isinstance(one, GradientCheckpointingLayer)]
    hooks = [block.register_forward_pre_hook(enter, with_kwargs=True) for block in blocks]
    hooks += [block.register_forward_hook(leave) for block in blocks]
    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            result = run()
    finally:
        for hook in hooks:
            hook.remove()
    del result
    return found


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class Fused(torch.autograd.Function):
    """Attention by its shapes; keeps what a fused kernel keeps."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        query_BHTD, key_BHTD, value_BHTD, *mask = given
        result_BHTD = torch.empty_like(query_BHTD)
        sums_BHT = query_BHTD.new_empty(query_BHTD.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query_BHTD, key_BHTD, value_BHTD, result_BHTD, sums_BHT, *mask)
        return result_BHTD

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise AssertionError("nothing is computed here")


def counted_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What Transformers calls in a block; heads of keys and values are repeated under a mask.

    PyTorch turns a mask of truth values into one of numbers, for each block anew. Rotary embeddings
    may have raised queries and keys to float32, and autocast lowers them to what values are.
    """
    query, key = query.to(value.dtype), key.to(value.dtype)
    if attention_mask is None:
        return Fused.apply(query, key, value).transpose(1, 2), None  # type: ignore[no-untyped-call]
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    mask = torch.empty_like(attention_mask, dtype=query.dtype)
    result = Fused.apply(query, key, value, mask)  # type: ignore[no-untyped-call]
    return result.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, counted_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class Autocast(TorchFunctionMode):
    """Casts as `torch.autocast` to bfloat16 does, which the meta device has not; weights once."""

    def __init__(self) -> None:
        super().__init__()
        self.cast: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        if func in IN_BFLOAT16:
            args, kwargs = tree_map(self._lower, (args, kwargs or {}))
        elif func in IN_FLOAT32:
            args, kwargs = tree_map(_raise, (args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _lower(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(torch.bfloat16)
        if id(value) not in self.cast:
            self.cast[id(value)] = value.to(torch.bfloat16)
        return self.cast[id(value)]


def _raise(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype == torch.bfloat16
    return value.float() if half else value


@contextmanager
def precision(compute: torch.dtype) -> Iterator[None]:
    """Run as a trainer does that computes in this type."""
    if compute == torch.float32:
        yield
        return
    with Autocast():
        yield
