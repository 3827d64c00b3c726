"""An evaluation of a tiny run, and its report."""

from dataclasses import replace
from pathlib import Path

import pytest

from posttrain.artifacts import Quarantine, RewardModel
from posttrain.evaluate import bootstrap
from posttrain.evaluate.language import both
from posttrain.evaluate.stages import Stages, evaluate, report
from posttrain.evaluate.wording import stage_label
from posttrain.facts import RewardModelFacts
from posttrain.models.tokenizer import train_tokenizer
from posttrain.recipe.promotion import Limit, PromotionRecipe
from tests import samples
from tests.conftest import llama
from tests.tiny_run import RECIPE

GATE = PromotionRecipe(limits=(Limit(figure="perplexity_answers", at_most=1e6),))


def test_a_run_is_measured_and_told(
    stages: Stages, quarantine: Quarantine, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = evaluate(stages, quarantine, RECIPE)
    assert [stage.stage for stage in evaluation.stages] == ["untrained", "sft"]
    for stage in evaluation.stages:
        assert {"perplexity_domain", "perplexity_answers", "fact", "fact.A"} <= set(stage.figures)
        assert 0 < stage.figures["bits_per_byte_domain"].value < 20
    learned = [stage.figures["perplexity_answers"].value for stage in evaluation.stages]
    assert learned[1] < learned[0]
    assert evaluation.critic_accuracy is None
    measured = evaluation.stages[-1].figures
    assert set(evaluation.items) == set(measured)  # of the last stage, and of all that it has
    for name, items in evaluation.items.items():
        assert bootstrap.of_items(items, RECIPE.num_bootstrap, RECIPE.seed) == measured[name], name
    assert evaluation.items["fact"].is_hit_or_miss
    assert evaluation.items["perplexity_answers"].is_log
    assert "evaluate: 100%" in capsys.readouterr().err
    assert evaluation.base == stages.base.facts.reference
    corpus = evaluation.data["corpus"]
    assert (corpus.source, corpus.revision) == ("acme/skies", "4be1d2")
    assert corpus.counts == stages.tokens.facts.counts["corpus"]
    assert corpus.quarantined == {"near_duplicate": 7}
    assert evaluation.data["instructions"].source is None  # the quarantine names none
    (trained,) = evaluation.trainings
    assert (trained.stage, trained.method) == ("sft", "lora")
    assert trained.recipe["learning_rate"] == 1e-2
    assert [cost.step for cost in evaluation.costs] == ["evaluate"]  # no step made the others
    assert evaluation.costs[0].tokens["generated"] > 0

    text = report(stages, evaluation, GATE, samples.LINEAGE)
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
    text = report(judged, evaluation, GATE, {})
    curve = both(stage_label, "reward_model").__html__()
    assert text.index("<h3>SFT</h3>") < text.index(f"<h3>{curve}")


def test_a_quarantine_that_was_changed_is_refused(stages: Stages, quarantine: Quarantine) -> None:
    (quarantine.path / "late.parquet").write_text("")
    with pytest.raises(ValueError, match=r"differs from its manifest in \['late.parquet'\]"):
        evaluate(stages, quarantine, RECIPE)


def test_bases_of_two_tokenizers_are_refused(
    stages: Stages, quarantine: Quarantine, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = llama(train_tokenizer(["the sky is red on day 7"] * 20, 300), tmp_path / "other", 0)
    with pytest.raises(ValueError, match="tokenizer_hash"):
        evaluate(replace(stages, base=other), quarantine, RECIPE)
