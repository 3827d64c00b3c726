"""How much a stage holds at a time, as far as the recipe decides it; for the memory estimate."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeInt, PositiveInt

from posttrain.recipe.section import Section
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe, QuantizationRecipe, TrainRecipe

if TYPE_CHECKING:
    from posttrain.recipe import Recipe

Part = Literal["weights", "adapters", "gradients", "optimizer", "activations", "cache"]


class Workload(Section):
    """One stage: what is in memory together. Every row is as long as the recipe lets it be."""

    stage: str
    """Name of the step."""

    trains_weights: bool = False
    """All weights learn, in float32; else they are frozen, and adapters do."""

    is_backbone: bool = False
    """The model has no output layer."""

    has_second_model: bool = False
    """A reward model of its own weights stands beside, without output layer, frozen."""

    quantization: QuantizationRecipe | None = None
    """How the frozen weights are held; at the machine's precision where absent."""

    lora: LoraRecipe | None = None
    """The adapters, where they are LoRA or DoRA."""

    dora: bool = False
    bottleneck: BottleneckRecipe | None = None
    """The adapters, where they are bottlenecks."""

    num_adapters: NonNegativeInt = 0
    """Adapters in memory."""

    num_learning: NonNegativeInt = 0
    """Of these, those that an optimizer steps; one at a time has gradients."""

    num_heads: NonNegativeInt = 0
    """Score and value heads; at most one learns."""

    rows: PositiveInt
    """Sequences a forward pass."""

    length: PositiveInt
    """Tokens a sequence."""

    reads: Literal["nothing", "hidden", "logits", "answers"]
    """What is kept behind the blocks for the backward pass: nothing where nothing learns, hidden
    states (where the output layer works in tiles), logits of all tokens, or those of answers."""

    answer_length: PositiveInt = 1
    """Tokens an answer, for `answers`."""

    gradient_checkpointing: bool = False
    generated_rows: NonNegativeInt = 0
    """Answers written side by side."""

    generated_length: NonNegativeInt = 0
    """Tokens of a prompt and its answer."""

    advice: dict[Part, str]
    """What to change in the recipe, by what takes most."""


def workloads(recipe: "Recipe", with_alignment: bool) -> tuple[Workload, ...]:
    """The stages of a run that hold a model, in order; without alignment where none runs."""
    found: list[Workload | None] = []
    if recipe.base_finetune.method != "none":
        found.append(_base_finetune(recipe))
    found.append(_sft(recipe))
    if with_alignment:
        found += [_reward_model(recipe), _policy(recipe), _self_critique(recipe)]
    found.append(_evaluate(recipe, with_alignment))
    return tuple(one for one in found if one is not None)


def _base_finetune(recipe: "Recipe") -> Workload:
    section = recipe.base_finetune
    full = section.method == "full"
    return Workload(
        stage="base_finetune",
        trains_weights=full,
        lora=None if full else section.lora,
        num_adapters=0 if full else 1,
        num_learning=0 if full else 1,
        rows=section.batch_size,
        length=recipe.tokenize.block_size,
        reads="logits",
        gradient_checkpointing=section.gradient_checkpointing,
        advice=_advice("base_finetune", section, "tokenize.block_size", "lora" if full else None),
    )


def _sft(recipe: "Recipe") -> Workload:
    section = recipe.sft
    better = {"full": "qlora", "lora": "qlora"}.get(section.method)
    full = section.method == "full"
    return Workload(
        stage="sft",
        trains_weights=full,
        **({} if full else _adapters(recipe)),
        num_adapters=0 if full else 1,
        num_learning=0 if full else 1,
        rows=section.batch_size,
        length=recipe.tokenize.max_length,
        reads="hidden",
        gradient_checkpointing=section.gradient_checkpointing,
        advice=_advice("sft", section, "tokenize.max_length", better),
    )


def _reward_model(recipe: "Recipe") -> Workload | None:
    section = recipe.reward_model
    if section is None:
        return None
    whole = section.method == "full"
    advice = _advice("reward_model", section, "tokenize.max_length", _smaller(recipe))
    if whole:
        weights = "set reward_model.method to adapter, or choose a smaller base_model.source"
        advice |= dict.fromkeys(("weights", "gradients", "optimizer"), weights)
    return Workload(
        stage="reward_model",
        trains_weights=whole,
        is_backbone=whole,
        **({} if whole else _adapters(recipe)),
        num_adapters=0 if whole else 2,  # SFT's, which answers prompts, and its copy, which learns
        num_learning=0 if whole else 1,
        num_heads=1,
        rows=2 * section.batch_size,  # both sides of a pair
        length=recipe.tokenize.max_length,
        reads="hidden",
        gradient_checkpointing=section.gradient_checkpointing,
        generated_rows=2 * section.batch_size,
        generated_length=recipe.tokenize.max_length + section.max_new_tokens,
        advice=advice,
    )


def _policy(recipe: "Recipe") -> Workload | None:
    """PPO or DPO, whichever makes the policy."""
    section = recipe.answering
    if section is None:
        return None
    stage, length = recipe.preference_method, recipe.tokenize.max_length
    if isinstance(section, TrainRecipe):
        return Workload(
            stage=stage,
            **_adapters(recipe),
            num_adapters=2,  # policy and reference
            num_learning=1,
            rows=2 * section.batch_size,
            length=length,
            reads="hidden",
            gradient_checkpointing=section.gradient_checkpointing,
            advice=_advice(stage, section, "tokenize.max_length", _smaller(recipe)),
        )
    shorter = f"lower {stage}.generation_batch_size, or {stage}.max_new_tokens"
    return Workload(
        stage=stage,
        **_adapters(recipe),
        has_second_model=_has_own_judge(recipe),
        # policy, reference, value function, and the reward model where it is an adapter
        num_adapters=3 if _has_own_judge(recipe) else 4,
        num_learning=2,
        num_heads=2,
        rows=section.forward_batch_size,
        length=length + section.max_new_tokens,
        reads="answers",
        answer_length=section.max_new_tokens,
        generated_rows=section.generation_batch_size,
        generated_length=length + section.max_new_tokens,
        advice={
            **_of_weights(_smaller(recipe)),
            "activations": f"lower {stage}.forward_batch_size, or tokenize.max_length",
            "cache": shorter,
        },
    )


def _self_critique(recipe: "Recipe") -> Workload | None:
    section = recipe.self_critique
    if section is None:
        return None
    length = recipe.tokenize.max_length + section.max_new_tokens
    advice = _advice("self_critique", section, "tokenize.max_length", _smaller(recipe))
    shorter = "lower self_critique.generation_batch_size, or self_critique.max_new_tokens"
    return Workload(
        stage="self_critique",
        **_adapters(recipe),
        num_adapters=2,  # critic and learner
        num_learning=1,
        rows=section.batch_size,
        length=length,
        reads="logits",
        gradient_checkpointing=section.gradient_checkpointing,
        generated_rows=section.generation_batch_size,
        generated_length=length,
        advice={**advice, "cache": shorter},
    )


def _evaluate(recipe: "Recipe", with_alignment: bool) -> Workload:
    """The untrained base is measured too: its weights are not quantised."""
    section = recipe.evaluation
    full = recipe.sft.method == "full"
    lower = "lower evaluation.batch_size"
    return Workload(
        stage="evaluate",
        **({} if full else {**_adapters(recipe), "quantization": None}),
        # SFT's, the policy's, the aligned one's and the reward model's, on one base
        has_second_model=with_alignment and _has_own_judge(recipe),
        num_adapters=0 if full else 4 if with_alignment else 1,
        num_heads=1 if with_alignment else 0,
        rows=section.batch_size,
        length=section.window,
        reads="nothing",
        generated_rows=section.batch_size if section.probes else 0,
        generated_length=recipe.tokenize.max_length + section.max_new_tokens,
        advice={
            **_of_weights(None),
            "activations": f"{lower}, or evaluation.window",
            "cache": f"{lower}, or evaluation.max_new_tokens",
        },
    )


def _has_own_judge(recipe: "Recipe") -> bool:
    """Whether the reward model has weights of its own."""
    return recipe.reward_model is not None and recipe.reward_model.method == "full"


def _adapters(recipe: "Recipe") -> dict[str, object]:
    """The adapters of SFT, and of all stages that go on from it."""
    section = recipe.sft
    bottleneck = section.method == "bottleneck"
    return {
        "lora": None if bottleneck else section.lora,
        "dora": section.method == "dora",
        "bottleneck": section.bottleneck if bottleneck else None,
        "quantization": section.quantization if section.method == "qlora" else None,
    }


def _smaller(recipe: "Recipe") -> str | None:
    """The method of SFT that takes less, for the stages that go on from it."""
    return None if recipe.sft.method == "qlora" else "qlora"


def _advice(stage: str, section: TrainRecipe, length: str, method: str | None) -> dict[Part, str]:
    lower = f"lower {stage}.batch_size (and raise {stage}.accumulation_steps), or {length}"
    if not section.gradient_checkpointing:
        lower = f"set {stage}.gradient_checkpointing to true, or {lower}"
    owner = stage if stage == "base_finetune" else "sft"
    return {**_of_weights(method, owner), "activations": lower, "cache": lower}


def _of_weights(method: str | None, owner: str = "sft") -> dict[Part, str]:
    """What to do about what does not depend on rows."""
    smaller = "choose a smaller base_model.source"
    text = f"set {owner}.method to {method}, or {smaller}" if method else smaller
    rank = f"lower {owner}.lora.rank, or name fewer {owner}.lora.target_modules"
    return {"weights": text, "gradients": text, "optimizer": text, "adapters": rank}
