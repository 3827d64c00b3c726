"""The report's tables: rows of labels and cells, each ready for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from posttrain.evaluate.language import Text, both, catalogue, joined, plain, say
from posttrain.evaluate.wording import (
    REWARD_FIGURES,
    count_label,
    curve_label,
    duration,
    figure_label,
    figure_names,
    interval,
    is_part,
    label,
    number,
    size,
    stage_label,
)
from posttrain.profiles import DataDrift
from posttrain.reports import Evaluation, JudgeEvaluation, RewardEvaluation, StepCost

Cell = tuple[Text, Text]
"""A value, and what stands small beneath it."""

NOTHING = plain("–")


@dataclass(frozen=True)
class Row:
    """A line of a table; a part belongs to the line above it."""

    label: Text
    cells: list[Cell]
    is_part: bool = False


@dataclass(frozen=True)
class Table:
    """Headings of the columns after the first, and rows."""

    columns: list[Text]
    rows: list[Row]


def figure_table(evaluation: Evaluation) -> Table:
    """Every figure by stage, with its interval."""
    rows = []
    for name in figure_names(evaluation):
        figures = [stage.figures.get(name) for stage in evaluation.stages]
        cells = [_cell(number(f.value), interval(f)) if f else _cell("–") for f in figures]
        rows.append(Row(both(figure_label, name), cells, is_part(name)))
    return Table([both(stage_label, stage.stage) for stage in evaluation.stages], rows)


def reward_table(reward: RewardEvaluation) -> Table:
    """The reward model: accuracy by kind and its other figures."""
    every = {"accuracy": reward.accuracy, **reward.by_kind}
    rows = [
        Row(both(curve_label, kind), [_cell(number(accuracy))], kind != "accuracy")
        for kind, accuracy in every.items()
    ]
    rows.append(Row(say("page.held_out_pairs"), [_cell(f"{reward.num_pairs:,}")]))
    rows += [
        Row(
            both(partial(label, "reward_figures"), name),
            [_cell(f"{value:,.0f}" if name.startswith("num_") else number(value))],
        )
        for name in REWARD_FIGURES
        if (value := reward.figures.get(name)) is not None
    ]
    return Table([], rows)


def judge_table(judge: JudgeEvaluation) -> Table:
    """RLAIF's judge."""
    rows = [
        (say("judge.accuracy"), plain(number(judge.accuracy))),
        (say("judge.pairs"), plain(f"{judge.num_pairs:,}")),
    ]
    rows += [
        (
            both(curve_label, kind),
            say("judge.kind", share=number(share), order=number(judge.order_by_kind[kind])),
        )
        for kind, share in judge.by_kind.items()
    ]
    rows += [
        (say("judge.first"), plain(number(judge.first_preferred))),
        (say("judge.order"), plain(number(judge.order_decides))),
        (say("judge.judged"), plain(f"{judge.num_judged:,}")),
        (say("judge.kept"), plain(f"{judge.num_kept:,}")),
    ]
    rows += [
        (say("judge.dropped", why=both(partial(label, "counts"), why)), plain(f"{num:,}"))
        for why, num in judge.dropped.items()
    ]
    return Table([], [Row(called, [(value, plain(""))]) for called, value in rows])


def data_table(data: Mapping[str, Mapping[str, int]]) -> Table:
    """A row a count: there are few roles and may be many counts."""
    every = dict.fromkeys(name for counts in data.values() for name in counts)
    names = sorted(every, key=lambda name: name.startswith("quarantined"))  # what is left first
    found = {name: [counts.get(name) for counts in data.values()] for name in names}
    return Table(
        [both(partial(label, "roles"), role) for role in data],
        [
            Row(both(count_label, name), [_cell("–" if n is None else f"{n:,}") for n in counts])
            for name, counts in found.items()
        ],
    )


def drift_table(drift: DataDrift) -> Table:
    """Each dimension of each role, with what moved most."""
    rows = []
    for role in drift.roles:
        for one in role.dimensions:
            called = joined(
                ", ",
                [
                    both(partial(label, "roles"), role.role),
                    both(partial(label, "dimensions"), one.dimension),
                ],
            )
            moved = ", ".join(f"{s.bin} {s.then:.1%} → {s.now:.1%}" for s in one.shifts[:2])
            cells = [
                (say(f"levels.{one.level}"), plain("")),
                *(_cell(f"{value:.3f}") for value in (one.psi, one.expected, one.chance)),
                _cell(moved),
            ]
            rows.append(Row(called, cells))
    names = ("level", "psi", "expected", "chance", "moved")
    return Table([say(f"drift.{name}") for name in names], rows)


def cost_table(costs: Sequence[StepCost]) -> Table | None:
    """What each step took, and all of them together."""
    if not costs:
        return None
    on_gpu = any(cost.peak_gpu_bytes is not None for cost in costs)
    names = ["wall", "cpu", "tokens", "speed", "memory", *(["gpu"] if on_gpu else [])]
    rows = [Row(both(stage_label, cost.step), _cost_cells(cost, on_gpu)) for cost in costs]
    gpu = [cost.peak_gpu_bytes for cost in costs if cost.peak_gpu_bytes is not None]
    together = [
        _cell(duration(sum(cost.wall_seconds for cost in costs))),
        _cell(duration(sum(cost.cpu_seconds for cost in costs))),
        *(_cell(""), _cell("")),
        _cell(size(max(cost.peak_bytes for cost in costs))),
        *([_cell(size(max(gpu)))] if gpu else []),
    ]
    rows.append(Row(say("page.total"), together))
    return Table([say(f"page.{name}") for name in names], rows)


def _cost_cells(cost: StepCost, on_gpu: bool) -> list[Cell]:
    tokens = [
        joined(" ", [plain(f"{cost.tokens[use]:,}"), both(partial(label, "uses"), use)])
        for use in catalogue("en")["uses"]
        if use in cost.tokens
    ]
    speed = sum(cost.tokens.values()) / cost.wall_seconds if cost.wall_seconds else 0.0
    before = say("page.at_start", size=size(cost.bytes_at_start))
    cells = [
        _cell(duration(cost.wall_seconds)),
        _cell(duration(cost.cpu_seconds)),
        (joined(", ", tokens) if tokens else NOTHING, plain("")),
        _cell(f"{speed:,.0f}" if tokens else "–"),
        (plain(size(cost.peak_bytes)), before),
    ]
    gpu = cost.peak_gpu_bytes
    return [*cells, _cell("–" if gpu is None else size(gpu))] if on_gpu else cells


def _cell(value: str, small: str = "") -> Cell:
    return plain(value), plain(small)
