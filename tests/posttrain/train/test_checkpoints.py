from pathlib import Path

import pytest

from posttrain.recipe.template import TemplateRecipe
from posttrain.train.checkpoints import checkpoint_folder, newest_whole, publish


def checkpoint(root: Path, step: int) -> Path:
    staged = root / "staging" / f"checkpoint-{step}"
    staged.mkdir(parents=True)
    (staged / "model.safetensors").write_bytes(bytes([step % 256]) * 100)
    return publish(staged, root)


def test_the_newest_whole_checkpoint_is_found_and_older_ones_go(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        checkpoint(tmp_path, step)
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-100"
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-100",
    ]


@pytest.mark.parametrize("damage", ["flip", "truncate", "unseal", "remove", "add"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
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
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-1"


def test_a_half_written_checkpoint_is_none(tmp_path: Path) -> None:
    staged = tmp_path / "staging" / "checkpoint-7"
    staged.mkdir(parents=True)
    assert newest_whole(tmp_path) is None


def test_another_section_has_another_folder() -> None:
    one = checkpoint_folder("sft", TemplateRecipe(max_turns=2))
    assert one == checkpoint_folder("sft", TemplateRecipe(max_turns=2))
    assert one != checkpoint_folder("sft", TemplateRecipe(max_turns=3))


def test_a_url_is_refused_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTTRAIN_CHECKPOINTS", "s3://bucket/x")
    with pytest.raises(ValueError, match="URLs are not built yet"):
        checkpoint_folder("sft", TemplateRecipe())
