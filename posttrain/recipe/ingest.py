"""Where the raw records lie, and which of their columns mean what."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from posttrain.recipe.section import Section

Format = Literal["auto", "jsonl", "json", "csv", "parquet", "txt", "hub"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "corpus": ("id", "text", "split"),
    "instructions": ("id", "messages", "prompt", "response", "system", "group", "kind", "split"),
    "preferences": ("id", "prompt", "chosen", "rejected", "group", "kind", "margin", "split"),
    "prompts": ("id", "prompt", "group", "kind", "set"),
    "probes": ("id", "prompt", "answer", "group", "kind", "set"),
}
"""Role -> columns that ingest reads; `fields` may name another source column for each."""


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

    limit: PositiveInt | None = None
    """Take this many rows from the start; all of them where absent."""

    held_out_share: float = Field(0.0, ge=0, lt=1)
    """Share of groups set aside for evaluation, by a hash of the group, where the source has no
    `split` column."""

    @property
    def names(self) -> tuple[str, ...]:
        """Each path, glob or id."""
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def name(self) -> str:
        """The source in words."""
        return ", ".join(self.names)

    @model_validator(mode="after")
    def a_hub_data_set_stands_alone(self) -> Self:
        if self.format == "hub" and len(self.names) > 1:
            raise ValueError(f"format: hub takes one id, and source lists {len(self.names)}")
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

    @model_validator(mode="after")
    def fields_name_canonical_columns(self) -> Self:
        for role, columns in COLUMNS.items():
            source: Source | None = getattr(self, role)
            if source and (unknown := sorted(set(source.fields) - set(columns))):
                raise ValueError(
                    f"ingest.{role}.fields maps canonical columns to the source's; {unknown} are "
                    f"not canonical (known: {list(columns)})"
                )
        return self

    @model_validator(mode="after")
    def only_roles_with_a_split_are_held_out(self) -> Self:
        for role, columns in COLUMNS.items():
            source: Source | None = getattr(self, role)
            if source and source.held_out_share and "split" not in columns:
                raise ValueError(
                    f"ingest.{role}.held_out_share: {role} have no split; give them a `set` column"
                )
        return self

    @model_validator(mode="after")
    def at_least_one_role_has_a_source(self) -> Self:
        if all(getattr(self, role) is None for role in type(self).model_fields):
            raise ValueError(
                "ingest: no role has a source; name at least `corpus` or `instructions`"
            )
        return self
