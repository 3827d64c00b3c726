"""The model that everything starts from."""

from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from posttrain.recipe.section import Section


class FromConfig(Section):
    """A model of random weights and a byte-level BPE tokenizer trained on the corpus."""

    architecture: Literal["gemma3_text", "llama", "gpt2"]
    """Model family."""

    hidden_size: PositiveInt
    """Width of the residual stream."""

    intermediate_size: PositiveInt
    """Width of the MLP."""

    num_layers: PositiveInt
    """Transformer blocks."""

    num_heads: PositiveInt
    """Attention heads; divides `hidden_size`."""

    num_kv_heads: PositiveInt
    """Key and value heads; divides `num_heads`. GPT-2 has as many as `num_heads`."""

    max_positions: PositiveInt
    """Longest sequence, in tokens."""

    vocabulary_size: int = Field(ge=300)
    """Entries of the tokenizer, control tokens and the 256 bytes included."""

    @model_validator(mode="after")
    def heads_divide_the_width(self) -> Self:
        if self.hidden_size % self.num_heads or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"base_model.from_config: num_heads ({self.num_heads}) must divide hidden_size "
                f"({self.hidden_size}), and num_kv_heads ({self.num_kv_heads}) num_heads"
            )
        return self


class TrustedCode(Section):
    """A repository that brings Python, at a commit whose code somebody has read."""

    repository: str
    """Its id; `base_model.source` itself."""

    commit: str = Field(pattern="^[0-9a-f]{40}$")
    """The commit in full; `base_model.revision` too."""


class BaseModelRecipe(Section):
    """A hub id, a local folder, `registry:NAME@ALIAS`, or `from_config`."""

    source: str
    """What to load; `from_config` makes a new model by the section of that name."""

    revision: str = "main"
    """Branch, tag or commit of a hub model; the commit it resolves to is recorded."""

    fingerprint: str | None = None
    """What the base must be: SHA-256 over shapes, vocabulary and content. `posttrain pin` writes
    it; any base will do where absent."""

    from_config: FromConfig | None = None
    """Sizes of a new model; only with `source: from_config`."""

    trust_remote_code: TrustedCode | None = None
    """Let the hub model's own Python run, as architectures need that Transformers has not: by
    repository and commit. The machine must allow it too (`POSTTRAIN_TRUSTED_CODE`). Without it no
    code of a model is ever run."""

    seed: int = 0
    """Seed of a new model's weights; the run's seed where absent."""

    @model_validator(mode="after")
    def from_config_comes_with_its_section(self) -> Self:
        if (self.source == "from_config") != (self.from_config is not None):
            raise ValueError(
                f"base_model: source is {self.source!r} and from_config is "
                f"{'absent' if self.from_config is None else 'given'}; they go together"
            )
        return self

    @field_validator("trust_remote_code", mode="before")
    @classmethod
    def trust_names_what_it_trusts(cls, value: Any) -> Any:
        if isinstance(value, bool | str):
            raise ValueError(
                f"base_model.trust_remote_code: found {value!r}; write what is trusted, "
                "{repository: owner/name, commit: 40 characters}, or leave the field out"
            )
        return value

    @model_validator(mode="after")
    def trusted_code_is_the_bases_own(self) -> Self:
        trusted = self.trust_remote_code
        if trusted is None:
            return self
        if trusted.repository != self.source or trusted.commit != self.revision:
            raise ValueError(
                f"base_model.trust_remote_code trusts {trusted.repository} at {trusted.commit}, "
                f"and base_model is {self.source} at {self.revision}; both must name the same "
                "repository and commit"
            )
        return self
