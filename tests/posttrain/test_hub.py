"""What the hub refuses, as sentences: the real client against a hub on loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Hub, serve

ASK = """
import json, sys
from posttrain import hub
told = []
for kind, name, revision in json.loads(sys.argv[1]):
    try:
        told.append(hub.find(kind, name, revision, "base_model.source").commit)
    except ValueError as error:
        told.append(str(error))
print(json.dumps(told))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "content"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with serve(tmp_path / "served") as hub:
        hub.push("models", "me/open", folder, tag="v1")
        hub.push("models", "me/gated", folder, token="secret")
        hub.push("datasets", "me/gated-data", folder, token="secret")
        yield hub


def told(environment: dict[str, str], *asked: tuple[str, str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(asked)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def test_refusals_say_what_to_change(hub: Hub, tmp_path: Path) -> None:
    (commit,) = hub.repositories["models", "me/open"].commits
    found = told(
        hub.environment(tmp_path),
        ("model", "me/open", "v1"),
        ("model", "me/open", "v2"),
        ("model", "me/none", "main"),
        ("dataset", "me/none", "main"),
        ("model", "me/gated", "main"),
        ("dataset", "me/gated-data", "main"),
        ("model", "a/b/c", "main"),
    )
    assert found == [
        commit,
        "base_model.source: me/open has no revision 'v2': set `revision` to a branch, tag or "
        f"commit of {hub.endpoint}/me/open/tree/main",
        "base_model.source: the hub has no model 'me/none' (revision 'main') that may be seen from "
        "here: check the id, which is owner/name; a private one needs HF_TOKEN",
        "base_model.source: the hub has no data set 'me/none' (revision 'main') that may be seen "
        "from here: check the id, which is owner/name; a private one needs HF_TOKEN",
        "base_model.source: me/gated is gated, and no token is set: accept its licence on "
        f"{hub.endpoint}/me/gated, and set HF_TOKEN to a token of the account that did",
        "base_model.source: me/gated-data is gated, and no token is set: accept its licence on "
        f"{hub.endpoint}/datasets/me/gated-data, and set HF_TOKEN to a token of the account that "
        "did",
        "base_model.source: 'a/b/c' is neither a folder here nor an id of the hub, which is "
        "owner/name",
    ]


def test_a_token_opens_and_another_account_is_told(hub: Hub, tmp_path: Path) -> None:
    (commit,) = hub.repositories["models", "me/gated"].commits
    asked = ("model", "me/gated", "main")
    assert told(hub.environment(tmp_path, token="secret"), asked) == [commit]
    (refusal,) = told(hub.environment(tmp_path, token="another"), asked)
    assert "me/gated is gated, the account of HF_TOKEN has no access: accept its" in refusal


def test_a_hub_out_of_reach_is_told(hub: Hub, tmp_path: Path) -> None:
    environment = hub.environment(tmp_path) | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    (refusal,) = told(environment, ("model", "me/open", "main"))
    assert refusal.startswith(
        "base_model.source: me/open@main cannot be read from http://127.0.0.1:9 ("
    )
    assert refusal.endswith(
        "): check the network, HF_ENDPOINT and HF_HUB_OFFLINE; where no hub can be reached, name a "
        "local folder"
    )
