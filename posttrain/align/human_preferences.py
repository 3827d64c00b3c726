"""People's verdicts on pairs as preferences to train on, with figures on raters and stages.

A side is preferred where more than half of a pair's raters prefer it. Raters' ids serve to count
them and go no further: the preferences name nobody.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pydantic

from posttrain.align.pairs import KeyRow, Pair
from posttrain.align.verdicts import Choice, Problem, Verdict
from posttrain.evaluate import bootstrap
from posttrain.figures import Figure
from posttrain.recipe.human_preferences import VerdictsRecipe, Writer
from posttrain.recipe.section import Section

KIND = "human"
HELD_OUT = "held_out"
WORTH: dict[Choice, float] = {"response_1": 1.0, "tie": 0.5, "response_2": 0.0}
"""Of a verdict, to the first answer."""


class Verdicts(Section):
    """What raters said of a run's pairs."""

    num_pairs: int
    num_rated: int
    """Pairs with a verdict that counts."""

    num_verdicts: int
    num_raters: int
    num_preferred: int
    """Pairs in which a side is preferred: the rows that are written."""

    num_ties: int
    """Pairs in which more than half of the raters say tie."""

    num_undecided: int
    """Pairs in which nothing is said by more than half."""

    agreement: Figure | None
    """Share of two raters' verdicts on one pair that agree; None without a pair of two raters."""

    first_share: Figure | None
    """Mean share of verdicts for the answer that stands first, ties half; near one half unless
    raters go by the place."""

    stages: tuple[Writer, Writer]
    win_rate: Figure | None
    """Mean share of verdicts for the second of `stages`, ties half, resampled by pair; None where
    one stage wrote both sides."""


@dataclass(frozen=True)
class Decided:
    """Preferences in the columns that ingest reads, figures, and what did not count."""

    rows: tuple[dict[str, Any], ...]
    figures: Verdicts
    problems: tuple[Problem, ...]


def read_key(file: Path) -> dict[str, KeyRow]:
    """Pairs by id.

    Raises:
        ValueError: the file is absent or a line is no row of a key.
    """
    if not file.is_file():  # a device may have no end
        raise ValueError(f"{file}: no such key; name the one that the export wrote by --key")
    rows: dict[str, KeyRow] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = KeyRow.model_validate_json(line)
        except pydantic.ValidationError as error:
            fault = error.errors()[0]
            raise ValueError(
                f"{file}: line {number} is no row of a key ({fault['loc']}: {fault['msg']}); give "
                "the file as the export wrote it"
            ) from error
        rows[row.pair_id] = row
    return rows


def decide(
    key: Mapping[str, KeyRow],
    verdicts: Sequence[Verdict],
    problems: Sequence[Problem],
    recipe: VerdictsRecipe,
) -> Decided:
    """Bring several raters' verdicts on each pair together."""
    counted, unused = _last_words(key, verdicts)
    by_pair: dict[str, list[Choice]] = defaultdict(list)
    for verdict in counted.values():
        by_pair[verdict.pair_id].append(verdict.choice)
    outcomes = {pair_id: majority(choices) for pair_id, choices in by_pair.items()}
    rows = tuple(
        preference(row, choice)
        for pair_id, row in key.items()
        if (choice := outcomes.get(pair_id)) in ("response_1", "response_2")
    )
    figures = _figures(key, by_pair, outcomes, len({rater for _, rater in counted}), recipe)
    return Decided(rows, figures, (*problems, *unused))


def _last_words(
    key: Mapping[str, KeyRow], verdicts: Sequence[Verdict]
) -> tuple[dict[tuple[str, str], Verdict], list[Problem]]:
    """Each rater's last verdict on each pair of the key, and what does not count."""
    counted: dict[tuple[str, str], Verdict] = {}
    unused: list[Problem] = []
    for verdict in verdicts:
        row = key.get(verdict.pair_id)
        if row is None:
            unused.append(Problem(verdict.place, "unknown pair", verdict.pair_id))
        elif any(text.strip() != getattr(row, name) for name, text in verdict.texts):
            unused.append(Problem(verdict.place, "other texts", verdict.pair_id))
        else:
            same = (verdict.pair_id, verdict.rater)
            earlier, later = counted.get(same), verdict
            if earlier is not None:
                if later.when < earlier.when:  # Label Studio's JSON-MIN has the newest first
                    earlier, later = later, earlier
                unused.append(Problem(earlier.place, "replaced", verdict.pair_id))
            counted[same] = later
    return counted, unused


def majority(choices: Sequence[Choice]) -> Choice | None:
    """What more than half say; None where nothing is."""
    choice, count = Counter(choices).most_common(1)[0]
    return choice if 2 * count > len(choices) else None


def preference(row: Pair, choice: Choice) -> dict[str, Any]:
    """A decided pair in canonical columns, and in none but these.

    Prompts that serve evaluation alone stay held out.
    """
    other = "response_2" if choice == "response_1" else "response_1"
    found = {
        "id": f"{KIND}-{row.pair_id}",
        "prompt": [turn.model_dump() for turn in row.messages],
        "chosen": getattr(row, choice),
        "rejected": getattr(row, other),
        "group": row.group,
        "kind": KIND,
    }
    return found | ({"split": HELD_OUT} if row.held_out else {})


def write(decided: Decided, out: Path) -> None:
    """Write the preferences as JSONL."""
    out.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in decided.rows)
    out.write_text(text, encoding="utf-8")


def in_lines(problems: Sequence[Problem]) -> list[str]:
    """Problems for a terminal: file, reason, and every line or item."""
    places: dict[tuple[str, bool, str], list[int]] = defaultdict(list)
    for problem in problems:
        place = problem.place
        why = f"{problem.reason}: {problem.detail}" if problem.detail else problem.reason
        places[place.file, place.is_item, why].append(place.number)
    return [
        f"{file}: {'item' if is_item else 'line'} {', '.join(map(str, numbers))}: {why}"
        for (file, is_item, why), numbers in places.items()
    ]


def _figures(
    key: Mapping[str, KeyRow],
    by_pair: Mapping[str, Sequence[Choice]],
    outcomes: Mapping[str, Choice | None],
    num_raters: int,
    recipe: VerdictsRecipe,
) -> Verdicts:
    drawn = (recipe.num_bootstrap, recipe.seed)
    said = Counter(outcomes.values())
    several = [choices for choices in by_pair.values() if len(choices) > 1]
    duels = [list(itertools.combinations(choices, 2)) for choices in several]
    stages = _stages(key)
    shares = {pair_id: first_share(choices) for pair_id, choices in by_pair.items()}
    wins = [s if key[name].stage_1 == stages[1] else 1 - s for name, s in shares.items()]
    return Verdicts(
        num_pairs=len(key),
        num_rated=len(by_pair),
        num_verdicts=sum(map(len, by_pair.values())),
        num_raters=num_raters,
        num_preferred=said["response_1"] + said["response_2"],
        num_ties=said["tie"],
        num_undecided=said[None],
        agreement=bootstrap.ratio(
            [float(sum(a == b for a, b in one)) for one in duels],
            [float(len(one)) for one in duels],
            *drawn,
        )
        if duels
        else None,
        first_share=bootstrap.mean(list(shares.values()), *drawn) if shares else None,
        stages=stages,
        win_rate=bootstrap.mean(wins, *drawn) if wins and stages[0] != stages[1] else None,
    )


def first_share(choices: Sequence[Choice]) -> float:
    """Share of verdicts for the first answer, ties half."""
    return sum(WORTH[choice] for choice in choices) / len(choices)


def _stages(key: Mapping[str, KeyRow]) -> tuple[Writer, Writer]:
    """The two stages of a key, in the order of training.

    Raises:
        ValueError: the key is empty, or was put together from exports of different stages.
    """
    order: tuple[Writer, ...] = get_args(Writer)
    found = {frozenset((row.stage_1, row.stage_2)) for row in key.values()}
    if len(found) != 1:
        raise ValueError(
            f"the key holds {len(found)} kinds of pairs of stages; import the answers of each "
            "export with the key of that export"
        )
    stages = [stage for stage in order if stage in next(iter(found))]
    return (stages[0], stages[-1])
