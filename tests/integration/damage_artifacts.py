"""Damage each file of each output of the last run, load it as a step would, and mend it again.

Prints a line of JSON: what was damaged, and how its loading ended.
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

from zenml.client import Client
from zenml.models import ArtifactVersionResponse

import steps as steps  # registers the materializers


def flip(content: bytes) -> bytes:
    """One bit of one byte, at a random place."""
    at = random.Random(len(content)).randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def truncate(content: bytes) -> bytes:
    """The first half."""
    return content[: len(content) // 2]


DAMAGES: tuple[Callable[[bytes], bytes], ...] = (flip, truncate)


def damage(output: str, artifact: ArtifactVersionResponse) -> list[dict[str, str]]:
    """How the loading of an output ended for each file and each damage."""
    folder = Path(artifact.uri)
    ended = []
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        whole = file.read_bytes()
        for change in DAMAGES if whole else ():
            outside = folder.parent / "whole"
            file.rename(outside)  # not written in place: it may be a link of another folder's file
            file.write_bytes(change(whole))
            try:
                artifact.load()
                said = "loaded"
            except ValueError as error:
                said = str(error)
            outside.rename(file)
            name = file.relative_to(folder).as_posix()
            ended.append({"output": output, "file": name, "change": change.__name__, "said": said})
    artifact.load()
    return ended


def main() -> None:
    run = Client().list_pipeline_runs(sort_by="desc:created", size=1)[0]
    outputs = {n: a[0] for step in run.steps.values() for n, a in step.outputs.items()}
    lines = [line for output in outputs.items() for line in damage(*output)]
    sys.stdout.write(json.dumps(lines) + "\n")


if __name__ == "__main__":
    main()
