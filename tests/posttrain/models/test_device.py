"""Precision and attention, by what the machine has."""

import pytest
import torch
from pydantic import ValidationError

from posttrain.models.device import attention, dtype
from posttrain.runtime import Runtime


def test_alignment_07_float16_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would need a loss scaler, and Gemma 3's activations overflow in it."""
    monkeypatch.setenv("POSTTRAIN_DTYPE", "float16")
    with pytest.raises(ValidationError, match=r"(?s)dtype.*'auto', 'float32' or 'bfloat16'"):
        Runtime.from_environment()


def test_a_cpu_computes_in_float32_with_pytorchs_attention() -> None:
    runtime = Runtime(device="cpu")
    assert dtype(runtime) == torch.float32
    assert attention(runtime) == "sdpa"
