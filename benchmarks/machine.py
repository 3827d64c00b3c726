"""What figures were measured on."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from posttrain.recipe.section import Section

FLAGS = ("avx", "amx", "neon", "sve")
PACKAGES = (
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets"),
    *("pyarrow", "great-expectations", "zenml", "datatrove"),
)


class Machine(Section):
    """Processor, its vector extensions, versions."""

    machine: str
    processor: str
    cpus: int
    flags: tuple[str, ...]
    python: str
    versions: dict[str, str]


def machine() -> Machine:
    """This one."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (one.partition(":") for one in lines)}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return Machine(
        machine=platform.machine(),
        processor=facts.get("model name", "unknown"),
        cpus=sum(line.startswith("processor") for line in lines),
        flags=tuple(sorted(flag for flag in flags if flag.startswith(FLAGS))),
        python=platform.python_version(),
        versions={name: found for name in PACKAGES if (found := _version(name))},
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
