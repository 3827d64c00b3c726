"""Sampling through vLLM, where the runtime asks for it (`POSTTRAIN_GENERATOR=vllm`).

Faster than our own loop on a GPU with long answers; it holds a copy of the base of its own, which
is what our own loop spares. Its draws differ from ours, so that a run samples other answers; PPO
computes every log-probability on its own path whoever sampled. Not run on the project's machines,
which have no GPU.
"""

import tempfile
from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel

from posttrain.models.adapters import save_adapter

if TYPE_CHECKING:
    from posttrain.models.generate import Sampling

MEMORY_SHARE = 0.4
"""Of the GPU, for vLLM's base and KV cache; the rest is for training on the same GPU."""

NUMBERS = count(1)
"""vLLM keeps adapters by number: a changed adapter needs a new one."""


def generate(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    sampling: "Sampling",
    first: int = 0,
) -> list[list[int]]:
    """Answer each prompt under the model's active adapter, as our own loop would.

    `first` is the place of the first prompt among those that several processes share.

    Raises:
        ValueError: vLLM is not installed, or cannot hold this model.
    """
    vllm, lora = _library()
    folder = _weights(model)
    parameters = [
        vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=1.0,
            top_k=0,
            min_tokens=0,
            max_tokens=sampling.max_new_tokens,
            stop_token_ids=list(sampling.end_ids),
            ignore_eos=True,  # the template's end tokens alone end an answer
            detokenize=False,
            seed=sampling.seed + first + place,
        )
        for place in range(len(prompts))
    ]
    asked = [vllm.TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts]
    precision = str(model.dtype).removeprefix("torch.")
    engine = _engine(folder, _revision(model), precision, _rank(model))
    with tempfile.TemporaryDirectory() as scratch:
        request = None
        if isinstance(model, PeftModel):
            save_adapter(model, model.active_adapter, Path(scratch))
            number = next(NUMBERS)
            request = lora.LoRARequest(f"adapter-{number}", number, scratch)
        answered = engine.generate(asked, parameters, lora_request=request, use_tqdm=False)
    return [list(one.outputs[0].token_ids) for one in answered]


def _library() -> tuple[Any, Any]:
    try:
        import vllm  # noqa: PLC0415  # optional, and minutes to import
        import vllm.lora.request as lora  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(
            "POSTTRAIN_GENERATOR=vllm, but vLLM is not installed here; pip install vllm into the "
            "training image, or unset the variable: our own loop needs nothing more"
        ) from error
    return vllm, lora


def _weights(model: PreTrainedModel | PeftModel) -> str:
    owner = model.get_base_model() if isinstance(model, PeftModel) else model
    source = str(owner.name_or_path)
    if not source or getattr(owner.config, "quantization_config", None) is not None:
        why = "quantised" if source else "merged in memory"
        raise ValueError(
            f"POSTTRAIN_GENERATOR=vllm, but the base is {why}, and vLLM reads weights from a "
            "folder or hub id: unset the variable, or take a base that is neither"
        )
    return source


def _revision(model: PreTrainedModel | PeftModel) -> str | None:
    """The commit that Transformers loaded from the hub; None for a folder."""
    return getattr(model.config, "_commit_hash", None)


def _rank(model: PreTrainedModel | PeftModel) -> int:
    if not isinstance(model, PeftModel):
        return 0
    config = model.peft_config[model.active_adapter]
    if not isinstance(config, LoraConfig) or config.use_dora:
        raise ValueError(
            f"POSTTRAIN_GENERATOR=vllm, but vLLM has no {config.peft_type} adapters with these "
            "settings (no DoRA, no bottleneck); unset the variable"
        )
    return config.r


@lru_cache(maxsize=1)  # an engine holds the base: a second one would not fit
def _engine(folder: str, revision: str | None, precision: str, rank: int) -> Any:
    vllm, _ = _library()
    return vllm.LLM(
        model=folder,
        revision=revision,
        dtype=precision,
        enable_lora=rank > 0,
        max_lora_rank=max(8, rank),
        gpu_memory_utilization=MEMORY_SHARE,
        generation_config="vllm",  # the model's own is ignored: the plain softmax is sampled
        trust_remote_code=False,
    )
