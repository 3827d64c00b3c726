"""What a step tells of its run's beginning, read from what ZenML keeps with the pipeline."""

import shlex

import pytest
from zenml.config.pipeline_configurations import PipelineConfiguration

from steps._started import command_of, started_by, starter


def test_a_run_names_the_command_and_the_folder_that_started_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/zenml", "pipeline", "run", "a file.yaml"])
    monkeypatch.chdir(str(tmp_path))
    kept = PipelineConfiguration(name="post_training", extra=started_by())
    again = PipelineConfiguration.model_validate_json(kept.model_dump_json())
    found = starter(again)
    assert found is not None and found.fate(store_is_local=True) == "alive"
    assert command_of(again) == (
        f"cd {shlex.quote(str(tmp_path))} && zenml pipeline run 'a file.yaml'"
    )


def test_another_pipelines_run_is_told_so() -> None:
    foreign = PipelineConfiguration(name="theirs")
    assert starter(foreign) is None
    assert command_of(foreign) == "start the same run again"
