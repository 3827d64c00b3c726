"""PPO on a tiny world: identities at step 0, equal figures on every path, and that it learns."""

import math
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from posttrain.align import ppo
from posttrain.align.forward import using
from posttrain.align.ppo import Scale, normalise_value, reward_scores, sft_scale
from posttrain.align.ppo_figures import averages, check_rollout, held_out_figures
from posttrain.align.ppo_update import (
    Learned,
    adam,
    draw,
    minibatches,
    set_learning_rate,
    update_policy,
    update_value,
)
from posttrain.align.rollout import (
    POLICY,
    Actors,
    Rollout,
    load_actors,
    per_token,
    policy_reader,
    response_mask,
    roll_out,
)
from posttrain.align.rows import pad_id, read_prompts
from posttrain.align.score import load_scorer
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.data.chat import end_tokens
from posttrain.models.adapters import adapter_weights
from posttrain.models.generate import Sampling
from posttrain.models.load import load_base
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.ppo import PpoRecipe
from posttrain.tracking import read_history
from posttrain.train.finite import Tolerance

RECIPE = PpoRecipe(
    num_iterations=2,
    batch_size=12,
    forward_batch_size=5,
    learning_rate=1e-3,
    max_new_tokens=12,
    temperature=0.7,
    num_held_out=16,
    held_out_set="revision",
)


@pytest.fixture(scope="session")
def prompts(tokens: Tokens) -> list[list[int]]:
    return [prompt.ids for prompt in read_prompts(tokens, "rollout")]


@pytest.fixture
def actors(domain: BaseModel, assistant: Policy, reward: RewardModel) -> Actors:
    return new_actors(domain, assistant, reward, RECIPE)


def new_actors(
    domain: BaseModel, assistant: Policy, reward: RewardModel, recipe: PpoRecipe
) -> Actors:
    tokenizer = load_tokenizer(domain)
    sampling = Sampling(
        max_new_tokens=recipe.max_new_tokens,
        temperature=recipe.temperature,
        end_ids=end_tokens(tokenizer),
        pad_id=pad_id(tokenizer),
        batch_size=recipe.generation_batch_size,
        seed=0,
    )
    return load_actors(domain, assistant, reward, sampling, recipe)


def test_alignment_18_kl_to_the_reference_is_0_at_step_0(
    actors: Actors, prompts: list[list[int]]
) -> None:
    rollout = roll_out(actors, prompts[:12], 0, POLICY)
    assert_close(rollout.log_prob_BT, rollout.reference_BT, rtol=0, atol=0)
    assert rollout.mask_BT.sum() > 12


def test_alignment_18_ratio_is_1_for_the_first_minibatch_of_the_first_epoch(
    actors: Actors, prompts: list[list[int]]
) -> None:
    rollout = roll_out(actors, prompts[:12], 0, POLICY)
    chosen = [7, 2, 11, 4]  # other neighbours, other padding
    with using(actors.model, POLICY, trainable=True), torch.no_grad():
        (log_prob_BT,) = per_token(
            actors,
            [rollout.prompts[i] for i in chosen],
            [rollout.responses[i] for i in chosen],
            policy_reader(actors),
        )
    old_BT = rollout.log_prob_BT[chosen][:, : log_prob_BT.shape[1]]
    assert float(((log_prob_BT - old_BT).exp() - 1).abs().max()) < 1e-4


def test_alignment_18_the_reference_is_sft_and_not_the_bare_base(
    actors: Actors, prompts: list[list[int]]
) -> None:
    rollout = roll_out(actors, prompts[:4], 0, POLICY)
    with actors.model.disable_adapter():
        (bare_BT,) = per_token(actors, rollout.prompts, rollout.responses, policy_reader(actors))
    assert float((bare_BT - rollout.reference_BT).abs().max()) > 1e-2


def test_alignment_15_the_temperature_is_in_every_log_probability(
    domain: BaseModel, assistant: Policy, reward: RewardModel, prompts: list[list[int]]
) -> None:
    """A sharp distribution assigns its own samples more; at T the figures equal logits / T's."""
    actors = new_actors(domain, assistant, reward, RECIPE)
    rollout = roll_out(actors, prompts[:3], 0, POLICY)
    row = [*rollout.prompts[0], *rollout.responses[0]]
    start = len(rollout.prompts[0])
    with using(actors.model, POLICY), torch.no_grad():
        logits_SV = actors.model(input_ids=torch.tensor([row])).logits[0]
    expected_ST = (logits_SV / RECIPE.temperature).log_softmax(-1)[start - 1 : -1]
    expected_T = expected_ST.gather(-1, torch.tensor(rollout.responses[0])[:, None]).squeeze(-1)
    for found_BT in (rollout.log_prob_BT, rollout.reference_BT):
        assert_close(found_BT[0, : len(expected_T)], expected_T, rtol=1e-4, atol=1e-5)


def test_alignment_12_scores_on_ppos_path_equal_those_of_the_loaded_reward_model(
    actors: Actors,
    domain: BaseModel,
    reward: RewardModel,
    prompts: list[list[int]],
) -> None:
    rollout = roll_out(actors, prompts[:9], 0, POLICY)
    alone = load_scorer(load_base(domain), reward, domain, actors.sampling.pad_id)
    for prompt, response, score in zip(
        rollout.prompts, rollout.responses, rollout.score_B, strict=True
    ):
        assert_close(alone.scores([[*prompt, *response]], 1)[0], score, rtol=0, atol=1e-5)


def test_alignment_16_a_response_is_cut_after_its_end_and_pays_where_it_has_none(
    domain: BaseModel, assistant: Policy, reward: RewardModel, prompts: list[list[int]]
) -> None:
    recipe = RECIPE.model_copy(update={"max_new_tokens": 3})  # short of some answers' end
    actors = new_actors(domain, assistant, reward, recipe)
    rollout = roll_out(actors, prompts, 3, POLICY)
    ends = actors.sampling.end_ids
    assert {bool(ended) for ended in rollout.ended_B} == {True, False}, "a world with both"
    for response, ended in zip(rollout.responses, rollout.ended_B.tolist(), strict=True):
        assert (response[-1] in ends) == ended
        assert not any(token in ends for token in response[:-1])
    paid_B = reward_scores(rollout, Scale(mean=0.0, std=1.0, length=4.0, slope=0.0), RECIPE)
    assert (paid_B[~rollout.ended_B] == RECIPE.missing_end_score).all()
    assert_close(paid_B[rollout.ended_B], rollout.score_B[rollout.ended_B].clamp(-5, 5))


def test_alignment_17_masks_keep_the_end_token_in_and_padding_out(
    actors: Actors, prompts: list[list[int]]
) -> None:
    rollout = roll_out(actors, prompts, 3, POLICY)
    lengths = torch.tensor([len(response) for response in rollout.responses])
    assert_close(rollout.mask_BT.sum(-1), lengths)
    for row, response in enumerate(rollout.responses):
        assert rollout.log_prob_BT[row, len(response) - 1] != 0, "the end token is scored"
        assert not rollout.log_prob_BT[row, len(response) :].any()
        assert not rollout.value_BT[row, len(response) :].any()


def test_padding_changes_no_figure(actors: Actors, prompts: list[list[int]]) -> None:
    together = roll_out(actors, prompts[:6], 5, POLICY)
    for row in range(6):
        one = (together.prompts[row : row + 1], together.responses[row : row + 1])
        with using(actors.model, POLICY), torch.no_grad():
            (alone_BT,) = per_token(actors, *one, policy_reader(actors))
        length = len(together.responses[row])
        assert_close(alone_BT[0], together.log_prob_BT[row, :length], rtol=0, atol=1e-5)


def test_alignment_21_the_value_function_starts_as_the_normalised_reward_model(
    actors: Actors, prompts: list[list[int]]
) -> None:
    scale = sft_scale(actors, prompts, RECIPE)
    normalise_value(actors, scale)
    rollout = roll_out(actors, prompts[:4], 0, POLICY)
    # a value is of the state before a token: the score of the answer so far
    prefixes = [
        [*prompt, *response[:-1]]
        for prompt, response in zip(rollout.prompts, rollout.responses, strict=True)
    ]
    expected_B = (actors.scorer.scores(prefixes, 4) - scale.mean) / scale.std
    last_B = rollout.mask_BT.sum(-1) - 1
    assert_close(rollout.value_BT[torch.arange(4), last_B], expected_B, rtol=0, atol=1e-4)


def test_alignment_21_from_sft_the_value_function_starts_at_zero(
    domain: BaseModel, assistant: Policy, reward: RewardModel, prompts: list[list[int]]
) -> None:
    recipe = RECIPE.model_copy(update={"value_init": "sft"})
    actors = new_actors(domain, assistant, reward, recipe)
    normalise_value(actors, Scale(mean=1.0, std=2.0, length=4.0, slope=0.0))
    assert not roll_out(actors, prompts[:4], 0, POLICY).value_BT.any()


def test_alignment_23_four_adapters_stand_on_one_base(actors: Actors) -> None:
    assert set(actors.model.peft_config) == {"policy", "reference", "reward", "value"}
    of_base = [weight for name, weight in actors.model.named_parameters() if "lora_" not in name]
    assert len(of_base) == 2 * 9 + 2  # two layers of nine, embedding and final norm
    assert not any(weight.requires_grad for weight in of_base)


def test_alignment_23_full_weights_are_refused_by_name(
    domain: BaseModel, assistant: Policy, reward: RewardModel, tmp_path: Path
) -> None:
    facts = assistant.facts.model_copy(update={"method": "full"})
    full = Policy.write(tmp_path, "sft", facts)
    with pytest.raises(ValueError, match=r"four copies of the model, about 0\.0 GiB.*sft\.method"):
        new_actors(domain, full, reward, RECIPE)


def test_an_update_moves_the_policy_alone(actors: Actors, prompts: list[list[int]]) -> None:
    before = {name: weight.clone() for name, weight in actors.model.named_parameters()}
    rollout = roll_out(actors, prompts[:8], 0, POLICY)
    learned = Learned(1, rollout, rollout.mask_BT.float(), rollout.value_BT)
    optimizer = adam(actors.policy_weights, RECIPE)
    figures = update_policy(actors, learned, range(8), optimizer, RECIPE)
    assert figures is not None
    assert figures["ratio"] == pytest.approx(1, abs=1e-4)
    assert figures["clip_fraction"] == 0
    moved = {n for n, w in actors.model.named_parameters() if not torch.equal(w, before[n])}
    assert moved
    assert moved <= set(adapter_weights(actors.model, POLICY))


def test_alignment_07_a_scaled_loss_moves_the_policy_to_the_same_place(
    domain: BaseModel, assistant: Policy, reward: RewardModel, prompts: list[list[int]]
) -> None:
    """Scaled out of range at first: it is scaled less until the gradient is finite."""
    found = []
    far = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    for scaler in (torch.amp.GradScaler(enabled=False), far):
        actors = replace(new_actors(domain, assistant, reward, RECIPE), scaler=scaler)
        rollout = roll_out(actors, prompts[:8], 0, POLICY)
        learned = Learned(1, rollout, rollout.log_prob_BT, rollout.value_BT + 1)
        policy_optimizer = adam(actors.policy_weights, RECIPE)
        value_optimizer = adam(actors.value_weights, RECIPE)
        figures = update_policy(actors, learned, range(8), policy_optimizer, RECIPE)
        assert figures is not None
        figures |= update_value(actors, learned, range(8), value_optimizer, RECIPE)
        found.append((figures, [*actors.policy_weights, *actors.value_weights]))
    (plain, weights), (scaled, same) = found
    assert 1 < far.get_scale() < 2.0**127
    assert scaled == pytest.approx(plain, rel=1e-5)
    for weight, other in zip(weights, same, strict=True):
        assert_close(weight, other, rtol=0, atol=1e-6)


def test_alignment_22_a_nan_that_no_scale_mends_stops_the_stage(
    actors: Actors, prompts: list[list[int]]
) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    rollout = roll_out(actors, prompts[:8], 0, POLICY)
    learned = Learned(7, rollout, torch.full(rollout.mask_BT.shape, math.nan), rollout.value_BT)
    optimizer = adam(actors.policy_weights, RECIPE)
    with pytest.raises(FloatingPointError, match=r"policy's step on .*the gradient's norm nan"):
        update_policy(replace(actors, scaler=scaler), learned, range(8), optimizer, RECIPE)


def test_gradients_do_not_depend_on_how_a_minibatch_is_cut(
    domain: BaseModel, assistant: Policy, reward: RewardModel, prompts: list[list[int]]
) -> None:
    found = []
    for size in (3, 8):
        recipe = RECIPE.model_copy(update={"forward_batch_size": size})
        actors = new_actors(domain, assistant, reward, recipe)
        rollout = roll_out(actors, prompts[:8], 0, POLICY)
        learned = Learned(1, rollout, rollout.log_prob_BT, rollout.value_BT)
        figures = update_policy(
            actors, learned, range(8), adam(actors.policy_weights, recipe), recipe
        )
        assert figures is not None
        found.append(figures["grad_norm"])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_alignment_22_a_minibatch_that_moved_too_far_is_not_learned(
    actors: Actors, prompts: list[list[int]]
) -> None:
    rollout = roll_out(actors, prompts[:8], 0, POLICY)
    learned = Learned(1, rollout, rollout.mask_BT.float(), rollout.value_BT)
    with torch.no_grad():
        for weight in actors.policy_weights:
            weight.mul_(3)
    before = [weight.clone() for weight in actors.policy_weights]
    recipe = RECIPE.model_copy(update={"max_minibatch_kl": 1e-3})
    assert (
        update_policy(actors, learned, range(8), adam(actors.policy_weights, recipe), recipe)
        is None
    )
    assert all(map(torch.equal, before, actors.policy_weights))
    assert all(weight.grad is None for weight in actors.policy_weights)


def test_alignment_22_a_nan_stops_the_stage_before_a_weight_is_touched(
    actors: Actors, prompts: list[list[int]]
) -> None:
    rollout = roll_out(actors, prompts[:8], 0, POLICY)
    learned = Learned(7, rollout, torch.full(rollout.mask_BT.shape, math.nan), rollout.value_BT)
    with pytest.raises(
        FloatingPointError, match=r"ppo iteration 7, policy's step .* the loss is nan"
    ):
        update_policy(actors, learned, range(8), adam(actors.policy_weights, RECIPE), RECIPE)
    assert all(bool(torch.isfinite(weight).all()) for weight in actors.policy_weights)


def test_alignment_22_a_borne_nan_leaves_the_step_out(
    actors: Actors, prompts: list[list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    rollout, ids = roll_out(actors, prompts[:8], 0, POLICY), [f"q{index}" for index in range(8)]
    nan_BT = torch.full(rollout.mask_BT.shape, math.nan)
    learned = Learned(7, rollout, nan_BT, rollout.value_BT, ids, Tolerance(1))
    optimizer = adam(actors.policy_weights, RECIPE)
    before = [weight.clone() for weight in actors.policy_weights]
    update_policy(actors, learned, [1, 5], optimizer, RECIPE)
    assert "policy's step on prompts q1, q5: the loss is nan" in caplog.text
    assert all(map(torch.equal, before, actors.policy_weights))
    with pytest.raises(FloatingPointError, match="bad steps: 2, max_bad_steps: 1"):
        update_policy(actors, learned, [1, 5], optimizer, RECIPE)


def test_alignment_22_a_rollout_that_holds_no_numbers_names_its_prompts() -> None:
    rollout = rollout_of([2, 3, 2], [1.0, math.nan, math.inf])
    with pytest.raises(FloatingPointError, match="2 of 3 answers, to prompts q4, q9; lower"):
        check_rollout(3, rollout, RECIPE, ["q1", "q4", "q9"])


def test_averages_are_of_the_steps_that_were_done() -> None:
    assert averages([{"loss": 1.0}, {"loss": math.nan}, {"loss": 2.0}])["loss"] == 1.5
    assert math.isnan(averages([{"loss": math.nan}])["loss"])  # no step was done: not a loss of 0


def test_alignment_22_exploding_kl_stops_the_stage(
    tokens: Tokens, domain: BaseModel, assistant: Policy, reward: RewardModel
) -> None:
    wild = {"learning_rate": 0.5, "num_iterations": 6, "max_kl": 3.0, "max_minibatch_kl": 1e6}
    recipe = RECIPE.model_copy(update={**wild, "warmup_iterations": 1, "kl_coef": 0.0})
    with pytest.raises((RuntimeError, FloatingPointError), match=r"ppo iteration \d"):
        ppo.train(tokens, domain, assistant, reward, recipe)


def test_alignment_20_dropout_is_off_everywhere(actors: Actors, prompts: list[list[int]]) -> None:
    rollout = roll_out(actors, prompts[:8], 0, POLICY)
    learned = Learned(1, rollout, rollout.mask_BT.float(), rollout.value_BT)
    update_policy(actors, learned, range(8), adam(actors.policy_weights, RECIPE), RECIPE)
    assert not any(module.training for module in actors.model.modules())


def test_alignment_20_the_learning_rate_rises_and_is_annealed() -> None:
    recipe = RECIPE.model_copy(
        update={"num_iterations": 11, "warmup_iterations": 2, "learning_rate": 1.0}
    )
    optimizer = adam([torch.nn.Parameter(torch.zeros(1))], recipe)
    assert optimizer.defaults["eps"] == 1e-5
    rates = []
    for iteration in (1, 2, 6, 11):
        set_learning_rate([optimizer], iteration, recipe)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 0.92, 0.6, 0.2])


def test_every_prompt_is_drawn_once_a_pass() -> None:
    recipe = RECIPE.model_copy(update={"batch_size": 4})
    prompts = [[index] for index in range(10)]
    drawn = [prompt[0] for it in range(1, 6) for prompt in draw(prompts, it, recipe)]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]


def test_minibatches_cover_the_rollout_once_an_epoch() -> None:
    recipe = RECIPE.model_copy(update={"num_minibatches": 5, "num_epochs": 3})
    parts = list(minibatches(12, 1, recipe))
    assert len(parts) == 15
    for epoch in range(3):
        assert sorted(chain(*parts[epoch * 5 : epoch * 5 + 5])) == list(range(12))


def test_alignment_07_on_a_bfloat16_base_the_adapters_train_in_float32(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    reward: RewardModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTTRAIN_DTYPE", "bfloat16")
    trained = ppo.train(tokens, domain, assistant, reward, RECIPE)
    weights = load_file(trained.path / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    first = read_history(trained.path)[0]
    assert first["kl"] == 0
    assert first["ratio"] == pytest.approx(1, abs=0.05)


def test_alignment_25_every_iteration_is_logged(
    tokens: Tokens, domain: BaseModel, assistant: Policy, reward: RewardModel
) -> None:
    curve = read_history(ppo.train(tokens, domain, assistant, reward, RECIPE).path)
    assert [point["step"] for point in curve] == [1, 2]
    wanted = "score reward kl entropy clip_fraction ratio value_loss explained_variance"
    wanted += " response_length ended_share grad_norm tokens_per_second kl_coef"
    for point in curve:
        assert set(wanted.split()) <= point.keys()
        assert None not in point.values()
    assert curve[0]["kl"] == 0
    assert curve[0]["entropy"]


def test_alignment_26_the_verdict_tells_what_length_alone_would_have_gained() -> None:
    """SFT's scores rise by 1 a token; afterwards answers are 2 longer and score 3 more."""
    before = rollout_of(lengths=[1, 2, 3], scores=[1.0, 2.0, 3.0])
    after = rollout_of(lengths=[3, 4, 5], scores=[4.0, 5.0, 6.0])
    figures = held_out_figures(before, after)
    std = math.sqrt(2 / 3)
    assert figures["gain"] == pytest.approx(3 / std, rel=1e-5)
    assert figures["gain_by_length"] == pytest.approx(2 / std, rel=1e-5)
    assert (figures["sft_length"], figures["length"]) == (2, 4)
    assert figures["held_out_kl"] == pytest.approx(0.5 * 4)  # half a nat a token


def rollout_of(lengths: list[int], scores: list[float]) -> Rollout:
    responses = [[7] * length for length in lengths]
    mask_BT = response_mask(responses, torch.device("cpu"))
    return Rollout(
        prompts=[[5]] * len(lengths),
        responses=responses,
        mask_BT=mask_BT,
        ended_B=torch.ones(len(lengths), dtype=torch.bool),
        score_B=torch.tensor(scores),
        log_prob_BT=mask_BT * -1.0,
        reference_BT=mask_BT * -1.5,
        value_BT=torch.zeros(mask_BT.shape),
        entropy_BT=torch.ones(mask_BT.shape),
    )


def test_it_raises_the_score_on_prompts_never_rolled_out(
    tokens: Tokens, domain: BaseModel, assistant: Policy, reward: RewardModel
) -> None:
    """The reward model pays for answers that begin with `gold`."""
    learning = {"num_iterations": 12, "batch_size": 48, "learning_rate": 1e-2, "kl_coef": 0.01}
    recipe = RECIPE.model_copy(update={**learning, "num_minibatches": 4, "max_new_tokens": 6})
    trained = ppo.train(tokens, domain, assistant, reward, recipe)
    assert trained.facts.figures["gain"] > 1
    assert trained.facts.figures["held_out_kl"] < 20


def test_training_twice_gives_the_same_bytes(
    tokens: Tokens, domain: BaseModel, assistant: Policy, reward: RewardModel
) -> None:
    first, second = (ppo.train(tokens, domain, assistant, reward, RECIPE) for _ in range(2))
    weights = [
        (policy.path / "adapter" / "adapter_model.safetensors").read_bytes()
        for policy in (first, second)
    ]
    assert weights[0] == weights[1]
