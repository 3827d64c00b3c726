"""The model that everything starts from."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

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
