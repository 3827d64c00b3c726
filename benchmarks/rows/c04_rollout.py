"""C4: rollouts, 16 answers side by side, against one prompt at a time.

Ours answers with the adapter on its base, as in PPO; the tutorial's model is whole. A few dozen
tokens end an answer, so that lengths differ as they do in a trained model.
"""

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.baselines.tutorial_generation import answer
from benchmarks.gpu_models import make_assistant
from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch
from benchmarks.material import SEED, lengths, make_base, texts, tokenizer
from posttrain.models.device import prepare as prepare_torch
from posttrain.models.generate import Sampling, generate
from posttrain.models.load import load_policy
from posttrain.recipe.sft import SftRecipe

BATCH = 16
NEW_TOKENS = 64
END_IDS = tuple(range(1, 33))
"""One token in 128 ends: half the answers are shorter than the limit."""

PROMPT_LENGTH = 24


def prepare(bench: Bench) -> Prepared:
    """Prompts, an adapter on the base, and the base alone."""
    prepare_torch(SEED)
    base = make_base(bench)
    recipe = SftRecipe(learning_rate=1e-5, num_epochs=1, batch_size=1)
    assistant = make_assistant(base, recipe, bench.folder / "assistant")
    ours, plain = load_policy(base, assistant), whole(base.path / "weights")
    prompts = texts(lengths(2 if bench.quick else BATCH, PROMPT_LENGTH))
    sampling = Sampling(
        max_new_tokens=4 if bench.quick else NEW_TOKENS,
        temperature=1.0,
        end_ids=END_IDS,
        pad_id=int(tokenizer().pad_token_id),
        batch_size=BATCH,
        seed=SEED,
    )

    def greedy() -> list[list[int]]:
        return generate(ours, prompts, sampling.model_copy(update={"temperature": 0.0}))

    def one_by_one(sampled: bool) -> list[list[int]]:
        limit = sampling.max_new_tokens
        return [answer(plain, prompt, limit, END_IDS, sampled) for prompt in prompts]

    assert greedy() == one_by_one(sampled=False), "the arms' greedy answers differ"

    def batched(watch: Watch) -> None:
        with watch.timing():
            found = generate(ours, prompts, sampling)
        watch.count(sum(map(len, found)))

    def singly(watch: Watch) -> None:
        torch.manual_seed(SEED)
        with watch.timing():
            found = one_by_one(sampled=True)
        watch.count(sum(map(len, found)))

    facts = {"seed": SEED, "prompts": len(prompts), "max_new_tokens": sampling.max_new_tokens}
    return Prepared([Arm("ours", batched), Arm("one by one", singly)], facts)


def whole(folder: Any) -> Any:
    """A plain model, as a tutorial loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


ROW = Row(
    name="C4",
    title="Rollout, tokens/s, batch 16",
    targets=(
        Target(what="one prompt at a time", ours="ours", theirs="one by one", bound=5, aim=8),
    ),
    prepare=prepare,
)
