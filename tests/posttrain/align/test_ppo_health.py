"""Signs of a score that rises for the wrong reason, by hand and with reward models that invite it.

The two reward models here are trained on pairs that prefer the longer answer, and on pairs that
prefer one word said again and again; PPO then finds out what they pay for.
"""

import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from posttrain.align import ppo, reward_model
from posttrain.align.ppo_figures import repeated_share, rollout_figures
from posttrain.align.ppo_health import Unhealthy, check_health, is_ailing, signs
from posttrain.align.ppo_state import Scale
from posttrain.align.rollout import Rollout, response_mask
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.data.chat import encode_conversations, encode_prompts
from posttrain.recipe.ppo import PpoHealth, PpoRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.tracking import read_history

OTHERS = ("red", "blue", "green")
QUIET = {"entropy_collapse": "ignore", "length_alone": "ignore", "repetition": "ignore"}

Sides = Callable[[random.Random], tuple[str, str]]


def point(**changes: float) -> dict[str, float]:
    """A healthy rollout's figures, and what is changed in them."""
    figures = {
        "score": 1.0,
        "entropy": 2.0,
        "response_length": 8.0,
        "length_share": 0.2,
        "repeated_share": 0.1,
    }
    return {**figures, **changes}


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        ([[1, 2, 3, 4]], 0),
        ([[5, 5, 5, 5, 5]], 3 / 4),  # four pairs, one of them new
        ([[1, 2, 1, 2, 1]], 2 / 4),  # 12 and 21, each twice
        ([[1, 2, 1, 2, 1], [1, 2, 3]], 1 / 4),  # the mean over answers, not over pairs
        ([[7], []], 0),  # too short for a pair
    ],
)
def test_repeated_share_counts_pairs_used_before(
    responses: list[list[int]], expected: float
) -> None:
    assert repeated_share(responses) == pytest.approx(expected)


def figures_of(lengths: list[int], score: float, scale: Scale) -> dict[str, float]:
    responses = [list(range(length)) for length in lengths]
    mask_BT = response_mask(responses, torch.device("cpu"))
    zeros_BT = torch.zeros(mask_BT.shape)
    score_B = torch.full((len(lengths),), score)
    rollout = Rollout(
        prompts=[[5]] * len(lengths),
        responses=responses,
        mask_BT=mask_BT,
        ended_B=torch.ones(len(lengths), dtype=torch.bool),
        score_B=score_B,
        log_prob_BT=zeros_BT,
        reference_BT=zeros_BT,
        value_BT=zeros_BT,
        entropy_BT=zeros_BT,
    )
    return rollout_figures(rollout, score_B, zeros_BT, zeros_BT, scale)


def test_length_share_is_what_the_slope_of_sft_gives_for_the_change_in_length() -> None:
    """Half a point a token: 3 tokens more give 1.5 of the 2 points that the score rose by."""
    scale = Scale(mean=1.0, std=4.0, length=4.0, slope=0.5)
    assert figures_of([6, 8], 3.0, scale)["length_share"] == pytest.approx(0.75)
    assert figures_of([4, 4], 3.0, scale)["length_share"] == 0
    assert figures_of([1, 3], 3.0, scale)["length_share"] == pytest.approx(-0.5)
    assert figures_of([6, 8], 1.0, scale)["length_share"] == 0  # nothing rose


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("entropy_collapse", {"entropy": 0.19}, "from 2.000 to 0.190 nats a token"),
        ("length_alone", {"length_share": 0.95}, "95% of the score's rise of 1.00"),
        ("length_alone", {"length_share": 0.95, "score": 0.5}, "rise of 0.50"),
        ("repetition", {"repeated_share": 0.51}, "51% of an answer's token pairs"),
    ],
)
def test_a_sign_is_found_past_its_limit(name: str, changes: dict[str, float], said: str) -> None:
    history = [point(), point(**changes), point(**changes)]
    found = signs(history, PpoHealth())
    assert list(found) == [name]
    assert said in found[name]


@pytest.mark.parametrize(
    "changes",
    [
        {"entropy": 0.2},  # a tenth of the first rollout's 2.0
        {"length_share": 0.9},
        {"length_share": 5.0, "score": 0.49},  # noise has no reason to look for
        {"repeated_share": 0.5},
    ],
)
def test_a_limit_itself_is_no_sign(changes: dict[str, float]) -> None:
    assert signs([point(), point(**changes), point(**changes)], PpoHealth()) == {}


def test_a_sign_must_last() -> None:
    bad, health = point(repeated_share=0.9), PpoHealth(patience=3)
    assert signs([bad, bad], health) == {}  # fewer points than patience
    assert signs([point(), bad, bad], health) == {}
    assert signs([bad, bad, point(), bad, bad], health) == {}  # not in a row
    assert list(signs([point(), bad, bad, bad], health)) == ["repetition"]
    assert signs([bad, bad, bad, point()], health) == {}  # it passed


def test_figures_are_those_of_the_last_point() -> None:
    history = [point(), point(repeated_share=0.6), point(repeated_share=0.7)]
    assert signs(history, PpoHealth())["repetition"].startswith("70%")


def test_several_signs_are_told_at_once() -> None:
    bad = point(repeated_share=0.9, entropy=0.0)
    assert list(signs([point(), bad, bad], PpoHealth())) == ["entropy_collapse", "repetition"]


@pytest.mark.parametrize("name", list(QUIET))
def test_the_recipe_decides_what_is_done_about_a_sign(name: str) -> None:
    bad = point(repeated_share=0.9, entropy=0.0, length_share=2.0)
    history = [point(), bad, bad]
    check_health(7, history, PpoHealth())  # a warning stops nothing
    assert signs(history, PpoHealth.model_validate(QUIET)) == {}
    stop = PpoHealth.model_validate({**QUIET, name: "stop"})
    with pytest.raises(Unhealthy, match=rf"ppo iteration 7: .*\(ppo\.health\.{name}: stop\)"):
        check_health(7, history, stop)
    check_health(7, [point(), point(), bad], stop)  # it has not lasted yet


def test_only_a_sign_that_would_stop_makes_a_policy_ailing() -> None:
    bad = point(repeated_share=0.9)
    assert is_ailing(point(), bad, PpoHealth(repetition="stop"))  # at once, lasting or not
    assert not is_ailing(point(), point(), PpoHealth(repetition="stop"))
    assert not is_ailing(point(), bad, PpoHealth(repetition="warn", entropy_collapse="stop"))
    assert not is_ailing(point(), bad, PpoHealth(repetition="ignore"))


def longer(chance: random.Random) -> tuple[str, str]:
    """Words at random; the answer with more of them is preferred."""
    short = chance.randint(1, 4)
    lengths = short + chance.randint(1, 4), short
    chosen, rejected = (" ".join(chance.choices([*OTHERS, "gold"], k=k)) for k in lengths)
    return chosen, rejected


def more_gold(chance: random.Random) -> tuple[str, str]:
    """Other words on either side, as many as chance will; the answer with more `gold` wins."""
    less = chance.randint(0, 5)
    golds = less + chance.randint(1, 5), less
    chosen, rejected = (
        " ".join([*chance.choices(OTHERS, k=chance.randint(1, 5)), *["gold"] * k]) for k in golds
    )
    return chosen, rejected


def preferences(tokenizer: PreTrainedTokenizerFast, sides: Sides) -> Iterator[dict[str, Any]]:
    chance = random.Random(0)
    for index in range(120):
        turns = [say("user", f"{index} what colour is {chance.choice(OTHERS)} ?")]
        prompt = encode_prompts(tokenizer, [turns])[0]
        chosen, rejected = sides(chance)
        whole = [[*turns, say("assistant", said)] for said in (chosen, rejected)]
        ids = [encoded.input_ids for encoded in encode_conversations(tokenizer, whole)]
        yield {
            "id": f"p{index}",
            "kind": sides.__name__,
            "group": f"g{index}",
            "split": "held_out" if index % 4 == 0 else "train",
            "margin": None,
            "messages": turns,
            "chosen": chosen,
            "rejected": rejected,
            "prompt_ids": prompt,
            "chosen_ids": ids[0][len(prompt) :],
            "rejected_ids": ids[1][len(prompt) :],
        }


def say(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content, "learn": None}


REWARD_RECIPE = RewardModelRecipe(
    learning_rate=1e-2,
    num_epochs=12,
    batch_size=20,
    max_new_tokens=8,
    num_samples=32,
)

UNBOUND = PpoRecipe(
    num_iterations=16,
    batch_size=24,
    num_epochs=4,
    learning_rate=1e-3,
    final_lr_share=1.0,
    warmup_iterations=1,
    kl_coef=0.0,
    max_kl=1e3,
    max_minibatch_kl=1e2,
    max_new_tokens=24,
    temperature=0.7,
    num_held_out=64,
    held_out_set="revision",
)
"""Nothing but the score counts, and nothing but its health stops the policy."""


@pytest.fixture(scope="module")
def flawed(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Sides], tuple[Tokens, RewardModel]]:
    """Trains, once each, reward models on other preferences."""
    known: dict[str, tuple[Tokens, RewardModel]] = {}

    def train(sides: Sides) -> tuple[Tokens, RewardModel]:
        if sides.__name__ not in known:
            folder = tmp_path_factory.mktemp(sides.__name__)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("POSTTRAIN_WORK", str(folder / "work"))
                patch.setenv("POSTTRAIN_CHECKPOINTS", str(folder / "checkpoints"))
                others = shutil.copytree(tokens.path, folder / "tokens")
                rows = list(preferences(tokenizer, sides))
                pq.write_table(pa.Table.from_pylist(rows), others / "preferences.parquet")
                preferred = Tokens.write(others, "tokenize", tokens.facts)
                reward = reward_model.train(preferred, domain, assistant, REWARD_RECIPE)
            known[sides.__name__] = preferred, reward
        return known[sides.__name__]

    return train


SIGNS = pytest.mark.parametrize(
    ("sides", "name"), [(longer, "length_alone"), (more_gold, "repetition")]
)


def recipe_with(name: str, action: str) -> PpoRecipe:
    health = PpoHealth.model_validate({**QUIET, name: action})
    return UNBOUND.model_copy(update={"health": health})


@SIGNS
def test_a_flawed_reward_model_stops_ppo_where_the_recipe_says_so(
    domain: BaseModel,
    assistant: Policy,
    flawed: Callable[[Sides], tuple[Tokens, RewardModel]],
    sides: Sides,
    name: str,
) -> None:
    tokens, reward = flawed(sides)
    assert reward.facts.accuracy > 0.9  # it learned what it was shown
    recipe = recipe_with(name, "stop")
    with pytest.raises(Unhealthy, match=rf"\(ppo\.health\.{name}: stop\)") as caught:
        ppo.train(tokens, domain, assistant, reward, recipe)
    stopped = re.match(r"ppo iteration (\d+): ", str(caught.value))
    assert stopped is not None
    # the last policy that rolled out well: before the iterations in a row that showed the sign
    good = int(stopped[1]) - 1 - recipe.health.patience
    (note,) = caught.value.__notes__
    found = re.fullmatch(r"The last good checkpoint is (checkpoint-\d+) in (.*)\.", note)
    assert found is not None
    assert found[1] == f"checkpoint-{good}"
    assert (Path(found[2]) / found[1] / "seal.json").exists()


@SIGNS
def test_a_flawed_reward_model_is_reported_where_the_recipe_says_so(
    domain: BaseModel,
    assistant: Policy,
    flawed: Callable[[Sides], tuple[Tokens, RewardModel]],
    sides: Sides,
    name: str,
) -> None:
    tokens, reward = flawed(sides)
    recipe = recipe_with(name, "warn")
    policy = ppo.train(tokens, domain, assistant, reward, recipe)
    curve = [{k: v or 0.0 for k, v in point.items()} for point in read_history(policy.path)]
    assert len(curve) == recipe.num_iterations
    assert curve[-1]["score"] > 1
    assert policy.facts.warnings == (signs(curve, recipe.health)[name],)
