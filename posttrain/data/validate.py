"""Rows that must not be trained on, each quarantined with the first reason that applies.

1. held-out text is fingerprinted; 2. each role's rows are judged by its suite, a batch at a time;
3. copies are found among the rows that passed; 4. rows are parted into clean ones and quarantine.
What is held in memory for a row is its reason and 16 bytes; text is read again where it is needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from posttrain.artifacts import DRIFT, Quarantine, Records
from posttrain.data.data_report import RoleReport, render
from posttrain.data.drift import against, forbidden
from posttrain.data.duplicates import Flags, NearCopy, Shard, first_copies, near_copies
from posttrain.data.expectations import Suite, new_context, new_suite, save_data_docs
from posttrain.data.rows import ROLES, SCHEMAS, is_held_out, question, texts
from posttrain.data.rules import DERIVED, Examiner, count_columns, whole_text
from posttrain.data.text import fingerprint, normalise
from posttrain.facts import QuarantineFacts, RecordsFacts, Role
from posttrain.profiles import ChampionData, DataDrift
from posttrain.recipe.validation import REASONS, RoleRules, ValidationRecipe
from posttrain.runtime import Runtime

SHARD_ROWS = 100_000
"""Rows whose MinHash signatures are sorted in memory at a time."""

_NONE = len(REASONS)
_NUMBERS: dict[str, int] = {reason: number for number, reason in enumerate(REASONS)}
_OVERLAP, _EXACT, _NEAR = (
    _NUMBERS[name] for name in ("held_out_overlap", "exact_duplicate", "near_duplicate")
)


@dataclass(frozen=True)
class Validated:
    """Clean rows, failing rows, and what a person looks at."""

    records: Records
    quarantine: Quarantine
    report_html: str
    drift: DataDrift | None
    """Against the champion's data; None where the recipe asks for no comparison."""

    failures: tuple[str, ...]
    """Roles that lost more than they may, and drift that the recipe forbids, in words; the caller
    saves the report and then raises."""


@dataclass
class Verdicts:
    """What is known of every row of one role."""

    role: Role
    reasons: np.ndarray[Any, np.dtype[np.uint8]]
    """Number of the reason; `len(REASONS)` where the row passed."""

    prints: np.ndarray[Any, Any]
    """16 bytes that stand for the row's text."""

    held_out: Flags
    details: dict[int, str] = field(default_factory=dict)

    def fail(self, row: int, reason: int, detail: str) -> None:
        """Give a row a reason, unless it has one that comes before."""
        if reason < self.reasons[row]:
            self.reasons[row] = reason
            self.details[row] = detail

    @property
    def passed(self) -> Flags:
        """Rows without a reason."""
        return np.asarray(self.reasons == _NONE)


def validate(
    records: Records, recipe: ValidationRecipe, champion: ChampionData | None = None
) -> Validated:
    """Part records into those to train on and those that failed, with a report on both.

    `champion` is what they are compared with; needed only where `recipe.drift` asks for it.
    """
    runtime = Runtime.from_environment()
    records.verify()
    clean, failed = runtime.new_folder("records"), runtime.new_folder("quarantine")
    roles = [role for role in ROLES if records.file(role).exists()]
    held_out = held_out_prints(records, roles)
    context = new_context()
    reports = []
    for role in roles:
        rules: RoleRules = getattr(recipe, role)
        suite = new_suite(context, role, rules)
        report = RoleReport(role, rules)
        examine(records, suite, held_out, recipe, (clean, failed), report)
        reports.append(report)
    save_data_docs(context, failed / "data_docs")
    sources = records.facts.sources
    profiles = {r.role: r.tally.profile(sources.get(r.role)) for r in reports}
    failures = tuple(text for report in reports if (text := report.failure))
    drift = None
    if champion is not None and recipe.drift is not None:
        drift = against([r.tally for r in reports], sources, champion, recipe.drift)
        (failed / DRIFT).write_text(drift.model_dump_json(indent=1) + "\n", encoding="utf-8")
        failures += forbidden(drift, recipe.drift)
    facts = RecordsFacts(
        num_rows={report.role: report.num_kept for report in reports}, sources=sources
    )
    quarantined = QuarantineFacts(
        num_rows={r.role: dict(r.reasons) for r in reports}, sources=sources, profiles=profiles
    )
    return Validated(
        Records.write(clean, "validate", facts),
        Quarantine.write(failed, "validate", quarantined),
        render(reports, failures, drift),
        drift,
        failures,
    )


def examine(
    records: Records,
    suite: Suite,
    held_out: frozenset[bytes],
    recipe: ValidationRecipe,
    targets: tuple[Path, Path],
    report: RoleReport,
) -> None:
    """Judge one role, write its rows to the clean ones and those that failed, tell the report."""
    role, rules, file = report.role, report.rules, records.file(report.role)
    counts = count_columns(_column(file, "extra"))
    num_rows = records.facts.num_rows[role]
    rare = frozenset(name for name, count in counts.items() if 2 * count < num_rows)
    verdicts = judge(file, Examiner(role, rules, recipe, rare, held_out), suite)
    find_copies(file, verdicts, rules, recipe)
    report.outcomes = list(suite.outcomes.values())
    report.ignored = {name: n for name, n in sorted(counts.items()) if name not in rare}
    part(file, verdicts, *targets, report)


def held_out_prints(records: Records, roles: list[Role]) -> frozenset[bytes]:
    """Fingerprints of what is asked in held-out splits and by probes."""
    return frozenset(
        fingerprint(normalise(asked))
        for role in roles
        for batch in row_groups(records.file(role))
        for row in batch.to_pylist()
        if is_held_out(role, row) and (asked := question(role, row))
    )


def judge(file: Path, examiner: Examiner, suite: Suite) -> Verdicts:
    """Run the suite over a role's rows."""
    num_rows = pq.read_metadata(file).num_rows
    verdicts = Verdicts(
        examiner.role,
        np.full(num_rows, _NONE, np.uint8),
        np.zeros(num_rows, "S16"),
        np.zeros(num_rows, np.bool_),
    )
    start = 0
    for batch in row_groups(file):
        rows = batch.to_pylist()
        derived = [examiner.derive(row) for row in rows]
        frame = pd.DataFrame(derived, columns=DERIVED)
        for failure in suite.run(frame):
            verdicts.fail(start + failure.row, _NUMBERS[failure.reason], failure.detail)
        for number, row in enumerate(rows, start):
            verdicts.held_out[number] = is_held_out(examiner.role, row)
            if verdicts.reasons[number] == _NONE:
                verdicts.prints[number] = fingerprint(whole_text(examiner.role, row))
        start += len(rows)
    return verdicts


def find_copies(file: Path, verdicts: Verdicts, rules: RoleRules, recipe: ValidationRecipe) -> None:
    """Give rows that copy an earlier or a held-out row their reason."""
    exact = first_copies(verdicts.prints, verdicts.passed) if rules.exact_duplicates else {}
    near: list[NearCopy] = []
    if rules.near_duplicates:
        candidates = verdicts.passed
        candidates[list(exact)] = False
        shards = _shards(file, verdicts.role, candidates)
        is_across = recipe.held_out_overlap and verdicts.role == "corpus"
        near = list(near_copies(shards, rules.near_duplicates, verdicts.held_out, is_across))
    ids = _ids(file, {copy.of for copy in near} | set(exact.values()))
    for copy in near:
        across = verdicts.held_out[copy.of] and not verdicts.held_out[copy.row]
        detail = f"shares {copy.similarity:.0%} of its shingles with {ids[copy.of]}"
        verdicts.fail(copy.row, _OVERLAP if across else _NEAR, detail)
    for row, first in exact.items():
        if verdicts.reasons[first] == _OVERLAP:
            verdicts.fail(row, _OVERLAP, verdicts.details[first])
        verdicts.fail(row, _EXACT, f"the same text as {ids[first]}")


def part(file: Path, verdicts: Verdicts, clean: Path, failed: Path, report: RoleReport) -> None:
    """Write the rows that passed, and those that failed with their reason, and tell the report."""
    schema = SCHEMAS[verdicts.role]
    explained = schema.append(pa.field("reason", pa.string()))
    explained = explained.append(pa.field("detail", pa.string()))
    start, all_passed = 0, verdicts.passed
    with (
        pq.ParquetWriter(clean / file.name, schema, compression="zstd") as kept,
        pq.ParquetWriter(failed / file.name, explained, compression="zstd") as quarantined,
    ):
        for batch in row_groups(file):
            passed = all_passed[start : start + len(batch)]
            kept.write_table(batch.filter(pa.array(passed)))
            rows = (np.flatnonzero(~passed) + start).tolist()
            reasons = [REASONS[verdicts.reasons[row]] for row in rows]
            details = [verdicts.details[row] for row in rows]
            bad = batch.filter(pa.array(~passed))
            for name, values in (("reason", reasons), ("detail", details)):
                bad = bad.append_column(name, pa.array(values, pa.string()))
            quarantined.write_table(bad)
            report.add(batch.to_pylist(), passed.tolist())
            report.add_failures(bad.to_pylist())
            start += len(batch)


def row_groups(file: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The batches that `ingest` wrote, one at a time."""
    with pq.ParquetFile(file) as parquet:
        for number in range(parquet.num_row_groups):
            yield parquet.read_row_group(number, columns=columns)


def _column(file: Path, name: str) -> Iterator[str | None]:
    for batch in row_groups(file, [name]):
        yield from batch.column(name).to_pylist()


def _ids(file: Path, rows: set[int]) -> dict[int, str]:
    return {row: str(name) for row, name in enumerate(_column(file, "id")) if row in rows}


def _shards(file: Path, role: Role, candidates: Flags) -> list[Shard]:
    """Row groups in shards of about `SHARD_ROWS` rows."""
    metadata = pq.read_metadata(file)
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    shards: dict[int, list[tuple[int, int]]] = {}
    start = 0
    for number, size in enumerate(sizes):
        shards.setdefault(start // SHARD_ROWS, []).append((number, start))
        start += size
    return [partial(_candidate_texts, file, role, candidates, groups) for groups in shards.values()]


def _candidate_texts(
    file: Path, role: Role, candidates: Flags, groups: list[tuple[int, int]]
) -> Iterator[tuple[int, str]]:
    with pq.ParquetFile(file) as parquet:
        for number, start in groups:
            for row, values in enumerate(parquet.read_row_group(number).to_pylist(), start):
                if candidates[row]:
                    yield row, "\n".join(texts(role, values))
