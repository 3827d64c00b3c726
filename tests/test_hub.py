"""The stand-in hub refuses and serves what the real client expects of the hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub, serve

ASK = """
import json, sys
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import HfHubHTTPError
api = HfApi()
calls = {
    "sha": lambda at: api.model_info("me/open", revision=at).sha,
    "text": lambda at: open(api.hf_hub_download("me/open", "a.txt", revision=at)).read(),
    "part": lambda at: HfFileSystem().cat_file(f"datasets/me/data@{at}/a.txt", 1, 3).decode(),
    "gated": lambda at: api.model_info("me/gated", revision=at).gated,
    "secret": lambda at: open(api.hf_hub_download("me/gated", "a.txt", revision=at)).read(),
    "access": lambda at: api.auth_check("me/gated"),
    "unknown": lambda at: api.model_info("me/none"),
    "file": lambda at: api.hf_hub_download("me/open", "b.txt", revision=at),
}
found = {}
for name, at in json.loads(sys.argv[1]):
    try:
        found[f"{name} {at}"] = calls[name](at)
    except HfHubHTTPError as error:
        found[f"{name} {at}"] = f"{type(error).__name__} {error.response.status_code}"
print(json.dumps(found))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "content"
    folder.mkdir()
    with serve(tmp_path / "served") as hub:
        (folder / "a.txt").write_text("old")
        hub.push("models", "me/open", folder, tag="v1")
        hub.push("models", "me/gated", folder, token="secret")
        hub.push("datasets", "me/data", folder)
        (folder / "a.txt").write_text("new")
        hub.push("models", "me/open", folder)
        yield hub


def ask(hub: Hub, home: Path, *calls: str, token: str | None = None) -> dict[str, Any]:
    done = hub.run(home, ASK, json.dumps([call.split() for call in calls]), token=token)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_revision_is_a_commit_and_stays_what_it_was(hub: Hub, tmp_path: Path) -> None:
    old, new = hub.repositories["models", "me/open"].commits
    found = ask(hub, tmp_path, "sha main", "sha v1", "text main", f"text {old}", "part main")
    assert found == {
        "sha main": new,
        "sha v1": old,
        "text main": "new",
        f"text {old}": "old",
        "part main": "ld",
    }


def test_what_is_not_there_is_refused_as_the_hub_does(hub: Hub, tmp_path: Path) -> None:
    assert ask(hub, tmp_path, "unknown main", "sha v9", "file main") == {
        "unknown main": "RepositoryNotFoundError 404",
        "sha v9": "RevisionNotFoundError 404",
        "file main": "RemoteEntryNotFoundError 404",
    }


@pytest.mark.parametrize(
    ("token", "secret", "access"),
    [
        (None, "GatedRepoError 401", "GatedRepoError 401"),
        ("another", "GatedRepoError 403", "GatedRepoError 403"),
        ("secret", "old", None),
    ],
)
def test_a_gated_repository_opens_to_its_token_alone(
    hub: Hub, tmp_path: Path, token: str | None, secret: str, access: str | None
) -> None:
    found = ask(hub, tmp_path, "gated main", "secret main", "access main", token=token)
    assert found == {"gated main": "manual", "secret main": secret, "access main": access}
