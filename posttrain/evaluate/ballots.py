"""Where blind verdicts are kept: a log that only grows, and the preferences that it amounts to.

A folder a registered model holds `verdicts.jsonl`, a line a verdict with the texts and the rater;
`preferences.jsonl`, written anew from it after each verdict, which names no rater and is a source
for `ingest.preferences`; and `pairs/*.jsonl`, what was drawn to be rated.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pydantic

from posttrain.align.human_preferences import majority, preference
from posttrain.evaluate.blind import Ballot, VersionPair, last_words

VERDICTS, PREFERENCES, PAIRS = "verdicts.jsonl", "preferences.jsonl", "pairs"


def folder_of(state: Path, name: str) -> Path:
    """Where a registered model's verdicts lie; no name leads out of `state`."""
    return state / f"model-{quote(name, safe='')}"


def pairs_file(state: Path, name: str, versions: tuple[int, int]) -> Path:
    """Where the pairs of two versions are looked for."""
    return folder_of(state, name) / PAIRS / f"{min(versions)}-{max(versions)}.jsonl"


class Ballots:
    """The verdicts on one registered model's versions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> list[Ballot]:
        """Every verdict, the oldest first.

        Raises:
            ValueError: a line is no verdict.
        """
        file = self.folder / VERDICTS
        if not file.exists():
            return []
        *whole, _unfinished = file.read_bytes().split(b"\n")
        # what follows the last end of a line was being written when a process was killed
        return [_ballot(line, f"{file}: line {i}") for i, line in enumerate(whole, 1) if line]

    def add(self, ballot: Ballot) -> None:
        """Append a verdict, safe on the disk, and write the preferences anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            with (self.folder / VERDICTS).open("a+b") as log:
                _mend(log.fileno())
                log.write(ballot.model_dump_json().encode() + b"\n")
                log.flush()
                os.fsync(log.fileno())
            self._write_preferences()

    def _write_preferences(self) -> None:
        rows = preferences(self.read())
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        staging = self.folder / f".{PREFERENCES}"
        staging.write_text(text, encoding="utf-8")
        staging.replace(self.folder / PREFERENCES)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def preferences(ballots: Iterable[Ballot]) -> list[dict[str, Any]]:
    """Rows for ingest: the side that more than half of a pair's raters prefer, by last words."""
    decided = [(pair, majority(choices)) for pair, choices in last_words(ballots)[0]]
    return [preference(pair, choice) for pair, choice in decided if choice and choice != "tie"]


def read_pairs(file: Path) -> list[VersionPair]:
    """Pairs as `write_pairs` wrote them.

    Raises:
        ValueError: the file cannot be read, or a line is no pair.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            pairs.append(VersionPair.model_validate_json(line))
        except pydantic.ValidationError as error:
            raise ValueError(
                f"{file}: line {number} is no pair of two versions ({_fault(error)}); give a file "
                "that `posttrain preferences versions` wrote"
            ) from error
    return pairs


def write_pairs(pairs: Sequence[VersionPair], file: Path) -> None:
    """Write pairs a line each; the file has its name only when it is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    staging = file.with_name(f".{file.name}.{os.getpid()}")
    text = "".join(f"{pair.model_dump_json()}\n" for pair in pairs)
    staging.write_text(text, encoding="utf-8")
    staging.replace(file)


def _mend(log: int) -> None:
    """End a line that a killed process left unfinished, by taking it away: it was never said."""
    size = os.fstat(log).st_size
    tail = os.pread(log, size, 0)
    os.ftruncate(log, tail.rfind(b"\n") + 1)


def _ballot(line: bytes, where: str) -> Ballot:
    try:
        return Ballot.model_validate_json(line)
    except pydantic.ValidationError as error:
        raise ValueError(
            f"{where} is no verdict ({_fault(error)}); mend the line or take it out"
        ) from error


def _fault(error: pydantic.ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'JSON'}: {fault['msg']}"
