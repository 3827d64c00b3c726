"""Device, precision, kernels and threads of this process: what `Runtime` asks and the machine has.

`choose` decides from facts alone, so that it is tested without a GPU.
"""

import logging
import re
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.liger import apply_liger_kernel
from transformers.utils import logging as transformers_logging
from transformers.utils.import_utils import is_flash_attn_2_available, is_liger_kernel_available

from posttrain.allocator import keep_freed_memory
from posttrain.recipe.section import Section
from posttrain.runtime import Runtime

Package = Literal["flash_attn", "liger_kernel"]
Precision = Literal["float32", "bfloat16", "float16"]

AMPERE = (8, 0)
"""Compute capability from which a GPU computes in bfloat16 and runs FlashAttention 2."""

OVERFLOWING = ("gemma", "gemma2", "gemma3", "gemma3n")
"""Families whose activations leave the range of float16."""

WITH_LIGER = ("gemma", "gemma2", "gemma3", "llama", "mistral", "phi3", "qwen2", "qwen3")
"""Families whose layers liger-kernel has kernels for, and that it is used for here."""

LAYERS_ALONE = {"cross_entropy": False, "fused_linear_cross_entropy": False}
"""Liger's losses replace the model's forward, which TRL's trainer and our own reading patch."""


class Machine(Section):
    """What decides: facts of this machine."""

    capability: tuple[int, int] | None
    """Compute capability of the GPU that models run on; absent on a CPU."""

    packages: frozenset[Package]
    """Of those with kernels, the ones that can be imported."""


class Kernels(Section):
    """What a model computes with."""

    precision: Precision
    """Of frozen base weights, and of what a trainer computes; weights that train are float32."""

    attention: Literal["flash_attention_2", "sdpa"]
    liger: bool
    """Whether layers run on liger-kernel's kernels (positions, norms, gated MLPs)."""

    why: tuple[str, ...]
    """A reason for each of the three."""

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.precision)
        return dtype

    def __str__(self) -> str:
        names = (self.precision, self.attention, "liger" if self.liger else "no liger")
        return ", ".join(f"{name} ({why})" for name, why in zip(names, self.why, strict=True))


def choose(machine: Machine, runtime: Runtime, architecture: str) -> Kernels:
    """Decide for models of one architecture (`gemma3_text`, `Gemma3ForCausalLM`).

    Raises:
        ValueError: float16 is asked for where it cannot be.
    """
    family = re.split(r"For|LMHead|Text|Model|_", architecture)[0].lower()
    precision, why = _precision(machine, runtime, family)
    if obstacle := _against_flash(machine, runtime, precision):
        attention: tuple[Literal["flash_attention_2", "sdpa"], str] = ("sdpa", obstacle)
    else:
        attention = ("flash_attention_2", "flash-attn is installed")
    against = _against_liger(machine, runtime, family)
    return Kernels(
        precision=precision,
        attention=attention[0],
        liger=not against,
        why=(why, attention[1], against or "liger-kernel is installed"),
    )


def _precision(machine: Machine, runtime: Runtime, family: str) -> tuple[Precision, str]:
    asked, capability = runtime.dtype, machine.capability
    if asked == "float16" and capability is None:
        raise ValueError(
            "POSTTRAIN_DTYPE=float16, but models run on the CPU, which gains nothing by it; set "
            "it to auto, float32 or bfloat16"
        )
    if asked == "float16" and family in OVERFLOWING:
        raise ValueError(
            f"POSTTRAIN_DTYPE=float16, and activations of {family} leave its range; set it to "
            "auto, float32 or bfloat16"
        )
    if asked != "auto":
        return asked, "POSTTRAIN_DTYPE"
    if capability is None:
        return "float32", "a CPU"
    if capability >= AMPERE:
        return "bfloat16", f"compute capability {_version(capability)} has it"
    older = f"compute capability {_version(capability)} has no bfloat16"
    if family in OVERFLOWING:
        return "float32", f"{older}, and {family} leaves float16's range"
    return "float16", older


def _against_flash(machine: Machine, runtime: Runtime, precision: Precision) -> str:
    """Why not FlashAttention; nothing where it may be used."""
    if runtime.kernels == "plain":
        return "POSTTRAIN_KERNELS"
    if machine.capability is None:
        return "a CPU"
    if machine.capability < AMPERE:
        return f"compute capability {_version(machine.capability)} is below {_version(AMPERE)}"
    if precision == "float32":
        return "FlashAttention wants 16 bits"
    return "" if "flash_attn" in machine.packages else "flash-attn is not installed"


def _against_liger(machine: Machine, runtime: Runtime, family: str) -> str:
    """Why not Liger's kernels; nothing where they may be used."""
    if runtime.kernels == "plain":
        return "POSTTRAIN_KERNELS"
    if machine.capability is None:
        return "a CPU"
    if family not in WITH_LIGER:
        return f"no kernels for {family}"
    return "" if "liger_kernel" in machine.packages else "liger-kernel is not installed"


def _version(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def this_machine(runtime: Runtime) -> Machine:
    """The facts of this process's machine."""
    on_gpu = device(runtime).type == "cuda"
    found: dict[Package, bool] = {
        "flash_attn": is_flash_attn_2_available(),
        "liger_kernel": is_liger_kernel_available(),
    }
    return Machine(
        capability=torch.cuda.get_device_capability() if on_gpu else None,
        packages=frozenset(name for name, there in found.items() if there),
    )


def kernels(runtime: Runtime, architecture: str) -> Kernels:
    """What models of an architecture compute with here; logged once."""
    chosen = choose(this_machine(runtime), runtime, architecture)
    _say(f"{architecture or 'models'}: {chosen}")
    return chosen


@cache
def _say(sentence: str) -> None:
    logging.getLogger(__name__).info(sentence)


def architecture_of(model: nn.Module) -> str:
    """The architecture of a model in memory, whatever it is wrapped in."""
    inner = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    return str(inner.config.get_text_config().model_type)


def with_kernels(model: PreTrainedModel, runtime: Runtime) -> PreTrainedModel:
    """Put Liger's kernels into a model's layers where they may be used.

    Before any adapter is attached: an adapter's wrapper would be replaced with what it wraps. The
    package also patches the family for the rest of the process, so every model must be loaded here:
    one that a trainer patched later would differ from those that were loaded before.
    """
    if kernels(runtime, architecture_of(model)).liger:
        apply_liger_kernel(model, LAYERS_ALONE)
    return model


def device(runtime: Runtime) -> torch.device:
    """The device that models run on.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if runtime.device == "cuda" and not available:
        raise ValueError("POSTTRAIN_DEVICE=cuda, but torch finds no GPU; set it to cpu or auto")
    return torch.device("cuda" if available and runtime.device != "cpu" else "cpu")


def dtype(runtime: Runtime, architecture: str) -> torch.dtype:
    """Precision of base weights; adapters are float32 whatever this is."""
    return kernels(runtime, architecture).dtype


def prepare(seed: int) -> Runtime:
    """Read the runtime; set torch's threads, the allocator and the random generators."""
    runtime = Runtime.from_environment()
    keep_freed_memory()
    transformers_logging.disable_progress_bar()  # of loading and saving; training shows its own
    torch.set_num_threads(runtime.threads)
    torch.manual_seed(seed)
    return runtime


def computed_in(x: Tensor) -> torch.dtype:
    """What a product with `x` is computed in: autocast's type where it is on."""
    return torch.get_autocast_dtype(x.device.type) if _autocasts(x) else x.dtype


def no_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Leave precisions as they are for a while."""
    return torch.autocast(x.device.type, enabled=False) if _autocasts(x) else nullcontext()


def _autocasts(x: Tensor) -> bool:
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
