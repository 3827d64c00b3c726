from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator

from posttrain.recipe import PostTrainingRecipe, Recipe
from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from posttrain.recipe.dpo import DpoRecipe
from posttrain.recipe.promotion import Limit
from posttrain.reports import Stage


@pytest.fixture
def values() -> dict[str, Any]:
    text = Path("zenml_config.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["parameters"]["recipe"]
    return found


def test_sections_inherit_the_seed_unless_they_name_one(values: dict[str, Any]) -> None:
    values["seed"] = 7
    values["sft"]["seed"] = 3
    recipe = Recipe(**values)
    assert recipe.base_finetune.seed == recipe.evaluation.seed == 7
    assert recipe.sft.seed == 3


def test_a_gate_on_a_figure_that_nobody_measures_is_refused(values: dict[str, Any]) -> None:
    values["promotion"]["limits"].append({"figure": "fact_accuracyy", "at_least": 0.5})
    with pytest.raises(ValueError, match="promotion names the figure 'fact_accuracyy'"):
        Recipe(**values)


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("fact_accuracy.Z", r"\['fact_accuracy', 'fact_accuracy.A', .*, 'fact_accuracy.C'\]"),
        ("helpfulness.A", r"\['helpfulness'\] \(a probe reports its `sets` with `by_set: true`"),
        ("ended_share.A", r"\['ended_share'\]"),
    ],
)
@pytest.mark.parametrize("rules", ["limits", "against_champion"])
def test_a_gate_on_a_set_that_is_not_reported_is_refused(
    values: dict[str, Any], rules: str, figure: str, message: str
) -> None:
    compared = {"higher_is_better": True, "max_loss": 0.01}
    bound = {"at_least": 0.5} if rules == "limits" else compared
    values["promotion"][rules].append({"figure": figure, **bound})
    start = (
        f"promotion names the figure '{figure}', and evaluation reports no such set; name one of"
    )
    with pytest.raises(ValueError, match=f"{start} {message}"):
        Recipe(**values)


def test_no_base_ft_needs_no_figures(values: dict[str, Any]) -> None:
    values["base_finetune"] = {"method": "none"}
    values["promotion"]["limits"] = [{"figure": "fact_accuracy", "at_least": 0.5}]
    assert Recipe(**values).base_finetune.method == "none"
    values["base_finetune"] = {"method": "lora"}
    with pytest.raises(ValueError, match=r"base_finetune\.learning_rate"):
        Recipe(**values)
    validator = Draft202012Validator(BaseFinetuneRecipe.model_json_schema())
    assert [error.message for error in validator.iter_errors({"method": "none"})] == []
    errors = [error.message for error in validator.iter_errors({"method": "lora"})]
    assert "'learning_rate' is a required property" in errors


def test_the_gate_knows_the_figures_of_rouge(values: dict[str, Any]) -> None:
    probe = {"name": "rouge", "kind": "rouge", "sets": ["A"], "by_set": True}
    values["evaluation"]["probes"].append(probe)
    limits = values["promotion"]["limits"]
    limits += [{"figure": "rouge_l", "at_least": 0.2}, {"figure": "rouge_2.A", "at_least": 0.1}]
    Recipe(**values)
    limits.append({"figure": "rouge", "at_least": 0.2})
    with pytest.raises(ValueError, match=r"the figure 'rouge', which .*'rouge_1', .*'rouge_2'"):
        Recipe(**values)


def test_no_probe_takes_the_name_of_one_of_rouges_figures(values: dict[str, Any]) -> None:
    values["evaluation"]["probes"] += [
        {"name": "rouge", "kind": "rouge", "sets": ["A"]},
        {"name": "rouge_l", "kind": "exact_match", "sets": ["A"]},
    ]
    with pytest.raises(ValueError, match=r"names used twice: \['rouge_l'\]"):
        Recipe(**values)


@pytest.mark.parametrize(
    ("section", "field", "value", "about"),
    [
        ("base_model", "source", "registry:REQUIRED@champion", "What to load"),
        ("self_critique", "constitution", "REQUIRED", "Path of the principles"),
    ],
)
def test_what_only_a_user_can_write_is_refused_until_written(
    values: dict[str, Any], section: str, field: str, value: str, about: str
) -> None:
    values["base_model"] = {"source": "a/b"}
    Recipe(**values)
    values[section][field] = value
    with pytest.raises(ValueError) as error:
        Recipe(**values)
    start = f"{section}.{field} is {value!r}: it has no value until you write one. What it is:"
    assert f"{start} {about}" in str(error.value)


def test_required_data_are_named_by_their_columns(values: dict[str, Any]) -> None:
    source = {"source": "REQUIRED", "compose": {"prompt": "요약: {text}"}}
    values["ingest"]["instructions"] = source | {"fields": {"response": "summary"}}
    with pytest.raises(ValueError) as error:
        Recipe(**values)
    assert (
        "ingest.instructions.source is REQUIRED: these are your own data; write the path of a file "
        "(or a hub id, with `format: hub`) whose rows have the columns 'text' and 'summary'"
    ) in str(error.value)
    values["ingest"]["instructions"] = {"source": "REQUIRED"}
    with pytest.raises(
        ValueError, match=r"the column 'messages', or 'prompt' and 'response' \(ing"
    ):
        Recipe(**values)


@pytest.mark.parametrize("figure", ["mean_score", "score_std", "kl_to_sft"])
def test_figures_on_a_runs_own_scale_are_bounded_and_not_compared(
    values: dict[str, Any], figure: str
) -> None:
    values["promotion"]["limits"].append({"figure": figure, "at_most": 5})
    PostTrainingRecipe(**values)
    compared = {"figure": figure, "higher_is_better": True, "max_loss": 0.1}
    values["promotion"]["against_champion"].append(compared)
    message = (
        f"promotion.against_champion names '{figure}': .* its own run's reward model .* on "
        "another scale; bound it by promotion.limits"
    )
    with pytest.raises(ValueError, match=message):
        Recipe(**values)


def test_limits_are_of_the_stages_that_are_reported(values: dict[str, Any]) -> None:
    assert get_args(Limit.model_fields["stage"].annotation) == ("final", *get_args(Stage))
    values["promotion"]["limits"].append({"stage": "kto", "figure": "helpfulness", "at_most": 1})
    with pytest.raises(ValueError, match=r"(?s)limits.6.stage.*'final'.*input_value='kto'"):
        Recipe(**values)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"stage": "ppo", "figure": "helpfulness"}, r"'ppo', which this run does not have \(it"),
        ({"stage": "rlaif", "figure": "helpfulness"}, "'rlaif', which this run does not have"),
        ({"figure": "mean_score"}, "'mean_score', which this run does not measure"),
        ({"figure": "kl_to_sft"}, "'kl_to_sft', which this run does not measure"),
        ({"figure": "helpful"}, r"'helpful', which this run does not measure.*'helpfulness'"),
    ],
)
def test_a_gate_of_what_fine_tuning_does_not_measure_is_refused(
    values: dict[str, Any], limit: dict[str, Any], message: str
) -> None:
    values["promotion"]["limits"].append({**limit, "at_least": 0.0})
    with pytest.raises(ValueError, match=f"(?s){message}"):
        Recipe(**values)


@pytest.mark.parametrize(
    ("limit", "stages"),
    [
        ({"stage": "sft", "figure": "kl_to_sft"}, "ppo and self_critique alone"),
        ({"stage": "untrained", "figure": "mean_score"}, "sft and ppo and self_critique alone"),
        ({"stage": "sft", "figure": "harness.arc_easy.acc"}, "untrained and self_critique alone"),
    ],
)
def test_a_gate_of_a_stage_that_lacks_the_figure_is_refused(
    values: dict[str, Any], limit: dict[str, Any], stages: str
) -> None:
    values["evaluation"]["harness"] = {"tasks": ["arc_easy"]}
    values["promotion"]["limits"].append({**limit, "at_most": 9.0})
    with pytest.raises(ValueError, match=f"of {limit['stage']}, and it is measured of {stages}"):
        PostTrainingRecipe(**values)
    values["promotion"]["limits"][-1]["stage"] = stages.split()[-2]
    PostTrainingRecipe(**values)


def test_a_gate_of_data_that_are_absent_is_refused(values: dict[str, Any]) -> None:
    values["promotion"] = {"limits": [{"figure": "perplexity_answers", "at_most": 9}]}
    Recipe(**values)
    del values["ingest"]["instructions"]
    with pytest.raises(ValueError, match="'perplexity_answers', which this run does not measure"):
        Recipe(**values)


@pytest.mark.parametrize(
    ("rules", "rule", "message"),
    [
        ("limits", {"figure": "helpfulness"}, "final helpfulness has no bound"),
        (
            "limits",
            {"figure": "helpfulness", "at_least": 0.9, "at_most": 0.8},
            "at_least 0.9 above at_most 0.8: nothing lies between",
        ),
        (
            "limits",
            {"figure": "fact_accuracy.A", "at_least": 85},
            "at_least 85, and it is a share, from 0 to 1; write at_least: 0.85 for 85 per cent",
        ),
        ("limits", {"figure": "violation_rate", "at_most": -1}, "it is a share, from 0 to 1"),
        ("limits", {"figure": "perplexity_domain", "at_most": 0.5}, "no perplexity is below 1"),
        ("limits", {"figure": "helpfulness", "at_least": float("nan")}, "finite number"),
        (
            "against_champion",
            {"figure": "helpfulness", "higher_is_better": True},
            "helpfulness names neither of max_loss and min_gain; give one",
        ),
        (
            "against_champion",
            {"figure": "helpfulness", "higher_is_better": True, "max_loss": 0.1, "min_gain": 0},
            "helpfulness names both of max_loss and min_gain; give one",
        ),
        (
            "against_champion",
            {"figure": "helpfulness", "higher_is_better": True, "max_loss": 5},
            "write max_loss: 0.05 for 5 per cent; or add in_percent: true",
        ),
        (
            "against_champion",
            {"figure": "perplexity_domain", "higher_is_better": True, "max_loss": 5},
            "has higher_is_better: true, and lower is better; set it to false",
        ),
    ],
)
def test_a_gate_that_can_not_hold_is_refused(
    values: dict[str, Any], rules: str, rule: dict[str, Any], message: str
) -> None:
    values["promotion"][rules].append(rule)
    with pytest.raises(ValueError, match=message):
        Recipe(**values)


DPO = {"learning_rate": 1e-4, "num_epochs": 1, "batch_size": 4, "max_new_tokens": 64}


def test_the_chosen_method_needs_its_section_and_no_other(values: dict[str, Any]) -> None:
    values["preference_method"] = "dpo"
    message = "dpo is absent, and preference_method is 'dpo'; add the section"
    with pytest.raises(ValueError, match=message):
        PostTrainingRecipe(**values)
    values["dpo"] = DPO
    del values["ppo"]
    assert isinstance(PostTrainingRecipe(**values).answering, DpoRecipe)
    values["preference_method"] = "ppo"
    with pytest.raises(ValueError, match="ppo is absent, and preference_method is 'ppo'"):
        PostTrainingRecipe(**values)


def test_the_method_that_is_not_chosen_asks_for_no_length(values: dict[str, Any]) -> None:
    values["dpo"] = {**DPO, "max_new_tokens": 9_999}
    assert PostTrainingRecipe(**values).longest_sequence[1] == 416
    values["preference_method"] = "dpo"
    with pytest.raises(ValueError, match=r"dpo.max_new_tokens \(9999\) must leave room"):
        PostTrainingRecipe(**values)


def test_a_second_round_is_of_ppo_alone(values: dict[str, Any]) -> None:
    values |= {"preference_method": "dpo", "dpo": DPO, "rlaif": {"enabled": True}}
    with pytest.raises(ValueError, match=r"rlaif\.enabled is true and preference_method is 'dpo'"):
        PostTrainingRecipe(**values)


def test_figures_of_a_second_round_are_known_where_there_is_one(values: dict[str, Any]) -> None:
    values["promotion"]["limits"].append({"figure": "rlaif_score", "at_least": 0})
    with pytest.raises(ValueError, match="promotion names the figure 'rlaif_score'"):
        PostTrainingRecipe(**values)
    values["rlaif"] = {"enabled": True}
    assert PostTrainingRecipe(**values).has_second_round


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "{first} or {second}?"}, r"names \['first', 'second'\]; it must hold"),
        ({"question": "{prompt} {first} {second} {third}"}, r"'third'\]; it must hold"),
        ({"options": ["A", "A"]}, "rlaif.options are both 'A'"),
    ],
)
def test_the_judges_question_is_whole(
    values: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    values["rlaif"] = changes
    with pytest.raises(ValueError, match=message):
        Recipe(**values)


@pytest.mark.parametrize(
    ("role", "changes", "message"),
    [
        (
            "corpus",
            {"base_model": {"source": "some/hub-model"}},
            "absent, and base_finetune.method is 'full'",
        ),
        (
            "corpus",
            {
                "base_finetune": {
                    "method": "none",
                    "learning_rate": 1e-3,
                    "num_epochs": 1,
                    "batch_size": 1,
                }
            },
            "absent, and base_model.from_config trains a tokenizer",
        ),
        ("probes", {}, "absent, and evaluation.probes names 4"),
        ("preferences", {}, "absent, and reward_model trains on it"),
        ("prompts", {}, "absent, and ppo and self_critique answer them"),
    ],
)
def test_a_stage_without_its_data_is_refused(
    values: dict[str, Any], role: str, changes: dict[str, Any], message: str
) -> None:
    del values["ingest"][role]
    values |= changes
    with pytest.raises(ValueError, match=f"ingest.{role} is {message}; name a source for it"):
        PostTrainingRecipe(**values)


def test_a_recipe_without_instructions_is_written_and_not_run(values: dict[str, Any]) -> None:
    del values["ingest"]["instructions"]
    recipe = Recipe(**values)
    with pytest.raises(ValueError, match=r"ingest.instructions is absent, and sft trains on it"):
        _ = recipe.preflight


def test_fine_tuning_alone_needs_no_alignment_data(values: dict[str, Any]) -> None:
    del values["ingest"]["preferences"], values["ingest"]["prompts"]
    values["sft"]["method"] = "full"
    assert Recipe(**values).preflight.target_modules == {"sft": ()}


def test_alignment_on_a_full_fine_tune_is_refused(values: dict[str, Any]) -> None:
    values["sft"]["method"] = "full"
    with pytest.raises(ValueError, match=r"sft.method is 'full'; set it to .lora., .* one base"):
        PostTrainingRecipe(**values)


@pytest.mark.parametrize("method", ["lora", "qlora", "dora", "bottleneck"])
def test_alignment_takes_every_kind_of_adapter(values: dict[str, Any], method: str) -> None:
    values["sft"]["method"] = method
    preflight = PostTrainingRecipe(**values).preflight
    assert preflight.bottleneck == (("sft",) if method == "bottleneck" else ())
    assert preflight.target_modules == {"sft": () if method == "bottleneck" else "all-linear"}


def test_sequences_longer_than_the_positions_are_refused(values: dict[str, Any]) -> None:
    values["tokenize"]["max_length"] = 4096
    message = (
        r"tokenize.max_length \+ \w+.max_new_tokens \(4160\) exceeds "
        r"base_model.from_config.max_positions \(512\); lower the one or raise the other"
    )
    with pytest.raises(ValueError, match=message):
        Recipe(**values)


@pytest.mark.parametrize("section", ["evaluation", "reward_model", "ppo", "self_critique"])
def test_a_response_after_the_longest_prompt_fits(values: dict[str, Any], section: str) -> None:
    values["tokenize"]["max_length"] = 400
    values[section]["max_new_tokens"] = 112
    assert Recipe(**values).preflight.longest_sequence == 512
    values[section]["max_new_tokens"] = 113
    message = rf"tokenize.max_length \+ {section}.max_new_tokens \(513\) exceeds"
    with pytest.raises(ValueError, match=message):
        Recipe(**values)


@pytest.mark.parametrize(
    ("section", "changes", "fields", "longest"),
    [
        ("tokenize", {}, "tokenize.block_size", 416),
        ("base_finetune", {"method": "none"}, "tokenize.max_length + evaluation", 320),
        ("evaluation", {"window": 500}, "evaluation.window", 500),
    ],
)
def test_the_longest_sequence_is_of_stages_that_run(
    values: dict[str, Any], section: str, changes: dict[str, Any], fields: str, longest: int
) -> None:
    values[section] |= changes
    values["promotion"]["limits"] = [{"figure": "fact_accuracy", "at_least": 0.5}]
    preflight = Recipe(**values).preflight
    assert preflight.longest_sequence == longest
    assert preflight.longest_fields.startswith(fields)


def test_without_probes_evaluation_writes_no_response(values: dict[str, Any]) -> None:
    values["evaluation"] |= {"probes": [], "max_new_tokens": 4096}
    values["promotion"] = {"limits": [{"figure": "perplexity_domain", "at_most": 10}]}
    assert Recipe(**values).preflight.longest_sequence == 416


def test_from_config_needs_its_section(values: dict[str, Any]) -> None:
    values["base_model"] = {"source": "from_config"}
    with pytest.raises(ValueError, match="from_config is absent; they go together"):
        Recipe(**values)


def test_the_recipe_is_immutable(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe(**values).seed = 1  # type: ignore[misc]


def test_alignment_21_a_reward_model_of_its_own_lends_the_value_function_nothing(
    values: dict[str, Any],
) -> None:
    values["reward_model"]["method"] = "full"
    with pytest.raises(ValueError, match=r"ppo\.value_init is 'reward_model'.* set .* to 'sft'"):
        PostTrainingRecipe(**values)
    values["ppo"]["value_init"] = "sft"
    assert PostTrainingRecipe(**values).reward_model.method == "full"


def test_a_bottleneck_cannot_be_merged_into_a_reward_model(values: dict[str, Any]) -> None:
    values["reward_model"]["method"] = "full"
    values["ppo"]["value_init"] = "sft"
    values["sft"]["method"] = "bottleneck"
    with pytest.raises(ValueError, match=r"sft\.method is 'bottleneck', which cannot be merged"):
        PostTrainingRecipe(**values)
