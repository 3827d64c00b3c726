"""Where the raw records lie, and which of their columns mean what."""

import re
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from posttrain.recipe.section import REQUIRED, Section

Format = Literal["auto", "jsonl", "json", "csv", "parquet", "txt", "hub"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "corpus": ("id", "text", "split"),
    "instructions": ("id", "messages", "prompt", "response", "system", "group", "kind", "split"),
    "preferences": ("id", "prompt", "chosen", "rejected", "group", "kind", "margin", "split"),
    "prompts": ("id", "prompt", "group", "kind", "set"),
    "probes": ("id", "prompt", "answer", "group", "kind", "set"),
}
"""Role -> columns that ingest reads; `fields` may name another source column for each."""

WAYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "corpus": (("text",),),
    "instructions": (("messages",), ("prompt", "response")),
    "preferences": (("prompt", "chosen", "rejected"),),
    "prompts": (("prompt",),),
    "probes": (("prompt",),),
}
"""Role -> sets of canonical columns, one of which must be there."""

PLACE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
"""`{column}` in a composed text; `{{` and `}}` stand for braces. A lone brace is an error."""


class Source(Section):
    """One role's raw data: local files or a data set on the Hugging Face hub."""

    source: str | tuple[str, ...] = Field(min_length=1)
    """Local path or glob, relative to where the run starts, or a list of them whose files are read
    alike; or a hub id with `format: hub`."""

    format: Format = "auto"
    """How to read it. `auto` goes by the file's suffix and refuses one it does not know. `json` is
    a list of objects; `txt` is one row a line, its column is `text`."""

    revision: str = "main"
    """Branch, tag or commit of a hub data set; the commit it resolves to is recorded."""

    subset: str | None = None
    """Configuration name of a hub data set that has several."""

    split: str = "train"
    """Split of a hub data set."""

    delimiter: str = Field(",", min_length=1, max_length=1)
    """Column separator of csv files."""

    fields: dict[str, str] = Field(default_factory=dict)
    """Canonical column -> column of the source, for those that differ in name."""

    compose: dict[str, str] = Field(default_factory=dict)
    """Canonical column -> text with `{column}` of the source in it (`{{` for a brace); a text
    without any is the same in every row. Paragraphs, which a blank line parts, whose columns are
    all empty in a row are left out; where every column is empty, so is the text."""

    limit: PositiveInt | None = None
    """Take this many rows from the start, those of `held_out_split` not counted; all of them where
    absent."""

    held_out_share: float = Field(0.0, ge=0, lt=1)
    """Share of groups set aside for evaluation, by a hash of the group, where the source has no
    `split` column."""

    held_out_split: str | None = None
    """Split of a hub data set that is set aside for evaluation whole; all rows of `split` are for
    training then, whatever a column says."""

    held_out_limit: PositiveInt | None = None
    """Take this many rows of `held_out_split` from its start; all of them where absent."""

    @property
    def names(self) -> tuple[str, ...]:
        """Each path, glob or id."""
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def name(self) -> str:
        """The source in words."""
        return ", ".join(self.names)

    @property
    def held_out(self) -> "Source | None":
        """The source of the rows that are set aside whole."""
        if self.held_out_split is None:
            return None
        return self.model_copy(
            update={
                "split": self.held_out_split,
                "limit": self.held_out_limit,
                "held_out_split": None,
                "held_out_limit": None,
            }
        )

    def places(self, column: str) -> tuple[str, ...]:
        """Columns of the source that a composed canonical column draws on, in order."""
        found = (match[1] for match in PLACE.finditer(self.compose[column]))
        return tuple(dict.fromkeys(name for name in found if name))

    def columns_of(self, column: str) -> tuple[str, ...]:
        """Columns of the source that a canonical column comes from."""
        if column in self.compose:
            return self.places(column)
        return (self.fields.get(column, column),)

    @model_validator(mode="after")
    def a_hub_data_set_stands_alone(self) -> Self:
        if self.format == "hub" and len(self.names) > 1:
            raise ValueError(f"format: hub takes one id, and source lists {len(self.names)}")
        return self

    @model_validator(mode="after")
    def a_column_has_one_origin(self) -> Self:
        if both := sorted(set(self.fields) & set(self.compose)):
            raise ValueError(f"{both} stand in both fields and compose; leave one of the two")
        return self

    @model_validator(mode="after")
    def composed_texts_can_be_read(self) -> Self:
        for column, text in self.compose.items():
            for match in PLACE.finditer(text):
                if match[0] in ("{", "}"):
                    raise ValueError(
                        f"compose.{column} has a lone {match[0]!r} at character "
                        f"{match.start() + 1}; write {match[0] * 2!r} for a brace, or a column's "
                        "name between two braces"
                    )
        return self

    @model_validator(mode="after")
    def a_split_held_out_whole_is_of_the_hub(self) -> Self:
        if self.held_out_split is None:
            if self.held_out_limit is not None:
                raise ValueError("held_out_limit is given without held_out_split; name the split")
            return self
        if self.format != "hub":
            raise ValueError(
                "held_out_split is a split of a hub data set (`format: hub`); give the rows of "
                "files a `split` column (train, held_out), or set held_out_share"
            )
        if self.held_out_share:
            raise ValueError(
                "held_out_split sets a whole split aside and held_out_share a part of the other; "
                "leave one of the two"
            )
        if self.held_out_split == self.split:
            raise ValueError(f"split and held_out_split are both {self.split!r}")
        return self


class IngestRecipe(Section):
    """One source a role. A role that the pipeline does not use may be absent."""

    corpus: Source | None = None
    """Domain text for Base FT. Canonical columns: id, text, split."""

    instructions: Source | None = None
    """Conversations for SFT: `messages`, or `prompt` and `response` (and `system`).
    Canonical columns: id, messages, group, kind, split."""

    preferences: Source | None = None
    """Pairs for the reward model.
    Canonical columns: id, prompt, chosen, rejected, group, kind, margin, split."""

    prompts: Source | None = None
    """Prompts to answer in PPO and self-critique.
    Canonical columns: id, prompt, group, kind, set; the set `held_out` serves evaluation alone."""

    probes: Source | None = None
    """Held-out questions for evaluation.
    Canonical columns: id, prompt, answer, group, kind, set."""

    @property
    def sources(self) -> dict[str, Source]:
        """The roles that have a source."""
        found = {role: getattr(self, role) for role in COLUMNS}
        return {role: source for role, source in found.items() if source is not None}

    @model_validator(mode="after")
    def every_source_is_filled_in(self) -> Self:
        for role, source in self.sources.items():
            if REQUIRED in source.names:
                raise ValueError(
                    f"ingest.{role}.source is {REQUIRED}: these are your own data; write the path "
                    "of a file (or a hub id, with `format: hub`) whose rows have "
                    f"{_wanted(role, source)}"
                )
        return self

    @model_validator(mode="after")
    def fields_name_canonical_columns(self) -> Self:
        for role, source in self.sources.items():
            for key in ("fields", "compose"):
                if unknown := sorted(set(getattr(source, key)) - set(COLUMNS[role])):
                    raise ValueError(
                        f"ingest.{role}.{key} maps canonical columns to the source's; {unknown} "
                        f"are not canonical (known: {list(COLUMNS[role])})"
                    )
            if "messages" in source.compose:
                raise ValueError(
                    f"ingest.{role}.compose: `messages` is no text; compose prompt and response"
                )
        return self

    @model_validator(mode="after")
    def only_roles_with_a_split_are_held_out(self) -> Self:
        for role, source in self.sources.items():
            for key in ("held_out_share", "held_out_split"):
                if getattr(source, key) and "split" not in COLUMNS[role]:
                    raise ValueError(
                        f"ingest.{role}.{key}: {role} have no split; give them a `set` column, or "
                        "one `set` for all by `compose: {set: its name}`"
                    )
        return self

    @model_validator(mode="after")
    def at_least_one_role_has_a_source(self) -> Self:
        if all(getattr(self, role) is None for role in type(self).model_fields):
            raise ValueError(
                "ingest: no role has a source; name at least `corpus` or `instructions`"
            )
        return self


def ways(role: str, source: Source) -> list[tuple[str, ...]]:
    """The sets of canonical columns that the source may give: those that it maps, else any."""
    mapped = {*source.fields, *source.compose}
    return [way for way in WAYS[role] if mapped & set(way)] or list(WAYS[role])


def _wanted(role: str, source: Source) -> str:
    """The columns that a source must have, in words."""
    given = (*source.fields, *source.compose)
    named = [
        list(dict.fromkeys(name for one in (*way, *given) for name in source.columns_of(one)))
        for way in ways(role, source)
    ]
    wanted = ", or ".join(" and ".join(map(repr, way)) for way in named)
    mapped = "" if given else f" (ingest.{role}.fields names yours if they are called otherwise)"
    return f"the column{'s' if len(named[0]) > 1 else ''} {wanted}{mapped}"
