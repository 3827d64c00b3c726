"""The demo on several seeds, each from an empty state: figures, seconds, peak memory.

    . .posttrain/env && python benchmarks/demo.py --seeds 0 1 2

Prints a table in Markdown and writes `benchmarks/results/demo.json`. The bars are those that the
demo must clear: the median does, and so do two seeds of three.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "demo.json"
Report = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """A figure of the report and what it must reach."""

    name: str
    read: Callable[[Report], float]
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a value clears the bar."""
        low = self.at_least is None or value >= self.at_least
        return low and (self.at_most is None or value <= self.at_most)

    @property
    def text(self) -> str:
        """The bound, for the table."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


def stage(report: Report, name: str) -> dict[str, Any]:
    """One stage of the report."""
    found: dict[str, Any] = next(one for one in report["stages"] if one["stage"] == name)
    return found


def accuracy(name: str, of_set: str) -> Callable[[Report], float]:
    """Fact accuracy of a stage on one set."""
    return lambda report: float(stage(report, name)["fact_accuracy"][of_set])


def drop(before: str, after: str, of_set: str) -> Callable[[Report], float]:
    """Fact accuracy lost between two stages."""
    return lambda report: accuracy(before, of_set)(report) - accuracy(after, of_set)(report)


def figure(name: str, key: str) -> Callable[[Report], float]:
    """A plain figure of a stage."""
    return lambda report: float(stage(report, name)[key])


def gain(report: Report) -> float:
    """PPO's mean score above SFT's, in standard deviations of SFT's scores."""
    sft, ppo = stage(report, "sft"), stage(report, "ppo")
    return float((ppo["mean_score"] - sft["mean_score"]) / sft["score_std"])


def perplexity_ratio(report: Report) -> float:
    """Perplexity on the domain: untrained over Base FT."""
    key = "perplexity_domain"
    return float(stage(report, "untrained")[key] / stage(report, "base_finetune")[key])


def violations_left(report: Report) -> float:
    """Share of PPO's violations that self-critique leaves."""
    key = "violation_rate"
    return float(stage(report, "self_critique")[key] / stage(report, "ppo")[key])


BARS = (
    Bar("Base FT: perplexity, untrained / trained", perplexity_ratio, at_least=200),
    Bar("Base FT: fact cloze", figure("base_finetune", "fact_cloze"), at_least=0.7),
    Bar("Base FT: chat accuracy, A", accuracy("base_finetune", "A"), at_most=0.5),
    Bar("SFT: fact accuracy A", accuracy("sft", "A"), at_least=0.85),
    Bar("SFT: fact accuracy B", accuracy("sft", "B"), at_least=0.85),
    Bar("Reward model: accuracy", lambda r: r["reward_model"]["accuracy"], at_least=0.9),
    Bar("… wrong value", lambda r: r["reward_model"]["by_kind"]["wrong_value"], at_least=0.8),
    Bar("… other fact", lambda r: r["reward_model"]["by_kind"]["other_fact"], at_least=0.75),
    Bar("PPO: gain, SFT standard deviations", gain, at_least=1),
    Bar("PPO: KL to SFT, nats an answer", figure("ppo", "kl_to_sft"), at_most=2),
    Bar("PPO: accuracy lost, A", drop("sft", "ppo", "A"), at_most=0.05),
    Bar("PPO: accuracy lost, B", drop("sft", "ppo", "B"), at_most=0.05),
    Bar("Violations before self-critique", figure("ppo", "violation_rate"), at_least=0.25),
    Bar("Violations after / before", violations_left, at_most=0.5),
    Bar("Self-critique: accuracy lost, A", drop("ppo", "self_critique", "A"), at_most=0.05),
    Bar("Self-critique: accuracy lost, B", drop("ppo", "self_critique", "B"), at_most=0.05),
    Bar("Seconds, all 13 steps", lambda r: r["wall_seconds"], at_most=360),
    Bar("Peak memory, GB", lambda r: r["peak_gb"], at_most=4),
)


def run(seed: int, state: Path, recipe: str = "zenml_config.yaml") -> Report:
    """One run; its report, wall-clock seconds and peak memory. `state` may hold earlier runs."""
    environment = {
        **os.environ,
        "ZENML_CONFIG_PATH": str(state / "zenml"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{state / 'mlflow.db'}",
        **{
            f"POSTTRAIN_{name.upper()}": str(state / name)
            for name in ("work", "cache", "checkpoints")
        },
    }
    config = yaml.safe_load((ROOT / recipe).read_text(encoding="utf-8"))
    config["parameters"]["recipe"]["seed"] = seed
    file = state / "run.yaml"
    file.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    _call(environment, "posttrain", "stack", "embedded", "--state", str(state))
    begun = time.perf_counter()
    target = "pipelines.post_training.post_training"
    used = _call(environment, "zenml", "pipeline", "run", target, "-c", str(file))[1]
    seconds = time.perf_counter() - begun
    report: Report = json.loads(_call(environment, "posttrain", "report", "--json")[0])
    return {
        **report,
        "seed": seed,
        "wall_seconds": round(seconds),
        "cpu_seconds": round(used.ru_utime + used.ru_stime),
        "peak_gb": round(used.ru_maxrss / 1e6, 2),
    }


def run_anew(seed: int) -> Report:
    """One run from an empty state, which is thrown away."""
    with tempfile.TemporaryDirectory() as state:
        return run(seed, Path(state))


def _call(environment: dict[str, str], *command: str) -> tuple[str, resource.struct_rusage]:
    """Output of a command, and what it used; ends the benchmark if it fails."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        log.seek(0)
        said = output.read().decode()
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{said[-3000:]}{log.read().decode()[-3000:]}")
        return said, usage


def table(reports: list[Report]) -> str:
    """A row a bar, a column a seed, and the median."""
    heads = ["figure", "bar", *(f"seed {report['seed']}" for report in reports), "median"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for bar in BARS:
        values = [bar.read(report) for report in reports]
        cells = [f"{value:.3g}" + ("" if bar.holds(value) else " ✗") for value in values]
        lines.append(
            f"| {bar.name} | {bar.text} | {' | '.join(cells)} | {statistics.median(values):.3g} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the seeds, print the table, write the results; fails where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    reports = []
    for seed in parser.parse_args().seeds:
        reports.append(run_anew(seed))
        print(table(reports[-1:]), flush=True)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": sys.version}
    RESULTS.parent.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine, "runs": reports}, indent=1, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    print(table(reports))
    missed = [
        bar.name
        for bar in BARS
        if not bar.holds(statistics.median(values := [bar.read(r) for r in reports]))
        or sum(map(bar.holds, values)) * 3 < len(values) * 2
    ]
    if missed:
        sys.exit(f"missed: {missed}")


if __name__ == "__main__":
    main()
