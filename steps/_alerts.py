"""Tell somebody: a log line always, and the stack's alerter (Slack, Discord) where there is one.

`on_failure` is the hook of every step of our pipelines. ZenML runs it in the step's process when
the last attempt has failed; it is no part of the cache key. A process that is killed from outside
runs no hook: of that the run's exit code tells.
"""

from zenml import get_step_context
from zenml.client import Client
from zenml.logger import get_logger

from posttrain.data.pii import mask
from posttrain.hiding import hide

logger = get_logger(__name__)

MAX_CHARS = 400


def on_failure(exception: BaseException) -> None:
    """The hook: says which step of which run failed, and why."""
    alert(f"failed: {type(exception).__name__}: {exception}", error=True)


def alert(what: str, error: bool = False) -> None:
    """Say in one line what happened in this step, and how to look and go on.

    An alerter that fails is a log line too: it must not fail the run.
    """
    context = get_step_context()
    run, step = context.pipeline_run.name, context.step_run.name
    message = one_line(f"posttrain: step {step} of run {run} {what}")
    message += f" | look: zenml pipeline runs list --name {run}, posttrain report"
    if error:
        message += " | go on where it failed: start the same run again"
    (logger.error if error else logger.warning)(message)
    post(message)


def post(message: str) -> None:
    """Hand a message to the stack's alerter, where there is one."""
    try:
        alerter = Client().active_stack.alerter
        if alerter is not None and alerter.post(message) is False:
            logger.error("the alerter %s did not take the message", alerter.name)
    except Exception as error:  # whatever it is: the run goes on
        logger.error("the alerter failed: %s", one_line(f"{type(error).__name__}: {error}"))


def one_line(text: str) -> str:
    """The first of it, without secrets, personal data and line breaks."""
    found = mask(hide(" ".join(text.split())))
    return found if len(found) <= MAX_CHARS else f"{found[:MAX_CHARS]}…"
