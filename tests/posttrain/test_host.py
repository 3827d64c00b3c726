"""What memory a machine says it has."""

from pathlib import Path

from posttrain.host import memory_of_host


def test_a_containers_limit_is_its_memory(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    whole = memory_of_host(limit)
    limit.write_text("max\n")
    assert memory_of_host(limit) == whole
    limit.write_text("1048576\n")
    assert memory_of_host(limit) == 1 << 20
