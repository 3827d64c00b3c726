"""The recipes' chat templates, on tokenizers with their models' control tokens and habits."""

from pathlib import Path

import pytest
import yaml
from transformers import PreTrainedTokenizerFast

from posttrain.data.chat import encode_conversations, encode_prompts, end_tokens
from posttrain.models.preflight import template_problems
from tests.recipes.styles import tokenizer_like

RECIPES = Path(__file__).parents[2] / "recipes"
Conversation = list[dict[str, str]]

ASKED: Conversation = [{"role": "user", "content": "첫 배는 언제 뜨나요?"}]
ANSWER = {"role": "assistant", "content": "아침 8시입니다."}
ONE_TURN: Conversation = [*ASKED, ANSWER]
WITH_SYSTEM: Conversation = [{"role": "system", "content": "짧게 답하세요."}, *ONE_TURN]
TWO_TURNS: Conversation = [*ONE_TURN, {"role": "user", "content": "등불은?"}, ANSWER]
CONVERSATIONS = (ONE_TURN, WITH_SYSTEM, TWO_TURNS)

RENDERED = {
    ("google/gemma", "gemma3.jinja"): (
        "<bos><start_of_turn>user\n짧게 답하세요.\n\n첫 배는 언제 뜨나요?<end_of_turn>\n"
        "<start_of_turn>model\n아침 8시입니다.<end_of_turn>\n"
    ),
    ("google/gemma", "socratic.jinja"): (
        "<bos>짧게 답하세요.\n\n### context: 첫 배는 언제 뜨나요?\n"
        "### question: 아침 8시입니다.<eos>"
    ),
    ("beomi/Llama-3", "llama3.jinja"): (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n짧게 답하세요.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n첫 배는 언제 뜨나요?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n아침 8시입니다.<|eot_id|>"
    ),
    ("microsoft/DialoGPT", "instruction.jinja"): (
        "짧게 답하세요.\n\n### Instruction:\n첫 배는 언제 뜨나요?\n\n"
        "### Response:\n아침 8시입니다.<|endoftext|>"
    ),
    ("microsoft/DialoGPT", "medical.jinja"): (
        "짧게 답하세요.\n\n### 질문: 첫 배는 언제 뜨나요?\n### 답변: 아침 8시입니다.<|endoftext|>"
    ),
    ("microsoft/DialoGPT", "summary.jinja"): (
        "짧게 답하세요.\n\n첫 배는 언제 뜨나요?\n\n요약: 아침 8시입니다.<|endoftext|>"
    ),
    ("Qwen/Qwen3", "chatml.jinja"): (
        "<|im_start|>system\n짧게 답하세요.<|im_end|>\n"
        "<|im_start|>user\n첫 배는 언제 뜨나요?<|im_end|>\n"
        "<|im_start|>assistant\n아침 8시입니다.<|im_end|>\n"
    ),
}
"""(how a model's id begins, template) -> the conversation with a system message as text."""

ENDS = {
    "gemma3.jinja": "<end_of_turn>",
    "socratic.jinja": "<eos>",
    "llama3.jinja": "<|eot_id|>",
    "chatml.jinja": "<|im_end|>",
}


@pytest.fixture(params=RENDERED, ids=lambda pair: pair[1])
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def tokenizer(pair: tuple[str, str]) -> PreTrainedTokenizerFast:
    made = tokenizer_like(pair[0])
    made.chat_template = (RECIPES / pair[1]).read_text(encoding="utf-8")
    return made


def test_it_renders_what_the_model_knows(
    tokenizer: PreTrainedTokenizerFast, pair: tuple[str, str]
) -> None:
    whole = encode_conversations(tokenizer, [WITH_SYSTEM])[0].input_ids
    assert tokenizer.decode(whole) == RENDERED[pair]


@pytest.mark.parametrize("turns", CONVERSATIONS)
def test_alignment_01_the_prompt_is_how_the_training_text_begins(
    tokenizer: PreTrainedTokenizerFast, turns: Conversation
) -> None:
    whole = encode_conversations(tokenizer, [turns])[0].input_ids
    prompt = encode_prompts(tokenizer, [turns[:-1]])[0]
    assert whole[: len(prompt)] == prompt and len(prompt) < len(whole)


@pytest.mark.parametrize("turns", CONVERSATIONS)
def test_alignment_02_answers_and_their_ends_are_learned_and_nothing_else(
    tokenizer: PreTrainedTokenizerFast, pair: tuple[str, str], turns: Conversation
) -> None:
    encoded = encode_conversations(tokenizer, [turns])[0]
    marked = zip(encoded.input_ids, encoded.assistant_mask, strict=True)
    learned = tokenizer.decode([token for token, on in marked if on])
    end = ENDS.get(pair[1], "<|endoftext|>")
    num_answers = sum(turn["role"] == "assistant" for turn in turns)
    assert learned.replace(" ", "") == ("아침8시입니다." + end) * num_answers


def test_generation_stops_where_a_learned_answer_ends(
    tokenizer: PreTrainedTokenizerFast, pair: tuple[str, str]
) -> None:
    end = tokenizer.convert_tokens_to_ids(ENDS.get(pair[1], "<|endoftext|>"))
    assert end_tokens(tokenizer)[0] == end
    assert tokenizer.eos_token_id in end_tokens(tokenizer)
    assert template_problems(tokenizer, learn_prompts=False) == []


def test_white_space_around_an_answer_does_not_move_the_border(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    padded = [*ASKED, {"role": "assistant", "content": "\n 아침 8시입니다.\n"}]
    whole = encode_conversations(tokenizer, [padded])[0].input_ids
    prompt = encode_prompts(tokenizer, [ASKED])[0]
    assert whole[: len(prompt)] == prompt


@pytest.mark.parametrize(
    ("model", "template"),
    [pair for pair in RENDERED if pair[1] not in ("llama3.jinja", "chatml.jinja")],
)
def test_a_role_that_the_template_does_not_know_is_refused(model: str, template: str) -> None:
    tokenizer = tokenizer_like(model)
    tokenizer.chat_template = (RECIPES / template).read_text(encoding="utf-8")
    with pytest.raises(Exception, match="role tool"):
        encode_prompts(tokenizer, [[{"role": "tool", "content": "?"}]])


def test_every_recipes_template_is_tested_on_its_models_tokenizer() -> None:
    tested = set(RENDERED)
    for file in RECIPES.glob("*.yaml"):
        recipe = yaml.safe_load(file.read_text(encoding="utf-8"))["parameters"]["recipe"]
        template = Path(recipe.get("template", {}).get("chat_template", ""))
        if template.parent.name == "recipes":
            model = recipe["base_model"]["source"]
            assert any(model.startswith(m) and template.name == t for m, t in tested), file
