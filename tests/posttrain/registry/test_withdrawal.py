"""From a hash to every version that it fed, directly or through a base."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from posttrain.facts import RegisteredBase
from posttrain.registry.withdrawal import withdrawal
from tests.origins import add_version, role

ONE, TWO = "a" * 64, "b" * 64
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def versions(registry: MlflowClient, tmp_path: Path) -> MlflowClient:
    """1 from file one; 2 made from 1, with file two; 3 of another model made from 2; 4 apart."""
    first = add_version(tmp_path / "1", {"corpus": role({"one.jsonl": ONE})}, {"corpus": "c" * 64})
    second = add_version(
        tmp_path / "2",
        {"corpus": role({"two.jsonl": TWO})},
        {"corpus": "d" * 64},
        made_from=RegisteredBase(name="museum", version=1, content_hash=first.content_hash),
    )
    origin = RegisteredBase(name="museum", version=2, content_hash=second.content_hash)
    hub = {"corpus": role({}, COMMIT)}
    add_version(tmp_path / "3", hub, {"corpus": "1" * 64}, name="zoo", made_from=origin)
    apart = {"corpus": role({"three.jsonl": "a" * 63 + "b"})}
    add_version(tmp_path / "4", apart, {"corpus": "2" * 64}, name="zoo")
    return registry


def labels(client: MlflowClient, sha: str) -> list[str]:
    return [f"{fed.name} {fed.version}" for fed in withdrawal(client, sha).versions]


def test_a_file_fed_its_version_and_those_that_stand_on_it(versions: MlflowClient) -> None:
    versions.set_registered_model_alias("zoo", "champion", "1")
    found = withdrawal(versions, ONE)
    assert [(f.name, f.version, f.through) for f in found.versions] == [
        ("museum", 1, ()),
        ("museum", 2, ("museum version 1",)),
        ("zoo", 1, ("museum version 2", "museum version 1")),
    ]
    assert [(hit.kind, hit.where) for hit in found.versions[0].hits] == [("file", "one.jsonl")]
    assert found.champions == ("zoo version 1",)


def test_a_hash_of_rows_and_a_commit_are_found_too(versions: MlflowClient) -> None:
    assert labels(versions, "d" * 64) == ["museum 2", "zoo 1"]
    assert labels(versions, COMMIT) == ["zoo 1"]


def test_a_beginning_does_where_it_names_one(versions: MlflowClient) -> None:
    assert withdrawal(versions, "B" * 8).sha == TWO
    assert labels(versions, COMMIT[:8]) == ["zoo 1"]


def test_a_beginning_that_fits_two_is_refused_with_both(versions: MlflowClient) -> None:
    with pytest.raises(ValueError, match="fits 2 hashes") as refused:
        withdrawal(versions, "a" * 12)
    assert ONE in str(refused.value) and "three.jsonl" in str(refused.value)
    assert labels(versions, ONE)  # in full it is one


def test_a_short_beginning_is_refused(versions: MlflowClient) -> None:
    with pytest.raises(ValueError, match="at least 8"):
        withdrawal(versions, "aaaaaaa")


def test_a_beginning_that_fits_nothing_is_no_answer_but_a_whole_hash_is(
    versions: MlflowClient,
) -> None:
    with pytest.raises(ValueError, match="give all 64"):
        withdrawal(versions, "f" * 12)
    assert withdrawal(versions, "f" * 64).versions == ()


def test_versions_whose_record_tells_nothing_are_named(
    versions: MlflowClient, tmp_path: Path
) -> None:
    add_version(tmp_path / "5", {}, {"corpus": "9" * 64})
    versions.set_registered_model_alias("museum", "champion", "3")
    found = withdrawal(versions, "f" * 64)
    assert found.unread == ("museum version 3 (challenger, champion)",)
    assert found.unread_champions == ("museum version 3",)
    by_its_rows = withdrawal(versions, "9" * 64)
    assert [fed.version for fed in by_its_rows.versions] == [3]
    assert by_its_rows.unread == ()


def test_what_stands_on_a_deleted_version_is_not_known(versions: MlflowClient) -> None:
    versions.set_registered_model_alias("zoo", "champion", "1")
    versions.delete_model_version("museum", "1")
    found = withdrawal(versions, ONE)
    assert found.versions == ()
    assert found.unread == ("museum version 2 (challenger)", "zoo version 1 (champion)")
    assert found.unread_champions == ("zoo version 1",)
    by_its_own_file = withdrawal(versions, TWO)
    assert labels(versions, TWO) == ["museum 2", "zoo 1"]
    assert by_its_own_file.unread == ()


def test_another_version_under_the_number_is_not_followed(
    versions: MlflowClient, tmp_path: Path
) -> None:
    other = RegisteredBase(name="museum", version=1, content_hash="0" * 64)
    own = {"corpus": role({"own.jsonl": "5" * 64})}
    add_version(tmp_path / "6", own, {"corpus": "6" * 64}, name="aquarium", made_from=other)
    assert "aquarium 1" not in labels(versions, ONE)
    assert withdrawal(versions, ONE).unread == ("aquarium version 1 (challenger)",)


def test_what_stands_on_an_unread_version_is_not_known(
    versions: MlflowClient, tmp_path: Path
) -> None:
    bare = add_version(tmp_path / "7", {}, {}, name="aquarium")
    origin = RegisteredBase(name="aquarium", version=1, content_hash=bare.content_hash)
    own = {"corpus": role({"own.jsonl": "5" * 64})}
    add_version(tmp_path / "8", own, {"corpus": "6" * 64}, name="aquarium", made_from=origin)
    unread = withdrawal(versions, "f" * 64).unread
    assert unread == ("aquarium version 1", "aquarium version 2 (challenger)")
