"""What a step took is measured, kept beside its result, and no part of the result's hash."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from posttrain.artifacts import COST, Records
from posttrain.cost import (
    Counts,
    Meter,
    costs_of,
    count_tokens,
    folders_in,
    measured,
    measuring,
    memory,
    processor_seconds,
)
from posttrain.facts import RecordsFacts
from posttrain.runtime import Runtime

MEGABYTES = 2**20


@dataclass(frozen=True)
class Made:
    """A result with a folder and what is no folder."""

    records: Records
    report_html: str


def make(stage: str, given: Records | None = None, seconds: float = 0.0) -> Made:
    folder = Runtime.from_environment().new_folder("records")
    (folder / "corpus.parquet").write_text("rows")
    time.sleep(seconds)
    count_tokens("encoded", 3)
    count_tokens("encoded", 4)
    return Made(Records.write(folder, stage, RecordsFacts(num_rows={}, sources={})), "<p>")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSTTRAIN_WORK", str(tmp_path / "work"))
    return tmp_path / "work"


def test_a_steps_cost_lies_with_what_it_made() -> None:
    made = measured(make, "ingest", seconds=0.3)
    (cost,) = costs_of([made.records])
    assert cost.step == "ingest"
    assert 0.3 <= cost.wall_seconds < 30
    assert cost.tokens == {"encoded": 7}
    assert 0 < cost.bytes_at_start <= cost.peak_bytes
    made.records.verify()  # the manifest knows of it


def test_equal_data_is_equal_however_long_it_took() -> None:
    slow, quick = measured(make, "ingest", seconds=0.2), measured(make, "ingest")
    assert (slow.records.path / COST).read_bytes() != (quick.records.path / COST).read_bytes()
    assert slow.records.content_hash() == quick.records.content_hash()
    assert slow.records.content_hash() == make("ingest").records.content_hash()


def test_a_cost_that_was_changed_afterwards_is_noticed() -> None:
    records = measured(make, "ingest").records
    (records.path / COST).write_text(json.dumps([]))
    with pytest.raises(ValueError, match=r"differs from its manifest in \['cost.json'\]"):
        records.verify()


def test_costs_of_earlier_steps_go_with_it_each_once() -> None:
    raw = measured(make, "ingest").records
    clean = measured(make, "validate", raw).records
    assert [cost.step for cost in costs_of([clean])] == ["ingest", "validate"]
    assert [cost.step for cost in costs_of([raw, clean, clean])] == ["ingest", "validate"]
    assert costs_of([clean])[0] == costs_of([raw])[0]


def test_a_folder_that_is_handed_on_keeps_its_own_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = make("base_finetune").records
    monkeypatch.setenv("POSTTRAIN_WORK", str(tmp_path / "elsewhere"))
    assert measured(lambda: stored) is stored
    assert not (stored.path / COST).exists()


def test_memory_is_that_of_the_children_too() -> None:
    code = f"held = bytearray({200 * MEGABYTES}); print('held', flush=True); input()"
    with measuring() as meter:
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        meter.look()
        child.communicate("\n")
    assert meter.peak_bytes > meter.bytes_at_start + 150 * MEGABYTES
    assert memory() < meter.peak_bytes


def test_the_sampler_sees_what_is_gone_at_the_end() -> None:
    with measuring() as meter:
        held = bytearray(150 * MEGABYTES)
        held[:: 2**12] = b"\1" * len(held[:: 2**12])  # touched, or the system gives no page
        time.sleep(1.5)
        del held
    assert meter.peak_bytes > meter.bytes_at_start + 100 * MEGABYTES


def test_processor_time_is_not_the_clocks() -> None:
    before = processor_seconds()
    time.sleep(0.4)
    assert processor_seconds() - before < 0.3


def test_what_several_processes_counted_is_added_and_the_fullest_gpu_shown() -> None:
    meter = Meter()
    meter.add(Counts(tokens={"trained": 5}, peak_gpu_bytes=10))
    meter.add(Counts(tokens={"trained": 6, "generated": 1}, peak_gpu_bytes=30))
    meter.add(Counts(tokens={}, peak_gpu_bytes=None))
    assert meter.counts == Counts(tokens={"trained": 11, "generated": 1}, peak_gpu_bytes=30)


def test_outside_a_step_tokens_are_counted_nowhere() -> None:
    count_tokens("trained", 5)
    with measuring() as meter:
        pass
    assert meter.counts.tokens == {}


def test_folders_are_found_however_they_are_held() -> None:
    records = make("ingest").records
    held = (Made(records, ""), [records], "text", None, 3)
    assert folders_in(held) == [records, records]
