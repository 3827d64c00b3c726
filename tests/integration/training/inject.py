"""Faults from within a stage's process, by PyTorch's own hooks: nothing of ours is replaced.

Each comes once, after so many steps of an optimizer: a number that is none in what a layer hands on
or gets back, or in a weight that was just updated (as memory that fails would leave it), a disk
that others fill up, an allocation that no machine can serve.
"""

import errno
import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from posttrain.recipe.section import Section

LAYER = "LlamaDecoderLayer"

MORE_THAN_THERE_IS = 2**46
"""Bytes: beyond any machine's memory, and not of what 64 bits can address."""

BLOCK = 2**16


class Fault(Section):
    """What goes wrong, and when."""

    what: Literal["loss", "gradient", "weight", "memory", "disk"]
    after: int
    """Steps of an optimizer before it."""

    value: Literal["nan", "inf"] = "nan"
    disk: str = "checkpoints"
    """Folder of the run that is a file system of its own, for `disk`."""

    @property
    def number(self) -> float:
        """What is no number."""
        return {"nan": math.nan, "inf": math.inf}[self.value]


class Injection:
    """Counts steps, and does it when the time has come."""

    def __init__(self, fault: Fault, work: Path) -> None:
        self.fault = fault
        self.work = work
        self.steps = 0
        self.is_done = False

    def on_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """After each optimizer step."""
        self.steps += 1
        if self.steps != self.fault.after:
            return
        if self.fault.what == "weight":
            weight = optimizer.param_groups[0]["params"][0]
            weight.data.view(-1)[0] = self.fault.number
        elif self.fault.what == "disk":
            fill(self.work / self.fault.disk)

    def on_forward(self, module: torch.nn.Module, _: Any, output: Any) -> Any:
        """After each layer's forward pass."""
        if self.fault.what not in ("loss", "gradient", "memory"):
            return output
        if self.is_done or self.steps != self.fault.after or type(module).__name__ != LAYER:
            return output
        hidden = output[0] if isinstance(output, tuple) else output
        if not (torch.is_grad_enabled() and hidden.requires_grad):
            return output
        self.is_done = True
        if self.fault.what == "memory":
            torch.empty(MORE_THAN_THERE_IS, dtype=torch.uint8)
        if self.fault.what == "gradient":
            hidden.register_hook(lambda gradient: gradient + self.fault.number)
        if self.fault.what == "loss":
            hidden = hidden + self.fault.number
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def inject(fault: Fault, work: Path) -> list[RemovableHandle]:
    """Have it come in this process, until the handles are removed."""
    injection = Injection(fault, work)
    return [
        register_optimizer_step_post_hook(injection.on_step),
        register_module_forward_hook(injection.on_forward),
    ]


def fill(folder: Path) -> None:
    """Use up what is free on a folder's file system, a small one of the test's own."""
    with (folder / "others").open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(BLOCK))
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
