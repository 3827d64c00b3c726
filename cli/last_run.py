"""The last pipeline run that measured something, through ZenML's client."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

from posttrain.artifacts import BaseModel, Policy, Quarantine, Tokens
from posttrain.decisions import Promotion
from posttrain.recipe.human_preferences import Writer
from posttrain.reports import Evaluation

PIPELINES = ("post_training", "fine_tuning")
LOOKED_AT = 50
"""Runs to look back over."""

POLICIES = ("assistant", "policy", "aligned", "rlaif_policy")
"""Artifacts that hold one, in the order of training."""

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class LastRun:
    """One run of ours and what it left."""

    run: Any
    """ZenML's PipelineRunResponse."""

    newer: tuple[str, ...]
    """Later runs without an evaluation, `name (status)`."""

    @property
    def name(self) -> str:
        return str(self.run.name)

    @property
    def seconds(self) -> float | None:
        """Wall time; None while it runs."""
        start, end = self.run.start_time, self.run.end_time
        return (end - start).total_seconds() if start and end else None

    @property
    def evaluation(self) -> Evaluation:
        evaluation = self._load("evaluation", Evaluation)
        assert evaluation is not None, self.name
        return evaluation

    @property
    def promotion(self) -> Promotion | None:
        return self._load("promotion", Promotion)

    @property
    def report(self) -> str | None:
        return self._load("report", str)

    @property
    def quarantined(self) -> dict[str, int]:
        """Reason -> rows, over all roles."""
        quarantine = self._load("quarantine", Quarantine)
        total: dict[str, int] = {}
        for reasons in quarantine.facts.num_rows.values() if quarantine else ():
            for reason, rows in reasons.items():
                total[reason] = total.get(reason, 0) + rows
        return dict(sorted(total.items()))

    @property
    def tokens(self) -> Tokens:
        return self._needed("tokens", Tokens)

    @property
    def domain(self) -> BaseModel:
        return self._needed("domain", BaseModel)

    @property
    def policies(self) -> dict[Writer, Policy]:
        """What the run trained, by stage, in the order of training."""
        found = [self._load(name, Policy) for name in POLICIES]
        return {cast(Writer, one.stage): one for one in found if one is not None}

    def _needed(self, name: str, kind: type[Kind]) -> Kind:
        found = self._load(name, kind)
        if found is None:
            raise ValueError(f"{self.name}: has no {name}; name a run that trained by --run")
        return found

    @cached_property
    def _outputs(self) -> dict[str, Any]:
        return outputs(self.run)

    def _load(self, name: str, kind: type[Kind]) -> Kind | None:
        artifact = self._outputs.get(name)
        return cast(Kind, artifact.load()) if artifact else None


def last_run() -> LastRun:
    """The newest run of ours with an evaluation.

    Raises:
        ValueError: there is none.
    """
    from zenml.client import Client

    newer: list[str] = []
    for run in Client().list_pipeline_runs(sort_by="desc:created", size=LOOKED_AT).items:
        if run.pipeline is None or run.pipeline.name not in PIPELINES:
            continue
        if "evaluation" in outputs(run):
            return LastRun(run, tuple(newer))
        newer.append(f"{run.name} ({run.status.value})")
    seen = f"; seen: {', '.join(newer[:3])}" if newer else ""
    raise ValueError(
        f"no run of {' or '.join(PIPELINES)} has an evaluation{seen}; run `make demo`, or "
        "`zenml pipeline run pipelines.fine_tuning.fine_tuning -c zenml_config.yaml`, in the shell "
        "that has read .posttrain/env"
    )


def run_of(name: str | None) -> LastRun:
    """The run of that name or id; the last one that measured something where none is given.

    Raises:
        ValueError: there is none.
    """
    from zenml.client import Client

    if name is None:
        return last_run()
    try:
        return LastRun(Client().get_pipeline_run(name), ())
    except (KeyError, ValueError) as error:
        raise ValueError(f"--run {name}: {error}") from error


def outputs(run: Any) -> dict[str, Any]:
    """Artifact name -> version, over all steps; those of cached steps too."""
    return {
        name: versions[0]
        for step in run.steps.values()
        for name, versions in step.outputs.items()
        if versions
    }
