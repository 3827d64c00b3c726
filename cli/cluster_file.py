"""k8s/run-file.sh: a run file as a cluster takes it, on standard output.

Images of a registry, and GPU pods that may start again; with a schedule, GPU pods that wait behind
those of runs by hand. Comments are the file's own and not passed on.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cli.run_file import read

OURS = re.compile(r"(?:.*/)?posttrain-(data|train|registry)(?:[:@][^/]*)?")
KUBERNETES = "orchestrator.kubernetes"
BY_HAND, BY_CLOCK = "posttrain-interactive", "posttrain-scheduled"
MAX_RETRIES = 2


def cluster_file(
    file: Path, images: str, tag: str, *, cpu: bool, schedule: dict[str, str] | None
) -> dict[str, Any]:
    """The file's content for the cluster.

    Args:
        file: the run file.
        images: where the cluster pulls images from.
        tag: of the images.
        cpu: no step needs a GPU.
        schedule: ZenML's, where a clock starts the runs.

    Raises:
        ValueError: an image can't be replaced, or no step asks for a GPU.
    """
    content = read(file)
    _name_images(file, content, f"{images}/posttrain-", tag)
    asking = {name: step for name, step in _steps(content) if _asks_for_gpu(step)}
    if not asking and not cpu:
        raise ValueError(
            f"{file}: no step asks for a GPU; put k8s/gpu-step.yaml under "
            f"steps.<step>.settings.{KUBERNETES} of each that trains (as in "
            "recipes/base_ft_korean.yaml), or set CPU=1 to train without"
        )
    for step in asking.values():
        step["retry"] = step.get("retry") or {"max_retries": MAX_RETRIES}
        pod = step["settings"][KUBERNETES]["pod_settings"].get("additional_pod_spec_args") or {}
        if schedule and pod.get("priority_class_name") == BY_HAND:
            pod["priority_class_name"] = BY_CLOCK
    return content | ({"schedule": schedule} if schedule else {})


def _steps(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, step in (content.get("steps") or {}).items():
        if step is not None:
            yield name, step


def _name_images(file: Path, content: dict[str, Any], prefix: str, tag: str) -> None:
    """Every step's image, and the one of those that name none."""
    if not _docker(content).get("parent_image"):
        raise ValueError(
            f"{file}: settings.docker.parent_image is missing, so ZenML would build an image a "
            "step; take the block `settings.docker` of zenml_config.yaml"
        )
    blocks = [("", content), *((f"steps.{name}.", step) for name, step in _steps(content))]
    for where, block in blocks:
        docker = _docker(block)
        if (image := docker.get("parent_image")) is None:
            continue
        if (known := OURS.fullmatch(str(image))) is None:
            raise ValueError(
                f"{file}: {where}settings.docker.parent_image: found {image!r}, which is none of "
                "posttrain-data, -train and -registry; name one of them, and an image of your own "
                "in the file that comes out"
            )
        docker["parent_image"] = f"{prefix}{known[1]}:{tag}"


def _docker(block: dict[str, Any]) -> dict[str, Any]:
    return (block.get("settings") or {}).get("docker") or {}


def _asks_for_gpu(step: dict[str, Any]) -> bool:
    """Whether its pod's limits name a device, as `nvidia.com/gpu`."""
    found: Any = (step.get("settings") or {}).get(KUBERNETES)
    for key in ("pod_settings", "resources", "limits"):
        found = (found or {}).get(key)
    return any("/" in name and str(value) != "0" for name, value in (found or {}).items())


def main() -> None:
    """Print it; the user's mistake is one line, and exit code 1."""
    import yaml

    parser = argparse.ArgumentParser(prog="run-file.sh", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--images", required=True)
    parser.add_argument("--tag", required=True)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--cron")
    parser.add_argument("--name")
    given = parser.parse_args()
    schedule = given.cron and {
        "name": given.name or given.file.stem,
        "cron_expression": given.cron,
    }
    try:
        content = cluster_file(
            given.file, given.images, given.tag, cpu=given.cpu, schedule=schedule or None
        )
    except ValueError as error:
        raise SystemExit(f"run-file.sh: {error}") from None
    print(yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=100), end="")


if __name__ == "__main__":
    main()
