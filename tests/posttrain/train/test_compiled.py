"""`POSTTRAIN_COMPILE` through a whole stage, by torch's own compiler."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from posttrain.artifacts import BaseModel, Tokens
from posttrain.models.compiled import check_compiler
from posttrain.recipe.sft import SftRecipe
from posttrain.train import sft

RECIPE = SftRecipe(method="lora", learning_rate=1e-3, num_epochs=2, batch_size=2)


def weights(tokens: Tokens, base: BaseModel) -> dict[str, torch.Tensor]:
    folder: Path = sft.train(tokens, base, RECIPE).path
    found: dict[str, torch.Tensor] = load_file(folder / "adapter" / "adapter_model.safetensors")
    return found


@pytest.mark.slow  # the compiler takes half a minute
def test_a_stage_ends_in_the_same_weights(
    tokens: Tokens, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        check_compiler(torch.device("cpu"))
    except ValueError as error:
        pytest.skip(str(error))
    plain = weights(tokens, base)
    monkeypatch.setenv("POSTTRAIN_COMPILE", "true")
    torch.compiler.reset()
    counters.clear()
    compiled = weights(tokens, base)
    assert counters["stats"]["unique_graphs"] > 0
    for name, weight in plain.items():
        gap = (compiled[name] - weight).abs().max()
        assert gap <= 1e-3 * weight.abs().max(), name
