"""A person decides, over ZenML's REST interface and by the command line, on a started server."""

from collections.abc import Iterator

import pytest

from tests.integration.conftest import Checkout
from tests.promoting import PAUSES, Model
from tests.promoting_on_server import Api, on_server
from tests.zenml_server import ZenMLServer

pytestmark = pytest.mark.slow

YES = {"decision": "approve", "who": "Kim", "why": "reads well"}


@pytest.fixture(scope="module")
def server(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZenMLServer]:
    with on_server(checkout, tmp_path_factory.mktemp("team")) as server:
        yield server


def test_an_answer_over_rest_moves_the_alias_and_is_signed_by_its_account(
    checkout: Checkout, server: ZenMLServer
) -> None:
    model, admin = Model(checkout, "rest"), Api(server)
    admin.add_user("lee", "a password of Lee's")
    lee = Api(server, "lee", "a password of Lee's")
    model.put(0.9)
    with model.promotion() as run:
        condition = lee.waiting("rest version 1")
        assert "every rule of the gate holds (1)" in condition["metadata"]["question"]
        for unfit in (
            {**YES, "decision": "overrule"},
            {**YES, "who": " "},
            {"decision": "approve"},
        ):
            status, _ = lee.resolve(condition["id"], unfit)
            assert status in (400, 422), unfit
        status, told = lee.resolve(condition["id"], YES)
        assert status == 200, told
        status, told = admin.resolve(condition["id"], {**YES, "decision": "reject"})
        assert (status, "already been resolved" in str(told)) == (403, True)
        assert run.ends() == 0
    assert model.aliases["champion"] == 1
    line = model.history[-1]
    assert (line.action, line.who, line.why) == ("approve", "Kim (account lee)", "reads well")


def test_a_waiting_run_is_approved_by_the_command_line(
    checkout: Checkout, server: ZenMLServer
) -> None:
    model = Model(checkout, "commanded")
    model.put(0.9)
    with model.promotion() as run:
        code, said = model.say("approve", "1", "--who", "Kim", "--why", "reads well")
        assert run.ends() == 0
    assert (code, model.aliases["champion"]) == (0, 1), said
    assert model.history[-1].who == "Kim"  # everybody's account is not told


def test_a_paused_run_that_was_answered_over_rest_goes_on_by_zenmls_own_command(
    checkout: Checkout, server: ZenMLServer
) -> None:
    model, admin = Model(checkout, "resumed"), Api(server)
    model.put(0.9)
    with model.promotion(wait_minutes=0.02) as run:
        assert run.ends() == 0
        run.says(PAUSES)
    condition = admin.waiting("resumed version 1")
    status, told = admin.resolve(condition["id"], YES)
    assert status == 200, told
    assert "champion" not in model.aliases  # a server alone carries nothing out
    code, said = model.say("reject", "1", "--who", "Lee", "--why", "too curt")
    assert code == 1
    assert "Kim answered 'approve' (reads well); `zenml pipeline runs resume" in said
    run_id = condition["resources"]["run"]["id"]
    checkout.command("zenml", "pipeline", "runs", "resume", run_id)
    assert model.aliases["champion"] == 1
