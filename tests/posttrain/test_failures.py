from pathlib import Path

from posttrain.align.self_critique import NothingKept
from posttrain.artifacts import Revisions
from posttrain.failures import Failure, first_failure


def fail(error: Exception) -> Failure:
    try:
        raise error
    except Exception as caught:
        return Failure.of(caught)


def test_the_first_error_is_the_cause(tmp_path: Path) -> None:
    fail(ValueError("the cause")).save(tmp_path, 1)
    fail(RuntimeError("Connection closed by peer")).save(tmp_path, 0)
    error = first_failure(tmp_path, 3)
    assert type(error) is ValueError
    assert str(error) == "the cause"
    assert "test_failures.py" in error.__notes__[0]
    assert error.__notes__[1].startswith("Processes [2] left no word")


def test_of_an_error_of_all_the_main_ones_is_raised_with_what_it_carries(tmp_path: Path) -> None:
    for rank in (1, 0):
        fail(NothingKept("none", Revisions(Path(f"of-{rank}")))).save(tmp_path, rank)
    error = first_failure(tmp_path, 2)
    assert isinstance(error, NothingKept)
    assert str(error) == "none"
    assert error.revisions == Revisions(Path("of-0"))


def test_an_error_that_cannot_travel_is_told(tmp_path: Path) -> None:
    class Local(Exception):
        pass

    fail(Local("something")).save(tmp_path, 0)
    error = first_failure(tmp_path, 1)
    assert type(error) is RuntimeError
    assert str(error) == "Local: something"


def test_no_word_is_none(tmp_path: Path) -> None:
    assert first_failure(tmp_path, 2) is None
