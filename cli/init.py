"""`posttrain init`: from a user's files to a complete, commented run configuration."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cli.columns import Found
    from cli.run_file import Pipeline
    from posttrain.recipe import Recipe

BASE = "Qwen/Qwen2.5-0.5B-Instruct"
"""A small base that knows Korean and English, under Apache-2.0; `--base` names another."""

DEFAULT_RUN = Path("zenml_config.yaml")
PIPELINE: "Pipeline" = "fine_tuning"
FIRST_LIMIT = 20.0

NOTES = {
    "template.chat_template": "Many models' own templates lack the marks (the pre-flight tells); "
    "recipes/ has templates with marks: chatml.jinja for Qwen, gemma3.jinja, llama3.jinja.",
    "promotion.limits": "A first guess: set the bounds by the figures of the first run.",
    "evaluation.probes": "Held-out questions with known answers: a source under ingest.probes, and "
    "for instance {name: accuracy, kind: exact_match, sets: [test]}.",
    "tokenize.max_length": "Above the longest of the rows looked at, one token a character.",
}


def init(
    files: Annotated[
        list[str],
        typer.Option(
            "--from", metavar="FILE", help="Your data; may be repeated. ROLE=FILE names the role."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Recipe to write.")] = Path("recipe.yaml"),
    name: Annotated[str, typer.Option(help="Name in the registry.")] = "my-model",
    base: Annotated[str, typer.Option(help="Hub id, folder, or registry:NAME@ALIAS.")] = BASE,
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
) -> None:
    """Write a recipe for your own data."""
    if out.exists() and not force:
        raise ValueError(f"{out}: exists; name another file by --out, or overwrite it by --force")
    found = look_at_all(files)
    for one in found:
        _print_found(one)
    recipe = propose(found, name, base)
    if recipe.template.chat_template is None:
        print(f"template: that of {base} itself; `posttrain check` tells whether it has the marks")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(run_configuration(recipe, found, out), encoding="utf-8")
    print(f"\nwrote {out}")
    if all(one.role != "instructions" for one in found):
        print("SFT needs instructions: add a source under ingest.instructions before you run it")
    print(f"run it: zenml pipeline run pipelines.{PIPELINE}.{PIPELINE} -c {out}")


def look_at_all(files: list[str]) -> "list[Found]":
    """Each file in its role.

    Raises:
        ValueError: two files fit one role.
    """
    from typing import cast, get_args

    from cli.columns import look_at
    from posttrain.facts import Role

    found: list[Found] = []
    for given in files:
        role, _, rest = given.partition("=")
        named = role in get_args(Role)
        one = look_at(Path(rest), cast(Role, role)) if named else look_at(Path(given))
        if twin := next((other for other in found if other.role == one.role), None):
            raise ValueError(
                f"{one.file}: looks like {one.role}, and so does {twin.file}; name the role: "
                f"--from ROLE={one.file}"
            )
        found.append(one)
    return found


def propose(found: "list[Found]", name: str, base: str) -> "Recipe":
    """A recipe that fits the files, with training settings that are safe to begin with."""
    from cli.families import template_of
    from posttrain.recipe import Recipe

    roles = {one.role for one in found}
    length = _power_of_two(max(one.longest for one in found))
    answers = "perplexity_answers" if "instructions" in roles else "perplexity_domain"
    sets = [one.answered_sets for one in found if one.answered_sets]
    training = {"learning_rate": 2e-4, "batch_size": 4, "accumulation_steps": 4}
    content: dict[str, Any] = {
        "seed": 0,
        "ingest": {one.role: one.source for one in found},
        "base_model": {"source": base},
        "template": {"chat_template": template_of(base)},
        "tokenize": {"max_length": length, "block_size": length},
        "base_finetune": (
            {"method": "lora", "num_epochs": 1, **training}
            if "corpus" in roles
            else {"method": "none"}
        ),
        "sft": {"num_epochs": 2, **training},
        "evaluation": {
            "window": length,
            "stride": length // 2,
            "probes": [{"name": "accuracy", "kind": "exact_match", "sets": s} for s in sets],
        },
        "registration": {"model_name": name},
        "promotion": {
            "limits": [{"figure": answers, "at_most": FIRST_LIMIT}],
            "against_champion": [
                {"figure": answers, "higher_is_better": False, "max_loss": 2, "in_percent": True}
            ],
        },
    }
    return Recipe.model_validate(content)


def run_configuration(recipe: "Recipe", found: "list[Found]", out: Path) -> str:
    """The whole YAML: the recipe, then where it runs as the default run has it."""
    from cli.recipe_yaml import commented

    files = ", ".join(f"{one.file} ({one.role})" for one in found)
    parts = [
        f"# Written by `posttrain init` from {files}.",
        f"#   zenml pipeline run pipelines.{PIPELINE}.{PIPELINE} -c {out}",
        "# Above: what is trained; every field with its default. Below: where it runs.",
        "",
        "parameters:",
        "  recipe:",
        commented(recipe, indent=4, notes=NOTES),
    ]
    return "\n".join(parts) + _where_it_runs()


def _where_it_runs() -> str:
    """ZenML's own keys, taken over from the default run where it is at hand."""
    import yaml

    if not DEFAULT_RUN.exists():
        return "\n# ZenML's settings and steps go here.\n"
    from cli.run_file import read, steps_of

    run = read(DEFAULT_RUN)
    keys = {name: value for name, value in run.items() if name != "parameters"}
    known = steps_of(PIPELINE)
    keys["steps"] = {name: step for name, step in (run.get("steps") or {}).items() if name in known}
    text: str = yaml.safe_dump(keys, allow_unicode=True, sort_keys=False) if keys else ""
    return f"\n# ZenML's settings, as in {DEFAULT_RUN}.\n{text}"


def _print_found(one: "Found") -> None:
    print(f"{one.file}: {one.num_rows:,} rows looked at, columns {', '.join(one.columns)}")
    renamed = ", ".join(f"{column} -> {name}" for name, column in one.source.fields.items())
    print(f"  role: {one.role}{'; ' + renamed if renamed else ''}")
    if one.unused:
        print(f"  kept aside, not trained on: {', '.join(one.unused)}")
    if one.source.held_out_share:
        print(f"  no column `split`: {one.source.held_out_share:.0%} is held out for evaluation")


def _power_of_two(length: int) -> int:
    """The next power of two, between 128 and 4,096."""
    size = 128
    while size < length and size < 4_096:
        size *= 2
    return size
