"""Verdicts on the disk: nothing is lost, and what is written is a source for ingest."""

import json
import multiprocessing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from posttrain.data.ingest import ingest
from posttrain.data.validate import validate
from posttrain.evaluate.ballots import (
    PREFERENCES,
    VERDICTS,
    Ballots,
    folder_of,
    pairs_file,
    read_pairs,
    write_pairs,
)
from posttrain.evaluate.blind import VersionPair, pair_up
from posttrain.recipe.ingest import IngestRecipe, Source
from posttrain.recipe.validation import ValidationRecipe
from tests.posttrain.evaluate.test_blind import asked, ballot, for_version, pairs, said


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / PREFERENCES).read_text().splitlines()]


def test_verdicts_come_back_in_order_and_name_the_texts(tmp_path: Path) -> None:
    ballots = Ballots(tmp_path)
    given = [ballot(pair, "response_1") for pair in pairs(3)]
    for one in given:
        ballots.add(one)
    assert ballots.read() == given


def test_preferences_follow_the_majority_and_name_nobody(tmp_path: Path) -> None:
    ballots = Ballots(tmp_path)
    clear, tied, torn = pairs(3)
    ballots.add(ballot(clear, for_version(clear, 2), "김서연"))
    ballots.add(ballot(tied, "tie", "김서연"))
    ballots.add(ballot(torn, "response_1", "김서연"))
    ballots.add(ballot(torn, "response_2", "이도현"))
    (row,) = rows(tmp_path)
    assert (row["chosen"], row["rejected"]) == (
        (clear.response_1, clear.response_2)
        if clear.version_1 == 2
        else (clear.response_2, clear.response_1)
    )
    assert row["split"] == "held_out"
    assert "김서연" not in (tmp_path / PREFERENCES).read_text()


def test_the_file_is_a_source_of_preferences(tmp_path: Path) -> None:
    ballots = Ballots(tmp_path / "verdicts")
    held = pairs(4)
    prompts = asked(4, held_out=False, what="quay")
    answers = (
        said(*(f"At quay {i}." for i in range(4))),
        said(*(f"At pier {i}." for i in range(4))),
    )
    to_train = pair_up("museum", (1, 2), prompts, answers, seed=0)[0]
    for pair in [*held, *to_train]:
        ballots.add(ballot(pair, for_version(pair, 2)))
    source = str(ballots.folder / PREFERENCES)
    records = ingest(IngestRecipe(preferences=Source(source=source)))
    found = pq.read_table(records.file("preferences")).to_pylist()
    assert len(found) == 8
    assert [row["split"] for row in found].count("held_out") == 4
    assert {row["kind"] for row in found} == {"human"}
    valid = validate(records, ValidationRecipe(languages=("en",)))
    assert valid.records.facts.num_rows == {"preferences": 8}


def test_an_unfinished_line_was_never_said_and_the_next_stands_alone(tmp_path: Path) -> None:
    ballots = Ballots(tmp_path)
    first, second = pairs(2)
    ballots.add(ballot(first, "tie"))
    with (tmp_path / VERDICTS).open("ab") as log:
        log.write(b'{"pair": {"pair_id"')
    assert len(ballots.read()) == 1
    ballots.add(ballot(second, "tie"))
    assert [one.pair for one in ballots.read()] == [first, second]


def test_a_line_that_is_no_verdict_is_named(tmp_path: Path) -> None:
    (tmp_path / VERDICTS).write_text("{}\n")
    with pytest.raises(ValueError, match=r"verdicts.jsonl: line 1 is no verdict \(pair: "):
        Ballots(tmp_path).read()


def add_many(folder: str, rater: str) -> None:
    for pair in pairs(20):
        Ballots(Path(folder)).add(ballot(pair, "response_1", rater))


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_many, args=(str(tmp_path), name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(Ballots(tmp_path).read()) == 40
    assert len(rows(tmp_path)) == 20


def test_pairs_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = pairs_file(tmp_path, "museum", (2, 1))
    write_pairs(pairs(3), file)
    assert read_pairs(file) == pairs(3)
    assert file == pairs_file(tmp_path, "museum", (1, 2))


def test_a_file_of_something_else_is_refused_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(f'{pairs(1)[0].model_dump_json()}\n{{"prompt": "?"}}\n')
    with pytest.raises(ValueError, match=r"pairs.jsonl: line 2 is no pair of two versions"):
        read_pairs(file)


@pytest.mark.parametrize("name", ["..", "../../etc", "a/b", "", "한글 모델"])
def test_no_name_leads_out_of_the_state_folder(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path, name)
    assert folder.parent == tmp_path
    assert folder.resolve().parent == tmp_path.resolve()


def test_a_pair_knows_its_versions_in_order() -> None:
    assert {pair.versions for pair in pairs(8)} == {(1, 2)}
    assert isinstance(pairs(1)[0], VersionPair)
