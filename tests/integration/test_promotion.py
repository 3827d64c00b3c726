"""A person decides, by the command line, on ZenML's own SQLite store: no server runs."""

import signal

import pytest

from tests.integration.conftest import Checkout
from tests.promoting import PAUSES, Model, done

pytestmark = pytest.mark.slow

SOON = 0.02
"""Minutes after which nobody has answered."""


def test_a_waiting_run_is_approved_and_moves_the_alias(checkout: Checkout) -> None:
    model = Model(checkout, "approved")
    model.make_champion(model.put(0.9))
    version = model.put(0.95)
    with model.promotion() as run:
        assert model.aliases["champion"] == 1  # nobody has said anything
        code, said = model.say("approve", "challenger", "--who", "Kim", "--why", "reads well")
        assert run.ends() == 0
    assert code == 0, said
    assert "approved: version 2 is the champion, in place of version 1" in said
    assert "Kim: reads well" in said
    assert model.aliases == {"challenger": version, "champion": version, "previous": 1}
    line = model.history[-1]
    assert (line.action, line.who, line.why) == ("approve", "Kim", "reads well")
    assert [outcome.passed for outcome in line.outcomes] == [True]


def test_a_rejection_is_recorded_and_the_champion_stays(checkout: Checkout) -> None:
    model = Model(checkout, "rejected")
    model.make_champion(model.put(0.9))
    model.put(0.95)
    with model.promotion() as run:
        code, said = model.say("reject", "2", "--who", "Kim", "--why", "too curt")
        assert run.ends() == 0
    assert code == 0, said
    assert "rejected: version 2 is rejected" in said
    assert model.aliases == {"champion": 1}
    assert (model.history[-1].action, model.history[-1].version) == ("reject", 2)


def test_a_run_that_nobody_answered_is_paused_and_approved_later(checkout: Checkout) -> None:
    model = Model(checkout, "paused")
    version = model.put(0.9)
    with model.promotion(wait_minutes=SOON) as run:
        assert run.ends() == 0  # it ends well: no process waits any more
        run.says(PAUSES)
    code, said = model.say("approve", "1", "--who", "Kim", "--why", "late but good")
    assert code == 0, said
    assert model.aliases == {"challenger": version, "champion": version}
    assert model.status == "completed"


def test_a_newer_challenger_does_not_get_an_older_ones_approval(checkout: Checkout) -> None:
    model = Model(checkout, "overtaken")
    first = model.put(0.9)
    with model.promotion() as run:
        newer = model.put(0.95)
        code, said = model.say("approve", str(first), "--who", "Kim", "--why", "reads well")
        assert run.ends() == 0
    assert code == 0, said
    assert model.aliases == {"challenger": newer, "champion": first}
    run.says("version 2 is the challenger by now; the answer is about version 1 alone")


def test_an_approval_against_another_champion_is_refused(checkout: Checkout) -> None:
    model = Model(checkout, "changed")
    model.make_champion(model.put(0.9))
    model.put(0.95)
    other = model.put(0.97)
    with model.promotion(version=2) as run:
        model.make_champion(other)
        code, said = model.say("approve", "2", "--who", "Kim", "--why", "reads well")
        assert run.ends() != 0
    assert code == 1
    assert "the champion is version 3, and was expected to be version 1" in said
    assert "Ask anew: run the pipeline promotion, or `posttrain registry approve 2`" in said
    assert model.aliases["champion"] == other
    code, said = model.say("approve", "2", "--who", "Kim", "--why", "after another look")
    assert (code, model.aliases["champion"]) == (0, 2), said  # no run waits: done at once


@pytest.mark.parametrize("words", ["too curt", "reads well"])
def test_of_two_answers_at_once_one_counts_and_the_other_is_told(
    checkout: Checkout, words: str
) -> None:
    model = Model(checkout, f"contested-{words.split()[0]}")
    model.put(0.9)
    with model.promotion() as run:
        both = [
            model.start("approve", "1", "--who", "Kim", "--why", "reads well"),
            model.start("reject", "1", "--who", "Lee", "--why", words),
        ]
        answers = [done(process) for process in both]
        assert run.ends() == 0
    line = model.history[-1]
    won = 0 if line.action == "approve" else 1
    assert len(model.history) == 1
    assert [code for code, _ in answers] == ([0, 1] if won == 0 else [1, 0]), answers
    assert f"{line.who} was first" in answers[1 - won][1]


def test_a_waiter_that_was_killed_is_answered_all_the_same(checkout: Checkout) -> None:
    model = Model(checkout, "killed")
    model.put(0.9)
    with model.promotion() as run:
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
    model.lease_ends()
    code, said = model.say("approve", "1", "--who", "Kim", "--why", "reads well")
    assert (code, model.aliases["champion"]) == (0, 1), said
    assert model.status == "completed"


def test_the_gate_is_overruled_by_name_alone(checkout: Checkout) -> None:
    model = Model(checkout, "refused")
    model.put(0.5)
    with model.promotion() as run:
        words = ("approve", "1", "--who", "Kim", "--why", "an urgent mend")
        code, said = model.say(*words)
        assert code == 3
        assert "the gate refuses refused version 1: fact_accuracy.A of the final" in said
        assert "--overrule" in said
        code, said = model.say(*words, "--overrule")
        assert run.ends() == 0
    assert (code, model.aliases["champion"]) == (0, 1), said
    assert [outcome.passed for outcome in model.history[-1].outcomes] == [False]


def test_a_promotion_that_fails_is_told_as_any_run_is(checkout: Checkout) -> None:
    run = Model(checkout, "nobody").asked()
    assert run.ends() != 0
    run.says("posttrain: step challenger of run")
    run.says("no registered model 'nobody'")
