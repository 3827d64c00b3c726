"""Tables of `posttrain registry` for a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from posttrain.decisions import HistoryEntry
from posttrain.evaluate.wording import (
    figure_label,
    figure_names,
    interval,
    is_part,
    number,
    stage_label,
)
from posttrain.figures import Figure
from posttrain.registry.history import sentence
from posttrain.registry.one_line import one_line
from posttrain.registry.overview import FigureComparison, VersionComparison, VersionSummary
from posttrain.reports import Evaluation

GATE = {"passed": "[green]passed[/]", "failed": "[red]failed[/]", None: "–"}
VERDICTS = {
    "better": "[green]better[/]",
    "worse": "[red]worse[/]",
    "level": "within noise",
    "unknown": "",
}
DECIDED = {
    "promote": "promoted",
    "approve": "approved",
    "rollback": "taken back",
    "reject": "rejected",
    "refuse": "refused",
    "outside": "moved outside",
}
HASHES = ("_hash", "fingerprint")


def listed(name: str, versions: tuple[VersionSummary, ...]) -> None:
    """One row a version."""
    console = Console(highlight=False)
    console.print(name, style="bold", markup=False)
    table = _table("Version", "Aliases", "Created", "Stage", "Method", "Gate", "Decision")
    for one in versions:
        table.add_row(
            str(one.number),
            escape(one_line(", ".join(one.aliases))),
            one.created[:10],
            escape(one_line(stage_label(one.stage)) if one.stage else "–"),
            escape(one_line(one.method or "–")),
            GATE[one.gate],
            DECIDED[one.decision.action] if one.decision else "–",
            style="bold" if "champion" in one.aliases else "",
        )
    console.print(table)


def shown(
    name: str,
    version: VersionSummary,
    entries: tuple[HistoryEntry, ...],
    evaluation: Evaluation | None,
) -> None:
    """One version in full."""
    console = Console(highlight=False)
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    console.print(f"{name} version {version.number}{aliases}", style="bold", markup=False)
    stage = stage_label(version.stage) if version.stage else "stage not recorded"
    method = one_line(version.method or "method not recorded")
    console.print(f"{one_line(stage)}, {method}, {_time(version.created)}", markup=False)
    if evaluation is not None:
        console.print()
        console.print(_figures(evaluation))
    if version.gate is not None:
        console.print(f"\nGate: {GATE[version.gate]}")
        for outcome in version.outcomes:
            mark = "[green]✓[/]" if outcome.passed else "[red]✗[/]"
            console.print(f"  {mark} {escape(one_line(outcome.reason))}", soft_wrap=True)
    if entries:
        console.print("\nDecisions:")
        for entry in entries:
            text = f"  {entry.number}. {_time(entry.when)} {sentence(entry)}"
            console.print(text, markup=False, style=_style(entry), soft_wrap=True)
    console.print("\nWhere it came from:")
    for tag, value in sorted(version.tags.items()):
        if tag.startswith("lineage.") or tag == "base_version":
            text = one_line(f"{tag.removeprefix('lineage.')}: {value}")
            console.print(f"  {text}", markup=False, soft_wrap=True)


def compared(name: str, found: VersionComparison) -> None:
    """Figures of two versions side by side."""
    console = Console(highlight=False)
    a, b = found.a, found.b
    console.print(f"{name}: version {a.number} and version {b.number}", style="bold", markup=False)
    difference = f"{b.number} less {a.number}, 95 %"
    table = _table("", f"Version {a.number}", f"Version {b.number}", difference, "")
    for one in found.figures:
        table.add_row(
            escape(f"  {figure_label(one.name)}" if is_part(one.name) else figure_label(one.name)),
            _cell(one.a),
            _cell(one.b),
            _difference(one),
            VERDICTS[one.verdict],
        )
    console.print(table)
    differing = {
        tag: pair
        for tag, pair in found.differing.items()
        if not tag.endswith(HASHES) or tag == "held_out_hash"
    }
    if differing:
        console.print("\nThey differ in:")
        table = _table("", f"Version {a.number}", f"Version {b.number}")
        for tag, pair in differing.items():
            cells = (escape(one_line(text or "–")[:40]) for text in pair)
            table.add_row(escape(tag.removeprefix("lineage.")), *cells)
        console.print(table)


def told(name: str, entries: tuple[HistoryEntry, ...]) -> None:
    """One row a line, the oldest first; reasons in full below each."""
    console = Console(highlight=False)
    if not entries:
        console.print(f"{name}: nothing has been decided yet", markup=False)
        return
    console.print(name, style="bold", markup=False)
    for entry in entries:
        state = "" if entry.state == "done" else f" [{entry.state}]"
        champion = (
            f"champion {_number(entry.from_version)} → {_number(entry.to_version)}"
            if entry.from_version != entry.to_version
            else f"champion stays {_number(entry.to_version)}"
        )
        about = _number(entry.version)
        head = f"{entry.number:>4}  {_time(entry.when)}  {DECIDED[entry.action]} {about}"
        console.print(f"{head}  {champion}  {entry.who}{state}", markup=False, style=_style(entry))
        console.print(f"      {entry.why}", markup=False, soft_wrap=True, style=_style(entry))
        for outcome in entry.outcomes:
            if not outcome.passed:
                reason = one_line(outcome.reason)
                console.print(f"      ✗ {reason}", markup=False, soft_wrap=True)


def _figures(evaluation: Evaluation) -> Table:
    last = evaluation.stages[-1]
    table = _table("", stage_label(last.stage), "95 % interval")
    for name in figure_names(evaluation):
        figure = last.figures.get(name)
        if figure is not None:
            label = f"  {figure_label(name)}" if is_part(name) else figure_label(name)
            table.add_row(escape(label), number(figure.value), interval(figure))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, header_style="dim")
    return table


def _cell(figure: Figure | None) -> str:
    return number(figure.value) if figure is not None else "–"


def _difference(one: FigureComparison) -> str:
    if one.a is None or one.b is None:
        return ""
    if not one.comparable:
        return "not comparable"
    if one.difference is None:
        return "–"
    low, high = one.difference
    return f"{_signed(low)} to {_signed(high)}"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{number(abs(value))}"


def _number(version: int | None) -> str:
    return "none" if version is None else str(version)


def _style(entry: HistoryEntry) -> str:
    return "dim" if entry.state == "undone" else ""


def _time(when: str) -> str:
    """UTC, to the minute."""
    return f"{when[:10]} {when[11:16]}"
