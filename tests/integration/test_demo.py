"""The whole demo for real, with its figures; then DPO in place of PPO, from what the demo made.

Minutes long. Seconds are quoted, never asserted.
"""

from pathlib import Path

import pytest

from benchmarks.demo import BARS, Bar, Report, run

pytestmark = pytest.mark.slow

MEASURED = [bar for bar in BARS if not bar.name.startswith("Seconds")]
# The bars are for the median of three seeds (benchmarks/demo.py); this seed clears each with room
# to spare, so that a miss means that something got worse.
SEED = 0

SHARED = {
    *("ingest", "validate", "base_model", "template", "tokenize"),
    *("base_finetune", "sft", "reward_model"),
}
"""What the demo and DPO do alike."""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def report(state: Path) -> Report:
    return run(SEED, state)


@pytest.mark.parametrize("bar", MEASURED, ids=lambda bar: bar.name)
def test_figure_clears_its_bar(bar: Bar, report: Report) -> None:
    value = bar.read(report)
    assert bar.holds(value), f"{bar.name} is {value:.3g}; required: {bar.text}"


def test_the_result_is_promoted(report: Report) -> None:
    assert report["promotion"]["promoted"], report["promotion"]["reasons"]


def test_dpo_in_place_of_ppo(report: Report, state: Path) -> None:
    after = run(SEED, state, "recipes/tiny_dpo.yaml")
    # a step that was taken from the cache tells what its first run took
    took, before = ({one["step"]: one for one in each["cost"]} for each in (after, report))
    assert {step for step in took if took[step] == before.get(step)} >= SHARED
    stages = {stage["stage"]: stage for stage in after["stages"]}
    assert list(stages)[-3:] == ["sft", "dpo", "self_critique"]
    assert stages["dpo"]["mean_score"] > stages["sft"]["mean_score"] + 0.5
    assert stages["dpo"]["kl_to_sft"] > 0
    assert stages["dpo"]["fact_accuracy"]["A"] > 0.8
