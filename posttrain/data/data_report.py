"""The data report: a static page, verdict first: what was kept, and why the rest was not.

No JavaScript and no links: ZenML's dashboard shows it in a sandboxed frame 384 pixels high. Texts
are escaped and personal data in them are masked.
"""

from collections import Counter
from dataclasses import dataclass, field
from html import escape

from posttrain.data.expectations import Outcome
from posttrain.data.pii import mask
from posttrain.data.profile import Tally, bin_length
from posttrain.data.rows import Row, conversation, texts
from posttrain.facts import Role
from posttrain.profiles import DataDrift, moves
from posttrain.recipe.validation import REASONS, RoleRules

NUM_EXAMPLES = 5
_EXAMPLE_CHARS = 160


@dataclass
class RoleReport:
    """What the report tells of one role, gathered batch by batch."""

    role: Role
    rules: RoleRules
    outcomes: list[Outcome] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)
    """Columns that most rows have and nothing uses -> rows."""

    num_rows: int = 0
    num_kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Row]] = field(default_factory=dict)
    tally: Tally = field(init=False)
    """What the kept rows look like."""

    def __post_init__(self) -> None:
        self.tally = Tally(self.role)

    def add(self, rows: list[Row], passed: list[bool]) -> None:
        """Count a batch, and what its kept rows look like."""
        self.num_rows += len(rows)
        self.num_kept += sum(passed)
        self.tally.add([row for row, is_kept in zip(rows, passed, strict=True) if is_kept])

    def add_failures(self, rows: list[Row]) -> None:
        """Count quarantined rows and keep the first of each reason as examples."""
        self.reasons.update(row["reason"] for row in rows)
        for row in rows:
            shown = self.examples.setdefault(row["reason"], [])
            if len(shown) < NUM_EXAMPLES:
                shown.append(row)

    @property
    def failing_share(self) -> float:
        """Share of rows in quarantine."""
        return 1 - self.num_kept / self.num_rows if self.num_rows else 0.0

    @property
    def failure(self) -> str | None:
        """Why the role fails the step, or None."""
        if self.num_kept and self.failing_share <= self.rules.max_failing_share:
            return None
        worst = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.most_common(3))
        return (
            f"{self.role}: {self.num_rows - self.num_kept:,} of {self.num_rows:,} rows failed "
            f"({self.failing_share:.1%}; {worst}); at most {self.rules.max_failing_share:.1%} may: "
            f"mend the source, or raise validation.{self.role}.max_failing_share"
        )


def render(
    reports: list[RoleReport], failures: tuple[str, ...], drift: DataDrift | None = None
) -> str:
    """The whole page; `drift` is None where the recipe asks for no comparison."""
    num_rows = sum(report.num_rows for report in reports)
    num_kept = sum(report.num_kept for report in reports)
    verdict = "Data fails" if failures else "Data passes"
    summary = f"{num_kept:,} of {num_rows:,} rows kept, {num_rows - num_kept:,} in quarantine"
    body = [
        f'<h1 class="{"bad" if failures else "good"}">{verdict}: {summary}</h1>',
        *(f'<p class="bad">{escape(failure)}</p>' for failure in failures),
        _overview(reports),
        _drift(drift) if drift is not None else "",
        *(_role(report) for report in reports),
        _expectations(reports),
    ]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Data report</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


def _overview(reports: list[RoleReport]) -> str:
    by_role = [
        [
            report.role,
            f"{report.num_rows:,}",
            f"{report.num_kept:,}",
            f"{report.failing_share:.1%}",
            f"{report.rules.max_failing_share:.1%}",
        ]
        for report in reports
    ]
    by_reason = [
        [reason, *(f"{report.reasons[reason]:,}" for report in reports)]
        for reason in REASONS
        if any(report.reasons[reason] for report in reports)
    ]
    head = ["role", "rows in", "kept", "failed", "may fail"]
    roles = ["quarantined for", *(report.role for report in reports)]
    return _table(head, by_role) + (_table(roles, by_reason) if by_reason else "")


def _drift(drift: DataDrift) -> str:
    """The comparison with the data of the champion's run."""
    title = "<h2>Against the champion's data</h2>"
    note = f'<p class="note">{escape(drift.note)}</p>' if drift.note else ""
    rows = [
        [
            role.role,
            one.dimension,
            f"{one.psi:.3f}",
            f"{one.expected:.3f}",
            f"{one.chance:.3f}",
            one.level,
            mask(moves(one)),
        ]
        for role in drift.roles
        for one in role.dimensions
    ]
    if not rows:
        return title + (note or '<p class="note">too few rows to compare</p>')
    count = len(drift.beyond)
    verdict = f"{count} of {len(rows)} comparisons beyond their limit" if count else "no drift"
    sizes = ", ".join(f"{r.role} {r.num_rows:,} ({r.num_rows_then:,})" for r in drift.roles)
    head = ["role", "what", "PSI", "no drift", "chance", "", "moved most, then to now"]
    return (
        f'{title}<p class="{"bad" if count else "good"}">Version {drift.champion}: {verdict}</p>'
        f"{note}{_table(head, rows)}"
        '<p class="note">PSI: population stability index. No drift: its mean between two samples '
        "of one source, of these sizes; chance: what they seldom exceed. "
        f"Rows now (then): {sizes}</p>"
    )


def _role(report: RoleReport) -> str:
    parts = [f"<h2>{report.role}</h2>", _histogram(report)]
    if report.ignored:
        ignored = ", ".join(f"{escape(name)} ({n:,})" for name, n in report.ignored.items())
        parts.append(f"<p>Columns that are not used (rows that have them): {ignored}</p>")
    rows = [
        [reason, mask(str(row["id"])), mask(row["detail"]), _excerpt(report.role, row)]
        for reason in REASONS
        for row in report.examples.get(reason, ())
    ]
    if rows:
        table = _table(["reason", "id", "detail", "text (personal data masked)"], rows)
        title = f"quarantined rows, at most {NUM_EXAMPLES} a reason"
        parts.append(f"<details open><summary>{title}</summary>{table}</details>")
    return "".join(parts)


def _excerpt(role: Role, row: Row) -> str:
    if role in ("corpus", "probes"):
        said = texts(role, row)
    else:
        said = [f"{m['role']}: {m['content']}" for m in conversation(role, row) or ()]
        if role == "preferences":
            said += [f"{name}: {row[name]}" for name in ("chosen", "rejected")]
    text = " ⏎ ".join(said)
    # masked before it is cut: half a number would pass
    masked = mask(text[: 10 * _EXAMPLE_CHARS])
    return masked if len(masked) <= _EXAMPLE_CHARS else f"{masked[:_EXAMPLE_CHARS]}…"


def _histogram(report: RoleReport) -> str:
    lengths = {int(number): rows for number, rows in report.tally.lengths.items()}
    if not lengths:
        return "<p>No row is left.</p>"
    low, high = min(lengths), max(lengths)
    tallest, width = max(lengths.values()), 34
    bars = []
    for number, each in enumerate(range(low, high + 1)):
        count, x = lengths.get(each, 0), number * width
        height = 80 * count / tallest
        label = bin_length(each)
        bars.append(
            f'<rect x="{x + 2}" y="{96 - height:.1f}" width="{width - 4}" height="{height:.1f}">'
            f"<title>about {label} characters: {count:,} rows</title></rect>"
            f'<text x="{x + width / 2}" y="{92 - height:.1f}">{count:,}</text>'
            f'<text x="{x + width / 2}" y="110">{label}</text>'
        )
    total = (high - low + 1) * width
    return (
        f'<svg viewBox="0 0 {total} 116" width="{total}" height="116" role="img" '
        f'aria-label="Characters a row">{"".join(bars)}</svg><p class="note">kept rows by their '
        "length in characters</p>"
    )


def _expectations(reports: list[RoleReport]) -> str:
    rows = [
        [
            report.role,
            outcome.expectation,
            outcome.column,
            f"{outcome.num_rows:,}",
            f"{outcome.num_failing:,}",
            f"{1 - outcome.num_failing / outcome.num_rows:.2%}" if outcome.num_rows else "-",
            outcome.reason,
        ]
        for report in reports
        for outcome in report.outcomes
    ]
    met = sum(not outcome.num_failing for report in reports for outcome in report.outcomes)
    head = ["role", "expectation", "column", "rows", "failing", "passed", "reason"]
    return (
        f"<h2>Great Expectations: {met} of {len(rows)} expectations met by every row</h2>"
        f"{_table(head, rows)}"
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<div><table><tr>{cells}</tr>{body}</table></div>"


_STYLE = """
:root{color-scheme:light dark;--ink:#1c1c1e;--paper:#fff;--line:#d8d8dc;--good:#14703a;
--bad:#b3261e;--bar:#4a6fa5}
@media(prefers-color-scheme:dark){:root{--ink:#e8e8ea;--paper:#161618;--line:#3a3a3e;--good:#5fd38d;
--bad:#ff8a80;--bar:#8fb0dd}}
body{margin:16px;color:var(--ink);background:var(--paper);
font:14px/1.5 system-ui,"Noto Sans KR","Noto Sans CJK KR","Malgun Gothic",sans-serif}
h1{font-size:18px;margin:0 0 8px}h2{font-size:15px;margin:20px 0 6px}p{margin:4px 0}
.good{color:var(--good)}.bad{color:var(--bad)}.note{font-size:12px;opacity:.75}
div{overflow-x:auto;margin:6px 0}table{border-collapse:collapse;font-size:13px}
td,th{border-bottom:1px solid var(--line);padding:2px 10px 2px 0;text-align:left;
vertical-align:top;white-space:nowrap}
details td:nth-child(n+3){white-space:normal;overflow-wrap:anywhere;min-width:14em}
rect{fill:var(--bar)}svg text{font-size:9px;text-anchor:middle;fill:var(--ink)}
"""
