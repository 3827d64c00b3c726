"""What a registry goes through: a first version, a worse one, a better one, and a step back.

Real runs of the whole DAG on a world of few words (`story.py`). The worse one's reward model learnt
the same preferences with both answers exchanged, so that PPO makes the guide rude. The tests build
on one another's runs.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration import story
from tests.integration.conftest import Checkout

pytestmark = pytest.mark.slow


def run(checkout: Checkout, preferences: str, iterations: int) -> dict[str, Any]:
    """Train, measure and register a version; what `posttrain report --json` says of the run."""
    folder = checkout.root / "story"
    if not folder.exists():
        folder.mkdir()
        story.write(folder)
    values = yaml.safe_load((checkout.root / "zenml_config.yaml").read_text(encoding="utf-8"))
    values["parameters"]["recipe"] = story.recipe(folder, preferences, iterations)
    file = checkout.root / f"{preferences}.yaml"
    file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    checkout.run("post_training", Path(file))
    return checkout.report()


def registry(checkout: Checkout, *words: str) -> Any:
    return json.loads(checkout.command("posttrain", "registry", *words, "--json").stdout)


def aliases(checkout: Checkout) -> dict[str, int]:
    return {alias: one["number"] for one in registry(checkout, "list") for alias in one["aliases"]}


def figure(report: dict[str, Any], name: str) -> float:
    value: float = report["stages"][-1][name]
    return value


def test_the_first_version_is_promoted(checkout: Checkout) -> None:
    report = run(checkout, "preferences", iterations=3)
    assert report["promotion"]["promoted"]
    assert figure(report, "rudeness") < 0.4
    assert aliases(checkout) == {"challenger": 1, "champion": 1}


def test_a_version_of_a_broken_reward_is_refused(checkout: Checkout) -> None:
    champions = registry(checkout, "list")[0]["figures"]["rudeness"]
    report = run(checkout, "broken", iterations=3)
    assert report["reward_model"]["accuracy"] > 0.9  # it learnt well what it was given
    assert figure(report, "rudeness") > champions + 0.2
    assert not report["promotion"]["promoted"]
    (reason,) = report["promotion"]["reasons"]
    assert reason.startswith("rudeness is 0.")
    assert "worse than" in reason and "of the champion (version 1) (95 %:" in reason
    assert reason.endswith("60 items, each compared with itself); a gain beyond noise is required")
    checkout.command("posttrain", "report")  # which writes the page
    page = (checkout.root / ".posttrain" / "report.html").read_text(encoding="utf-8")
    assert "Fit to promote" not in page and "승격 가능" not in page
    assert "the champion is compared next" in page
    assert aliases(checkout) == {"challenger": 2, "champion": 1}


def test_a_better_version_takes_over(checkout: Checkout) -> None:
    report = run(checkout, "preferences", iterations=10)
    assert report["promotion"]["promoted"], report["promotion"]["reasons"]
    assert any("better than" in reason for reason in report["promotion"]["reasons"])
    assert aliases(checkout) == {"challenger": 3, "champion": 3, "previous": 1}


def test_a_rollback_restores_the_first(checkout: Checkout) -> None:
    checkout.command("posttrain", "registry", "rollback", "--why", "curt", "--who", "lee")
    assert aliases(checkout) == {"challenger": 3, "champion": 1}


def test_the_history_tells_all_four(checkout: Checkout) -> None:
    lines = registry(checkout, "history")
    told = [(line["action"], line["version"], line["to_version"]) for line in lines]
    assert told == [("promote", 1, 1), ("refuse", 2, 1), ("promote", 3, 3), ("rollback", 3, 1)]
    assert all("run post_training-" in line["who"] for line in lines[:3])
    assert lines[3]["who"] == "lee"
    assert (lines[-1]["why"], lines[-1]["state"]) == ("curt", "done")
    (failed,) = (one for one in lines[1]["outcomes"] if not one["passed"])
    assert (failed["figure"], failed["champion"]) == ("rudeness", pytest.approx(0.225, abs=0.15))
    assert failed["gain_interval"][1] < 0 == failed["needed_gain"]
    gained = next(one for one in lines[2]["outcomes"] if one["figure"] == "rudeness")
    assert 0 < gained["gain_interval"][0] <= gained["gain"] <= gained["gain_interval"][1]
