"""The images' sizes, and the seconds of a first build and of one after an edit of the code.

    . .posttrain/env && python -m benchmarks.images

Takes BASE and pip's variables from the environment, as `make images` does. Nothing is taken from
the engine's cache for the first build; the second finds a changed line in `posttrain/reports.py`.
Writes `benchmarks/results/docker.json`.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "docker.json"
IMAGES = ("data", "train", "registry")
CONTEXT = ("docker", "data", "recipes", "steps", "posttrain", "locked")
FILES = (".dockerignore", "pyproject.toml", "constraints.txt")
ARGUMENTS = ("BASE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
TAG = "bench"
EDITED = "posttrain/reports.py"


def measure(image: str, context: Path, flags: list[str]) -> dict[str, Any]:
    """Build an image twice, the second time with an edit."""
    first = _build(image, context, ["--no-cache", *flags])
    with (context / EDITED).open("a", encoding="utf-8") as stream:
        stream.write(f"# edited for {image}\n")
    again = _build(image, context, flags)
    return {"size_mb": _megabytes(image), "first_build_seconds": first, "after_edit_seconds": again}


def _build(image: str, context: Path, flags: list[str]) -> float:
    given = [word for name in ARGUMENTS if name in os.environ for word in ("--build-arg", name)]
    named = (
        "--file",
        context / "docker" / f"{image}.Dockerfile",
        "--tag",
        f"posttrain-{image}:{TAG}",
    )
    command = ("docker", "build", "--quiet", *named, *given, *flags, context)
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - begun, 1)


def _megabytes(image: str) -> int:
    shown = _ask("image", "inspect", "--format", "{{.Size}}", f"posttrain-{image}:{TAG}")
    return round(int(shown) / 1e6)


def _ask(*words: str) -> str:
    return subprocess.run(
        ["docker", *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def table(result: dict[str, Any]) -> str:
    """A row an image, in Markdown."""
    lines = ["| image | MB | first build, s | after an edit, s |", "|---|---|---|---|"]
    for name, row in result["images"].items():
        cells = (row["size_mb"], row["first_build_seconds"], row["after_edit_seconds"])
        lines.append(f"| `{name}` | " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure every image, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flags", nargs="*", help="passed to `docker build`, after `--`")
    flags = parser.parse_args().flags
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for part in CONTEXT:
            shutil.copytree(ROOT / part, context / part)
        for name in FILES:
            shutil.copy(ROOT / name, context / name)
        images = {image: measure(image, context, flags) for image in IMAGES}
    result = {
        "machine": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "engine": _ask("version", "--format", "{{.Server.Version}}"),
        "base": os.environ.get("BASE", "the Dockerfiles' own"),
        "images": images,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
