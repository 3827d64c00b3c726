"""A trainer's layers through `torch.compile`, where the runtime asks for it (`POSTTRAIN_COMPILE`).

Each decoder layer is compiled in place and apart: one graph serves all that are alike, names of
weights stay, and what a trainer does around the layers (checkpointing, hooks, its loss) is as it
was. Attention over packed rows is left out: it goes by the lengths at hand.

Off unless asked for. On a CPU the first steps of a small model wait 10 to 27 seconds, and the others
gain 4 % at most (docs/benchmarks.md); on a GPU it was never run.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

BACKEND = "inductor"


@contextmanager
def compiled(model: nn.Module, backend: str = BACKEND) -> Iterator[None]:
    """Compile the layers for a while; afterwards they run as they are.

    Args:
        model: a causal model, whatever it is wrapped in.
        backend: as `torch.compile` takes it.

    Raises:
        ValueError: the model has no layers of Transformers', or there is no compiler of C.
    """
    layers = [one for one in model.modules() if isinstance(one, GradientCheckpointingLayer)]
    if not layers:
        inner = next((one for one in model.modules() if isinstance(one, PreTrainedModel)), model)
        raise ValueError(
            f"POSTTRAIN_COMPILE: {type(inner).__name__} has no layers that can be compiled apart "
            "(GradientCheckpointingLayer of Transformers); unset it"
        )
    if backend == BACKEND:
        check_compiler()
    for layer in layers:
        layer.compile(backend=backend)
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None  # what nn.Module.compile sets; it has no way back


def check_compiler() -> None:
    """Say what is missing before training begins; torch says it from within the first step.

    Raises:
        ValueError: no compiler is found, which kernels on a CPU and Triton's launchers need.
    """
    names = [os.environ.get("CXX"), "g++", "clang++", os.environ.get("CC"), "gcc", "clang"]
    if not any(shutil.which(name) for name in names if name):
        raise ValueError(
            "POSTTRAIN_COMPILE: torch.compile needs a compiler of C++ and none is found; install "
            "g++ (Debian: apt-get install g++), let CXX name one, or unset POSTTRAIN_COMPILE"
        )
