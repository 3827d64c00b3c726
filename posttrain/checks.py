"""`posttrain check`: what would stop a run, found before anything trains; no weight is downloaded.

Every check runs whatever another found, so that all mistakes are seen at once.
"""

from collections.abc import Callable
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerFast

from posttrain.align.constitution import load_constitution
from posttrain.data import preflight as data
from posttrain.data.rows import ROLES
from posttrain.evaluate import harness
from posttrain.facts import Role
from posttrain.models.base import config_of
from posttrain.models.candidate import (
    Candidate,
    check_fingerprint,
    find,
    resolve_template,
)
from posttrain.models.code import code_of
from posttrain.models.preflight import TRIAL, find_problems
from posttrain.models.room import Machine, estimates, gpu_of, machine, shortages, table
from posttrain.models.source import PREFIX, split
from posttrain.models.tokenizer import load_tokenizer, train_tokenizer
from posttrain.recipe import Recipe
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.harness import HarnessRecipe
from posttrain.recipe.preflight import Preflight
from posttrain.recipe.section import Section
from posttrain.registry.load import download
from posttrain.runtime import Runtime


class Check(Section):
    """One thing that was looked at."""

    name: str
    found: str = ""
    """What it is, where all is well."""

    problems: tuple[str, ...] = ()
    """What stops a run."""

    warnings: tuple[str, ...] = ()
    """What may stop it, or is not as meant."""


class Report(Section):
    """Everything that was looked at."""

    checks: tuple[Check, ...]
    memory: str = ""
    """The table of estimates; empty where there is no base to go by."""

    @property
    def is_well(self) -> bool:
        """Whether nothing would stop a run."""
        return not any(check.problems for check in self.checks)


def check_run(recipe: Recipe, gpu_gib: float | None = None) -> Report:
    """Look at the data, the base, the constitution and the memory of a run.

    Args:
        recipe: of the run.
        gpu_gib: memory of a GPU to check for; this machine's own where absent.
    """
    checks = [_data(role, recipe) for role in ROLES if getattr(recipe.ingest, role) is not None]
    if recipe.aligns and recipe.self_critique is not None:
        checks.append(_constitution(Path(recipe.self_critique.constitution)))
    if recipe.evaluation.harness is not None:
        checks.append(_benchmarks(recipe.evaluation.harness))
    try:
        preflight = recipe.preflight
        config, tokenizer, found = look_at_base(recipe.base_model)
    except ValueError as error:
        return Report(checks=(*checks, Check(name="base model", problems=(str(error),))))
    problems = _problems(lambda: resolve_template(tokenizer, preflight))
    if not problems:
        problems = find_problems(config, tokenizer, preflight)
    checks.append(Check(name="base model", found=found, problems=tuple(problems)))
    if problems:
        unknown = Check(name="memory", warnings=("estimated once the base model is right",))
        return Report(checks=(*checks, unknown))
    room = gpu_of(gpu_gib) if gpu_gib else machine(Runtime.from_environment(), config.model_type)
    memory, shown = _memory(config, preflight, room)
    return Report(checks=(*checks, memory), memory=shown)


def _data(role: Role, recipe: Recipe) -> Check:
    name, source = f"data: {role}", getattr(recipe.ingest, role)
    try:
        found, warnings = data.look(role, source)
    except ValueError as error:
        return Check(name=name, problems=(str(error),))
    return Check(name=name, found=found, warnings=tuple(warnings))


def _constitution(file: Path) -> Check:
    problems = _problems(lambda: load_constitution(file))
    return Check(name="constitution", found=str(file), problems=tuple(problems))


def _benchmarks(recipe: HarnessRecipe) -> Check:
    problems = _problems(lambda: harness.find(recipe))
    return Check(name="benchmarks", found=", ".join(recipe.tasks), problems=tuple(problems))


def _problems(run: Callable[[], object]) -> list[str]:
    try:
        run()
    except ValueError as error:
        return [str(error)]
    return []


def look_at_base(
    recipe: BaseModelRecipe,
) -> tuple[PreTrainedConfig, PreTrainedTokenizerFast, str]:
    """Configuration and tokenizer of the base that a run would resolve, and what it is.

    Raises:
        ValueError: it cannot be had, or is not the pinned one.
    """
    if recipe.from_config is not None:
        # its tokenizer is trained on the corpus; templates ask for its control tokens alone
        tokenizer = train_tokenizer([turn["content"] for turn in TRIAL], 300)
        config = config_of(recipe.from_config, tokenizer)
        config.vocab_size = recipe.from_config.vocabulary_size
        return config, tokenizer, f"a new {recipe.from_config.architecture}"
    if recipe.source.startswith(PREFIX):
        return _registered(recipe.source)
    found = find(recipe)
    if recipe.fingerprint is not None:
        check_fingerprint(found.fingerprint(), recipe.fingerprint, recipe.source)
    return found.config, found.tokenizer, _named(found)


def _registered(source: str) -> tuple[PreTrainedConfig, PreTrainedTokenizerFast, str]:
    """A registered version; it is fetched into the cache, where a run finds it."""
    base, _ = download(*split(source), Runtime.from_environment().cache.resolve() / "registered")
    reference = base.facts.reference
    own = reference.kind == "own"
    config = AutoConfig.from_pretrained(
        str(base.path / reference.source) if own else reference.source,
        revision=reference.revision or "main",
        **code_of(reference),
    )
    return config, load_tokenizer(base), f"{source}, on {reference.source}"


def _named(found: Candidate) -> str:
    reference = found.reference
    at = f" at {reference.revision}" if reference.revision else ""
    return f"{reference.source}{at}, {found.config.model_type}"


def _memory(config: PreTrainedConfig, preflight: Preflight, room: Machine) -> tuple[Check, str]:
    try:
        stages = estimates(config, preflight.workloads, room)
    except Exception as error:  # an architecture may do what the meta device cannot
        warning = f"no estimate for {config.model_type}: {error}"
        return Check(name="memory", warnings=(warning,)), ""
    short, tight = shortages(stages, preflight.workloads, room)
    most = max(stages, key=lambda stage: stage.total)
    found = f"{most.stage} takes most, {most.in_gib('total')} of {room.in_gib}"
    check = Check(name="memory", found=found, problems=tuple(short), warnings=tuple(tight))
    return check, f"{room.name}, {room.in_gib}\n{table(stages)}"
