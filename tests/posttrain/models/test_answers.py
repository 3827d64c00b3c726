"""Questions answered in batches, against one at a time."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel
from posttrain.data.questions import Question
from posttrain.models.answers import answer, ask
from posttrain.models.stream import pieces
from posttrain.models.voices import Source, of_artifacts
from posttrain.recipe.inference import InferenceRecipe
from tests.cli.registered import make_policy


def questions(*texts: str) -> list[Question]:
    return [
        Question(f"line {place}", {"id": place}, [{"role": "user", "content": text}])
        for place, text in enumerate(texts, 1)
    ]


@pytest.fixture
def source(base: BaseModel, tmp_path: Path) -> Source:
    return of_artifacts(base, make_policy(base, tmp_path / "policy"), "one")


def test_each_is_answered_as_it_is_alone_and_in_its_place(
    source: Source, tokenizer: PreTrainedTokenizerFast
) -> None:
    recipe = InferenceRecipe(max_new_tokens=20, batch_size=2)
    sampling = source.sampling(recipe)
    asked = ask(source, questions("red ?", "what colour is blue ?", "색 😀 ?"), 20, False)
    (voice,) = source.load("on")
    answered = answer(source, voice, asked, sampling)
    for one, prompt in zip(answered, asked.prompts, strict=True):
        tokens = list(voice.tokens(prompt, sampling))
        assert one.num_tokens == len(tokens)
        assert one.ended == (tokens[-1] in sampling.end_ids)
        assert one.response == "".join(pieces(tokenizer, tokens, sampling.end_ids))
    assert [one.row()["id"] for one in answered] == [1, 2, 3]
    assert answered[0].row().keys() == {"id", "response", "ended", "num_tokens"}


def test_questions_that_are_too_long_are_named_or_left_out(source: Source) -> None:
    given = questions("red ?", "what colour is red ? " * 20, "blue ?")
    with pytest.raises(ValueError, match=r"line 2: 1\d\d tokens; the model's 256 .* leave 56;"):
        ask(source, given, 200, skip_long=False)
    asked = ask(source, given, 200, skip_long=True)
    assert [question.where for question in asked.questions] == ["line 1", "line 3"]
    assert len(asked.prompts) == 2
    assert asked.num_skipped == 1
