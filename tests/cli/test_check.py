"""`posttrain check` on real files: each mistake by its sentence, all of them at once."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from cli.main import app
from posttrain.artifacts import BaseModel
from tests.cli.runs import instructions, model_folder, recipe, write


@pytest.fixture
def run(base: BaseModel, tmp_path: Path) -> dict[str, Any]:
    """A recipe in which nothing is wrong."""
    source = instructions(tmp_path)
    return recipe(str(source), str(model_folder(base, tmp_path / "model")))


def check(tmp_path: Path, recipe: dict[str, Any], *options: str, **keys: Any) -> Result:
    file = write(tmp_path / "run.yaml", recipe, **keys)
    return CliRunner().invoke(app, ["check", "-c", str(file), *options])


def failures(done: Result) -> list[str]:
    """The sentences, each without its dash."""
    assert done.exit_code == 1, done.output
    lines = [line.strip() for line in done.output.splitlines()]
    return [line.removeprefix("- ") for line in lines if line.startswith("- ")]


def test_a_run_in_which_nothing_is_wrong_passes(run: dict[str, Any], tmp_path: Path) -> None:
    steps = {"sft": {"experiment_tracker": "posttrain_mlflow"}}
    done = check(tmp_path, run, "--gpu-gib", "80", steps=steps)
    assert done.exit_code == 0, done.output
    assert "as the pipeline fine_tuning would read it" in done.output
    assert "ok      data: instructions: " in done.output
    assert "columns question, answer, topic" in done.output
    assert "stage" in done.output and "activations" in done.output
    assert "FAILED" not in done.output and "note:" not in done.output


def test_keys_that_nobody_reads_are_named(run: dict[str, Any], tmp_path: Path) -> None:
    done = check(
        tmp_path,
        run,
        setings={},
        settings={"experiment_tracker.mlfow": {}, "resources": {"gpu_cnt": 1}, "dockr": {}},
        steps={"stf": {}, "sft": {"experiment_traker": "x"}, "ppo": {}},
    )
    assert failures(done) == [
        "setings: nobody reads this key; did you mean 'settings'?",
        "settings.experiment_tracker.mlfow: nobody reads this key; did you mean "
        "'experiment_tracker.mlflow'?",
        "settings.resources.gpu_cnt: nobody reads this key; did you mean 'gpu_count'?",
        "settings.dockr: nobody reads this key; did you mean 'docker'?",
        "steps.stf: nobody reads this key; did you mean 'sft'?",
        "steps.sft.experiment_traker: nobody reads this key; did you mean 'experiment_tracker'?",
    ]
    assert "note: steps.ppo: fine_tuning has no such step, and passes over it" in done.output


def test_the_default_run_serves_both_pipelines() -> None:
    for options in ([], ["--pipeline", "fine_tuning"]):
        words = ["check", "-c", "zenml_config.yaml", "--gpu-gib", "80", *options]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert ("note: steps.ppo: fine_tuning has no such step" in done.output) == bool(options)


def test_a_section_that_is_null_is_none(run: dict[str, Any], tmp_path: Path) -> None:
    run |= {"reward_model": None, "self_critique": None}
    done = check(tmp_path, run, "--gpu-gib", "80")
    assert done.exit_code == 0, done.output
    assert "as the pipeline fine_tuning would read it" in done.output


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"steps": ["sft"]}, "steps: found ['sft']; names and their values are wanted"),
        ({"settings": [1]}, "settings: found [1]; names"),
        ({"settings": {"docker": "x"}}, "settings.docker: found 'x'; names"),
        ({"settings": {1: {}}}, "settings: found {1: {}}; names"),
        ({"steps": {"sft": "lora"}}, "steps.sft: found 'lora'; names"),
        ({"steps": {"sft": {"settings": 2}}}, "steps.sft.settings: found 2; names"),
        (
            {"steps": {"sft": {"settings": {"docker": 3}}}},
            "steps.sft.settings.docker: found 3; names",
        ),
    ],
)
def test_values_where_names_are_wanted_are_one_line(
    keys: dict[str, Any], sentence: str, run: dict[str, Any], tmp_path: Path
) -> None:
    done = check(tmp_path, run, **keys)
    assert isinstance(done.exception, ValueError)
    assert f"{tmp_path / 'run.yaml'}: {sentence}" in str(done.exception)


def test_a_file_of_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes("# 한국어".encode("cp949"))
    done = CliRunner().invoke(app, ["check", "-c", str(file)])
    assert f"{file}: is not UTF-8" in str(done.exception)


def test_a_champion_may_be_the_base(
    museum: MlflowClient, run: dict[str, Any], tmp_path: Path
) -> None:
    museum.set_registered_model_alias("museum", "champion", "1")
    run["base_model"] = {"source": "registry:museum@champion"}
    done = check(tmp_path, run, "--gpu-gib", "80")
    assert done.exit_code == 0, done.output
    assert "ok      base model: registry:museum@champion" in done.output
    run["base_model"] = {"source": "registry:museum@best"}
    assert "museum" in failures(check(tmp_path, run))[0]


def test_a_recipe_that_cannot_be_read_is_told_in_plain_words(
    run: dict[str, Any], tmp_path: Path
) -> None:
    run["sft"] |= {"lerning_rate": 1, "batch_size": 0, "method": "lorra"}
    del run["sft"]["learning_rate"], run["registration"]["model_name"]
    done = check(tmp_path, run)
    assert failures(done)[:4] == [
        "sft.learning_rate: is missing; add it (Peak learning rate.)",
        "sft.batch_size: found 0; it must be greater than 0",
        "sft.method: found 'lorra'; write 'full', 'lora', 'qlora', 'dora' or 'bottleneck'",
        "sft.lerning_rate: there is no such field; did you mean 'learning_rate'?",
    ]
    assert "registration.model_name: is missing" in done.output


def test_the_pipeline_may_be_named(run: dict[str, Any], tmp_path: Path) -> None:
    done = check(tmp_path, run, "--pipeline", "post_training")
    assert failures(done)[0].startswith("reward_model: is missing; add it")


@pytest.mark.parametrize(
    ("section", "values", "sentence"),
    [
        ("ingest", {"source": "absent.jsonl"}, "absent.jsonl: no such file (looked from "),
        (
            "ingest",
            {"fields": {"prompt": "questoin", "response": "answer"}},
            "no column 'questoin'; ingest.instructions.fields must name it",
        ),
        (
            "base_model",
            {"source": "nowhere/at/all"},
            "base_model.source: 'nowhere/at/all' is neither a folder here nor an id of the hub",
        ),
        (
            "base_model",
            {"fingerprint": "f" * 64},
            f"base_model.fingerprint is {'f' * 64}, and that of ",
        ),
        ("template", {"chat_template": "absent.jinja"}, "template.chat_template: no file absent"),
        (
            "tokenize",
            {"max_length": 512},
            "tokenize.max_length asks for 512 tokens; the base has 256 positions",
        ),
        (
            "sft",
            {"lora": {"target_modules": ["q_prog"]}},
            "sft.lora.target_modules: no layer is named 'q_prog'; did you mean 'q_proj'?",
        ),
    ],
)
def test_each_mistake_has_its_sentence(
    section: str, values: dict[str, Any], sentence: str, run: dict[str, Any], tmp_path: Path
) -> None:
    at = run.setdefault(section, {})
    (at["instructions"] if section == "ingest" else at).update(values)
    assert any(sentence in found for found in failures(check(tmp_path, run)))


def test_a_column_that_may_be_absent_is_only_noted(run: dict[str, Any], tmp_path: Path) -> None:
    run["ingest"]["instructions"]["fields"]["group"] = "topik"
    done = check(tmp_path, run, "--gpu-gib", "80")
    assert done.exit_code == 0
    assert (
        "note: ingest.instructions.fields.group: none of the first 100 rows has a column 'topik'; "
        "did you mean 'topic'?"
    ) in done.output


def test_all_that_is_wrong_is_said_at_once(run: dict[str, Any], tmp_path: Path) -> None:
    run["ingest"]["instructions"]["source"] = "absent.jsonl"
    run["tokenize"]["max_length"] = 512
    run["sft"]["lora"]["target_modules"] = ["q_prog", "c_attn"]
    found = failures(check(tmp_path, run, stps={}))
    assert [sentence.split(":")[0] for sentence in found] == [
        "stps",
        "absent.jsonl",
        "tokenize.max_length asks for 512 tokens; the base has 256 positions",
        "sft.lora.target_modules",
        "sft.lora.target_modules",
    ]


def test_too_little_memory_names_stage_part_and_fields(run: dict[str, Any], tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"text": "the sky is gold"}\n', encoding="utf-8")
    run["ingest"]["corpus"] = {"source": str(corpus)}
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_layers": 8, "num_heads": 8}
    more = {"num_kv_heads": 8, "max_positions": 256, "vocabulary_size": 32000}
    run["base_model"] = {
        "source": "from_config",
        "from_config": {"architecture": "llama", **sizes, **more},
    }
    run["base_finetune"] = {
        **{"method": "full", "learning_rate": 1e-3, "num_epochs": 1, "batch_size": 2},
    }
    done = check(tmp_path, run, "--gpu-gib", "1")
    (sentence,) = failures(done)
    assert sentence == (
        "base_finetune takes 2.5 GiB without activations, 1.2 GiB of it optimizer, and a "
        "GPU of 1 GiB has 1.0 GiB: set base_finetune.method to lora, or choose a smaller "
        "base_model.source"
    )


def test_a_file_without_a_recipe_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("settings: {}\n")
    done = CliRunner().invoke(app, ["check", "-c", str(tmp_path / "run.yaml")])
    assert isinstance(done.exception, ValueError)
    assert "has no `parameters.recipe`; what is trained stands there" in str(done.exception)


def test_benchmarks_are_looked_for(run: dict[str, Any], tmp_path: Path) -> None:
    tasks = "tests/posttrain/evaluate/tasks"
    run["evaluation"]["harness"] = {"tasks": ["colours"], "include_path": tasks}
    done = check(tmp_path, run)
    assert done.exit_code == 0, done.output
    assert "benchmarks: colours" in done.output
    run["evaluation"]["harness"]["include_path"] = "absent"
    sentence = "evaluation.harness.include_path: absent: no such folder"
    assert failures(check(tmp_path, run))[0].startswith(sentence)
