"""What a baseline is told, and what it tells: JSON in, JSON out. The standard library alone.

Both sides of the benchmark import it, each from an environment of its own.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc_pid_clear_refs(5): the peak becomes what is resident now
PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl")


@dataclass(frozen=True)
class Job:
    """One training run of a baseline."""

    sft: str
    """Folder of the SFT model: the policy's start, and the reference."""

    reward: str
    """Folder of the reward model, for sequence classification."""

    prompts: list[list[int]]
    """Every episode's prompt, in the order of our rollouts."""

    seed: int
    batch_size: int
    """Episodes a rollout."""

    max_new_tokens: int
    temperature: float
    learning_rate: float
    lora: dict[str, int] | None
    """Rank and alpha; None trains every weight."""

    ppo: dict[str, float]
    """Settings of our recipe by their names there."""

    snapshot_every: int
    """Rollouts between two kept policies."""

    out: str

    @classmethod
    def read(cls) -> "Job":
        """The job in the file that the command line names."""
        return cls(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))

    def snapshot(self, iteration: int) -> Path:
        """Folder of the policy after an iteration."""
        return snapshot(Path(self.out), iteration)


def snapshot(out: Path, iteration: int) -> Path:
    """Folder of the policy after an iteration."""
    return out / f"snapshot-{iteration}"


@dataclass
class Meter:
    """CPU seconds, seconds and memory of training: imports, loading and snapshots left out."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    loaded_mb: float = 0.0
    trained_mb: float = 0.0
    peak_mb: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure a block."""
        self.loaded_mb, self.peak_mb = memory("VmRSS"), memory("VmHWM")
        CLEAR.write_text(RESET_PEAK, encoding="ascii")
        self._turn(-1)
        yield
        self._turn(1)
        self.trained_mb = memory("VmHWM")
        self.peak_mb = max(self.peak_mb, self.trained_mb)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave a block out, but for its memory."""
        self._turn(1)
        yield
        self._turn(-1)

    def _turn(self, sign: int) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.cpu_seconds += sign * (usage.ru_utime + usage.ru_stime)
        self.wall_seconds += sign * time.perf_counter()

    def write(self, out: Path, num_episodes: int, **more: object) -> None:
        """Write `cost.json`.

        `growth_mb` is what training needed above the process with its models loaded.
        """
        cost = {
            "num_episodes": num_episodes,
            "cpu_seconds": round(self.cpu_seconds, 2),
            "wall_seconds": round(self.wall_seconds, 2),
            "peak_mb": round(self.peak_mb, 1),
            "growth_mb": round(self.trained_mb - self.loaded_mb, 1),
            "versions": {name: version(name) for name in PACKAGES},
            **more,
        }
        text = json.dumps(cost, indent=1)
        (out / "cost.json").write_text(text + "\n", encoding="utf-8")


def memory(name: str) -> float:
    """A line of /proc/self/status in MB. Not getrusage: its peak begins with the parent's."""
    line = next(one for one in STATUS.read_text().splitlines() if one.startswith(name + ":"))
    return int(line.split()[1]) / 1e3
