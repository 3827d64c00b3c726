""".ci/docker where an engine answers; that it brings one up is seen where none does."""

import os
import subprocess
from pathlib import Path

import pytest

DOCKER = """#!/bin/sh
# an engine that answers, and pulls nothing
case "$*" in
  version) exit 0 ;;
  "image inspect there") exit 0 ;;
  *) exit 1 ;;
esac
"""


@pytest.mark.parametrize(("base", "ran"), [("there", True), ("absent", False)])
def test_an_engine_without_the_base_is_no_failure_and_no_silence(
    tmp_path: Path, base: str, ran: bool
) -> None:
    program = tmp_path / "docker"
    program.write_text(DOCKER, encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        [".ci/docker", "echo", "the test"],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "BASE": base},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert (done.stdout == "the test\n") == ran
    assert ("DID NOT RUN" in done.stderr and base in done.stderr) == (not ran)
