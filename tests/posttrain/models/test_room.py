"""What fits and what does not, in sentences; and the table."""

from posttrain.models.memory import GIB, StageMemory
from posttrain.models.room import Machine, gpu_of, machine, shortages, table
from posttrain.recipe.workload import Workload
from posttrain.runtime import Runtime

WORK = Workload(
    stage="sft",
    rows=1,
    length=1,
    reads="logits",
    advice={
        "optimizer": "set sft.method to qlora",
        "activations": "lower sft.batch_size",
        "weights": "choose a smaller base_model.source",
    },
)


def stage(**parts: int) -> StageMemory:
    sizes = dict.fromkeys(
        ("weights", "adapters", "gradients", "optimizer", "activations", "cache", "prefill"), 0
    )
    return StageMemory(stage="sft", **{**sizes, **{k: v * GIB for k, v in parts.items()}})


def test_what_is_known_to_the_byte_refuses() -> None:
    found = shortages([stage(weights=15, optimizer=60, gradients=30)], [WORK], gpu_of(80))
    assert found == (
        [
            "sft takes 105.0 GiB without activations, 60.0 GiB of it optimizer, and a GPU of "
            "80 GiB has 80.0 GiB: set sft.method to qlora"
        ],
        [],
    )


def test_an_estimate_only_warns() -> None:
    found = shortages([stage(weights=15, activations=70)], [WORK], gpu_of(80))
    assert found == (
        [],
        [
            "sft may take 85.0 GiB, 70.0 GiB of it activations, and a GPU of 80 GiB has "
            "80.0 GiB: lower sft.batch_size"
        ],
    )


def test_what_fits_is_not_spoken_of() -> None:
    assert shortages([stage(weights=15, activations=60)], [WORK], gpu_of(80)) == ([], [])


def test_the_machine_at_hand_counts_where_the_runtime_names_it() -> None:
    for device, is_named in (("cpu", True), ("auto", False)):
        found = machine(Runtime(device=device, dtype="float32"))
        assert isinstance(found, Machine)
        assert (found.name, found.is_named, found.in_16_bits) == ("this machine", is_named, False)
        assert 2**28 < found.size < 2**45


def test_the_table_aligns_its_columns_and_says_what_is_not_measured() -> None:
    lines = table([stage(weights=15, activations=2), stage(weights=150, cache=3)]).splitlines()
    assert lines[0].split() == [
        *("stage", "weights", "adapters", "gradients", "optimizer"),
        *("activations", "cache", "total"),
    ]
    assert lines[1].split() == ["sft", "15.00", "0.00", "0.00", "0.00", "2.00", "0.00", "17.00"]
    assert len({len(line) for line in lines[:3]}) == 1
    assert "error on a GPU is not measured" in lines[3]
