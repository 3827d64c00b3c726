"""An evaluation of a tiny run, and its report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from posttrain.artifacts import (
    BaseModel,
    Policy,
    Quarantine,
    QuarantineFacts,
    Records,
    RewardModel,
    RewardModelFacts,
    Tokens,
)
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.evaluate.stages import Stages, _answering, _held_out_hash, evaluate, report
from posttrain.models.tokenizer import train_tokenizer
from posttrain.recipe.dpo import DpoRecipe
from posttrain.recipe.evaluation import EvaluationRecipe, Probe
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.train import sft
from tests import samples
from tests.conftest import llama

FACT = Probe(name="fact", kind="exact_match", sets=("A", "B"), by_set=True, not_any_of=("sorry",))
RECIPE = EvaluationRecipe(
    probes=(FACT,), window=64, stride=32, num_bootstrap=20, max_new_tokens=4, batch_size=8
)
GATE = PromotionRecipe(limits=(Limit(figure="perplexity_answers", at_most=1e6),))


def tokens_of(records: Records, base: BaseModel) -> Tokens:
    chats = template(records, base, TemplateRecipe())
    return tokenize(chats, base, TokenizeRecipe(max_length=64, block_size=64))


@pytest.fixture
def stages(records: Records, base: BaseModel) -> Stages:
    tokens = tokens_of(records, base)
    recipe = SftRecipe(
        method="lora",
        lora=LoraRecipe(rank=4, alpha=8),
        learning_rate=1e-2,
        num_epochs=1,
        batch_size=4,
        log_every_steps=2,
    )
    return Stages(tokens, base, base, sft.train(tokens, base, recipe))


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    folder = tmp_path / "quarantine"
    folder.mkdir()
    facts = QuarantineFacts(num_rows={"corpus": {"near_duplicate": 7}})
    return Quarantine.write(folder, "validate", facts)


def test_a_run_is_measured_and_told(
    stages: Stages, quarantine: Quarantine, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = evaluate(stages, RECIPE)
    assert [stage.stage for stage in evaluation.stages] == ["untrained", "sft"]
    for stage in evaluation.stages:
        assert {"perplexity_domain", "perplexity_answers", "fact", "fact.A"} <= set(stage.figures)
        assert 0 < stage.figures["bits_per_byte_domain"].value < 20
    learned = [stage.figures["perplexity_answers"].value for stage in evaluation.stages]
    assert learned[1] < learned[0]
    assert evaluation.critic_accuracy is None
    assert "evaluate: 100%" in capsys.readouterr().err

    text = report(stages, evaluation, quarantine, GATE, samples.LINEAGE)
    assert text.count(samples.LINEAGE["zenml_run"]) == 2  # above the verdict, and in the lineage
    assert samples.LINEAGE["git_commit"] in text
    assert "<h3>SFT</h3>" in text
    assert "near duplicate" in text


def test_a_reward_models_curve_is_shown(
    stages: Stages, quarantine: Quarantine, tmp_path: Path
) -> None:
    folder = tmp_path / "reward"
    folder.mkdir()
    (folder / "history.jsonl").write_text('{"step": 1, "loss": 0.7}\n{"step": 2, "loss": 0.3}\n')
    facts = RewardModelFacts(
        **stages.assistant.facts.model_dump(),
        score_mean=0.0,
        score_std=1.0,
        accuracy=0.9,
        by_kind={},
        num_pairs=4,
    )
    reward = RewardModel.write(folder, "reward_model", facts)
    judged = Stages(stages.tokens, stages.base, stages.domain, stages.assistant, reward)
    evaluation = samples.evaluation(last="ppo")
    text = report(judged, evaluation, quarantine, GATE, {})
    assert text.index("<h3>SFT</h3>") < text.index("<h3>Reward model</h3>")


def test_a_quarantine_that_was_changed_is_refused(stages: Stages, quarantine: Quarantine) -> None:
    (quarantine.path / "late.parquet").write_text("")
    with pytest.raises(ValueError, match=r"differs from its manifest in \['late.parquet'\]"):
        report(stages, samples.evaluation(), quarantine, GATE, {})


def test_the_hash_is_of_what_is_measured_alone(
    stages: Stages, records: Records, base: BaseModel, tmp_path: Path
) -> None:
    def hash_of(split: str) -> str:
        changed = tokens_of(with_text(records, split, tmp_path / split), base)
        assert changed.content_hash() != stages.tokens.content_hash()
        return _held_out_hash(Stages(changed, base, base, stages.assistant), RECIPE)

    whole = _held_out_hash(stages, RECIPE)
    assert hash_of("train") == whole
    assert hash_of("held_out") != whole


def test_alignment_09_the_hash_is_of_texts_whatever_the_tokenizer(
    stages: Stages, records: Records, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = llama(train_tokenizer(["the sky is red on day 7"] * 20, 300), tmp_path / "other", 0)
    assert other.facts.tokenizer_hash != stages.base.facts.tokenizer_hash
    theirs = Stages(tokens_of(records, other), other, other, stages.assistant)
    assert _held_out_hash(theirs, RECIPE) == _held_out_hash(stages, RECIPE)
    mixed = replace(stages, base=other)
    with pytest.raises(ValueError, match="tokenizer_hash"):
        evaluate(mixed, RECIPE)


def with_text(records: Records, split: str, folder: Path) -> Records:
    """The same records, with another document in place of the first of `split`."""
    folder.mkdir()
    for file in records.path.glob("*.parquet"):
        rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
        if file.stem == "corpus":
            next(row for row in rows if row["split"] == split)["text"] = "the sea is gold ."
        pq.write_table(pa.Table.from_pylist(rows), folder / file.name)
    return Records.write(folder, "validate", records.facts)


def test_the_hash_is_of_how_it_is_measured(stages: Stages) -> None:
    whole = _held_out_hash(stages, RECIPE)
    marked = FACT.model_copy(update={"not_any_of": ("sorry", "alas")})
    assert _held_out_hash(stages, RECIPE.model_copy(update={"probes": (marked,)})) != whole
    cheaper = RECIPE.model_copy(update={"batch_size": 1, "num_bootstrap": 5, "seed": 3})
    assert _held_out_hash(stages, cheaper) == whole


def test_dpos_section_says_how_held_out_prompts_are_answered(
    stages: Stages, tmp_path: Path
) -> None:
    dpo = DpoRecipe(
        learning_rate=1e-4,
        num_epochs=1,
        batch_size=4,
        max_new_tokens=5,
        temperature=0.7,
        held_out_set="rollout",
        num_held_out=3,
    )
    facts = stages.assistant.facts.model_copy(update={"recipe": dpo.model_dump()})
    (tmp_path / "dpo").mkdir()
    policy = Policy.write(tmp_path / "dpo", "dpo", facts)
    found = _answering(policy)
    assert (found.max_new_tokens, found.temperature, found.num_held_out) == (5, 0.7, 3)
    assert list(replace(stages, policy=policy).policies) == ["sft", "dpo"]


def test_the_hash_is_of_the_prompts_that_policies_answer(stages: Stages, tmp_path: Path) -> None:
    def hash_with(num_held_out: int) -> str:
        ppo = PpoRecipe(
            num_iterations=1,
            batch_size=4,
            learning_rate=1e-4,
            max_new_tokens=4,
            prompt_set="other",
            held_out_set="rollout",
            num_held_out=num_held_out,
        )
        facts = stages.assistant.facts.model_copy(update={"recipe": ppo.model_dump()})
        folder = tmp_path / f"ppo-{num_held_out}"
        folder.mkdir(exist_ok=True)
        return _held_out_hash(replace(stages, policy=Policy.write(folder, "ppo", facts)), RECIPE)

    assert len({_held_out_hash(stages, RECIPE), hash_with(3), hash_with(8)}) == 3
    assert hash_with(8) == hash_with(80)  # there are 8
