import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from posttrain.train.callbacks import ProgressBar

NUM_STEPS = 200


def test_a_log_keeps_few_states_of_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    bar, control, arguments = ProgressBar(), TrainerControl(), TrainingArguments(use_cpu=True)
    state = TrainerState(max_steps=NUM_STEPS, is_world_process_zero=True)
    bar.on_train_begin(arguments, state, control)  # stderr is captured here: no terminal
    for step in range(1, NUM_STEPS + 1):
        state.global_step = step
        bar.on_step_end(arguments, state, control)
        bar.on_log(arguments, state, control, logs={"loss": 1.0 / step})
    bar.on_train_end(arguments, state, control)
    said = capsys.readouterr().err
    assert 1 <= said.count("\r") < NUM_STEPS // 10
    assert f"{NUM_STEPS}/{NUM_STEPS}" in said and "loss=0.005" in said
