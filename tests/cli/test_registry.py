"""`posttrain registry` on versions that a real gate judged."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import Result
from mlflow import MlflowClient
from typer.testing import CliRunner

from cli.main import app
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.registry.promote import promote
from posttrain.registry.promotions import history
from tests import samples
from tests.posttrain.registry.versions_of import aliases, registered

GATE = PromotionRecipe(limits=(Limit(figure="fact_accuracy.A", at_least=0.85),))


@pytest.fixture
def museum(registry: MlflowClient, tmp_path: Path) -> MlflowClient:
    """Version 1 was champion, version 2 refused, version 3 is champion."""
    base = samples.base_model(tmp_path / "base")
    for accuracy in (0.9, 0.5, 0.95):
        promote(*registered(base, accuracy), GATE, "kim, run 7")
    return registry


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["registry", *words])


@pytest.mark.usefixtures("museum")
def test_the_list_has_aliases_gate_and_decision() -> None:
    done = run("list")
    assert done.exit_code == 0, done.exception
    third, second, first = (line.split() for line in done.stdout.splitlines()[2:])
    assert third[:3] == ["3", "challenger,", "champion"]
    assert (second[0], second[4]) == ("2", "failed")
    assert (first[:2], first[5:7]) == (["1", "previous"], ["passed", "promoted"])
    assert done.stderr == ""


def test_an_alias_that_was_moved_past_us_is_told_on_stderr(museum: MlflowClient) -> None:
    museum.set_registered_model_alias("museum", "champion", "2")
    done = run("list", "--json")
    assert [one["number"] for one in json.loads(done.stdout)] == [3, 2, 1]
    assert "note: the champion is version 2, and the history ends at version 3" in done.stderr


@pytest.mark.usefixtures("museum")
def test_a_version_is_shown_with_figures_gate_and_decisions() -> None:
    done = run("show", "2")
    (row,) = (line for line in done.stdout.splitlines() if "Fact accuracy A" in line)
    assert row.split()[3] == "0.50"
    assert "✗ fact_accuracy.A of the final stage is 0.5; required: at least 0.85" in done.stdout
    assert "1. 20" in run("show", "previous").stdout
    shown = json.loads(run("show", "champion", "--json").stdout)
    assert (shown["number"], shown["history"][0]["who"]) == (3, "kim, run 7")


@pytest.mark.usefixtures("museum")
def test_two_versions_stand_side_by_side() -> None:
    done = run("compare", "1", "2")
    (row,) = (line for line in done.stdout.splitlines() if "Fact accuracy A" in line)
    assert row.split()[3:5] == ["0.90", "0.50"]
    assert row.rstrip().endswith("worse")
    figures = json.loads(run("compare", "2", "champion", "--json").stdout)["figures"]
    by_name = {one["name"]: one for one in figures}
    assert by_name["fact_accuracy.A"]["verdict"] == "better"
    assert by_name["fact_accuracy.B"]["verdict"] == "level"
    assert not by_name["mean_score"]["comparable"]


def test_what_the_gate_refuses_stays_and_the_exit_code_says_so(museum: MlflowClient) -> None:
    done = run("promote", "2", "--why", "I like it")
    assert done.exit_code == 3
    assert "fact_accuracy.A of the final stage is 0.5; required: at least 0.85" in done.stderr
    assert aliases(museum)["champion"] == 3


def test_a_person_may_overrule_take_back_and_promote(museum: MlflowClient) -> None:
    done = run("promote", "2", "--why", "I like it", "--who", "lee", "--overrule")
    assert "museum: version 2 is the champion, in place of version 3" in done.stdout
    assert run("rollback", "--why", "a mistake", "--who", "kim").exit_code == 0
    assert aliases(museum) == {"challenger": 3, "champion": 3, "previous": 1}
    told = run("history").stdout
    assert "promoted 2  champion 3 → 2  lee" in told
    assert "I like it; against the gate, of which 1 rule fails: overruled by hand" in told
    assert "taken back 2  champion 2 → 3  kim" in told
    lines = json.loads(run("history", "--json").stdout)
    assert [one["number"] for one in lines] == [1, 2, 3, 4, 5]
    assert [one["action"] for one in lines][:3] == ["promote", "refuse", "promote"]


@pytest.mark.usefixtures("museum")
def test_mistakes_are_sentences() -> None:
    for words, why in [
        (("rollback", "--why", " "), "--why: say in a few words why"),
        (("promote", "3", "--why", "x"), "version 3 is the champion already"),
        (("show", "7"), r"museum@7: no such version or alias (versions: [1, 2, 3]"),
        (("list", "--name", "zoo"), "has no registered model 'zoo' (found: museum)"),
    ]:
        done = run(*words)
        assert (done.exit_code, isinstance(done.exception, ValueError)) == (1, True)
        assert why in str(done.exception)
    assert run("promote", "3").exit_code == 2


@pytest.fixture
def no_zenml(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that knows MLflow's address alone; whoever asks ZenML fails."""
    for name in ("ZENML_CONFIG_PATH", "ZENML_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "zenml.client", None)


@pytest.mark.usefixtures("no_zenml")
def test_a_rejection_without_a_zenml_keeps_the_gates_outcomes(museum: MlflowClient) -> None:
    done = run("reject", "2", "--why", "too curt", "--who", "lee", "--json")
    assert done.exit_code == 0, done.exception
    line = history(museum, "museum")[-1]
    assert (line.action, line.version) == ("reject", 2)
    assert [outcome.passed for outcome in line.outcomes] == [False]
    assert json.loads(done.stdout)["number"] == line.number


@pytest.mark.usefixtures("museum", "no_zenml")
def test_an_approval_without_a_zenml_is_done_at_once() -> None:
    done = run("approve", "1", "--why", "back to it")
    assert done.exit_code == 0, done.exception
    assert "museum: version 1 is the champion, in place of version 3" in done.stdout


@pytest.mark.usefixtures("museum")
def test_what_a_terminal_is_shown_is_one_line_each(museum: MlflowClient) -> None:
    run("promote", "1", "--why", "x\n   9  2026-11-21 12:00  approved 2\x1b[1A", "--who", "k\x1bim")
    museum.set_model_version_tag("museum", "1", "lineage.zenml_run", "a\nb\x1b[2K")
    assert run("history").stdout.splitlines()[-1] == "      x 9 2026-11-21 12:00 approved 2[1A"
    shown = run("show", "1").stdout
    assert "  zenml_run: a b[2K\n" in shown
    assert "\x1b" not in shown
    refused = run("rollback", "--why", "\u200b\n")
    assert "--why: say in a few words why" in str(refused.exception)
