"""What runs again, and what does not. The tests of this module build on one another's runs."""

import pytest

from tests.integration.conftest import Checkout

pytestmark = pytest.mark.slow

ALWAYS = {"register", "promote"}  # they look at the registry anew


def ran(statuses: dict[str, str]) -> set[str]:
    return {name for name, status in statuses.items() if status == "completed"}


def test_first_run_runs_every_step_and_is_promoted(checkout: Checkout) -> None:
    statuses = checkout.run("fine_tuning", checkout.config())
    assert set(statuses.values()) == {"completed"}
    assert checkout.report()["promotion"]["promoted"]
    # what a newcomer reads is of the run: libraries' talk of themselves is not
    noise = ("Skipping registering", "Multiple declarations of metric", "autologging")
    assert not [line for line in checkout.log.splitlines() if any(word in line for word in noise)]


def test_unchanged_run_is_cached_and_registers_the_same_version(checkout: Checkout) -> None:
    before = checkout.report()["promotion"]["version"]
    assert ran(checkout.run("fine_tuning", checkout.config())) == ALWAYS
    assert checkout.report()["promotion"]["version"] == before


def test_edited_library_file_runs_its_steps_and_what_follows(checkout: Checkout) -> None:
    file = checkout.root / "posttrain" / "train" / "sft.py"
    file.write_text(file.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    # sft runs again and makes the same adapter: what follows it stays cached
    assert ran(checkout.run("fine_tuning", checkout.config())) == ALWAYS | {"sft"}


def test_edited_value_runs_its_step_and_what_follows(checkout: Checkout) -> None:
    statuses = checkout.run("fine_tuning", checkout.config(sft__learning_rate=1e-4))
    assert ran(statuses) == ALWAYS | {"sft", "evaluate"}


def test_edited_data_runs_ingest_and_what_follows(checkout: Checkout) -> None:
    file = checkout.root / "data" / "corpus.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([lines[1], lines[0], *lines[2:]]), encoding="utf-8")
    everything = set(checkout.statuses())
    assert ran(checkout.run("fine_tuning", checkout.config(sft__learning_rate=1e-4))) == everything


def test_new_time_stamp_alone_runs_nothing(checkout: Checkout) -> None:
    (checkout.root / "data" / "corpus.jsonl").touch()
    statuses = checkout.run("fine_tuning", checkout.config(sft__learning_rate=1e-4))
    assert ran(statuses) == ALWAYS
