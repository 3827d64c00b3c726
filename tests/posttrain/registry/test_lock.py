"""One holder at a time, and none that writes after its lease."""

import time
from dataclasses import replace

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.store.entities import PagedList

from posttrain.decisions import HistoryEntry
from posttrain.registry import history, lock
from posttrain.registry.lock import LeaseLost, exclusive
from posttrain.registry.versions import model_names

LINE = HistoryEntry(
    number=0,
    action="promote",
    version=1,
    who="kim",
    when="2026-11-21T12:00:00+00:00",
    from_version=None,
    to_version=1,
    why="late",
)


def locks(registry: MlflowClient) -> list[str]:
    return sorted(m.name for m in registry.search_registered_models() if "-lock-" in m.name)


def test_numbers_rise_and_the_highest_alone_stays(registry: MlflowClient) -> None:
    for number in (1, 2, 3):
        with exclusive(registry, "museum", "kim") as lease:
            assert lease.number == number
            lease.check()
    assert locks(registry) == ["museum-lock-000003"]
    assert "released" in registry.get_registered_model("museum-lock-000003").tags


def test_an_error_releases_the_lock(registry: MlflowClient) -> None:
    with pytest.raises(KeyError), exclusive(registry, "museum", "kim"):
        raise KeyError
    with exclusive(registry, "museum", "lee", patience_seconds=0.5):
        pass


def test_who_waits_too_long_is_told_for_whom(registry: MlflowClient) -> None:
    with (
        exclusive(registry, "museum", "kim"),
        pytest.raises(ValueError, match=r"others decide .* now kim \(since 20"),
        exclusive(registry, "museum", "lee", patience_seconds=0.5),
    ):
        pass


def test_models_with_like_names_have_locks_of_their_own(registry: MlflowClient) -> None:
    with exclusive(registry, "my_museum", "kim"), exclusive(registry, "my-museum", "lee") as other:
        other.check()


def test_a_slow_holder_that_lost_its_lease_does_not_write(registry: MlflowClient) -> None:
    registry.create_registered_model("museum")
    with exclusive(registry, "museum", "the slow one", lease_seconds=0.6) as slow:
        with exclusive(registry, "museum", "kim") as quick:  # waits for the lease's end
            with pytest.raises(LeaseLost, match="another took the lock over"):
                history.write(slow, LINE, 1)
            quick.check()
        with pytest.raises(LeaseLost):
            slow.check()
    assert history.read(registry, "museum") == ()
    assert locks(registry) == ["museum-lock-000002"]
    assert "released" in registry.get_registered_model("museum-lock-000002").tags


def test_the_slow_holders_release_leaves_the_others_lock(registry: MlflowClient) -> None:
    with exclusive(registry, "museum", "the slow one", lease_seconds=0.4):
        quick = exclusive(registry, "museum", "kim")
        lease = quick.__enter__()
    lease.check()
    assert "released" not in registry.get_registered_model("museum-lock-000002").tags
    quick.__exit__(None, None, None)


def test_two_thirds_of_a_lease_must_be_left_for_a_write(registry: MlflowClient) -> None:
    with exclusive(registry, "museum", "kim") as lease:
        late = replace(lease, started=time.monotonic() - lease.seconds / 3)
        with pytest.raises(LeaseLost, match="too long to write on"):
            late.check()


def test_a_write_that_is_tried_again_looks_again(registry: MlflowClient) -> None:
    tried = []

    def busy() -> None:
        tried.append(time.monotonic())
        registry.create_registered_model(
            f"museum-lock-{1 + len(tried):06d}", {"token": "another's"}
        )
        raise MlflowException("database is locked", TEMPORARILY_UNAVAILABLE)

    with (
        pytest.raises(LeaseLost, match="another took the lock over"),
        exclusive(registry, "museum", "kim") as lease,
    ):
        lease.write(busy)
    assert len(tried) == 1


def test_a_sleeper_that_makes_an_old_number_anew_has_lost(registry: MlflowClient) -> None:
    for _ in range(3):
        with exclusive(registry, "museum", "kim"):
            pass
    tags = {"token": "t", "who": "a sleeper", "since": "then", "lease_seconds": "30"}
    registry.create_registered_model("museum-lock-000002", tags)  # its creator died right then
    with exclusive(registry, "museum", "lee") as lease:
        assert lease.number == 4
    assert locks(registry) == ["museum-lock-000004"]


def test_a_model_named_as_a_lock_is_named(registry: MlflowClient) -> None:
    registry.create_registered_model("museum-lock-000007")
    with (
        pytest.raises(ValueError, match="museum-lock-000007 are named as its locks"),
        exclusive(registry, "museum", "kim"),
    ):
        pass


def test_locks_histories_and_bases_are_no_models(registry: MlflowClient) -> None:
    for name in ("museum", "museum-base", "museum-history", "museum-lock-000007", "fire-base"):
        registry.create_registered_model(name)
    assert model_names(registry) == ["fire-base", "museum"]


def test_the_highest_is_found_behind_many(
    registry: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PAGE", 2)
    tags = {"token": "t", "who": "kim", "since": "then", "lease_seconds": "30", "released": "then"}
    for number in range(1, 6):  # as removals that failed leave them
        registry.create_registered_model(f"museum-lock-{number:06d}", tags)
    with exclusive(registry, "museum", "lee", patience_seconds=0.5) as lease:
        assert lease.number == 6
    assert locks(registry) == ["museum-lock-000006"]


class Lagging(MlflowClient):
    """Of a server whose searches see nothing that was written lately."""

    def search_registered_models(self, *_: object, **__: object) -> PagedList[RegisteredModel]:
        return PagedList([], None)


@pytest.mark.usefixtures("registry")
def test_who_never_sees_the_own_lock_gives_up() -> None:
    with (
        pytest.raises(ValueError, match="somebody whose lock the store does not tell of"),
        exclusive(Lagging(), "museum", "kim", patience_seconds=0.5),
    ):
        pass
