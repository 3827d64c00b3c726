"""Whether the stages of a run fit the machine: the estimate of each against what there is."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedConfig

from posttrain.host import memory_of_host
from posttrain.models.device import device, kernels
from posttrain.models.memory import GIB, PARTS, StageMemory, estimate
from posttrain.recipe.section import Section
from posttrain.recipe.workload import Part, Workload
from posttrain.runtime import Runtime


class Machine(Section):
    """Memory that a stage can have, and how it computes."""

    name: str
    size: int
    """Bytes."""

    in_16_bits: bool
    """Whether it computes in 16 bits; else in 32."""

    has_flash_attention: bool = False
    is_cpu: bool = False
    is_named: bool = True
    """Whether it is the machine that stages will run on for sure, and not just the one at hand."""

    @property
    def in_gib(self) -> str:
        """Its size in words."""
        return f"{self.size / GIB:.1f} GiB"


def machine(runtime: Runtime, architecture: str = "") -> Machine:
    """The GPU of this process, or this machine's memory where there is none.

    Precision goes by the architecture too: Gemma is in 32 bits on GPUs before Ampere.
    """
    chosen = kernels(runtime, architecture)
    half = chosen.precision != "float32"
    if device(runtime).type == "cuda":
        found = torch.cuda.get_device_properties(torch.cuda.current_device())
        return Machine(
            name=found.name,
            size=found.total_memory,
            in_16_bits=half,
            has_flash_attention="flash" in chosen.attention,
        )
    return Machine(
        name="this machine",
        size=memory_of_host(),
        in_16_bits=half,
        is_cpu=True,
        is_named=runtime.device == "cpu",
    )


def gpu_of(gib: float) -> Machine:
    """Another machine's GPU, one that computes in 16 bits."""
    return Machine(name=f"a GPU of {gib:g} GiB", size=round(gib * GIB), in_16_bits=True)


def estimates(
    config: PreTrainedConfig, work: Sequence[Workload], available: Machine
) -> list[StageMemory]:
    """What each stage takes on a machine."""
    compute = torch.bfloat16 if available.in_16_bits else torch.float32
    flat, on_cpu = available.has_flash_attention, available.is_cpu
    return [estimate(config, one, compute, flat, on_cpu) for one in work]


def shortages(
    stages: Sequence[StageMemory], work: Sequence[Workload], available: Machine
) -> tuple[list[str], list[str]]:
    """What cannot fit, and what may not: the former by exact bytes, the latter by the estimate."""
    short, tight = [], []
    for stage, one in zip(stages, work, strict=True):
        room = f"{available.name} has {available.in_gib}"
        if stage.exact > available.size:
            part = stage.largest_of("weights", "adapters", "gradients", "optimizer")
            known = f"takes {stage.in_gib('exact')} without activations"
            short.append(
                f"{stage.stage} {known}, {_most(stage, part)}, and {room}: {_do(one, part)}"
            )
        elif stage.total > available.size:
            part = stage.largest_of("activations", "cache")
            may = f"may take {stage.in_gib('total')}"
            tight.append(f"{stage.stage} {may}, {_most(stage, part)}, and {room}: {_do(one, part)}")
    return short, tight


def _most(stage: StageMemory, part: Part) -> str:
    return f"{stage.in_gib(part)} of it {part}"


def _do(work: Workload, part: Part) -> str:
    return work.advice.get(part, "choose a smaller base_model.source")


def table(stages: Sequence[StageMemory]) -> str:
    """GiB by stage and part, as plain text."""
    heads = ["stage", *PARTS, "total"]
    rows = [
        [one.stage, *(f"{getattr(one, part) / GIB:.2f}" for part in (*PARTS, "total"))]
        for one in stages
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in [heads, *rows]
    ]
    note = "GiB; activations and cache are an estimate, whose error on a GPU is not measured"
    return "\n".join([*lines, note])
