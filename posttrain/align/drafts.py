"""Self-critique's drafts, kept after each round of generation.

Answers, critiques and revisions of a large prompt set take hours: a run that is killed reads what
the rounds before have written. Prompts and principles are not kept: the recipe's seed and the
tokens, which are in the checkpoints' key, give the same ones again.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from posttrain import processes
from posttrain.align.constitution import Constitution
from posttrain.align.revise import (
    Draft,
    Speaker,
    Utterance,
    answer,
    criticise_revisions,
    draw_principles,
    revise,
)
from posttrain.align.rows import Prompt
from posttrain.recipe.section import Section
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.train.checkpoints import Checkpoints
from posttrain.train.interrupt import Interrupted, interruption

DRAFTS = "drafts.jsonl"


class Said(Section):
    """What was said in one draft: a line of `drafts.jsonl`."""

    response: Utterance
    critiques: list[Utterance]
    revisions: list[Utterance]
    second_critique: Utterance | None


def write_drafts(
    prompts: Sequence[Prompt],
    speaker: Speaker,
    constitution: Constitution,
    recipe: SelfCritiqueRecipe,
    checkpoints: Checkpoints,
) -> list[Draft]:
    """Answers, then rounds of critique and revision, then the second critiques.

    Continues behind the last round that is whole.

    Raises:
        Interrupted: SIGTERM came; the round at hand was finished and saved.
    """
    found = processes.by_main(checkpoints.newest)
    done = 0 if found is None else int(found.name.rpartition("-")[2])
    drafts = [] if found is None else restored(found, prompts, constitution, recipe)
    last = recipe.max_rounds + 2
    with interruption() as asked:
        for number in range(done + 1, last + 1):
            if number == 1:
                drafts = answer(prompts, speaker, constitution, recipe)
            elif number < last:
                revise(drafts, number - 2, speaker, recipe)
            else:
                criticise_revisions(drafts, speaker, recipe)
            if processes.is_main():
                save(drafts, number, checkpoints)
            processes.wait()
            if processes.agreed(asked.asked):
                raise Interrupted(
                    f"self_critique ended after {number} of {last} rounds of generation; run the "
                    f"same command again, it continues from {checkpoints.place}"
                )
    return drafts


def save(drafts: Sequence[Draft], number: int, checkpoints: Checkpoints) -> None:
    """Publish the drafts as they stand after so many rounds of generation."""
    staged = checkpoints.stage(number)
    with (staged / DRAFTS).open("w", encoding="utf-8") as stream:
        for draft in drafts:
            said = Said(
                response=draft.response,
                critiques=draft.critiques,
                revisions=draft.revisions,
                second_critique=draft.second_critique,
            )
            stream.write(said.model_dump_json() + "\n")
    checkpoints.publish(staged)


def restored(
    checkpoint: Path,
    prompts: Sequence[Prompt],
    constitution: Constitution,
    recipe: SelfCritiqueRecipe,
) -> list[Draft]:
    """The drafts of a checkpoint, on the prompts and principles that they were made for."""
    lines = (checkpoint / DRAFTS).read_text(encoding="utf-8").splitlines()
    said = [Said.model_validate(json.loads(line)) for line in lines]
    asked = [prompt for prompt in prompts for _ in range(recipe.num_samples)]
    principles = draw_principles(len(asked), constitution, recipe)
    return [
        replace(
            Draft(prompt, one.response, drawn),
            critiques=one.critiques,
            revisions=one.revisions,
            second_critique=one.second_critique,
        )
        for prompt, one, drawn in zip(asked, said, principles, strict=True)
    ]
