"""Questions taken from a recipe's own sources, so that columns mean what they meant in training."""

from itertools import islice

from posttrain.artifacts import Role
from posttrain.data import sources
from posttrain.data.ingest import canonical_rows
from posttrain.data.questions import Question, Row, messages_of, refuse
from posttrain.data.rows import conversation
from posttrain.recipe.ingest import IngestRecipe, Source

EXPECTED = {"instructions": "response", "preferences": "chosen", "probes": "answer"}
"""Role -> what of a row the answer may be compared with."""


def recipe_questions(
    recipe: IngestRecipe,
    role: Role,
    split: str | None = None,
    limit: int | None = None,
    system: str | None = None,
) -> list[Question]:
    """The questions of a role, without their answers; what was expected stands beside them.

    Args:
        recipe: the sources.
        role: one whose rows are conversations.
        split: of a hub data set, in place of the source's own.
        limit: rows to take from the start, whatever the source's own limit.
        system: message for conversations that bring none of their own.

    Raises:
        ValueError: the role has no source, the source no such split, or rows are no questions.
    """
    source = _source(recipe, role, split)
    limited = source.model_copy(update={"limit": limit}) if limit else source
    revision = sources.facts(source).revision
    questions: list[Question] = []
    problems: list[str] = []
    for number, row in enumerate(islice(canonical_rows(role, limited, revision), limit), 1):
        where = f"{source.name}: row {number}"
        try:
            asked = _asked(role, row)
            questions.append(Question(where, asked, messages_of(asked, system)))
        except ValueError as error:
            problems.append(f"{where}: {error}")
    refuse(problems, f"look at ingest.{role}.fields; nothing was answered")
    if not questions:
        raise ValueError(f"{source.name}: has no rows")
    return questions


def _source(recipe: IngestRecipe, role: Role, split: str | None) -> Source:
    source: Source | None = getattr(recipe, role)
    if source is None:
        named = [name for name in type(recipe).model_fields if getattr(recipe, name)]
        raise ValueError(f"ingest.{role}: the recipe has no such source (it has: {named})")
    if split is None:
        return source
    if source.format != "hub":
        raise ValueError(
            f"--split {split}: ingest.{role} reads {source.name}, and only a data set of the hub "
            "has splits; leave it out, or name a file by --input"
        )
    return source.model_copy(update={"split": split})


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
