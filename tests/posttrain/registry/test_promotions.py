"""What moves the champion alias, and the lines that tell of it."""

from itertools import pairwise
from pathlib import Path

import pytest
from mlflow import MlflowClient

from posttrain.artifacts import BaseModel
from posttrain.registry.history import doubts
from posttrain.registry.promotions import (
    ChampionChanged,
    champion_of,
    decide,
    history,
    move,
    reject,
    roll_back,
)
from tests import samples
from tests.posttrain.registry.versions_of import aliases, registered


@pytest.fixture
def museum(registry: MlflowClient, tmp_path: Path) -> MlflowClient:
    """Four versions, none decided about."""
    base: BaseModel = samples.base_model(tmp_path / "base")
    for accuracy in (0.91, 0.92, 0.93, 0.94):
        registered(base, accuracy)
    return registry


def promote(client: MlflowClient, *versions: int) -> None:
    for version in versions:
        move(client, "museum", version, action="promote", who="kim", why="better")


def back(client: MlflowClient) -> None:
    roll_back(client, "museum", who="lee", why="wrong answers")


def said(client: MlflowClient) -> list[tuple[str, int | None, int | None, int | None]]:
    entries = history(client, "museum")
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    done = [entry for entry in entries if entry.state == "done"]
    assert all(before.to_version == after.from_version for before, after in pairwise(done))
    assert doubts(entries, champion_of(client, "museum")) == ()
    return [(one.action, one.version, one.from_version, one.to_version) for one in entries]


def test_every_move_is_a_line(museum: MlflowClient) -> None:
    promote(museum, 1, 3)
    assert said(museum) == [("promote", 1, None, 1), ("promote", 3, 1, 3)]
    line = history(museum, "museum")[-1]
    assert (line.who, line.why, line.when[:4], line.state) == ("kim", "better", "2026", "done")
    assert aliases(museum) == {"challenger": 4, "champion": 3, "previous": 1}


def test_mlflows_page_of_the_history_reads_well(museum: MlflowClient) -> None:
    promote(museum, 1)
    line = museum.get_model_version("museum-history", "1")
    assert line.description == "Version 1 made champion by kim: better"
    assert line.source == "models:/museum/1"


def test_a_rollback_restores_and_a_second_goes_further_back(museum: MlflowClient) -> None:
    promote(museum, 1, 2, 3)
    back(museum)
    assert aliases(museum) == {"challenger": 4, "champion": 2, "previous": 1}
    back(museum)
    assert aliases(museum) == {"challenger": 4, "champion": 1}
    assert said(museum)[3:] == [("rollback", 3, 3, 2), ("rollback", 2, 2, 1)]
    with pytest.raises(ValueError, match="no champion before version 1"):
        back(museum)


def test_what_was_taken_back_or_rejected_is_passed_over(museum: MlflowClient) -> None:
    promote(museum, 1, 2, 3, 4)
    back(museum)
    promote(museum, 4)
    reject(museum, "museum", 3, who="lee", why="rude")
    assert aliases(museum)["previous"] == 2
    back(museum)
    assert aliases(museum) == {"challenger": 4, "champion": 2, "previous": 1}


def test_what_was_deleted_is_passed_over(museum: MlflowClient) -> None:
    promote(museum, 1, 2, 3)
    museum.delete_model_version("museum", "2")
    back(museum)
    assert aliases(museum)["champion"] == 1


def test_a_rejected_version_is_the_challenger_no_more(museum: MlflowClient) -> None:
    promote(museum, 1)
    reject(museum, "museum", 4, who="lee", why="rude")
    assert aliases(museum) == {"champion": 1}
    assert said(museum)[1:] == [("reject", 4, 1, 1)]


def test_another_challenger_keeps_its_alias(museum: MlflowClient) -> None:
    reject(museum, "museum", 2, who="lee", why="rude")
    assert aliases(museum) == {"challenger": 4}


def test_the_champion_is_not_rejected(museum: MlflowClient) -> None:
    promote(museum, 1)
    with pytest.raises(ValueError, match="version 1 is the champion; take it back by a rollback"):
        reject(museum, "museum", 1, who="lee", why="rude")


def test_the_expected_champion_is_looked_for_under_the_lock(museum: MlflowClient) -> None:
    promote(museum, 1, 2)
    with pytest.raises(ChampionChanged, match=r"is version 2, and was expected to be version 1"):
        move(museum, "museum", 3, action="promote", who="kim", why="better", expected_champion=1)
    with pytest.raises(ChampionChanged, match=r"version 2, and was expected to be no version"):
        move(museum, "museum", 3, action="approve", who="kim", why="", expected_champion=None)
    with pytest.raises(ChampionChanged):
        roll_back(museum, "museum", who="lee", why="wrong", expected_champion=1)
    assert len(said(museum)) == 2


def test_the_champion_is_not_promoted_again(museum: MlflowClient) -> None:
    promote(museum, 1)
    with pytest.raises(ValueError, match="version 1 is the champion already"):
        promote(museum, 1)


def test_what_does_not_exist_is_not_decided_about(museum: MlflowClient) -> None:
    with pytest.raises(ValueError, match=r"museum@9: no such version or alias"):
        promote(museum, 9)
    with pytest.raises(ValueError, match="there is no champion to take back"):
        back(museum)


def test_a_move_past_us_is_told_and_recorded(museum: MlflowClient) -> None:
    promote(museum, 1, 2)
    museum.set_registered_model_alias("museum", "champion", "4")
    (doubt,) = doubts(history(museum, "museum"), 4)
    assert doubt.startswith("the champion is version 4, and the history ends at version 2")
    back(museum)
    assert said(museum)[2:] == [("outside", 4, 2, 4), ("rollback", 4, 4, 2)]


def test_a_champion_that_was_removed_past_us_can_come_back(museum: MlflowClient) -> None:
    promote(museum, 1)
    museum.delete_registered_model_alias("museum", "champion")
    promote(museum, 2)
    assert said(museum)[1:] == [("outside", None, 1, None), ("promote", 2, None, 2)]
    back(museum)
    assert aliases(museum)["champion"] == 1


def test_a_registry_from_before_the_history_is_taken_over(museum: MlflowClient) -> None:
    museum.set_registered_model_alias("museum", "champion", "2")
    museum.set_registered_model_alias("museum", "previous", "1")
    back(museum)
    lines = [("outside", 1, None, 1), ("outside", 2, 1, 2), ("rollback", 2, 2, 1)]
    assert said(museum) == lines
    assert aliases(museum) == {"challenger": 4, "champion": 1}


def test_a_line_that_was_deleted_leaves_a_gap(museum: MlflowClient) -> None:
    promote(museum, 1, 2, 3)
    museum.delete_model_version("museum-history", "2")
    found = doubts(history(museum, "museum"), 3)
    assert found == (
        "lines were deleted from the history: 2",
        "line 3 begins at version 2, and line 1 ended at version 1",
    )


def test_outcomes_of_another_release_hide_no_decision(museum: MlflowClient) -> None:
    promote(museum, 1)
    line = museum.get_model_version("museum-history", "1")
    text = line.tags["entry"].replace('"outcomes":[]', '"outcomes":[{"of": "later"}]')
    museum.set_model_version_tag("museum-history", "1", "entry", text)
    (entry,) = history(museum, "museum")
    assert (entry.to_version, entry.outcomes) == (1, ())


@pytest.mark.parametrize(("moved", "state"), [(False, "undone"), (True, "done")])
def test_what_was_cut_short_is_settled_by_the_alias(
    museum: MlflowClient, moved: bool, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    promote(museum, 1, 2)
    museum.set_model_version_tag("museum-history", "2", "state", "begun")  # as a kill leaves it
    if not moved:
        museum.set_registered_model_alias("museum", "champion", "1")
    (doubt,) = doubts(history(museum, "museum"), 2 if moved else 1)
    assert doubt.startswith("line 2 was begun by kim and is not finished")
    with decide(museum, "museum", "lee", 1) as settled:
        assert settled.entries[-1].state == state
    assert "line 2 of the history, begun by kim, was cut short" in caplog.text
    assert len(said(museum)) == 2
    assert aliases(museum).get("previous") == (1 if moved else None)


def test_names_and_reasons_can_forge_no_line(museum: MlflowClient) -> None:
    why = "better\n   9  2026-11-21 12:00  approved 1\x1b[2K"
    line = move(museum, "museum", 1, action="promote", who="kim\r\nlee\x1b[1A", why=why)
    assert (line.who, line.why) == ("kim lee[1A", "better 9 2026-11-21 12:00 approved 1[2K")
    assert history(museum, "museum") == (line,)
    with decide(museum, "museum", "kim\x1b[1A\nlee", 1) as settled:
        lock = museum.get_registered_model(f"museum-lock-{settled.lease.number:06d}")
        assert lock.tags["who"] == "kim[1A lee"


def test_a_line_that_was_forged_past_us_is_read_as_one(museum: MlflowClient) -> None:
    promote(museum, 1)
    line = museum.get_model_version("museum-history", "1")
    text = line.tags["entry"].replace('"better"', r'"better\n9 approved\u001b[2K"')
    museum.set_model_version_tag("museum-history", "1", "entry", text)
    assert history(museum, "museum")[0].why == "better 9 approved[2K"
