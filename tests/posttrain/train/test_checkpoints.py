from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile

from posttrain.downloads import landing
from posttrain.recipe.template import TemplateRecipe
from posttrain.train.checkpoints import Checkpoints, checkpoints_of
from tests.faults import Injected


def checkpoint(root: Path, step: int) -> Path:
    return written(Checkpoints(root), step)


def written(checkpoints: Checkpoints, step: int) -> Path:
    staged = checkpoints.stage(step)
    (staged / "model.safetensors").write_bytes(bytes([step % 256]) * 100)
    (staged / "inner").mkdir()
    (staged / "inner" / "state.json").write_text(str(step))
    return checkpoints.publish(staged)


def test_the_newest_whole_checkpoint_is_found_and_older_ones_go(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        checkpoint(tmp_path, step)
    assert Checkpoints(tmp_path).newest() == tmp_path / "checkpoint-100"
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-100",
    ]


@pytest.mark.fault("Training", "a checkpoint is damaged", "each way once, in one file")
@pytest.mark.parametrize("damage", ["flip", "truncate", "unseal", "remove", "add"])
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, injected: Injected, damage: str
) -> None:
    checkpoint(tmp_path, 1)
    newest = checkpoint(tmp_path, 2)
    file = newest / "model.safetensors"
    if damage == "flip":
        file.write_bytes(b"\x03" + file.read_bytes()[1:])
    elif damage == "truncate":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "unseal":
        (newest / "seal.json").unlink()
    elif damage == "remove":
        file.unlink()
    else:
        (newest / "extra").write_bytes(b"x")
    injected.add(lost=Checkpoints(tmp_path).newest() != tmp_path / "checkpoint-1")
    assert Checkpoints(tmp_path).newest() == tmp_path / "checkpoint-1"


@pytest.mark.fault("Input", "a path that leads out", "a key of the checkpoints' store")
@pytest.mark.parametrize("key", ["{root}/x", "../../x", "inner/../../x"])
def test_a_key_of_the_store_leads_out_of_no_checkpoint(
    tmp_path: Path, injected: Injected, key: str
) -> None:
    """Object stores take any text for a key: `checkpoint-7//x` is one."""
    outside = tmp_path / "x"
    with pytest.raises(ValueError, match="leads out of its folder; remove it from the store"):
        landing(tmp_path / "a" / "b", key.format(root=tmp_path), key)
    store = fsspec.filesystem("memory")
    name = key.format(root=tmp_path)
    store.store[f"/{tmp_path.name}/checkpoint-7/{name}"] = MemoryFile(store, "x", b"got in")
    (tmp_path / "ours").mkdir()
    found = Checkpoints(tmp_path / "ours", f"memory://{tmp_path.name}")
    with pytest.raises(ValueError, match="leads out of its folder"):
        found.newest()
    injected.add(lost=outside.exists())
    assert not outside.exists()


def test_an_error_is_not_lost_to_a_store_that_is_away(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "ours", "nosuch://store")
    with pytest.raises(FloatingPointError, match="the loss is nan") as told, checkpoints.named():
        raise FloatingPointError("the loss is nan")
    assert "cannot be read now" in told.value.__notes__[0]


def test_a_half_written_checkpoint_is_none(tmp_path: Path) -> None:
    Checkpoints(tmp_path).stage(7)
    assert Checkpoints(tmp_path).newest() is None


def test_another_section_has_another_folder() -> None:
    one = checkpoints_of("sft", TemplateRecipe(max_turns=2))
    assert one == checkpoints_of("sft", TemplateRecipe(max_turns=2))
    assert one != checkpoints_of("sft", TemplateRecipe(max_turns=3))


def elsewhere(tmp_path: Path, machine: str) -> Checkpoints:
    """Checkpoints of one stage as a machine of its own sees them."""
    folder = tmp_path / machine
    folder.mkdir(exist_ok=True)
    return Checkpoints(folder, f"file://{tmp_path}/store/sft-1")


def test_another_machine_continues_through_a_url(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        written(elsewhere(tmp_path, "one"), step)
    found = elsewhere(tmp_path, "two").newest()
    assert found == tmp_path / "two" / "checkpoint-3"
    assert (found / "inner" / "state.json").read_text() == "3"
    kept = sorted(path.name for path in (tmp_path / "store" / "sft-1").iterdir())
    assert kept == ["checkpoint-2", "checkpoint-3"]


def test_a_half_copied_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2):
        written(elsewhere(tmp_path, "one"), step)
    (tmp_path / "store" / "sft-1" / "checkpoint-2" / "seal.json").unlink()  # it comes last
    assert elsewhere(tmp_path, "two").newest() == tmp_path / "two" / "checkpoint-1"


def test_a_machine_that_lost_its_newest_takes_it_from_the_url(tmp_path: Path) -> None:
    for step in (1, 2):
        written(elsewhere(tmp_path, "one"), step)
    (tmp_path / "one" / "checkpoint-2" / "model.safetensors").write_bytes(b"flipped")
    found = elsewhere(tmp_path, "one").newest()
    assert found is not None
    assert (found / "model.safetensors").read_bytes() == bytes([2]) * 100


def test_nothing_stays_once_the_stage_is_sealed(tmp_path: Path) -> None:
    checkpoints = elsewhere(tmp_path, "one")
    written(checkpoints, 1)
    checkpoints.forget()
    assert elsewhere(tmp_path, "two").newest() is None


def test_a_url_names_the_stage_and_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTTRAIN_CHECKPOINTS", "memory://bucket/x/")
    one = checkpoints_of("sft", TemplateRecipe())
    assert one.place.startswith("memory://bucket/x/sft-")
    assert one.folder.is_dir()
