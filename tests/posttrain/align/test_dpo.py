"""DPO on a tiny world: TRL's trainer on our ids, from the SFT adapter and against it."""

import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.testing import assert_close

from posttrain.align import dpo
from posttrain.align.dpo import POLICY, REFERENCE, DpoPolicyTrainer, sequence_log_probs
from posttrain.align.forward import using
from posttrain.align.rows import Pair, read_pairs
from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.models.adapters import adapter_weights
from posttrain.models.load import attach, load_base
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.dpo import DpoRecipe
from posttrain.tracking import read_history
from posttrain.train.checkpoints import Checkpoints

END = (1,)
RECIPE = DpoRecipe(
    learning_rate=5e-3,
    num_epochs=4,
    batch_size=10,
    max_new_tokens=8,
    held_out_set="rollout",
    log_every_steps=4,
    checkpoint_every_steps=4,
)


@pytest.fixture
def pairs(tokens: Tokens) -> list[Pair]:
    return read_pairs(tokens, "train", END)[0]


@pytest.fixture
def trainer(
    pairs: list[Pair], domain: BaseModel, assistant: Policy, tmp_path: Path
) -> DpoPolicyTrainer:
    model = attach(load_base(domain), assistant, domain, POLICY, trainable=True)
    checkpoints = Checkpoints(tmp_path)
    return DpoPolicyTrainer(model, pairs, RECIPE, checkpoints, load_tokenizer(domain))


@pytest.fixture(scope="module")
def trained(
    tokens: Tokens, domain: BaseModel, assistant: Policy, tmp_path_factory: pytest.TempPathFactory
) -> Policy:
    folder = tmp_path_factory.mktemp("dpo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTTRAIN_WORK", str(folder / "work"))
        patch.setenv("POSTTRAIN_CHECKPOINTS", str(folder / "checkpoints"))
        return dpo.train(tokens, domain, assistant, RECIPE)


def policy_of(trainer: DpoPolicyTrainer) -> PeftModel:
    assert isinstance(trainer.model, PeftModel)
    return trainer.model


def test_the_ids_reach_the_loss_as_they_are(trainer: DpoPolicyTrainer, pairs: list[Pair]) -> None:
    seen = []
    for batch in trainer.get_train_dataloader():
        for ids, real in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            seen.append(ids[real.bool()].tolist())
        for ids, said in zip(batch["input_ids"], batch["completion_mask"], strict=True):
            assert ids[said.bool()].tolist()[-1] in END
    sides = [[*p.prompt, *side] for p in pairs for side in (p.chosen, p.rejected)]
    assert sorted(seen) == sorted(sides)


def test_a_pair_longer_than_trls_default_is_not_cut(
    domain: BaseModel, assistant: Policy, tmp_path: Path
) -> None:
    long = Pair("k", [5] * 1_500, [6, 1], [7, 1], 0.0)
    model = attach(load_base(domain), assistant, domain, POLICY, trainable=True)
    trainer = DpoPolicyTrainer(model, [long], RECIPE, Checkpoints(tmp_path), load_tokenizer(domain))
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["input_ids"].shape == (2, 1_502)


def test_alignment_18_the_reference_is_a_frozen_copy_of_the_sft_adapter(
    trainer: DpoPolicyTrainer, assistant: Policy
) -> None:
    model = policy_of(trainer)
    kept = load_file(assistant.path / "adapter" / "adapter_model.safetensors")
    reference = adapter_weights(model, REFERENCE)
    assert not any(weight.requires_grad for weight in reference.values())
    assert all(weight.requires_grad for weight in adapter_weights(model, POLICY).values())
    assert len(reference) == len(kept)
    for name, tensor in kept.items():
        assert_close(reference[name.replace(".weight", ".ref.weight")].data, tensor)


def test_alignment_18_at_step_0_the_loss_is_log_2_and_the_rewards_are_0(
    trainer: DpoPolicyTrainer,
) -> None:
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(policy_of(trainer), batch)
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-6)
    seen = trainer._metrics["train"] or trainer._metrics["eval"]
    assert seen["rewards/chosen"] == pytest.approx([0.0], abs=1e-6)
    assert seen["rewards/rejected"] == pytest.approx([0.0], abs=1e-6)


def test_trls_log_probabilities_are_ours(trainer: DpoPolicyTrainer, pairs: list[Pair]) -> None:
    model = policy_of(trainer).eval()
    few = pairs[:6]
    batch = trainer.data_collator([dpo.as_row(pair) for pair in few])
    theirs = trainer.compute_ref_log_probs(model, batch)
    prompts = [pair.prompt for pair in few]
    with using(model, REFERENCE):
        for side, found in zip(("chosen", "rejected"), theirs, strict=True):
            said = [getattr(pair, side) for pair in few]
            ours = sequence_log_probs(model, prompts, said, RECIPE, pad=0)
            assert_close(found.cpu(), ours, rtol=0, atol=1e-5)
    with model.disable_adapter():  # what the reference must not be
        bare = sequence_log_probs(model, prompts, [pair.chosen for pair in few], RECIPE, pad=0)
    assert (bare - theirs[0].cpu()).abs().max() > 1e-2


def test_it_learns_the_preference_and_hands_over_a_policy(
    trained: Policy, domain: BaseModel
) -> None:
    facts = trained.verify().made_by("dpo").facts
    assert facts.figures["held_out_accuracy"] > 0.9
    assert facts.figures["held_out_margin"] > 0.1
    assert facts.recipe["held_out_set"] == "rollout"
    curve = read_history(trained.path)
    assert {"loss", "accuracy", "margin", "grad_norm"} <= curve[0].keys()
    assert (curve[-1]["loss"] or 1) < math.log(2) / 2
    attach(load_base(domain), trained, domain, "any", trainable=False)


def test_the_reference_is_no_part_of_the_policy(trained: Policy) -> None:
    files = sorted(path.name for path in (trained.path / "adapter").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]


def test_an_interrupted_run_ends_in_the_same_bytes(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    trained: Policy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(self: DpoPolicyTrainer, *_: object, **__: object) -> torch.Tensor:
        if self.state.global_step == 6:
            raise KeyboardInterrupt
        return loss(self, *_, **__)

    loss = DpoPolicyTrainer.compute_loss
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DpoPolicyTrainer, "compute_loss", killed)
        dpo.train(tokens, domain, assistant, RECIPE)
    resumed = dpo.train(tokens, domain, assistant, RECIPE)
    file = "adapter/adapter_model.safetensors"
    assert (resumed.path / file).read_bytes() == (trained.path / file).read_bytes()


def test_held_out_prompts_that_do_not_exist_are_refused_before_training(
    tokens: Tokens, domain: BaseModel, assistant: Policy
) -> None:
    wrong = RECIPE.model_copy(update={"held_out_set": "nowhere"})
    with pytest.raises(ValueError, match=r"no row has {'set': 'nowhere'} \(found: "):
        dpo.train(tokens, domain, assistant, wrong)
