"""PPO that is killed, asked to end or moved to another machine ends as if nothing had happened."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from posttrain.align import ppo
from posttrain.align.ppo_state import Progress, Scale
from posttrain.align.rollout import load_actors
from posttrain.align.rows import sampling_by
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.ppo import PpoRecipe
from posttrain.tracking import read_history
from posttrain.train.checkpoints import Checkpoints
from posttrain.train.interrupt import Interrupted

RECIPE = PpoRecipe(
    num_iterations=4,
    batch_size=12,
    forward_batch_size=5,
    learning_rate=3e-3,
    warmup_iterations=1,
    target_kl=0.05,
    kl_horizon=60,
    max_new_tokens=10,
    temperature=0.7,
    num_held_out=16,
    held_out_set="revision",
)

Train = Callable[[], Policy]


@pytest.fixture
def train(tokens: Tokens, domain: BaseModel, assistant: Policy, reward: RewardModel) -> Train:
    """The same command each time that it is called."""
    return lambda: ppo.train(tokens, domain, assistant, reward, RECIPE)


@pytest.fixture(scope="module")
def whole(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    reward: RewardModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Policy:
    """What a run makes that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTTRAIN_WORK", str(folder / "work"))
        patch.setenv("POSTTRAIN_CHECKPOINTS", str(folder / "checkpoints"))
        patch.setenv("POSTTRAIN_THREADS", "1")
        return ppo.train(tokens, domain, assistant, reward, RECIPE)


def assert_same(found: Policy, whole: Policy) -> None:
    """Equal facts, equal bytes, and a curve that differs in its times alone."""
    adapter = Path("adapter") / "adapter_model.safetensors"
    assert (found.path / adapter).read_bytes() == (whole.path / adapter).read_bytes()
    assert timeless(found) == timeless(whole)
    assert found.verify().content_hash() == whole.content_hash()


def timeless(policy: Policy) -> list[dict[str, float | None]]:
    curve = read_history(policy.path)
    return [{k: v for k, v in point.items() if k != "tokens_per_second"} for point in curve]


def at_call(
    patch: pytest.MonkeyPatch, owner: Any, name: str, call: int, act: Callable[[], None], when: str
) -> None:
    """Have `act` happen before or after a call of a function, which does its work otherwise."""
    original = getattr(owner, name)
    calls = 0

    def counted(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            act()
        result = original(*args, **more)
        if calls == call and when == "after":
            act()
        return result

    patch.setattr(owner, name, counted)


def kill() -> None:
    raise KeyboardInterrupt


def ask_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupted(owner: Any, name: str, call: int, when: str, train: Train) -> None:
    """Run until it is killed at a call of a function."""
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, owner, name, call, kill, when)
        with pytest.raises(KeyboardInterrupt):
            train()


def iterations_of(train: Train) -> tuple[Policy, list[int]]:
    """Run to the end, and say which iterations were done for it."""
    done: list[int] = []
    original = ppo.iterate

    def noted(iteration: int, *args: Any) -> dict[str, float]:
        done.append(iteration)
        return original(iteration, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "iterate", noted)
        return train(), done


def steps(checkpoints: Path) -> list[int]:
    """Steps of the checkpoints in place, whatever the stage's folder is called."""
    found = checkpoints.glob("ppo-*/checkpoint-*")
    return sorted(int(path.name.rpartition("-")[2]) for path in found)


def test_the_kl_coefficient_adapts_in_these_runs(whole: Policy) -> None:
    """Else a coefficient that is not restored would pass."""
    curve = read_history(whole.path)
    assert [point["step"] for point in curve] == [1, 2, 3, 4]
    assert len({point["kl_coef"] for point in curve}) == 4
    assert all(point["num_updates"] == 4 for point in curve)


@pytest.mark.parametrize(
    ("owner", "name", "call", "when", "resumed_at"),
    [
        pytest.param(ppo, "sft_scale", 1, "after", 1, id="before the first iteration"),
        pytest.param(ppo, "update_policy", 1, "before", 1, id="before the first update"),
        pytest.param(ppo, "update_policy", 3, "after", 1, id="within the first iteration"),
        pytest.param(ppo, "update_value", 11, "before", 3, id="between policy and value"),
        pytest.param(ppo, "update_policy", 16, "after", 4, id="within the last iteration"),
        pytest.param(Checkpoints, "publish", 3, "before", 2, id="before a checkpoint is in place"),
        pytest.param(Checkpoints, "publish", 3, "after", 3, id="after a checkpoint is in place"),
        pytest.param(ppo, "held_out_figures", 1, "before", 4, id="after the last iteration"),
        pytest.param(Checkpoints, "forget", 1, "before", 4, id="before checkpoints are forgotten"),
    ],
)
def test_alignment_24_an_interrupted_run_ends_in_the_same_bytes(
    whole: Policy, train: Train, owner: Any, name: str, call: int, when: str, resumed_at: int
) -> None:
    interrupted(owner, name, call, when, train)
    policy, done = iterations_of(train)
    assert done == list(range(resumed_at, 5))
    assert_same(policy, whole)


def test_alignment_24_a_run_interrupted_again_and_again_ends_in_the_same_bytes(
    whole: Policy, train: Train
) -> None:
    for call in (6, 6, 6):  # in the second iteration that each attempt begins
        interrupted(ppo, "update_policy", call, "before", train)
    policy, done = iterations_of(train)
    assert done == [4]
    assert_same(policy, whole)


def test_alignment_24_a_run_with_few_checkpoints_ends_in_the_same_bytes(
    whole: Policy,
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    reward: RewardModel,
    tmp_path: Path,
) -> None:
    recipe = RECIPE.model_copy(update={"checkpoint_every_iterations": 2})

    def train() -> Policy:
        return ppo.train(tokens, domain, assistant, reward, recipe)

    interrupted(ppo, "update_policy", 14, "before", train)
    assert steps(tmp_path / "checkpoints") == [0, 2]
    policy, done = iterations_of(train)
    assert done == [3, 4]
    assert timeless(policy) == timeless(whole)


@pytest.mark.parametrize(("update", "iteration"), [(6, 2), (14, 4)])
def test_sigterm_ends_the_stage_after_the_iteration_with_a_checkpoint(
    whole: Policy, train: Train, tmp_path: Path, update: int, iteration: int
) -> None:
    """In the last iteration, too: the stage never succeeds."""
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, ppo, "update_policy", update, ask_to_end, "before")
        with pytest.raises(Interrupted) as caught:
            train()
    (folder,) = (tmp_path / "checkpoints").glob("ppo-*")
    assert f"after iteration {iteration} of 4" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert Checkpoints(folder).newest() == folder / f"checkpoint-{iteration}"
    assert signal.getsignal(signal.SIGTERM) == handler
    policy, done = iterations_of(train)
    assert done == [3, 4][iteration - 2 :]
    assert_same(policy, whole)


def test_another_machine_continues_from_a_url(
    whole: Policy, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTTRAIN_CHECKPOINTS", f"file://{tmp_path}/store")
    monkeypatch.setenv("POSTTRAIN_WORK", str(tmp_path / "one"))
    interrupted(ppo, "update_policy", 10, "before", train)
    assert steps(tmp_path / "store") == [1, 2]
    monkeypatch.setenv("POSTTRAIN_WORK", str(tmp_path / "two"))
    policy, done = iterations_of(train)
    assert done == [3, 4]
    assert policy.path.is_relative_to(tmp_path / "two")
    assert_same(policy, whole)
    assert steps(tmp_path / "store") == []


@pytest.mark.parametrize("file", ["state.json", "optimizers.safetensors", "policy", "value"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    whole: Policy, train: Train, tmp_path: Path, file: str
) -> None:
    interrupted(ppo, "update_policy", 14, "before", train)
    assert steps(tmp_path / "checkpoints") == [2, 3]
    (newest,) = (tmp_path / "checkpoints").glob("ppo-*/checkpoint-3")
    damaged = newest / file
    if damaged.is_dir():
        damaged = damaged / "adapter_model.safetensors"
    flip_a_bit(damaged)
    policy, done = iterations_of(train)
    assert done == [3, 4]
    assert_same(policy, whole)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_nothing_in_a_checkpoint_is_pickled(train: Train, tmp_path: Path) -> None:
    interrupted(ppo, "update_policy", 14, "before", train)
    files = [
        path for path in tmp_path.glob("checkpoints/ppo-*/checkpoint-3/**/*") if path.is_file()
    ]
    assert {"state.json", "optimizers.safetensors", "seal.json"} <= {path.name for path in files}
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_checkpoints_go_when_the_stage_is_done(train: Train, tmp_path: Path) -> None:
    train()
    assert list((tmp_path / "checkpoints").glob("ppo-*")) == []


def test_alignment_22_the_error_of_an_exploding_kl_names_a_checkpoint_that_loads(
    tokens: Tokens, domain: BaseModel, assistant: Policy, reward: RewardModel
) -> None:
    wild = {"learning_rate": 0.5, "num_iterations": 6, "max_kl": 3.0, "max_minibatch_kl": 1e6}
    recipe = RECIPE.model_copy(update={**wild, "kl_coef": 0.0, "target_kl": None})
    with pytest.raises((RuntimeError, FloatingPointError), match=r"ppo iteration \d") as caught:
        ppo.train(tokens, domain, assistant, reward, recipe)
    (note,) = caught.value.__notes__
    found = note.removeprefix("The last good checkpoint is ").removesuffix(".").split(" in ")
    checkpoint = Path(found[1]) / found[0]
    assert Checkpoints(checkpoint.parent).newest() == checkpoint
    sampling = sampling_by(load_tokenizer(domain), recipe)
    actors = load_actors(domain, assistant, reward, sampling, recipe)
    progress = Progress.resume(actors, checkpoint, recipe)
    assert checkpoint.name == f"checkpoint-{len(progress.history)}"
    assert all(point["kl"] < recipe.max_kl for point in progress.history)


def test_alignment_24_the_scale_of_the_losses_outlives_the_process(
    domain: BaseModel, assistant: Policy, reward: RewardModel, tmp_path: Path
) -> None:
    sampling = sampling_by(load_tokenizer(domain), RECIPE)
    actors = load_actors(domain, assistant, reward, sampling, RECIPE)
    unit = Scale(mean=0.0, std=1.0, length=1.0, slope=0.0)
    fallen = replace(actors, scaler=torch.amp.GradScaler("cpu", init_scale=8.0))
    checkpoints = Checkpoints(tmp_path)
    Progress.start(fallen, unit, RECIPE).save(fallen, checkpoints)
    again = replace(actors, scaler=torch.amp.GradScaler("cpu"))
    assert again.scaler.get_scale() != 8.0
    newest = checkpoints.newest()
    assert newest is not None
    Progress.resume(again, newest, RECIPE)
    assert again.scaler.get_scale() == 8.0
