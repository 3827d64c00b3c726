"""A trainer's layers through `torch.compile`, where the runtime asks for it (`POSTTRAIN_COMPILE`).

Each decoder layer is compiled in place and apart: layers that are alike share their graphs, and
names of weights stay. Attention over packed rows on a CPU is left out: it goes by the lengths at
hand. A layer that is checkpointed around such attention runs as it is: its graph would break within
the checkpoint.

Off unless asked for. On a CPU the first steps of a small model wait 10 to 27 seconds, and no gain
could be told from the machine's noise (docs/benchmarks.md); on a GPU it was never run.
"""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
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
        ValueError: the model has no layers of Transformers', or the machine no compiler.
    """
    layers = [one for one in model.modules() if isinstance(one, GradientCheckpointingLayer)]
    if not layers:
        inner = next((one for one in model.modules() if isinstance(one, PreTrainedModel)), model)
        raise ValueError(
            f"POSTTRAIN_COMPILE: {type(inner).__name__} has no layers that can be compiled apart "
            "(GradientCheckpointingLayer of Transformers); unset it"
        )
    if backend == BACKEND:
        check_compiler(next(model.parameters()).device)
    for layer in layers:
        layer.compile(backend=backend)
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None  # what nn.Module.compile sets; it has no way back


def check_compiler(device: torch.device) -> None:
    """Say what is missing before training begins; torch says it from within the first step.

    Raises:
        ValueError: the compiler that writes a CPU's kernels (C++), or Triton's launchers (C), is
            not found, or Python's header that both read.
    """
    on_cpu = device.type == "cpu"
    name = os.environ.get(*(("CXX", "g++") if on_cpu else ("CC", "gcc")))
    header = Path(sysconfig.get_path("include"), "Python.h")
    missing = [str(header)] if not header.exists() else []
    if shutil.which(name) is None:
        missing.append(f"{name} ({'CXX' if on_cpu else 'CC'} names another)")
    if missing:
        raise ValueError(
            f"POSTTRAIN_COMPILE: torch.compile on {device.type} needs {' and '.join(missing)}, not "
            "found here; install them (Debian: apt-get install g++ python3-dev), or unset it"
        )
