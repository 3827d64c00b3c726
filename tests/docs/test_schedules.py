"""The services of docs/schedules.md: each is one, and its shell starts the clock."""

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docker.test_compose import COMPOSE
from tests.docs.test_commands import FENCE

ROOT = Path(__file__).parents[2]
BLOCKS = FENCE.findall((ROOT / "docs/schedules.md").read_text(encoding="utf-8"))
(UNIT,) = [block for block in BLOCKS if block.startswith("[Unit]")]
(SERVICES,) = [block for block in BLOCKS if block.startswith("services:")]
CLOCK: dict[str, Any] = yaml.safe_load(SERVICES)["services"]["clock"]


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT)
    return parser


def test_the_unit_waits_for_the_run_that_it_ends() -> None:
    service = unit()["Service"]
    assert service["KillMode"] == "mixed"  # SIGTERM to the clock alone
    assert service["TimeoutStopSec"] == CLOCK["stop_grace_period"] == "6h"
    assert {"User", "WorkingDirectory", "ExecStart", "Restart"} <= set(service)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "posttrain.service"
    file.write_text(UNIT, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if file.name in line]
    assert (done.returncode, said) == (0, []), done.stderr


@pytest.mark.skipif(COMPOSE is None, reason="Compose is not installed")
def test_compose_takes_the_service(tmp_path: Path) -> None:
    assert COMPOSE is not None
    (tmp_path / "clock.yaml").write_text(SERVICES, encoding="utf-8")
    done = subprocess.run(
        [*COMPOSE, "--file", "clock.yaml", "config"],
        env={**os.environ, "CLOCK_USER": "1000:1000", "PWD": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["services"]["clock"]
    assert found["working_dir"] == str(tmp_path)
    assert found["user"] == "1000:1000"


def test_the_service_installs_what_the_makefile_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"SLIM := {CLOCK['image']}\n" in makefile
    (installed,) = re.findall(r"locked/install\.py --extras ([\w,]+)", CLOCK["command"][0])
    (extras,) = re.findall(r"^EXTRAS := (\S+)$", makefile, re.M)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(installed.split(",")) == set(extras.split(",")) - {"k8s", "dev"}
    assert set(installed.split(",")) <= set(known["optional-dependencies"])


STARTS = {
    "systemd": shlex.split(unit()["Service"]["ExecStart"]),
    "compose": [*CLOCK["entrypoint"], CLOCK["command"][0].replace("$$", "$")],
}


@pytest.mark.parametrize("name", STARTS)
def test_its_shell_starts_the_clock_and_hands_sigterm_on(name: str, tmp_path: Path) -> None:
    clock = tmp_path / ".posttrain/clock"
    clock.mkdir(parents=True)
    (clock / "ready").touch()
    (clock / "bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / ".posttrain/env").touch()
    shutil.copy(ROOT / "zenml_config.yaml", tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        STARTS[name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = next((line for line in process.stderr if "next run at" in line), "")
    process.send_signal(signal.SIGTERM)
    try:
        left = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 0, left
    assert re.search(r"next run at .* 03:00:00", said), left
