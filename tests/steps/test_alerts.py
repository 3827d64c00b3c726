"""What an alert may not say."""

import pytest

from posttrain.hiding import HIDDEN
from steps._alerts import MAX_CHARS, one_line


@pytest.mark.parametrize(
    "secret",
    [
        "hf_abcdefghijklmnop",
        "xoxb-1234567890-abcdef",
        "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOi.eyJzdWIi.c2ln",
        "kim@example.com",
        "010-1234-5678",
    ],
)
def test_secrets_and_personal_data_are_not_told(secret: str) -> None:
    told = one_line(f"ValueError: refused {secret} at row 3")
    assert secret not in told
    assert told.startswith("ValueError: refused") and told.endswith("at row 3")


def test_a_password_in_an_address_is_not_told() -> None:
    told = one_line("postgresql://kim:hunter2@db:5432/mlflow is away")
    assert told == f"postgresql://{HIDDEN}@db:5432/mlflow is away"


def test_the_values_of_secret_variables_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert one_line("login with correct horse is false") == f"login with {HIDDEN} is false"


def test_it_is_one_short_line() -> None:
    told = one_line("first\nsecond\n" + "word " * 1000)
    assert told.startswith("first second word") and "\n" not in told
    assert len(told) == MAX_CHARS + 1
