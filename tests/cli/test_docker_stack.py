import os
from pathlib import Path

import pytest

from cli.docker_stack import IMAGE_USER, _share, run_arguments


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POSTTRAIN_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("HF_TOKEN", "not for containers")
    monkeypatch.delenv("POSTTRAIN_THREADS", raising=False)
    return tmp_path


def test_steps_are_not_root_and_see_the_state_where_it_is(state: Path) -> None:
    found = run_arguments(state, None, None, [])
    assert found["user"].split(":")[0] == str(os.getuid() or IMAGE_USER)
    assert found["volumes"][str(state)] == {"bind": str(state), "mode": "rw"}
    assert found["read_only"] and found["init"]
    assert "device_requests" not in found and "network" not in found


def test_runtime_reaches_the_steps_and_tokens_do_not(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTTRAIN_THREADS", "3")
    monkeypatch.setenv("POSTTRAIN_REVIEW_TOKEN", "planted")  # the review page's password
    found = run_arguments(state, None, None, [])
    assert found["environment"]["POSTTRAIN_THREADS"] == "3"
    assert "HF_TOKEN" not in found["environment"]
    assert "planted" not in str(found)


def test_no_step_may_write_what_is_run_here(state: Path) -> None:
    (state / "env").touch()
    found = run_arguments(state, None, None, [])["volumes"]
    assert found[str(state / "env")] == {"bind": str(state / "env"), "mode": "ro"}
    assert found[str(state / "checkov")] == {"bind": str(state / "checkov"), "mode": "ro"}
    # the engine makes a folder of what is not there, and make would take it for the file
    (state / "env").unlink()
    assert str(state / "env") not in run_arguments(state, None, None, [])["volumes"]


@pytest.mark.parametrize(("given", "count"), [("all", -1), ("2", 2)])
def test_gpus_are_device_requests(state: Path, given: str, count: int) -> None:
    requests = run_arguments(state, given, "team", [])["device_requests"]
    assert requests == [{"count": count, "capabilities": [["gpu"]]}]


@pytest.mark.parametrize("given", ["0", "-1", "some"])
def test_no_number_of_gpus_is_refused(state: Path, given: str) -> None:
    with pytest.raises(ValueError, match=f"--gpus {given}"):
        run_arguments(state, given, None, [])


def test_state_that_containers_would_not_see_is_refused(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTTRAIN_CHECKPOINTS", "/elsewhere/checkpoints")
    with pytest.raises(ValueError, match="/elsewhere/checkpoints: outside"):
        run_arguments(state, None, None, [])


def test_checkpoints_behind_a_url_need_no_mount(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTTRAIN_CHECKPOINTS", "s3://bucket/checkpoints")
    found = run_arguments(state, None, None, [])
    assert found["environment"]["POSTTRAIN_CHECKPOINTS"] == "s3://bucket/checkpoints"


def test_a_mount_is_read_only_and_must_be_there(state: Path) -> None:
    (state / "corpora").mkdir()
    found = run_arguments(state, None, None, [state / "corpora"])["volumes"]
    assert found[str(state / "corpora")] == {"bind": str(state / "corpora"), "mode": "ro"}
    with pytest.raises(ValueError, match="no such folder"):
        run_arguments(state, None, None, [state / "absent"])


def test_a_shared_folder_is_the_groups_to_write(state: Path) -> None:
    (state / "made").mkdir(mode=0o700)
    (state / "made" / "file").touch(mode=0o600)
    _share(state / "made", os.getgid())
    assert (state / "made").stat().st_mode & 0o7777 == 0o2770
    assert (state / "made" / "file").stat().st_mode & 0o777 == 0o660


def test_what_is_run_here_is_not_shared(state: Path) -> None:
    (state / "checkov" / "bin").mkdir(parents=True)
    files = [state / "env", state / "checkov" / "bin" / "checkov", state / "mlflow.db"]
    for file in files:
        file.touch(mode=0o600)
    _share(state, os.getgid())
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600, 0o660]
    assert (state / "checkov").stat().st_mode & 0o020 == 0
