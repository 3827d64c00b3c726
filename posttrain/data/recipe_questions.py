"""Questions taken from a recipe's own sources, so that columns mean what they meant in training."""

from itertools import islice

from posttrain.data import sources
from posttrain.data.ingest import canonical_rows
from posttrain.data.questions import Question, Row, messages_of, refuse
from posttrain.data.rows import conversation, is_held_out
from posttrain.facts import Role
from posttrain.recipe.ingest import Source

HELD_OUT = "held_out"


def recipe_questions(
    source: Source,
    role: Role,
    split: str | None = None,
    limit: int | None = None,
    system: str | None = None,
) -> list[Question]:
    """The questions of a role, without their answers; what was expected stands beside them.

    Args:
        source: of the role.
        role: one whose rows are conversations.
        split: of a hub data set, in place of the source's own; or `held_out`, for what the recipe
            itself holds out, of any source.
        limit: rows to take from the start.
        system: message for conversations that bring none of their own.

    Raises:
        ValueError: the source has no such split, or rows are no questions.
    """
    source = source if split in (None, HELD_OUT) else _of_split(source, role, split)
    rows = canonical_rows(role, source, sources.facts(source).revision)
    if split == HELD_OUT:
        rows = (row for row in rows if is_held_out(role, row))
    questions: list[Question] = []
    problems: list[str] = []
    for number, row in enumerate(islice(rows, limit), 1):
        where = f"{source.name}: row {number}"
        try:
            asked = _asked(role, row)
            questions.append(Question(where, asked, messages_of(asked, system)))
        except ValueError as error:
            problems.append(f"{where}: {error}")
    refuse(problems, f"look at ingest.{role}.fields; nothing was answered")
    if not questions:
        raise ValueError(f"{source.name}: has no rows" + (f" of {split}" if split else ""))
    return questions


def _of_split(source: Source, role: Role, split: str) -> Source:
    """The source with another split, whole: what the recipe takes and holds out goes by its own."""
    if source.format != "hub":
        raise ValueError(
            f"--split {split}: ingest.{role} reads {source.name}, and only a data set of the hub "
            f"has splits; name {HELD_OUT}, leave it out, or name a file by --input"
        )
    own = {"held_out_split": None, "held_out_limit": None, "held_out_share": 0.0, "limit": None}
    return source.model_copy(update={"split": split, **own})


def _asked(role: Role, row: Row) -> Row:
    """The row's question, with its names and what was expected."""
    asked: Row = {name: row[name] for name in ("id", "kind", "set", "split") if row.get(name)}
    if role == "probes":
        asked["prompt"] = row["prompt"]
        expected = row["answer"]
    else:
        messages = [dict(turn) for turn in conversation(role, row) or ()]
        answered = messages.pop()["content"] if role == "instructions" and messages else None
        for message in messages:
            message.pop("learn", None)
        asked["messages"] = messages
        expected = row["chosen"] if role == "preferences" else answered
    return asked if expected is None else {**asked, "expected": expected}
