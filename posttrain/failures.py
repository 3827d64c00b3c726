"""What a process of several leaves when it fails, so that the one that started it can raise it."""

import pickle
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Failure:
    """An error, with when it was raised: the first is the cause, later ones may only follow."""

    seconds: float
    kind: type[BaseException]
    args: tuple[Any, ...]
    state: dict[str, Any]
    """Its attributes: an error may carry what was made before it."""

    story: str
    """Its traceback."""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Of an error just caught."""
        story = "".join(traceback.format_exception(error))
        found = cls(time.time(), type(error), error.args, vars(error), story)
        try:
            pickle.dumps(found)
        except Exception:  # it holds what no other process could read
            return cls(found.seconds, RuntimeError, (f"{found.kind.__name__}: {error}",), {}, story)
        return found

    def save(self, folder: Path, rank: int) -> None:
        """Write it whole or not at all."""
        part = folder / f"{rank}.part"
        # between processes of one step, in a folder that is theirs alone: no artifact is pickled
        part.write_bytes(pickle.dumps(self))
        part.rename(folder / f"{rank}.failure")

    def error(self) -> BaseException:
        """The error again, its constructor not called: that may want other arguments."""
        error = self.kind.__new__(self.kind, *self.args)
        error.args = self.args
        vars(error).update(self.state)
        error.add_note(f"In a process of its own:\n{self.story}")
        return error


def first_failure(folder: Path, number: int) -> BaseException | None:
    """The error that came first, as the main process raised it where it did; None if none told.

    Args:
        folder: where the processes saved them.
        number: of the processes.
    """
    found: dict[int, Failure] = {
        int(file.stem): pickle.loads(file.read_bytes())  # noqa: S301 -- a folder of this step alone
        for file in folder.glob("*.failure")
    }
    if not found:
        return None
    first = min(found.values(), key=lambda failure: failure.seconds)
    if 0 in found and found[0].kind is first.kind:
        first = found[0]
    error = first.error()
    if silent := sorted(set(range(number)) - found.keys()):
        error.add_note(f"Processes {silent} left no word: ended from outside, or out of memory.")
    return error
