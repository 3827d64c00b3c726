"""From artifacts to models: weights, delta, policy; and what must match before they are read."""

import json
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel

from posttrain.artifacts import BaseModel, Policy, RewardModel
from posttrain.contract import check_trained_on
from posttrain.facts import PolicyFacts
from posttrain.hashes import sha256
from posttrain.models.adapters import attach_folder
from posttrain.models.code import NO_CODE, code_of
from posttrain.models.device import device, dtype, kernels, with_kernels
from posttrain.models.quantize import keep_trainable, nf4, quantization_of
from posttrain.models.raised_attention import raise_attention
from posttrain.recipe.train import QuantizationRecipe
from posttrain.runtime import Runtime


def load_base(
    base: BaseModel, trainable: bool = False, quantization: QuantizationRecipe | None = None
) -> PreTrainedModel:
    """Load a base's weights in eval mode, its delta merged in.

    Args:
        base: the artifact.
        trainable: for full fine-tuning: weights that train, in float32 whatever the device. Else
            they are frozen, at the runtime's precision.
        quantization: hold the weights in 4 bits; they cannot train then.

    Raises:
        ValueError: a file differs from its recorded SHA-256.
    """
    assert not (trainable and quantization)
    runtime = Runtime.from_environment()
    facts = base.verify().facts
    if facts.outside and facts.outside != weight_hashes(Path(facts.reference.source)):
        raise ValueError(
            f"{facts.reference.source}: its weights have changed since {base.path} was made; run "
            "base_model again, or put the old weights back"
        )
    code = code_of(facts.reference)
    if quantization is not None:
        # a delta has been merged before, at the base's precision
        source = (str(_merged(base, runtime)), "main") if facts.has_delta else _source(base)
        return _quantized(*source, facts.architecture, quantization, runtime, **code)
    precision = torch.float32 if trainable else dtype(runtime, facts.architecture)
    model = _from_pretrained(*_source(base), facts.architecture, precision, runtime, **code)
    if facts.has_delta:
        # Merged at the precision of the base, 16 bits or more: a 4-bit merge loses the delta.
        model = PeftModel.from_pretrained(model, str(base.path / "delta")).merge_and_unload()
        model.name_or_path = ""  # what is in memory lies in no folder
    model.requires_grad_(trainable)
    return _placed(model, runtime)


def _source(base: BaseModel) -> tuple[str, str]:
    reference = base.facts.reference
    own = reference.kind == "own"
    folder = str(base.path / reference.source) if own else reference.source
    return folder, reference.revision or "main"


def _from_pretrained(
    source: str,
    revision: str,
    architecture: str,
    precision: torch.dtype,
    runtime: Runtime,
    **more: Any,
) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        source,
        revision=revision,
        dtype=precision,
        attn_implementation=kernels(runtime, architecture).attention,
        use_safetensors=True,  # never unpickles
        **{**NO_CODE, **more},
    )
    return with_kernels(model, runtime)


def load_weights(
    folder: Path,
    quantization: QuantizationRecipe | None = None,
    precision: torch.dtype | None = None,
    trainable: bool = False,
) -> PreTrainedModel:
    """Load a folder's weights in eval mode.

    Args:
        folder: of safetensors and a config.
        quantization: hold the weights in 4 bits.
        precision: of the weights; the runtime's where absent.
        trainable: as in `load_base`.
    """
    assert not (trainable and quantization)
    runtime = Runtime.from_environment()
    architecture = AutoConfig.from_pretrained(str(folder), **NO_CODE).architectures[0]
    if quantization is not None:
        return _quantized(str(folder), "main", architecture, quantization, runtime)
    if trainable:
        precision = torch.float32
    precision = precision or dtype(runtime, architecture)
    model = _from_pretrained(str(folder), "main", architecture, precision, runtime)
    model.requires_grad_(trainable)
    return _placed(model, runtime)


def _quantized(
    source: str,
    revision: str,
    architecture: str,
    quantization: QuantizationRecipe,
    runtime: Runtime,
    **code: Any,
) -> PreTrainedModel:
    precision, place = dtype(runtime, architecture), device(runtime)
    if place.type == "cuda" and place.index is None:  # accelerate compares the index with its own
        place = torch.device("cuda", torch.cuda.current_device())
    model = _from_pretrained(
        source,
        revision,
        architecture,
        precision,
        runtime,
        quantization_config=nf4(quantization, precision),
        device_map={"": place},
        **code,
    )
    keep_trainable(model)
    model.requires_grad_(False)
    raise_attention(model)
    return cast(PreTrainedModel, model.eval())


def _merged(base: BaseModel, runtime: Runtime) -> Path:
    """A folder of the base's weights with its delta merged in; made once, in the cache."""
    precision = kernels(runtime, base.facts.architecture).precision
    folder = runtime.cache.resolve() / "merged" / f"{base.facts.fingerprint}-{precision}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".merging-") as staging:
            load_base(base).save_pretrained(f"{staging}/weights")
            # another process may have been faster: its copy is as good
            if not folder.exists():
                Path(staging, "weights").rename(folder)
    return folder


def _placed(model: torch.nn.Module, runtime: Runtime) -> PreTrainedModel:
    placed = cast(PreTrainedModel, model.to(device(runtime)).eval())
    raise_attention(placed)
    return placed


def load_base_of(base: BaseModel, policy: Policy | RewardModel) -> PreTrainedModel:
    """Load the base as an adapter was trained on it: in 4 bits where that was so."""
    return load_base(base, quantization=policy.facts.quantization)


def load_policy(base: BaseModel, policy: Policy) -> PreTrainedModel:
    """Load a policy for inference, whatever its method."""
    check_trained_on(policy.facts.trained_on, base, policy.path)
    if policy.facts.method != "full":
        adapted = attach(load_base_of(base, policy), policy, base, "policy", trainable=False)
        return cast(PreTrainedModel, adapted.eval())
    return load_weights(policy.verify().path / "weights")


def load_merged(base: BaseModel, policy: Policy, trainable: bool = False) -> PreTrainedModel:
    """Load a policy as whole weights, its adapter merged into the base at 16 bits or more.

    Args:
        base: what the policy was trained on.
        policy: the artifact.
        trainable: as in `load_base`.

    Raises:
        ValueError: the policy is a bottleneck adapter, which no weights can hold.
    """
    facts = policy.verify().facts
    check_trained_on(facts.trained_on, base, policy.path)
    if facts.method == "full":
        return load_weights(policy.path / "weights", trainable=trainable)
    if facts.method == "bottleneck":
        raise ValueError(
            f"{policy.path}: a bottleneck adapter is not linear and cannot be merged into a base; "
            "start from the base that it was trained on, or from a version of another method"
        )
    whole = load_base(base, trainable)
    model = attach_folder(whole, policy.path / "adapter", "policy", trainable=False)
    merged = cast(PreTrainedModel, model.merge_and_unload())
    merged.requires_grad_(trainable)
    return merged


def load_backbone(folder: Path, architecture: str) -> PreTrainedModel:
    """Load a model without its output layer, frozen, from weights of our own.

    Raises:
        ValueError: a weight is missing, or there is one too many.
    """
    runtime = Runtime.from_environment()
    chosen = kernels(runtime, architecture)
    model, found = AutoModel.from_pretrained(
        str(folder),
        dtype=chosen.dtype,
        attn_implementation=chosen.attention,
        use_safetensors=True,
        output_loading_info=True,
        **NO_CODE,
    )
    if differing := sorted({*found["missing_keys"], *found["unexpected_keys"]}):
        raise ValueError(f"{folder}: its weights differ from the model's in {differing[:4]}")
    model.requires_grad_(False)
    return _placed(with_kernels(model, runtime), runtime)


def attach(
    model: PreTrainedModel | PeftModel, policy: Policy, base: BaseModel, name: str, trainable: bool
) -> PeftModel:
    """Add a policy's adapter under `name`, and make it the active one.

    Raises:
        ValueError: the policy has no adapter, or was trained on something else.
    """
    facts = policy.verify().facts
    check_trained_on(facts.trained_on, base, policy.path)
    if facts.method == "full":
        raise ValueError(f"{policy.path}: holds full weights, and an adapter is wanted")
    check_quantization(model, facts, policy.path)
    return attach_folder(model, policy.path / "adapter", name, trainable)


def check_quantization(
    model: PreTrainedModel | PeftModel, facts: PolicyFacts, holder: Path
) -> None:
    """Refuse an adapter that was trained on the base at another precision.

    Raises:
        ValueError: says how each is quantised.
    """
    found = quantization_of(model)
    if found != facts.quantization:
        raise ValueError(
            f"{holder}: was trained by {facts.method} on a base with quantization "
            f"{facts.quantization}, and this one has {found}; train both with one method"
        )


def weight_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of weights in a folder."""
    return {file.name: sha256(file) for file in sorted(folder.glob("*.safetensors"))}


def shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes of the tensors in a folder of safetensors, read from the headers alone."""
    index = folder / "model.safetensors.index.json"
    names = (
        sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if index.exists()
        else ["model.safetensors"]
    )
    if strange := [name for name in names if Path(name).name != name or "\\" in name]:
        raise ValueError(f"{index}: names weights elsewhere: {strange[:3]}; no model needs that")
    found: dict[str, list[int]] = {}
    for name in names:
        with safe_open(str(folder / name), framework="pt") as tensors:
            found |= {key: list(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    return found
