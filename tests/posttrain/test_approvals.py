"""What a person is asked, and the answers that ZenML lets through."""

import jsonschema
import pytest
from pydantic import ValidationError

from posttrain.approvals import Answer, Approval, Overruling, Proposal
from posttrain.decisions import RuleOutcome


def proposal(passed: bool, champion: int | None = 2) -> Proposal:
    outcome = RuleOutcome(
        rule="helpfulness at least 0.8",
        figure="helpfulness",
        value=0.9 if passed else 0.4,
        passed=passed,
        reason="helpfulness of the final stage is 0.4; required: at least 0.8",
    )
    return Proposal(name="museum", version=3, champion=champion, outcomes=(outcome,), after=0)


def test_the_question_names_version_place_and_the_gates_word() -> None:
    assert proposal(passed=True).question == (
        "Shall museum version 3 become the champion? It would take the place of version 2; every "
        'rule of the gate holds (1). Answer "approve" or "reject", with your name and your '
        "reason; the step `gate` has the report."
    )


def test_a_refusal_of_the_gate_is_told_and_a_yes_has_another_name() -> None:
    asked = proposal(passed=False, champion=None).question
    assert "There is no champion yet; the gate refuses it: helpfulness of the final" in asked
    assert 'Answer "overrule" or "reject"' in asked


@pytest.mark.parametrize(("passed", "yes"), [(True, "approve"), (False, "overrule")])
def test_the_schema_takes_whole_answers_alone(passed: bool, yes: str) -> None:
    schema = proposal(passed).answer_schema.model_json_schema()
    whole = {"decision": yes, "who": "Kim", "why": "reads well"}
    jsonschema.validate(whole, schema)
    jsonschema.validate({**whole, "decision": "reject"}, schema)
    other = {"approve": "overrule", "overrule": "approve"}[yes]
    unfit = [
        {**whole, "decision": other},
        {**whole, "who": " "},
        {**whole, "why": ""},
        {**whole, "who": "\u200b\u3164"},
        {**whole, "why": "\u2800 \ufeff"},
        {**whole, "mood": "good"},
        {"decision": yes},
        schema["default"],  # what the dashboard's editor starts with
    ]
    for answer in unfit:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(answer, schema)


def test_an_answer_is_read_again_as_what_it_was() -> None:
    given = {"decision": "overrule", "who": "Kim", "why": "an urgent mend"}
    assert Answer.model_validate(given).model_dump() == given
    assert Overruling.model_validate(given).decision == "overrule"
    with pytest.raises(ValidationError):
        Approval.model_validate(given)
