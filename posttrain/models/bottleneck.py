"""Bottleneck adapters (Houlsby et al. 2019, section 2.1) as one more method of PEFT.

Down-projection, nonlinearity, dropout, up-projection, residual, on what attention and MLP of each
block give out: after their last projection, before a norm that may follow and before the block's
own residual. The up-projection starts at zero, so that the adapted model is the base.

PEFT has no such method, and its `PeftType` is a closed enum, which `register_peft_method` insists
on. Everything else in PEFT asks three public tables, keyed by the method's name; ours stands there
under a plain string (docs/adr/0010).
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.peft_types import PeftType
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

from posttrain.recipe.train import BottleneckRecipe

BOTTLENECK = "BOTTLENECK"  # in adapter_config.json

LAYOUTS = (
    ("self_attn.o_proj", "mlp.down_proj"),  # Llama, Gemma, Qwen, Mistral
    ("attn.c_proj", "mlp.c_proj"),  # GPT-2
)
"""Last projection of attention and of the MLP, as the ends of their names."""


@dataclass(kw_only=True)
class BottleneckConfig(PeftConfig):
    """What `adapter_config.json` holds of a bottleneck adapter."""

    size: int
    nonlinearity: str
    dropout: float
    target_modules: list[str]

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = BOTTLENECK


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A projection of the base, frozen, with its adapters by name."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_middle",)

    def __init__(self, base_layer: nn.Module, name: str, config: BottleneckConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_middle = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self._active_adapter = name
        self.add(name, config)

    def add(self, name: str, config: BottleneckConfig) -> None:
        """Make a fresh adapter beside those that are there."""
        base = cast(nn.Linear | Conv1D, self.get_base_layer())
        width = base.nf if isinstance(base, Conv1D) else base.out_features
        place: Any = {"device": base.weight.device, "dtype": torch.float32}
        self.bottleneck_down[name] = nn.Linear(width, config.size, **place)
        middle = nn.Sequential(ACT2FN[config.nonlinearity], nn.Dropout(config.dropout))
        self.bottleneck_middle[name] = middle
        self.bottleneck_up[name] = nn.Linear(config.size, width, **place)
        for parameter in self.bottleneck_up[name].parameters():
            nn.init.zeros_(parameter)
        self.set_adapter(self.active_adapters)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                # in float32 whatever the base's precision; under autocast as autocast has it
                inner = self.bottleneck_middle[name](self.bottleneck_down[name](result.float()))
                result = result + self.bottleneck_up[name](inner).to(result.dtype)
        return result


class BottleneckModel(BaseTuner):
    """Puts the adapters in and switches between them; PEFT's part of the work."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        assert isinstance(peft_config, BottleneckConfig)
        if isinstance(target, BottleneckLayer):
            target.add(adapter_name, peft_config)
        else:
            layer = BottleneckLayer(target, adapter_name, peft_config)
            self._replace_module(parent, target_name, layer, target)

    def _check_merge_allowed(self) -> None:
        raise ValueError(
            "a bottleneck adapter is not linear and cannot be merged into the base's weights; use "
            "the base with the adapter, or train with method lora, qlora or dora"
        )


PEFT_TYPE_TO_CONFIG_MAPPING[cast(PeftType, BOTTLENECK)] = BottleneckConfig
PEFT_TYPE_TO_TUNER_MAPPING[cast(PeftType, BOTTLENECK)] = BottleneckModel
PEFT_TYPE_TO_PREFIX_MAPPING[cast(PeftType, BOTTLENECK)] = BottleneckModel.prefix


def bottleneck_config(model: PreTrainedModel, recipe: BottleneckRecipe) -> BottleneckConfig:
    """The recipe's values, and where this architecture has its places."""
    return BottleneckConfig(
        size=recipe.size,
        nonlinearity=recipe.nonlinearity,
        dropout=recipe.dropout,
        target_modules=list(places(model)),
        task_type="CAUSAL_LM",
    )


def places(model: PreTrainedModel) -> tuple[str, str]:
    """Ends of the names of the two projections of each block that an adapter follows.

    Raises:
        ValueError: the model's blocks have none that is known; says what was looked for.
    """
    num_blocks = model.config.get_text_config().num_hidden_layers
    names = [name for name, _ in model.named_modules()]
    for layout in LAYOUTS:
        if all(sum(name.endswith(f".{end}") for name in names) == num_blocks for end in layout):
            return layout
    looked_for = " or ".join(" and ".join(layout) for layout in LAYOUTS)
    raise ValueError(
        f"sft.method bottleneck: {type(model).__name__} does not have {looked_for} in each of its "
        f"{num_blocks} blocks; set it to lora, or teach posttrain.models.bottleneck.LAYOUTS"
    )
