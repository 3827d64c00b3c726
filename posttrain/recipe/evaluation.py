"""What is measured of every stage."""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from posttrain.recipe.harness import HARNESS, HarnessRecipe
from posttrain.recipe.section import Section

Language = Literal["en", "ko"]


class Probe(Section):
    """One measured behaviour: a share of held-out questions, or ROUGE against their answers."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Name of the figure in tables, gates and the tracker; `rouge` gives name_1, name_2, name_l."""

    kind: Literal["exact_match", "cloze", "markers", "rouge"]
    """`exact_match`: the response contains the answer. `cloze`: so does the continuation of a plain
    text. `markers`: the response contains, or lacks, given strings. `rouge`: F1 of what response
    and answer share: single units, pairs, longest common subsequence (Lin 2004)."""

    sets: tuple[str, ...] = Field(min_length=1)
    """`set` values of the probe role to ask."""

    by_set: bool = False
    """Report a figure a set as well as one over all."""

    any_of: tuple[str, ...] = ()
    """`markers`: a response with one of these counts."""

    or_none_of: tuple[str, ...] = ()
    """`markers`: a response with none of these counts too."""

    not_any_of: tuple[str, ...] = ()
    """`exact_match`: a response with one of these does not count."""

    rouge_unit: Literal["syllable", "word"] = "syllable"
    """`rouge`: what is counted of scripts such as Hangul and Han; other letters and digits count by
    the word either way. Korean particles stick to their nouns, so words match too rarely."""

    temperature: NonNegativeFloat = 0.0
    """Sampling temperature; 0 is greedy."""

    num_samples: PositiveInt = 1
    """Responses a question; more than one only where sampled."""

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of what it measures."""
        if self.kind != "rouge":
            return (self.name,)
        return tuple(f"{self.name}_{one}" for one in ("1", "2", "l"))

    @model_validator(mode="after")
    def markers_are_named(self) -> Self:
        if self.kind == "markers" and not (self.any_of or self.or_none_of):
            raise ValueError(f"evaluation.probes: {self.name} is of kind markers and names none")
        return self


class EvaluationRecipe(Section):
    """Perplexity, probes and samples."""

    probes: tuple[Probe, ...] = ()
    """Measured of every stage."""

    harness: HarnessRecipe | None = None
    """Benchmarks of the untrained base and the final policy; none where absent."""

    batch_size: PositiveInt = 64
    """Sequences a forward pass or generation batch."""

    max_new_tokens: PositiveInt = 64
    """Longest response, in tokens."""

    window: PositiveInt
    """Perplexity's context window, in tokens."""

    stride: PositiveInt
    """Tokens scored a window; each token is scored once."""

    num_bootstrap: PositiveInt = 1_000
    """Resamples behind each 95 % interval."""

    num_samples: PositiveInt = 12
    """Questions whose answers stand side by side in the report."""

    report_language: Language = "en"
    """Language that the report opens in; the page holds each, and the reader may change."""

    seed: int = 0
    """Seed of sampling and bootstrap; the run's seed where absent."""

    @model_validator(mode="after")
    def strides_fit_the_window(self) -> Self:
        if self.stride >= self.window:
            raise ValueError(
                f"evaluation.stride ({self.stride}) must be below evaluation.window "
                f"({self.window}): a window's first token has no context and is not scored in it"
            )
        return self

    @model_validator(mode="after")
    def probe_names_are_unique(self) -> Self:
        names = [name for probe in self.probes for name in {probe.name, *probe.figures}]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"evaluation.probes: names used twice: {sorted(twice)}")
        return self

    @model_validator(mode="after")
    def no_probe_is_called_as_the_harness(self) -> Self:
        if any(f"{probe.name}." == HARNESS for probe in self.probes):
            raise ValueError(
                f"evaluation.probes: {HARNESS.rstrip('.')!r} is what benchmarks' figures begin "
                "with; give the probe another name"
            )
        return self
