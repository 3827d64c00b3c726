"""A layer and its LoRA adapter as one differentiable function.

PEFT runs them as separate operations: it casts the input to float32 beside a base in bfloat16,
multiplies twice, scales and adds, each with a tensor of its own, and autograd as many times back.
What an adapter adds to a layer's cost does not shrink with the model, so of a small one it takes as
long as the layer. Here the adapter's products add themselves to the layer's, in the layer's own
precision, as they do under autocast; its weights, and their gradients, stay in float32.

Shapes: N tokens, I and O a layer's input and output widths, R rank.
"""

from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from posttrain.models.device import computed_in, no_autocast

PRECISIONS = (torch.float32, torch.bfloat16)
"""float16 is left to PEFT: its range is too small for what an adapter's weights may hold."""


class FusedLora(Linear):
    """PEFT's layer, with one function for its ordinary case; every other case is PEFT's own."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output under its active adapter.

        Args:
            x: input, (..., I).
            args: what PEFT's layer takes; with any of it PEFT computes.
            kwargs: the same.
        """
        precision = computed_in(x)
        name = None if args or kwargs else self._only_adapter(precision)
        if name is None:
            theirs: Tensor = super().forward(x, *args, **kwargs)
            return theirs
        base = self.get_base_layer()
        weights = (base.weight, base.bias, self.lora_A[name].weight, self.lora_B[name].weight)
        with no_autocast(x):
            flat_NI = x.to(precision).reshape(-1, x.shape[-1])
            out_NO: Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
                flat_NI, *weights, self.scaling[name]
            )
        return out_NO.view(*x.shape[:-1], out_NO.shape[-1])

    def weights_to_cast(self) -> list[nn.Parameter]:
        """The active adapter's weights that a pass casts: those of a layer in bfloat16."""
        precision = cast(Tensor, self.get_base_layer().weight).dtype
        name = self._only_adapter(precision)
        both = [] if name is None else [self.lora_A[name].weight, self.lora_B[name].weight]
        return [cast(nn.Parameter, one) for one in both if one.dtype != precision]

    def _only_adapter(self, precision: torch.dtype) -> str | None:
        """The active adapter where it is an ordinary one, alone, on an ordinary layer."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        if self.disable_adapters or self.merged or len(active) != 1:
            return None
        (name,) = active
        dropout = self.lora_dropout[name]
        if name in self.lora_variant or (dropout.training and not isinstance(dropout, nn.Identity)):
            return None
        base, down, up = self.get_base_layer(), self.lora_A[name], self.lora_B[name]
        # 4 bits, weights sharded one by one (FSDP, ZeRO-3), GPT-2's transposed layers
        if any(type(layer) is not nn.Linear for layer in (base, down, up)):
            return None
        if base.weight.shape != (base.out_features, base.in_features) or up.bias is not None:
            return None
        if down.weight.shape != (self.r[name], base.in_features):
            return None
        if any(weight.requires_grad for weight in base.parameters()):
            return None
        return name if precision in PRECISIONS and base.weight.dtype == precision else None


def fuse_adapters(model: PeftModel) -> None:
    """Give PEFT's linear layers this forward; their weights and names stay as they are."""
    for layer in model.modules():
        if type(layer) is Linear:
            layer.__class__ = FusedLora


class _Adapted(torch.autograd.Function):
    """x W' + b + s (x A') B', with no gradient for the layer's own weights."""

    @staticmethod
    def forward(
        ctx: Any,
        x_NI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        down_RI: Tensor,
        up_OR: Tensor,
        scale: float,
    ) -> Tensor:
        out_NO = functional.linear(x_NI, weight_OI, bias_O)
        low_NR = functional.linear(x_NI, down_RI.to(x_NI.dtype))
        out_NO.addmm_(low_NR, up_OR.to(x_NI.dtype).t(), alpha=scale)
        ctx.save_for_backward(x_NI, weight_OI, down_RI, up_OR, low_NR)
        ctx.scale = scale
        return out_NO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_NO,) = grads
        x_NI, weight_OI, down_RI, up_OR, low_NR = ctx.saved_tensors
        low_grad_NR = (grad_NO @ up_OR.to(grad_NO.dtype)).mul_(ctx.scale)
        x_grad_NI = down_grad_RI = up_grad_OR = None
        if ctx.needs_input_grad[0]:
            x_grad_NI = (grad_NO @ weight_OI).addmm_(low_grad_NR, down_RI.to(grad_NO.dtype))
        if ctx.needs_input_grad[3]:
            down_grad_RI = (low_grad_NR.t() @ x_NI).to(down_RI.dtype)
        if ctx.needs_input_grad[4]:
            up_grad_OR = (grad_NO.t() @ low_NR).to(up_OR.dtype).mul_(ctx.scale)
        return x_grad_NI, None, None, down_grad_RI, up_grad_OR, None
