"""Self-critique on a tiny world: from answers with `red` in them to answers without."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from posttrain.align import revise, self_critique
from posttrain.align.imitate import Example, ExampleCollator, Imitation
from posttrain.align.revise import Sample
from posttrain.align.revisions_report import read_samples, render
from posttrain.align.rows import read_prompts
from posttrain.artifacts import BaseModel, Policy, Revisions, Tokens
from posttrain.models.generate import Sampling, generate
from posttrain.models.load import load_base, load_policy
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.self_critique import SelfCritiqueRecipe

CONSTITUTION = """
principles:
- id: red
  principle: {ko: 빨강은 안 됩니다, en: no red}
  critique_request: {ko: "what is wrong ?", en: "what is wrong ?"}
  revision_request: {ko: "mend it .", en: "mend it ."}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> SelfCritiqueRecipe:
    file = tmp_path_factory.mktemp("constitution") / "constitution.yaml"
    file.write_text(CONSTITUTION, encoding="utf-8")
    return SelfCritiqueRecipe(
        constitution=str(file),
        learning_rate=5e-3,
        num_epochs=4,
        batch_size=8,
        max_new_tokens=16,
        no_fault_markers=("fine",),
        num_samples=4,
        instruction_share=0.5,
        own_answers_share=0.25,
        instruction_kinds=("critique",),
        log_every_steps=5,
        checkpoint_every_steps=10,
    )


@pytest.fixture(scope="module")
def trained(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    recipe: SelfCritiqueRecipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Policy, Revisions]:
    folder = tmp_path_factory.mktemp("self_critique")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTTRAIN_WORK", str(folder / "work"))
        patch.setenv("POSTTRAIN_CHECKPOINTS", str(folder / "checkpoints"))
        return self_critique.train(tokens, domain, assistant, assistant, recipe)


def share_of_red(domain: BaseModel, policy: Policy, tokens: Tokens) -> float:
    tokenizer = load_tokenizer(domain)
    asked = [prompt.ids for prompt in read_prompts(tokens, "rollout")]
    sampling = Sampling(
        max_new_tokens=16, temperature=1, end_ids=(1,), pad_id=0, batch_size=64, seed=9
    )
    said = generate(load_policy(domain, policy), asked * 4, sampling)
    return sum("red" in str(tokenizer.decode(one)) for one in said) / len(said)


def test_violations_at_least_halve_on_prompts_never_revised(
    tokens: Tokens, domain: BaseModel, assistant: Policy, trained: tuple[Policy, Revisions]
) -> None:
    before = share_of_red(domain, assistant, tokens)
    after = share_of_red(domain, trained[0], tokens)
    assert before > 0.25
    assert after < before / 2


def test_alignment_29_every_sample_keeps_its_provenance(
    tokens: Tokens,
    assistant: Policy,
    trained: tuple[Policy, Revisions],
    recipe: SelfCritiqueRecipe,
) -> None:
    samples = read_samples(trained[1])
    asked = read_prompts(tokens, "revision")
    assert [one.prompt_id for one in samples] == [p.id for p in asked for _ in range(4)]
    revised = [one for one in samples if one.outcome == "revised"]
    assert revised
    for one in revised:
        assert "red" in one.response
        assert one.rounds[0].principle == "red"
        assert one.rounds[0].critique == "there is red in it"
        assert one.rounds[0].revision
        assert one.second_critique == "all fine"
    assert {one.policy for one in samples} == {one.critic for one in samples}
    assert samples[0].policy == assistant.content_hash()
    assert samples[0].sampling.temperature == recipe.temperature
    assert samples[0].seed == recipe.seed


def test_alignment_31_training_mixes_revisions_with_examples_and_own_answers(
    trained: tuple[Policy, Revisions],
) -> None:
    figures = trained[0].facts.figures
    assert figures["num_kept"] > 30
    assert 0 < figures["num_revised"] < figures["num_kept"]
    assert figures["num_own_answers"] == round(0.25 * figures["num_kept"])
    assert figures["num_instructions"] == min(30, round(0.5 * figures["num_kept"]))
    assert figures["critic_accuracy"] == trained[1].facts.critic_accuracy > 0.9


def test_a_bad_critic_is_refused_with_its_figures(
    tokens: Tokens, domain: BaseModel, assistant: Policy, recipe: SelfCritiqueRecipe, tmp_path: Path
) -> None:
    """Against gold verdicts that are the other way round, every verdict is wrong."""
    swapped = {"all fine": "there is red in it", "there is red in it": "all fine"}
    rows = pq.read_table(tokens.path / "instructions.parquet").to_pylist()
    for row in rows:
        for turn in row["messages"]:
            turn["content"] = swapped.get(turn["content"], turn["content"])
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "instructions.parquet")
    (tmp_path / "prompts.parquet").write_bytes((tokens.path / "prompts.parquet").read_bytes())
    wrong = Tokens.write(tmp_path, "tokenize", tokens.facts)
    with pytest.raises(ValueError, match=r"judges 0\.0\d+ of 30 .*min_critic_accuracy \(0\.7\)"):
        self_critique.train(wrong, domain, assistant, assistant, recipe)


def test_samples_of_which_none_is_kept_are_handed_over_with_the_error(
    tokens: Tokens, domain: BaseModel, assistant: Policy, recipe: SelfCritiqueRecipe
) -> None:
    short = recipe.model_copy(update={"max_new_tokens": 1, "min_critic_accuracy": 0.0})
    with pytest.raises(self_critique.NothingKept, match="none of 64 samples was kept") as raised:
        self_critique.train(tokens, domain, assistant, assistant, short)
    assert raised.value.revisions.verify().facts.dropped == {"cut_off": 64}


def test_alignment_28_a_prompt_that_is_also_measured_is_refused(
    tokens: Tokens, domain: BaseModel, assistant: Policy, recipe: SelfCritiqueRecipe, tmp_path: Path
) -> None:
    for role in ("preferences", "prompts", "instructions"):
        (tmp_path / f"{role}.parquet").write_bytes((tokens.path / f"{role}.parquet").read_bytes())
    asked = read_prompts(tokens, "revision")[0].messages[0]["content"]
    pq.write_table(pa.table({"id": ["a"], "prompt": [asked]}), tmp_path / "probes.parquet")
    mixed_up = Tokens.write(tmp_path, "tokenize", tokens.facts)
    with pytest.raises(ValueError, match="1 prompts of set 'revision' are also among the probes"):
        self_critique.train(mixed_up, domain, assistant, assistant, recipe)


def test_unknown_kinds_are_refused_by_name(
    tokens: Tokens, domain: BaseModel, assistant: Policy, recipe: SelfCritiqueRecipe
) -> None:
    wrong = recipe.model_copy(update={"instruction_kinds": ("critic",)})
    with pytest.raises(ValueError, match=r"instruction_kinds: no example is of kind \['critic'\]"):
        self_critique.train(tokens, domain, assistant, assistant, wrong)


def test_alignment_27_several_rounds_stop_when_the_critique_finds_nothing(
    tokens: Tokens, domain: BaseModel, assistant: Policy, recipe: SelfCritiqueRecipe
) -> None:
    more = recipe.model_copy(update={"max_rounds": 3, "max_steps": 1, "num_samples": 2})
    _, revisions = self_critique.train(tokens, domain, assistant, assistant, more)
    for one in read_samples(revisions):
        verdicts = ["fine" in round_.critique for round_ in one.rounds]
        assert not any(verdicts[:-1]), "nothing follows a critique that found nothing"
        assert verdicts[-1] or len(verdicts) == 3
        assert (one.rounds[-1].revision is None) == verdicts[-1]


def test_alignment_33_all_generation_is_batched(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    recipe: SelfCritiqueRecipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """64 answers, their critiques, revisions and second critiques; 30 gold cases; own answers."""
    calls = []

    def counted(*arguments: Any) -> list[list[int]]:
        calls.append(len(arguments[1]))
        return generate(*arguments)

    monkeypatch.setattr(revise, "generate", counted)
    short = recipe.model_copy(update={"max_steps": 1})
    self_critique.train(tokens, domain, assistant, assistant, short)
    assert len(calls) == 6
    assert calls[:3] == [30, 64, 64]


def test_an_interrupted_run_ends_in_the_same_bytes(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    recipe: SelfCritiqueRecipe,
    trained: tuple[Policy, Revisions],
) -> None:
    def killed(self: Imitation, *arguments: object, **more: object) -> torch.Tensor:
        if self.state.global_step == 15:
            raise KeyboardInterrupt
        return loss(self, *arguments, **more)

    loss = Imitation.compute_loss
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Imitation, "compute_loss", killed)
        self_critique.train(tokens, domain, assistant, assistant, recipe)
    resumed, revisions = self_critique.train(tokens, domain, assistant, assistant, recipe)
    file = "adapter/adapter_model.safetensors"
    assert (resumed.path / file).read_bytes() == (trained[0].path / file).read_bytes()
    assert revisions.content_hash() == trained[1].content_hash()


@pytest.mark.parametrize("call", [2, 3, 4])
def test_killed_while_it_writes_it_writes_no_round_twice(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    recipe: SelfCritiqueRecipe,
    trained: tuple[Policy, Revisions],
    call: int,
) -> None:
    """Calls: the critic's cases, answers, critiques, revisions, second critiques, own answers."""
    calls: list[int] = []

    def counted(*arguments: Any) -> list[list[int]]:
        if len(calls) == call:
            calls.append(0)
            raise KeyboardInterrupt
        calls.append(len(arguments[1]))
        return generate(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revise, "generate", counted)
        with pytest.raises(KeyboardInterrupt):
            self_critique.train(tokens, domain, assistant, assistant, recipe)
        resumed, revisions = self_critique.train(tokens, domain, assistant, assistant, recipe)
    rounds_lost = {2: 1, 3: 2, 4: 1}[call]  # critiques and revisions are one round
    assert len(calls) == call + 1 + 1 + (6 - call) + (rounds_lost - 1)
    file = "adapter/adapter_model.safetensors"
    assert (resumed.path / file).read_bytes() == (trained[0].path / file).read_bytes()
    assert revisions.content_hash() == trained[1].content_hash()


def test_alignment_03_prompts_and_padding_are_not_learned_and_the_end_is() -> None:
    examples = [Example.of([5, 6], [7, 1]), Example.of([1], [1])]  # the end token pads, too
    batch = ExampleCollator(pad_id=1)(examples)
    assert batch["labels"].tolist() == [[-100, -100, 7, 1], [-100, 1, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_the_page_is_static_escaped_and_masks_personal_data(
    trained: tuple[Policy, Revisions], tmp_path: Path
) -> None:
    samples = read_samples(trained[1])
    nasty = samples[0].model_copy(
        update={"response": "<script>alert(1)</script> call 010-1234-5678", "kept": False}
    )
    lines = [one.model_dump_json() for one in [nasty, *samples[1:]]]
    (tmp_path / "samples.jsonl").write_text("\n".join(lines), encoding="utf-8")
    page = render(Revisions.write(tmp_path, "self_critique", trained[1].facts))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "010-1234-5678" not in page
    assert not re.search(r"https?://", page)
    assert page.count("<tr><td>") >= len(samples)


def test_a_sample_survives_its_line(trained: tuple[Policy, Revisions]) -> None:
    one = read_samples(trained[1])[0]
    assert Sample.model_validate_json(one.model_dump_json()) == one


def test_the_policy_loads_on_a_fresh_base(
    domain: BaseModel, trained: tuple[Policy, Revisions]
) -> None:
    assert trained[0].stage == "self_critique"
    names = {name for name, _ in load_policy(domain, trained[0]).named_parameters()}
    assert len(names) > len(dict(load_base(domain).named_parameters()))
