"""Bases resolved, and adapters trained on them, in a process whose hub a test serves.

    resolve RECORDS TEMPLATE '{ID: REVISION}'
    train RECORDS '{ID: PATH OF THE BASE}' FOLDER

The last line is JSON: id -> path and facts of the base (or what was said against it), or id -> path
of the adapter, whose logits then lie in FOLDER.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from posttrain.artifacts import BaseModel, Records
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.models.base import resolve
from posttrain.models.load import load_policy
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.preflight import Preflight
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.train import sft

PROMPT = [[5, 6, 7, 8, 9, 10, 11]]


def resolved(records: Records, chat_template: str, revisions: dict[str, str]) -> dict[str, Any]:
    """Id -> path and facts of its base, or what `resolve` says against it."""
    preflight = Preflight(
        target_modules={"sft": "all-linear"},
        longest_sequence=64,
        longest_fields="tokenize.max_length",
        chat_template=chat_template,
        system=None,
        learn_prompts=False,
    )
    found: dict[str, Any] = {}
    for name, revision in revisions.items():
        try:
            base = resolve(records, BaseModelRecipe(source=name, revision=revision), preflight)
            found[name] = {"path": str(base.path), "facts": base.facts.model_dump()}
        except Exception as error:
            found[name] = {"refused": f"{type(error).__name__}: {error}"}
    return found


def trained(records: Records, bases: dict[str, str], folder: Path) -> dict[str, str]:
    """Id -> folder of an adapter that SFT trained on its base; its logits in `folder`."""
    lengths = TokenizeRecipe(max_length=64, block_size=64)
    recipe = SftRecipe(
        lora=LoraRecipe(rank=4), learning_rate=1e-2, num_epochs=1, max_steps=2, batch_size=2
    )
    found: dict[str, str] = {}
    for name, path in bases.items():
        base = BaseModel(Path(path))
        tokens = tokenize(template(records, base, TemplateRecipe()), base, lengths)
        policy = sft.train(tokens, base, recipe)
        save_file({"logits": logits(load_policy(base, policy))}, folder / name.replace("/", "-"))
        found[name] = str(policy.path / "adapter")
    return found


def logits(model: PreTrainedModel) -> torch.Tensor:
    """What the model makes of `PROMPT`."""
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor(PROMPT)).logits
    return found.contiguous()


def main() -> None:
    verb, records, *words = sys.argv[1:]
    if verb == "resolve":
        print(json.dumps(resolved(Records(Path(records)), words[0], json.loads(words[1]))))  # noqa: T201
    else:
        print(json.dumps(trained(Records(Path(records)), json.loads(words[0]), Path(words[1]))))  # noqa: T201


if __name__ == "__main__":
    main()
