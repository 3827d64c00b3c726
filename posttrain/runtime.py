"""What the machine decides at run time; never part of a recipe or of a cache key.

Read from `POSTTRAIN_*` variables, which make, the images and ZenML's docker settings set.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator

from posttrain.recipe.section import Section


class Runtime(Section):
    """Threads, device, precision and folders of this process."""

    threads: PositiveInt = Field(default_factory=lambda: max(1, (os.cpu_count() or 2) // 2))
    """Torch threads, shared by the processes. Half the logical cores: one thread on a busy core
    stalls all others."""

    processes: PositiveInt | Literal["auto"] = 1
    """Processes that train a stage together, side by side. `auto`: one a GPU."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of base weights. `auto`: bfloat16 on GPUs that have it (compute capability 8.0),
    float16 with a loss scaler on older ones (float32 for Gemma, which overflows), float32 on a
    CPU."""

    kernels: Literal["auto", "plain"] = "auto"
    """`auto`: FlashAttention 2 and Liger's layers on a GPU where the packages `flash-attn` and
    `liger-kernel` are installed. `plain`: PyTorch's own."""

    compile: bool = False
    """Whether `torch.compile` compiles the layers in Base FT, SFT, reward model, DPO and
    self-critique; PPO's own loop runs them as they are. Needs a compiler and Python's headers on
    the machine, and 10 to 27 seconds of a small model's first steps on a CPU."""

    generator: Literal["own", "vllm"] = "own"
    """What samples answers: our own loop, or vLLM where it is installed."""

    corpus_executor: Literal["local", "ray"] = "local"
    """Where near-duplicates are looked for: on this machine, or on a Ray cluster."""

    corpus_workers: PositiveInt = 1
    """Processes that look for them side by side."""

    work: Path = Path(".posttrain/work")
    """Where artifacts are put together before they reach the artifact store."""

    checkpoints: str = ".posttrain/checkpoints"
    """Folder or fsspec URL of checkpoints; it must outlive the process."""

    cache: Path = Path(".posttrain/cache")
    """Merged bases and the like; may be deleted at any time."""

    patience_seconds: PositiveFloat = 300
    """How long a step waits for a tracking server or a registry that does not answer, where it
    cannot go on without; training does not wait."""

    roots: tuple[Path, ...] = ()
    """Folders below which a recipe may read, besides the working directory; as in PATH, a colon
    parts several."""

    trusted_code: tuple[str, ...] = ()
    """Hub models whose own Python may run here where a recipe names it too: `owner/name@commit`,
    parted by commas."""

    signing_key: Path | None = None
    """PEM file of the private key that signs registered versions; none: they are not signed. Its
    password, if any, is in the environment's `POSTTRAIN_SIGNING_PASSWORD`."""

    @field_validator("roots", "trusted_code", mode="before")
    @classmethod
    def several_are_parted(cls, value: Any, info: ValidationInfo) -> Any:
        mark = os.pathsep if info.field_name == "roots" else ","
        return [one for one in value.split(mark) if one] if isinstance(value, str) else value

    @classmethod
    def from_environment(cls) -> Self:
        """Read `POSTTRAIN_<FIELD>` for each field.

        Raises:
            ValueError: a variable's value does not fit its field.
        """
        given = {name: os.environ.get(f"POSTTRAIN_{name.upper()}") for name in cls.model_fields}
        return cls.model_validate({name: value for name, value in given.items() if value})

    def new_folder(self, kind: str) -> Path:
        """A fresh, empty folder to put an artifact together in."""
        self.work.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self.work.resolve()))
