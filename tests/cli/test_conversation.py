"""What is remembered, forgotten and told, with a real tiny model that answers."""

import pytest

from cli.conversation import HELP, Conversation
from posttrain.artifacts import BaseModel, Policy
from posttrain.models.generate import generate
from posttrain.models.stream import text_of
from posttrain.models.voices import Adapter, of_artifacts
from posttrain.recipe.inference import InferenceRecipe
from tests.greeter import GREETING


def conversation(
    base: BaseModel, policy: Policy, adapter: Adapter = "off", **drawn: float
) -> Conversation:
    source = of_artifacts(base, policy, "museum version 1")
    recipe = InferenceRecipe.model_validate({"max_new_tokens": 96, **drawn})
    return Conversation(source, source.load(adapter), source.sampling(recipe))


def questions(talk: Conversation) -> list[list[str]]:
    return [[question for question, _ in said] for said in talk.said]


def test_an_answer_is_shown_and_becomes_part_of_the_conversation(
    greeter: BaseModel, mumbler: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = conversation(greeter, mumbler)
    talk.ask("what colour ?")
    assert capsys.readouterr().out == f"{GREETING}\n"
    assert talk.said == [[("what colour ?", GREETING)]]
    talk.system = "be kind"
    talk.ask("누구세요 ?")
    expected = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "what colour ?"},
        {"role": "assistant", "content": GREETING},
        {"role": "user", "content": "blue ?"},
    ]
    del talk.said[0][1]
    assert talk._messages(talk.said[0], "blue ?") == expected


def test_each_voice_remembers_its_own_answers(greeter: BaseModel, mumbler: Policy) -> None:
    talk = conversation(greeter, mumbler, "both")
    talk.ask("what colour ?")
    (base,), (adapter,) = talk.said
    assert base == ("what colour ?", GREETING)
    assert adapter[0] == base[0]
    assert adapter[1] != GREETING


def test_commands_forget_and_set(
    greeter: BaseModel, mumbler: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = conversation(greeter, mumbler, "both", max_new_tokens=4)
    for question in ("one", "two"):
        talk.ask(question)
    talk.command("/undo")
    assert questions(talk) == [["one"], ["one"]]
    talk.command("/new")
    assert questions(talk) == [[], []]
    talk.command("/system be kind")
    assert talk.system == "be kind"
    talk.command("/system")
    assert talk.system is None
    capsys.readouterr()
    for command in ("/undo", "/help", "/nwe"):
        talk.command(command)
    told = capsys.readouterr().err
    assert told.startswith(f"nothing was said\n{HELP}\n/nwe: no such command; /help lists them")


def test_when_the_window_is_full_the_oldest_goes_and_the_person_is_told(
    greeter: BaseModel, mumbler: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = conversation(greeter, mumbler, max_new_tokens=400)
    long = "what colour ? " * 70
    for place in range(4):
        talk.ask(f"{place} {long}")
    told = capsys.readouterr().err
    assert "the window of 1024 tokens is full: forgot the oldest question\n" in told
    assert len(talk.said[0]) < 4
    assert talk.said[0][-1][0].startswith("3 ")


def test_a_question_that_is_too_long_is_refused_and_not_remembered(
    greeter: BaseModel, mumbler: Policy
) -> None:
    talk = conversation(greeter, mumbler, max_new_tokens=1000)
    with pytest.raises(ValueError, match=r"there is room for 24; shorten it"):
        talk.ask("what colour ? " * 20)
    assert talk.said == [[]]


def test_an_answer_that_is_cut_off_is_told_with_its_voice(
    greeter: BaseModel, mumbler: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    one = conversation(greeter, mumbler, max_new_tokens=8)
    two = conversation(greeter, mumbler, "both", max_new_tokens=8)
    capsys.readouterr()
    one.ask("what colour ?")
    assert capsys.readouterr().err == "cut off at 8 tokens\n"
    two.ask("what colour ?")
    assert capsys.readouterr().err == "cut off at 8 tokens (base, adapter)\n"


def test_the_first_answer_is_drawn_by_the_seed_and_a_second_asking_anew(
    greeter: BaseModel, mumbler: Policy
) -> None:
    talk = conversation(greeter, mumbler, "on", temperature=2.0, seed=3)
    prompt = talk._prompts("what colour ?")[0]
    (voice,) = talk.voices
    expected = generate(voice.model, [prompt], talk.sampling)[0]
    talk.ask("what colour ?")
    first = talk.said[0][0][1]
    assert first == text_of(talk.source.tokenizer, expected, talk.sampling.end_ids)
    talk.command("/undo")
    talk.ask("what colour ?")
    assert talk.said[0][0][1] != first
