"""Public benchmarks beside the run's own probes, by lm-evaluation-harness."""

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from posttrain.recipe.section import Section

HARNESS = "harness."
"""Prefix of the figures: `harness.<task>.<metric>`."""

TaskName = Annotated[str, Field(pattern=r"^[^\s/,]+$")]


class HarnessRecipe(Section):
    """Tasks put to the untrained base and to the final policy; needs the extra `eval`.

    To these two alone: a benchmark asks what a run cost or gained against what people could have
    used in its place, and takes as long as all else that is measured of a stage. What each stage
    did is what probes and perplexities tell.
    """

    tasks: tuple[TaskName, ...] = Field(min_length=1)
    """Tasks, groups or tags by the names that `lm-eval ls tasks` lists, or that the files in
    `include_path` give themselves."""

    include_path: str | None = None
    """Folder of task files of your own; they stand before built-in ones of the same name. Their
    data belongs into the same folder: the step then runs again when it changes."""

    num_fewshot: NonNegativeInt | None = None
    """Solved examples before each question; as the task says where absent. A task that says 0
    keeps it, as in the harness itself."""

    limit: PositiveInt | None = None
    """Questions of each task, for a try; all where absent."""

    batch_size: PositiveInt = 8
    """Sequences a forward pass."""

    max_length: PositiveInt | None = None
    """Longest context, in tokens; the model's positions where absent. What is longer is cut from
    the left, and whole texts are scored window by window."""

    apply_chat_template: bool = False
    """Render questions by the run's chat template, as for a model that answers chats."""

    seed: int = 0
    """Seed of the examples drawn and of tasks that sample. Not the run's: versions compare only
    where they were shown the same examples."""

    @model_validator(mode="after")
    def tasks_are_named_once(self) -> Self:
        if twice := {name for name in self.tasks if self.tasks.count(name) > 1}:
            raise ValueError(f"evaluation.harness.tasks: named twice: {sorted(twice)}")
        return self

    def task_of(self, figure: str) -> str | None:
        """The named task that a figure `harness.<task>.<metric>` is of, or None."""
        for task in sorted(self.tasks, key=len, reverse=True):  # names may have points in them
            if figure.startswith(f"{HARNESS}{task}.") and not figure.endswith("."):
                return task
        return None
