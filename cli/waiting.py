"""A person's word on a version: told to the run that waits for it, or carried out at once.

A run of the pipeline `promotion` waits in a process of its own, or is paused after its
`wait_minutes`; a paused one is resumed here, in the checkout that it was started in. ZenML lets one
answer win; who comes second is told what was decided.
"""

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from posttrain.approvals import Answer, Decision, Proposal, wait_name
from posttrain.decisions import HistoryEntry

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse, RunWaitConditionResponse

PATIENCE_SECONDS = 600
"""For a run to carry an answer out; on Kubernetes it starts a pod."""


@dataclass(frozen=True)
class Waiting:
    """A run that asks a person, and whether somebody has answered already."""

    run: str
    run_id: UUID
    condition: UUID
    proposal: Proposal
    answer: Answer | None
    """What a paused run was answered that nobody resumed."""


def say(
    name: str,
    version: int,
    decision: Literal["approve", "reject"],
    *,
    who: str,
    why: str,
    overrules: bool = False,
) -> HistoryEntry:
    """Approve or reject a version; what the promotion history says of it.

    `overrules`: approve although the gate refuses.

    Raises:
        Refused: the gate refuses it, and `overrules` is false.
        ValueError: the version is champion or does not exist, the champion changed since the run
            asked, or somebody else answered first.
    """
    from mlflow import MlflowClient

    from posttrain.registry import approval, promotions
    from posttrain.registry.overview import versions

    found = waiting(name, version) if has_zenml() else None
    if found is not None:
        answer = answer_to(found.proposal, decision, who, why, overrules)
        return tell(found, answer)
    if decision == "reject":
        client = MlflowClient()
        judged_as = {one.number: one.outcomes for one in versions(client, name)}
        outcomes = judged_as.get(version, ())  # none there: `reject` says what is
        return promotions.reject(client, name, version, who=who, why=why, outcomes=outcomes)
    judged, _ = approval.challenger(name, str(version))
    proposal = approval.propose(judged, None)
    return approval.decide(proposal, answer_to(proposal, decision, who, why, overrules), who)


def has_zenml() -> bool:
    """Whether a ZenML of this project is named: else its client would make one."""
    return bool(os.environ.get("ZENML_CONFIG_PATH") or os.environ.get("ZENML_STORE_URL"))


def waiting(name: str, version: int) -> Waiting | None:
    """The newest run that asks about a version."""
    from zenml.client import Client
    from zenml.enums import ExecutionStatus, RunWaitConditionStatus

    found = Client().list_run_wait_conditions(
        name=wait_name(name, version), sort_by="desc:created", hydrate=True
    )
    for condition in found.items:
        run = Client().get_pipeline_run(condition.run.id)
        pending = condition.status == RunWaitConditionStatus.PENDING
        if (pending and not run.status.is_finished) or run.status == ExecutionStatus.PAUSED:
            return _waiting(run, condition)
    return None


def _waiting(run: "PipelineRunResponse", condition: "RunWaitConditionResponse") -> Waiting:
    result = condition.result
    return Waiting(
        run=run.name,
        run_id=run.id,
        condition=condition.id,
        proposal=run.steps["gate"].outputs["proposal"][0].load(),
        answer=None if result is None else Answer.model_validate(result),
    )


def tell(found: Waiting, answer: Answer) -> HistoryEntry:
    """Answer a run, resume it where it is paused, and wait until the answer is carried out.

    Raises:
        ValueError: somebody else answered first, or the run failed; says why.
    """
    from zenml.client import Client
    from zenml.enums import RunWaitConditionResolution
    from zenml.exceptions import IllegalOperationError

    from posttrain.registry.approval import is_of

    if found.answer is None:
        with suppress(IllegalOperationError):  # another was first: the run tells what was decided
            Client().resolve_run_wait_condition(
                found.condition,
                resolution=RunWaitConditionResolution.CONTINUE,
                result=answer.model_dump(mode="json"),
            )
    elif found.answer.decision != answer.decision:
        raise ValueError(
            f"{found.run} is paused, and {found.answer.who} answered {found.answer.decision!r} "
            f"({found.answer.why}); `zenml pipeline runs resume {found.run}` carries that out"
        )
    entry = carried_out(found)
    if not is_of(entry, found.answer or answer):
        raise ValueError(
            f"{entry.who} was first: {_done(entry)} of {found.proposal.name} version "
            f"{found.proposal.version} ({entry.why}); your answer counts for nothing"
        )
    return entry


def carried_out(found: Waiting) -> HistoryEntry:
    """Wait until a run has carried its answer out; resume it where it is paused.

    Raises:
        ValueError: it failed, could not be resumed, or does not go on.
    """
    from zenml.client import Client
    from zenml.enums import ExecutionStatus

    said, until = "", time.monotonic() + PATIENCE_SECONDS
    while not (run := Client().get_pipeline_run(found.run_id)).status.is_finished:
        paused = run.status == ExecutionStatus.PAUSED
        if paused and said:
            raise ValueError(
                f"{found.run} is answered and could not be resumed; run `zenml pipeline runs "
                f"resume {found.run}` in the checkout that it was started in: {said}"
            )
        if time.monotonic() > until:
            raise ValueError(
                f"{found.run} was answered and has not gone on for {PATIENCE_SECONDS} s: was its "
                "process killed? Say the same again: no run waits now, and it is done at once"
            )
        if paused:
            said = _resume(found)
        time.sleep(1)
    decided = run.steps.get("decide")
    if decided is None or not decided.outputs:
        raise ValueError(f"{found.run}: {_failure(run)}")
    entry: HistoryEntry = decided.outputs["decision"][0].load()
    return entry


def _resume(found: Waiting) -> str:
    """By ZenML's own command, whose last words it returns.

    The local stack runs the rest of the pipeline in that command's process.
    """
    zenml = Path(sys.executable).parent / "zenml"  # this environment's, activated or not
    command = [str(zenml), "pipeline", "runs", "resume", str(found.run_id)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return " ".join((done.stdout + done.stderr).split())[-500:] or "no word"


def _failure(run: "PipelineRunResponse") -> str:
    """What the step that carries the answer out said."""
    decided = run.steps.get("decide")
    told = decided.exception_info if decided is not None else run.exception_info
    if told is None:
        return f"nothing was decided; the run is {run.status.value}"
    return told.message or told.traceback.strip().splitlines()[-1]


def answer_to(
    proposal: Proposal, decision: Literal["approve", "reject"], who: str, why: str, overrules: bool
) -> Answer:
    """What a run is told.

    Raises:
        Refused: the gate refuses the version, and `overrules` is false.
    """
    chosen: Decision = decision
    if decision == "approve" and not proposal.passed:
        if not overrules:
            from posttrain.registry.by_hand import Judged, Refused

            judged = (proposal.name, proposal.version, proposal.champion, proposal.outcomes)
            raise Refused(Judged(*judged))
        chosen = "overrule"
    return proposal.answer_schema.model_validate({"decision": chosen, "who": who, "why": why})


def _done(entry: HistoryEntry) -> str:
    return {"approve": "approval", "reject": "rejection"}.get(entry.action, entry.action)
