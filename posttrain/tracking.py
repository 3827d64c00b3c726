"""One way to record a curve: a line in the stage's `history.jsonl`, and the active MLflow run.

The run is ZenML's: its experiment tracker opens one a step. Without one (a notebook, a test) only
the file is written. Each point goes to the spool when it is known, and from there to MLflow within
a second or as soon as it answers, so that its UI shows a stage while it trains and training waits
for nobody. Each stage has a run of its own, so names say what is measured and not of which stage:
MLflow lays one stage's curve over another's (docs/tracking.md).

`train/loss`        a step of gradient training: Base FT, SFT, reward model, DPO, self-critique
`eval/loss`         the same on held-out rows
`ppo/kl`            an iteration of PPO, of RLAIF's too
`result/steps`      what a stage says of itself at its end
`cost/wall_seconds` what it took
`evaluate/ppo/...`  a stage's figure, in the run of `evaluate`; `final/...` in the registered one's
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from posttrain import processes
from posttrain.active_run import tell
from posttrain.artifacts import HISTORY
from posttrain.cost import keep, measuring
from posttrain.reports import StepCost

P = ParamSpec("P")
Result = TypeVar("Result")

RESULT, EVALUATE, COST = "result", "evaluate", "cost"
"""Groups of figures that are no curves."""

EVAL = "eval_"
"""How Trainer names what it measures on held-out rows."""

MEBIBYTE = 2**20


class Curves:
    """Curves of one stage. Of several processes one records."""

    def __init__(self, folder: Path, stage: str, group: Literal["train", "ppo"] = "train") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / HISTORY
        self.stage = stage
        self.group = group

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Record `figures` at `step`. JSON has no NaN: such a figure is written as null."""
        if not processes.is_main():
            return
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **finite}) + "\n")
        named = {metric_name(self.group, name): value for name, value in figures.items()}
        tell(step=step, metrics=named)


def metric_name(group: str, figure: str) -> str:
    """`loss` -> `train/loss`; `eval_loss` -> `eval/loss`."""
    if figure.startswith(EVAL):
        return f"eval/{figure.removeprefix(EVAL)}"
    return f"{group}/{figure}"


def log_parameters(stage: str, parameters: Mapping[str, object]) -> None:
    """Record a stage's settings in the active MLflow run, once.

    MLflow's parameters are immutable: a retried step leaves what its first attempt wrote.
    """
    named = {f"{stage}.{name}": str(value)[:500] for name, value in parameters.items()}
    tell(parameters=named)


def log_figures(group: str, figures: Mapping[str, float]) -> None:
    """Record figures that are no curve in the active MLflow run, as `group/name`."""
    tell(metrics={f"{group}/{name}": value for name, value in figures.items()})


def log_cost(cost: StepCost) -> None:
    """Record what a step took in the active MLflow run."""
    figures = {"wall_seconds": cost.wall_seconds, "cpu_seconds": cost.cpu_seconds}
    figures["peak_memory_mib"] = cost.peak_bytes / MEBIBYTE
    if cost.peak_gpu_bytes is not None:
        figures["peak_gpu_memory_mib"] = cost.peak_gpu_bytes / MEBIBYTE
    log_figures(COST, figures | {f"{use}_tokens": num for use, num in cost.tokens.items()})


def tracked(work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Do a step's work; what it cost lies with what it makes and is logged."""
    with measuring() as meter:
        made = work(*args, **kwargs)
    if (took := keep(meter, made, (*args, *kwargs.values()))) is not None:
        log_cost(took)
    return made


def log_page(name: str, page: str) -> None:
    """Keep a page with the active MLflow run, whose UI shows it under "Artifacts"."""
    tell(page=(name, page))


def read_history(folder: Path) -> list[dict[str, float | None]]:
    """The curve's points in a trained folder; empty where nothing was trained."""
    file = folder / HISTORY
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
