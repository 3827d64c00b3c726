"""Benchmarks on models in memory, beside what our own log-probabilities say."""

import gc
import json
import math
import re
import socket
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from posttrain.align.forward import using
from posttrain.artifacts import BaseModel, Quarantine
from posttrain.data.chat import end_tokens
from posttrain.evaluate import bootstrap, harness
from posttrain.evaluate.perplexity import Scored, byte_items, of_tokens, text_losses
from posttrain.evaluate.stages import Stages, evaluate, report
from posttrain.models.adapters import adapter_weights, new_adapter
from posttrain.models.generate import Sampling, generate
from posttrain.models.load import load_base
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.harness import HarnessRecipe
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe, QuantizationRecipe
from posttrain.registry.gate import judge
from tests.architectures import make_base
from tests.tiny_run import RECIPE

TASKS = Path("tests/posttrain/evaluate/tasks")
QUESTIONS = [json.loads(line) for line in (TASKS / "colours.jsonl").read_text().splitlines()]
TEXTS = [json.loads(line)["text"] for line in (TASKS / "skies.jsonl").read_text().splitlines()]


def recipe(*tasks: str, window: int = 64, stride: int = 32, **changes: Any) -> EvaluationRecipe:
    section = HarnessRecipe(**{"tasks": tasks, "include_path": str(TASKS), **changes})
    return EvaluationRecipe(
        window=window, stride=stride, num_bootstrap=20, batch_size=4, harness=section
    )


def measured(model: Any, tokenizer: PreTrainedTokenizerFast, told: EvaluationRecipe) -> Any:
    assert told.harness is not None
    return harness.measure(model, tokenizer, harness.find(told.harness), told)


@pytest.fixture(scope="module")
def model(base: BaseModel) -> PreTrainedModel:
    return load_base(base)


def choices_by_hand(
    model: Any, tokenizer: PreTrainedTokenizerFast, told: EvaluationRecipe
) -> tuple[list[bool], list[bool]]:
    """Whether the right choice is the likeliest, and whether it is so by character."""
    likeliest, by_character = [], []
    for row in QUESTIONS:
        scored = []
        for choice in row["choices"]:
            asked = tokenizer.encode(row["question"])
            ids = tokenizer.encode(f"{row['question']} {choice}")
            scored.append(Scored(ids, [place >= len(asked) for place in range(len(ids))]))
        losses = text_losses(model, scored, told)
        shares = [loss / len(one) for loss, one in zip(losses, row["choices"], strict=True)]
        likeliest.append(losses.index(min(losses)) == row["answer"])
        by_character.append(shares.index(min(shares)) == row["answer"])
    return likeliest, by_character


@pytest.mark.parametrize("batch_size", [1, 5])
def test_multiple_choice_is_what_our_own_log_probabilities_choose(
    model: Any, tokenizer: PreTrainedTokenizerFast, batch_size: int
) -> None:
    told = recipe("colours", batch_size=batch_size)
    found = measured(model, tokenizer, told)
    likeliest, by_character = choices_by_hand(model, tokenizer, told)
    num, right = len(QUESTIONS), sum(likeliest)
    accuracy = found.figures["harness.colours.acc"]
    assert 0 < right < num
    assert right != sum(by_character)
    assert accuracy.value == pytest.approx(right / num)
    assert found.figures["harness.colours.acc_norm"].value == pytest.approx(sum(by_character) / num)
    error = math.sqrt(accuracy.value * (1 - accuracy.value) / (num - 1))
    assert accuracy.low == pytest.approx(accuracy.value - 1.96 * error)
    assert accuracy.high == pytest.approx(accuracy.value + 1.96 * error)
    assert accuracy.num == num


def starting(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer as Llama's and Gemma's are: it puts a token of its own before every text."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token=tokenizer.eos_token,
        bos_token="<|system|>",
    )
    start = made.bos_token_id
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|system|> $A", special_tokens=[("<|system|>", start)]
    )
    return made


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("context", [16, 250])
def test_our_perplexity_is_the_harnesss_rolling_one(
    model: Any, tokenizer: PreTrainedTokenizerFast, base: BaseModel, context: int, starts: bool
) -> None:
    """Like with like, on six texts, of which most are longer than a context of 16 tokens.

    The harness puts a prefix token before a text (BOS, else EOS) and scores every token of the text
    once: up to `context` in the first window, and in each that follows as many behind one token of
    context, but for the last window, which is full and scores what is left. Ours are the same
    windows where `window` is `context` + 1 (it counts the first token, which is not scored) and
    `stride` the largest that skips none, `window` - 1; a smaller stride gives each token more
    context, which the harness cannot.

    A tokenizer that puts a BOS before every text makes the harness score BOS after BOS: a token
    that ours scores only where it is told to, as here.

    The harness reports nats by word (white space) and by byte (UTF-8) of the raw text, never by
    token: so its total is divided by our number of tokens. Bytes are ours too, in bits per byte.
    """
    tokenizer = starting(load_tokenizer(base)) if starts else tokenizer
    told = recipe("skies", window=context + 1, stride=context, max_length=context)
    figures = measured(model, tokenizer, told).figures
    prefix = tokenizer.bos_token_id if starts else tokenizer.eos_token_id
    rows = [[prefix, *tokenizer.encode(text)] for text in TEXTS]
    scored = [Scored(row, [True] * len(row)) for row in rows]
    assert sorted(len(row) > 17 for row in rows) == [False, *[True] * 5]

    losses = text_losses(model, scored, told)
    num_bytes = sum(len(text.encode()) for text in TEXTS)
    num_words = sum(len(re.split(r"\s+", text)) for text in TEXTS)
    nats = figures["harness.skies.bits_per_byte"].value * math.log(2) * num_bytes
    num_tokens = sum(len(row) - 1 for row in rows)
    ours = of_tokens(losses, scored, told)
    assert ours.num == num_tokens
    assert ours.value == pytest.approx(math.exp(nats / num_tokens), rel=1e-4)
    by_byte = bootstrap.of_items(byte_items(losses, scored, tokenizer), 20, seed=0)
    assert by_byte.num == num_bytes
    assert by_byte.value == pytest.approx(figures["harness.skies.bits_per_byte"].value, rel=1e-4)
    by_word = figures["harness.skies.word_perplexity"]
    assert math.exp(sum(losses) / num_words) == pytest.approx(by_word.value, rel=1e-4)
    assert by_word.bounds is None  # the harness gives no standard error of a weighted mean


def test_a_smaller_stride_is_another_figure(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [[tokenizer.eos_token_id, *tokenizer.encode(text)] for text in TEXTS]
    scored = [Scored(row, [True] * len(row)) for row in rows]
    far, near = (
        sum(text_losses(model, scored, recipe("skies", window=17, stride=stride)))
        for stride in (16, 4)
    )
    assert far != pytest.approx(near, rel=1e-4)


def test_the_adapter_that_is_active_is_measured(
    base: BaseModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    told = recipe("skies", "colours")
    torch.manual_seed(1)
    peft = new_adapter(load_base(base), LoraRecipe(rank=4, alpha=8), "one")
    peft.add_adapter("two", peft.peft_config["one"])
    for name, size in (("one", 0.1), ("two", 0.3)):
        for weight in adapter_weights(peft, name).values():
            torch.nn.init.normal_(weight, std=size)
    peft.eval()
    found = {}
    for name in ("one", "two"):
        with using(peft, name):
            figures = measured(peft, tokenizer, told).figures
            likeliest, _ = choices_by_hand(peft, tokenizer, told)
        assert figures["harness.colours.acc"].value == pytest.approx(sum(likeliest) / 24)
        found[name] = figures["harness.skies.bits_per_byte"].value
    assert found["one"] != pytest.approx(found["two"], rel=1e-3)
    with peft.disable_adapter():
        alone = measured(peft, tokenizer, told)
    assert alone.figures == measured(load_base(base), tokenizer, told).figures


@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3", "gpt2"])
def test_a_quantised_base_with_a_bottleneck_is_read_as_it_is(
    name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    base = make_base(name, tokenizer, tmp_path / name)
    peft = new_adapter(load_base(base, quantization=QuantizationRecipe()), BottleneckRecipe(size=8))
    for weight in adapter_weights(peft, "default").values():
        torch.nn.init.normal_(weight, std=0.1)
    peft.eval()
    ids = torch.tensor([tokenizer.encode(TEXTS[0])])
    with torch.no_grad():
        before = peft(ids).logits
    told = recipe("colours")
    found = measured(peft, tokenizer, told).figures["harness.colours.acc"]
    likeliest, _ = choices_by_hand(peft, tokenizer, told)
    assert found.value == pytest.approx(sum(likeliest) / len(QUESTIONS))
    with torch.no_grad():
        assert torch.equal(peft(ids).logits, before)  # the wrapper ties weights and sets eval


@pytest.mark.parametrize("batch_size", [1, 3])
def test_answers_are_those_of_our_own_greedy_generation(
    model: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, batch_size: int
) -> None:
    """Prompts of unequal length, padded on the left behind a mask, change no answer."""
    asked = [text[:30] for text in TEXTS] + ["what"]
    ends = end_tokens(tokenizer)
    sampling = Sampling(
        max_new_tokens=6, temperature=0.0, end_ids=ends, pad_id=ends[0], batch_size=2, seed=0
    )
    answered = generate(model, [tokenizer.encode(one) for one in asked], sampling)
    texts = [tokenizer.decode(one, skip_special_tokens=True) for one in answered]
    rows = [{"asked": one, "answer": text} for one, text in zip(asked, texts, strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "greedy",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{asked}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [tokenizer.eos_token], "max_gen_toks": 6},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "greedy.yaml").write_text(yaml.safe_dump(task))
    told = recipe("greedy", include_path=str(tmp_path), batch_size=batch_size)
    assert len(set(texts)) > 2
    assert measured(model, tokenizer, told).figures["harness.greedy.exact_match"].value == 1.0


def test_a_group_gives_its_own_figure_or_those_of_its_tasks(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = measured(model, tokenizer, recipe("museum"))
    assert set(found.tasks) == {"colours", "skies"}
    assert {"harness.colours.acc", "harness.skies.bits_per_byte"} <= set(found.figures)


def test_what_was_asked_is_recorded(
    model: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    task = measured(model, tokenizer, recipe("colours")).tasks["colours"]
    assert (task.version, task.num_questions, task.num_fewshot) == ("2.0", 24, 0)
    assert task.library.startswith("lm-eval 0.4")
    assert task.datasets == ("json",)

    def fingerprint(**changes: Any) -> str:
        found = measured(model, tokenizer, recipe("colours", **changes))
        return str(found.tasks["colours"].fingerprint)

    assert fingerprint(batch_size=1) == task.fingerprint
    others = [fingerprint(limit=5), fingerprint(num_fewshot=2), fingerprint(num_fewshot=2, seed=1)]
    others.append(fingerprint(apply_chat_template=True))
    moved = (TASKS / "colours.yaml").read_text().replace(str(TASKS), str(tmp_path))
    (tmp_path / "colours.yaml").write_text(moved)
    (tmp_path / "colours.jsonl").write_text((TASKS / "colours.jsonl").read_text())
    assert fingerprint(include_path=str(tmp_path)) == task.fingerprint
    rows = [*QUESTIONS[:-1], {**QUESTIONS[-1], "answer": 2 - QUESTIONS[-1]["answer"]}]
    (tmp_path / "colours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    others.append(fingerprint(include_path=str(tmp_path)))
    assert len({task.fingerprint, *others}) == 6


def test_a_local_task_asks_nobody(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (TASKS / "colours.yaml").read_text().replace(str(TASKS), str(tmp_path))
    (tmp_path / "colours.yaml").write_text(text)
    (tmp_path / "colours.jsonl").write_text(json.dumps(QUESTIONS[0]) + "\n")  # not in a cache
    asked: list[Any] = []

    def refuse(*address: Any, **_: Any) -> Any:
        asked.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = measured(model, tokenizer, recipe("colours", include_path=str(tmp_path)))
    assert found.figures["harness.colours.acc"].bounds is None  # of one question
    assert asked == []


def test_the_model_and_the_tokenizer_are_left_as_they_were(base: BaseModel) -> None:
    loaded, tokenizer = load_base(base), load_tokenizer(base)
    tokenizer.pad_token = None
    measured(loaded, tokenizer, recipe("colours", limit=2))
    assert tokenizer.pad_token is None
    gone = weakref.ref(loaded)
    del loaded
    gc.collect()
    assert gone() is None


def test_stages_and_report_show_benchmarks(stages: Stages, quarantine: Quarantine) -> None:
    told = RECIPE.model_copy(update={"harness": recipe("colours", limit=6).harness})
    evaluation = evaluate(stages, quarantine, told)
    for stage in ("untrained", "final"):
        assert evaluation.figure(stage, "harness.colours.acc") is not None
    assert evaluation.benchmarks["colours"].num_questions == 6
    assert evaluation.held_out_hash == evaluate(stages, quarantine, RECIPE).held_out_hash
    gate = PromotionRecipe(
        limits=(
            Limit(figure="harness.colours.acc", at_least=0.0),
            Limit(figure="harness.colours.f1", at_least=0.0),
        )
    )
    there, missing = judge(evaluation, None, gate)
    assert (there.passed, missing.passed) == (True, False)
    assert "harness.colours.f1 of the final stage was not measured" in missing.reason
    page = report(stages, evaluation, gate, {})
    assert '<tr><th scope="row">colours, acc</th>' in page


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"harness.include_path: tests/nowhere: no such folder"):
        harness.find(HarnessRecipe(tasks=("colours",), include_path="tests/nowhere"))


@pytest.mark.slow
def test_an_unknown_task_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'arc_easyy' is no task .*nearest: .*arc_easy"):
        harness.find(HarnessRecipe(tasks=("arc_easyy",)))


def test_without_the_library_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.evaluator", None)
    with pytest.raises(ValueError, match=r"pip install .*posttrain\[eval\]"):
        harness.find(HarnessRecipe(tasks=("colours",), include_path=str(TASKS)))
