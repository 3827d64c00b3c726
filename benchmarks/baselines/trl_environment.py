"""TRL's environment: the last release with PPOTrainer cannot be installed beside our own TRL."""

import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "trl_ppo_requirements.txt"


def trl_python(cache: Path) -> str:
    """Its Python; made from the package index where `cache` does not hold it yet."""
    folder = cache / "trl-1.12"
    python, ready = folder / "bin" / "python", folder / "ready"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if not ready.exists() or ready.read_text(encoding="utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)]
        subprocess.run(install, check=True)
        ready.write_text(wanted, encoding="utf-8")
    return str(python)
